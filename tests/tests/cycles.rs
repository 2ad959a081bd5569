//! Attached to and left again many times by one process: neither that nor the worker keeps anything of it.

use std::{
    fs,
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::libc::mallinfo2;
use openrtc_probe::host::own;
use openrtc_tests::{
    code_pages,
    driver::Driver,
    kernel, say,
    scale::Memory,
    setting::{Loop, Setting, is_all},
    worker::Worker,
};

/// With `OPENRTC_TESTS=all`, and without: a cycle takes a tenth of a second.
const CYCLES: [usize; 2] = [1_000, 40];
/// What is made once, and the allocator's own ups and downs, are over by then.
const SETTLED: usize = 15;
/// What the worker may have grown by in all cycles, by itself.
const GROWN_BYTES: u64 = 1 << 20;
/// What we may hold more of after all cycles, and in pages that the allocator keeps.
const IN_USE_BYTES: usize = 64 << 10;
const KEPT_BYTES: u64 = 32 << 20;

/// How long a thread may take to end.
const ENDS: Duration = Duration::from_secs(5);

/// What must not grow.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    mappings: usize,
    rss_bytes: u64,
}

/// Bytes that we have asked the allocator for and not given back.
fn in_use() -> usize {
    // SAFETY: it reads the allocator's own counters, under its locks.
    let heap = unsafe { mallinfo2() };
    heap.uordblks + heap.hblkhd
}

impl Held {
    fn of(pid: i32) -> Result<Self> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let entries = |name: &str| {
            let entries = fs::read_dir(proc.join(name)).with_context(|| format!("listing {name}"));
            Ok::<_, anyhow::Error>(entries?.count())
        };
        let maps = fs::read_to_string(proc.join("maps"))?;
        let mappings = maps.lines().filter(|line| !is_heap(line)).count();
        let rss_bytes = Memory::of(pid)?.rss_bytes;
        Ok(Self { descriptors: entries("fd")?, threads: entries("task")?, mappings, rss_bytes })
    }

    fn grown_since(&self, before: &Held) -> u64 {
        self.rss_bytes.saturating_sub(before.rss_bytes)
    }
}

/// An allocator takes and gives back mappings without a name.
fn is_heap(line: &str) -> bool {
    line.split_whitespace().nth(5).is_none()
}

#[test]
fn nobody_keeps_anything() -> Result<()> {
    own::share_heaps();
    let setting = Setting::from_environment()?;
    let cycles = CYCLES[usize::from(!is_all())];
    let before = kernel::ours()?;
    for kind in Loop::ALL {
        let words = format!("sessions.py --sessions 6 --truth none --loop {kind}");
        let worker = Worker::start(&setting, setting.usual(), &words)?;
        repeat(&worker, cycles).with_context(|| kind.name())?;
        let breakpoints = code_pages::differences(worker.pid)?;
        ensure!(breakpoints.is_empty(), "left in the worker: {breakpoints:?}");
        worker.end_with_words()?;
    }
    kernel::wait_until_nothing_is_left(&before)
}

fn repeat(worker: &Worker, cycles: usize) -> Result<()> {
    let quiet = Held::of(std::process::id().cast_signed())?;
    let me = std::process::id().cast_signed();
    // A thread that has done its work may not quite be gone.
    let now = || {
        let is_quiet = |held: &Held| held.threads <= quiet.threads;
        let began = Instant::now();
        let mut ours = Held::of(me)?;
        while !is_quiet(&ours) && began.elapsed() < ENDS {
            sleep(Duration::from_millis(1));
            ours = Held::of(me)?;
        }
        Ok::<_, anyhow::Error>((in_use(), ours, Held::of(worker.pid)?))
    };
    let mut settled = now()?;
    for cycle in 0..cycles {
        let mut driver = Driver::attach(worker).with_context(|| format!("cycle {cycle}"))?;
        let sessions = driver.picture()?.sessions.len();
        ensure!(sessions == 6, "cycle {cycle}: {sessions} sessions");
        drop(driver);
        if cycle == SETTLED {
            settled = now()?;
        }
    }
    let (first_in_use, ours, workers) = settled;
    let (last_in_use, our_last, worker_last) = now()?;
    say::note(&format!(
        "{cycles} cycles: {first_in_use} bytes in use after {SETTLED}, {last_in_use} after all; \
         {ours:?}, then {our_last:?}; the worker {workers:?}, then {worker_last:?}"
    ));
    ensure!(last_in_use.saturating_sub(first_in_use) < IN_USE_BYTES, "we keep what we asked for");
    for (before, now, most) in [(ours, our_last, KEPT_BYTES), (workers, worker_last, GROWN_BYTES)] {
        let same = (before.descriptors, before.threads, before.mappings)
            == (now.descriptors, now.threads, now.mappings);
        ensure!(same && now.grown_since(&before) < most, "{before:?}, then {now:?}");
    }
    Ok(())
}
