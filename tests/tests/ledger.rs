//! The ledger adds up: every second of the worker's CPU time is somewhere, every millisecond of a
//! stall is on-CPU, off-CPU or in the run queue, and each session has what it really used.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use openrtc_tests::{
    accuracy::{
        compare::{self, Accounts, Demands},
        measure, table,
    },
    cpu_watch::{CpuReadings, CpuWatch},
    probe::Probe,
    said::{Snapshot, Stall},
    setting::{Interpreter, Loop, Setting},
    stolen::Stolen,
    truth,
    worker::Worker,
};

const SPAN: Duration = Duration::from_secs(5);

/// What the ledger may leave open, in per cent of the process's CPU: what the kernel spends on a
/// switch after our tracepoint and before its own accounting, and what runs between two readings.
const OPEN_PCT: f64 = 2.0;
/// From the instant that a snapshot carries to the reading of the CPU clock that it shows: the daemon
/// may have to wait for a CPU.
const READING_NS: i64 = 20_000_000;
/// Numbers are printed to the nanosecond.
const ROUNDING_MS: f64 = 0.001;
/// How a block is known again: its report begins within this of it.
const SAME_START_NS: i64 = 20_000_000;
/// How long a block is: so long asleep, or so much CPU time.
const BLOCK_MS: f64 = 120.0;
/// Of a block, how much is where it belongs; the rest is what surrounds it in its callback, and the
/// run queue of a busy machine is not counted against it.
const DOMINATES: f64 = 0.9;

/// Wider than the bench's: the tests run on machines that do other things too.
const DEMANDS: Demands =
    Demands { session_ratio: 0.03, total_ratio: 0.03, duration_ms: 5.0, ..Demands::BENCH };

#[test]
fn the_ledger_adds_up_on_every_interpreter_and_loop() -> Result<()> {
    let setting = Setting::from_environment()?;
    setting.in_turn(|interpreter, kind| {
        let stolen = Stolen::start();
        let (accounts, cpu) = run(&setting, interpreter, kind)?;
        let demands = Demands { stolen_s: stolen.so_far_s(), ..DEMANDS };
        everything_is_somewhere(&accounts, demands.stolen_s)?;
        the_process_used_what_its_clock_says(&accounts, &cpu)?;
        stalls_add_up(&accounts.stalls)?;
        blocks_are_where_they_belong(&accounts)?;
        let outcome = compare::compare(&accounts, &demands);
        let table = table::render(interpreter, kind, &accounts, &outcome);
        ensure!(outcome.passed(), "{demands:?}\n{table}");
        Ok(())
    })
}

/// 12 sessions, one of them hot, one that blocks the loop, asleep and computing in turn.
fn run(
    setting: &Setting,
    interpreter: &Interpreter,
    kind: Loop,
) -> Result<(Accounts, CpuReadings)> {
    // On uvloop callbacks can be measured from just inside only: fewer and longer ones.
    let bursts = match kind {
        Loop::Asyncio => "--tasks 2 --truth handle --tick-ms 20 --burn-us 300 --hot-burn-us 1000",
        Loop::Uvloop => {
            "--tasks 1 --truth step --tick-ms 400 --burn-us 10000 --hot-tick-ms 50 \
             --hot-burn-us 10000"
        }
    };
    let words = format!(
        "sessions.py --loop {kind} --sessions 12 --hot 1 --block 1 --block-ms {BLOCK_MS} \
         --block-every-s 0.7 {bursts}"
    );
    let worker = Worker::start(setting, interpreter, &words)?;
    let watch = CpuWatch::start(worker.pid);
    let words = format!("--duration {}", SPAN.as_secs());
    let probe = Probe::start(setting, worker.pid, &words)?;
    let accounts = measure(worker, probe, SPAN)?;
    Ok((accounts, watch.stop()?))
}

/// What the host takes while a poll runs is in the poll, but not in the kernel's account.
fn everything_is_somewhere(accounts: &Accounts, stolen_s: f64) -> Result<()> {
    let snapshot = &accounts.last_snapshot;
    let worker = &snapshot.worker;
    let sessions: f64 = snapshot.sessions.iter().map(|session| session.usage.cpu_s).sum();
    let parts = [
        sessions,
        worker.ended_sessions_s,
        snapshot.untagged.cpu_s,
        worker.loop_overhead_s,
        worker.other_threads_s,
    ];
    let found_pct = 100.0 * parts.iter().sum::<f64>() / worker.cpu_s;
    let told_pct = worker.accounted_pct.context("no accounted_pct")?;
    ensure!(
        (found_pct - told_pct).abs() < 0.1,
        "accounted_pct is {told_pct:.2}, but the parts {parts:?} make {found_pct:.2} %"
    );
    let stolen_pct = 100.0 * stolen_s / worker.cpu_s;
    ensure!(
        (100.0 - OPEN_PCT..=100.0 + OPEN_PCT + stolen_pct).contains(&told_pct),
        "{told_pct:.2} % of {} s are accounted for: {parts:?}",
        worker.cpu_s
    );
    ensure!(snapshot.lost.is_empty(), "lost: {:?}", snapshot.lost);
    Ok(())
}

/// The probe's CPU seconds against the process's own CPU clock, read by the test all the time: from
/// one snapshot to the other they must lie between what the readings around them allow.
fn the_process_used_what_its_clock_says(accounts: &Accounts, cpu: &CpuReadings) -> Result<()> {
    let (first, last) = (&accounts.first_snapshot, &accounts.last_snapshot);
    let at =
        |snapshot: &Snapshot| cpu.bracket(snapshot.at_real_ns, snapshot.at_real_ns + READING_NS);
    let ((first_least, first_most), (last_least, last_most)) = (at(first)?, at(last)?);
    let told_s = last.worker.cpu_s - first.worker.cpu_s;
    let (least_s, most_s) = (last_least - first_most, last_most - first_least);
    ensure!(
        (least_s..=most_s).contains(&told_s),
        "cpu_seconds grew by {told_s}, the process's clock by {least_s} to {most_s}"
    );
    Ok(())
}

fn stalls_add_up(stalls: &[Stall]) -> Result<()> {
    for stall in stalls {
        let sum_ms = stall.on_cpu_ms + stall.off_cpu_ms + stall.run_queue_ms;
        ensure!((sum_ms - stall.duration_ms).abs() <= ROUNDING_MS, "{sum_ms} ms: {stall:?}");
    }
    Ok(())
}

/// `time.sleep` is off-CPU, computing is on-CPU, each for as long as it was asked to be.
fn blocks_are_where_they_belong(accounts: &Accounts) -> Result<()> {
    let mut kinds = [0, 0];
    for real in accounts.whole.stalls.iter().filter(|real| real.wall_ms() >= BLOCK_MS) {
        let Some(told) = report_of(accounts, real) else { continue };
        let is_asleep = real.cpu_ns as f64 / 1e6 < BLOCK_MS / 2.0;
        let (there_ms, elsewhere_ms) = if is_asleep {
            (told.off_cpu_ms, told.on_cpu_ms)
        } else {
            (told.on_cpu_ms, told.off_cpu_ms)
        };
        kinds[usize::from(is_asleep)] += 1;
        let is_there = there_ms >= DOMINATES * BLOCK_MS;
        let is_elsewhere = elsewhere_ms > (1.0 - DOMINATES) * BLOCK_MS;
        ensure!(is_there && !is_elsewhere, "asleep: {is_asleep}, but it is told as {told:?}");
    }
    ensure!(kinds[0] > 0 && kinds[1] > 0, "blocks of each kind that were reported: {kinds:?}");
    Ok(())
}

/// The report of a stall's end.
fn report_of<'a>(accounts: &'a Accounts, real: &truth::Stall) -> Option<&'a Stall> {
    let start_real_ns = real.start_ns + accounts.whole.realtime_offset_ns;
    accounts.stalls.iter().find(|told| {
        let apart_ns = (told.started_real_ns - start_real_ns).abs();
        !told.ongoing && !told.is_lower_bound && apart_ns <= SAME_START_NS
    })
}
