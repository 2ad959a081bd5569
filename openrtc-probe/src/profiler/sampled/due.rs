//! When samples are due: a period apart on the average, and in step with nothing that the worker does by a
//! timer of its own.

/// A period varies by up to a quarter of itself, so that what is in between two samples stays bounded.
const QUARTERS: u64 = 4;

/// Moments of samples.
#[derive(Clone, Debug)]
pub(super) struct Dues {
    period_ns: u64,
    at_ns: u64,
    /// Of a xorshift generator.
    seed: u64,
}

impl Dues {
    /// From `now_ns` on, so many a second.
    pub(super) fn new(rate_hz: u32, now_ns: u64) -> Dues {
        let period_ns = 1_000_000_000 / u64::from(rate_hz.max(1));
        // Any but 0.
        Dues { period_ns, at_ns: now_ns, seed: now_ns | 1 }
    }

    /// From one to the next, on the average.
    pub(super) fn period_ns(&self) -> u64 {
        self.period_ns
    }

    /// The next one. Those that were missed by then are left out.
    pub(super) fn next(&mut self, now_ns: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let spread_ns = self.period_ns / QUARTERS;
        let span_ns = self.period_ns - spread_ns + self.seed % (2 * spread_ns).max(1);
        let from_ns = if self.at_ns + span_ns < now_ns { now_ns } else { self.at_ns };
        self.at_ns = from_ns + span_ns;
        self.at_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_a_period_apart_and_within_a_quarter_of_it() {
        let mut dues = Dues::new(500, 1_000);
        let mut at_ns = 1_000;
        for _ in 0..10_000 {
            let next_ns = dues.next(at_ns);
            assert!((1_500_000..2_500_000).contains(&(next_ns - at_ns)));
            at_ns = next_ns;
        }
        let mean_ns = (at_ns - 1_000) / 10_000;
        assert!((1_980_000..2_020_000).contains(&mean_ns), "{mean_ns}");
    }

    #[test]
    fn what_was_missed_is_not_made_up_for() {
        let mut dues = Dues::new(1_000, 0);
        let late_ns = 50_000_000;
        assert!(dues.next(late_ns) > late_ns);
    }
}
