//! What the daemon needs for very many sessions: 10,000 that live and make 5,000 polls a second, then
//! 200,000 that live for a moment each. Ends with 1 when a goal is missed.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal::SIGTERM;
use openrtc_tests::{
    cpu_watch::process_cpu_ns,
    probe::{PATIENCE, Probe},
    process::Program,
    said::{self, Said},
    scale::{self, Memory},
    setting::{Loop, Setting},
    worker::Worker,
};

/// How long the daemon is watched.
const SPAN: Duration = Duration::from_secs(30);
/// What is not measured after attaching: the first pictures.
const SETTLE: Duration = Duration::from_secs(3);
const GOAL_ATTACH_MS: u64 = 2000;
const GOAL_MEMORY_MB: f64 = 100.0;
const GOAL_CPU_PCT: f64 = 5.0;
const SHORT: u64 = 200_000;
const PER_S: u64 = 1_500;
const MB: f64 = 1_048_576.0;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-scale: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let setting = Setting::from_environment()?;
    println!(
        "interpreter      loop      sessions  attach ms   rss MB  maps MB  daemon CPU %  polls/s  lost"
    );
    let mut passed = true;
    for interpreter in [setting.usual(), setting.newest()] {
        for kind in Loop::ALL {
            let worker = Worker::start(&setting, interpreter, &format!("scale.py --loop {kind}"))?;
            print!("{:<16} {:<8} ", interpreter.name, kind.name());
            passed &= live(&setting, &worker)?;
        }
    }
    churn(&setting)?;
    println!(
        "{}  goals: attach {GOAL_ATTACH_MS} ms, rss and maps {GOAL_MEMORY_MB} MB, CPU {GOAL_CPU_PCT} %",
        if passed { "PASS" } else { "FAIL" }
    );
    Ok(passed)
}

/// Watches 10,000 sessions, all of them listed each second.
fn live(setting: &Setting, worker: &Worker) -> Result<bool> {
    let mut command = setting.probe(worker.pid, "--json -v");
    let mut probe = Program::start("openrtc-probe", &mut command)?;
    let attach_ms = scale::attach_ms(&mut probe, PATIENCE)?;
    read_for(&mut probe, SETTLE);
    let (before_ns, began) = (process_cpu_ns(probe.pid())?, Instant::now());
    read_for(&mut probe, SPAN);
    let used_ns = process_cpu_ns(probe.pid())? - before_ns;
    let cpu_pct = used_ns as f64 / began.elapsed().as_nanos() as f64 * 100.0;
    let memory = Memory::of(probe.pid())?;
    probe.signal(SIGTERM)?;
    let ended = probe.finish(PATIENCE)?;
    let line = ended.stdout.last().context("no last snapshot")?;
    let Said::Snapshot(last) = said::parse(line, 0)? else { anyhow::bail!("{line:.200}") };
    let polls_per_s = last.worker.polls as f64 / last.elapsed_s;
    let (rss_mb, maps_mb) = (memory.rss_bytes as f64 / MB, memory.kernel_bytes as f64 / MB);
    println!(
        "{:>9} {attach_ms:>10} {rss_mb:>8.1} {maps_mb:>8.1} {cpu_pct:>13.2} {polls_per_s:>8.0}  {:?}",
        last.sessions.len(),
        last.lost,
    );
    Ok(attach_ms < GOAL_ATTACH_MS
        && rss_mb + maps_mb < GOAL_MEMORY_MB
        && cpu_pct < GOAL_CPU_PCT
        && last.lost.is_empty())
}

fn read_for(program: &mut Program, span: Duration) {
    let deadline = Instant::now() + span;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        // Nothing within what is left is no error.
        let _ = program.next(left);
    }
}

fn churn(setting: &Setting) -> Result<()> {
    let words = "scale.py --sessions 100 --polls-per-s 0";
    let mut worker = Worker::start(setting, setting.usual(), words)?;
    let mut probe = Probe::start(setting, worker.pid, "")?;
    let churned = scale::churn(&mut worker, &mut probe, SHORT, PER_S)?;
    let [then, now] = churned.memory.map(|memory| memory.rss_bytes as f64 / MB);
    println!(
        "{SHORT} short sessions in {:.0} s: {} callbacks, {} polls, {} listed at most, {} at the end, \
         rss {then:.1} MB after half of them, {now:.1} MB after all; lost {:?}",
        churned.wall_s,
        churned.callbacks,
        churned.polls,
        churned.most_listed,
        churned.last.sessions.len(),
        churned.last.lost,
    );
    probe.stop(SIGTERM).map(drop)
}
