//! The help over the rest, made of the key table and the column table.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Clear, Paragraph};

use crate::view::columns::Column;
use crate::view::top::keys::BINDINGS;
use crate::view::top::palette::Palette;

/// Draws it in the middle of `area`, from its line `scroll` on: keys first, then `columns`.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, scroll: usize, columns: &[&'static Column]) {
    let lines = lines(columns);
    let width = lines.iter().map(Line::width).max().unwrap_or(0) as u16 + 4;
    let (width, height) = (width.min(area.width), (lines.len() as u16 + 2).min(area.height));
    let x = area.x + (area.width - width) / 2;
    let y = area.y + (area.height - height) / 2;
    let place = Rect { x, y, width, height };
    let room = usize::from(height.saturating_sub(2));
    let scroll = scroll.min(lines.len().saturating_sub(room));
    let more = if lines.len() > room { ", j k to read on" } else { "" };
    let block = Block::bordered().title(format!(" openrtc-probe: keys and columns{more} "));
    let shown: Vec<_> = lines.into_iter().skip(scroll).collect();
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(Text::from(shown)).block(block), place);
}

fn lines(columns: &[&'static Column]) -> Vec<Line<'static>> {
    let keys = BINDINGS.iter().filter(|binding| !binding.label.is_empty());
    let keys = keys.map(|binding| entry(binding.label, "", binding.what));
    let columns = columns.iter().map(|column| entry(column.title, column.unit, column.what));
    keys.chain([Line::styled(" columns", Palette::HEADING)]).chain(columns).collect()
}

fn entry(name: &str, unit: &str, what: &str) -> Line<'static> {
    Line::raw(format!(" {name:<12}{unit:<3} {what}"))
}
