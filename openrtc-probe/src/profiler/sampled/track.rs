//! The polls of one loop's thread as they are seen from time to time: which one it is in, since when, and what
//! it took once it is over.
//!
//! A poll is a `context_ver` that stands still. Where it has moved between two sights, the thread has run in
//! between, for no longer than its clock went on: the change is put into the middle of that time, and is off by
//! at most half of it. So what was asleep at one of the sights is known to microseconds, and the rest to half of
//! the time between two samples.

use openrtc_common::{
    account::{Reading, state},
    poll::{Ended, Frame, Polls, via, vote},
    wait::{Key, Wait, Waits, kind},
};

/// The thread at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    /// Its clock.
    pub(super) reading: Reading,
    /// `context_ver`.
    pub(super) version: u64,
    /// The context that it is in, and the slot of its tag; `None` outside any poll.
    pub(super) inside: Option<(u64, u32)>,
    /// What the scheduler's programs call the poll, if they have seen it.
    pub(super) name: Option<u64>,
}

/// A poll that goes on.
#[derive(Clone, Copy, Debug)]
struct Open {
    context: u64,
    slot: u32,
    start: Reading,
    /// It may have begun so early.
    earliest_ns: u64,
    /// It was there before us.
    is_lower_bound: bool,
    holder: u32,
    lead_ns: u64,
    /// When it was first and last seen.
    first_ns: u64,
    last_ns: u64,
    /// What its thread has waited for in it, as it was last seen.
    waits: Waits,
    /// As in [`Sight`].
    name: Option<u64>,
}

/// A poll that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Over {
    /// What it took.
    pub(super) ended: Ended,
    /// The thread's clock at its end.
    pub(super) at: Reading,
    /// It took no less.
    pub(super) at_least_ns: u64,
    /// It may have taken so long.
    pub(super) at_most_ns: u64,
    /// What its thread waited for in it.
    pub(super) waits: Waits,
}

/// One thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    last: Option<Sight>,
    open: Option<Open>,
    /// Contexts entered and left.
    turns: u64,
}

impl Track {
    /// As the thread is found in a poll that was followed until now.
    pub(super) fn resume(polls: &Polls, sight: Sight) -> Track {
        let open =
            polls.open_poll(&sight.reading).zip(sight.inside).map(|(poll, (context, slot))| Open {
                context,
                slot,
                start: polls.poll,
                earliest_ns: poll.started_at_ns,
                is_lower_bound: poll.seeded,
                holder: polls.holder,
                lead_ns: polls.lead_ns,
                first_ns: poll.started_at_ns,
                last_ns: sight.reading.at_ns,
                waits: Waits::default(),
                name: Some(poll.started_at_ns),
            });
        Track { last: Some(sight), open, turns: 0 }
    }

    /// When it was last seen.
    pub(super) fn last_at_ns(&self) -> u64 {
        self.last.map_or(0, |last| last.reading.at_ns)
    }

    /// Polls that have ended.
    pub(super) fn polls(&self) -> u64 {
        self.turns / 2
    }

    /// Since when the poll has gone on that it is in.
    pub(super) fn open_since_ns(&self) -> Option<u64> {
        self.open.map(|open| open.start.at_ns)
    }

    /// Takes in what the scheduler's programs have noted of the waits of a poll, if it is the one that goes on.
    pub(super) fn note(&mut self, waits: &Waits) {
        if let Some(open) = self.open.as_mut().filter(|open| open.name == Some(waits.poll_at_ns)) {
            open.waits = *waits;
        }
    }

    /// The waits of that poll, under the name that it has here.
    pub(super) fn waits(&self, waits: &Waits) -> Waits {
        let Some(open) = &self.open else { return Waits { poll_at_ns: 0, ..*waits } };
        let its = if open.name == Some(waits.poll_at_ns) { waits } else { &open.waits };
        Waits { poll_at_ns: open.start.at_ns, idle_at_ns: waits.idle_at_ns, ..*its }
    }

    /// Takes in what was seen; the poll that is over by then, if one is that was seen.
    pub(super) fn see(&mut self, sight: Sight) -> Option<Over> {
        let last = self.last.replace(sight);
        let Some(last) = last else {
            self.begin(sight.reading, sight.reading.at_ns, &sight);
            self.open.iter_mut().for_each(|open| open.is_lower_bound = true);
            return None;
        };
        if last.version == sight.version {
            self.go_on(&last, &sight);
            return None;
        }
        self.turns += sight.version.saturating_sub(last.version);
        let ran_ns = sight.reading.on_cpu_ns.saturating_sub(last.reading.on_cpu_ns);
        let change = sight.reading.before(ran_ns / 2);
        let over = self.open.take().map(|open| over(open, &change, sight.reading.at_ns));
        // It ran all the while: it was before that that it did anything else.
        self.begin(change, sight.reading.at_ns.saturating_sub(ran_ns), &sight);
        over
    }

    fn begin(&mut self, start: Reading, earliest_ns: u64, sight: &Sight) {
        self.open = sight.inside.map(|(context, slot)| Open {
            context,
            slot,
            start,
            earliest_ns,
            is_lower_bound: false,
            holder: slot,
            lead_ns: 0,
            first_ns: sight.reading.at_ns,
            last_ns: sight.reading.at_ns,
            waits: Waits::default(),
            name: sight.name,
        });
    }

    /// The same poll, or the same pause between two. Its tag may have been set since.
    fn go_on(&mut self, last: &Sight, sight: &Sight) {
        let Some((context, slot)) = sight.inside else { return };
        let Some(open) = &mut self.open else {
            // It could not be read before.
            return self.begin(last.reading, last.reading.at_ns, sight);
        };
        let wall_ns = sight.reading.at_ns.saturating_sub(last.reading.at_ns);
        (open.holder, open.lead_ns) = vote(open.holder, open.lead_ns, slot, wall_ns);
        (open.context, open.slot, open.last_ns) = (context, slot, sight.reading.at_ns);
        open.name = open.name.or(sight.name);
    }

    /// The poll as a program at its sites would have it; all of its time until `span` is charged already.
    pub(super) fn polls_since(&self, span: &Reading) -> Polls {
        let Some(open) = &self.open else { return Polls::default() };
        let mut polls =
            Polls::seed(span, &[Frame { context: open.context, slot: open.slot, via: via::RUN }]);
        polls.poll = open.start;
        polls.seeded = u32::from(open.is_lower_bound);
        (polls.holder, polls.lead_ns) = (open.holder, open.lead_ns);
        polls
    }
}

fn over(mut open: Open, change: &Reading, seen_at_ns: u64) -> Over {
    let split = change.since(&open.start);
    open.close_wait(split.off_cpu_ns);
    open.waits.poll_at_ns = open.start.at_ns;
    let ended = Ended {
        slot: open.holder,
        seeded: open.is_lower_bound,
        started_at_ns: open.start.at_ns,
        split,
    };
    Over {
        ended,
        at: *change,
        at_least_ns: open.last_ns.saturating_sub(open.first_ns),
        at_most_ns: seen_at_ns.saturating_sub(open.earliest_ns),
        waits: open.waits,
    }
}

impl Open {
    /// It was last seen asleep: what it slept besides what is known of was that sleep.
    fn close_wait(&mut self, off_cpu_ns: u64) {
        let Key { kind, .. } = self.waits.open;
        if matches!(kind, kind::SYSCALL | kind::FAULT | kind::STOPPED) {
            let is_sleep =
                |wait: &&Wait| matches!(wait.key.kind, kind::SYSCALL | kind::FAULT | kind::STOPPED);
            let known_ns: u64 = self.waits.table.iter().filter(is_sleep).map(|wait| wait.ns).sum();
            let rest_ns = off_cpu_ns.saturating_sub(known_ns);
            self.waits = self.waits.of(self.waits.poll_at_ns, state::OFF_CPU, 0, rest_ns);
            self.waits.open = Key::default();
        }
    }
}

impl Over {
    /// How long it took: the middle of what is possible, or where that says little the least of it.
    pub(super) fn length_ns(&self) -> u64 {
        let slack_ns = self.at_most_ns.saturating_sub(self.at_least_ns);
        if self.at_least_ns > 2 * slack_ns { self.ended.split.wall_ns } else { self.at_least_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A sight at `at` ms, after `on` ms on a CPU and `off` ms asleep.
    fn sight(at: u64, on: u64, off: u64, version: u64, slot: Option<u32>) -> Sight {
        let reading =
            Reading { at_ns: at * MS, on_cpu_ns: on * MS, off_cpu_ns: off * MS, run_queue_ns: 0 };
        Sight {
            reading,
            version,
            inside: slot.map(|slot| (0x1000 + u64::from(slot), slot)),
            name: None,
        }
    }

    #[test]
    fn a_poll_that_stands_still_is_told_to_half_a_sample() {
        let mut track = Track::default();
        assert_eq!(track.see(sight(0, 0, 0, 10, None)), None);
        assert_eq!(track.see(sight(2, 2, 0, 11, Some(7))), None);
        (2..60).for_each(|at| assert_eq!(track.see(sight(2 * at, 2 * at, 0, 11, Some(7))), None));
        let over = track.see(sight(120, 120, 0, 12, None)).unwrap();
        assert_eq!((over.ended.slot, over.ended.started_at_ns), (7, MS));
        assert_eq!((over.ended.split.wall_ns, over.ended.split.on_cpu_ns), (118 * MS, 118 * MS));
        assert_eq!((over.at_least_ns, over.at_most_ns), (116 * MS, 120 * MS));
        assert_eq!(over.length_ns(), 118 * MS);
        assert_eq!(track.polls(), 1);
    }

    #[test]
    fn one_that_sleeps_is_known_by_what_its_thread_ran() {
        let mut track = Track::default();
        // It ran for 100 us between the last sight and its sleep.
        let mut asleep = sight(50, 0, 49, 1, Some(3));
        asleep.reading.on_cpu_ns = 100_000;
        asleep.reading.off_cpu_ns = 50 * MS - 100_000;
        track.see(sight(0, 0, 0, 0, None));
        track.see(asleep);
        let start_ns = track.open_since_ns().unwrap();
        assert_eq!(start_ns, 50 * MS - 50_000);
        let mut woken = sight(150, 0, 0, 2, None);
        woken.reading.on_cpu_ns = 140_000;
        woken.reading.off_cpu_ns = 150 * MS - 140_000;
        let split = track.see(woken).unwrap().ended.split;
        assert_eq!(split.wall_ns, 150 * MS - 20_000 - start_ns);
        assert_eq!(split.on_cpu_ns + split.off_cpu_ns + split.run_queue_ns, split.wall_ns);
    }

    #[test]
    fn polls_between_two_sights_are_counted_and_not_taken_for_one() {
        let mut track = Track::default();
        track.see(sight(0, 0, 0, 100, Some(1)));
        let over = track.see(sight(2, 2, 0, 140, Some(2))).unwrap();
        assert!(over.ended.seeded, "it was there before us");
        assert_eq!((over.length_ns(), over.at_most_ns), (0, 2 * MS), "for a moment, or for two");
        assert_eq!(track.polls(), 20);
        assert_eq!(track.open_since_ns(), Some(MS));
    }

    #[test]
    fn a_poll_is_of_whom_it_was_for_most_of_its_time() {
        let mut track = Track::default();
        track.see(sight(0, 0, 0, 0, None));
        track.see(sight(2, 2, 0, 1, Some(0)));
        (2..50).for_each(|at| assert_eq!(track.see(sight(2 * at, 2 * at, 0, 1, Some(9))), None));
        assert_eq!(track.see(sight(100, 100, 0, 2, None)).unwrap().ended.slot, 9);
    }

    #[test]
    fn what_is_open_looks_like_a_poll_that_was_probed() {
        let mut track = Track::default();
        track.see(sight(0, 0, 0, 0, None));
        track.see(sight(2, 2, 0, 1, Some(4)));
        let now = sight(60, 60, 0, 1, Some(4));
        track.see(now);
        let polls = track.polls_since(&now.reading);
        let open = polls.open_poll(&now.reading).unwrap();
        assert_eq!((open.slot, open.started_at_ns, open.split.wall_ns), (4, MS, 59 * MS));
        assert_eq!(polls.open_span(&now.reading).unwrap().split.on_cpu_ns, 0, "all is charged");
        let resumed = Track::resume(&polls, now);
        assert_eq!(resumed.open_since_ns(), Some(MS));
    }
}
