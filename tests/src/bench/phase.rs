//! A stretch of the worker's time, by its own word.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{field, worker::Worker};

/// What the worker says of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Phase {
    polls: f64,
    wall_ns: f64,
    cpu_ns: f64,
    late_p50_us: f64,
    late_p99_us: f64,
}

/// Measures for so long, after a while that is left out.
pub fn measure(worker: &mut Worker, settle: Duration, span: Duration) -> Result<Phase> {
    worker.words_for("window", settle)?;
    let windows = worker.words_for("window", span)?;
    let sum = |name| windows.iter().map(|window| field::float(window, name)).sum::<Result<f64>>();
    let middle = |name| -> Result<f64> {
        let mut all: Vec<f64> =
            windows.iter().map(|window| field::float(window, name)).collect::<Result<_>>()?;
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().context("the worker said nothing of itself")
    };
    Ok(Phase {
        polls: sum("polls")?,
        wall_ns: sum("wall_ns")?,
        cpu_ns: sum("cpu_ns")?,
        late_p50_us: middle("late_p50_us")?,
        late_p99_us: middle("late_p99_us")?,
    })
}

/// CPU of the loop's thread from now on, of one core, over so many windows each.
pub fn cpu_ratios(worker: &mut Worker, span: Duration, together: usize) -> Result<Vec<f64>> {
    let windows = worker.words_for("window", span)?;
    let sum = |windows: &[Value], name| {
        windows.iter().map(|window| field::float(window, name)).sum::<Result<f64>>()
    };
    let ratio = |windows: &[Value]| Ok(sum(windows, "cpu_ns")? / sum(windows, "wall_ns")?);
    windows.chunks_exact(together).map(ratio).collect()
}

impl Phase {
    /// CPU of the loop's thread, of one core.
    pub fn cpu_ratio(&self) -> f64 {
        self.cpu_ns / self.wall_ns
    }

    /// CPU of the loop's thread for each poll.
    pub fn cpu_ns_a_poll(&self) -> f64 {
        self.cpu_ns / self.polls
    }

    /// Wall time for each poll: what that takes where they are made back to back.
    pub fn wall_ns_a_poll(&self) -> f64 {
        self.wall_ns / self.polls
    }

    /// How late timers are, the middle one of each tenth of a second.
    pub fn late_p50_us(&self) -> f64 {
        self.late_p50_us
    }

    /// The worst of each tenth of a second.
    pub fn late_p99_us(&self) -> f64 {
        self.late_p99_us
    }

    /// Polls a second.
    pub fn polls_per_s(&self) -> f64 {
        self.polls * 1e9 / self.wall_ns
    }
}
