//! The programs at a worker's sites come and go while it runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use openrtc_common::config::Settings;
use openrtc_probe::{
    bpf::{Busiest, Capacity, CostAccounting, Kernel, Preparing, Programs, SitePoint},
    profiler,
    worker::Worker as Seen,
};
use openrtc_tests::{
    code_pages::{self, BREAKPOINT},
    driver, say,
    setting::{Loop, Setting},
    worker::Worker,
};

const CYCLES: usize = 8;
/// A worker of thousands of polls a second runs over its probes long before.
const SOON: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(1);

#[test]
fn probes_come_and_go_again_and_again() -> Result<()> {
    let setting = Setting::from_environment()?;
    let _accounting = CostAccounting::start()?;
    for kind in Loop::ALL {
        let words = format!("scale.py --loop {kind} --sessions 100 --polls-per-s 4000");
        let mut worker = Worker::start(&setting, setting.usual(), &words)?;
        let (kernel, points) = load(worker.pid)?;
        let (mut attach_ms, mut detach_ms) = (0.0_f64, 0.0_f64);
        for cycle in 0..CYCLES {
            let [attach, detach] = come_and_go(&kernel, &points, worker.pid)
                .with_context(|| format!("cycle {cycle}"))?;
            (attach_ms, detach_ms) = (attach_ms.max(attach), detach_ms.max(detach));
            ensure!(worker.is_running()?, "the worker died in cycle {cycle}");
        }
        say::note(&format!(
            "{kind}: at most {attach_ms:.1} ms to attach, {detach_ms:.0} to detach"
        ));
    }
    Ok(())
}

/// Milliseconds that each took.
fn come_and_go(kernel: &Kernel, points: &[SitePoint], pid: i32) -> Result<[f64; 2]> {
    let before = runs(kernel)?;
    let began = Instant::now();
    kernel.sites().attach(Programs::Exact, points)?;
    let attach_ms = began.elapsed().as_secs_f64() * 1e3;
    let found = code_pages::differences(pid)?;
    ensure!(found.iter().all(|byte| byte.found == BREAKPOINT), "{found:?}");
    ensure!(found.len() == points.len(), "{} points, {found:?}", points.len());
    let deadline = Instant::now() + SOON;
    while runs(kernel)? == before {
        ensure!(Instant::now() < deadline, "no poll was met");
        std::thread::sleep(LOOK);
    }
    let began = Instant::now();
    kernel.sites().detach(Busiest::default());
    let detach_ms = began.elapsed().as_secs_f64() * 1e3;
    let left = code_pages::differences(pid)?;
    ensure!(left.is_empty(), "left in the worker: {left:?}");
    Ok([attach_ms, detach_ms])
}

/// How often a poll began.
fn runs(kernel: &Kernel) -> Result<u64> {
    let costs = kernel.costs()?;
    // uvloop enters contexts by themselves.
    let is_enter = |name: &str| matches!(name, "run_enter" | "context_enter");
    Ok(costs.iter().filter(|cost| is_enter(&cost.name)).map(|cost| cost.runs).sum())
}

fn load(pid: i32) -> Result<(Kernel, Vec<SitePoint>)> {
    let seen = Seen::open(pid)?;
    let interpreter = seen.interpreter()?;
    let python = seen.python(&interpreter, &seen.tids()?)?;
    let config = profiler::config(&driver::target(pid), &interpreter, &python)?;
    let settings = Settings { accounts: 1, ..Settings::default() };
    let mut kernel = Kernel::load(Preparing::start(), &config, &settings, Capacity::FULL, false)?;
    let points = profiler::site_points(&interpreter);
    kernel.load_programs_for(&points)?;
    Ok((kernel, points))
}
