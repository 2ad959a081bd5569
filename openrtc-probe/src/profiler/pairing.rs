//! The proof that the sites are where we think: entries and exits pair up.

use std::{collections::HashMap, fmt};

use openrtc_common::{
    poll::MAX_DEPTH,
    thread::{SiteHits, Thread},
};

/// Entries and exits of one pair of sites, over all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// Entries.
    pub enters: u64,
    /// Exits.
    pub exits: u64,
}

/// What the hits say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was hit yet: an idle or a blocked worker.
    Silent,
    /// Exits equal entries, but for those in flight.
    Paired,
    /// They do not: the sites are wrong.
    Broken,
}

/// The hits of each thread, by its slot, when the last site had been attached. Attaching takes a while
/// and a busy worker does not wait: exits are hit before the enters are there to be hit.
#[derive(Clone, Debug, Default)]
pub struct AtAttach(HashMap<u32, SiteHits>);

/// The hits of all sites since they were all attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pairing {
    /// `Context.run`.
    pub run: Hits,
    /// `PyContext_Enter` and `PyContext_Exit`.
    pub context: Hits,
    /// Contexts entered now, at most this many: entries without an exit yet, or the reverse for
    /// those that were entered before we attached.
    pub in_flight: u64,
}

impl Hits {
    fn verdict(self, in_flight: u64) -> Verdict {
        if self.enters == 0 && self.exits == 0 {
            Verdict::Silent
        } else if self.enters.abs_diff(self.exits) <= in_flight {
            Verdict::Paired
        } else {
            Verdict::Broken
        }
    }
}

impl AtAttach {
    /// The hits of `threads` now.
    pub fn of(threads: impl Iterator<Item = (u32, Thread)>) -> AtAttach {
        AtAttach(threads.map(|(slot, thread)| (slot, thread.hits)).collect())
    }

    /// The thread in this slot is gone: whoever gets the slot next begins at nothing.
    pub fn forget(&mut self, slot: u32) {
        self.0.remove(&slot);
    }

    fn since(&self, slot: u32, now: &SiteHits) -> SiteHits {
        let before = self.0.get(&slot).copied().unwrap_or_default();
        let less = |now: u64, before: u64| now.saturating_sub(before);
        SiteHits {
            run_enters: less(now.run_enters, before.run_enters),
            run_exits: less(now.run_exits, before.run_exits),
            context_enters: less(now.context_enters, before.context_enters),
            context_exits: less(now.context_exits, before.context_exits),
            unmatched_exits: less(now.unmatched_exits, before.unmatched_exits),
        }
    }
}

impl Pairing {
    /// Adds up the hits of `threads` since `at_attach`.
    pub fn of(threads: impl Iterator<Item = (u32, Thread)>, at_attach: &AtAttach) -> Pairing {
        let mut pairing = Pairing::default();
        for (slot, Thread { hits, .. }) in threads {
            let hits = at_attach.since(slot, &hits);
            pairing.run.enters += hits.run_enters;
            pairing.run.exits += hits.run_exits;
            pairing.context.enters += hits.context_enters;
            pairing.context.exits += hits.context_exits;
            if hits.enters() + hits.unmatched_exits > 0 {
                // What was entered before we attached and what is entered now.
                pairing.in_flight += 2 * MAX_DEPTH as u64;
            }
        }
        pairing
    }

    /// The verdict on `Context.run`, and on `PyContext_Enter` and `_Exit`.
    pub fn verdicts(&self) -> [Verdict; 2] {
        [self.run.verdict(self.in_flight), self.context.verdict(self.in_flight)]
    }
}

impl fmt::Display for Pairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [run, context] = self.verdicts();
        write!(
            f,
            "Context.run {} in, {} out ({run:?}); PyContext_Enter/_Exit {} in, {} out ({context:?})",
            self.run.enters, self.run.exits, self.context.enters, self.context.exits,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(run_enters: u64, run_exits: u64) -> (u32, Thread) {
        let hits = SiteHits { run_enters, run_exits, ..SiteHits::default() };
        (7, Thread { hits, ..Thread::default() })
    }

    fn verdict(run_enters: u64, run_exits: u64) -> Verdict {
        let threads = [thread(run_enters, run_exits)].into_iter();
        Pairing::of(threads, &AtAttach::default()).verdicts()[0]
    }

    #[test]
    fn what_was_hit_while_attaching_does_not_count() {
        let mut at_attach = AtAttach::of([thread(0, 9000)].into_iter());
        let later = || [thread(5000, 14_000)].into_iter();
        assert_eq!(Pairing::of(later(), &at_attach).run, Hits { enters: 5000, exits: 5000 });
        at_attach.forget(7);
        assert_eq!(Pairing::of(later(), &at_attach).verdicts()[0], Verdict::Broken);
    }

    #[test]
    fn hits_pair_up_but_for_those_in_flight() {
        assert_eq!(verdict(0, 0), Verdict::Silent);
        assert_eq!(verdict(1000, 999), Verdict::Paired);
        assert_eq!(verdict(1, 0), Verdict::Paired);
        assert_eq!(verdict(1000, 0), Verdict::Broken);
        assert_eq!(verdict(1000, 2000), Verdict::Broken);
    }
}
