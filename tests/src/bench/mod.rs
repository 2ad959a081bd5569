//! The harness: what each way of looking costs a worker, in paired, alternating phases of one run.
//!
//! One worker runs at one rate. In each round all contenders come in turn, each between two phases in which
//! nobody looks: so that what drifts, and on a shared machine everything does, is in both. A contender's figure
//! of a round is its phase less the mean of the two around it; what is told is the median over the rounds, with a
//! 95 % interval of it.

pub mod contenders;
pub mod goals;
pub mod options;
pub mod paired;
pub mod performance;
pub mod phase;
pub mod report;
pub mod score;
pub mod step;
pub mod store;

use std::time::Duration;

use anyhow::{Context as _, Result};

use self::{
    contenders::{CONTENDERS, Contender},
    options::Options,
    paired::Paired,
    phase::Phase,
    score::Score,
    step::Step,
};
use crate::{
    field,
    setting::{Interpreter, Loop, Setting},
    worker::Worker,
};

/// Polls a second; 0 is back to back.
pub const RATES: [u32; 5] = [1_000, 10_000, 50_000, 200_000, 0];
/// After a change, so much of the worker's time is left out.
const SETTLE: Duration = Duration::from_millis(400);
/// How long the worker may take to answer.
const ANSWER: Duration = Duration::from_secs(20);

/// One contender at one rate.
#[derive(Debug, Clone)]
pub struct Line {
    /// Polls a second that were asked for.
    pub rate: u32,
    /// Who looked.
    pub contender: &'static Contender,
    /// Why it was not measured, if so.
    pub why_not: Option<String>,
    /// Added CPU of the loop's thread, of one core, round by round.
    pub added: Paired,
    /// CPU a poll, as a ratio of that without anybody; of back to back wall time a poll.
    pub ratio: Paired,
    /// Added median and 99th percentile of how late timers are, microseconds.
    pub late_us: [Paired; 2],
    /// Polls a second that the worker made while it was looked at.
    pub polls_per_s: f64,
}

/// All of a run on one loop.
#[derive(Debug, Clone)]
pub struct Table {
    /// On what.
    pub interpreter: String,
    /// As above.
    pub kind: Loop,
    /// By rate, then contender.
    pub lines: Vec<Line>,
    /// A budget under a step of the rate, if that was measured.
    pub step: Option<Step>,
    /// How well each sees, if that was measured.
    pub scores: Vec<Score>,
}

impl Table {
    fn new(interpreter: &str, kind: Loop, lines: Vec<Line>) -> Table {
        let interpreter = interpreter.to_owned();
        Table { interpreter, kind, lines, step: None, scores: Vec::new() }
    }
}

/// Measures all that was asked for.
pub fn run(setting: &Setting, options: &Options) -> Result<Vec<Table>> {
    let mut tables = Vec::new();
    for interpreter in setting.chosen(&options.interpreters)? {
        for &kind in &options.loops {
            let mut lines = Vec::new();
            for &rate in &options.rates {
                eprintln!("{} on {kind}, {}", interpreter.name, report::rate(rate));
                lines.extend(at_rate(setting, &interpreter, kind, rate, options)?);
            }
            let mut table = Table::new(&interpreter.name, kind, lines);
            if options.wants("auto") {
                eprintln!("{} on {kind}, a step of the rate", interpreter.name);
                table.step = Some(step::measure(setting, &interpreter, kind, options.rounds)?);
            }
            if options.scores {
                eprintln!("{} on {kind}, what each sees", interpreter.name);
                table.scores = score::measure(setting, &interpreter, kind)?;
            }
            println!("{}", report::text(&table));
            tables.push(table);
        }
    }
    Ok(tables)
}

fn at_rate(
    setting: &Setting,
    interpreter: &Interpreter,
    kind: Loop,
    rate: u32,
    options: &Options,
) -> Result<Vec<Line>> {
    let words = format!("rates.py --real --loop {kind} --rate {rate} --window-s 0.1");
    let mut worker = Worker::start(setting, interpreter, &words)?;
    phase::measure(&mut worker, SETTLE, options.phase)?;
    let chosen = CONTENDERS.iter().filter(|it| options.wants(it.name));
    let mut lines: Vec<Line> = chosen.map(|it| Line::new(rate, it)).collect();
    for round in 0..options.rounds {
        let mut before = phase::measure(&mut worker, SETTLE, options.phase)?;
        // What one leaves behind does not always fall on the same next one.
        let at = round % lines.len().max(1);
        lines.rotate_left(at);
        for line in lines.iter_mut().filter(|line| line.why_not.is_none()) {
            let looked = looked_at(setting, &mut worker, line.contender, options.phase)
                .with_context(|| format!("{} at {}", line.contender.name, report::rate(rate)))?;
            let after = phase::measure(&mut worker, SETTLE, options.phase)?;
            match looked {
                Ok(looked) => line.add(&looked, &before, &after),
                Err(why) => line.why_not = Some(why),
            }
            before = after;
        }
        lines.rotate_right(at);
    }
    worker.end_with_words()?;
    Ok(lines)
}

/// A phase in which this contender looks; or why it cannot.
fn looked_at(
    setting: &Setting,
    worker: &mut Worker,
    contender: &'static Contender,
    span: Duration,
) -> Result<Result<Phase, String>> {
    let looking = match contender.start(setting, worker)? {
        Ok(looking) => looking,
        Err(why) => return Ok(Err(why)),
    };
    let phase = phase::measure(worker, SETTLE, span);
    looking.stop(worker)?;
    phase.map(Ok)
}

impl Line {
    fn new(rate: u32, contender: &'static Contender) -> Line {
        Line {
            rate,
            contender,
            why_not: None,
            added: Paired::default(),
            ratio: Paired::default(),
            late_us: [Paired::default(), Paired::default()],
            polls_per_s: 0.0,
        }
    }

    /// Takes in a round.
    fn add(&mut self, looked: &Phase, before: &Phase, after: &Phase) {
        let bare = |of: fn(&Phase) -> f64| f64::midpoint(of(before), of(after));
        self.added.push(looked.cpu_ratio() - bare(Phase::cpu_ratio));
        let a_poll = if self.rate == 0 { Phase::wall_ns_a_poll } else { Phase::cpu_ns_a_poll };
        self.ratio.push(a_poll(looked) / bare(a_poll));
        for (late, of) in self.late_us.iter_mut().zip([Phase::late_p50_us, Phase::late_p99_us]) {
            late.push(of(looked) - bare(of));
        }
        self.polls_per_s = looked.polls_per_s();
    }
}

/// Has the worker's own introspection run, or not.
pub(crate) fn introspect(worker: &mut Worker, on: bool) -> Result<()> {
    worker.say(if on { "introspection on" } else { "introspection off" })?;
    let answered = worker.skip_to("introspection", ANSWER)?;
    anyhow::ensure!(field::flag(&answered, "on") == on, "the worker did otherwise: {answered}");
    Ok(())
}
