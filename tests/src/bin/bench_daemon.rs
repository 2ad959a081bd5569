//! What leaving the daemon on takes: attaching, detaching, its CPU and its memory, for 1,000 sessions that make
//! 5,000 polls a second, once a second, each poll accounted. Ends with 1 when a goal is missed.
//!
//! `bench-daemon [SECONDS]`: how long each view is watched, a minute if it is not said.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal::SIGTERM;
use openrtc_tests::{
    code_pages,
    cpu_watch::process_cpu_ns,
    probe::{PATIENCE, Probe},
    process::only_child,
    scale::Memory,
    setting::{Loop, Setting},
    terminal::Terminal,
    worker::Worker,
};

const SESSIONS: usize = 1_000;
/// How often the daemon attaches and ends; the one in the middle counts.
const ROUNDS: usize = 5;
/// How long a view is watched.
const SPAN: Duration = Duration::from_mins(1);
/// What is not measured after attaching: the first pictures.
const SETTLE: Duration = Duration::from_secs(5);
/// The rarest of its walks comes each half a minute: from then on its memory is to be flat.
const SETTLE_MEMORY: Duration = Duration::from_secs(35);
const LOOK: Duration = Duration::from_millis(1);
const MB: f64 = 1_048_576.0;

/// What is measured, in which unit, and what it must be below, if there is such a demand.
const GOALS: [(&str, &str, Option<f64>); 6] = [
    ("from exec to the first count", "ms", Some(500.0)),
    ("from SIGTERM to the last breakpoint", "ms", None),
    ("CPU with --json", "% of a core", Some(1.0)),
    ("CPU with the live table", "% of a core", Some(1.0)),
    ("resident set, at the end", "MB", Some(40.0)),
    ("resident set, grown meanwhile", "MB", Some(1.0)),
];

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-daemon: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let span = match std::env::args().nth(1) {
        Some(seconds) => Duration::from_secs(seconds.parse().context("how many seconds?")?),
        None => SPAN,
    };
    let setting = Setting::from_environment()?;
    let mut passed = true;
    for kind in Loop::ALL {
        let words = format!("scale.py --loop {kind} --sessions {SESSIONS}");
        let worker = Worker::start(&setting, setting.usual(), &words)?;
        let [attach, detach] = come_and_go(&setting, worker.pid)?;
        let (json_pct, [first_mb, last_mb]) = json(&setting, worker.pid, span)?;
        let table_pct = table(&setting, worker.pid, span)?;
        let found =
            [attach.middle, detach.middle, json_pct, table_pct, last_mb, last_mb - first_mb];
        for ((what, unit, goal), found) in GOALS.into_iter().zip(found) {
            let is_met = goal.is_none_or(|goal| found < goal);
            let verdict = match goal {
                Some(_) if is_met => "PASS",
                Some(_) => "FAIL",
                None => "    ",
            };
            let goal = goal.map_or_else(String::new, |goal| format!(", goal {goal}"));
            println!("{verdict}  {kind:<8} {what:<36} {found:>8.2} {unit}{goal}");
            passed &= is_met;
        }
        println!("      {kind:<8} attach {attach}, detach {detach}");
    }
    Ok(passed)
}

/// Milliseconds of several rounds.
struct Spread {
    least: f64,
    middle: f64,
    most: f64,
}

impl Spread {
    fn of(mut all: [f64; ROUNDS]) -> Spread {
        all.sort_by(f64::total_cmp);
        Spread { least: all[0], middle: all[ROUNDS / 2], most: all[ROUNDS - 1] }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:.0} to {:.0} ms, of {ROUNDS}", self.least, self.most)
    }
}

/// How long it takes from its start to a picture with polls in it, and from its signal to the worker's code
/// being as in its files.
fn come_and_go(setting: &Setting, pid: i32) -> Result<[Spread; 2]> {
    let (mut attach, mut detach) = ([0.0; ROUNDS], [0.0; ROUNDS]);
    for (attach_ms, detach_ms) in attach.iter_mut().zip(&mut detach) {
        let began = Instant::now();
        // The fastest there is: up to a tenth of a second of waiting for a picture is within the figure.
        let mut probe = Probe::start(setting, pid, "--refresh-rate 10")?;
        probe.snapshot_where("with polls", PATIENCE, |picture| picture.worker.polls > 0)?;
        *attach_ms = began.elapsed().as_secs_f64() * 1e3;
        let began = Instant::now();
        probe.program.signal(SIGTERM)?;
        while !code_pages::differences(pid)?.is_empty() {
            ensure!(began.elapsed() < PATIENCE, "breakpoints stay in the worker");
            sleep(LOOK);
        }
        *detach_ms = began.elapsed().as_secs_f64() * 1e3;
        probe.finish()?;
    }
    Ok([Spread::of(attach), Spread::of(detach)])
}

/// The daemon's CPU as it prints JSON, and its resident set at first and at last.
fn json(setting: &Setting, pid: i32, span: Duration) -> Result<(f64, [f64; 2])> {
    let mut probe = Probe::start(setting, pid, "")?;
    let daemon = probe.program.pid();
    let rss_mb = || Ok::<_, anyhow::Error>(Memory::of(daemon)?.rss_bytes as f64 / MB);
    read_for(&mut probe, SETTLE_MEMORY)?;
    let (first_mb, before_ns, began) = (rss_mb()?, process_cpu_ns(daemon)?, Instant::now());
    read_for(&mut probe, span)?;
    let cpu_pct = cpu_pct(process_cpu_ns(daemon)? - before_ns, began);
    let last_mb = rss_mb()?;
    let listed = probe.snapshots.last().map_or(0, |picture| picture.sessions.len());
    ensure!(listed == SESSIONS, "{listed} sessions are listed");
    probe.stop(SIGTERM)?;
    Ok((cpu_pct, [first_mb, last_mb]))
}

fn read_for(probe: &mut Probe, span: Duration) -> Result<()> {
    let until = Instant::now() + span;
    while Instant::now() < until {
        probe.snapshot()?;
    }
    Ok(())
}

/// The daemon's CPU with its table open.
fn table(setting: &Setting, pid: i32, span: Duration) -> Result<f64> {
    let probe = setting.probe_file().display();
    let script = format!("'{probe}' --pid {pid} --mode exact; read wait");
    let terminal = Terminal::start(120, 36, &script)?;
    terminal.wait_for("table", PATIENCE, |screen| screen.contains("AJ_live"))?;
    let daemon = only_child(terminal.fact("pane_pid")?.parse()?)?;
    sleep(SETTLE);
    let (before_ns, began) = (process_cpu_ns(daemon)?, Instant::now());
    sleep(span);
    let cpu_pct = cpu_pct(process_cpu_ns(daemon)? - before_ns, began);
    terminal.press("q")?;
    terminal.wait_for("end", PATIENCE, |screen| !screen.contains("AJ_live"))?;
    Ok(cpu_pct)
}

fn cpu_pct(used_ns: i64, began: Instant) -> f64 {
    used_ns as f64 / began.elapsed().as_nanos() as f64 * 100.0
}
