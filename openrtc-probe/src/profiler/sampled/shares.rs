//! How a thread's on-CPU time is shared out: the scheduler knows how much it is, samples whose.
//!
//! Time is taken in windows. In each, a session gets the share of the window's on-CPU time that it has of the
//! samples that met the thread running: with `n` samples and a share of `p`, the standard error of that is
//! `w * sqrt(p * (1 - p) / n)` of a window of `w`. Windows are independent, so that their variances add up.
//! Where `k` of the `n` met it, `(k + 1/2) / (n + 1)` stands for `p` in that: a share of all of a few samples is
//! not known without error. Time in a window without a sample goes into the next one.

/// What a sample met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// No poll: the loop's own work, or a thread that runs for nobody.
    Outside,
    /// A poll of the session in this slot.
    Session(u32),
}

/// What a session gets of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share {
    /// The session's slot.
    pub(super) slot: u32,
    /// On-CPU time.
    pub(super) on_cpu_ns: u64,
    /// Its squared standard error.
    pub(super) variance: f64,
}

/// One thread's open window.
#[derive(Clone, Debug)]
pub(super) struct Shares {
    from_ns: u64,
    met: Vec<(Met, u32)>,
}

impl Shares {
    /// A window that begins where the thread has used so much on-CPU time.
    pub(super) fn new(on_cpu_ns: u64) -> Shares {
        Shares { from_ns: on_cpu_ns, met: Vec::new() }
    }

    /// A sample met this.
    pub(super) fn meet(&mut self, met: Met) {
        match self.met.iter_mut().find(|(known, _)| *known == met) {
            Some((_, count)) => *count += 1,
            None => self.met.push((met, 1)),
        }
    }

    /// Closes the window where the thread has used so much on-CPU time: what each session gets of it.
    pub(super) fn close(&mut self, on_cpu_ns: u64) -> Vec<Share> {
        let samples: u32 = self.met.iter().map(|(_, count)| count).sum();
        let window_ns = on_cpu_ns.saturating_sub(self.from_ns);
        if samples == 0 || window_ns == 0 {
            return Vec::new();
        }
        self.from_ns = on_cpu_ns;
        let (all, window) = (f64::from(samples), window_ns as f64);
        let share = |(met, count): (Met, u32)| {
            let Met::Session(slot) = met else { return None };
            let part = (f64::from(count) + 0.5) / (all + 1.0);
            // Rounded down: all together never get more than there was.
            let on_cpu_ns = u128::from(window_ns) * u128::from(count) / u128::from(samples);
            let variance = window * window * part * (1.0 - part) / all;
            Some(Share { slot, on_cpu_ns: on_cpu_ns as u64, variance })
        };
        self.met.drain(..).filter_map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_shared_out_by_its_samples() {
        let mut shares = Shares::new(1_000);
        for (met, count) in [(Met::Session(3), 6), (Met::Outside, 3), (Met::Session(5), 1)] {
            (0..count).for_each(|_| shares.meet(met));
        }
        let got = shares.close(2_000);
        let of = |slot| got.iter().find(|share| share.slot == slot).unwrap();
        assert_eq!((of(3).on_cpu_ns, of(5).on_cpu_ns), (600, 100));
        let part = 6.5 / 11.0;
        assert!((of(3).variance - 1e6 * part * (1.0 - part) / 10.0).abs() < 1e-6);
        assert_eq!(shares.close(2_000), [], "nothing ran since");
    }

    #[test]
    fn what_no_sample_met_goes_into_the_next_window() {
        let mut shares = Shares::new(0);
        assert_eq!(shares.close(500), []);
        shares.meet(Met::Session(1));
        let got = shares.close(800);
        assert_eq!(got[0].on_cpu_ns, 800);
        assert!(got[0].variance > 0.0, "one sample is not sure of anything");
    }

    /// Two error bounds hold 95 of 100 sessions, over random workers.
    #[test]
    fn the_error_is_as_told() {
        let mut seed = 11_u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as f64 / f64::from(1_u32 << 31)
        };
        let (mut within, mut all) = (0, 0);
        for _ in 0..200 {
            let (mut got, mut variance) = ([0.0; 3], [0.0; 3]);
            let parts = [0.1, 0.25, 0.65];
            let mut shares = Shares::new(0);
            for window in 1..=20_u64 {
                for _ in 0..40 {
                    let at = random();
                    let slot = u32::from(at > parts[0]) + u32::from(at > parts[0] + parts[1]);
                    shares.meet(Met::Session(slot));
                }
                for share in shares.close(window * 1_000_000) {
                    got[share.slot as usize] += share.on_cpu_ns as f64;
                    variance[share.slot as usize] += share.variance;
                }
            }
            for slot in 0..3 {
                let error = (got[slot] - 20e6 * parts[slot]).abs();
                within += u32::from(error < 2.0 * f64::sqrt(variance[slot]));
                all += 1;
            }
        }
        assert!((0.92..0.98).contains(&(f64::from(within) / f64::from(all))), "{within} of {all}");
    }
}
