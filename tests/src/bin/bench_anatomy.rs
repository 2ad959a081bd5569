//! Very many stalls at random places, of 20 to 200 ms: whether each has its session, its class and its line.
//! Ends with 1 when a goal is missed.
//!
//! `bench-anatomy [N] [INTERPRETER..]`: N of them (1000) on each interpreter that is named and on both loops;
//! without a name on the usual interpreter with the stdlib loop and on the newest with uvloop.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal::SIGTERM;
use openrtc_tests::{
    anatomy::{
        Scene,
        random::{RIGHT_LINES, Tally},
        truth::Stalled,
    },
    setting::{Interpreter, Loop, Setting},
};

const STALLS: usize = 1000;
const LEAST_MS: u32 = 20;
const MOST_MS: u32 = 200;
const THRESHOLD_MS: u32 = 10;
/// For one stall, on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-anatomy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let number = words.first().and_then(|word| word.parse().ok());
    if number.is_some() {
        words.remove(0);
    }
    let setting = Setting::from_environment()?;
    let named = setting.chosen(&words)?;
    let runs: Vec<(&Interpreter, Loop)> = if words.is_empty() {
        vec![(setting.usual(), Loop::Asyncio), (setting.newest(), Loop::Uvloop)]
    } else {
        named.iter().flat_map(|one| Loop::ALL.map(|kind| (one, kind))).collect()
    };
    println!(
        "interpreter            loop     stalls  session   class    line  unknown  wrong  looks      s"
    );
    let mut passed = true;
    for (interpreter, kind) in runs {
        passed &= measure(&setting, interpreter, kind, number.unwrap_or(STALLS))?;
    }
    let (verdict, line_pct) = (if passed { "PASS" } else { "FAIL" }, RIGHT_LINES * 100.0);
    println!("{verdict}  goals: all sessions, all classes, {line_pct} % of the lines, none wrong");
    Ok(passed)
}

fn measure(
    setting: &Setting,
    interpreter: &Interpreter,
    kind: Loop,
    number: usize,
) -> Result<bool> {
    let began = Instant::now();
    let for_probe = format!("--slow-session-threshold-ms {THRESHOLD_MS}");
    let mut scene = Scene::start(setting, interpreter, kind, "--bystanders 10", &for_probe)?;
    scene.worker.say(&format!("random {number} {LEAST_MS} {MOST_MS}"))?;
    let mut tally = Tally::default();
    for _ in 0..number {
        let truth = Stalled::parse(&scene.worker.word_within("stalled", PATIENCE)?)?;
        let told = scene.told(&truth.session);
        tally.add(&truth, told.as_ref().ok(), &scene.marks)?;
    }
    scene.probe.stop(SIGTERM)?;
    println!(
        "{:<22} {:<8} {:>6} {:>8} {:>7} {:>7} {:>8} {:>6} {:>6} {:>6.0}",
        interpreter.name,
        kind.name(),
        tally.made,
        tally.sessions,
        tally.classes,
        tally.lines,
        tally.unknown,
        tally.wrong,
        tally.captures,
        began.elapsed().as_secs_f64(),
    );
    for quoted in &tally.quoted {
        println!("    {quoted}");
    }
    Ok(tally.passed())
}
