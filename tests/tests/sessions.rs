//! Which sessions there are: those that sleep, those that come and go, whatever their variables and
//! ids are called.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal::SIGTERM;
use openrtc_tests::{
    clock, field,
    probe::{PATIENCE, Probe},
    said::{Session, Snapshot},
    setting::{Interpreter, Loop, Setting},
    worker::Worker,
};
use serde_json::Value;

/// Other names for the three variables, as `service.py` has them.
const VARS: &str = "--session-var request_id --agent-var route --tenant-var customer";
/// Bytes of an id that are kept (`docs/output.md` says that a longer one is cut, and marked).
const KEPT_BYTES: usize = 128;
/// How a session's beginning and end by its own word may differ from its first and last step.
const STEP_S: f64 = 0.020;
/// A session is looked for once a second, and shown at the next refresh.
const SHOWN: Duration = Duration::from_secs(4);

fn service(setting: &Setting, interpreter: &Interpreter, kind: Loop) -> Result<Worker> {
    Worker::start(setting, interpreter, &format!("service.py --loop {kind}"))
}

/// They sleep in a long await: no poll ever tells of them, the worker's memory does, at once. Whatever
/// width their characters have, their ids are what they are, as far as they are kept.
#[test]
fn idle_sessions_are_found_at_attach() -> Result<()> {
    let setting = Setting::from_environment()?;
    setting.in_turn(|interpreter, kind| {
        let worker = service(&setting, interpreter, kind)?;
        let mut probe = Probe::start(&setting, worker.pid, &format!("{VARS} --refresh-rate 10"))?;
        let snapshot = probe.snapshot()?;
        let ids = worker.ready["ids"].as_object().context("no ids")?;
        for (what, id) in ids {
            let (kept, is_cut) = kept(id.as_str().context("an id that is no text")?);
            let session = snapshot.demand(&kept).context(what.clone())?;
            ensure!(session.is_cut == is_cut, "{what} is cut: {is_cut}, not: {session:?}");
            is_idle(session, what)?;
        }
        ensure!(snapshot.sessions.len() == ids.len(), "there are others: {snapshot:?}");
        ensure!(snapshot.worker.loops == kind.name(), "loop {:?}", snapshot.worker.loops);
        probe.stop(SIGTERM).map(drop)
    })
}

fn is_idle(session: &Session, what: &str) -> Result<()> {
    let agent = format!("/{what}");
    let tenant = (what == "latin1").then_some("café");
    let is_named = session.agent.as_deref() == Some(&*agent) && session.tenant.as_deref() == tenant;
    ensure!(is_named, "it should be {agent} and {tenant:?}: {session:?}");
    let is_quiet = session.usage.polls == 0 && session.status == "active";
    ensure!(is_quiet && session.is_lower_bound, "it was there, and does nothing: {session:?}");
    Ok(())
}

/// What is kept of an id: whole characters of as many bytes as CPython has for each.
fn kept(id: &str) -> (String, bool) {
    let widest = id.chars().map(u32::from).max().unwrap_or_default();
    let width = match widest {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        _ => 4,
    };
    let kept: String = id.chars().take(KEPT_BYTES / width).collect();
    let is_cut = kept != id;
    (kept, is_cut)
}

/// Whatever a worker calls its sessions: a terminal gets nothing that it would obey.
#[test]
fn names_are_harmless_in_text() -> Result<()> {
    let setting = Setting::from_environment()?;
    let worker = service(&setting, setting.usual(), Loop::Asyncio)?;
    for words in ["--once", "--once --json"] {
        let mut command = setting.probe(worker.pid, &format!("{VARS} {words}"));
        let output = command.output().context("running openrtc-probe")?;
        ensure!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).context("not UTF-8")?;
        let is_harmful =
            |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{200b}');
        let harmful: Vec<_> = text.chars().filter(|c| is_harmful(*c)).collect();
        ensure!(harmful.is_empty(), "{words}: {harmful:?} in {text}");
        ensure!(text.contains("req-caf") && text.contains("owned"), "{words}: where is it? {text}");
    }
    Ok(())
}

/// Of these the probe has seen all: their durations are no lower bounds, and right.
#[test]
fn sessions_that_begin_later_are_known_from_begin_to_end() -> Result<()> {
    let setting = Setting::from_environment()?;
    setting.in_turn(|interpreter, kind| {
        let mut worker = service(&setting, interpreter, kind)?;
        let mut probe = Probe::start(&setting, worker.pid, &format!("{VARS} --refresh-rate 5"))?;
        probe.snapshot()?;
        let begun = tell(&mut worker, "begin", "req-later")?;
        let is_there = |id: &'static str, status: &'static str| {
            move |snapshot: &Snapshot| {
                snapshot.session(id).is_some_and(|session| session.status == status)
            }
        };
        let what = "with the new session";
        probe.snapshot_where(what, SHOWN, is_there("req-later", "active"))?;
        std::thread::sleep(Duration::from_secs(1));
        let snapshot = probe.snapshot_where(what, SHOWN, |snapshot| {
            // By now its names are known.
            snapshot.session("req-later").is_some_and(|session| session.agent.is_some())
        })?;
        let session = snapshot.demand("req-later")?;
        let names = (session.agent.as_deref(), session.tenant.as_deref());
        ensure!(names == (Some("/work"), Some("acme")), "{session:?}");
        has_lasted(session, begun, snapshot.at_real_ns)?;

        let ended = tell(&mut worker, "end", "req-later")?;
        let what = "in which it has ended";
        let snapshot = probe.snapshot_where(what, SHOWN, is_there("req-later", "ended"))?;
        has_lasted(snapshot.demand("req-later")?, begun, ended)?;
        let next = probe.snapshot()?;
        ensure!(next.session("req-later").is_none(), "it is shown again: {next:?}");
        probe.stop(SIGTERM).map(drop)
    })
}

/// Tells a session to begin or to end; when it did, `CLOCK_REALTIME`.
fn tell(worker: &mut Worker, verb: &str, id: &str) -> Result<i64> {
    worker.say(&format!("{verb} {id}"))?;
    let answer: Value = worker.word(if verb == "begin" { "begun" } else { "ended" })?;
    field::int(&answer, "at_real_ns")
}

fn has_lasted(session: &Session, from_real_ns: i64, to_real_ns: i64) -> Result<()> {
    let lasted_s = (to_real_ns - from_real_ns) as f64 / 1e9;
    // The last step of a session that has ended began up to one tick before it said so.
    let is_right = (session.duration_s - lasted_s).abs() <= 2.0 * STEP_S;
    ensure!(is_right && !session.is_lower_bound, "it lived for {lasted_s} s: {session:?}");
    Ok(())
}

/// The variable need not be there yet: the probe says that it waits, and waits.
#[test]
fn a_variable_that_comes_later_is_waited_for() -> Result<()> {
    let setting = Setting::from_environment()?;
    for kind in Loop::ALL {
        let words = format!("plain.py --loop {kind}");
        let mut worker = Worker::start(&setting, setting.usual(), &words)?;
        let mut probe = Probe::start(&setting, worker.pid, "--refresh-rate 5")?;
        let notice = probe.program.find_error("waiting: ", PATIENCE)?;
        ensure!(notice.contains("`openrtc_session_id`"), "{notice}");
        probe.program.find_error("hint: ", PATIENCE)?;
        let before = probe.snapshot()?;
        let knows = before.worker.session_var_found || !before.sessions.is_empty();
        ensure!(!knows, "what does it know? {before:?}");

        worker.say("go")?;
        worker.word("late")?;
        let came_real_ns = clock::now_real_ns();
        let all = probe.snapshot_where("with all three", SHOWN, |snapshot| {
            (1..=3).all(|number| snapshot.session(&format!("AJ_late{number:04}")).is_some())
        })?;
        ensure!(all.worker.session_var_found, "{all:?}");
        let later = probe.snapshot_where("a while later", PATIENCE, |snapshot| {
            snapshot.at_real_ns > all.at_real_ns + 1_000_000_000
        })?;
        for session in &later.sessions {
            let is_working = session.usage.polls > 10 && session.usage.cpu_s > 0.002;
            ensure!(is_working, "it burns 1 % of a core: {session:?}");
        }
        ensure!(later.worker.loops == kind.name(), "loop {:?}", later.worker.loops);
        let waited_ns = all.at_real_ns - came_real_ns;
        ensure!(waited_ns < 3_000_000_000, "it took {waited_ns} ns");
        probe.stop(SIGTERM)?;
    }
    Ok(())
}
