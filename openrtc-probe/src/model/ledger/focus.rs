//! The session that is looked at more closely.

use std::array::from_fn;

use openrtc_common::{
    histogram::{COARSE, COARSE_LEN, Lengths},
    session::UNTAGGED,
    tag::{TagKey, TagText},
};
use smol_str::SmolStr;

use super::Ledger;
use crate::model::{entry::id_of, histogram::Histogram, look::Look, snapshot::Focus};

/// Which one that is.
#[derive(Clone, Debug)]
pub(super) struct Focused {
    session_id: SmolStr,
    /// Its tag, once it was met.
    key: Option<TagKey>,
}

impl Ledger {
    /// Looks more closely at the session of this id, or at none.
    pub fn focus(&mut self, session_id: Option<SmolStr>) {
        self.focus = session_id.map(|session_id| Focused { session_id, key: None });
    }

    /// The slots of the session in focus, of all that are in use: their histograms are wanted.
    pub fn focus_slots(&mut self, look: &Look) -> Vec<u32> {
        let Some(focused) = &mut self.focus else { return Vec::new() };
        if focused.key.is_none() {
            // Those that this look has met are not in the ledger yet.
            let known =
                self.sessions.iter().filter_map(|(key, entry)| Some((*key, **entry.tag.as_ref()?)));
            let mut all = known.chain(look.met.iter().map(|(_, tag)| (tag.key(), *tag)));
            let is_it = |tag: &TagText| id_of(tag, &self.types).0 == *focused.session_id;
            focused.key = all.find(|(_, tag)| is_it(tag)).map(|(key, _)| key);
        }
        let Some(key) = focused.key else { return Vec::new() };
        let is_its = |slot: &u32| match look.met.iter().find(|(met, _)| met == slot) {
            Some((_, tag)) => tag.key() == key,
            None => self.sessions.is_in(&key, *slot),
        };
        let slots = look.sessions.iter().map(|session| session.slot);
        slots.filter(|slot| *slot != UNTAGGED && is_its(slot)).collect()
    }

    /// What a close look shows.
    pub(super) fn focus_of(&self, look: &Look) -> Option<Focus> {
        let focused = self.focus.as_ref()?;
        let entry = self.sessions.get(&focused.key?)?;
        let shift = entry.lengths.as_deref().copied().unwrap_or_default();
        let sum = look.focus.iter().fold(shift, |sum, slot| plus(&sum, slot));
        Some(Focus {
            pid: self.about.pid,
            session_id: focused.session_id.clone(),
            polls: Histogram::of(COARSE, &counts(&sum.polls)),
            off_cpu: Histogram::of(COARSE, &counts(&sum.off_cpu)),
        })
    }
}

/// The classes that there are.
fn counts(all: &[u32]) -> Vec<u64> {
    all.iter().take(COARSE_LEN).copied().map(u64::from).collect()
}

/// Two sessions' counts, or what is to be added to a session's.
pub(super) fn plus(one: &Lengths, other: &Lengths) -> Lengths {
    combine(one, other, u32::wrapping_add)
}

/// What is left of the counts without the others; added to more, only the sum has to be right.
pub(super) fn minus(one: &Lengths, other: &Lengths) -> Lengths {
    combine(one, other, u32::wrapping_sub)
}

fn combine(one: &Lengths, other: &Lengths, with: impl Fn(u32, u32) -> u32) -> Lengths {
    Lengths {
        polls: from_fn(|class| with(one.polls[class], other.polls[class])),
        off_cpu: from_fn(|class| with(one.off_cpu[class], other.off_cpu[class])),
    }
}
