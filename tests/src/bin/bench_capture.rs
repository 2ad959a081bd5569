//! What it costs the worker to have its stalls captured: its polls per second with ten stalls of 20 ms each
//! second, by a probe that captures each and by one whose threshold none passes. Ends with 1 when the
//! difference is more than noise.
//!
//! `bench-capture [INTERPRETER..]`. The two alternate, in pairs, because the machine's speed drifts; each
//! pair is joined by a second phase of the probe that captures nothing, which tells what noise is.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal::SIGTERM;
use openrtc_tests::{
    field,
    probe::Probe,
    setting::{Interpreter, Loop, Setting},
    worker::Worker,
};

const ROUNDS: usize = 10;
const PHASE: Duration = Duration::from_secs(4);
/// After a change, so much of the worker's time is left out.
const SETTLE: Duration = Duration::from_millis(600);
const FIXTURE: &str = "steps.py --window-s 0.5 --stall-ms 20 --stall-every-ms 100";
const CAPTURES_MS: u32 = 10;
const CAPTURES_NOTHING_MS: u32 = 10_000;
/// Of ten stalls each second; those at either end of a phase are cut.
const LEAST_CAPTURES_PER_S: f64 = 5.0;
/// What is worth telling from nothing.
const LEAST: f64 = 0.01;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-capture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What the worker made in a phase.
#[derive(Clone, Copy, Default)]
struct Pace {
    polls_per_s: f64,
    cpu_ns_per_poll: f64,
    captures_per_s: f64,
}

/// One value for each round, in order.
struct Spread(Vec<f64>);

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn shown(&self) -> String {
        let [first, last] =
            [self.0.first(), self.0.last()].map(|end| end.copied().unwrap_or(f64::NAN));
        format!("{:.4} ({first:.4}..{last:.4})", self.median())
    }

    /// How far from 1 the middle half of them goes.
    fn noise(&self) -> f64 {
        let quarter = self.0.len() / 4;
        let middle = self.0.get(quarter..self.0.len() - quarter).unwrap_or_default();
        middle.iter().map(|value| (value - 1.0).abs()).fold(LEAST, f64::max)
    }
}

fn run() -> Result<bool> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let setting = Setting::from_environment()?;
    let interpreters = setting.chosen(&names)?;
    println!(
        "{ROUNDS} rounds each; a ratio is to the phase that captures nothing: median (least..most)"
    );
    let mut passed = true;
    for interpreter in &interpreters {
        for kind in Loop::ALL {
            let name = format!("{} {kind}", interpreter.name);
            passed &= measure(&setting, interpreter, kind).context(name)?;
        }
    }
    println!(
        "{}  goal: no fewer polls per second than noise explains: the middle half of its ratios, or {LEAST}",
        if passed { "PASS" } else { "FAIL" }
    );
    Ok(passed)
}

fn measure(setting: &Setting, interpreter: &Interpreter, kind: Loop) -> Result<bool> {
    let mut worker = Worker::start(setting, interpreter, &format!("{FIXTURE} --loop {kind}"))?;
    let mut rounds: Vec<[Pace; 3]> = Vec::new();
    for round in 0..ROUNDS {
        let mut paces = [Pace::default(); 3];
        // In turn from either end: what drifts in one direction is in the ratios both ways.
        let mut order = [0, 1, 2];
        if round % 2 == 1 {
            order.reverse();
        }
        for phase in order {
            let threshold_ms = if phase == 1 { CAPTURES_MS } else { CAPTURES_NOTHING_MS };
            paces[phase] = pace(setting, &mut worker, threshold_ms)?;
        }
        rounds.push(paces);
    }
    let ratios = |of: fn(&Pace) -> f64, phase: usize| {
        Spread::of(rounds.iter().map(|paces| of(&paces[phase]) / of(&paces[0])).collect())
    };
    let median = |of: fn(&[Pace; 3]) -> f64| Spread::of(rounds.iter().map(of).collect()).median();
    let (polls, control) = (ratios(|pace| pace.polls_per_s, 1), ratios(|pace| pace.polls_per_s, 2));
    let captures_per_s = median(|paces| paces[1].captures_per_s);
    println!(
        "{:<22} {:<8} {:>9.0} polls/s  {:>5.1} captures/s  polls/s x {}  noise x {}  CPU/poll x {}  noise x {}",
        interpreter.name,
        kind.name(),
        median(|paces| paces[0].polls_per_s),
        captures_per_s,
        polls.shown(),
        control.shown(),
        ratios(|pace| pace.cpu_ns_per_poll, 1).shown(),
        ratios(|pace| pace.cpu_ns_per_poll, 2).shown(),
    );
    ensure!(captures_per_s >= LEAST_CAPTURES_PER_S, "next to nothing was captured");
    Ok(polls.median() >= 1.0 - control.noise())
}

fn pace(setting: &Setting, worker: &mut Worker, threshold_ms: u32) -> Result<Pace> {
    let words = format!("--refresh-rate 10 --slow-session-threshold-ms {threshold_ms}");
    let mut probe = Probe::start(setting, worker.pid, &words)?;
    probe.snapshot()?;
    worker.words_for("steps", SETTLE)?;
    let windows = worker.words_for("steps", PHASE)?;
    let record = probe.stop(SIGTERM)?;
    // The best of the windows: a core that is shared with others is slower for seconds on end, and never
    // faster than it is.
    let (mut polls_per_s, mut cpu_ns_per_poll) = (0.0_f64, f64::INFINITY);
    for window in &windows {
        let polls = field::float(window, "n")?;
        polls_per_s = polls_per_s.max(polls / field::float(window, "wall_ns")? * 1e9);
        cpu_ns_per_poll = cpu_ns_per_poll.min(field::float(window, "cpu_ns")? / polls);
    }
    ensure!(polls_per_s > 0.0, "the worker made no steps");
    let elapsed_s = record.last().elapsed_s;
    let ended = record.stalls.iter().filter(|stall| !stall.ongoing);
    let captures = ended.filter_map(|stall| stall.anatomy.as_ref()).map(|told| told.captures.len());
    Ok(Pace {
        polls_per_s,
        cpu_ns_per_poll,
        captures_per_s: captures.sum::<usize>() as f64 / elapsed_s,
    })
}
