//! One frame: header, table, stalls, check line, key hints.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::model::{Snapshot, Status};
use crate::view::columns::{Row, rows_below};
use crate::view::columns_of;
use crate::view::grid::Grid;
use crate::view::header;
use crate::view::stalls::listed;
use crate::view::top::help;
use crate::view::top::keys::BINDINGS;
use crate::view::top::palette::Palette;
use crate::view::top::screen::Screen;

/// Stalls listed at most.
const STALLS_LISTED: usize = 8;
/// The rows below the sessions leave when there are fewer lines than this between header and footer
/// and they would take one from a session.
const LEAST_FOR_ROWS_BELOW: usize = 12;

/// Draws one frame.
pub fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot, screen: &Screen) {
    let area = frame.area();
    let sessions = screen.order.rows(snapshot);
    let page = Page::new(snapshot, screen, sessions.len(), area.width, area.height);
    let mut pen = Pen { frame, area, line: 0 };
    let palette = screen.palette;
    pen.lines(&page.header, Style::new());
    pen.lines(&page.notice, palette.alarm());
    pen.text(&selection(snapshot, screen, sessions.len(), page.body, area.width), Style::new());

    let grid = Grid::fit(&columns_of::sessions(snapshot), area.width.into(), sessions.len());
    titles(&mut pen, &grid, screen);
    let table_at = pen.line;
    let scroll = screen.scroll.min(sessions.len().saturating_sub(page.body));
    for (slot, session) in (1..).zip(&sessions).skip(scroll).take(page.body) {
        let style = match session.status {
            Status::Active => Style::new(),
            Status::Slow => palette.alarm(),
            Status::Ended => Palette::PAST,
        };
        pen.text(&grid.line(&Row::Session(slot, session)), style);
    }
    if sessions.is_empty() {
        let why = header::why_empty(snapshot, &screen.order, area.width.into());
        why.iter().take(page.body).for_each(|line| pen.text(line, Palette::PAST));
    }
    for row in rows_below(snapshot).iter().take(page.below) {
        pen.text(&grid.line(row), Style::new());
    }

    pen.line = table_at + page.body + page.below;
    stalls(&mut pen, &page, snapshot, screen);
    let lossy = !snapshot.health.lost.is_empty();
    pen.lines(&page.footer, if lossy { palette.alarm() } else { Style::new() });
    pen.text(&hints(area.width), Palette::KEYS);
    if screen.help {
        help::draw(frame, area, &grid);
    }
}

/// How the lines of a frame are shared out.
pub(super) struct Page {
    header: Vec<String>,
    notice: Vec<String>,
    /// Sessions.
    pub body: usize,
    /// Rows below them.
    below: usize,
    /// Stalls, without their heading.
    stalls: usize,
    footer: Vec<String>,
}

impl Page {
    /// For `rows` sessions on a terminal of this size. What is said of the whole worker gives way
    /// before the table does.
    pub(super) fn new(
        snapshot: &Snapshot,
        screen: &Screen,
        rows: usize,
        columns: u16,
        lines: u16,
    ) -> Self {
        let (columns, lines) = (usize::from(columns), usize::from(lines));
        let header = header::worker(snapshot, columns, (lines / 4).max(1));
        let notice = header::tag_notice(&snapshot.worker);
        let mut notice = notice.map_or(vec![], |notice| header::wrap_words(&notice, columns));
        notice.extend(header::notes(snapshot, columns));
        let footer = header::wrap(&[header::check(snapshot), header::losses(snapshot)], columns);
        // With them: what is shown, the headings, the heading of the stalls, the key hints.
        let left = lines.saturating_sub(header.len() + notice.len() + footer.len() + 4);
        let below = rows_below(snapshot).len();
        let stalls = listed(snapshot, &screen.order, left / 4).len();
        let is_enough = left >= LEAST_FOR_ROWS_BELOW || left >= rows.max(1) + below + stalls;
        let below = if is_enough { below } else { 0 };
        let idle = left.saturating_sub(below + rows.max(1));
        let most = STALLS_LISTED.min(idle.max(left / 4));
        let stalls = listed(snapshot, &screen.order, most).len();
        let body = left - below - stalls;
        Self { header, notice, body, below, stalls, footer }
    }
}

/// Writes line after line; what is outside the area is not written.
struct Pen<'a, 'b> {
    frame: &'a mut Frame<'b>,
    area: Rect,
    line: usize,
}

impl Pen<'_, '_> {
    fn text(&mut self, text: &str, style: Style) {
        self.at(0, text, style);
        self.line += 1;
    }

    fn lines(&mut self, lines: &[String], style: Style) {
        for line in lines {
            self.text(line, style);
        }
    }

    /// Writes at a column and stays on the line; returns the column behind it.
    fn at(&mut self, column: u16, text: &str, style: Style) -> u16 {
        let Ok(line) = u16::try_from(self.line) else { return column };
        if line >= self.area.height || column >= self.area.width {
            return column;
        }
        let (x, y) = (self.area.x + column, self.area.y + line);
        let room = usize::from(self.area.width - column);
        self.frame.buffer_mut().set_stringn(x, y, text, room, style).0 - self.area.x
    }
}

fn titles(pen: &mut Pen<'_, '_>, grid: &Grid, screen: &Screen) {
    let mut column = 0;
    for (of, title) in grid.titles() {
        let is_sorted = of.sort == Some(screen.order.sort);
        // The padding is not underlined: it would look like a wider heading.
        let blank = title.len() - title.trim_start().len();
        column = pen.at(column, &title[..blank], Style::new());
        let style = if is_sorted { Palette::SORTED } else { Palette::HEADING };
        let end = pen.at(column, title.trim(), style);
        column = pen.at(end, &title[title.trim_end().len()..], Style::new());
    }
    pen.line += 1;
}

fn stalls(pen: &mut Pen<'_, '_>, page: &Page, snapshot: &Snapshot, screen: &Screen) {
    if page.stalls == 0 {
        // Few lines may hide them all.
        let any = !listed(snapshot, &screen.order, 1).is_empty();
        pen.text(if any { "stalls: no room to list them" } else { "no stalls" }, Palette::PAST);
        return;
    }
    let grid = Grid::fit(&columns_of::stalls(snapshot), pen.area.width.into(), 0);
    let titles: String = grid.titles().map(|(_, title)| title).collect();
    pen.text(&titles, Palette::HEADING);
    for stall in listed(snapshot, &screen.order, page.stalls) {
        let style = if stall.ongoing { screen.palette.alarm() } else { Style::new() };
        pen.text(&grid.line(&Row::Stall(stall, snapshot.at_unix_ns)), style);
    }
}

fn selection(
    snapshot: &Snapshot,
    screen: &Screen,
    shown: usize,
    body: usize,
    columns: u16,
) -> String {
    let mut facts = header::selection(snapshot, &screen.order, shown);
    if shown > body {
        let first = screen.scroll.min(shown - body) + 1;
        facts.insert(1, format!("rows {first}-{}", first + body.max(1) - 1));
    }
    if screen.paused {
        facts.insert(0, "PAUSED".into());
    }
    header::wrap(&facts, columns.into()).into_iter().next().unwrap_or_default()
}

fn hints(columns: u16) -> String {
    let hints = BINDINGS.iter().filter_map(|binding| binding.hint.map(String::from));
    let hints = header::wrap(&hints.collect::<Vec<_>>(), columns.into());
    let line = hints.into_iter().next().unwrap_or_default();
    format!("{line:<width$}", width = columns.into())
}
