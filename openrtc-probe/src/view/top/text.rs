//! Lines of a pane: what does not fit goes on in the next line, further in. Nothing is cut.

use ratatui::style::Style;
use ratatui::text::Line;
use unicode_segmentation::UnicodeSegmentation;

use crate::view::harmless::width;
use crate::view::top::palette::Palette;

/// How much further in a line goes on.
const FURTHER: usize = 2;
/// What stands in front of a frame, and belongs to the indent.
const MARK: char = '→';

/// A pane's lines, from the top.
pub(super) struct Text {
    lines: Vec<Line<'static>>,
    columns: usize,
}

impl Text {
    /// For a pane of so many columns.
    pub(super) fn new(columns: u16) -> Self {
        Self { lines: Vec::new(), columns: usize::from(columns).max(1) }
    }

    /// How wide it is.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// The lines.
    pub(super) fn into_lines(self) -> Vec<Line<'static>> {
        self.lines
    }

    /// A section begins: an empty line, and what it is about.
    pub(super) fn section(&mut self, heading: &str) {
        if !self.lines.is_empty() {
            self.lines.push(Line::default());
        }
        self.styled(heading, Palette::HEADING);
    }

    /// A sentence, or a line of a table.
    pub(super) fn say(&mut self, text: &str) {
        self.styled(text, Style::new());
    }

    /// Several of them.
    pub(super) fn all(&mut self, texts: &[String]) {
        for text in texts {
            self.say(text);
        }
    }

    /// A sentence that looks so.
    pub(super) fn styled(&mut self, text: &str, style: Style) {
        let lines = hang(text, self.columns);
        self.lines.extend(lines.into_iter().map(|line| Line::styled(line, style)));
    }

    /// Facts with two spaces between, so far in.
    pub(super) fn facts(&mut self, indent: usize, facts: &[String]) {
        let start = " ".repeat(indent);
        let mut line = String::new();
        for fact in facts {
            if !line.is_empty() && indent + width(&line) + 2 + width(fact) > self.columns {
                self.say(&(start.clone() + &std::mem::take(&mut line)));
            }
            line += if line.is_empty() { "" } else { "  " };
            line += fact;
        }
        if !line.is_empty() {
            self.say(&(start + &line));
        }
    }

    /// Lines of another pane.
    pub(super) fn append(&mut self, lines: Vec<Line<'static>>) {
        self.lines.extend(lines);
    }
}

/// A text on lines of at most `columns` columns, broken at spaces where there are any.
fn hang(text: &str, columns: usize) -> Vec<String> {
    let text = text.trim_end();
    let start = text.len() - text.trim_start_matches([' ', MARK]).len();
    let indent = text.get(..start).map_or(0, width);
    let further = " ".repeat((indent + FURTHER).min(columns / 2));
    let (mut lines, mut line, mut rest) = (Vec::new(), String::new(), text);
    while width(&line) + width(rest) > columns {
        // The indent of a line is no place to break it.
        let least = if lines.is_empty() { start } else { 0 };
        let end = break_at(rest, least, columns.saturating_sub(width(&line)));
        let (taken, left) = rest.split_at_checked(end).unwrap_or((rest, ""));
        line.push_str(taken.trim_end());
        lines.push(std::mem::replace(&mut line, further.clone()));
        rest = left.trim_start();
    }
    if !rest.is_empty() || lines.is_empty() {
        lines.push(line + rest);
    }
    lines
}

/// Where to break a text that is wider than `room`: at the last space behind `least` that fits, or in a
/// word. Always behind at least one character.
fn break_at(text: &str, least: usize, room: usize) -> usize {
    let (mut taken, mut fits, mut space) = (0, 0, None);
    for (at, cluster) in text.grapheme_indices(true) {
        if cluster == " " && at > least && taken <= room {
            space = Some(at);
        }
        taken += width(cluster);
        if taken > room {
            break;
        }
        fits = at + cluster.len();
    }
    let one = text.graphemes(true).next().map_or(0, str::len);
    space.unwrap_or(fits).max(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_goes_on_further_in() {
        assert_eq!(hang("ab cd", 5), ["ab cd"]);
        assert_eq!(hang("ab cd ef", 6), ["ab cd", "  ef"]);
        assert_eq!(hang("  → /app/main.py:42  run", 20), ["  → /app/main.py:42", "      run"]);
        assert_eq!(hang("abcdefgh", 5), ["abcde", "  fgh"]);
        assert_eq!(hang("日本語", 4), ["日本", "  語"]);
        assert_eq!(hang("", 5), [""]);
        assert_eq!(hang("   ", 5), [""]);
    }

    #[test]
    fn no_width_loses_anything_or_runs_for_ever() {
        let text = "    → /srv/日本語/agents/booking.py:42      Call.greet  × 12  e\u{301}e\u{301}";
        let bare = |text: &str| text.replace(' ', "");
        for columns in 1..90 {
            let lines = hang(text, columns);
            assert_eq!(bare(&lines.concat()), bare(text), "{columns}");
            // One wide character takes two columns, however few there are.
            assert!(lines.iter().all(|line| width(line) <= columns.max(4)), "{columns}: {lines:?}");
        }
    }

    #[test]
    fn facts_stay_whole_where_they_can() {
        let facts = ["one two", "three", "sixteen letters!"].map(String::from);
        let mut text = Text::new(14);
        text.facts(2, &facts);
        let lines: Vec<_> = text.into_lines().iter().map(ToString::to_string).collect();
        assert_eq!(lines, ["  one two", "  three", "  sixteen", "    letters!"]);
    }
}
