//! Half an hour on workers that make 20,000 polls a second and replace their sessions all the time, beside their own
//! account: one whose polls are accounted each, and one whose daemon keeps to its budget. Ends with 1 when a goal is
//! missed.
//!
//! `bench-soak [MINUTES]`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal::SIGTERM;
use openrtc_tests::{
    churn::{Judgement, Watched},
    cpu_watch::process_cpu_ns,
    probe::{Probe, Record},
    said::Snapshot,
    scale::Memory,
    setting::{Loop, Setting},
    stolen::Stolen,
    truth::Truth,
    worker::Worker,
};

const MINUTE: Duration = Duration::from_mins(1);
const MINUTES: u32 = 30;
/// A timer and a step each 20 ms, of each of 200: 20,000 polls a second; 40 sessions end each second.
const WORKER: &str = "churn.py --sessions 200 --life-s 5 --tick-ms 20 --burn-us 10";
/// What it may grow by in the second half. In the first it comes to know what there is: of each stall's library the
/// tables are kept, and each of its own is as long as it will be.
const GROWN_MB: f64 = 0.5;
/// Of the CPU of all sessions.
const CPU_RATIO: f64 = 0.02;
/// What the daemon's own breakpoints take of a poll before the first reading in it and after the last.
const BREAKPOINTS_S: f64 = 0.000_001;
/// Of the whole sessions, those whose first step was untagged's.
const LACK_ONE_RATIO: f64 = 0.02;
/// At each end of the span, polls that one of both counts and the other does not.
const EDGE_POLLS: i64 = 50;
const MB: f64 = 1_048_576.0;

/// A worker of its own each: breakpoints of one daemon are time to another.
struct Watch {
    name: &'static str,
    worker: Worker,
    probe: Probe,
    /// The worker's account when it attached.
    from: Truth,
    watched: Watched,
    last: Snapshot,
    cpu_ns: i64,
    /// Of each minute, in MB.
    rss_mb: Vec<f64>,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let minutes = match std::env::args().nth(1) {
        Some(minutes) => minutes.parse().context("how many minutes?")?,
        None => MINUTES,
    };
    let setting = Setting::from_environment()?;
    let stolen = Stolen::start();
    let mut both = [Watch::start(&setting, "exact")?, Watch::start(&setting, "auto")?];
    println!("min  mode   polls/s  sessions  ended CPU s  daemon CPU %  rss MB  maps MB  lost");
    let began = Instant::now();
    for minute in 1..=minutes {
        while began.elapsed() < MINUTE * minute {
            for watch in &mut both {
                watch.read()?;
            }
        }
        for watch in &mut both {
            watch.tell(minute)?;
        }
    }
    let mut passed = true;
    for watch in both {
        passed &= watch.finish(stolen.so_far_s())?;
    }
    Ok(passed)
}

impl Watch {
    fn start(setting: &Setting, name: &'static str) -> Result<Self> {
        let mut worker = Worker::start(setting, setting.usual(), WORKER)?;
        let mut probe = Probe::start(setting, worker.pid, &format!("--mode {name}"))?;
        let last = probe.snapshot()?;
        let from = worker.mark(last.attached_real_ns())?;
        let mut watched = Watched::default();
        watched.see(&last);
        let cpu_ns = process_cpu_ns(probe.program.pid())?;
        Ok(Self { name, worker, probe, from, watched, last, cpu_ns, rss_mb: Vec::new() })
    }

    /// Reads one picture, and keeps no more of it than is needed.
    fn read(&mut self) -> Result<()> {
        self.last = self.probe.snapshot()?;
        self.watched.see(&self.last);
        self.probe.snapshots.clear();
        self.probe.stalls.clear();
        Ok(())
    }

    /// One line.
    fn tell(&mut self, minute: u32) -> Result<()> {
        let pid = self.probe.program.pid();
        let memory = Memory::of(pid)?;
        let cpu_ns = process_cpu_ns(pid)?;
        let used_ns = cpu_ns - std::mem::replace(&mut self.cpu_ns, cpu_ns);
        let rss_mb = memory.rss_bytes as f64 / MB;
        self.rss_mb.push(rss_mb);
        let last = &self.last;
        println!(
            "{minute:>3}  {:<5} {:>8.0} {:>9} {:>12.3} {:>13.2} {rss_mb:>7.2} {:>8.2}  {:?}",
            self.name,
            last.worker.polls as f64 / last.elapsed_s,
            last.sessions.len(),
            last.worker.ended_sessions_s,
            used_ns as f64 / MINUTE.as_nanos() as f64 * 100.0,
            memory.kernel_bytes as f64 / MB,
            last.lost,
        );
        Ok(())
    }

    /// Ends it; whether it was right all the time.
    fn finish(mut self, stolen_s: f64) -> Result<bool> {
        let at = |place: usize| self.rss_mb.get(place).copied().unwrap_or_default();
        let [first_mb, half_mb, last_mb] =
            [0, self.rss_mb.len() / 2, self.rss_mb.len().saturating_sub(1)].map(at);
        let record = self.probe.stop(SIGTERM)?;
        record.snapshots.iter().for_each(|picture| self.watched.see(picture));
        let truth = self.worker.mark(record.last().at_real_ns)?;
        let mut verdicts = Verdicts { name: self.name, passed: true };
        verdicts.say(
            last_mb - half_mb < GROWN_MB,
            &format!(
                "resident set {first_mb:.2} MB at first, {half_mb:.2} at half, {last_mb:.2} at last"
            ),
        );
        all_of_them(&mut verdicts, &record, &self.from, &truth, stolen_s);
        if self.name == "exact" {
            each_of_them(&mut verdicts, &self.watched.judge(&truth, Loop::Asyncio), stolen_s);
        }
        let changes = &record.last().accounting.changes;
        println!(
            "      {:<5} lost {:?}, changes of mode: {changes:?}",
            self.name,
            record.last().lost
        );
        self.worker.end()?;
        Ok(verdicts.passed)
    }
}

/// CPU of all sessions, and polls where each is counted.
fn all_of_them(verdicts: &mut Verdicts, record: &Record, from: &Truth, to: &Truth, stolen_s: f64) {
    let last = record.last();
    let listed_s: f64 = last.sessions.iter().map(|session| session.usage.cpu_s).sum();
    let ours_s = listed_s + last.worker.ended_sessions_s;
    let real_s = (to.sessions_cpu_ns() - from.sessions_cpu_ns()) as f64 / 1e9;
    let off_s = ours_s - real_s;
    let is_exact = last.accounting.mode == "exact";
    let breakpoints_s = if is_exact { last.worker.polls as f64 * BREAKPOINTS_S } else { 0.0 };
    let slack_s = real_s * CPU_RATIO + stolen_s;
    let is_near = (-slack_s - breakpoints_s..=slack_s).contains(&off_s);
    let off_pct = off_s / real_s * 100.0;
    verdicts.say(
        is_near,
        &format!("CPU of all sessions {ours_s:.3} s, really {real_s:.3} s: {off_pct:+.3} % ({stolen_s:.2} s stolen)"),
    );
    if is_exact {
        let made = to.polls() - from.polls();
        let counted = last.worker.polls;
        let lost: i64 = last.lost.values().sum();
        let is_all = (made - counted - lost).abs() <= EDGE_POLLS;
        verdicts.say(is_all, &format!("polls {counted}, really {made}; lost {lost}"));
    }
}

/// Each session's own polls and CPU.
fn each_of_them(verdicts: &mut Verdicts, found: &Judgement, stolen_s: f64) {
    let Judgement { whole, seen, polls, lack_one_poll, .. } = *found;
    verdicts.say(
        whole > 0 && found.invented.is_empty(),
        &format!(
            "{whole} of {seen} sessions seen from begin to end, {} invented",
            found.invented.len()
        ),
    );
    let is_right =
        found.other_polls.is_empty() && lack_one_poll as f64 <= whole as f64 * LACK_ONE_RATIO;
    let others = found.other_polls.len();
    verdicts.say(
        is_right,
        &format!("{polls} polls of the whole ones: {lack_one_poll} sessions lack one, {others} are otherwise wrong"),
    );
    let [ours_s, real_s] = found.cpu_s;
    let is_own =
        found.too_much_s <= stolen_s && found.too_little_s <= found.all_s * CPU_RATIO / 2.0;
    verdicts.say(
        is_own,
        &format!(
            "CPU of the whole ones {ours_s:.3} s, really {real_s:.3} s; {:.4} s with a wrong one, {:.4} s with none, {} sessions",
            found.too_much_s,
            found.too_little_s,
            found.wrong.len()
        ),
    );
}

struct Verdicts {
    name: &'static str,
    passed: bool,
}

impl Verdicts {
    fn say(&mut self, is_met: bool, what: &str) {
        self.passed &= is_met;
        println!("{}  {:<5} {what}", if is_met { "PASS" } else { "FAIL" }, self.name);
    }
}
