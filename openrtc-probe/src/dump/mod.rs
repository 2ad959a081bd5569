//! One look at what every session does: its tasks, and what each of them waits for at which line.
//!
//! - Memory is read, nothing is attached: a look has no history, so it tells no time.
//! - `look.rs` brings the facts, this file holds what is made of them, `view/dump` shows it.
//! - **A chain of awaits counts only if it was read twice alike.** A task that moves faster than that is
//!   [`State::Unknown`], and nothing is said of what it waits for.

mod doing;
mod look;

use std::collections::HashMap;

pub use look::{Wanted, look};

pub use crate::model::Frame;
use crate::model::IdType;

/// A worker at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    /// When it was looked at, in nanoseconds since the Unix epoch.
    pub at_unix_ns: i128,
    /// Its process id.
    pub pid: u32,
    /// Its interpreter's version.
    pub python: String,
    /// The packages of the loops that run, sorted.
    pub event_loop: String,
    /// Whether there is what says which session a task is of.
    pub tag_found: bool,
    /// Its sessions that have tasks or threads, by id; only the one that was asked for, if one was.
    pub sessions: Vec<Session>,
    /// Tasks of no session; none where one session was asked for.
    pub untagged: Vec<Task>,
    /// Tasks of which it could not be told whose they are.
    pub unread: usize,
}

/// A session, and its tasks in order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Its id. Untrusted text.
    pub session_id: String,
    /// What the id is.
    pub id_type: IdType,
    /// Whether the id is longer than what is kept.
    pub id_is_cut: bool,
    /// Its agent's name. Untrusted text.
    pub agent_name: Option<String>,
    /// Its tenant. Untrusted text.
    pub tenant: Option<String>,
    /// Its tasks that are not done.
    pub tasks: Vec<Task>,
    /// Threads that are in its context and in no step of its tasks: in a plain callback, or in a function
    /// that was given to a thread.
    pub threads: Vec<Thread>,
}

/// A thread that runs something of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Its id in our pid namespace.
    pub tid: u32,
    /// Where it is, innermost first.
    pub stack: Vec<Frame>,
    /// Whether all of its frames are there.
    pub is_complete: bool,
}

/// A task that is not done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Its name; `None` where it has none, or none that could be read. Untrusted text.
    pub name: Option<String>,
    /// What is the same of tasks that are alike.
    pub doing: Doing,
}

/// What a task does, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Doing {
    /// Whether it runs.
    pub state: State,
    /// What its own coroutine is called, or the type of the object that it runs instead; `None` where it
    /// could not be read. Untrusted text.
    pub coroutine: Option<String>,
    /// The future that it waits for.
    pub waits_for: Option<Future>,
    /// Where it is, innermost first; empty where that is not known. The last one is the task's own coroutine.
    pub stack: Vec<Frame>,
    /// Whether the stack goes from the task's own coroutine down to what it waits for, or to what runs.
    pub is_complete: bool,
    /// The type of the object that the innermost frame awaits, where that is one into which we cannot
    /// look. Untrusted text.
    pub awaits: Option<String>,
}

/// Whether a task runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// A thread is in one of its steps.
    Running {
        /// Its id in our pid namespace; `None` where the task did not run any more when threads were looked at.
        tid: Option<u32>,
    },
    /// It waits for a future that is not done.
    Waiting,
    /// It waits for nothing: its next step is due, also where it has not begun.
    Ready,
    /// It changed faster than it could be read, or is of a kind that does not tell.
    #[default]
    Unknown,
}

/// A future that a task waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Future {
    /// Its type, such as `_asyncio.Future`; empty where it could not be read. Untrusted text.
    pub type_name: String,
    /// Where it is a task: its name, empty where it could not be read. Untrusted text.
    pub task: Option<String>,
}

impl Dump {
    /// How many tasks there are, those left out that were not asked for.
    pub fn tasks(&self) -> usize {
        self.sessions.iter().map(|session| session.tasks.len()).sum::<usize>() + self.untagged.len()
    }
}

/// Tasks that are alike but for their names, in the order of the first of each.
pub fn fold(tasks: &[Task]) -> Vec<Vec<&Task>> {
    let mut groups: Vec<Vec<&Task>> = Vec::new();
    let mut places = HashMap::new();
    for task in tasks {
        let at = *places.entry(&task.doing).or_insert(groups.len());
        match groups.get_mut(at) {
            Some(group) => group.push(task),
            None => groups.push(vec![task]),
        }
    }
    groups
}
