//! How many polls a worker makes, told without any probe.

use std::{collections::HashMap, thread, time::Duration};

use super::Now;
use crate::{cpython::Python, worker::Worker};

/// Polls are counted for so long at least.
const AT_LEAST_NS: u64 = 100_000_000;

/// How many contexts each thread had entered and left by a moment.
pub(super) struct Pace {
    at_ns: u64,
    versions: HashMap<u32, u64>,
}

impl Pace {
    /// Now.
    pub(super) fn of(worker: &Worker, python: &Python, now: fn() -> Now) -> Pace {
        let threads = worker.tids().ok().and_then(|tids| python.threads(&tids).ok());
        let versions = threads.unwrap_or_default().into_iter();
        let versions = versions.map(|thread| (thread.tid, thread.context_version)).collect();
        Pace { at_ns: now().monotonic_ns, versions }
    }

    /// Polls a second since then; `None` where nothing can be told.
    pub(super) fn polls_per_s(
        &self,
        worker: &Worker,
        python: &Python,
        now: fn() -> Now,
    ) -> Option<f64> {
        let spent_ns = now().monotonic_ns.saturating_sub(self.at_ns);
        thread::sleep(Duration::from_nanos(AT_LEAST_NS.saturating_sub(spent_ns)));
        Pace::of(worker, python, now).since(self)
    }

    fn since(&self, earlier: &Pace) -> Option<f64> {
        let span_ns = self.at_ns.saturating_sub(earlier.at_ns);
        let turns = self
            .versions
            .iter()
            .filter_map(|(tid, version)| Some(version.saturating_sub(*earlier.versions.get(tid)?)));
        let is_known = span_ns > 0 && !self.versions.is_empty();
        is_known.then(|| turns.sum::<u64>() as f64 / 2.0 * 1e9 / span_ns as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(at_ns: u64, versions: &[(u32, u64)]) -> Pace {
        Pace { at_ns, versions: versions.iter().copied().collect() }
    }

    #[test]
    fn two_turns_are_a_poll_and_who_was_not_there_does_not_count() {
        let before = pace(0, &[(1, 100), (2, 7)]);
        let after = pace(500_000_000, &[(1, 300), (3, 9_000)]);
        assert_eq!(after.since(&before), Some(200.0));
        assert_eq!(pace(9, &[]).since(&before), None, "nothing can be read");
        assert_eq!(pace(0, &[(1, 100)]).since(&before), None, "no time has passed");
    }
}
