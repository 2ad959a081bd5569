//! What we cost: our own process, and what probes and programs add to the worker.

use openrtc_common::thread::Thread;

use super::{snapshot::Cost, usage::Rates};

/// What is known of our own use, and of what a hit takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expense {
    /// CPU time of our own process.
    pub own_cpu_ns: Option<u64>,
    /// Its resident set.
    pub own_rss_bytes: Option<u64>,
    /// What a trap takes.
    pub trap_ns: u64,
    /// What a run of a program takes.
    pub run_ns: RunNs,
    /// How often a variable was set or reset: each is a trap.
    pub var_changes: u64,
    /// Whether there is a probe at the beginning of each task's step.
    pub has_steps: bool,
}

/// Nanoseconds that one run of a program takes, where it was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunNs {
    /// At the sites.
    pub site: Option<f64>,
    /// At the scheduler's tracepoints.
    pub scheduler: Option<f64>,
}

/// How often programs ran for a worker's threads; only grows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hits {
    enters: u64,
    exits: u64,
    /// Switches and wakeups.
    switches: u64,
}

impl Hits {
    /// Adds those of a thread.
    pub(super) fn add(&mut self, thread: &Thread) {
        let hits = &thread.hits;
        self.enters += hits.enters();
        self.exits += hits.run_exits + hits.context_exits;
        self.switches += u64::from(thread.clock.turns / 2);
    }

    fn since(self, before: Hits) -> Hits {
        Hits {
            enters: self.enters.saturating_sub(before.enters),
            exits: self.exits.saturating_sub(before.exits),
            switches: self.switches.saturating_sub(before.switches),
        }
    }

    /// What they took, nanoseconds; nothing takes nothing, also where it was not measured.
    fn took_ns(self, expense: &Expense, var_changes: u64) -> Option<f64> {
        let steps = if expense.has_steps { self.enters } else { 0 };
        let traps = self.enters + self.exits + steps + var_changes;
        let take = |count: u64, each_ns: Option<f64>| match count {
            0 => Some(0.0),
            _ => each_ns.map(|each_ns| count as f64 * each_ns),
        };
        let trap_ns = expense.trap_ns as f64;
        let at_sites_ns = take(traps, expense.run_ns.site.map(|run_ns| trap_ns + run_ns))?;
        Some(at_sites_ns + take(self.switches, expense.run_ns.scheduler)?)
    }
}

/// What all cost between two looks.
pub(super) fn cost(
    rates: Rates,
    (now, hits): (&Expense, Hits),
    (before, hits_before): (&Expense, Hits),
) -> Cost {
    let own_cpu_ns = now.own_cpu_ns.zip(before.own_cpu_ns);
    let var_changes = now.var_changes.saturating_sub(before.var_changes);
    let took_ns = hits.since(hits_before).took_ns(now, var_changes);
    Cost {
        daemon_cpu_ratio: own_cpu_ns.and_then(|(now, before)| rates.ratio(now, before)),
        daemon_rss_bytes: now.own_rss_bytes,
        worker_cpu_ratio: took_ns.and_then(|took_ns| rates.ratio(took_ns as u64, 0)),
    }
}

#[cfg(test)]
mod tests {
    use openrtc_common::{account::Clock, thread::SiteHits};

    use super::*;

    #[test]
    fn what_hits_take_is_told_where_a_run_was_measured() {
        let rates = Rates { interval_ns: 1_000_000, are_polls_known: true };
        let hits = |polls| {
            let mut hits = Hits::default();
            let at = SiteHits { run_enters: polls, run_exits: polls, ..SiteHits::default() };
            let clock = Clock { turns: 20, ..Clock::default() };
            hits.add(&Thread { hits: at, clock, ..Thread::default() });
            hits
        };
        let mut now = Expense { trap_ns: 900, own_cpu_ns: Some(30_000), ..Expense::default() };
        let before = Expense { own_cpu_ns: Some(10_000), ..now };
        let told = |now: &Expense| cost(rates, (now, hits(50)), (&before, hits(10)));
        assert_eq!(told(&now).worker_cpu_ratio, None, "not measured");
        assert_eq!(told(&now).daemon_cpu_ratio, Some(0.02));
        now.run_ns = RunNs { site: Some(100.0), scheduler: None };
        assert_eq!(told(&now).worker_cpu_ratio, Some(0.08), "80 traps of 1 us, no switch");
        (now.var_changes, now.has_steps) = (20, true);
        assert_eq!(told(&now).worker_cpu_ratio, Some(0.14), "60 more");
    }
}
