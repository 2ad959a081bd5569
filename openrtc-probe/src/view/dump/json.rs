//! The dump as one JSON object (schema 1 of `docs/output.md`): every task by itself.

use serde::Serialize;

use crate::dump::{Dump, Frame, Future, Session, State, Task, Thread};
use crate::model::IdType;
use crate::view::json::line;
use crate::view::units::rfc3339;

/// What a task takes, about.
const TASK_BYTES: usize = 1024;

/// The dump as one JSON object, without a newline.
pub fn json(dump: &Dump) -> String {
    let object = DumpLine {
        r#type: "dump",
        schema: 1,
        at: rfc3339(dump.at_unix_ns),
        pid: dump.pid,
        python: &dump.python,
        r#loop: &dump.event_loop,
        session_var_found: dump.tag_found,
        sessions: dump.sessions.iter().map(SessionObject::of).collect(),
        untagged: dump.untagged.iter().map(TaskObject::of).collect(),
        tasks_unread: dump.unread,
    };
    line(&object, 256 + dump.tasks() * TASK_BYTES)
}

#[derive(Serialize)]
struct DumpLine<'a> {
    r#type: &'static str,
    schema: u32,
    at: Option<String>,
    pid: u32,
    python: &'a str,
    r#loop: &'a str,
    session_var_found: bool,
    sessions: Vec<SessionObject<'a>>,
    untagged: Vec<TaskObject<'a>>,
    tasks_unread: usize,
}

#[derive(Serialize)]
struct SessionObject<'a> {
    session_id: &'a str,
    agent_name: Option<&'a str>,
    tenant: Option<&'a str>,
    session_id_is_cut: bool,
    session_id_type: Option<&'a str>,
    tasks: Vec<TaskObject<'a>>,
    threads: Vec<ThreadObject<'a>>,
}

impl<'a> SessionObject<'a> {
    fn of(session: &'a Session) -> Self {
        Self {
            session_id: &session.session_id,
            agent_name: session.agent_name.as_deref(),
            tenant: session.tenant.as_deref(),
            session_id_is_cut: session.id_is_cut,
            session_id_type: match &session.id_type {
                IdType::Text => Some("str"),
                IdType::Other(name) => name.as_deref(),
            },
            tasks: session.tasks.iter().map(TaskObject::of).collect(),
            threads: session.threads.iter().map(ThreadObject::of).collect(),
        }
    }
}

#[derive(Serialize)]
struct TaskObject<'a> {
    name: Option<&'a str>,
    state: &'static str,
    thread: Option<u32>,
    coroutine: Option<&'a str>,
    waits_for: Option<WaitObject<'a>>,
    awaits: Option<&'a str>,
    stack: Vec<FrameObject<'a>>,
    stack_complete: bool,
}

impl<'a> TaskObject<'a> {
    fn of(task: &'a Task) -> Self {
        let doing = &task.doing;
        let (state, thread) = match doing.state {
            State::Running { tid } => ("running", tid),
            State::Waiting => ("waiting", None),
            State::Ready => ("ready", None),
            State::Unknown => ("unknown", None),
        };
        Self {
            name: task.name.as_deref(),
            state,
            thread,
            coroutine: doing.coroutine.as_deref(),
            waits_for: doing.waits_for.as_ref().map(WaitObject::of),
            awaits: doing.awaits.as_deref(),
            stack: doing.stack.iter().map(FrameObject::of).collect(),
            stack_complete: doing.is_complete,
        }
    }
}

#[derive(Serialize)]
struct ThreadObject<'a> {
    thread: u32,
    stack: Vec<FrameObject<'a>>,
    stack_complete: bool,
}

impl<'a> ThreadObject<'a> {
    fn of(thread: &'a Thread) -> Self {
        let stack = thread.stack.iter().map(FrameObject::of).collect();
        Self { thread: thread.tid, stack, stack_complete: thread.is_complete }
    }
}

#[derive(Serialize)]
struct WaitObject<'a> {
    r#type: Option<&'a str>,
    is_task: bool,
    task: Option<&'a str>,
}

impl<'a> WaitObject<'a> {
    fn of(future: &'a Future) -> Self {
        Self {
            r#type: known(&future.type_name),
            is_task: future.task.is_some(),
            task: future.task.as_deref().and_then(known),
        }
    }
}

/// What could not be read is empty in the facts, and `null` here.
fn known(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

#[derive(Serialize)]
struct FrameObject<'a> {
    function: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<u32>,
    user: bool,
}

impl<'a> FrameObject<'a> {
    fn of(frame: &'a Frame) -> Self {
        let Frame { function, file, line, is_user } = frame;
        Self { function: known(function), file: known(file), line: *line, user: *is_user }
    }
}
