//! The pane of stalls: those that go on first, then the newest, and the selected one in full.

use ratatui::style::{Modifier, Style};
use ratatui::text::Line;

use crate::model::{Snapshot, Stall};
use crate::view::columns::{Align, Cell, Column, Row};
use crate::view::columns_of;
use crate::view::grid::Grid;
use crate::view::order::Order;
use crate::view::stalls::listed;
use crate::view::top::palette::Palette;
use crate::view::top::stall::stall_details;
use crate::view::top::text::Text;
use crate::view::units::{Number, millis, span};

/// How long all of an entry took: only where there is room to look at stalls alone.
static TOTAL: Column = Column {
    key: "total_ms",
    title: "total(ms)",
    unit: "ms",
    what: "all of them together",
    width: 9,
    widest: 9,
    grows_last: false,
    align: Align::Right,
    // It leaves with the agent.
    rank: 7,
    sort: None,
    value: |row| match row {
        Row::Stall(stall, _) => {
            let total = stall.repeats.total_ns.max(stall.duration_ns);
            Cell::Number(Number::new(millis(total), 0).at_least(stall.is_lower_bound))
        }
        _ => Cell::Nothing,
    },
};

/// The pane, for the caller to lay out: the list scrolls below its headings, one row a line.
pub(super) struct StallsPane {
    /// What is listed, and the table's headings.
    pub head: Vec<Line<'static>>,
    /// A line for each stall.
    pub rows: Vec<Line<'static>>,
    /// The selected one in full; nothing where none is.
    pub details: Vec<Line<'static>>,
}

/// The stalls that the filters keep; `selected` is the place of one in the list.
pub(super) fn lines(
    snapshot: &Snapshot,
    order: &Order,
    selected: Option<usize>,
    palette: Palette,
    columns: u16,
) -> StallsPane {
    let stalls = listed(snapshot, order, usize::MAX);
    let mut head = Text::new(columns);
    head.facts(0, &facts(snapshot, &stalls));
    if stalls.is_empty() {
        let why =
            if snapshot.stalls.is_empty() { "no stalls" } else { "no stall matches the filter" };
        head.styled(why, Palette::PAST);
        return StallsPane { head: head.into_lines(), rows: vec![], details: vec![] };
    }
    let grid = Grid::fit(&table(snapshot), columns.into(), 0);
    let mut head = head.into_lines();
    head.push(titles(&grid));
    let rows = stalls.iter().enumerate().map(|(at, stall)| {
        let row = row(&grid, stall, snapshot.at_unix_ns, palette);
        if Some(at) == selected { pick(&row, columns) } else { row }
    });
    let rows = rows.collect();
    let selected = selected.and_then(|at| stalls.get(at));
    let details = selected.map_or_else(Vec::new, |stall| stall_details(stall, palette, columns));
    StallsPane { head, rows, details }
}

/// The columns of stalls, with the total behind the worst.
fn table(snapshot: &Snapshot) -> Vec<&'static Column> {
    let columns = columns_of::stalls(snapshot).into_iter();
    let columns = columns.flat_map(|column| match column.key {
        "duration_ms" => vec![column, &TOTAL],
        _ => vec![column],
    });
    columns.collect()
}

/// The columns that tell stalls of one session apart.
pub(super) fn table_of_session(snapshot: &Snapshot) -> Vec<&'static Column> {
    let is_of_stall =
        |column: &&Column| !matches!(column.key, "session_id" | "agent_name" | "tenant" | "pid");
    table(snapshot).into_iter().filter(is_of_stall).collect()
}

/// The headings.
pub(super) fn titles(grid: &Grid) -> Line<'static> {
    let titles: String = grid.titles().map(|(_, title)| title).collect();
    Line::styled(titles.trim_end().to_owned(), Palette::HEADING)
}

/// A stall's row.
pub(super) fn row(grid: &Grid, stall: &Stall, at_unix_ns: i128, palette: Palette) -> Line<'static> {
    let style = if stall.ongoing { palette.alarm() } else { Style::new() };
    Line::styled(grid.line(&Row::Stall(stall, at_unix_ns)), style)
}

/// The row as the one that is looked at: reversed over the whole width.
fn pick(row: &Line<'static>, columns: u16) -> Line<'static> {
    let blank = usize::from(columns).saturating_sub(row.width());
    let style = row.style.add_modifier(Modifier::REVERSED);
    Line::styled(row.to_string() + &" ".repeat(blank), style)
}

/// What is listed.
fn facts(snapshot: &Snapshot, stalls: &[&Stall]) -> Vec<String> {
    let ongoing = stalls.iter().filter(|stall| stall.ongoing).count();
    let mut facts = vec![
        format!("stalls since attach {}", snapshot.worker.stalls),
        format!("listed {}", stalls.len()),
    ];
    if ongoing > 0 {
        facts.push(format!("now {ongoing}"));
    }
    if snapshot.threshold_ns > 0 {
        facts.push(format!("polls of {} or more", span(snapshot.threshold_ns)));
    }
    facts
}
