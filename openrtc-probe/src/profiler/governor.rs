//! Which mode fits the budget. Pure: time, polls and costs are arguments.
//!
//! A bucket holds what probes may still cost: it fills at three quarters of the budget, holds a quarter of what the
//! budget is in a second, and each hit empties it by what a hit costs. So in any second hits cost the budget at most,
//! and what comes between the bucket running dry and the probes being off. Exact accounting comes back when it would
//! cost half of the budget at the busiest of the last seconds, and later each time that it had to leave soon after it
//! came.

use std::collections::VecDeque;

use crate::model::{Choice, Mode, ModeWish, ProbeLoad, Reason};

const SECOND_NS: u64 = 1_000_000_000;
/// Of the budget: what the bucket is filled by, and what it holds of a second's.
const FILL: f64 = 0.75;
const HOLDS: f64 = 0.25;
/// Of the budget: what exact accounting may be expected to cost where it begins.
const FITS: f64 = 0.5;
/// The busiest second is looked for in this time.
const LOOK_BACK_NS: u64 = 5 * SECOND_NS;
/// How long it stays sampled at least, at first, and at most.
const REST_NS: (u64, u64) = (10 * SECOND_NS, 160 * SECOND_NS);
/// Who has to leave within this time of coming stays away twice as long.
const SOON_NS: u64 = 30 * SECOND_NS;

/// What has happened by now; only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Count {
    /// When.
    pub(super) at_ns: u64,
    /// Polls on loop threads.
    pub(super) polls: u64,
    /// What hits have cost, nanoseconds.
    pub(super) spent_ns: f64,
}

/// The mode, and what could change it.
#[derive(Clone, Debug)]
pub(super) struct Governor {
    /// Of one core; `None` where the mode stays as it is.
    budget: Option<f64>,
    mode: Mode,
    /// What hits may cost now.
    bucket_ns: f64,
    last: Count,
    /// Each second's polls a second, with its end.
    rates: VecDeque<(u64, f64)>,
    second: Count,
    came_at_ns: u64,
    rest_ns: u64,
    rest_until_ns: u64,
}

impl Governor {
    /// At first: `polls_per_s` is what was seen before anything was attached, `poll_ns` what a poll costs with
    /// probes. Also why it begins as it does.
    pub(super) fn start(
        wish: &ModeWish,
        is_by_name: bool,
        now_ns: u64,
        polls_per_s: Option<f64>,
        poll_ns: f64,
    ) -> (Governor, Reason) {
        let budget = wish.max_overhead_ratio;
        let (mode, reason, is_fixed) = match wish.choice {
            _ if is_by_name => (Mode::Exact, Reason::ByTaskName, true),
            Choice::Exact => (Mode::Exact, Reason::Asked, true),
            _ if !wish.may_probe() => (Mode::Sampled, Reason::Asked, true),
            Choice::Auto | Choice::Sampled => match polls_per_s.map(|rate| load(rate, poll_ns)) {
                Some(load) if load.overhead_ratio <= budget * FITS => {
                    (Mode::Exact, Reason::Fits(load), false)
                }
                Some(load) => (Mode::Sampled, Reason::TooDear(load), false),
                None => (Mode::Sampled, Reason::RateUnknown, false),
            },
        };
        let governor = Governor {
            budget: (!is_fixed).then_some(budget),
            mode,
            bucket_ns: budget * HOLDS * SECOND_NS as f64,
            last: Count { at_ns: now_ns, ..Count::default() },
            rates: VecDeque::new(),
            second: Count { at_ns: now_ns, ..Count::default() },
            came_at_ns: now_ns,
            rest_ns: REST_NS.0,
            // What was seen at first was seen for a moment.
            rest_until_ns: now_ns + LOOK_BACK_NS,
        };
        (governor, reason)
    }

    /// The mode that it has decided for.
    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether it may change.
    pub(super) fn is_auto(&self) -> bool {
        self.budget.is_some()
    }

    /// How many polls the bucket has left, at what one costs.
    pub(super) fn polls_left(&self, poll_ns: f64) -> Option<u64> {
        self.budget.map(|_| (self.bucket_ns.max(0.0) / poll_ns.max(1.0)) as u64)
    }

    /// Takes in what has happened; the mode that is wanted from now on, and why, where it is another one.
    pub(super) fn tick(&mut self, now: Count, poll_ns: f64) -> Option<(Mode, Reason)> {
        let budget = self.budget?;
        self.fill(budget, &now);
        let rate = self.count_second(&now);
        let change = match self.mode {
            Mode::Exact if self.bucket_ns <= 0.0 => {
                let rate = rate.unwrap_or(0.0).max(self.rate_of_now(&now));
                self.leave(now.at_ns);
                Some((Mode::Sampled, Reason::TooDear(load(rate, poll_ns))))
            }
            Mode::Sampled if now.at_ns >= self.rest_until_ns => {
                let busiest = self.busiest(now.at_ns)?;
                let load = load(busiest, poll_ns);
                (load.overhead_ratio <= budget * FITS).then_some((Mode::Exact, Reason::Fits(load)))
            }
            _ => None,
        };
        if let Some((mode, _)) = change {
            self.mode = mode;
            self.came_at_ns = now.at_ns;
            self.bucket_ns = budget * HOLDS * SECOND_NS as f64;
        }
        self.last = now;
        change
    }

    /// It could not be done: sampled for as long as can be.
    pub(super) fn refused(&mut self, now_ns: u64) {
        self.mode = Mode::Sampled;
        self.rest_until_ns = now_ns + REST_NS.1;
    }

    fn fill(&mut self, budget: f64, now: &Count) {
        let span_ns = now.at_ns.saturating_sub(self.last.at_ns) as f64;
        let spent_ns = (now.spent_ns - self.last.spent_ns).max(0.0);
        let most_ns = budget * HOLDS * SECOND_NS as f64;
        self.bucket_ns = (self.bucket_ns + span_ns * budget * FILL).min(most_ns) - spent_ns;
    }

    /// Closes a second that is over; the rate in it.
    fn count_second(&mut self, now: &Count) -> Option<f64> {
        let span_ns = now.at_ns.saturating_sub(self.second.at_ns);
        if span_ns < SECOND_NS {
            return None;
        }
        let rate = rate(&self.second, now);
        self.rates.push_back((now.at_ns, rate));
        self.second = *now;
        while self.rates.front().is_some_and(|(at_ns, _)| at_ns + LOOK_BACK_NS < now.at_ns) {
            self.rates.pop_front();
        }
        Some(rate)
    }

    /// The rate since the second began, or since the last look, whichever is higher.
    fn rate_of_now(&self, now: &Count) -> f64 {
        rate(&self.second, now).max(rate(&self.last, now))
    }

    /// The highest rate of the last seconds; `None` where they were not all seen.
    fn busiest(&self, now_ns: u64) -> Option<f64> {
        let first_ns = self.rates.front()?.0;
        let is_whole = first_ns + LOOK_BACK_NS <= now_ns + 2 * SECOND_NS;
        let rates = self.rates.iter().map(|(_, rate)| *rate);
        is_whole.then(|| rates.fold(0.0, f64::max))
    }

    fn leave(&mut self, now_ns: u64) {
        let was_soon = now_ns.saturating_sub(self.came_at_ns) < SOON_NS;
        self.rest_ns = if was_soon { (2 * self.rest_ns).min(REST_NS.1) } else { REST_NS.0 };
        self.rest_until_ns = now_ns + self.rest_ns;
        // What was seen with probes on was slower for them.
        self.rates.clear();
    }
}

fn rate(from: &Count, to: &Count) -> f64 {
    let span_ns = to.at_ns.saturating_sub(from.at_ns);
    if span_ns == 0 {
        return 0.0;
    }
    to.polls.saturating_sub(from.polls) as f64 * SECOND_NS as f64 / span_ns as f64
}

fn load(polls_per_s: f64, poll_ns: f64) -> ProbeLoad {
    ProbeLoad { polls_per_s, overhead_ratio: polls_per_s * poll_ns / SECOND_NS as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL_NS: f64 = 2_500.0;
    const STEP_NS: u64 = 10_000_000;
    const AUTO: ModeWish =
        ModeWish { choice: Choice::Auto, sample_rate_hz: 500, max_overhead_ratio: 0.01 };

    /// A worker whose polls a second change with time.
    struct Play {
        governor: Governor,
        now: Count,
        /// When, and to what.
        changes: Vec<(u64, Mode)>,
        /// What hits had cost at each step.
        spent: Vec<f64>,
    }

    impl Play {
        fn new(wish: &ModeWish, rate: f64) -> Play {
            let (governor, _) = Governor::start(wish, false, 0, Some(rate), POLL_NS);
            Play { governor, now: Count::default(), changes: Vec::new(), spent: Vec::new() }
        }

        fn run(&mut self, seconds: f64, rate: f64) {
            for _ in 0..(seconds * 100.0) as u64 {
                let polls = rate * STEP_NS as f64 / 1e9;
                self.now.at_ns += STEP_NS;
                self.now.polls += polls as u64;
                if self.governor.mode() == Mode::Exact {
                    self.now.spent_ns += polls * POLL_NS;
                }
                if let Some((mode, _)) = self.governor.tick(self.now, POLL_NS) {
                    self.changes.push((self.now.at_ns, mode));
                }
                self.spent.push(self.now.spent_ns);
            }
        }

        /// The most that hits have cost in any second, of one core.
        fn worst(&self) -> f64 {
            let windows = self.spent.windows(101).map(|it| (it[100] - it[0]) / 1e9);
            windows.fold(0.0, f64::max)
        }
    }

    #[test]
    fn a_choice_that_is_none_never_changes() {
        let fixed = |choice| ModeWish { choice, ..AUTO };
        let none = ModeWish { max_overhead_ratio: 0.0, ..AUTO };
        for (wish, mode) in [
            (fixed(Choice::Exact), Mode::Exact),
            (fixed(Choice::Sampled), Mode::Sampled),
            (none, Mode::Sampled),
        ] {
            let mut play = Play::new(&wish, 500.0);
            assert_eq!(play.governor.mode(), mode);
            play.run(60.0, 200_000.0);
            play.run(60.0, 10.0);
            assert_eq!(play.changes, []);
            assert_eq!(play.governor.polls_left(POLL_NS), None);
        }
        let (by_name, why) = Governor::start(&fixed(Choice::Auto), true, 0, Some(1e6), POLL_NS);
        assert_eq!(
            (by_name.mode(), why, by_name.is_auto()),
            (Mode::Exact, Reason::ByTaskName, false)
        );
    }

    #[test]
    fn it_begins_as_fits_and_sampled_where_nothing_is_known() {
        let start = |rate| Governor::start(&AUTO, false, 0, rate, POLL_NS);
        assert_eq!(start(Some(1_000.0)).0.mode(), Mode::Exact);
        assert_eq!(start(Some(3_000.0)).0.mode(), Mode::Sampled);
        assert!(matches!(start(Some(3_000.0)).1, Reason::TooDear(_)));
        assert_eq!(start(None).0.mode(), Mode::Sampled);
    }

    #[test]
    fn a_step_up_is_answered_at_once_and_one_down_after_a_rest() {
        let mut play = Play::new(&AUTO, 1_000.0);
        play.run(20.0, 1_000.0);
        assert_eq!(play.changes, [], "a quarter of the budget");
        play.run(20.0, 200_000.0);
        let (at_ns, mode) = play.changes[0];
        assert_eq!((play.changes.len(), mode), (1, Mode::Sampled));
        assert!(at_ns <= 20 * SECOND_NS + 2 * STEP_NS);
        play.run(30.0, 1_000.0);
        let (back_ns, mode) = play.changes[1];
        assert_eq!((play.changes.len(), mode), (2, Mode::Exact));
        assert!((44 * SECOND_NS..52 * SECOND_NS).contains(&back_ns), "{back_ns}");
        // A step's own time at 200,000 polls a second is 5 ms of that.
        assert!(play.worst() < 0.01 + 0.005, "{}", play.worst());
    }

    #[test]
    fn near_the_edge_it_does_not_flap() {
        for rate in [1_900.0, 2_000.0, 2_900.0, 3_000.0, 3_100.0, 4_000.0] {
            let mut play = Play::new(&AUTO, rate);
            play.run(600.0, rate);
            assert!(play.changes.len() <= 1, "{rate}: {:?}", play.changes);
        }
    }

    #[test]
    fn whatever_the_polls_do_the_budget_is_kept_and_changes_are_few() {
        let mut seed = 3_u64;
        for _ in 0..20 {
            let mut play = Play::new(&AUTO, 1_000.0);
            for _ in 0..200 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let rate =
                    [0.0, 100.0, 1_000.0, 2_500.0, 10_000.0, 50_000.0][(seed >> 33) as usize % 6];
                play.run(((seed >> 40) % 40) as f64 / 10.0, rate);
            }
            // A step's own time at 50,000 polls a second is 1.25 ms of that.
            assert!(play.worst() <= 0.01 + 0.00126, "{}", play.worst());
            let minutes = play.now.at_ns as f64 / 60e9;
            assert!((play.changes.len() as f64) < 4.0 * minutes + 4.0, "{}", play.changes.len());
        }
    }

    #[test]
    fn who_has_to_leave_soon_stays_away_longer() {
        let mut play = Play::new(&AUTO, 1_000.0);
        for _ in 0..6 {
            play.run(400.0, 100.0);
            play.run(2.0, 100_000.0);
            play.run(12.0, 100.0);
            play.run(2.0, 100_000.0);
        }
        assert!(play.changes.len() <= 24, "{:?}", play.changes.len());
    }

    #[test]
    fn what_was_refused_is_not_tried_again_soon() {
        let mut play = Play::new(&AUTO, 100_000.0);
        play.run(1.0, 100.0);
        play.governor.refused(play.now.at_ns);
        play.run(100.0, 100.0);
        assert_eq!(play.changes, []);
        play.run(100.0, 100.0);
        assert_eq!(play.changes.len(), 1);
    }
}
