//! Which columns a picture's tables have: those of several workers also say which process a row is of.

use crate::{
    model::Snapshot,
    view::{
        columns::{Align, Cell, Column, SESSIONS, memory},
        order::Sort,
        stalls_table::STALLS,
        units::Number,
    },
};

/// Which process a row is of, where there may be several.
const PID: Column = Column {
    key: "pid",
    title: "pid",
    unit: "",
    what: "its process",
    width: 7,
    widest: 7,
    grows_last: false,
    align: Align::Right,
    rank: 3,
    sort: None,
    value: |row| row.pid().map_or(Cell::Nothing, |pid| Cell::Number(Number::count(pid.into()))),
};
static PID_OF_SESSION: Column = PID;
static PID_OF_STALL: Column = Column { rank: 5, ..PID };

/// In place of `MEM~` where some processes run one session each: the mark is the cell's.
static MEM: Column = Column {
    key: "mem_mb",
    title: "MEM",
    unit: "MB",
    what: "of its process; ~ shared equally",
    width: 6,
    widest: 9,
    grows_last: true,
    align: Align::Right,
    rank: 7,
    sort: Some(Sort::MemMb),
    value: memory,
};

/// The columns of the table of sessions.
pub fn sessions(snapshot: &Snapshot) -> Vec<&'static Column> {
    if snapshot.fleet.is_none() {
        return SESSIONS.iter().collect();
    }
    let columns = SESSIONS.iter().flat_map(|column| match column.key {
        "session_id" => vec![column, &PID_OF_SESSION],
        "mem_mb" => vec![&MEM],
        _ => vec![column],
    });
    columns.collect()
}

/// The columns of the table of stalls.
pub fn stalls(snapshot: &Snapshot) -> Vec<&'static Column> {
    let is_fleet = snapshot.fleet.is_some();
    let columns = STALLS.iter().flat_map(|column| match column.key {
        "session_id" if is_fleet => vec![column, &PID_OF_STALL],
        _ => vec![column],
    });
    columns.collect()
}
