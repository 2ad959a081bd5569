//! Very many sessions: what the daemon needs for them, and whether its account stays whole.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::probe::{PATIENCE, Probe};
use crate::process::Program;
use crate::said::Snapshot;
use crate::worker::Worker;
use crate::{clock, field};

/// How much longer than asked for a run of short sessions may take, on a busy machine.
const SLOWER: u64 = 5;
/// Longer than the slot of a session that has ended waits, with the looks that it takes to see so.
const LEAVES: Duration = Duration::from_secs(15);

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Its resident set, the maps that it has mapped included.
    pub rss_bytes: u64,
    /// What the kernel holds for its maps and programs.
    pub kernel_bytes: u64,
}

impl Memory {
    /// Now.
    pub fn of(pid: i32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))
            .with_context(|| format!("reading the status of process {pid}"))?;
        let rss_kb = number_after(&status, "VmRSS:").context("no VmRSS")?;
        let mut kernel_bytes = 0;
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
            // A descriptor may be closed meanwhile.
            let info = fs::read_to_string(entry.path()).unwrap_or_default();
            kernel_bytes += number_after(&info, "memlock:").unwrap_or(0);
        }
        Ok(Self { rss_bytes: rss_kb * 1024, kernel_bytes })
    }
}

fn number_after(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Milliseconds that the daemon took to attach, as it says with `-v`.
pub fn attach_ms(program: &mut Program, limit: Duration) -> Result<u64> {
    let line = program.find_error("attached in ", limit)?;
    number_after(&line, "attached in ").with_context(|| line.clone())
}

/// What came of a run of short sessions.
#[derive(Debug)]
pub struct Churned {
    /// How long it took.
    pub wall_s: f64,
    /// Callbacks that the worker counted meanwhile.
    pub callbacks: i64,
    /// Polls that the daemon counted meanwhile.
    pub polls: i64,
    /// The most sessions that were listed at once.
    pub most_listed: usize,
    /// Memory of the daemon after half of them, and at the end.
    pub memory: [Memory; 2],
    /// The last snapshot, when all was quiet again and all that ended had left.
    pub last: Snapshot,
}

/// Has a worker without polls of its own make `count` short sessions, `per_s` each second.
pub fn churn(worker: &mut Worker, probe: &mut Probe, count: u64, per_s: u64) -> Result<Churned> {
    let live = field::int(&worker.ready, "sessions")?;
    let before = fresh(probe, PATIENCE, |_| true)?;
    let callbacks_before = callbacks(worker)?;
    let half = count / 2;
    let first = burst(worker, probe, half, per_s)?;
    let memory_then = Memory::of(probe.program.pid())?;
    let second = burst(worker, probe, count - half, per_s)?;
    let memory = [memory_then, Memory::of(probe.program.pid())?];
    let callbacks = callbacks(worker)? - callbacks_before;
    let last = fresh(probe, LEAVES, |snapshot| snapshot.sessions.len() as i64 <= live)?;
    let most_listed = probe.snapshots.iter().map(|one| one.sessions.len()).max().unwrap_or(0);
    let polls = last.worker.polls - before.worker.polls;
    Ok(Churned { wall_s: first + second, callbacks, polls, most_listed, memory, last })
}

/// Seconds that it took.
fn burst(worker: &mut Worker, probe: &mut Probe, count: u64, per_s: u64) -> Result<f64> {
    worker.say(&format!("churn {count} {per_s}"))?;
    let limit = Duration::from_secs(SLOWER * count / per_s) + PATIENCE;
    let done = worker.word_within("churned", limit)?;
    // There is much to read.
    fresh(probe, limit, |_| true)?;
    Ok(field::float(&done, "wall_ns")? / 1e9)
}

/// The next snapshot that is taken from now on and is as wanted; those before it are read too.
fn fresh(
    probe: &mut Probe,
    limit: Duration,
    wanted: impl Fn(&Snapshot) -> bool,
) -> Result<Snapshot> {
    let from_real_ns = clock::now_real_ns();
    let is_it = |snapshot: &Snapshot| snapshot.at_real_ns > from_real_ns && wanted(snapshot);
    probe.snapshot_where("that is taken from now on and as wanted", limit, is_it)
}

fn callbacks(worker: &mut Worker) -> Result<i64> {
    worker.say("count")?;
    field::int(&worker.word("counted")?, "callbacks")
}
