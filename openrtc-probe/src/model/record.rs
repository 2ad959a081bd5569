//! The worker's last minute as it passes: cut into seconds of the monotonic clock, however often and how
//! late somebody looks.

use std::collections::VecDeque;

use super::{
    delay::{Delays, Polls},
    history::{History, SECONDS, Second},
    look::Look,
    snapshot::LoopDelay,
};

/// One second.
pub(super) const SECOND_NS: u64 = 1_000_000_000;
/// Seconds of resident sets from which a growth is told.
const LEAST_FOR_GROWTH: usize = 30;

/// What is read of the worker once a second.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// When, `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// CPU time of the process, by the kernel's own account.
    pub process_cpu_ns: Option<u64>,
    /// Resident set.
    pub rss_bytes: Option<u64>,
    /// All polls on loop threads so far, in the classes of `histogram::FINE`.
    pub loop_polls: Vec<u64>,
}

/// The seconds that are over, and what is known of the one that goes on.
#[derive(Debug)]
pub(super) struct Recorder {
    start_ns: u64,
    /// How many seconds are over, kept or not.
    over: u64,
    seconds: VecDeque<Second>,
    /// The last sample: when, and the CPU time then.
    before: (u64, Option<u64>),
    delays: Delays,
    /// The longest poll that has ended in the second that goes on.
    longest_ns: u64,
    /// Stalls that have begun in it.
    stalls: u32,
    growth: Option<i64>,
}

impl Recorder {
    /// The first second begins with this sample.
    pub(super) fn new(first: Sample) -> Self {
        let mut delays = Delays::default();
        delays.keep(first.at_ns, first.loop_polls);
        Self {
            start_ns: first.at_ns,
            over: 0,
            seconds: VecDeque::with_capacity(SECONDS),
            before: (first.at_ns, first.process_cpu_ns),
            delays,
            longest_ns: 0,
            stalls: 0,
            growth: None,
        }
    }

    /// How many seconds are over by `now_ns`.
    fn over_by(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.start_ns) / SECOND_NS
    }

    /// Whether a second is over and waits to be closed.
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        self.over_by(now_ns) > self.over
    }

    /// How many seconds were closed so far.
    pub(super) fn over(&self) -> u64 {
        self.over
    }

    /// Polls have ended since the last time, of which the longest took so long.
    pub(super) fn polls_ended(&mut self, longest_ns: u64) {
        self.longest_ns = self.longest_ns.max(longest_ns);
    }

    /// A stall began then, maybe in a second that is over. One that began before us counts in the first.
    pub(super) fn stall_began(&mut self, at_ns: u64) {
        let back = self.over.saturating_sub(self.over_by(at_ns)) as usize;
        if back == 0 {
            self.stalls += 1;
        } else if let Some(at) = self.seconds.len().checked_sub(back)
            && let Some(second) = self.seconds.get_mut(at)
        {
            second.stalls += 1;
        }
    }

    /// Closes the seconds that are over. Where that are several, the worker's CPU is shared among them, and
    /// the longest poll is that of each: which of them it was in is not known. `open_ns` is how long the
    /// poll has lasted that has run for longest.
    pub(super) fn close(&mut self, now: Sample, open_ns: u64) {
        if !self.is_due(now.at_ns) {
            return;
        }
        let span_ns = now.at_ns.saturating_sub(self.before.0);
        let cpu = now.process_cpu_ns.zip(self.before.1);
        let cpu = cpu.filter(|_| span_ns > 0);
        let cpu_ratio = cpu.map(|(now, before)| now.saturating_sub(before) as f64 / span_ns as f64);
        let over = self.over_by(now.at_ns);
        // Of a long time without a look only the last minute is kept.
        for second in self.over.max(over.saturating_sub(SECONDS as u64))..over {
            let end_ns = self.start_ns + (second + 1) * SECOND_NS;
            let open_ns = open_ns.saturating_sub(now.at_ns.saturating_sub(end_ns));
            if self.seconds.len() == SECONDS {
                self.seconds.pop_front();
            }
            self.seconds.push_back(Second {
                cpu_ratio,
                longest_poll_ns: self.longest_ns.max(open_ns),
                stalls: std::mem::take(&mut self.stalls),
                rss_bytes: now.rss_bytes,
            });
        }
        (self.over, self.before) = (over, (now.at_ns, now.process_cpu_ns));
        self.longest_ns = 0;
        self.delays.keep(now.at_ns, now.loop_polls);
        self.growth = growth(self.seconds.iter().map(|second| second.rss_bytes));
    }

    /// How long the loops, of which there are so many, did not answer in the last minute. `open_ns` is how
    /// long those polls have lasted that run now.
    pub(super) fn loop_delay(
        &self,
        look: &Look,
        open_ns: &[u64],
        loops: usize,
    ) -> Option<LoopDelay> {
        self.delays.of(&Polls {
            at_ns: look.at_ns,
            ended: &look.loop_polls,
            open_ns,
            longest_ns: self.longest_ns(open_ns),
            loops,
        })
    }

    /// The longest poll of the last minute, those included that have run for `open_ns` so far.
    pub(super) fn longest_ns(&self, open_ns: &[u64]) -> u64 {
        let ended = self.seconds.iter().map(|second| second.longest_poll_ns);
        let all = ended.chain(open_ns.iter().copied()).chain([self.longest_ns]);
        all.max().unwrap_or(0)
    }

    /// By how much the resident set grows in a minute.
    pub(super) fn growth(&self) -> Option<i64> {
        self.growth
    }

    /// The last minute.
    pub(super) fn history(&self) -> History {
        History { seconds: self.seconds.iter().copied().collect() }
    }
}

/// The middle one of the slopes between any two seconds, for a minute: a single leap, as when a model is
/// loaded, is no growth.
fn growth(rss_bytes: impl Iterator<Item = Option<u64>>) -> Option<i64> {
    let known: Vec<(f64, f64)> =
        rss_bytes.enumerate().filter_map(|(at, bytes)| Some((at as f64, bytes? as f64))).collect();
    if known.len() < LEAST_FOR_GROWTH {
        return None;
    }
    let slope = |(a, b): (&(f64, f64), &(f64, f64))| (b.1 - a.1) / (b.0 - a.0);
    let pairs = known.iter().enumerate();
    let mut slopes: Vec<f64> =
        pairs.flat_map(|(at, a)| known.iter().skip(at + 1).map(move |b| slope((a, b)))).collect();
    let middle = slopes.len() / 2;
    let (_, middle, _) = slopes.select_nth_unstable_by(middle, f64::total_cmp);
    Some((*middle * SECONDS as f64).round() as i64)
}

#[cfg(test)]
mod tests {
    use openrtc_common::histogram::FINE_LEN;

    use super::*;

    const MS: u64 = 1_000_000;

    /// A sample that many milliseconds into a minute that begins at 5 s.
    fn at(ms: u64, cpu_ms: u64) -> Sample {
        Sample {
            at_ns: (5000 + ms) * MS,
            process_cpu_ns: Some(cpu_ms * MS),
            rss_bytes: Some(1000 + ms),
            ..Sample::default()
        }
    }

    fn shown(recorder: &Recorder) -> Vec<(Option<f64>, u64, u32)> {
        let seconds = recorder.history().seconds.into_iter();
        seconds.map(|it| (it.cpu_ratio, it.longest_poll_ns / MS, it.stalls)).collect()
    }

    #[test]
    fn seconds_are_those_of_the_clock_however_often_somebody_looks() {
        // Looks at 10 Hz, and every two seconds: the same minute.
        for every_ms in [100, 2000] {
            let mut recorder = Recorder::new(at(0, 0));
            for ms in (every_ms..=8000).step_by(every_ms as usize) {
                recorder.close(at(ms, ms / 4), 0);
            }
            assert_eq!(shown(&recorder), [(Some(0.25), 0, 0); 8], "{every_ms}");
        }
    }

    #[test]
    fn a_poll_that_goes_on_counts_in_each_second_with_what_it_had_lasted() {
        let mut recorder = Recorder::new(at(0, 0));
        recorder.polls_ended(7 * MS);
        // Begun at 300 ms; looked at 50 ms late.
        recorder.close(at(1050, 0), 750 * MS);
        assert_eq!(shown(&recorder), [(Some(0.0), 700, 0)]);
        // Nobody came for two seconds.
        recorder.close(at(3000, 0), 2700 * MS);
        assert_eq!(shown(&recorder)[1..], [(Some(0.0), 1700, 0), (Some(0.0), 2700, 0)]);
        recorder.polls_ended(2800 * MS);
        let mut loop_polls = vec![0; FINE_LEN];
        loop_polls[FINE_LEN - 1] = 1;
        let look = Look { at_ns: at(3001, 0).at_ns, loop_polls, ..Look::default() };
        let delay = recorder.loop_delay(&look, &[1], 1).map(|delay| delay.max_ns);
        assert_eq!(delay, Some(2800 * MS), "also in the second that goes on");
        recorder.close(at(4000, 0), 0);
        recorder.close(at(5000, 0), 0);
        assert_eq!(shown(&recorder)[3..], [(Some(0.0), 2800, 0), (Some(0.0), 0, 0)]);
    }

    #[test]
    fn a_stall_counts_where_it_began_also_when_it_is_told_later() {
        let mut recorder = Recorder::new(at(0, 0));
        recorder.stall_began(at(500, 0).at_ns);
        recorder.close(at(1010, 0), 0);
        recorder.close(at(2010, 0), 0);
        for ms in [999, 1900, 2005] {
            recorder.stall_began(at(ms, 0).at_ns);
        }
        recorder.stall_began(0);
        recorder.close(at(3000, 0), 0);
        let stalls: Vec<_> = shown(&recorder).into_iter().map(|(.., stalls)| stalls).collect();
        assert_eq!(stalls, [3, 1, 1], "one was there before us");
    }

    #[test]
    fn a_minute_is_kept_and_what_is_not_known_is_not_zero() {
        let mut recorder = Recorder::new(at(0, 0));
        recorder.close(Sample { process_cpu_ns: None, ..at(1000, 0) }, 0);
        recorder.close(at(2000, 10), 0);
        assert_eq!(shown(&recorder), [(None, 0, 0); 2], "no reading, no ratio");
        recorder.close(at(500_000, 20), 0);
        assert_eq!((recorder.history().seconds.len(), recorder.over()), (SECONDS, 500));
    }

    #[test]
    fn growth_is_that_of_the_line_and_a_leap_is_none() {
        let line = |seconds: u64| (0..seconds).map(|second| Some(1000 + 50 * second));
        assert_eq!(growth(line(29)), None, "not half a minute");
        assert_eq!(growth(line(30)), Some(3000));
        let leap = (0..60).map(|second| Some(if second < 20 { 1000 } else { 900_000 }));
        assert_eq!(growth(leap), Some(0));
        let falls = (0..60).map(|second| (second % 2 == 0).then(|| 100_000 - 10 * second));
        assert_eq!(growth(falls), Some(-600), "of every other second");
    }
}
