//! The cost bench: a worker that does nothing but empty steps, and what each step takes.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use openrtc_common::config::Settings;
use openrtc_probe::{
    bpf::{CostAccounting, Links, ProgramCost, Programs},
    clock, profiler,
};
use openrtc_tests::{
    driver, field,
    setting::{Interpreter, Setting},
    worker::Worker as Fixture,
};

/// The goal: a watched poll costs at most this many empty pairs.
const GOAL: f64 = 1.2;
const ROUNDS: usize = 12;
const PHASE: Duration = Duration::from_secs(1);
const LOOPS: [&str; 2] = ["asyncio", "uvloop"];
/// After a change, so much of the worker's time is left out.
const SETTLE: Duration = Duration::from_millis(300);

/// One round: nanoseconds per step in each phase.
#[derive(Clone, Copy)]
struct Round {
    bare: f64,
    empty: f64,
    exact: f64,
}

impl Round {
    fn ratio(&self) -> f64 {
        (self.exact - self.bare) / (self.empty - self.bare)
    }

    /// The best of each phase over all rounds: a machine that others use is slower for whole phases.
    fn best_of(rounds: &[Round]) -> Round {
        let best = |of: fn(&Round) -> f64| rounds.iter().map(of).fold(f64::INFINITY, f64::min);
        Round {
            bare: best(|round| round.bare),
            empty: best(|round| round.empty),
            exact: best(|round| round.exact),
        }
    }
}

/// Measures each interpreter (all, or those named in `names`) on both loops.
pub fn bench(names: impl Iterator<Item = String>) -> Result<()> {
    let names: Vec<String> = names.collect();
    println!("best of {ROUNDS} rounds each, and the ratio within a round: median (least..most)");
    println!(
        "interpreter      loop       bare ns   +empty    +exact   exact/empty   within a round"
    );
    let mut missed = 0;
    let setting = Setting::from_environment()?;
    for interpreter in setting.chosen(&names)? {
        for kind in LOOPS {
            let (rounds, costs) = measure(&setting, &interpreter, kind)
                .with_context(|| format!("{} on {kind}", interpreter.name))?;
            let ratio = print(&interpreter.name, kind, &rounds);
            print_costs(&costs);
            missed += usize::from(ratio > GOAL);
        }
    }
    if missed > 0 {
        bail!("{missed} of the ratios above are over the goal of {GOAL}");
    }
    Ok(())
}

fn measure(
    setting: &Setting,
    interpreter: &Interpreter,
    kind: &str,
) -> Result<(Vec<Round>, Vec<ProgramCost>)> {
    // Short windows, so that many are not disturbed.
    let words = format!("steps.py --loop {kind} --window-s 0.05");
    let mut steps = Fixture::start(setting, interpreter, &words)?;
    let target = driver::target(steps.pid);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let bare = ns_per_step(&mut steps)?;
        let (held, points) = driver::kernel(steps.pid, &Settings::default(), Links::Best)?;
        held.sites().attach(Programs::Empty, &points)?;
        let empty = ns_per_step(&mut steps)?;
        drop(held);
        let held = profiler::attach(target.clone(), clock::now)?;
        let exact = ns_per_step(&mut steps)?;
        drop(held);
        rounds.push(Round { bare, empty, exact });
    }
    let _accounting = CostAccounting::start()?;
    let profiler = profiler::attach(target, clock::now)?;
    ns_per_step(&mut steps)?;
    Ok((rounds, profiler.costs()?))
}

/// What a step takes now: the best of the worker's own windows, because a core that is shared with
/// others is slower for seconds on end, and never faster than it is.
fn ns_per_step(steps: &mut Fixture) -> Result<f64> {
    steps.words_for("steps", SETTLE)?;
    let windows = steps.words_for("steps", PHASE)?;
    // By its CPU time: what others take of the core is not the probe's.
    let ns = |window| Ok(field::float(window, "cpu_ns")? / field::float(window, "n")?);
    let all: Vec<f64> = windows.iter().map(ns).collect::<Result<_>>()?;
    all.into_iter().reduce(f64::min).context("the worker made no steps")
}

fn print(name: &str, kind: &str, rounds: &[Round]) -> f64 {
    let best = Round::best_of(rounds);
    let mut ratios: Vec<f64> = rounds.iter().map(Round::ratio).collect();
    ratios.sort_by(f64::total_cmp);
    let ratio = best.ratio();
    println!(
        "{name:<16} {kind:<8} {:>9.0} {:>+8.0} {:>+9.0}   {ratio:>11.2}   {:.2} ({:.2}..{:.2})",
        best.bare,
        best.empty - best.bare,
        best.exact - best.bare,
        median(ratios.clone()),
        ratios.first().copied().unwrap_or(f64::NAN),
        ratios.last().copied().unwrap_or(f64::NAN),
    );
    ratio
}

fn print_costs(costs: &[ProgramCost]) {
    for cost in costs.iter().filter(|cost| cost.runs > 0) {
        let ns = cost.run_time.as_nanos() as f64 / cost.runs as f64;
        println!("    {:<16} {ns:>7.0} ns a run, {} runs", cost.name, cost.runs);
    }
}

/// The middle value; `NaN` of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
