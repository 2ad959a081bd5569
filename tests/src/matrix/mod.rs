//! The matrix: every interpreter and loop, watched for some seconds by a probe that came later.

pub mod judge;
pub mod table;

use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;

use judge::{Accuracy, Figures, There};
use table::Line;

use crate::accuracy::measure;
use crate::probe::Probe;
use crate::setting::{Interpreter, Loop, Setting};
use crate::worker::Worker;

/// How long the probe looks.
const SPAN: Duration = Duration::from_secs(7);
/// Between the bursts, of up to 40 ms, and the blocks.
const THRESHOLD_MS: u32 = 80;
/// The first second of a worker is not like the others.
const SETTLE: Duration = Duration::from_secs(1);

/// Runs every line, or those of which a word is in the name and loop; whether none has failed.
pub fn run(words: &[String]) -> Result<bool> {
    let setting = Setting::from_environment()?;
    let is_asked_for =
        |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let (mut ran, mut failed, mut is_excused) = (0, Vec::new(), false);
    show(&table::head());
    let mut interpreters: Vec<_> = setting.interpreters().iter().collect();
    interpreters.sort_by_key(|interpreter| (interpreter.minor(), interpreter.name.clone()));
    for interpreter in interpreters {
        for kind in Loop::ALL {
            let name = format!("{} {kind}", interpreter.name);
            if !is_asked_for(&name) {
                continue;
            }
            let line = line(&setting, interpreter, kind);
            show(&table::render(&interpreter.name, &interpreter.version, kind.name(), &line));
            ran += usize::from(!matches!(line, Line::NotRun(_)));
            is_excused |= line.is_excused();
            if line.failed() {
                failed.push(name);
            }
        }
    }
    for missing in setting.missing().iter().filter(|missing| is_asked_for(&missing.name)) {
        show(&table::render(&missing.name, "", "", &Line::NotRun(missing.why.clone())));
    }
    if is_excused {
        show(table::STOLEN);
    }
    if failed.is_empty() {
        show(&format!("PASS  {ran} lines\n"));
    } else {
        show(&format!("FAIL  {} of {ran} lines: {}\n", failed.len(), failed.join(", ")));
    }
    Ok(failed.is_empty() && ran > 0)
}

/// At once: a line takes ten seconds, and somebody waits.
fn show(text: &str) {
    print!("{text}");
    // Nobody is missing it if nobody listens.
    let _ = std::io::stdout().flush();
}

fn line(setting: &Setting, interpreter: &Interpreter, kind: Loop) -> Line {
    if kind == Loop::Uvloop && !interpreter.extras.uvloop {
        return Line::NotRun(format!("no wheel of uvloop for CPython {}", interpreter.version));
    }
    match watch_in_peace(setting, interpreter, kind) {
        Ok(figures) => Line::Ran(Box::new(figures)),
        Err(error) => Line::Broken(format!("{error:#}")),
    }
}

/// A run that only passes because time was stolen from the machine shows less than another might: it
/// gets a second chance to be a quiet one. One that fails gets none.
fn watch_in_peace(setting: &Setting, interpreter: &Interpreter, kind: Loop) -> Result<Figures> {
    let figures = watch(setting, interpreter, kind)?;
    if !figures.passed() || figures.accuracy == Accuracy::Near {
        return Ok(figures);
    }
    let again = watch(setting, interpreter, kind)?;
    let is_better = again.accuracy == Accuracy::Near || again.stolen_s < figures.stolen_s;
    Ok(if !again.passed() || is_better { again } else { figures })
}

/// 14 sessions, all there before the probe: two hot, two that block 120 ms each 2 s, asleep and
/// computing in turn, four that work a little, six that only wait.
///
/// On uvloop callbacks can be measured from just inside only: fewer and longer ones. At the edges of the
/// comparison half of the longest burst may be on the wrong side.
fn watch(setting: &Setting, interpreter: &Interpreter, kind: Loop) -> Result<Figures> {
    let (longest_us, bursts) = match kind {
        Loop::Asyncio => (1500, "--truth handle --tick-ms 20 --burn-us 300 --hot-burn-us 1500"),
        Loop::Uvloop => (
            40_000,
            "--truth step --tick-ms 4000 --burn-us 40000 --hot-tick-ms 400 --hot-burn-us 40000",
        ),
    };
    let edge_s = f64::from(longest_us) / 2e6;
    let words = format!(
        "sessions.py --loop {kind} --sessions 14 --tasks 2 --hot 2 --block 2 --idle 6 \
         --block-ms 120 --block-every-s 2 --block-kind alternate --threshold-ms {THRESHOLD_MS} \
         {bursts}"
    );
    let worker = Worker::start(setting, interpreter, &words)?;
    let there = There::parse(&worker.ready)?;
    std::thread::sleep(SETTLE);
    let seconds = SPAN.as_secs();
    let words = format!("--duration {seconds} --slow-session-threshold-ms {THRESHOLD_MS}");
    let probe = Probe::start(setting, worker.pid, &words)?;
    Ok(judge::judge(&measure(worker, probe, SPAN)?, &there, edge_s))
}
