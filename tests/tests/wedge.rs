//! A worker that blocks for ever is named while it blocks, in time, and the probe does not need it to
//! go on.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal::SIGINT;
use openrtc_tests::{
    clock, field,
    probe::{PATIENCE, Probe},
    process::Program,
    said::{Snapshot, Stall},
    setting::{Interpreter, Loop, Setting},
    worker::Worker,
};

const THRESHOLD_MS: f64 = 50.0;
/// What the probe may take on top to say so.
const PROMISE_MS: f64 = 20.0;
/// What this reader may take on top to get a CPU and read it; a bare machine needs 1 or 2.
const READER_MS: f64 = 30.0;
/// Between the fixture's own word for it and the block itself: an import, at most.
const IMPORT_MS: f64 = 100.0;

/// Pictures of the table: one refresh.
const REFRESH: Duration = Duration::from_millis(200);

/// A way to block, and where the time goes that it takes.
struct Kind {
    name: &'static str,
    is_on_cpu: bool,
}

const KINDS: &[Kind] = &[
    Kind { name: "spin", is_on_cpu: true },
    Kind { name: "re", is_on_cpu: true },
    Kind { name: "sleep", is_on_cpu: false },
    Kind { name: "gil_c", is_on_cpu: false },
];

fn start(setting: &Setting, interpreter: &Interpreter, kind: &Kind, on: Loop) -> Result<Worker> {
    let words = format!("wedge.py --loop {on} --kind {} --after-s 0 --at-most-s 60", kind.name);
    Worker::start(setting, interpreter, &words)
}

/// Tells it to block; when it began to, `CLOCK_REALTIME`.
fn wedge(worker: &mut Worker) -> Result<i64> {
    worker.say("go")?;
    field::int(&worker.word("wedged")?, "at_real_ns")
}

fn each(test: fn(&Setting, &Kind, Loop) -> Result<()>) -> Result<()> {
    let setting = Setting::from_environment()?;
    let mut wrong = Vec::new();
    for kind in KINDS {
        for on in Loop::ALL {
            if let Err(error) = test(&setting, kind, on) {
                wrong.push(format!("{} on {on}: {error:#}", kind.name));
            }
        }
    }
    ensure!(wrong.is_empty(), "{} failed:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[test]
fn it_is_named_in_time_and_goes_on_counting() -> Result<()> {
    each(|setting, kind, on| {
        let mut worker = start(setting, setting.usual(), kind, on)?;
        let mut probe = Probe::start(setting, worker.pid, "--refresh-rate 5")?;
        probe.snapshot()?;
        let wedged_real_ns = wedge(&mut worker)?;
        let stall = probe.stall_where("that is ongoing", PATIENCE, |stall| stall.ongoing)?;
        is_named(&stall)?;
        ensure!(!stall.is_lower_bound, "it was seen to begin: {stall:?}");
        in_time(&stall, wedged_real_ns)?;

        let first =
            probe.snapshot_where("after it", PATIENCE, |s| s.at_real_ns > stall.read_at_real_ns)?;
        let late_ns = first.at_real_ns - stall.read_at_real_ns;
        ensure!(late_ns <= (2 * REFRESH).as_nanos() as i64, "the next picture took {late_ns} ns");
        let second = probe.snapshot()?;
        counts_on(&first, &second, kind)?;

        // It does not answer, and never will: the probe ends all the same.
        let record = probe.stop(SIGINT)?;
        is_slow(record.last())?;
        ensure!(worker.is_running()?, "the worker has ended");
        Ok(())
    })
}

fn is_named(stall: &Stall) -> Result<()> {
    let name = (stall.session.as_deref(), stall.agent.as_deref(), stall.tenant.as_deref());
    let expected = (Some("AJ_wedge"), Some("wedger"), Some("t1"));
    ensure!(name == expected, "it is told as {stall:?}");
    Ok(())
}

fn in_time(stall: &Stall, wedged_real_ns: i64) -> Result<()> {
    let told_ms = (stall.read_at_real_ns - wedged_real_ns) as f64 / 1e6;
    let most_ms = THRESHOLD_MS + PROMISE_MS + READER_MS;
    ensure!(told_ms <= most_ms, "it took {told_ms:.1} ms and not {most_ms} ms to say {stall:?}");
    let is_over = stall.duration_ms >= THRESHOLD_MS && stall.duration_ms <= told_ms + IMPORT_MS;
    ensure!(is_over, "after {told_ms:.1} ms it said {stall:?}");
    Ok(())
}

fn is_slow(snapshot: &Snapshot) -> Result<()> {
    let session = snapshot.demand("AJ_wedge")?;
    let is_slow = session.status == "slow" && session.usage.stalls >= 1;
    ensure!(is_slow, "{session:?}");
    Ok(())
}

/// From one picture to the next the poll grows by the time between them, on-CPU or off it.
fn counts_on(first: &Snapshot, second: &Snapshot, kind: &Kind) -> Result<()> {
    is_slow(first)?;
    let (before, after) = (first.demand("AJ_wedge")?.usage, second.demand("AJ_wedge")?.usage);
    let passed_s = (second.at_real_ns - first.at_real_ns) as f64 / 1e9;
    let longer_s = (after.longest_poll_ms - before.longest_poll_ms) / 1e3;
    ensure!(
        (longer_s - passed_s).abs() < 0.002,
        "in {passed_s} s it grew from {before:?} to {after:?}"
    );
    let on_s = after.loop_cpu_s - before.loop_cpu_s;
    let off_s = after.off_cpu_s - before.off_cpu_s;
    // On a busy machine a thread that spins waits for a CPU too, and that is neither.
    let (there_s, elsewhere_s) = if kind.is_on_cpu { (on_s, off_s) } else { (off_s, on_s) };
    let is_there = there_s > passed_s * 0.2 && elsewhere_s < passed_s * 0.1;
    ensure!(is_there, "of {passed_s} s {on_s} were on-CPU and {off_s} off-CPU");
    Ok(())
}

/// Nobody was there when it began: what it has lasted is a lower bound.
#[test]
fn one_that_is_found_is_named_too() -> Result<()> {
    each(|setting, kind, on| {
        let mut worker = start(setting, setting.usual(), kind, on)?;
        wedge(&mut worker)?;
        let asked_real_ns = clock::now_real_ns();
        let mut probe = Probe::start(setting, worker.pid, "--refresh-rate 5")?;
        let stall = probe.stall_where("that is ongoing", PATIENCE, |stall| stall.ongoing)?;
        ensure!(stall.is_lower_bound, "nobody saw it begin: {stall:?}");
        ensure!(stall.started_real_ns >= asked_real_ns, "before anybody looked: {stall:?}");
        is_named(&stall)?;
        is_slow(&probe.snapshot()?)?;
        is_slow(probe.stop(SIGINT)?.last())
    })
}

/// Without a terminal there is a log, in OpenRTC's form.
#[test]
fn the_log_says_so() -> Result<()> {
    let setting = Setting::from_environment()?;
    let mut worker = start(&setting, setting.usual(), &KINDS[2], Loop::Asyncio)?;
    let mut command = setting.probe(worker.pid, "-v");
    let mut probe = Program::start("openrtc-probe", &mut command)?;
    // What is attached where is said when it is.
    probe.find_error("what a map of variables holds ", PATIENCE)?;
    wedge(&mut worker)?;
    let line = probe.next(PATIENCE)?.text;
    let rest = line
        .strip_prefix("[slow-session] session_id=AJ_wedge blocking event loop for ")
        .with_context(|| format!("it begins otherwise: {line}"))?;
    let (ms, rest) = rest.split_once("ms so far ").context(line.clone())?;
    ensure!(ms.parse::<f64>().is_ok_and(|ms| ms >= THRESHOLD_MS), "{line}");
    let rest = rest.strip_prefix("agent=wedger tenant=t1 cause=").context(line.clone())?;
    ensure!(
        rest.contains(" on_cpu=") && rest.contains("ms off_cpu=") && rest.contains("ms run_queue="),
        "{line}"
    );
    probe.signal(SIGINT)?;
    let ended = probe.finish(PATIENCE)?;
    ensure!(ended.status.success() && ended.stdout.is_empty(), "{ended:?}");
    Ok(())
}

/// The promise holds on every interpreter; one kind says it for all.
#[test]
fn it_is_named_in_time_on_every_interpreter() -> Result<()> {
    let setting = Setting::from_environment()?;
    setting.in_turn(|interpreter, on| {
        let mut worker = start(&setting, interpreter, &KINDS[0], on)?;
        let mut probe = Probe::start(&setting, worker.pid, "--refresh-rate 5")?;
        probe.snapshot()?;
        let wedged_real_ns = wedge(&mut worker)?;
        let what = |stall: &Stall| stall.session.as_deref() == Some("AJ_wedge");
        let stall = probe.stall_where("of the wedged session", PATIENCE, what)?;
        is_named(&stall)?;
        in_time(&stall, wedged_real_ns)?;
        is_slow(probe.stop(SIGINT)?.last())
    })
}
