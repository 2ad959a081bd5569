//! Contexts within contexts, tags that change, loops in several threads, work on other threads: each
//! second goes to whom it belongs, and every entry has its exit.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal::SIGTERM;
use openrtc_tests::{
    probe::{PATIENCE, Probe, Record},
    said::{Snapshot, Usage},
    setting::{Interpreter, Loop, Setting},
    stolen::Stolen,
    truth::{self, Truth},
    worker::Worker,
};

const SPAN: Duration = Duration::from_secs(5);

/// The fixture measures its burns alone. What surrounds one in its callback is missed: 50 to 200 us
/// (`tests/fixtures/README.md`), more where a busy machine has cold caches.
const MISSED_PER_BURN_S: f64 = 0.000_4;
/// What two clocks, read one after the other, may differ by.
const CLOCKS_RATIO: f64 = 0.01;
/// A burn that spans the instant of attaching, or of the last snapshot, is divided by its wall time,
/// and a thread may be between its burn and the booking of it. What a hypervisor takes in such a burn,
/// or between a sleep's deadline and the sleep, comes on top, hence `stolen_s` on both sides.
const EDGE_S: f64 = 0.007;
/// Contexts that are entered at the moment of attaching, or of the end, are entries without exits:
/// one each on the three loops' threads and the executor's.
const IN_FLIGHT: i64 = 8;

/// Sessions that burn on loops.
const ON_LOOPS: &[&str] = &[
    "AJ_outer",
    "AJ_inner",
    "AJ_changed",
    "AJ_loop1",
    "AJ_loop2",
    "AJ_soon",
    "AJ_later",
    "AJ_fail",
    "AJ_raise",
    "AJ_sleep",
];
/// Only where tasks can be eager, which is from 3.12 on.
const EAGER: &[&str] = &["AJ_creator", "AJ_eager"];

/// What the probe said since it attached, and the fixture's account of that time.
struct Run {
    record: Record,
    at_attach: Truth,
    at_end: Truth,
    stolen_s: f64,
}

impl Run {
    /// What the fixture measured of a session meanwhile.
    fn truth(&self, id: &str) -> truth::Session {
        let (first, last) = (self.at_attach.session(id), self.at_end.session(id));
        truth::Session {
            cpu_ns: last.cpu_ns - first.cpu_ns,
            offloaded_cpu_ns: last.offloaded_cpu_ns - first.offloaded_cpu_ns,
            wall_ns: last.wall_ns - first.wall_ns,
            polls: last.polls - first.polls,
        }
    }

    /// What the probe says of it.
    fn told(&self, id: &str) -> Result<Usage> {
        let session = self.record.last_of(id).with_context(|| format!("{id} was never listed"))?;
        Ok(session.usage)
    }
}

fn run(setting: &Setting, interpreter: &Interpreter, kind: Loop) -> Result<Run> {
    let stolen = Stolen::start();
    let mut worker = Worker::start(setting, interpreter, &format!("nested.py --loop {kind}"))?;
    let words = format!("--duration {} --refresh-rate 10 -v", SPAN.as_secs());
    let mut probe = Probe::start(setting, worker.pid, &words)?;
    let at_attach = worker.mark(probe.snapshot()?.attached_real_ns())?;
    let at_end = worker.mark(probe.last_snapshot(SPAN + PATIENCE)?.at_real_ns)?;
    Ok(Run { record: probe.finish()?, at_attach, at_end, stolen_s: stolen.so_far_s() })
}

#[test]
fn every_structure_is_charged_to_whom_it_belongs() -> Result<()> {
    let setting = Setting::from_environment()?;
    setting.in_turn(|interpreter, kind| {
        let run = run(&setting, interpreter, kind)?;
        let eager: &[&str] = if interpreter.minor() >= 12 { EAGER } else { &[] };
        let wrong: Vec<String> = ON_LOOPS
            .iter()
            .chain(eager)
            .filter_map(|id| check_on_loop(&run, id).err())
            .chain(check_sleep(&run).err())
            .chain(wrong_elsewhere(&run, kind))
            .map(|error| format!("{error:#}"))
            .collect();
        let stolen_s = run.stolen_s;
        ensure!(wrong.is_empty(), "({stolen_s:.3} s stolen) {}", wrong.join("; "));
        ensure!(run.record.last().lost.is_empty(), "lost: {:?}", run.record.last().lost);
        Ok(())
    })
}

/// What is wrong outside of the sessions on loops.
fn wrong_elsewhere(run: &Run, kind: Loop) -> impl Iterator<Item = anyhow::Error> {
    let checks = [
        check_offloaded(run),
        check_untagged(run),
        check_plain_threads(run),
        check_pairing(&run.record, kind),
    ];
    checks.into_iter().filter_map(Result::err)
}

/// A container's threads have other ids to themselves than to us: CPU time tells whether each was
/// taken for itself.
#[test]
fn threads_of_a_container_are_told_apart() -> Result<()> {
    let setting = Setting::from_environment()?;
    let Some(interpreter) = setting.contained()? else { return Ok(()) };
    for kind in Loop::ALL {
        let run = run(&setting, interpreter, kind)?;
        let wrong: Vec<String> = ON_LOOPS
            .iter()
            .filter_map(|id| check_loop_cpu(&run, id).err())
            .chain(wrong_elsewhere(&run, kind))
            .map(|error| format!("{error:#}"))
            .collect();
        let stolen_s = run.stolen_s;
        ensure!(wrong.is_empty(), "{kind}: ({stolen_s:.3} s stolen) {}", wrong.join("; "));
    }
    Ok(())
}

/// A burn's wall time is the session's, whatever the thread did in it; its CPU time too, but for what
/// was stolen.
fn check_on_loop(run: &Run, id: &str) -> Result<()> {
    let (told, truth) = (run.told(id)?, run.truth(id));
    let wall_s = told.loop_cpu_s + told.off_cpu_s + told.run_queue_s;
    check(&format!("{id}: wall time"), wall_s, truth.wall_ns, truth.polls, run.stolen_s)?;
    check_loop_cpu(run, id)
}

fn check_loop_cpu(run: &Run, id: &str) -> Result<()> {
    let (told, truth) = (run.told(id)?, run.truth(id));
    ensure!(truth.polls > 0, "{id}: the fixture did nothing in this time");
    let cpu = format!("{id}: loop CPU");
    check(&cpu, told.loop_cpu_s, truth.cpu_ns, truth.polls, run.stolen_s)
}

/// `time.sleep` of 10 ms at a time is time off-CPU.
fn check_sleep(run: &Run) -> Result<()> {
    let (told, truth) = (run.told("AJ_sleep")?, run.truth("AJ_sleep"));
    let asked_s = truth.polls as f64 * 0.010;
    let is_off = told.off_cpu_s >= asked_s * (1.0 - CLOCKS_RATIO) - EDGE_S - run.stolen_s;
    ensure!(is_off, "AJ_sleep: {asked_s} s of sleep are told as {told:?}");
    Ok(())
}

/// `asyncio.to_thread` takes the context to a thread that runs no loop.
fn check_offloaded(run: &Run) -> Result<()> {
    let (told, truth) = (run.told("AJ_offload")?, run.truth("AJ_offload"));
    let (found_s, truth_ns) = (told.offloaded_cpu_s, truth.offloaded_cpu_ns);
    check("AJ_offload: offloaded CPU", found_s, truth_ns, truth.polls, run.stolen_s)
}

/// Work before a tag is set and after it is reset; and the steps and timers of the fixture itself,
/// each a poll that burns nothing.
fn check_untagged(run: &Run) -> Result<()> {
    let told = run.record.last().untagged;
    let truth_ns = run.at_end.untagged.cpu_ns - run.at_attach.untagged.cpu_ns;
    check("untagged: loop CPU", told.loop_cpu_s, truth_ns, told.polls, run.stolen_s)
}

/// A thread that burns without any context, 4 ms at a time. What wakes the executor's threads and
/// waits for stdin is there too, hence twice as many burns.
fn check_plain_threads(run: &Run) -> Result<()> {
    let found_s = run.record.last().worker.other_threads_s;
    let truth_ns = run.at_end.plain_threads_cpu_ns - run.at_attach.plain_threads_cpu_ns;
    let burns = 2 * truth_ns / 4_000_000;
    check("other threads: CPU", found_s, truth_ns, burns, run.stolen_s)
}

fn check(what: &str, found_s: f64, truth_ns: i64, burns: i64, stolen_s: f64) -> Result<()> {
    let truth_s = truth_ns as f64 / 1e9;
    let missed_s = burns as f64 * MISSED_PER_BURN_S;
    let least_s = truth_s * (1.0 - CLOCKS_RATIO) - EDGE_S - stolen_s;
    let most_s = truth_s * (1.0 + CLOCKS_RATIO) + EDGE_S + missed_s + stolen_s;
    let is_right = (least_s..=most_s).contains(&found_s);
    ensure!(is_right, "{what} is {found_s:.4} s and not {least_s:.4} to {most_s:.4} s");
    Ok(())
}

/// Where entries and exits do not pair up, time goes to the wrong session.
fn check_pairing(record: &Record, kind: Loop) -> Result<()> {
    let line = record.stderr.iter().find_map(|line| line.strip_prefix("pairing: "));
    let line = line.with_context(|| format!("no pairing: line in {:?}", record.stderr))?;
    let mut sites = line.split("; ").map(pair_of);
    let (run, context) = (sites.next().flatten(), sites.next().flatten());
    let (run, context) = run.zip(context).with_context(|| format!("cannot read: {line}"))?;
    for (enters, exits) in [run, context] {
        ensure!((enters - exits).abs() <= IN_FLIGHT, "they do not pair up: {line}");
    }
    let (used, _) = if kind == Loop::Uvloop { context } else { run };
    ensure!(used > 100, "hardly used: {line}");
    ensure!(line.contains("(Paired)") && !line.contains("(Broken)"), "{line}");
    Ok(())
}

/// The numbers in `Context.run 8064 in, 8065 out (Paired)`.
fn pair_of(text: &str) -> Option<(i64, i64)> {
    let words: Vec<_> = text.split([' ', ',']).collect();
    let before = |word: &str| {
        let at = words.iter().position(|other| *other == word)?;
        words.get(at.checked_sub(1)?)?.parse().ok()
    };
    Some((before("in")?, before("out")?))
}

/// Callbacks that are ready at once run one after the other, without the loop waiting in between.
/// Each is a poll: none of these is a stall, however many there are.
#[test]
fn callbacks_of_one_iteration_are_polls_of_their_own() -> Result<()> {
    let setting = Setting::from_environment()?;
    setting.in_turn(|interpreter, kind| burst(&setting, interpreter, kind))
}

fn burst(setting: &Setting, interpreter: &Interpreter, kind: Loop) -> Result<()> {
    const COUNT: usize = 12;
    const MS: f64 = 10.0;
    let mut worker = Worker::start(setting, interpreter, &format!("service.py --loop {kind}"))?;
    // A threshold that one callback does not reach, even if it has to share its CPU with others.
    let words = "--session-var request_id --slow-session-threshold-ms 80 --refresh-rate 5";
    let mut probe = Probe::start(setting, worker.pid, words)?;
    probe.snapshot()?;
    worker.say(&format!("burst {COUNT} {MS}"))?;
    let took = worker.word("burst")?;
    // Also the last, which other snapshots may show while it runs.
    let all = |snapshot: &Snapshot| {
        let of = |number| snapshot.session(&format!("burst-{number}"));
        (1..=COUNT).all(|number| of(number).is_some_and(|session| session.usage.polls > 0))
    };
    let snapshot = probe.snapshot_where("with all of the burst", Duration::from_secs(5), all)?;
    let record = probe.stop(SIGTERM)?;
    ensure!(record.stalls.is_empty(), "{took}: stalls of nobody: {:?}", record.stalls);
    for number in 1..=COUNT {
        let usage = snapshot.demand(&format!("burst-{number}"))?.usage;
        let is_one = usage.polls == 1 && usage.longest_poll_ms >= MS;
        ensure!(is_one, "burst-{number} is not one poll of {MS} ms: {usage:?}");
    }
    Ok(())
}

/// Attaching takes a while, and a busy worker does not wait: what it enters and leaves meanwhile must
/// not look as if entries and exits did not pair up.
#[test]
fn a_busy_worker_that_enters_contexts_in_both_ways_is_not_refused() -> Result<()> {
    let setting = Setting::from_environment()?;
    setting.in_turn(|interpreter, kind| {
        let words = format!("steps.py --loop {kind} --context-run");
        let worker = Worker::start(&setting, interpreter, &words)?;
        // It looks at the pairs once a second.
        let probe = Probe::start(&setting, worker.pid, "--duration 1.5 -v")?;
        check_pairing(&probe.finish()?, kind)
    })
}
