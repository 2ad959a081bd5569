//! The programs at a worker's sites come and go while it runs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use openrtc_common::config::Settings;
use openrtc_probe::bpf::{Busiest, CostAccounting, Kernel, Links, Programs, SitePoint};
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
        // An older kernel has the second kind only.
        for links in [Links::Best, Links::Each] {
            let (kernel, points) = load(worker.pid, links)?;
            let (mut attach_ms, mut detach_ms) = (0.0_f64, 0.0_f64);
            for cycle in 0..CYCLES {
                let [attach, detach] = come_and_go(&kernel, &points, worker.pid)
                    .with_context(|| format!("{links:?}, cycle {cycle}"))?;
                (attach_ms, detach_ms) = (attach_ms.max(attach), detach_ms.max(detach));
                ensure!(worker.is_running()?, "the worker died in cycle {cycle}");
            }
            say::note(&format!(
                "{kind}, {links:?}: at most {attach_ms:.1} ms to attach, {detach_ms:.0} to detach"
            ));
        }
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

fn load(pid: i32, links: Links) -> Result<(Kernel, Vec<SitePoint>)> {
    let settings = Settings { accounts: 1, ..Settings::default() };
    let (mut kernel, points) = driver::kernel(pid, &settings, links)?;
    kernel.load_programs_for(&points)?;
    Ok((kernel, points))
}
