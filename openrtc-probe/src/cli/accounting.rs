//! How the worker's polls are to be accounted.

use clap::{Args, ValueEnum};

use super::{TagSource, Usage, within};

/// Ten thousand is a sample each tenth of a millisecond.
const SAMPLE_HZ: (u32, u32) = (10, 10_000);
/// Of one core.
const OVERHEAD_PCT: (f64, f64) = (0.0, 100.0);

/// How polls are accounted, and at which cost.
#[derive(Clone, Copy, Debug, PartialEq, Args)]
pub struct Accounting {
    /// Account each poll by probes, or by samples without any; auto: by probes while that fits the budget
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub mode: ModeChoice,
    /// Samples per second while polls are sampled, 10 to 10000 Hz [default: 500]
    #[arg(long, value_name = "HZ", value_parser = sample_rate)]
    pub sample_rate: Option<u32>,
    /// What probes may add to the worker with --mode auto, in percent of one core; 0 is none [default: 1%]
    #[arg(long, value_name = "PCT", value_parser = overhead)]
    pub max_overhead: Option<f64>,
}

/// How polls are accounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeChoice {
    /// By probes.
    Exact,
    /// By samples.
    Sampled,
    /// By probes while that fits the budget.
    Auto,
}

fn sample_rate(text: &str) -> Result<u32, String> {
    within(text, SAMPLE_HZ, "whole Hz")
}

fn overhead(text: &str) -> Result<f64, String> {
    within(text.strip_suffix('%').unwrap_or(text), OVERHEAD_PCT, "percent")
}

impl Accounting {
    /// Refuses what cannot be meant together.
    pub fn refuse_conflicts(&self, tag: TagSource) -> Result<(), Usage> {
        let refuse = |message: &str, hint: &str| Err(Usage::new(message, hint));
        match self.mode {
            ModeChoice::Sampled if tag == TagSource::TaskName => refuse(
                "--mode sampled cannot be used with --tag task-name",
                "use --mode exact: names of tasks are seen by probes only",
            ),
            ModeChoice::Auto if tag == TagSource::TaskName && self.max_overhead == Some(0.0) => {
                refuse(
                    "--max-overhead 0 cannot be used with --tag task-name",
                    "names of tasks are seen by probes only",
                )
            }
            ModeChoice::Exact if self.sample_rate.is_some() => refuse(
                "--sample-rate cannot be used with --mode exact",
                "use --mode sampled, or --mode auto",
            ),
            ModeChoice::Exact | ModeChoice::Sampled if self.max_overhead.is_some() => refuse(
                "--max-overhead needs --mode auto",
                "leave --mode out to keep within a budget",
            ),
            _ => Ok(()),
        }
    }
}
