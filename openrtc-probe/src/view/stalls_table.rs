//! The columns of the table of stalls: data.

use std::borrow::Cow;

use crate::model::{Class, Stall};
use crate::view::columns::{Align, Cell, Column, ID_WIDTH, Row};
use crate::view::log_line::file_and_line;
use crate::view::units::{Number, rough, split_ms};

/// The table of stalls. The parts sum to the wall time in whole milliseconds.
pub static STALLS: &[Column] = &[
    Column {
        key: "started_at",
        title: "stalls",
        unit: "",
        what: "how long ago it last began",
        width: 9,
        widest: 9,
        grows_last: false,
        align: Align::Left,
        rank: 4,
        sort: None,
        value: |row| match row {
            Row::Stall(stall, _) if stall.ongoing => Cell::text(Some("ongoing")),
            Row::Stall(stall, at_unix_ns) => {
                let last = stall.started_at_unix_ns.max(stall.repeats.last_unix_ns);
                let ago = at_unix_ns.saturating_sub(last).max(0);
                let ago = rough(u64::try_from(ago).unwrap_or(u64::MAX));
                Cell::Text(Cow::Owned(format!("{ago} ago")))
            }
            _ => Cell::Nothing,
        },
    },
    Column {
        key: "session_id",
        title: "session",
        unit: "",
        what: "who stalled",
        width: ID_WIDTH,
        widest: 24,
        grows_last: false,
        align: Align::Left,
        rank: 0,
        sort: None,
        value: |row| Cell::Text(row.label()),
    },
    Column {
        key: "count",
        title: "n",
        unit: "",
        what: "how often within a minute",
        width: 4,
        widest: 4,
        grows_last: false,
        align: Align::Right,
        rank: 6,
        sort: None,
        value: |row| {
            row.stall().map_or(Cell::Nothing, |stall| {
                Cell::Number(Number::count(stall.repeats.count.max(1).into()))
            })
        },
    },
    Column {
        key: "duration_ms",
        title: "wall(ms)",
        unit: "ms",
        what: "how long, at worst",
        width: 8,
        widest: 8,
        grows_last: false,
        align: Align::Right,
        rank: 1,
        sort: None,
        value: |row| {
            row.stall().map_or(Cell::Nothing, |stall| {
                let wall = Number::count(split_ms(stall).duration);
                Cell::Number(wall.at_least(stall.is_lower_bound))
            })
        },
    },
    Column {
        key: "cause",
        title: "cause",
        unit: "",
        what: "why: what took most of it",
        width: 10,
        widest: 10,
        grows_last: false,
        align: Align::Left,
        rank: 3,
        sort: None,
        value: |row| {
            let first = row.stall().and_then(|stall| stall.anatomy.causes.first());
            Cell::text(first.map(Class::name))
        },
    },
    Column {
        key: "stack",
        title: "at",
        unit: "",
        what: "the line of your own code",
        width: 14,
        widest: 44,
        grows_last: false,
        align: Align::Left,
        rank: 2,
        sort: None,
        value: |row| row.stall().and_then(place).map_or(Cell::Nothing, |it| Cell::Text(it.into())),
    },
    Column {
        key: "syscall",
        title: "in",
        unit: "",
        what: "the system call that it waited in",
        width: 8,
        widest: 16,
        grows_last: true,
        align: Align::Left,
        rank: 12,
        sort: None,
        value: |row| Cell::text(row.stall().and_then(|stall| stall.anatomy.causes.syscall())),
    },
    Column {
        key: "on_cpu_ms",
        title: "on-cpu",
        unit: "ms",
        what: "of that: running",
        width: 7,
        widest: 7,
        grows_last: false,
        align: Align::Right,
        rank: 8,
        sort: None,
        value: |row| Cell::split(row, 0),
    },
    Column {
        key: "off_cpu_ms",
        title: "off-cpu",
        unit: "ms",
        what: "of that: asleep",
        width: 7,
        widest: 7,
        grows_last: false,
        align: Align::Right,
        rank: 9,
        sort: None,
        value: |row| Cell::split(row, 1),
    },
    Column {
        key: "run_queue_ms",
        title: "runq",
        unit: "ms",
        what: "of that: waiting for a CPU",
        width: 7,
        widest: 7,
        grows_last: false,
        align: Align::Right,
        rank: 10,
        sort: None,
        value: |row| Cell::split(row, 2),
    },
    Column {
        key: "agent_name",
        title: "agent",
        unit: "",
        what: "its agent",
        width: 7,
        widest: 16,
        grows_last: false,
        align: Align::Left,
        rank: 7,
        sort: None,
        value: |row| Cell::text(row.stall().and_then(|stall| stall.agent_name.as_deref())),
    },
    Column {
        key: "tenant",
        title: "tenant",
        unit: "",
        what: "its tenant",
        width: 6,
        widest: 12,
        grows_last: false,
        align: Align::Left,
        rank: 11,
        sort: None,
        value: |row| Cell::text(row.stall().and_then(|stall| stall.tenant.as_deref())),
    },
];

/// The innermost line of the user's own code, or of any.
fn place(stall: &Stall) -> Option<String> {
    let frame = stall.anatomy.stack()?.place()?;
    Some(format!("{} {}", file_and_line(frame, 0), frame.function))
}
