//! A worker whose rate steps up and down again: what a budget allows when nobody could know what comes.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use super::{contenders::CONTENDERS, paired::Paired, phase};
use crate::{
    setting::{Interpreter, Loop, Setting},
    worker::Worker,
};

/// Polls a second before and after, and in between.
pub const RATES: [u32; 2] = [1_000, 200_000];
/// Who is measured: the only one that changes.
const WHO: &str = "auto";
/// How long each rate lasts.
pub const STRETCH: Duration = Duration::from_secs(3);
/// Windows of the worker that are told together: half a second.
const TOGETHER: usize = 5;

/// CPU of the loop's thread that is added, of one core.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stretch {
    /// Over all of it.
    pub whole: Paired,
    /// Over each half second.
    pub halves: Vec<Paired>,
}

/// What came after the step up, and after the one down.
pub type Step = [Stretch; 2];

/// What they are called.
pub const NAMES: [&str; 2] = ["up", "down"];

/// Measures in so many rounds.
pub fn measure(
    setting: &Setting,
    interpreter: &Interpreter,
    kind: Loop,
    rounds: usize,
) -> Result<Step> {
    let [slow, _] = RATES;
    let words = format!("rates.py --loop {kind} --rate {slow} --window-s 0.1");
    let mut worker = Worker::start(setting, interpreter, &words)?;
    let contender = CONTENDERS.iter().find(|it| it.name == WHO).context("nobody is called so")?;
    let mut step = Step::default();
    for _ in 0..rounds {
        let bare = up_and_down(&mut worker)?;
        let looking = contender.start(setting, &mut worker)?.map_err(|why| anyhow!(why))?;
        let looked = up_and_down(&mut worker)?;
        looking.stop(&mut worker)?;
        for (stretch, (looked, bare)) in step.iter_mut().zip(looked.iter().zip(&bare)) {
            stretch.add(looked, bare);
        }
    }
    worker.end_with_words()?;
    Ok(step)
}

/// CPU of the loop's thread in each half second after the step up and after the one down, of one core.
fn up_and_down(worker: &mut Worker) -> Result<[Vec<f64>; 2]> {
    let [slow, fast] = RATES;
    worker.words_for("window", STRETCH)?;
    worker.say(&format!("rate {fast}"))?;
    let up = phase::cpu_ratios(worker, STRETCH, TOGETHER)?;
    worker.say(&format!("rate {slow}"))?;
    Ok([up, phase::cpu_ratios(worker, STRETCH, TOGETHER)?])
}

impl Stretch {
    fn add(&mut self, looked: &[f64], bare: &[f64]) {
        let added: Vec<f64> = looked.iter().zip(bare).map(|(looked, bare)| looked - bare).collect();
        self.whole.push(added.iter().sum::<f64>() / added.len().max(1) as f64);
        self.halves.resize_with(added.len().max(self.halves.len()), Paired::default);
        for (half, added) in self.halves.iter_mut().zip(added) {
            half.push(added);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_half_second_is_less_the_one_without() {
        let mut stretch = Stretch::default();
        stretch.add(&[0.75, 0.5], &[0.5, 0.5]);
        stretch.add(&[1.0, 0.5, 9.0], &[0.5, 0.5]);
        assert_eq!(stretch.whole.rounds(), [0.125, 0.25]);
        let halves: Vec<_> = stretch.halves.iter().map(Paired::rounds).collect();
        assert_eq!(halves, [[0.25, 0.5].as_slice(), &[0.0, 0.0]]);
    }
}
