//! Any names on every view: none harms a terminal, or is another to a parser.

#![expect(clippy::missing_panics_doc, reason = "to panic is how a fault is told")]

use ratatui::{Terminal, backend::TestBackend};
use serde_json::Value;

use crate::model::{Frame, IdType, Snapshot, Stall};

use super::{
    harmless::{is_harmful, width},
    json, log_line, once,
    order::Order,
    samples,
    top::{Palette, Screen, draw},
};

/// Between two names.
const SEPARATOR: u8 = 0x1e;
/// A terminal's columns: the usual, and little.
const COLUMNS: [usize; 2] = [80, 40];
const LINES: u16 = 24;

/// What names are put into.
const SAMPLES: [fn() -> Snapshot; 15] = [
    samples::three,
    samples::odd_tags,
    samples::fleet,
    samples::lost,
    samples::tag_not_found,
    samples::hostile,
    samples::ended,
    samples::hot,
    samples::memory,
    samples::overloaded,
    samples::sampled,
    samples::starved,
    samples::twelve,
    samples::wedged,
    samples::five_hundred,
];

/// Sessions of a sample that are shown: more say nothing new.
const MAX_SESSIONS: usize = 40;

/// A worker whose names are the pieces of `data`, on each view; the first byte chooses the worker and the terminal.
pub fn output(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    let Some(sample) = SAMPLES.get(usize::from(*which) % SAMPLES.len()) else { return };
    let names: Vec<String> = data
        .split(|byte| *byte == SEPARATOR)
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    let snapshot = named(sample(), &names);
    // Of several workers each is a line of its own.
    snapshot.fleet.as_deref().unwrap_or(std::slice::from_ref(&snapshot)).iter().for_each(parsed);
    for stall in &snapshot.stalls {
        one_line(&log_line::stall(stall, true));
        let line = json::stall(stall);
        one_line(&line);
        assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
    }
    let columns = COLUMNS[usize::from(*which) / SAMPLES.len() % COLUMNS.len()];
    for columns in [None, Some(columns)] {
        let text = once::render(&snapshot, &Order::default(), columns);
        text.lines().for_each(one_line);
    }
    drawn(&snapshot, columns);
}

/// Names wherever a worker's own may stand.
fn named(mut it: Snapshot, names: &[String]) -> Snapshot {
    it.sessions.truncate(MAX_SESSIONS);
    let mut names = names.iter().cycle().cloned();
    let mut next = || names.next().unwrap_or_default();
    for session in &mut it.sessions {
        session.session_id = next().into();
        session.agent_name = Some(next().into());
        session.tenant = Some(next().into());
        session.id_type = IdType::Other(Some(next()));
    }
    for stall in &mut it.stalls {
        name_stall(stall, &mut next);
    }
    it.worker.python = next();
    it.worker.event_loop = next();
    it.notes = vec![next()];
    it.fleet = it.fleet.map(|all| all.into_iter().map(|one| named(one, &[next()])).collect());
    it
}

fn name_stall(stall: &mut Stall, next: &mut impl FnMut() -> String) {
    stall.session_id = Some(next().into());
    stall.agent_name = Some(next().into());
    stall.tenant = Some(next().into());
    if let Some(late) = &mut stall.anatomy.late {
        late.session_ids = vec![next(), next()];
    }
    for capture in &mut stall.anatomy.captures {
        capture.native = Some(next());
        let frames = capture.stack.iter_mut().flat_map(|stack| &mut stack.frames);
        for Frame { function, file, .. } in frames {
            *function = next();
            *file = next();
        }
    }
}

/// A parser gets the very names.
fn parsed(snapshot: &Snapshot) {
    let line = json::snapshot(snapshot, &Order::default());
    one_line(&line);
    let Ok(object) = serde_json::from_str::<Value>(&line) else {
        unreachable!("no JSON: {line}");
    };
    let listed = object["sessions"].as_array().into_iter().flatten();
    let mut listed: Vec<_> = listed.filter_map(|it| it["session_id"].as_str()).collect();
    let mut given: Vec<_> = snapshot.sessions.iter().map(|it| it.session_id.as_str()).collect();
    listed.sort_unstable();
    given.sort_unstable();
    assert_eq!(listed, given);
}

fn drawn(snapshot: &Snapshot, columns: usize) {
    let size = (columns as u16, LINES);
    let Ok(mut terminal) = Terminal::new(TestBackend::new(size.0, size.1));
    let screen = Screen::new(Order::default(), Palette::new(true), 1.0);
    let screen = screen.fit(snapshot, size.0, size.1);
    let Ok(frame) = terminal.draw(|frame| draw(frame, snapshot, &screen));
    for line in frame.buffer.content.chunks(columns) {
        for cell in line {
            one_line(cell.symbol());
        }
        let wide = line.iter().map(|cell| width(cell.symbol()).saturating_sub(1)).sum::<usize>();
        assert!(wide <= columns, "{wide} cells are covered by others");
    }
}

fn one_line(text: &str) {
    assert!(!text.chars().any(is_harmful), "{text:?}");
}
