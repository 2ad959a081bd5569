//! How well each way of looking sees: the accuracy bench's worker, with OpenRTC's own introspection in it, looked
//! at in each mode.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::{
    accuracy::{
        self,
        compare::{self, Demands, Outcome},
        options::Options,
        stalls::Tally,
    },
    setting::{Interpreter, Loop, Setting},
};

/// How long each looks.
pub const SPAN: Duration = Duration::from_secs(30);
/// In which modes.
const MODES: [&str; 3] = ["exact", "sampled", "auto"];

/// What one found, beside the worker's own account.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Who.
    pub who: String,
    /// CPU of all sessions by the worker's account, and by this one's, seconds.
    pub cpu_s: [f64; 2],
    /// The worst error of a session that used enough to be counted, of its CPU.
    pub worst_ratio: f64,
    /// Stalls that were; of these found, and found with the right session; and ones that never were.
    pub stalls: [usize; 4],
    /// By how much a duration was off at worst, milliseconds.
    pub duration_off_ms: f64,
}

/// Measures each mode, and OpenRTC's own beside the first.
pub fn measure(setting: &Setting, interpreter: &Interpreter, kind: Loop) -> Result<Vec<Score>> {
    let mut scores = Vec::new();
    for mode in MODES {
        let options =
            Options { mode: mode.into(), seconds: SPAN.as_secs() as u32, ..Options::default() };
        let accounts = accuracy::bench_one(setting, interpreter, kind, &options)
            .with_context(|| format!("the accuracy of {mode}"))?;
        let outcome = compare::compare(&accounts, &Demands::BENCH);
        scores.push(ours(mode, &outcome));
        if mode == MODES[0]
            && let Some(tally) = &outcome.their_stalls
        {
            let cpu_s = [outcome.truth_s, outcome.theirs_s];
            scores.push(score("in-process", cpu_s, outcome.their_errors.worst, tally));
        }
    }
    Ok(scores)
}

fn ours(mode: &str, outcome: &Outcome) -> Score {
    let cpu_s = [outcome.truth_s, outcome.ours_s];
    score(mode, cpu_s, outcome.our_errors.worst, &outcome.our_stalls)
}

fn score(who: &str, cpu_s: [f64; 2], worst_ratio: f64, tally: &Tally) -> Score {
    Score {
        who: who.to_owned(),
        cpu_s,
        worst_ratio,
        stalls: [tally.real, tally.found, tally.right, tally.invented],
        duration_off_ms: tally.worst_error_ms,
    }
}
