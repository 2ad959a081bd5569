//! The few styles there are.
//!
//! - **A style never says something alone**: `slow`, `ongoing` and `lost` are words first.
//! - Only the terminal's own foreground and its red are used, with bold, dim, underline and reverse:
//!   readable on light and on dark. Without colour (`NO_COLOR`) bold is what is left of red.

use ratatui::style::{Color, Modifier, Style};

use crate::view::header::Tone;

/// How things look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    colour: bool,
}

impl Palette {
    /// With colours, or without.
    pub fn new(colour: bool) -> Self {
        Self { colour }
    }

    /// What asks for attention: slow sessions, ongoing stalls, losses.
    pub(super) fn alarm(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.colour { style.fg(Color::Red) } else { style }
    }

    /// What a line asks for.
    pub(super) fn of(self, tone: Tone) -> Style {
        match tone {
            Tone::Normal => Style::new(),
            Tone::Strong => Style::new().add_modifier(Modifier::BOLD),
            Tone::Alarm => self.alarm(),
            Tone::Dim => Style::new().add_modifier(Modifier::DIM),
        }
    }

    /// What is over.
    pub(super) const PAST: Style = Style::new().add_modifier(Modifier::DIM);
    /// Headings.
    pub(super) const HEADING: Style = Style::new().add_modifier(Modifier::BOLD);
    /// The heading that the table is sorted by.
    pub(super) const SORTED: Style = Self::HEADING.add_modifier(Modifier::UNDERLINED);
    /// The selected row.
    pub(super) const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);
    /// The line of key hints.
    pub(super) const KEYS: Style = Style::new().add_modifier(Modifier::REVERSED);
}
