//! Dumps as they are read: one of each state, hostile ones, empty ones.

use serde_json::Value;

use super::*;
use crate::model::IdType;
use crate::view::harmless::is_harmful;

fn frame(function: &str, file: &str, line: u32, is_user: bool) -> Frame {
    Frame { function: function.into(), file: file.into(), line: Some(line), is_user }
}

fn event() -> Frame {
    frame("Event.wait", "/usr/lib/python3.11/asyncio/locks.py", 213, false)
}

fn task(name: &str, doing: Doing) -> Task {
    Task { name: Some(name.into()), doing }
}

fn future(type_name: &str, task: Option<&str>) -> Future {
    Future { type_name: type_name.into(), task: task.map(Into::into) }
}

/// In `await event.wait()`, three awaits deep.
fn stuck() -> Doing {
    Doing {
        state: State::Waiting,
        coroutine: Some("Call.run".into()),
        waits_for: Some(future("_asyncio.Future", None)),
        stack: vec![
            event(),
            frame("Call.greet", "/app/agents/booking.py", 42, true),
            frame("entry", "/app/.venv/lib/python3.11/site-packages/livekit/job.py", 1034, false),
            frame("Call.run", "/app/main.py", 7, true),
        ],
        is_complete: true,
        awaits: None,
    }
}

fn waiting(coroutine: &str, ty: &str, name: Option<&str>, stack: Vec<Frame>) -> Doing {
    let coroutine = Some(coroutine.into());
    let state = State::Waiting;
    Doing {
        state,
        coroutine,
        waits_for: Some(future(ty, name)),
        stack,
        is_complete: true,
        awaits: None,
    }
}

fn session(id: &str, names: [Option<&str>; 2], tasks: Vec<Task>) -> Session {
    let [agent_name, tenant] = names.map(|name| name.map(Into::into));
    Session { session_id: id.into(), agent_name, tenant, tasks, ..Session::default() }
}

fn own(function: &str, line: u32) -> Frame {
    frame(function, "/app/main.py", line, true)
}

fn running() -> Doing {
    let blocked = frame("Semaphore.acquire", "/usr/lib/python3.11/threading.py", 479, false);
    Doing {
        state: State::Running { tid: Some(4711) },
        coroutine: Some("burn".into()),
        stack: vec![blocked, own("fib", 9), own("fib", 9), own("fib", 9), own("burn", 12)],
        is_complete: true,
        ..Doing::default()
    }
}

fn ready() -> Doing {
    let stack = vec![own("pump", 3)];
    let coroutine = Some("pump".into());
    Doing { state: State::Ready, coroutine, stack, is_complete: true, ..Doing::default() }
}

fn thread() -> Thread {
    let worker = "/usr/lib/python3.11/concurrent/futures/thread.py";
    let stack = vec![own("fetch", 99), frame("_WorkItem.run", worker, 58, false)];
    Thread { tid: 4712, stack, is_complete: false }
}

/// A task for each kind of thing that there is to tell.
fn full() -> Dump {
    let opaque = Doing {
        is_complete: false,
        awaits: Some("_cython_3_0_11.coroutine".into()),
        ..waiting("call", "_asyncio.Future", None, vec![own("call", 77)])
    };
    let deep = Doing { awaits: None, stack: vec![own("dig", 5); 12], ..opaque.clone() };
    let sleep = frame("sleep", "/usr/lib/python3.11/asyncio/tasks.py", 649, false);
    let sleeps = waiting("poll", "_asyncio.Future", None, vec![sleep, own("poll", 21)]);
    let gather = "asyncio.tasks._GatheringFuture";
    Dump {
        at_unix_ns: 1_767_323_045_678_901_234,
        pid: 4242,
        python: "3.11.2".into(),
        event_loop: "uvloop".into(),
        tag_found: true,
        sessions: vec![
            Session {
                threads: vec![thread()],
                ..session("AJ_1f3c", [Some("booking"), Some("t1")], vec![task("Task-12", stuck())])
            },
            session(
                "AJ_7Zp0",
                [Some("support"), None],
                vec![
                    task("Task-20", waiting("all", gather, None, vec![own("all", 30)])),
                    task(
                        "Task-21",
                        waiting("one", "_asyncio.Task", Some("Task-22"), vec![own("one", 31)]),
                    ),
                    task("Task-22", running()),
                    task("Task-23", ready()),
                    task("Task-24", opaque),
                    task("Task-25", deep),
                    Task::default(),
                ],
            ),
        ],
        untagged: ["poll-1", "poll-2", "poll-3", "poll-4", "poll-5"]
            .map(|name| task(name, sleeps.clone()))
            .into(),
        unread: 2,
    }
}

fn keep(name: &str, text: &str) {
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn dumps_as_they_are_read() {
    keep("dump", &text(&full()));
    keep("dump_json", &json(&full()));
    let empty = Dump { pid: 4242, python: "3.13.0".into(), ..Dump::default() };
    keep("dump_empty", &text(&empty));
}

#[test]
fn what_a_worker_says_moves_no_cursor() {
    let hostile = "a\u{1b}[2J\n\u{202e}b  c";
    let doing = Doing {
        state: State::Waiting,
        coroutine: Some(hostile.into()),
        waits_for: Some(future(hostile, Some(hostile))),
        stack: vec![frame(hostile, hostile, 1, true), frame(hostile, hostile, 2, false)],
        is_complete: false,
        awaits: Some(hostile.into()),
    };
    let other = Doing { waits_for: Some(future(hostile, None)), ..doing.clone() };
    let tasks = vec![task(hostile, doing), task(hostile, other)];
    let named = session(hostile, [Some(hostile); 2], tasks.clone());
    let dump = Dump {
        event_loop: hostile.into(),
        sessions: vec![named],
        untagged: tasks,
        ..Dump::default()
    };
    let lines = text(&dump);
    assert!(lines.lines().all(|line| !line.chars().any(is_harmful)), "{lines}");
    assert!(!json(&dump).chars().any(is_harmful));
    let value: Value = serde_json::from_str(&json(&dump)).unwrap();
    assert_eq!(value["sessions"][0]["tasks"][0]["stack"][0]["function"], hostile);
}

#[test]
fn a_file_is_named_from_its_package_on() {
    for (file, named) in [
        ("/usr/lib/python3.11/asyncio/locks.py", "asyncio/locks.py"),
        ("/app/.venv/lib/python3.12/site-packages/livekit/job.py", "livekit/job.py"),
        ("/usr/lib/python3/dist-packages/apt/cache.py", "apt/cache.py"),
        ("/usr/lib/python311.zip/asyncio/locks.py", "asyncio/locks.py"),
        ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap>"),
        ("/python3", "/python3"),
        ("", ""),
    ] {
        assert_eq!(short(file), named, "{file}");
    }
}

/// Names and kinds of the fields of an object.
fn fields(object: &Value) -> Vec<String> {
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fields = object.as_object().into_iter().flatten();
    fields.map(|(name, value)| format!("{name}:{}", kind(value))).collect()
}

fn are_fields(object: &Value, expected: &[&str]) {
    let mut expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
    expected.sort();
    assert_eq!(fields(object), expected);
}

#[test]
fn the_schema_is_kept() {
    let value: Value = serde_json::from_str(&json(&full())).unwrap();
    let top = [
        "type:string",
        "schema:number",
        "at:string",
        "pid:number",
        "python:string",
        "loop:string",
        "session_var_found:bool",
        "sessions:array",
        "untagged:array",
        "tasks_unread:number",
    ];
    are_fields(&value, &top);
    assert_eq!((&value["type"], &value["schema"]), (&"dump".into(), &1.into()));
    let session = [
        "session_id:string",
        "agent_name:string",
        "tenant:string",
        "session_id_is_cut:bool",
        "session_id_type:string",
        "tasks:array",
        "threads:array",
    ];
    are_fields(&value["sessions"][0], &session);
    let thread = &value["sessions"][0]["threads"][0];
    are_fields(thread, &["thread:number", "stack:array", "stack_complete:bool"]);
    let task = [
        "name:string",
        "state:string",
        "thread:null",
        "coroutine:string",
        "waits_for:object",
        "awaits:null",
        "stack:array",
        "stack_complete:bool",
    ];
    let stuck = &value["sessions"][0]["tasks"][0];
    are_fields(stuck, &task);
    are_fields(&stuck["waits_for"], &["type:string", "is_task:bool", "task:null"]);
    are_fields(&stuck["stack"][0], &["function:string", "file:string", "line:number", "user:bool"]);
    let tasks = value["sessions"][1]["tasks"].as_array().unwrap();
    let states: Vec<_> = tasks.iter().filter_map(|task| task["state"].as_str()).collect();
    let all = ["waiting", "waiting", "running", "ready", "waiting", "waiting", "unknown"];
    assert_eq!(states, all);
    assert_eq!(tasks[2]["thread"], 4711);
}

#[test]
fn what_is_not_known_is_null() {
    let other = Session { id_type: IdType::Other(None), ..Session::default() };
    let unread = Doing { stack: vec![Frame::default()], ..Doing::default() };
    let untagged = vec![Task::default(), Task { name: None, doing: unread }];
    let dump = Dump { sessions: vec![other], untagged, ..Dump::default() };
    let value: Value = serde_json::from_str(&json(&dump)).unwrap();
    assert!(value["sessions"][0]["session_id_type"].is_null());
    let [task, unread] = [0, 1].map(|at| &value["untagged"][at]);
    for name in ["name", "thread", "coroutine", "waits_for", "awaits"] {
        assert!(task[name].is_null(), "{name}");
    }
    assert_eq!(task["state"], "unknown");
    let frame = &unread["stack"][0];
    assert!(["function", "file", "line"].iter().all(|name| frame[*name].is_null()), "{frame}");
}
