//! Schema 1 of `--json`, as `docs/output.md` documents it: one object a line.
//!
//! - Fields are only ever added, at the end of an object; a change of meaning is a new schema.
//! - Unknown is `null`; every field is always there, but `final`, which only the last snapshot has.
//! - What a terminal must not get (`harmless::is_harmful`) is written as `\uXXXX`, so the text means
//!   the same to a parser and is harmless to a reader.

mod stall;

use std::io;

use serde::{Serialize, Serializer};
use serde_json::ser::{CompactFormatter, Formatter};

pub use stall::stall;

use crate::model::{IdType, Session, Snapshot, Untagged, Usage, Worker};
use crate::view::harmless::is_harmful;
use crate::view::order::Order;
use crate::view::units::{megabytes, millis, percent, rfc3339, seconds, thousandths};
use crate::view::verdict::{Words, words};

/// What one session takes, about; saves growing the buffer.
const SESSION_BYTES: usize = 512;

/// One snapshot, without a newline. `order` selects and orders the sessions; what is about the whole
/// worker stays whole.
pub fn snapshot(snapshot: &Snapshot, order: &Order) -> String {
    let sessions = order.apply(&snapshot.sessions);
    line(
        &SnapshotLine {
            r#type: "snapshot",
            schema: 1,
            at: rfc3339(snapshot.at_unix_ns),
            elapsed_s: seconds(snapshot.elapsed_ns),
            worker: WorkerObject::of(&snapshot.worker),
            untagged: Numbers::of_untagged(&snapshot.untagged),
            sessions: &sessions,
            health: Health { lost: &snapshot.health.lost, mended: &snapshot.health.mended },
            r#final: snapshot.is_final.then_some(true),
            verdict: VerdictObject::of(words(snapshot)),
        },
        1024 + sessions.len() * SESSION_BYTES,
    )
}

#[derive(Serialize)]
struct SnapshotLine<'a> {
    r#type: &'static str,
    schema: u32,
    at: Option<String>,
    elapsed_s: f64,
    worker: WorkerObject<'a>,
    untagged: Numbers,
    #[serde(serialize_with = "as_objects")]
    sessions: &'a [&'a Session],
    health: Health<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#final: Option<bool>,
    verdict: VerdictObject,
}

#[derive(Serialize)]
struct VerdictObject {
    kind: &'static str,
    text: String,
    evidence: String,
}

impl VerdictObject {
    fn of(words: Words) -> Self {
        Self { kind: words.kind, text: words.headline, evidence: words.evidence }
    }
}

#[derive(Serialize)]
struct WorkerObject<'a> {
    pid: u32,
    python: &'a str,
    r#loop: &'a str,
    cpu_pct: Option<f64>,
    cpu_seconds: f64,
    rss_mb: Option<f64>,
    threads: u32,
    polls: u64,
    polls_per_s: Option<f64>,
    loop_overhead_cpu_seconds: f64,
    other_threads_cpu_seconds: f64,
    accounted_pct: Option<f64>,
    session_var_found: bool,
    loop_overhead_cpu_pct: Option<f64>,
    other_threads_cpu_pct: Option<f64>,
    ended_sessions_cpu_seconds: f64,
    session_vars: usize,
    tasks_tagged_elsewhere: usize,
}

impl<'a> WorkerObject<'a> {
    fn of(worker: &'a Worker) -> Self {
        Self {
            pid: worker.pid,
            python: &worker.python,
            r#loop: &worker.event_loop,
            cpu_pct: rounded_percent(worker.cpu_ratio),
            cpu_seconds: seconds(worker.cpu_ns),
            rss_mb: rounded_megabytes(worker.rss_bytes),
            threads: worker.threads,
            polls: worker.polls,
            polls_per_s: worker.polls_per_s.map(thousandths),
            loop_overhead_cpu_seconds: seconds(worker.loop_overhead_cpu_ns),
            other_threads_cpu_seconds: seconds(worker.other_threads_cpu_ns),
            accounted_pct: rounded_percent(worker.accounted_ratio),
            session_var_found: worker.tag_found,
            loop_overhead_cpu_pct: rounded_percent(worker.loop_overhead_cpu_ratio),
            other_threads_cpu_pct: rounded_percent(worker.other_threads_cpu_ratio),
            ended_sessions_cpu_seconds: seconds(worker.ended_cpu_ns),
            session_vars: worker.tag_vars,
            tasks_tagged_elsewhere: worker.tasks_tagged_elsewhere,
        }
    }
}

/// What a session and the untagged polls have in common.
#[derive(Serialize)]
struct Numbers {
    cpu_pct: Option<f64>,
    cpu_seconds: f64,
    loop_cpu_seconds: f64,
    offloaded_cpu_seconds: f64,
    off_cpu_seconds: f64,
    run_queue_seconds: f64,
    polls: u64,
    longest_poll_ms: f64,
    stalls: u64,
}

impl Numbers {
    fn of_untagged(untagged: &Untagged) -> Self {
        Self::of(&untagged.usage, untagged.cpu_ratio)
    }

    fn of(usage: &Usage, cpu_ratio: Option<f64>) -> Self {
        Self {
            cpu_pct: rounded_percent(cpu_ratio),
            cpu_seconds: seconds(usage.cpu_ns()),
            loop_cpu_seconds: seconds(usage.loop_cpu_ns),
            offloaded_cpu_seconds: seconds(usage.offloaded_cpu_ns),
            off_cpu_seconds: seconds(usage.off_cpu_ns),
            run_queue_seconds: seconds(usage.run_queue_ns),
            polls: usage.polls,
            longest_poll_ms: millis(usage.longest_poll_ns),
            stalls: usage.stalls,
        }
    }
}

#[derive(Serialize)]
struct SessionObject<'a> {
    session_id: &'a str,
    agent_name: Option<&'a str>,
    tenant: Option<&'a str>,
    duration_s: f64,
    duration_is_lower_bound: bool,
    #[serde(flatten)]
    numbers: Numbers,
    mem_mb: Option<f64>,
    peak_mb: Option<f64>,
    status: &'static str,
    session_id_is_cut: bool,
    session_id_type: Option<&'a str>,
    mem_is_own: bool,
}

impl<'a> SessionObject<'a> {
    fn of(session: &'a Session) -> Self {
        Self {
            session_id: &session.session_id,
            agent_name: session.agent_name.as_deref(),
            tenant: session.tenant.as_deref(),
            duration_s: seconds(session.duration_ns),
            duration_is_lower_bound: session.duration_is_lower_bound,
            numbers: Numbers::of(&session.usage, session.cpu_ratio),
            mem_mb: rounded_megabytes(session.mem_bytes),
            peak_mb: rounded_megabytes(session.peak_bytes),
            status: session.status.as_str(),
            session_id_is_cut: session.id_is_cut,
            session_id_type: type_name(&session.id_type),
            mem_is_own: session.mem_is_own,
        }
    }
}

/// The type's name as Python has it.
fn type_name(id_type: &IdType) -> Option<&str> {
    match id_type {
        IdType::Text => Some("str"),
        IdType::Other(name) => name.as_deref(),
    }
}

#[derive(Serialize)]
struct Health<'a> {
    #[serde(serialize_with = "as_object")]
    lost: &'a [(&'static str, u64)],
    #[serde(serialize_with = "as_object")]
    mended: &'a [(&'static str, u64)],
}

/// One after the other: there may be thousands.
fn as_objects<S: Serializer>(sessions: &&[&Session], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(sessions.iter().map(|session| SessionObject::of(session)))
}

fn as_object<S: Serializer>(lost: &&[(&'static str, u64)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(lost.iter().copied())
}

fn rounded_percent(ratio: Option<f64>) -> Option<f64> {
    ratio.map(|ratio| thousandths(percent(ratio)))
}

fn rounded_megabytes(bytes: Option<u64>) -> Option<f64> {
    bytes.map(|bytes| thousandths(megabytes(bytes)))
}

/// The value on one line.
pub(super) fn line<T: Serialize>(value: &T, capacity: usize) -> String {
    let mut out = Vec::with_capacity(capacity);
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Escaping));
    // Memory takes every write and all keys are strings: there is nothing left that could fail.
    debug_assert!(written.is_ok());
    String::from_utf8(out).unwrap_or_default()
}

/// Compact JSON in which what a terminal must not get is escaped.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        // Most is plain, and there is much of it.
        if fragment.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return CompactFormatter.write_string_fragment(writer, fragment);
        }
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| is_harmful(c)) {
            CompactFormatter.write_string_fragment(writer, &rest[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Anatomy, GilHolder, Process, Stall, Status};
    use crate::view::samples;
    use serde_json::{Value, json};

    const WORKER: &[&str] = &[
        "pid:number",
        "python:string",
        "loop:string",
        "cpu_pct:number?",
        "cpu_seconds:number",
        "rss_mb:number?",
        "threads:number",
        "polls:number",
        "polls_per_s:number?",
        "loop_overhead_cpu_seconds:number",
        "other_threads_cpu_seconds:number",
        "accounted_pct:number?",
        "session_var_found:bool",
        "loop_overhead_cpu_pct:number?",
        "other_threads_cpu_pct:number?",
        "ended_sessions_cpu_seconds:number",
        "session_vars:number",
        "tasks_tagged_elsewhere:number",
    ];
    const NUMBERS: &[&str] = &[
        "cpu_pct:number?",
        "cpu_seconds:number",
        "loop_cpu_seconds:number",
        "offloaded_cpu_seconds:number",
        "off_cpu_seconds:number",
        "run_queue_seconds:number",
        "polls:number",
        "longest_poll_ms:number",
        "stalls:number",
    ];
    const SESSION_HEAD: &[&str] = &[
        "session_id:string",
        "agent_name:string?",
        "tenant:string?",
        "duration_s:number",
        "duration_is_lower_bound:bool",
    ];
    const SESSION_TAIL: &[&str] = &[
        "mem_mb:number?",
        "peak_mb:number?",
        "status:string",
        "session_id_is_cut:bool",
        "session_id_type:string?",
        "mem_is_own:bool",
    ];
    const STALL: &[&str] = &[
        "type:string",
        "stall_id:number",
        "session_id:string?",
        "agent_name:string?",
        "tenant:string?",
        "started_at:string?",
        "ongoing:bool",
        "duration_ms:number",
        "on_cpu_ms:number",
        "off_cpu_ms:number",
        "run_queue_ms:number",
        "duration_is_lower_bound:bool",
        "session_id_is_cut:bool",
        "session_id_type:string?",
        "pid:number",
        "cause:string?",
        "syscall:string?",
        "causes_ms:object",
        "stack:array",
        "stack_complete:bool",
        "native:string?",
        "bystanders:number?",
        "lost_session_ms:number?",
        "bystander_ids:array",
        "descriptor:string?",
        "gil_held:bool?",
        "gil_holder:object?",
        "cpu_holder:object?",
        "stolen_ms:number?",
        "captures:array",
    ];

    fn full() -> Snapshot {
        let usage = Usage { loop_cpu_ns: 1_500_000_000, offloaded_cpu_ns: 1, ..Usage::default() };
        Snapshot {
            worker: Worker {
                pid: 42,
                cpu_ratio: Some(0.123_456_789),
                rss_bytes: Some(1 << 30),
                polls_per_s: Some(1.0),
                cpu_ns: 4_000_000_000,
                loop_overhead_cpu_ns: 300_000_000,
                other_threads_cpu_ns: 200_000_000,
                ended_cpu_ns: 492_000_000,
                loop_overhead_cpu_ratio: Some(0.25),
                other_threads_cpu_ratio: Some(0.0),
                accounted_ratio: Some(0.998),
                ..Worker::default()
            },
            untagged: Untagged { usage, cpu_ratio: Some(0.0) },
            sessions: vec![Session {
                session_id: "AJ_1".into(),
                agent_name: Some("booking".into()),
                tenant: Some("t1".into()),
                cpu_ratio: Some(0.5),
                mem_bytes: Some(3 << 20),
                peak_bytes: Some(4 << 20),
                usage,
                status: Status::Slow,
                ..Session::default()
            }],
            health: crate::model::Health {
                lost: vec![("ring_full", 3), ("read_failed", 1)],
                mended: vec![("switch_unheard", 2)],
            },
            ..Snapshot::default()
        }
    }

    fn render(it: &Snapshot) -> Value {
        parse(&snapshot(it, &Order::default()))
    }

    fn parse(text: &str) -> Value {
        assert!(!text.contains('\n'));
        serde_json::from_str(text).unwrap()
    }

    /// The keys of the first object after `opening`, in the order of the text: a parsed map would
    /// have sorted them.
    fn keys<'a>(text: &'a str, opening: &str) -> Vec<&'a str> {
        let start = text.find(opening).unwrap() + opening.len();
        let mut depth = 0;
        let mut keys = Vec::new();
        for (at, c) in text[start..].char_indices() {
            match c {
                '{' | '[' => depth += 1,
                '}' | ']' if depth == 0 => break,
                '}' | ']' => depth -= 1,
                ':' if depth == 0 && text[..start + at].ends_with('"') => {
                    let end = start + at - 1;
                    keys.push(&text[text[..end].rfind('"').unwrap() + 1..end]);
                }
                _ => {}
            }
        }
        keys
    }

    fn assert_schema(text: &str, opening: &str, object: &Value, expected: &[&str]) {
        let names: Vec<_> = expected.iter().map(|e| e.split(':').next().unwrap()).collect();
        assert_eq!(keys(text, opening), names);
        for (name, expected) in names.iter().zip(expected) {
            let (kind, optional) = match &object[*name] {
                Value::Null => ("null", true),
                Value::Bool(_) => ("bool", false),
                Value::Number(_) => ("number", false),
                Value::String(_) => ("string", false),
                Value::Array(_) => ("array", false),
                Value::Object(_) => ("object", false),
            };
            let fits = if optional { expected.ends_with('?') } else { expected.contains(kind) };
            assert!(fits, "{expected} is {kind}");
        }
    }

    #[test]
    fn the_schema_is_kept() {
        for it in [full(), Snapshot { sessions: vec![Session::default()], ..Snapshot::default() }] {
            let text = snapshot(&it, &Order::default());
            let value = parse(&text);
            let top = [
                "type:string",
                "schema:number",
                "at:string",
                "elapsed_s:number",
                "worker:object",
                "untagged:object",
                "sessions:array",
                "health:object",
                "verdict:object",
            ];
            assert_schema(&text, "{", &value, &top);
            let verdict = ["kind:string", "text:string", "evidence:string"];
            assert_schema(&text, "\"verdict\":{", &value["verdict"], &verdict);
            assert_schema(&text, "\"worker\":{", &value["worker"], WORKER);
            assert_schema(&text, "\"untagged\":{", &value["untagged"], NUMBERS);
            let session = [SESSION_HEAD, NUMBERS, SESSION_TAIL].concat();
            assert_schema(&text, "\"sessions\":[{", &value["sessions"][0], &session);
            assert_schema(
                &text,
                "\"health\":{",
                &value["health"],
                &["lost:object", "mended:object"],
            );
        }
        for it in [Stall::default(), Stall { session_id: Some("a".into()), ..Stall::default() }] {
            let text = stall(&it);
            assert_schema(&text, "{", &parse(&text), STALL);
        }
    }

    #[test]
    fn the_schema_of_a_stall_goes_down_to_its_frames() {
        let mut anatomy = samples::anatomy(1, 2, 3);
        anatomy.cpu_holder = Some(Process { pid: 7, name: Some("rustc".into()) });
        anatomy.captures[0].gil_holder = Some(GilHolder { tid: 9, session_id: None });
        let text = stall(&Stall { anatomy, ..Stall::default() });
        let value = parse(&text);
        assert_schema(&text, "{", &value, STALL);
        let frame = ["function:string", "file:string", "line:number?", "user:bool"];
        assert_schema(&text, "\"stack\":[{", &value["stack"][0], &frame);
        let holder = ["pid:number", "name:string?"];
        assert_schema(&text, "\"cpu_holder\":{", &value["cpu_holder"], &holder);
        let look =
            ["at_ms:number", "function:string?", "file:string?", "line:number?", "native:string?"];
        assert_schema(&text, "\"captures\":[{", &value["captures"][0], &look);
        assert_eq!(value["cause"], "run-queue");
        assert_eq!(value["causes_ms"]["sleep"], 0.000_002);
        assert!(value["gil_holder"].is_null(), "it did not wait for it");
    }

    #[test]
    fn what_is_not_known_of_a_stall_is_null_and_what_is_none_is_empty() {
        let value = parse(&stall(&Stall { anatomy: Anatomy::default(), ..Stall::default() }));
        for unknown in ["cause", "syscall", "native", "bystanders", "lost_session_ms", "gil_held"] {
            assert!(value[unknown].is_null(), "{unknown}");
        }
        assert_eq!((&value["stack"], &value["stack_complete"]), (&json!([]), &json!(false)));
    }

    #[test]
    fn values_and_units() {
        let value = render(&full());
        assert_eq!(value["type"], "snapshot");
        assert_eq!(value["schema"], 1);
        assert_eq!(value["at"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(value["worker"]["cpu_pct"], 12.346);
        assert_eq!(value["worker"]["rss_mb"], 1024.0);
        assert_eq!(value["worker"]["accounted_pct"], 99.8);
        assert_eq!(value["sessions"][0]["cpu_seconds"], 1.500_000_001);
        assert_eq!(value["sessions"][0]["offloaded_cpu_seconds"], 1e-9);
        assert_eq!(value["sessions"][0]["mem_mb"], 3.0);
        assert_eq!(value["sessions"][0]["status"], "slow");
        assert_eq!(value["health"]["lost"]["ring_full"], 3);
        let stall = Stall { duration_ns: 126_123_456, ongoing: true, ..Stall::default() };
        assert_eq!(parse(&super::stall(&stall))["duration_ms"], 126.123_456);
    }

    #[test]
    fn a_reader_can_redo_the_sum() {
        let value = render(&full());
        let worker = &value["worker"];
        let number = |object: &Value, name: &str| object[name].as_f64().unwrap();
        let sessions = value["sessions"].as_array().unwrap();
        let sum = sessions.iter().map(|session| number(session, "cpu_seconds")).sum::<f64>()
            + number(&value["untagged"], "cpu_seconds")
            + number(worker, "loop_overhead_cpu_seconds")
            + number(worker, "other_threads_cpu_seconds")
            + number(worker, "ended_sessions_cpu_seconds");
        let accounted = number(worker, "accounted_pct") / 100.0 * number(worker, "cpu_seconds");
        assert!((sum - accounted).abs() < 1e-6, "{sum} {accounted}");
        assert_eq!(worker["loop_overhead_cpu_pct"], 25.0);
        assert_eq!(worker["other_threads_cpu_pct"], 0.0);
    }

    #[test]
    fn what_is_unknown_is_null() {
        let mut it = Snapshot::default();
        it.worker.cpu_ratio = Some(f64::NAN);
        it.at_unix_ns = i128::MAX;
        let value = render(&it);
        assert!(value["worker"]["cpu_pct"].is_null());
        assert!(value["worker"]["rss_mb"].is_null());
        assert!(value["at"].is_null());
        assert!(parse(&stall(&Stall::default()))["session_id"].is_null());
    }

    #[test]
    fn an_id_that_is_no_text_has_its_type() {
        for (id_type, name) in [
            (IdType::Text, Value::from("str")),
            (IdType::Other(Some("uuid.UUID".into())), Value::from("uuid.UUID")),
            (IdType::Other(None), Value::Null),
        ] {
            let session = Session { id_type: id_type.clone(), ..Session::default() };
            let it = Snapshot { sessions: vec![session], ..Snapshot::default() };
            assert_eq!(render(&it)["sessions"][0]["session_id_type"], name);
            let stalled = Stall { session_id: Some("x".into()), id_type, ..Stall::default() };
            assert_eq!(parse(&stall(&stalled))["session_id_type"], name);
        }
        assert!(parse(&stall(&Stall::default()))["session_id_type"].is_null(), "untagged");
    }

    #[test]
    fn only_the_last_one_is_final() {
        let last = Snapshot { is_final: true, ..full() };
        assert_eq!(render(&last)["final"], true);
        assert!(render(&full()).get("final").is_none());
    }

    #[test]
    fn sessions_follow_the_order() {
        let mut it = full();
        it.sessions.push(Session { session_id: "AJ_2".into(), ..Session::default() });
        let agent = Order { agent: Some("booking".into()), ..Order::default() };
        let value = parse(&snapshot(&it, &agent));
        assert_eq!(value["sessions"].as_array().map(Vec::len), Some(1));
        assert_eq!(render(&it)["sessions"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn a_terminal_gets_nothing_harmful_and_a_parser_the_whole_text() {
        let hostile = "a\"\\\n\u{1b}[2J\u{7f}\u{9b}2J\u{202e}\u{200b}\u{e0041}\u{fffe}é日👍";
        let text = stall(&Stall { session_id: Some(hostile.into()), ..Stall::default() });
        assert!(!text.chars().any(is_harmful), "{text}");
        assert!(text.contains("\\u007f\\u009b2J\\u202e\\u200b\\udb40\\udc41\\ufffeé日👍"));
        assert_eq!(parse(&text)["session_id"], hostile);
    }
}
