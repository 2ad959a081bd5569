//! The help over the table, made of the key table and the column table.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Clear, Paragraph};

use crate::view::grid::Grid;
use crate::view::top::keys::BINDINGS;
use crate::view::top::palette::Palette;

/// Draws it in the middle of `area`, keys first, with the columns that the table has now: what does
/// not fit is left out at the end.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, grid: &Grid) {
    let lines = lines(grid);
    let width = lines.iter().map(Line::width).max().unwrap_or(0) as u16 + 4;
    let (width, height) = (width.min(area.width), (lines.len() as u16 + 2).min(area.height));
    let x = area.x + (area.width - width) / 2;
    let y = area.y + (area.height - height) / 2;
    let place = Rect { x, y, width, height };
    let block = Block::bordered().title(" openrtc-probe: keys and columns ");
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(Text::from(lines)).block(block), place);
}

fn lines(grid: &Grid) -> Vec<Line<'static>> {
    let keys = BINDINGS.iter().filter(|binding| !binding.label.is_empty());
    let keys = keys.map(|binding| entry(binding.label, "", binding.what));
    let columns = grid.titles().map(|(column, _)| entry(column.title, column.unit, column.what));
    keys.chain([Line::styled(" columns", Palette::HEADING)]).chain(columns).collect()
}

fn entry(name: &str, unit: &str, what: &str) -> Line<'static> {
    Line::raw(format!(" {name:<12}{unit:<3} {what}"))
}
