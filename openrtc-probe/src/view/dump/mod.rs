//! What every session does, for an engineer on call.
//!
//! Each task is a line and the stack below it, innermost first, with `→` at the innermost place of the
//! user's own code. Tasks of a session that are alike but for their names are said once. Nothing is cut but
//! lists of names; files of the standard library and of packages are named from there on.

mod json;

use std::borrow::Cow;

pub use json::json;

use crate::dump::{Doing, Dump, Frame, Future, Session, State, Task, Thread, fold};
use crate::view::harmless::{harmless, width};
use crate::view::units::UNKNOWN;

/// Names of tasks that are alike that are listed; the others are counted.
const NAMES_LISTED: usize = 3;
/// Columns that a place may take before functions no longer stand below one another.
const PLACE_COLUMNS: usize = 48;
/// Types of futures that have a better name: that of what makes them.
const MAKERS: &[(&str, &str)] =
    &[("asyncio.tasks._GatheringFuture", "gather"), ("_asyncio.Future", "a future")];
/// Folders behind which a file's name says enough.
const KNOWN_FOLDERS: &[&str] = &["/site-packages/", "/dist-packages/"];

/// The dump as text, each line with its newline.
pub fn text(dump: &Dump) -> String {
    let mut lines = vec![header(dump)];
    lines.extend(dump.sessions.iter().flat_map(session));
    if !dump.untagged.is_empty() {
        lines.extend([String::new(), format!("untagged  {}", tasks(dump.untagged.len()))]);
        lines.extend(all(&dump.untagged));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn header(dump: &Dump) -> String {
    let event_loop = if dump.event_loop.is_empty() { "–" } else { &dump.event_loop };
    let mut facts = vec![
        format!("pid {}", dump.pid),
        format!("python {}", dump.python),
        format!("loop {}", harmless(event_loop)),
        if dump.tag_found {
            format!("sessions {}", dump.sessions.len())
        } else {
            "sessions – (no session variable found)".into()
        },
        format!("tasks {}", dump.tasks()),
    ];
    if dump.unread > 0 {
        facts.push(format!("of unknown sessions {}", dump.unread));
    }
    facts.join("  ")
}

/// So many tasks, in words.
pub fn tasks(count: usize) -> String {
    if count == 1 { "1 task".into() } else { format!("{count} tasks") }
}

fn session(session: &Session) -> Vec<String> {
    let cut = if session.id_is_cut { "…" } else { "" };
    let name = |name: &Option<String>| name.as_deref().map(|name| harmless(name).into_owned());
    let facts = [
        Some(format!("{}{cut}", harmless(&session.session_id))),
        name(&session.agent_name),
        name(&session.tenant),
        Some(tasks(session.tasks.len())),
    ];
    let facts: Vec<_> = facts.into_iter().flatten().collect();
    let mut lines = vec![String::new(), facts.join("  ")];
    lines.extend(within(session));
    lines
}

/// What is in a session: its tasks, and threads that are in none of them.
pub fn within(session: &Session) -> Vec<String> {
    let mut lines = all(&session.tasks);
    lines.extend(session.threads.iter().flat_map(thread));
    lines
}

fn thread(thread: &Thread) -> Vec<String> {
    let partial = (!thread.is_complete).then(partial);
    let head = format!("  thread {}  in this session, in none of its tasks", thread.tid);
    std::iter::once(head).chain(partial).chain(frames(&thread.stack)).collect()
}

/// That frames are missing within.
pub fn partial() -> String {
    "      … further in it could not be read".to_owned()
}

fn all(tasks: &[Task]) -> Vec<String> {
    fold(tasks).iter().flat_map(|group| alike(group)).collect()
}

/// Tasks that do the same.
fn alike(group: &[&Task]) -> Vec<String> {
    let Some(first) = group.first() else { return Vec::new() };
    let name = |task: &&Task| match &task.name {
        Some(name) => harmless(name).into_owned(),
        None => "–".into(),
    };
    let names: Vec<_> = group.iter().take(NAMES_LISTED).map(name).collect();
    let rest = group.len().saturating_sub(NAMES_LISTED);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    let count = if group.len() > 1 { format!("{} × ", group.len()) } else { String::new() };
    let head = format!("  {count}{}{more}  {}", names.join(", "), does(&first.doing));
    std::iter::once(head).chain(stack(&first.doing)).collect()
}

/// What a task does, in a few words.
fn does(doing: &Doing) -> String {
    match doing.state {
        State::Running { tid: Some(tid) } => format!("running on thread {tid}"),
        State::Running { tid: None } => "running".into(),
        State::Waiting => match waits_for(doing) {
            Some(what) => format!("waiting  {what}"),
            None => "waiting".into(),
        },
        State::Ready => "ready, its next step is due".into(),
        State::Unknown => "– it moved while it was read".into(),
    }
}

/// What a task waits for: another task, or what asyncio calls what it is in, or the future's own type.
fn waits_for(doing: &Doing) -> Option<Cow<'_, str>> {
    match (&doing.waits_for, doing.stack.first()) {
        (Some(Future { task: Some(name), .. }), _) if !name.is_empty() => {
            Some(format!("task {}", harmless(name)).into())
        }
        (Some(Future { task: Some(_), .. }), _) => Some("a task".into()),
        (_, Some(innermost)) if !innermost.is_user && !innermost.function.is_empty() => {
            Some(harmless(&innermost.function))
        }
        (Some(Future { type_name, .. }), _) if !type_name.is_empty() => {
            let made = MAKERS.iter().find(|(ty, _)| ty == type_name);
            Some(made.map_or_else(|| harmless(type_name), |(_, maker)| (*maker).into()))
        }
        _ => None,
    }
}

/// The lines below a task's.
fn stack(doing: &Doing) -> Vec<String> {
    let awaited = doing.awaits.iter().map(|what| format!("      awaits {}", harmless(what)));
    let is_partial = !doing.is_complete && !doing.stack.is_empty() && doing.awaits.is_none();
    awaited.chain(is_partial.then(partial)).chain(frames(&doing.stack)).collect()
}

/// A line for each frame. One place many times in a row is that of a recursion, and said once.
pub fn frames(stack: &[Frame]) -> Vec<String> {
    let runs = stack.chunk_by(|one, next| one == next);
    let runs: Vec<_> = runs.filter_map(|run| Some((run.first()?, run.len()))).collect();
    let places: Vec<_> = runs.iter().map(|(frame, _)| place(frame)).collect();
    let widths =
        places.iter().map(|place| width(place)).filter(|columns| *columns <= PLACE_COLUMNS);
    let columns = widths.max().unwrap_or(0);
    let user = runs.iter().position(|(frame, _)| frame.is_user);
    let lines = runs.iter().zip(&places).enumerate().map(|(at, ((frame, times), place))| {
        let mark = if user == Some(at) { '→' } else { ' ' };
        let pad = " ".repeat(columns.saturating_sub(width(place)));
        let times = if *times > 1 { format!("  × {times}") } else { String::new() };
        format!("    {mark} {place}{pad}  {}{times}", known(&frame.function))
    });
    lines.collect()
}

/// `file:line`, with `–` for a line that is not known.
fn place(frame: &Frame) -> String {
    let line = frame.line.map_or("–".into(), |line| line.to_string());
    let file = if frame.is_user { &frame.file } else { short(&frame.file) };
    format!("{}:{line}", known(file))
}

/// Untrusted text; `–` where there is none.
pub fn known(text: &str) -> Cow<'_, str> {
    if text.is_empty() { UNKNOWN.into() } else { harmless(text) }
}

/// A file of a package from the package on, and one of the standard library from there on.
fn short(file: &str) -> &str {
    let behind = |folder: &&str| file.rfind(*folder).map(|at| at + folder.len());
    let start = KNOWN_FOLDERS.iter().find_map(behind).or_else(|| behind_library(file));
    start.and_then(|start| file.get(start..)).unwrap_or(file)
}

/// Where a path goes on behind `/lib/python3.11/`.
fn behind_library(file: &str) -> Option<usize> {
    const FOLDER: &str = "/python3";
    let at = file.rfind(FOLDER)? + FOLDER.len();
    Some(at + file.get(at..)?.find('/')? + 1)
}

#[cfg(test)]
mod tests;
