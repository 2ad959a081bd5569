//! The accuracy bench: start a worker and the probe, take both accounts, compare, print.
//!
//! Both accounts are cumulative, so differences are compared: the probe's last snapshot less its first
//! one against the worker's account at the very instants that those two snapshots carry.

pub mod burns;
pub mod compare;
pub mod options;
pub mod stalls;
pub mod table;

use std::time::Duration;

use anyhow::{Context as _, Result};

use compare::{Accounts, Demands};
use options::Options;

use crate::probe::{PATIENCE, Probe};
use crate::setting::{Interpreter, Loop, Setting};
use crate::stolen::Stolen;
use crate::worker::Worker;

/// The first second of a worker is not like the others.
const SETTLE: Duration = Duration::from_secs(1);

/// Runs every combination that was asked for; whether all demands were met.
pub fn bench(options: &Options) -> Result<bool> {
    let setting = Setting::from_environment()?;
    let interpreters = setting.chosen(&options.interpreters)?;
    let mut failed = Vec::new();
    let mut runs = 0;
    for interpreter in &interpreters {
        for &kind in &options.loops {
            runs += 1;
            let name = format!("{} {}", interpreter.name, kind.name());
            match bench_one(&setting, interpreter, kind, options) {
                Ok(accounts) => {
                    let is_sampled = accounts.last_snapshot.accounting.sampled_s > 0.0;
                    let demands = if is_sampled { Demands::SAMPLED } else { Demands::BENCH };
                    let outcome = compare::compare(&accounts, &demands);
                    print!("{}", table::render(interpreter, kind, &accounts, &outcome));
                    if options.each {
                        print!("{}", table::render_each(&outcome));
                    }
                    if !outcome.passed() {
                        failed.push(name);
                    }
                }
                Err(error) => {
                    println!("{name}: FAIL  {error:#}\n");
                    failed.push(name);
                }
            }
        }
    }
    if failed.is_empty() {
        println!("PASS  {runs} runs");
    } else {
        println!("FAIL  {} of {runs} runs: {}", failed.len(), failed.join(", "));
    }
    Ok(failed.is_empty())
}

/// The bench's worker: 50 sessions of 3 tasks, two hot, two that block 120 ms each 3 s.
///
/// On the stdlib loop each callback is measured at its boundary, so the bursts can be as short as
/// real ones. uvloop's callbacks can be measured from just inside only, so the bursts are long enough
/// for what lies around the measurement to stay near half a per cent, and rarer.
pub fn bench_one(
    setting: &Setting,
    interpreter: &Interpreter,
    kind: Loop,
    options: &Options,
) -> Result<Accounts> {
    let bursts = match kind {
        Loop::Asyncio => "--truth handle --tick-ms 20 --burn-us 60 --hot-burn-us 600",
        Loop::Uvloop => {
            "--truth step --tick-ms 8000 --burn-us 20000 --hot-tick-ms 1000 --hot-burn-us 20000"
        }
    };
    let words = format!(
        "sessions.py --introspection --loop {kind} --sessions 50 --tasks 3 --hot 2 --block 2 \
         --block-ms 120 --block-every-s 3 --block-kind alternate {bursts}"
    );
    let worker = Worker::start(setting, interpreter, &words)?;
    std::thread::sleep(SETTLE);
    let Options { seconds, mode, .. } = options;
    let probe = Probe::start(setting, worker.pid, &format!("--duration {seconds} --mode {mode}"))?;
    measure(worker, probe, Duration::from_secs(u64::from(*seconds)))
}

/// Takes both accounts: the worker's at the instants of the probe's first and last snapshot, and at
/// its end. The probe ends by itself after `span`.
pub fn measure(mut worker: Worker, mut probe: Probe, span: Duration) -> Result<Accounts> {
    let stolen = Stolen::start();
    let first_snapshot = probe.snapshot()?;
    let first = worker.mark(first_snapshot.at_real_ns)?;
    let last_snapshot = probe.last_snapshot(span + PATIENCE)?;
    let last = worker.mark(last_snapshot.at_real_ns)?;
    let stalls = probe.finish().context("after the last snapshot")?.stalls;
    let stolen_s = stolen.so_far_s();
    let whole = worker.end()?;
    Ok(Accounts { first_snapshot, last_snapshot, first, last, whole, stalls, stolen_s })
}
