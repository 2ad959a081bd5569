//! SIGKILL of the probe: nothing of it stays, neither in the kernel nor in the worker, and the worker
//! is as fast as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal::SIGKILL;
use openrtc_tests::{
    code_pages::{self, BREAKPOINT},
    field,
    kernel::{self, Object},
    probe::{PATIENCE, Probe},
    process::Program,
    say,
    setting::{Loop, Setting},
    worker::Worker,
};
use serde_json::Value;

/// How often the worker is attached to, and the probe killed.
const ROUNDS: usize = 3;

/// Enter, leave, set and reset.
const LEAST_BREAKPOINTS: usize = 4;
/// Each breakpoint and each of the scheduler's tracepoints has its program.
const LEAST_PROGRAMS: usize = LEAST_BREAKPOINTS + 3;

/// What there was before the probe.
struct Before {
    objects: BTreeMap<Object, String>,
    pinned: BTreeSet<PathBuf>,
}

impl Before {
    fn now() -> Result<Self> {
        Ok(Self { objects: kernel::ours()?, pinned: kernel::pinned() })
    }

    /// Nothing is there that was not there before, in the kernel and in the worker's code.
    fn is_all_there_is(&self, worker_pid: i32) -> Result<()> {
        kernel::wait_until_nothing_is_left(&self.objects)?;
        let breakpoints = code_pages::differences(worker_pid)?;
        ensure!(breakpoints.is_empty(), "left in the worker: {breakpoints:?}");
        let pinned = kernel::pinned();
        ensure!(pinned == self.pinned, "pinned: {:?}", pinned.difference(&self.pinned));
        Ok(())
    }
}

#[test]
fn a_killed_probe_leaves_nothing_and_the_worker_is_as_fast_as_before() -> Result<()> {
    let setting = Setting::from_environment()?;
    for (interpreter, kind) in [(setting.usual(), Loop::Asyncio), (setting.newest(), Loop::Uvloop)]
    {
        let what = format!("{} on {kind}", interpreter.name);
        let words = format!("steps.py --loop {kind} --window-s 0.02");
        let worker = Worker::start(&setting, interpreter, &words)?;
        kill_once_attached(&setting, worker, &what).context(what)?;
    }
    Ok(())
}

/// Time per step, in ns: the best of what was measured, because a machine that others use is slower
/// for seconds on end, and never faster than it is.
#[derive(Debug)]
struct Best {
    bare: f64,
    attached: f64,
    after: f64,
}

fn kill_once_attached(setting: &Setting, mut worker: Worker, what: &str) -> Result<()> {
    let before = Before::now()?;
    before.is_all_there_is(worker.pid).context("before anything was attached")?;
    let bare = ns_per_step(&mut worker)?;
    let mut best = Best { bare, attached: f64::INFINITY, after: f64::INFINITY };
    for _ in 0..ROUNDS {
        let mut probe = Probe::start(setting, worker.pid, "--refresh-rate 10")?;
        probe.snapshot()?;
        it_is_there(&before, &probe, &worker)?;
        best.attached = best.attached.min(ns_per_step(&mut worker)?);
        probe.program.signal(SIGKILL)?;
        probe.program.wait(PATIENCE)?;
        before.is_all_there_is(worker.pid)?;
        best.after = best.after.min(ns_per_step(&mut worker)?);
    }
    let Best { bare, attached, after } = best;
    say::note(&format!("{what}: {bare:.0} ns a step, {attached:.0} attached, {after:.0} after"));
    // Nearer to bare than to attached, or even faster than it seemed to be before.
    let is_restored = after - bare < attached - after;
    ensure!(is_restored, "the worker's speed is not what it was: {best:?}");
    Ok(())
}

/// Otherwise its absence later would say nothing.
fn it_is_there(before: &Before, probe: &Probe, worker: &Worker) -> Result<()> {
    let held = kernel::held_by(probe.program.pid());
    let mut ours = kernel::ours()?;
    ours.retain(|object, _| !before.objects.contains_key(object) && held.contains(object));
    let programs = ours.keys().filter(|object| matches!(object, Object::Program(_))).count();
    let maps = ours.keys().filter(|object| matches!(object, Object::Map(_))).count();
    let links = ours.keys().filter(|object| matches!(object, Object::Link(_))).count();
    ensure!(programs >= LEAST_PROGRAMS && maps >= 5 && links > 0, "it holds only {ours:?}");
    let breakpoints = code_pages::differences(worker.pid)?;
    let are_breakpoints = breakpoints.iter().all(|byte| byte.found == BREAKPOINT);
    ensure!(are_breakpoints && breakpoints.len() >= LEAST_BREAKPOINTS, "code: {breakpoints:?}");
    Ok(())
}

/// By the worker's CPU time: what others take of its CPU is not the probe's. The best of its windows.
fn ns_per_step(worker: &mut Worker) -> Result<f64> {
    let windows = worker.words_for("steps", Duration::from_secs(1))?;
    let one = |window: &Value| -> Result<f64> {
        Ok(field::float(window, "cpu_ns")? / field::float(window, "n")?)
    };
    let all: Vec<f64> = windows.iter().map(one).collect::<Result<_>>()?;
    ensure!(all.len() > 5, "the worker hardly goes on: {windows:?}");
    Ok(all.into_iter().fold(f64::INFINITY, f64::min))
}

/// When a probe that attaches is killed.
#[derive(Debug, Clone, Copy)]
enum When {
    /// So many milliseconds after its start.
    Ms(u64),
    /// As soon as it holds so many programs, maps and links.
    Holds(usize),
}

#[test]
fn a_probe_that_is_killed_while_it_attaches_leaves_nothing() -> Result<()> {
    use When::{Holds, Ms};
    let setting = Setting::from_environment()?;
    let worker = Worker::start(&setting, setting.usual(), "sessions.py --sessions 12")?;
    let before = Before::now()?;
    for when in [Ms(0), Ms(5), Ms(20), Ms(50), Ms(100), Ms(200)]
        .into_iter()
        .chain([1, 6, 12, 14, 16, 18, 20, 22].map(Holds))
    {
        let what = || format!("killed when: {when:?}");
        kill_at(&setting, worker.pid, when).with_context(what)?;
        before.is_all_there_is(worker.pid).with_context(what)?;
    }
    worker.end()?;
    Ok(())
}

fn kill_at(setting: &Setting, worker_pid: i32, when: When) -> Result<()> {
    let mut command = setting.probe(worker_pid, "--json --refresh-rate 10");
    let mut probe = Program::start("openrtc-probe", &mut command)?;
    let started = Instant::now();
    let is_time = || match when {
        When::Ms(ms) => started.elapsed() >= Duration::from_millis(ms),
        When::Holds(count) => kernel::held_by(probe.pid()).len() >= count,
    };
    while !is_time() {
        ensure!(started.elapsed() < PATIENCE, "it never came that far");
        std::thread::sleep(Duration::from_millis(1));
    }
    probe.signal(SIGKILL)?;
    probe.wait(PATIENCE)?;
    Ok(())
}
