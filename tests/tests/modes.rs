//! How polls are accounted: without probes, within a budget, and over the changes between.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use openrtc_tests::{
    accuracy::{
        compare::{self, Demands},
        measure, table,
    },
    code_pages, field,
    probe::Probe,
    said::{Session, Snapshot, Stall},
    setting::{Loop, Setting},
    stolen::Stolen,
    worker::Worker,
};
use serde_json::Value;

const SPAN: Duration = Duration::from_secs(6);
/// How a block is known again: its report begins within this of it.
const SAME_START_NS: i64 = 20_000_000;
/// What a duration may be off by: a sample at each end, and a busy machine.
const DURATION_MS: f64 = 15.0;

/// Wider than the bench's: the tests run on machines that do other things too.
const DEMANDS: Demands =
    Demands { total_ratio: 0.05, duration_ms: DURATION_MS, ..Demands::SAMPLED };

#[test]
fn without_a_probe_it_is_known_who_runs_who_waits_and_who_stalls() -> Result<()> {
    let setting = Setting::from_environment()?;
    setting.in_turn(|interpreter, kind| {
        let bursts = match kind {
            Loop::Asyncio => {
                "--tasks 2 --truth handle --tick-ms 20 --burn-us 300 --hot-burn-us 1000"
            }
            Loop::Uvloop => {
                "--tasks 1 --truth step --tick-ms 400 --burn-us 10000 --hot-tick-ms 50 \
                 --hot-burn-us 10000"
            }
        };
        let words = format!(
            "sessions.py --loop {kind} --sessions 12 --hot 1 --block 1 --block-ms 120 \
             --block-every-s 0.7 {bursts}"
        );
        let worker = Worker::start(&setting, interpreter, &words)?;
        let pid = worker.pid;
        let stolen = Stolen::start();
        let words = format!("--mode sampled --duration {}", SPAN.as_secs());
        let mut probe = Probe::start(&setting, pid, &words)?;
        let first = probe.snapshot()?;
        ensure!(first.accounting.mode == "sampled", "{:?}", first.accounting);
        let changed = code_pages::differences(pid)?;
        ensure!(changed.is_empty(), "a probe is in the worker: {changed:?}");
        let accounts = measure(worker, probe, SPAN)?;
        let demands = Demands { stolen_s: stolen.so_far_s(), ..DEMANDS };
        let outcome = compare::compare(&accounts, &demands);
        let table = table::render(interpreter, kind, &accounts, &outcome);
        ensure!(outcome.passed(), "{demands:?}\n{table}");
        let last = &accounts.last_snapshot;
        ensure!(last.accounting.samples > 100, "{:?}", last.accounting);
        ensure!(last.worker.polls > 100, "polls are counted without a probe");
        let errors_are_told = |session: &Session| session.cpu_error_s.is_some();
        ensure!(last.sessions.iter().all(errors_are_told), "{:?}", last.sessions);
        Ok(())
    })
}

#[test]
fn a_step_up_and_down_changes_the_mode_and_loses_nothing() -> Result<()> {
    let setting = Setting::from_environment()?;
    let words = "rates.py --rate 300 --sessions 10 --block-ms 80 --block-every-s 0.3";
    let mut worker = Worker::start(&setting, setting.usual(), words)?;
    let mut probe = Probe::start(&setting, worker.pid, "--mode auto --refresh-rate 4")?;
    let limit = Duration::from_secs(40);
    let mode = |wanted: &'static str| move |it: &Snapshot| it.accounting.mode == wanted;
    probe.snapshot_where("that is exact", limit, mode("exact"))?;
    worker.say("rate 100000")?;
    probe.snapshot_where("that is sampled", limit, mode("sampled"))?;
    // Some seconds of it, with blocks in them.
    let busy_s = probe.snapshot()?.elapsed_s + 2.0;
    probe.snapshot_where("two seconds later", limit, |it| it.elapsed_s > busy_s)?;
    worker.say("rate 300")?;
    probe.snapshot_where("that is exact again", limit, mode("exact"))?;
    let end_s = probe.snapshot()?.elapsed_s + 1.0;
    probe.snapshot_where("a second later", limit, |it| it.elapsed_s > end_s)?;
    let record = probe.stop(nix::sys::signal::Signal::SIGTERM)?;
    worker.say("blocks")?;
    let blocks = worker.word("blocks")?;
    let blocks = blocks["all"].as_array().context("no list of blocks")?;

    let changes = &record.last().accounting.changes;
    let names: Vec<(&str, &str)> =
        changes.iter().map(|(mode, reason)| (mode.as_str(), reason.as_str())).collect();
    let expected =
        [("exact", "within_budget"), ("sampled", "over_budget"), ("exact", "within_budget")];
    ensure!(names.starts_with(&expected), "{names:?}");
    nothing_goes_back(&record.snapshots)?;
    blocks_are_told(blocks, &record.stalls, &record.snapshots)
}

/// A session that begins while polls are sampled, and that no sample meets, is found among the tasks.
#[test]
fn a_quiet_session_is_listed_without_a_probe() -> Result<()> {
    let setting = Setting::from_environment()?;
    let mut worker = Worker::start(&setting, setting.usual(), "rates.py --rate 100 --sessions 4")?;
    let mut probe = Probe::start(&setting, worker.pid, "--mode sampled --refresh-rate 4")?;
    let before = probe.snapshot()?;
    ensure!(before.session("AJ_quiet").is_none(), "it is there too early: {before:?}");
    worker.say("add AJ_quiet")?;
    let limit = Duration::from_secs(20);
    let found =
        probe.snapshot_where("with the quiet one", limit, |it| it.session("AJ_quiet").is_some())?;
    let quiet = found.session("AJ_quiet").context("it was there")?;
    ensure!(quiet.agent.as_deref() == Some("waiting"), "{quiet:?}");
    probe.stop(nix::sys::signal::Signal::SIGTERM)?;
    Ok(())
}

#[test]
fn a_change_is_a_line_of_log() -> Result<()> {
    let setting = Setting::from_environment()?;
    let worker = Worker::start(&setting, setting.usual(), "rates.py --rate 100 --sessions 4")?;
    let output = setting
        .probe(worker.pid, "--mode auto --duration 1")
        .output()
        .context("running openrtc-probe")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{output:?}");
    let is_told =
        |line: &str| line.starts_with("[mode] mode=exact reason=within_budget polls_per_s=");
    ensure!(text.lines().any(is_told), "{text}");
    Ok(())
}

/// Each block that began and ended while the probe looked is told as a stall of its session, of its length.
fn blocks_are_told(blocks: &[Value], stalls: &[Stall], snapshots: &[Snapshot]) -> Result<()> {
    let from_ns = snapshots.first().context("no snapshot")?.attached_real_ns();
    let until_ns = snapshots.last().context("no snapshot")?.at_real_ns;
    let ended: Vec<&Stall> = stalls.iter().filter(|stall| !stall.ongoing).collect();
    let mut counted = 0;
    for block in blocks {
        let (at_ns, ms) = (field::int(block, "at_real_ns")?, field::float(block, "ms")?);
        if at_ns < from_ns || at_ns + (ms * 1e6) as i64 > until_ns {
            continue;
        }
        counted += 1;
        let near = |stall: &&&Stall| (stall.started_real_ns - at_ns).abs() < SAME_START_NS;
        let stall = ended.iter().find(near);
        let stall = stall.with_context(|| format!("{block} was missed"))?;
        ensure!(stall.session.as_deref() == Some("AJ_block"), "{block}: {stall:?}");
        let off_ms = (stall.duration_ms - ms).abs();
        ensure!(off_ms < DURATION_MS, "{block} is off by {off_ms} ms: {stall:?}");
    }
    ensure!(counted > 20, "{counted} blocks are too few to say anything");
    Ok(())
}

/// No cumulative figure is ever less than before.
fn nothing_goes_back(snapshots: &[Snapshot]) -> Result<()> {
    for two in snapshots.windows(2) {
        let [before, after] = two else { continue };
        let polls = (before.worker.polls, after.worker.polls);
        ensure!(polls.0 <= polls.1, "{polls:?} polls");
        for session in &before.sessions {
            let Some(now) = after.session(&session.id) else { continue };
            let figures = |session: &Session| {
                let usage = session.usage;
                [usage.cpu_s, usage.off_cpu_s, usage.run_queue_s, usage.polls as f64]
            };
            let pairs = figures(session).into_iter().zip(figures(now));
            ensure!(pairs.clone().all(|(was, is)| is >= was), "{session:?} became {now:?}");
        }
    }
    Ok(())
}
