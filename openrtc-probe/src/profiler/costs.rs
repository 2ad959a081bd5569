//! What a run of a program takes.
//!
//! The kernel tells that only while its statistics are on, which is for all programs of the machine and
//! costs each run some nanoseconds. So they are on for a short while after attaching, and once a minute.

use super::{Now, Profiler};
use crate::{
    bpf::{CostAccounting, ProgramCost},
    model::RunNs,
};

/// The least time that statistics are on for: an idle worker has its programs run rarely.
const LEAST_NS: u64 = 500_000_000;
/// From one beginning to the next.
const EVERY_NS: u64 = 60_000_000_000;

/// What was measured, and what is being measured.
#[derive(Default)]
pub(super) struct Costs {
    run_ns: RunNs,
    window: Option<Window>,
    /// When statistics are to be on again.
    due_at_ns: u64,
}

/// Statistics that are on.
struct Window {
    since_ns: u64,
    before: Vec<ProgramCost>,
    /// The last holder's drop switches them off.
    _held: CostAccounting,
}

impl Costs {
    /// What a run takes, as far as it was measured.
    pub(super) fn run_ns(&self) -> RunNs {
        self.run_ns
    }
}

impl Profiler {
    /// To be called now and then: begins to measure, or ends it.
    pub(super) fn measure_programs(&mut self, now: Now) {
        let now_ns = now.monotonic_ns;
        match self.costs.window.take() {
            Some(window) if now_ns < window.since_ns + LEAST_NS => self.costs.window = Some(window),
            Some(window) => {
                if let Ok(after) = self.kernel.costs() {
                    self.costs.run_ns = run_ns(&window.before, &after, self.costs.run_ns);
                }
            }
            None if now_ns >= self.costs.due_at_ns => {
                self.costs.due_at_ns = now_ns + EVERY_NS;
                // Where the kernel has none, or does not let us, it stays unknown.
                let Ok(held) = CostAccounting::start() else { return };
                let Ok(before) = self.kernel.costs() else { return };
                self.costs.window = Some(Window { since_ns: now_ns, before, _held: held });
            }
            None => {}
        }
    }
}

/// What a run took between two readings; of what did not run, what was known.
fn run_ns(before: &[ProgramCost], after: &[ProgramCost], known: RunNs) -> RunNs {
    let each = |is_schedulers: bool| {
        let sum = |costs: &[ProgramCost]| {
            let ours = costs.iter().filter(|cost| cost.is_schedulers == is_schedulers);
            ours.fold((0, 0), |(ns, runs), cost| (ns + cost.run_time.as_nanos(), runs + cost.runs))
        };
        let (from, to) = (sum(before), sum(after));
        let runs = to.1.saturating_sub(from.1);
        (runs > 0).then(|| to.0.saturating_sub(from.0) as f64 / runs as f64)
    };
    RunNs { site: each(false).or(known.site), scheduler: each(true).or(known.scheduler) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_run_takes_what_all_took_over_all() {
        let cost = |name: &str, is_schedulers, ns, runs| ProgramCost {
            name: name.into(),
            is_schedulers,
            run_time: Duration::from_nanos(ns),
            runs,
        };
        let before = [cost("run_enter", false, 100, 1), cost("sched_switch", true, 70, 1)];
        let after = [
            cost("run_enter", false, 1100, 5),
            cost("run_exit", false, 200, 1),
            cost("sched_switch", true, 70, 1),
        ];
        let known = RunNs { site: None, scheduler: Some(60.0) };
        let now = run_ns(&before, &after, known);
        assert_eq!(now, RunNs { site: Some(240.0), scheduler: Some(60.0) });
    }
}
