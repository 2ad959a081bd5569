//! Attaching and detaching for a minute, to workers that would not survive a careless probe: C stacks
//! that move under `Context.run`, and memory that is reused all the time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal::{self, SIGKILL, SIGTERM};
use openrtc_tests::{
    code_pages,
    probe::PATIENCE,
    process::Program,
    say,
    setting::{Interpreter, Loop, Setting},
    worker::Worker,
};
use serde_json::Value;

/// How long each worker is attached to and left again.
const SPAN: Duration = Duration::from_mins(1);
/// Shortens it while a test is being written.
const SPAN_VARIABLE: &str = "OPENRTC_TESTS_ENDURANCE_S";
/// So many times at least, or the test has tested little: once in two seconds.
const LEAST_ATTACHED: Duration = Duration::from_secs(2);

/// How a probe goes, and how long it had been there.
#[derive(Clone, Copy)]
enum Goes {
    /// By itself, after its `--duration`.
    After(&'static str),
    /// By a signal, so long after its start: it may still be attaching.
    By(Signal, Duration),
}

const WAYS: &[Goes] = &[
    Goes::By(SIGTERM, Duration::from_millis(500)),
    Goes::By(SIGKILL, Duration::from_millis(400)),
    Goes::After("0.3"),
    Goes::By(SIGKILL, Duration::from_millis(200)),
    Goes::By(SIGTERM, Duration::from_millis(200)),
];

/// A worker that must survive.
struct Fixture {
    words: &'static str,
    /// What it has begun and finished, in what it says.
    counts: [&'static str; 2],
}

/// Gentle enough for several on two cores; each step still stops and resumes dozens of greenlets inside
/// nested runs.
const GREENLETS: Fixture = Fixture {
    words: "greenlets.py --tick-ms 20 --tasks 2",
    counts: ["/counts/entered", "/counts/left"],
};

const CHURN: Fixture =
    Fixture { words: "churn.py --sessions 20", counts: ["/born", "/process_cpu_ns"] };

/// All at once: greenlets on both loops of the usual and of the newest interpreter, churn on one each.
#[test]
fn workers_survive_a_minute_of_attaching_and_detaching() -> Result<()> {
    let setting = Setting::from_environment()?;
    let (usual, newest, span) = (setting.usual(), setting.newest(), span()?);
    let workers = [
        (&GREENLETS, usual, Loop::Asyncio),
        (&GREENLETS, usual, Loop::Uvloop),
        (&GREENLETS, newest, Loop::Asyncio),
        (&GREENLETS, newest, Loop::Uvloop),
        (&CHURN, usual, Loop::Asyncio),
        (&CHURN, newest, Loop::Uvloop),
    ];
    std::thread::scope(|scope| {
        let start = |(fixture, interpreter, kind): (&'static Fixture, &Interpreter, Loop)| {
            let words = format!("{} --loop {kind}", fixture.words);
            let name = format!("{} {words}", interpreter.name);
            let (setting, interpreter) = (&setting, interpreter.clone());
            let survive = move || survive(setting, &interpreter, &words, span, fixture);
            (name, scope.spawn(survive))
        };
        for (name, thread) in workers.map(start) {
            let count = thread.join().map_err(|_| anyhow!("{name} panicked"))?;
            let count = count.with_context(|| name.clone())?;
            say::note(&format!("attached to and left again {count} times: {name}"));
        }
        Ok(())
    })
}

fn span() -> Result<Duration> {
    let Some(value) = std::env::var_os(SPAN_VARIABLE) else { return Ok(SPAN) };
    let seconds = value.to_str().and_then(|text| text.parse().ok());
    let seconds = seconds.with_context(|| format!("{SPAN_VARIABLE} is not a number"))?;
    say::not_run("a whole minute", &format!("{SPAN_VARIABLE} is set to {seconds}"));
    Ok(Duration::from_secs(seconds))
}

fn survive(
    setting: &Setting,
    interpreter: &Interpreter,
    words: &str,
    span: Duration,
    fixture: &Fixture,
) -> Result<u32> {
    let mut worker = Worker::start(setting, interpreter, words)?;
    let begun = Instant::now();
    let mut count = 0;
    for way in WAYS.iter().cycle() {
        if begun.elapsed() > span {
            break;
        }
        attach_once(setting, worker.pid, *way)?;
        count += 1;
        ensure!(worker.is_running()?, "the worker died after it was attached to {count} times");
    }
    let least = span.as_secs() / LEAST_ATTACHED.as_secs();
    ensure!(u64::from(count) >= least, "attached {count} times only");
    let differences = code_pages::differences(worker.pid)?;
    ensure!(differences.is_empty(), "breakpoints are left in the worker: {differences:?}");
    makes_progress(worker, fixture)?;
    Ok(count)
}

/// Attaches, and lets go.
fn attach_once(setting: &Setting, pid: i32, way: Goes) -> Result<()> {
    let words = if let Goes::After(seconds) = way { seconds } else { "3600" };
    let mut command = setting.probe(pid, &format!("--json --refresh-rate 10 --duration {words}"));
    let mut probe = Program::start("openrtc-probe", &mut command)?;
    if let Goes::By(signal, after) = way {
        let began = Instant::now();
        // Whatever it says meanwhile is read, so that it never waits for a reader.
        while let Some(left) = after.checked_sub(began.elapsed()) {
            let _ = probe.next(left);
        }
        probe.signal(signal)?;
    }
    let ended = probe.finish(PATIENCE)?;
    let is_good = match way {
        // Before it listens for it, the signal ends it as it ends everybody.
        Goes::By(SIGTERM, _) => {
            ended.status.success() || ended.status.to_string().contains("SIGTERM")
        }
        Goes::By(..) => ended.status.code().is_none(),
        Goes::After(_) => ended.status.success(),
    };
    if !is_good {
        bail!("openrtc-probe ended with {}: {:?}", ended.status, ended.stderr);
    }
    Ok(())
}

/// It still begins and finishes what it does, and ends in order.
fn makes_progress(mut worker: Worker, fixture: &Fixture) -> Result<()> {
    worker.say("mark")?;
    let before = worker.word("mark")?;
    std::thread::sleep(Duration::from_secs(2));
    let after = worker.end_with_words()?;
    for pointer in fixture.counts {
        let count = |said: &Value| said.pointer(pointer).and_then(Value::as_i64);
        let (before, after) = (count(&before), count(&after));
        ensure!(before.is_some() && after > before, "{pointer} stands still at {after:?}");
    }
    Ok(())
}
