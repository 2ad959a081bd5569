//! A table made to fit: which columns stay at a width, how wide each gets, and the lines of text.

use std::borrow::Cow;
use std::cmp::Reverse;

use crate::view::bars;
use crate::view::chart::spark;
use crate::view::columns::{Align, Cell, Column, MARK, Row};
use crate::view::harmless::{cut, harmless, width};
use crate::view::units::UNKNOWN;

/// Columns with their widths.
pub struct Grid {
    columns: Vec<(&'static Column, usize)>,
    separator: &'static str,
    /// Room for the mark in front of all columns.
    margin: usize,
    /// Whether nothing is cut. The mark is then a part of the first column's text.
    is_wide: bool,
}

/// The column that has no text.
const PICTURE: &str = "cpu_history";
/// A gauge narrower than this is its number alone.
const LEAST_FOR_BAR: usize = 9;

impl Grid {
    /// For a line of `columns` columns; `slots` is the highest number in the column `slot`.
    pub fn fit(table: &[&'static Column], columns: usize, slots: usize) -> Self {
        let margin = MARK.len().min(columns);
        let columns = columns - margin;
        let digits = slots.checked_ilog10().unwrap_or(0) as usize + 1;
        let least =
            |c: &Column| if c.key == "slot" { c.width.max(digits) } else { c.width.min(columns) };
        let mut kept: Vec<_> = table.iter().map(|column| (*column, least(column))).collect();
        let total = |kept: &[(&'static Column, usize)]| {
            kept.iter().map(|(_, width)| width + 1).sum::<usize>().saturating_sub(1)
        };
        let mut leaving: Vec<_> = table.iter().map(|column| column.rank).collect();
        leaving.sort_unstable_by_key(|rank| Reverse(*rank));
        for rank in leaving.into_iter().filter(|rank| *rank > 0) {
            if total(&kept) <= columns {
                break;
            }
            kept.retain(|(column, _)| column.rank != rank);
        }
        let spare = columns.saturating_sub(total(&kept));
        grow(&mut kept, spare);
        Self { columns: kept, separator: " ", margin, is_wide: false }
    }

    /// Every column as wide as its widest cell, two spaces between: nothing is cut, no line begins
    /// with a space, and two spaces end a column (no cell holds two). A gauge is its number alone, and
    /// what is only a picture is left out.
    pub fn wide(table: &[&'static Column], rows: &[Row<'_>]) -> Self {
        let table = table.iter().filter(|column| column.key != PICTURE);
        let columns = table.enumerate().map(|(at, &column)| {
            let mark = |row: &Row<'_>| if at == 0 { row.mark().len() } else { 0 };
            let cells = rows.iter().map(|row| mark(row) + natural_width(&(column.value)(row)));
            let title = column.title.chars().count();
            (column, cells.max().unwrap_or(0).max(title))
        });
        Self { columns: columns.collect(), separator: "  ", margin: 0, is_wide: true }
    }

    /// The headings, each with its padding and the separator behind it.
    pub fn titles(&self) -> impl Iterator<Item = (&'static Column, String)> {
        self.columns.iter().enumerate().map(|(at, &(column, width))| {
            let margin = " ".repeat(if at == 0 { self.margin } else { 0 });
            (column, margin + &pad(column.title, width, self.align(at, column)) + self.separator)
        })
    }

    /// One row; without spaces at its end.
    pub fn line(&self, row: &Row<'_>) -> String {
        let (mut line, done) = match self.label(row) {
            Some(begun) => begun,
            None => (pad(&cut(row.mark(), self.margin), self.margin, Align::Left), 0),
        };
        for (at, (column, width)) in self.columns.iter().enumerate().skip(done) {
            let cell = match (column.value)(row) {
                Cell::Gauge(number, _) if self.is_wide => Cell::Number(number),
                cell => cell,
            };
            let mark = if self.is_wide && at == 0 { row.mark() } else { "" };
            line.push_str(mark);
            line.push_str(&render(&cell, width - mark.len(), self.align(at, column)));
            line.push_str(self.separator);
        }
        line.truncate(line.trim_end().len());
        line
    }

    /// The label of a row below the sessions, with the number of columns it takes. It begins at the
    /// edge, where sessions have their mark and their slot: none can look like it.
    fn label(&self, row: &Row<'_>) -> Option<(String, usize)> {
        let at = self.columns.iter().position(|(column, _)| column.key == "session_id")?;
        if self.is_wide || !row.is_below() {
            return None;
        }
        let columns = self.columns.get(..=at)?;
        let room: usize = columns.iter().map(|(_, width)| width + self.separator.len()).sum();
        let room = self.margin + room - self.separator.len();
        Some((pad(&cut(&row.label(), room), room, Align::Left) + self.separator, at + 1))
    }

    fn align(&self, at: usize, column: &Column) -> Align {
        if self.is_wide && at == 0 { Align::Left } else { column.align }
    }
}

/// Hands out what is left: evenly, to gauges last.
fn grow(columns: &mut [(&'static Column, usize)], mut spare: usize) {
    for last in [false, true] {
        loop {
            let mut grew = false;
            for (column, width) in columns.iter_mut() {
                if spare > 0 && column.grows_last == last && *width < column.widest {
                    *width += 1;
                    spare -= 1;
                    grew = true;
                }
            }
            if !grew {
                break;
            }
        }
    }
}

fn natural_width(cell: &Cell<'_>) -> usize {
    match cell {
        Cell::Nothing => 1,
        Cell::Text(text) => width(&harmless(text)),
        Cell::Number(number) | Cell::Gauge(number, _) => number.full().chars().count(),
        Cell::History(history) => history.ratios().len(),
    }
}

fn render(cell: &Cell<'_>, width: usize, align: Align) -> String {
    match cell {
        Cell::Nothing => pad(UNKNOWN, width, align),
        Cell::Text(text) => {
            let text = harmless(text);
            // Nothing at all would shift the columns behind it.
            let text = if text.is_empty() { Cow::Borrowed("\"\"") } else { text };
            pad(&cut(&text, width), width, align)
        }
        Cell::Number(number) => pad(&number.fit(width), width, align),
        // Of one core: rows compare. A little is seen too.
        Cell::History(history) => {
            let older = history.ratios().len().saturating_sub(width);
            // By the square root: of a few hundredths of a core the ups and downs are still seen, and
            // rows can be compared.
            let heights = history.ratios().skip(older).map(|ratio| Some(ratio.sqrt()));
            pad(&spark(heights, 1.0), width, align)
        }
        Cell::Gauge(number, _) if width < LEAST_FOR_BAR => pad(&number.fit(width), width, align),
        Cell::Gauge(number, fill) => {
            let digits = number.full().chars().count();
            // The bar keeps four columns: a long number loses decimals, then takes a suffix.
            let room = width.saturating_sub(1);
            let bar_width = room.saturating_sub(digits.clamp(4, 5)).max(room.min(4));
            let digits = room.saturating_sub(bar_width);
            format!("{} {}", bar(*fill, bar_width), pad(&number.fit(digits), digits, Align::Right))
        }
    }
}

/// A bar of `width` columns, with what is empty drawn too.
fn bar(fill: f64, width: usize) -> String {
    let filled = bars::bar(fill, width);
    let empty = width.saturating_sub(filled.chars().count());
    filled + &"░".repeat(empty)
}

fn pad(text: &str, columns: usize, align: Align) -> String {
    let blank = " ".repeat(columns.saturating_sub(width(text)));
    match align {
        Align::Left => text.to_owned() + &blank,
        Align::Right => blank + text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Session, Snapshot, Stall, Status};
    use crate::view::columns::{SESSIONS, rows_below};
    use crate::view::columns_of;
    use crate::view::order::Order;

    fn sessions() -> Vec<&'static Column> {
        columns_of::sessions(&Snapshot::default())
    }

    fn stalls() -> Vec<&'static Column> {
        columns_of::stalls(&Snapshot::default())
    }

    fn titles(columns: usize, slots: usize) -> String {
        Grid::fit(&sessions(), columns, slots).titles().map(|(_, title)| title).collect()
    }

    #[test]
    fn at_80_columns_there_is_what_openrtc_has_and_cpu_seconds_and_stalls() {
        let words: Vec<_> = titles(80, 99).split_whitespace().map(str::to_owned).collect();
        let expected = [
            "#", "session", "agent", "tenant", "dur(s)", "CPU%", "MEM~", "cpu(s)", "stalls",
            "status",
        ];
        assert_eq!(words, expected);
        let at = |columns| {
            let grid = Grid::fit(&sessions(), columns, 99);
            grid.titles().map(|(column, _)| column.title).collect::<Vec<_>>()
        };
        assert_eq!(at(150).len(), SESSIONS.len());
        for ours in ["off-cpu(s)", "longest(ms)", "cpu, 30 s"] {
            assert!(at(120).contains(&ours), "{ours}");
        }
    }

    #[test]
    fn a_line_is_never_wider_than_it_may_be() {
        let session = Session {
            session_id: "日本語".repeat(20).into(),
            agent_name: Some("\u{202e}".repeat(9).into()),
            duration_ns: u64::MAX,
            duration_is_lower_bound: true,
            cpu_ratio: Some(123.456),
            mem_bytes: Some(u64::MAX),
            ..Session::default()
        };
        let slow = Session { status: Status::Slow, ..session.clone() };
        let mut snapshot = Snapshot::default();
        snapshot.worker.ended_cpu_ns = u64::MAX;
        for columns in 0..200 {
            let fleet = Snapshot { fleet: Some(vec![]), ..Snapshot::default() };
            for (table, slots) in [
                (sessions(), 7),
                (sessions(), 10_000),
                (columns_of::sessions(&fleet), 7),
                (stalls(), 1),
                (columns_of::stalls(&fleet), 1),
            ] {
                let grid = Grid::fit(&table, columns, slots);
                let mut rows = vec![Row::Session(slots, &session), Row::Session(slots, &slow)];
                rows.extend(rows_below(&snapshot, &Order::default()));
                for row in &rows {
                    let line = grid.line(row);
                    assert!(width(&line) <= columns, "{columns}: {line:?}");
                }
                let titles: String = grid.titles().map(|(_, title)| title).collect();
                // At the least the session's own column stays.
                assert!(width(titles.trim_end()) <= columns.max(8), "{columns}");
            }
        }
    }

    #[test]
    fn the_row_labels_are_whole_at_every_useful_width() {
        let mut snapshot = Snapshot::default();
        snapshot.worker.ended_cpu_ns = 1;
        for columns in "(ended sessions)".len()..200 {
            let grid = Grid::fit(&sessions(), columns, 7);
            for row in rows_below(&snapshot, &Order::default()) {
                let line = grid.line(&row);
                assert!(line.starts_with(&*row.label()), "{columns}: {line}");
            }
        }
    }

    #[test]
    fn what_asks_for_attention_is_marked_in_front_at_every_width() {
        let session = |status| Session { session_id: "AJ_1".into(), status, ..Session::default() };
        let [active, slow] = [Status::Active, Status::Slow].map(session);
        let [over, ongoing] = [false, true].map(|ongoing| Stall { ongoing, ..Stall::default() });
        for columns in 1..200 {
            let grid = Grid::fit(&sessions(), columns, 7);
            assert!(!grid.line(&Row::Session(1, &active)).contains(MARK));
            assert!(grid.line(&Row::Session(1, &slow)).starts_with(MARK));
            let grid = Grid::fit(&stalls(), columns, 0);
            assert!(!grid.line(&Row::Stall(&over, 0)).contains(MARK));
            assert!(grid.line(&Row::Stall(&ongoing, 0)).starts_with(MARK));
        }
        let rows = [Row::Session(1, &active), Row::Session(12, &slow)];
        let wide = Grid::wide(&sessions(), &rows);
        assert!(wide.line(&rows[0]).starts_with("1    AJ_1  "));
        assert!(wide.line(&rows[1]).starts_with("!12  AJ_1  "));
    }

    #[test]
    fn of_several_workers_the_process_stays_at_80_columns() {
        let fleet = Snapshot { fleet: Some(vec![]), ..Snapshot::default() };
        for (table, expected) in [
            (
                columns_of::sessions(&fleet),
                "# session pid agent tenant dur(s) CPU% MEM stalls status",
            ),
            (columns_of::stalls(&fleet), "stalls session pid n wall(ms) cause at"),
        ] {
            let grid = Grid::fit(&table, 80, 9);
            let titles: Vec<_> = grid.titles().map(|(column, _)| column.title).collect();
            assert_eq!(titles.join(" "), expected);
        }
    }

    #[test]
    fn the_newest_seconds_stand_at_the_right() {
        let mut session = Session::default();
        let cells = |session: &Session| {
            let column = SESSIONS.iter().find(|column| column.key == PICTURE).unwrap();
            let cell = (column.value)(&Row::Session(1, session));
            [3, 5].map(|width| render(&cell, width, column.align))
        };
        assert_eq!(cells(&session), ["  –", "    –"]);
        for ratio in [1.0, 0.0, 0.001, 0.5] {
            session.cpu_history.push(ratio);
        }
        assert_eq!(cells(&session), ["·▁▆", " █·▁▆"]);
    }

    #[test]
    fn bars() {
        assert_eq!(bar(0.0, 4), "░░░░");
        assert_eq!(bar(0.0001, 4), "▏░░░");
        assert_eq!(bar(0.5, 4), "██░░");
        assert_eq!(bar(0.55, 4), "██▎░");
        assert_eq!(bar(1.0, 4), "████");
        assert_eq!(bar(7.0, 4), "████");
        assert_eq!(bar(f64::NAN, 4), "░░░░");
        assert_eq!(bar(0.5, 0), "");
    }

    #[test]
    fn wide_cuts_nothing_and_two_spaces_end_a_column() {
        let session = Session {
            session_id: "a  very long  id ".repeat(5).into(),
            agent_name: Some("".into()),
            ..Session::default()
        };
        let rows = [Row::Session(1, &session)];
        let grid = Grid::wide(&sessions(), &rows);
        let line = grid.line(&rows[0]);
        assert!(!line.contains('…'));
        let fields: Vec<_> =
            line.split("  ").map(str::trim).filter(|field| !field.is_empty()).collect();
        assert_eq!(fields.len(), SESSIONS.len() - 1, "all but the picture: {fields:?}");
        assert_eq!(fields[2], "\"\"");
    }
}
