//! The schema, and what stands in it.

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
    "uptime_s:number?",
    "sessions_seen:number",
    "poll_cpu_pct:number?",
    "loop_run_queue_pct:number?",
    "loop_delay_ms:object?",
    "rss_growth_mb_per_min:number?",
    "stall_threshold_ms:number",
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
    "polls_per_s:number?",
    "idle_s:number",
    "stalls_last_minute:number",
    "cpu_error_seconds:number?",
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
            uptime_ns: Some(3_600_000_000_000),
            sessions_seen: 7,
            loop_delay: Some(LoopDelay {
                p50_ns: Some(0),
                p99_ns: Some(1_500_000),
                max_ns: 71_000_000,
            }),
            rss_growth_bytes: Some(-(3 << 19)),
            ..Worker::default()
        },
        untagged: Untagged { usage, cpu_ratio: Some(0.0), cpu_se_ns: None },
        sessions: vec![Session {
            session_id: "AJ_1".into(),
            agent_name: Some("booking".into()),
            tenant: Some("t1".into()),
            cpu_ratio: Some(0.5),
            mem_bytes: Some(3 << 20),
            peak_bytes: Some(4 << 20),
            polls_per_s: Some(12.5),
            idle_ns: 2_500_000_000,
            stalls_last_minute: 4,
            usage,
            status: Status::Slow,
            ..Session::default()
        }],
        health: crate::model::Health {
            lost: vec![("ring_full", 3), ("read_failed", 1)],
            mended: vec![("switch_unheard", 2)],
        },
        threshold_ns: 50_000_000,
        cost: Cost { worker_cpu_ratio: Some(0.012), ..Cost::default() },
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
            "cost:object",
            "verdict:object",
            "accounting:object",
        ];
        assert_schema(&text, "{", &value, &top);
        let verdict = ["kind:string", "text:string", "evidence:string"];
        assert_schema(&text, "\"verdict\":{", &value["verdict"], &verdict);
        assert_schema(&text, "\"worker\":{", &value["worker"], WORKER);
        assert_schema(&text, "\"untagged\":{", &value["untagged"], NUMBERS);
        let session = [SESSION_HEAD, NUMBERS, SESSION_TAIL].concat();
        assert_schema(&text, "\"sessions\":[{", &value["sessions"][0], &session);
        assert_schema(&text, "\"health\":{", &value["health"], &["lost:object", "mended:object"]);
    }
    let accounting = [
        "mode:string?",
        "wish:string",
        "budget_pct:number?",
        "sample_hz:number",
        "sampled_s:number",
        "samples:number",
        "change_count:number",
        "changes:array",
    ];
    let change = [
        "at:string",
        "mode:string",
        "reason:string",
        "polls_per_s:number?",
        "overhead_pct:number?",
    ];
    let text = snapshot(&samples::sampled(), &Order::default());
    let value = parse(&text);
    assert_schema(&text, "\"accounting\":{", &value["accounting"], &accounting);
    assert_schema(&text, "\"changes\":[{", &value["accounting"]["changes"][0], &change);
    let last = &value["accounting"]["changes"][1];
    assert_eq!((&last["mode"], &last["reason"]), (&json!("sampled"), &json!("over_budget")));
    let unknown = json!({"p50": null, "p99": null, "max": 4.0});
    assert_eq!(value["worker"]["loop_delay_ms"], unknown, "what is not known is no zero");
    let delay = ["p50:number?", "p99:number?", "max:number"];
    let text = snapshot(&full(), &Order::default());
    let value = parse(&text);
    assert_schema(&text, "\"loop_delay_ms\":{", &value["worker"]["loop_delay_ms"], &delay);
    let cost = ["daemon_cpu_pct:number?", "daemon_rss_mb:number?", "worker_cpu_pct:number?"];
    assert_schema(&text, "\"cost\":{", &value["cost"], &cost);
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
    assert_eq!(value["worker"]["uptime_s"], 3600.0);
    assert_eq!(value["worker"]["loop_delay_ms"], json!({"p50": 0.0, "p99": 1.5, "max": 71.0}));
    assert_eq!(value["worker"]["rss_growth_mb_per_min"], -1.5);
    assert_eq!(value["worker"]["stall_threshold_ms"], 50.0);
    assert_eq!(value["sessions"][0]["polls_per_s"], 12.5);
    assert_eq!(value["sessions"][0]["idle_s"], 2.5);
    assert_eq!(value["sessions"][0]["stalls_last_minute"], 4);
    assert_eq!(value["cost"]["worker_cpu_pct"], 1.2);
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
    assert!(snapshot(&last, &Order::default()).ends_with(",\"final\":true}"));
    assert!(render(&full()).get("final").is_none());
}

#[test]
fn sessions_follow_the_order() {
    let mut it = full();
    it.sessions.push(Session { session_id: "AJ_2".into(), ..Session::default() });
    it.ended.push(Session { session_id: "AJ_3".into(), ..Session::default() });
    let agent = Order { agent: Some("booking".into()), ..Order::default() };
    let value = parse(&snapshot(&it, &agent));
    assert_eq!(value["sessions"].as_array().map(Vec::len), Some(1));
    assert_eq!(render(&it)["sessions"].as_array().map(Vec::len), Some(2), "none that ended before");
}

#[test]
fn a_terminal_gets_nothing_harmful_and_a_parser_the_whole_text() {
    let hostile = "a\"\\\n\u{1b}[2J\u{7f}\u{9b}2J\u{202e}\u{200b}\u{e0041}\u{fffe}é日👍";
    let text = stall(&Stall { session_id: Some(hostile.into()), ..Stall::default() });
    assert!(!text.chars().any(is_harmful), "{text}");
    assert!(text.contains("\\u007f\\u009b2J\\u202e\\u200b\\udb40\\udc41\\ufffeé日👍"));
    assert_eq!(parse(&text)["session_id"], hostile);
}
