//! One frame: header, what is open, footer, and the line of keys.

use std::borrow::Cow;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

use crate::model::{Session, Snapshot, Status};
use crate::view::columns::{Column, Row, rows_below};
use crate::view::columns_of;
use crate::view::grid::Grid;
use crate::view::harmless::{cut, harmless, width};
use crate::view::header;
use crate::view::stalls::listed;
use crate::view::top::keys::BINDINGS;
use crate::view::top::page::{self, Lines};
use crate::view::top::palette::Palette;
use crate::view::top::screen::{Chosen, Pane, Screen};
use crate::view::top::{details, help, stalls_pane};

/// At the right, in place of what moves no more.
const PAUSED: &str = " PAUSED ";

/// Draws one frame; `screen` has been fitted to its size ([`Screen::fit`]).
pub fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot, screen: &Screen) {
    let area = frame.area();
    let columns = usize::from(area.width);
    let page = screen.page;
    let mut pen = Pen { frame, area };
    let palette = screen.palette;
    for (line, said) in page.header.range().zip(&*screen.header) {
        pen.text(line, &said.text, palette.of(said.tone));
    }
    pen.texts(page.notice, &page::notice(snapshot, columns), palette.alarm());
    pen.text(page.selection_at, &selection(snapshot, screen), Style::new());
    match screen.pane {
        Pane::Sessions => sessions(&mut pen, snapshot, screen),
        Pane::Stalls => stalls(&mut pen, snapshot, screen),
        Pane::Details => {
            let lines = details_lines(snapshot, screen, area.width);
            pen.lines(page.body, lines.into_iter().skip(screen.scroll));
        }
    }
    if screen.paused {
        let at = area.width.saturating_sub(PAUSED.len() as u16);
        pen.at(at, page.selection_at, PAUSED, Palette::KEYS);
    }
    let lossy = !snapshot.health.lost.is_empty();
    let style = if lossy { palette.alarm() } else { Style::new() };
    pen.texts(page.footer, &page::footer(snapshot, columns), style);
    let foot = foot(screen, columns);
    pen.text(page.hints_at, &format!("{foot:<columns$}"), Palette::KEYS);
    if screen.help {
        help::draw(frame, area, screen.scroll, &columns_of::sessions(snapshot));
    }
}

/// Writes whole lines; what is outside the area is not written.
struct Pen<'a, 'b> {
    frame: &'a mut Frame<'b>,
    area: Rect,
}

impl Pen<'_, '_> {
    fn text(&mut self, line: usize, text: &str, style: Style) {
        self.at(0, line, text, style);
    }

    fn texts(&mut self, place: Lines, texts: &[String], style: Style) {
        place.range().zip(texts).for_each(|(line, text)| self.text(line, text, style));
    }

    fn lines<'l>(&mut self, place: Lines, lines: impl Iterator<Item = Line<'l>>) {
        for (line, styled) in place.range().zip(lines) {
            let mut column = 0;
            for span in &styled.spans {
                column = self.at(column, line, &span.content, styled.style.patch(span.style));
            }
        }
    }

    /// Writes at a column; returns the one behind it.
    fn at(&mut self, column: u16, line: usize, text: &str, style: Style) -> u16 {
        let Ok(line) = u16::try_from(line) else { return column };
        if line >= self.area.height || column >= self.area.width {
            return column;
        }
        let (x, y) = (self.area.x + column, self.area.y + line);
        let room = usize::from(self.area.width - column);
        self.frame.buffer_mut().set_stringn(x, y, text, room, style).0 - self.area.x
    }

    /// A row of a table, over the whole width if it is the selected one.
    fn row(&mut self, line: usize, text: &str, style: Style, is_selected: bool) {
        if is_selected {
            let columns = usize::from(self.area.width);
            let pad = columns.saturating_sub(width(text));
            let style = style.patch(Palette::SELECTED);
            self.text(line, &format!("{text}{}", " ".repeat(pad)), style);
        } else {
            self.text(line, text, style);
        }
    }

    fn titles(&mut self, line: usize, grid: &Grid, is_sorted: impl Fn(&Column) -> bool) {
        let mut column = 0;
        for (of, title) in grid.titles() {
            // The padding is not underlined: it would look like a wider heading.
            let (left, right) = (title.trim_start(), title.trim_end());
            let blank = &title[..title.len() - left.len()];
            column = self.at(column, line, blank, Style::new());
            let style = if is_sorted(of) { Palette::SORTED } else { Palette::HEADING };
            let end = self.at(column, line, title.trim(), style);
            column = self.at(end, line, &title[right.len()..], Style::new());
        }
    }
}

fn sessions(pen: &mut Pen<'_, '_>, snapshot: &Snapshot, screen: &Screen) {
    let (page, palette) = (screen.page, screen.palette);
    let listing = &screen.listing;
    let grid = Grid::fit(&columns_of::sessions(snapshot), page.columns, listing.len());
    pen.titles(page.titles_at, &grid, |column| column.sort == Some(screen.order.sort));
    let rows = (1..).zip(listing.iter(snapshot)).skip(screen.sessions.scroll);
    for (line, (slot, session)) in page.body.range().zip(rows) {
        let style = match session.status {
            Status::Active => Style::new(),
            Status::Slow => palette.alarm(),
            Status::Ended => Palette::PAST,
        };
        let is_selected = screen.sessions.selected().is_some_and(|it| it.is(session));
        pen.row(line, &grid.line(&Row::Session(slot, session)), style, is_selected);
    }
    if listing.is_empty() {
        let why = header::why_empty(snapshot, &screen.order, page.columns);
        pen.texts(page.body, &why, Palette::PAST);
    }
    for (line, row) in page.below.range().zip(&rows_below(snapshot, &screen.order)) {
        pen.text(line, &grid.line(row), Style::new());
    }
    match page.stalls.lines {
        0 => {}
        1 => {
            // Few lines may hide them all.
            let any = !listed(snapshot, &screen.order, 1).is_empty();
            let text = if any { "stalls: no room to list them (Tab)" } else { "no stalls" };
            pen.text(page.stalls.at, text, Palette::PAST);
        }
        lines => {
            let at = Lines { at: page.stalls.at + 1, lines: lines - 1 };
            stall_rows(pen, page.stalls.at, at, snapshot, screen);
        }
    }
}

/// The table of the last stalls.
fn stall_rows(
    pen: &mut Pen<'_, '_>,
    titles_at: usize,
    place: Lines,
    snapshot: &Snapshot,
    screen: &Screen,
) {
    let grid = Grid::fit(&columns_of::stalls(snapshot), screen.page.columns, 0);
    pen.titles(titles_at, &grid, |_| false);
    let stalls = listed(snapshot, &screen.order, place.lines);
    for (line, stall) in place.range().zip(stalls) {
        let style = if stall.ongoing { screen.palette.alarm() } else { Style::new() };
        pen.text(line, &grid.line(&Row::Stall(stall, snapshot.at_unix_ns)), style);
    }
}

fn stalls(pen: &mut Pen<'_, '_>, snapshot: &Snapshot, screen: &Screen) {
    let page = screen.page;
    let ids = screen.stall_ids(snapshot);
    let selected = ids.iter().position(|id| Some(id) == screen.stalls.selected());
    let columns = u16::try_from(page.columns).unwrap_or(u16::MAX);
    let pane = stalls_pane::lines(snapshot, &screen.order, selected, screen.palette, columns);
    let head = Lines { at: page.selection_at, lines: 2 };
    pen.lines(head, pane.head.into_iter());
    pen.lines(page.body, pane.rows.into_iter().skip(screen.stalls.scroll));
    pen.lines(page.stalls, pane.details.into_iter());
}

/// The details that are open.
pub(super) fn details_lines(
    snapshot: &Snapshot,
    screen: &Screen,
    columns: u16,
) -> Vec<Line<'static>> {
    let Some(chosen) = &screen.details_of else { return Vec::new() };
    let found = find(snapshot, chosen);
    let Some(session) = found else {
        let gone = "it has ended, and its figures are not kept for longer than a minute (Esc back)";
        let lines = header::wrap_words(gone, columns.into());
        return lines.into_iter().map(Line::raw).collect();
    };
    details::lines(snapshot, session, screen.tasks.as_ref(), screen.palette, columns)
}

fn find<'a>(snapshot: &'a Snapshot, chosen: &Chosen) -> Option<&'a Session> {
    snapshot.sessions.iter().chain(&snapshot.ended).find(|session| chosen.is(session))
}

/// What is shown: the line above the table.
fn selection(snapshot: &Snapshot, screen: &Screen) -> String {
    let facts = match screen.pane {
        Pane::Sessions => sessions_shown(snapshot, screen),
        // It has a line of its own.
        Pane::Stalls => vec![],
        Pane::Details => {
            let (first, of) = (screen.scroll + 1, screen.page.details);
            let last = of.min(screen.scroll + screen.page.body.lines);
            vec!["SESSION".into(), format!("lines {first}-{last} of {of}")]
        }
    };
    header::wrap(&facts, screen.page.columns).into_iter().next().unwrap_or_default()
}

fn sessions_shown(snapshot: &Snapshot, screen: &Screen) -> Vec<String> {
    let shown = screen.listing.len();
    let mut facts = header::selection(snapshot, &screen.order, shown);
    let body = screen.page.body.lines;
    if shown > body {
        let first = screen.sessions.scroll + 1;
        facts.insert(1, format!("rows {first}-{}", first + body.max(1) - 1));
    }
    facts
}

/// The last line: what is typed, what was said, or the keys.
fn foot(screen: &Screen, columns: usize) -> String {
    if let Some(prompt) = &screen.prompt {
        let label = prompt.asks.label();
        let typed = harmless(&prompt.text);
        // The end is what is being typed.
        return tail(&format!("{label}{typed}_"), columns);
    }
    if let Some(message) = &screen.message {
        return cut(&harmless(message), columns).into_owned();
    }
    let here = BINDINGS.iter().filter(|binding| binding.panes.contains(&screen.pane));
    let hints: Vec<_> = here.filter_map(|binding| binding.hint.map(String::from)).collect();
    header::wrap(&hints, columns).into_iter().next().unwrap_or_default()
}

/// The end of a text that is too long.
fn tail(text: &str, columns: usize) -> String {
    let mut kept = Cow::Borrowed(text);
    while width(&kept) > columns {
        let rest: String = kept.chars().skip(1).collect();
        kept = Cow::Owned(rest);
    }
    kept.into_owned()
}
