//! How long the loops did not answer in the last minute.

use std::collections::VecDeque;

use openrtc_common::histogram::FINE;

use super::{history::SECONDS, record::SECOND_NS, snapshot::LoopDelay};

const MINUTE_NS: u64 = SECONDS as u64 * SECOND_NS;

/// What [`LoopDelay`] is told from, besides what was kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Polls<'a> {
    /// When.
    pub(super) at_ns: u64,
    /// Those that have ended so far, in the classes of [`FINE`].
    pub(super) ended: &'a [u64],
    /// How long those have lasted that run now.
    pub(super) open_ns: &'a [u64],
    /// The longest of the last minute, one that runs too.
    pub(super) longest_ns: u64,
    /// Threads that run loops.
    pub(super) loops: usize,
}

impl Polls<'_> {
    /// The class of the one poll of which more is known; none where that still runs.
    fn class_of_longest(&self) -> u32 {
        let runs = self.open_ns.contains(&self.longest_ns);
        if runs { u32::MAX } else { FINE.class(self.longest_ns) }
    }
}

/// The counts of each second of the last minute, as they were at its end.
#[derive(Debug, Default)]
pub(super) struct Delays(VecDeque<(u64, Vec<u64>)>);

impl Delays {
    /// Keeps the counts of this moment, once a second.
    pub(super) fn keep(&mut self, at_ns: u64, ended: Vec<u64>) {
        self.0.push_back((at_ns, ended));
        // The oldest that is left is a minute old, or a little more.
        while self.0.get(1).is_some_and(|(then_ns, _)| at_ns.saturating_sub(*then_ns) >= MINUTE_NS)
        {
            self.0.pop_front();
        }
    }

    /// The delay of the last minute; `None` while no poll was seen.
    pub(super) fn of(&self, polls: &Polls<'_>) -> Option<LoopDelay> {
        let is_seen = polls.ended.iter().any(|count| *count > 0) || !polls.open_ns.is_empty();
        let (since_ns, before) = self.0.front().filter(|_| is_seen && polls.loops > 0)?;
        let window_ns = polls.at_ns.saturating_sub(*since_ns);
        let most_ns = window_ns.min(polls.longest_ns) as f64;
        let ended = (0..).zip(polls.ended.iter().zip(before));
        let ended = ended.flat_map(|(class, (now, before))| {
            let count = now.saturating_sub(*before);
            let longest = u64::from(count > 0 && class == polls.class_of_longest());
            let middle_ns = middle_ns(class, window_ns).min(most_ns);
            [(most_ns, longest), (middle_ns, count - longest)]
        });
        let ended = ended.filter(|(_, count)| *count > 0).map(|(ns, count)| (ns, count as f64));
        let open = polls.open_ns.iter().map(|ns| ((*ns as f64).min(window_ns as f64), 1.0));
        let mut lengths: Vec<(f64, f64)> = ended.chain(open).collect();
        lengths.sort_by(|a, b| b.0.total_cmp(&a.0));
        let time_ns = window_ns as f64 * polls.loops as f64;
        Some(LoopDelay {
            p50_ns: Some(exceeded_for(&lengths, 0.5 * time_ns) as u64),
            p99_ns: Some(exceeded_for(&lengths, 0.01 * time_ns) as u64),
            max_ns: polls.longest_ns,
        })
    }
}

/// A length of this class; what is longer than all classes lasted for as long as we look at.
fn middle_ns(class: u32, window_ns: u64) -> f64 {
    let least_ns = FINE.least_ns(class);
    FINE.below_ns(class).map_or(window_ns, |below_ns| u64::midpoint(least_ns, below_ns)) as f64
}

/// The delay that is exceeded for `share_ns` in all. A poll of length `d` has more than `x` to go for
/// `d - x` of its time. `lengths` are those of all polls, the longest first, with how many there were.
fn exceeded_for(lengths: &[(f64, f64)], share_ns: f64) -> f64 {
    let (mut sum_ns, mut count) = (0.0, 0.0);
    for (at, (length_ns, polls)) in lengths.iter().enumerate() {
        sum_ns += length_ns * polls;
        count += polls;
        let next_ns = lengths.get(at + 1).map_or(0.0, |(next_ns, _)| *next_ns);
        if sum_ns - count * next_ns > share_ns {
            return (sum_ns - share_ns) / count;
        }
    }
    0.0
}

#[cfg(test)]
mod tests {
    use openrtc_common::histogram::FINE_LEN;

    use super::*;

    const MS: u64 = 1_000_000;

    fn counts(polls: &[(u64, u64)]) -> Vec<u64> {
        let mut counts = vec![0; FINE_LEN];
        for (ns, count) in polls {
            counts[FINE.class(*ns) as usize] += count;
        }
        counts
    }

    /// After ten seconds in which these polls were, of so many milliseconds, so often.
    fn after_ten_s(polls_ms: &[(u64, u64)], open_ms: &[u64], loops: usize) -> Option<LoopDelay> {
        let mut delays = Delays::default();
        delays.keep(0, counts(&[(MS, 1000)]));
        let polls: Vec<_> = polls_ms.iter().map(|(ms, count)| (ms * MS, *count)).collect();
        let ended = counts(&[&polls[..], &[(MS, 1000)]].concat());
        let open_ns: Vec<_> = open_ms.iter().map(|ms| ms * MS).collect();
        let longest = polls.iter().map(|(ns, _)| *ns).chain(open_ns.iter().copied()).max();
        delays.of(&Polls {
            at_ns: 10 * SECOND_NS,
            ended: &ended,
            open_ns: &open_ns,
            longest_ns: longest.unwrap_or(0),
            loops,
        })
    }

    #[track_caller]
    fn is_about(told_ns: u64, ms: f64) {
        let ratio = told_ns as f64 / 1e6 / ms;
        assert!((ratio - 1.0).abs() < 0.07, "{told_ns} ns, not {ms} ms");
    }

    #[test]
    fn a_moment_waits_for_what_the_poll_has_to_go() {
        // 6 s of 10 in polls of 60 ms: P(delay > x) = 100 (60 ms - x) / 10 s.
        let delay = after_ten_s(&[(60, 100)], &[], 1).unwrap();
        is_about(delay.p50_ns.unwrap(), 10.0);
        is_about(delay.p99_ns.unwrap(), 59.0);
        assert_eq!(delay.max_ns, 60 * MS);
    }

    #[test]
    fn a_loop_that_mostly_waits_answers_at_once() {
        let delay = after_ten_s(&[(1, 4000), (300, 1)], &[], 1).unwrap();
        assert_eq!(delay.p50_ns.unwrap(), 0, "polls take 43 % of the time");
        // More than 1 % of the time, 100 ms, is needed: in the last 200 ms of the long one.
        assert_eq!(delay.p99_ns.unwrap(), 200 * MS, "the longest is known exactly");
        let idle = after_ten_s(&[], &[], 1).unwrap();
        assert_eq!(idle, LoopDelay { p50_ns: Some(0), p99_ns: Some(0), max_ns: 0 });
        // On a second loop nothing happens: half of all moments are its.
        is_about(after_ten_s(&[(300, 1)], &[], 2).unwrap().p99_ns.unwrap(), 100.0);
    }

    #[test]
    fn a_poll_that_runs_counts_with_what_it_has_lasted() {
        is_about(after_ten_s(&[], &[6000], 1).unwrap().p50_ns.unwrap(), 1000.0);
        let wedged = after_ten_s(&[], &[3_600_000], 1).unwrap();
        is_about(wedged.p50_ns.unwrap(), 5000.0);
        assert_eq!(wedged.max_ns, 3_600_000 * MS, "though we look at ten seconds");
        is_about(after_ten_s(&[(70_000, 1)], &[], 1).unwrap().p50_ns.unwrap(), 5000.0);
    }

    #[test]
    fn no_poll_and_no_loop_is_no_delay_of_zero() {
        assert_eq!(after_ten_s(&[(5, 5)], &[], 0), None);
        let none = counts(&[]);
        let polls = Polls { at_ns: 5, ended: &none, open_ns: &[], longest_ns: 0, loops: 1 };
        let mut delays = Delays::default();
        delays.keep(0, counts(&[]));
        assert_eq!(delays.of(&polls), None);
    }

    #[test]
    fn only_a_minute_is_kept() {
        let mut delays = Delays::default();
        for second in 0..100 {
            delays.keep(second * SECOND_NS, counts(&[(MS, second)]));
        }
        assert_eq!(delays.0.len(), 61);
        assert_eq!(delays.0.front().map(|(at_ns, _)| *at_ns), Some(39 * SECOND_NS));
    }
}
