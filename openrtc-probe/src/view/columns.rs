//! The tables as data: which columns there are, which leave first when it gets narrow, and what
//! each shows of a row.
//!
//! Every cell shows something: what is not known, or has no meaning in a row, is `–`. A row that
//! asks for attention has a mark in front, so that it is found without colour.

use std::borrow::Cow;

use crate::model::{CpuHistory, Session, Snapshot, Stall, Status, Untagged, Usage};
use crate::view::order::{Order, Sort};
use crate::view::units::{Number, megabytes, millis, percent, seconds, split_ms};

/// One column of a table.
pub struct Column {
    /// Its name in the JSON.
    pub key: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// Of its numbers; empty where there is none.
    pub unit: &'static str,
    /// What it says, for the help.
    pub what: &'static str,
    /// The least width.
    pub width: usize,
    /// The most it takes of room to spare.
    pub widest: usize,
    /// Whether it takes of it only after all others have their most.
    pub grows_last: bool,
    /// Which side its cells stand on.
    pub align: Align,
    /// The highest leaves first when it gets narrow; 0 never leaves.
    pub rank: u8,
    /// What sorts by it.
    pub sort: Option<Sort>,
    /// What it shows of a row.
    pub value: for<'a> fn(&Row<'a>) -> Cell<'a>,
}

/// Which side a column's cells stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A line of a table.
#[derive(Clone, Copy)]
pub enum Row<'a> {
    /// A session and its place in the order, from 1.
    Session(usize, &'a Session),
    /// Polls without a tag.
    Untagged(&'a Untagged),
    /// CPU time of none of the rows above.
    Outside(Outside),
    /// A stall, and the time of the picture.
    Stall(&'a Stall, i128),
}

/// CPU time that is of no row: outside of contexts, or of sessions that have left the list.
#[derive(Clone, Copy)]
pub struct Outside {
    label: &'static str,
    cpu_ns: u64,
    cpu_ratio: Option<f64>,
}

/// What stands in a cell.
pub enum Cell<'a> {
    /// Unknown, or without meaning in this row.
    Nothing,
    /// Text, untrusted.
    Text(Cow<'a, str>),
    /// A number.
    Number(Number),
    /// A number and a bar, filled from 0 to 1.
    Gauge(Number, f64),
    /// Shares of one core, second by second, as many of the last as there is room for.
    History(&'a CpuHistory),
}

impl<'a> Cell<'a> {
    pub(super) fn text(text: Option<&'a str>) -> Self {
        text.map_or(Cell::Nothing, |text| Cell::Text(Cow::Borrowed(text)))
    }

    fn usage(row: &Row<'_>, number: fn(&Usage) -> Number) -> Self {
        row.usage().map_or(Cell::Nothing, |usage| Cell::Number(number(usage)))
    }

    pub(super) fn split(row: &Row<'_>, part: usize) -> Self {
        let ms = row.stall().and_then(|stall| split_ms(stall).parts.get(part).copied());
        ms.map_or(Cell::Nothing, |ms| Cell::Number(Number::count(ms)))
    }
}

/// The rows below the sessions: where the rest of the CPU time went.
pub fn rows_below<'a>(snapshot: &'a Snapshot, order: &Order) -> Vec<Row<'a>> {
    let worker = &snapshot.worker;
    let outside = |label, cpu_ns, cpu_ratio| Row::Outside(Outside { label, cpu_ns, cpu_ratio });
    let mut rows = vec![
        Row::Untagged(&snapshot.untagged),
        outside("(loop overhead)", worker.loop_overhead_cpu_ns, worker.loop_overhead_cpu_ratio),
        outside("(other threads)", worker.other_threads_cpu_ns, worker.other_threads_cpu_ratio),
    ];
    let ended_ns = order.ended_cpu_ns(snapshot);
    if ended_ns > 0 {
        rows.push(outside("(ended sessions)", ended_ns, None));
    }
    rows
}

/// The least width of a session's id: `AJ_` and twelve characters, as LiveKit has it.
pub(super) const ID_WIDTH: usize = 15;

/// In front of a row that asks for attention.
pub const MARK: &str = "!";

impl<'a> Row<'a> {
    fn session(&self) -> Option<&'a Session> {
        if let Row::Session(_, session) = self { Some(session) } else { None }
    }

    pub(super) fn stall(&self) -> Option<&'a Stall> {
        if let Row::Stall(stall, _) = self { Some(stall) } else { None }
    }

    fn usage(&self) -> Option<&'a Usage> {
        match self {
            Row::Session(_, session) => Some(&session.usage),
            Row::Untagged(untagged) => Some(&untagged.usage),
            Row::Outside(_) | Row::Stall(..) => None,
        }
    }

    /// Whether some of its time was sampled.
    fn is_sampled(&self) -> bool {
        match self {
            Row::Session(_, session) => session.cpu_se_ns.is_some(),
            Row::Untagged(untagged) => untagged.cpu_se_ns.is_some(),
            Row::Outside(_) | Row::Stall(..) => false,
        }
    }

    /// The process that it is of, where it is of one.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Row::Session(_, session) => Some(session.pid),
            Row::Stall(stall, _) => Some(stall.pid),
            Row::Untagged(_) | Row::Outside(_) => None,
        }
    }

    /// What stands in front: a [`MARK`] if it is about blocking, now or in the last seconds.
    pub fn mark(&self) -> &'static str {
        let asks = match self {
            Row::Session(_, session) => session.status == Status::Slow,
            Row::Stall(stall, _) => stall.ongoing,
            Row::Untagged(_) | Row::Outside(_) => false,
        };
        if asks { MARK } else { "" }
    }

    /// Whether it is one of [`rows_below`].
    pub fn is_below(&self) -> bool {
        matches!(self, Row::Untagged(_) | Row::Outside(_))
    }

    /// What stands in the column of the session; `…` at its end says that the id is longer.
    pub fn label(&self) -> Cow<'a, str> {
        let (label, is_cut) = match self {
            Row::Session(_, session) => (&*session.session_id, session.id_is_cut),
            Row::Stall(stall, _) => {
                (stall.session_id.as_deref().unwrap_or("(untagged)"), stall.id_is_cut)
            }
            Row::Untagged(_) => ("(untagged)", false),
            Row::Outside(outside) => (outside.label, false),
        };
        if is_cut { Cow::Owned(format!("{label}…")) } else { Cow::Borrowed(label) }
    }
}

/// What a session has of its process, marked where that is shared equally.
pub fn memory<'a>(row: &Row<'a>) -> Cell<'a> {
    let Some(session) = row.session() else { return Cell::Nothing };
    let Some(bytes) = session.mem_bytes else { return Cell::Nothing };
    let peak = session.peak_bytes.filter(|peak| *peak > 0);
    let fill = peak.map_or(0.0, |peak| bytes as f64 / peak as f64);
    Cell::Gauge(Number::new(megabytes(bytes), 1).about(!session.mem_is_own), fill)
}

/// The table of sessions: the columns of `openrtc top` that can be seen from outside, then ours.
pub static SESSIONS: &[Column] = &[
    Column {
        key: "slot",
        title: "#",
        unit: "",
        what: "place in the list",
        width: 2,
        widest: 2,
        grows_last: false,
        align: Align::Right,
        rank: 9,
        sort: None,
        value: |row| match row {
            Row::Session(slot, _) => Cell::Number(Number::count(*slot as u64)),
            _ => Cell::Nothing,
        },
    },
    Column {
        key: "session_id",
        title: "session",
        unit: "",
        what: "value of the session variable",
        width: ID_WIDTH,
        widest: 24,
        grows_last: false,
        align: Align::Left,
        rank: 0,
        sort: Some(Sort::SessionId),
        value: |row| Cell::Text(row.label()),
    },
    Column {
        key: "agent_name",
        title: "agent",
        unit: "",
        what: "value of the agent variable",
        width: 7,
        widest: 16,
        grows_last: false,
        align: Align::Left,
        rank: 6,
        sort: Some(Sort::AgentName),
        value: |row| Cell::text(row.session().and_then(|s| s.agent_name.as_deref())),
    },
    Column {
        key: "tenant",
        title: "tenant",
        unit: "",
        what: "value of the tenant variable",
        width: 6,
        widest: 12,
        grows_last: false,
        align: Align::Left,
        rank: 8,
        sort: None,
        value: |row| Cell::text(row.session().and_then(|s| s.tenant.as_deref())),
    },
    Column {
        key: "duration_s",
        title: "dur(s)",
        unit: "s",
        what: "age; ≥ if it began before us",
        width: 6,
        widest: 6,
        grows_last: false,
        align: Align::Right,
        rank: 5,
        sort: Some(Sort::DurationS),
        value: |row| {
            row.session().map_or(Cell::Nothing, |session| {
                let age = Number::new(seconds(session.duration_ns), 0);
                Cell::Number(age.at_least(session.duration_is_lower_bound))
            })
        },
    },
    Column {
        key: "cpu_pct",
        title: "CPU%",
        unit: "%",
        what: "CPU of one core, last interval",
        width: 9,
        widest: 26,
        grows_last: false,
        align: Align::Right,
        rank: 1,
        sort: Some(Sort::CpuPct),
        value: |row| {
            let ratio = match row {
                Row::Session(_, session) => session.cpu_ratio,
                Row::Untagged(untagged) => untagged.cpu_ratio,
                Row::Outside(outside) => outside.cpu_ratio,
                Row::Stall(..) => None,
            };
            let is_about = row.is_sampled();
            ratio.map_or(Cell::Nothing, |r| {
                Cell::Gauge(Number::new(percent(r), 1).about(is_about), r)
            })
        },
    },
    Column {
        key: "mem_mb",
        title: "MEM~",
        unit: "MB",
        what: "RSS / live sessions, equal for all",
        width: 5,
        widest: 9,
        grows_last: true,
        align: Align::Right,
        rank: 7,
        sort: Some(Sort::MemMb),
        value: |row| match memory(row) {
            // All are alike: the heading has the mark.
            Cell::Gauge(number, fill) => Cell::Gauge(number.about(false), fill),
            cell => cell,
        },
    },
    Column {
        key: "cpu_seconds",
        title: "cpu(s)",
        unit: "s",
        what: "CPU since attach, to_thread included",
        width: 7,
        widest: 7,
        grows_last: false,
        align: Align::Right,
        rank: 10,
        sort: None,
        value: |row| match row {
            Row::Outside(outside) => Cell::Number(Number::new(seconds(outside.cpu_ns), 2)),
            _ => row.usage().map_or(Cell::Nothing, |usage| {
                let cpu = Number::new(seconds(usage.cpu_ns()), 2);
                Cell::Number(cpu.about(row.is_sampled()))
            }),
        },
    },
    Column {
        key: "off_cpu_seconds",
        title: "off-cpu(s)",
        unit: "s",
        what: "asleep inside polls",
        width: 10,
        widest: 10,
        grows_last: false,
        align: Align::Right,
        rank: 13,
        sort: Some(Sort::OffCpu),
        value: |row| Cell::usage(row, |usage| Number::new(seconds(usage.off_cpu_ns), 2)),
    },
    Column {
        key: "run_queue_seconds",
        title: "runq(s)",
        unit: "s",
        what: "waiting for a CPU inside polls",
        width: 7,
        widest: 7,
        grows_last: false,
        align: Align::Right,
        rank: 15,
        sort: Some(Sort::RunQueue),
        value: |row| Cell::usage(row, |usage| Number::new(seconds(usage.run_queue_ns), 2)),
    },
    Column {
        key: "polls",
        title: "polls",
        unit: "",
        what: "callbacks run on loop threads",
        width: 5,
        widest: 7,
        grows_last: false,
        align: Align::Right,
        rank: 16,
        sort: Some(Sort::Polls),
        value: |row| match row.usage() {
            // Where polls were sampled, those that were not are what is known.
            Some(usage) if row.is_sampled() && usage.polls == 0 => Cell::Nothing,
            Some(usage) => Cell::Number(Number::count(usage.polls).at_least(row.is_sampled())),
            None => Cell::Nothing,
        },
    },
    Column {
        key: "polls_per_s",
        title: "polls/s",
        unit: "",
        what: "polls a second, last interval",
        width: 7,
        widest: 7,
        grows_last: false,
        align: Align::Right,
        rank: 14,
        sort: Some(Sort::PollsPerS),
        value: |row| {
            let polls = row.session().and_then(|session| session.polls_per_s);
            polls.map_or(Cell::Nothing, |polls| Cell::Number(Number::new(polls, 1)))
        },
    },
    Column {
        key: "longest_poll_ms",
        title: "longest(ms)",
        unit: "ms",
        what: "longest poll",
        width: 11,
        widest: 11,
        grows_last: false,
        align: Align::Right,
        rank: 12,
        sort: Some(Sort::LongestPoll),
        value: |row| {
            let is_about = row.is_sampled();
            let longest = row.usage().map(|usage| Number::new(millis(usage.longest_poll_ns), 1));
            longest.map_or(Cell::Nothing, |longest| Cell::Number(longest.about(is_about)))
        },
    },
    Column {
        key: "stalls",
        title: "stalls",
        unit: "",
        what: "polls over the threshold",
        width: 6,
        widest: 6,
        grows_last: false,
        align: Align::Right,
        rank: 4,
        sort: Some(Sort::Stalls),
        value: |row| Cell::usage(row, |usage| Number::count(usage.stalls)),
    },
    Column {
        key: "idle_s",
        title: "idle(s)",
        unit: "s",
        what: "since it last ran; ≥ if it never did",
        width: 7,
        widest: 7,
        grows_last: false,
        align: Align::Right,
        rank: 17,
        sort: Some(Sort::Idle),
        value: |row| match row.session() {
            Some(session) if session.status != Status::Ended => {
                let idle = Number::new(seconds(session.idle_ns), 0);
                let is_sampled = session.cpu_se_ns.is_some();
                let idle = idle.about(is_sampled);
                Cell::Number(idle.at_least(session.usage.polls == 0 && !is_sampled))
            }
            _ => Cell::Nothing,
        },
    },
    Column {
        key: "cpu_history",
        title: "cpu, 30 s",
        unit: "",
        what: "CPU each second, newest right: square root, █ one core, · none",
        width: 10,
        widest: 30,
        grows_last: false,
        align: Align::Right,
        rank: 11,
        sort: None,
        value: |row| match row.session() {
            Some(session) if session.cpu_history.ratios().len() > 0 => {
                Cell::History(&session.cpu_history)
            }
            _ => Cell::Nothing,
        },
    },
    Column {
        key: "status",
        title: "status",
        unit: "",
        what: "active, slow (marked !, for 5 s), ended",
        width: 6,
        widest: 6,
        grows_last: false,
        align: Align::Left,
        rank: 2,
        sort: None,
        value: |row| Cell::text(row.session().map(|session| session.status.as_str())),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::stalls_table::STALLS;
    use std::collections::BTreeSet;

    #[test]
    fn keys_and_ranks_are_unique_and_titles_fit() {
        for table in [SESSIONS, STALLS] {
            let keys: BTreeSet<_> = table.iter().map(|column| column.key).collect();
            let ranks: BTreeSet<_> = table.iter().map(|column| column.rank).collect();
            assert_eq!((keys.len(), ranks.len()), (table.len(), table.len()));
            for column in table {
                assert!(column.title.chars().count() <= column.width, "{}", column.key);
                assert!(column.width <= column.widest, "{}", column.key);
            }
        }
    }

    #[test]
    fn every_sort_has_its_column() {
        for (sort, name) in Sort::ALL {
            assert!(SESSIONS.iter().any(|column| column.sort == Some(sort)), "{name}");
        }
    }

    #[test]
    fn keys_are_those_of_the_json() {
        let snapshot = Snapshot { sessions: vec![Session::default()], ..Snapshot::default() };
        let json = crate::view::json::snapshot(&snapshot, &crate::view::order::Order::default());
        let known = |column: &&Column| json.contains(&format!("\"{}\":", column.key));
        let unknown = SESSIONS.iter().filter(|column| !known(column)).map(|column| column.key);
        // The place in the list is of the table only.
        let of_the_table = ["slot", "cpu_history"];
        assert!(unknown.into_iter().all(|key| of_the_table.contains(&key)));
        let json = crate::view::json::stall(&Stall::default());
        let known = |column: &Column| json.contains(&format!("\"{}\":", column.key));
        assert!(STALLS.iter().filter(|column| column.key != "count").all(known));
    }

    #[test]
    fn what_is_not_there_has_no_row() {
        let mut snapshot = Snapshot::default();
        let labels = |snapshot: &Snapshot| {
            rows_below(snapshot, &Order::default())
                .iter()
                .map(|row| row.label().into_owned())
                .collect::<Vec<_>>()
        };
        let always = ["(untagged)", "(loop overhead)", "(other threads)"];
        assert_eq!(labels(&snapshot), always);
        snapshot.worker.ended_cpu_ns = 1;
        assert_eq!(labels(&snapshot), [&always[..], &["(ended sessions)"]].concat());
    }
}
