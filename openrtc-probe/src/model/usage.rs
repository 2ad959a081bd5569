//! Arithmetic on what polls used.

use openrtc_common::session::Counters;

use super::snapshot::Usage;

/// Two cumulative readings make a rate, here and nowhere else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    pub(super) interval_ns: u64,
    /// Whether the polls of each session were counted all the time.
    pub(super) are_polls_known: bool,
}

impl Rates {
    pub(super) fn ratio(self, now: u64, before: u64) -> Option<f64> {
        (self.interval_ns > 0).then(|| now.saturating_sub(before) as f64 / self.interval_ns as f64)
    }

    /// Polls of one session.
    pub(super) fn polls_per_s(self, now: u64, before: u64) -> Option<f64> {
        self.per_s(now, before).filter(|_| self.are_polls_known)
    }

    pub(super) fn per_s(self, now: u64, before: u64) -> Option<f64> {
        self.ratio(now, before).map(|per_ns| per_ns * 1e9)
    }
}

impl Usage {
    /// The counters of one slot.
    pub(super) fn of(counters: &Counters) -> Usage {
        Usage {
            loop_cpu_ns: counters.loop_on_cpu_ns,
            offloaded_cpu_ns: counters.offloaded_on_cpu_ns,
            off_cpu_ns: counters.loop_off_cpu_ns,
            run_queue_ns: counters.loop_run_queue_ns,
            polls: counters.polls,
            longest_poll_ns: counters.longest_poll_ns,
            stalls: counters.stalls,
        }
    }

    /// Adds what another used.
    pub(super) fn add(&mut self, other: &Usage) {
        self.loop_cpu_ns += other.loop_cpu_ns;
        self.offloaded_cpu_ns += other.offloaded_cpu_ns;
        self.off_cpu_ns += other.off_cpu_ns;
        self.run_queue_ns += other.run_queue_ns;
        self.polls += other.polls;
        self.longest_poll_ns = self.longest_poll_ns.max(other.longest_poll_ns);
        self.stalls += other.stalls;
    }

    /// Never less than before: a span that closes between two reads must not seem to vanish.
    pub(super) fn raise(&mut self, to: &Usage) {
        self.loop_cpu_ns = self.loop_cpu_ns.max(to.loop_cpu_ns);
        self.offloaded_cpu_ns = self.offloaded_cpu_ns.max(to.offloaded_cpu_ns);
        self.off_cpu_ns = self.off_cpu_ns.max(to.off_cpu_ns);
        self.run_queue_ns = self.run_queue_ns.max(to.run_queue_ns);
        self.polls = self.polls.max(to.polls);
        self.longest_poll_ns = self.longest_poll_ns.max(to.longest_poll_ns);
        self.stalls = self.stalls.max(to.stalls);
    }

    /// What was used since `origin`. A maximum has no difference and stays.
    pub(super) fn since(&self, origin: &Usage) -> Usage {
        Usage {
            loop_cpu_ns: self.loop_cpu_ns.saturating_sub(origin.loop_cpu_ns),
            offloaded_cpu_ns: self.offloaded_cpu_ns.saturating_sub(origin.offloaded_cpu_ns),
            off_cpu_ns: self.off_cpu_ns.saturating_sub(origin.off_cpu_ns),
            run_queue_ns: self.run_queue_ns.saturating_sub(origin.run_queue_ns),
            polls: self.polls.saturating_sub(origin.polls),
            longest_poll_ns: self.longest_poll_ns,
            // Of those too every one is told, the one that is found running at attach included.
            stalls: self.stalls,
        }
    }
}
