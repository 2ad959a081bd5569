//! Every session of the ledger, where a visit to all of them is quick: there may be ten thousand, ten
//! times a second, and no cache holds them.
//!
//! They lie side by side, in pages that never move, and are visited in that order. Which one a slot of the
//! kernel's belongs to is known by the slot, so that no tag has to be read and hashed again.

use std::collections::HashMap;

use openrtc_common::tag::TagKey;
use smol_str::SmolStr;

use super::entry::{Entry, TypeNames};

/// Sessions in a page.
const PAGE: usize = 256;
/// No session.
const NOBODY: u32 = u32::MAX;

/// All sessions that are kept.
#[derive(Debug, Default)]
pub(super) struct Roster {
    places: HashMap<TagKey, u32>,
    pages: Vec<Vec<Option<(TagKey, Entry)>>>,
    /// Places that are free again.
    free: Vec<u32>,
    /// The place of each slot's session.
    slots: Vec<u32>,
    /// The places of those that are shown, by id; `None` once it does not hold any more.
    by_id: Option<Vec<u32>>,
}

impl Roster {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The session of a tag.
    pub(super) fn get(&self, key: &TagKey) -> Option<&Entry> {
        self.at(*self.places.get(key)?).map(|(_, entry)| entry)
    }

    /// The same, to change it.
    pub(super) fn get_mut(&mut self, key: &TagKey) -> Option<&mut Entry> {
        let place = *self.places.get(key)?;
        self.at_mut(place).map(|(_, entry)| entry)
    }

    /// The session of a tag, a new one if there was none.
    pub(super) fn entry(&mut self, key: TagKey) -> &mut Entry {
        let place = self.places.get(&key).copied().unwrap_or_else(|| self.add(key));
        let (page, at) = (place as usize / PAGE, place as usize % PAGE);
        &mut self.pages[page][at].get_or_insert_with(|| (key, Entry::default())).1
    }

    /// Drops one.
    pub(super) fn remove(&mut self, key: &TagKey) {
        let Some(place) = self.places.remove(key) else { return };
        self.clear(place);
    }

    /// From now on this slot has this session's counters.
    pub(super) fn bind(&mut self, slot: u32, key: TagKey) {
        self.entry(key);
        let place = self.places.get(&key).copied().unwrap_or(NOBODY);
        let slot = slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, NOBODY);
        }
        self.slots[slot] = place;
    }

    /// The session whose counters are in this slot.
    pub(super) fn of_slot(&mut self, slot: u32) -> Option<&mut Entry> {
        let place = *self.slots.get(slot as usize)?;
        self.at_mut(place).map(|(_, entry)| entry)
    }

    /// Whether the counters of this session are in this slot.
    pub(super) fn is_in(&self, key: &TagKey, slot: u32) -> bool {
        let place = self.places.get(key);
        place.is_some() && place == self.slots.get(slot as usize)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&TagKey, &Entry)> {
        self.pages.iter().flatten().flatten().map(|(key, entry)| (key, entry))
    }

    /// All of them, to change them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&TagKey, &mut Entry)> {
        self.pages.iter_mut().flatten().flatten().map(|(key, entry)| (&*key, entry))
    }

    /// Visits all, and drops those for which `keeps` is false.
    pub(super) fn retain(&mut self, mut keeps: impl FnMut(&TagKey, &mut Entry) -> bool) {
        let mut gone = Vec::new();
        for (key, entry) in self.iter_mut() {
            if !keeps(key, entry) {
                gone.push(*key);
            }
        }
        for key in &gone {
            self.remove(key);
        }
    }

    /// The order by id does not hold any more: somebody has got an id, or another one.
    pub(super) fn ids_have_changed(&mut self) {
        self.by_id = None;
    }

    /// Visits all that have an id, in the order of their ids.
    pub(super) fn visit_by_id(
        &mut self,
        types: &TypeNames,
        mut visit: impl FnMut(&TagKey, &mut Entry),
    ) {
        let order = self.by_id.take().unwrap_or_else(|| self.order(types));
        for place in &order {
            if let Some((key, entry)) = self.at_mut(*place) {
                visit(key, entry);
            }
        }
        self.by_id = Some(order);
    }

    fn order(&mut self, types: &TypeNames) -> Vec<u32> {
        let places = (0..).zip(self.pages.iter_mut().flatten());
        let with_ids = places.filter_map(|(place, room)| {
            let (_, entry) = room.as_mut()?;
            entry.tag.is_some().then(|| (entry.id(types).0, place))
        });
        let mut with_ids: Vec<(SmolStr, u32)> = with_ids.collect();
        with_ids.sort_unstable();
        with_ids.into_iter().map(|(_, place)| place).collect()
    }

    fn at(&self, place: u32) -> Option<&(TagKey, Entry)> {
        self.pages.get(place as usize / PAGE)?.get(place as usize % PAGE)?.as_ref()
    }

    fn at_mut(&mut self, place: u32) -> Option<&mut (TagKey, Entry)> {
        self.pages.get_mut(place as usize / PAGE)?.get_mut(place as usize % PAGE)?.as_mut()
    }

    fn add(&mut self, key: TagKey) -> u32 {
        let place = self.free.pop().unwrap_or_else(|| {
            let first = (self.pages.len() * PAGE) as u32;
            self.pages.push((0..PAGE).map(|_| None).collect());
            self.free.extend((first + 1..first + PAGE as u32).rev());
            first
        });
        self.places.insert(key, place);
        place
    }

    fn clear(&mut self, place: u32) {
        let room = self.pages.get_mut(place as usize / PAGE);
        if let Some(room) = room.and_then(|page| page.get_mut(place as usize % PAGE)) {
            *room = None;
        }
        // Whoever comes to this place next is not in the slots of who was there.
        self.slots.iter_mut().filter(|of| **of == place).for_each(|of| *of = NOBODY);
        self.free.push(place);
        self.by_id = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(lo: u64) -> TagKey {
        TagKey { lo, hi: 7 }
    }

    #[test]
    fn a_slot_leads_to_its_session_until_another_has_it() {
        let mut roster = Roster::default();
        (0..1000).for_each(|at| roster.bind(at as u32 + 1, key(at)));
        roster.entry(key(5)).peak_bytes = Some(55);
        assert_eq!(roster.of_slot(6).and_then(|entry| entry.peak_bytes), Some(55));
        assert!(roster.is_in(&key(5), 6) && !roster.is_in(&key(5), 7) && !roster.is_in(&key(5), 0));
        // Two slots of one session, and then only the second.
        roster.bind(2000, key(5));
        roster.bind(6, key(3000));
        assert!(roster.is_in(&key(5), 2000) && !roster.is_in(&key(5), 6));
        assert_eq!(roster.of_slot(2000).and_then(|entry| entry.peak_bytes), Some(55));
        assert!(roster.of_slot(5000).is_none());
        assert_eq!((roster.len(), roster.iter().count()), (1001, 1001));
    }

    #[test]
    fn who_comes_after_is_not_who_was_there() {
        let mut roster = Roster::default();
        roster.bind(1, key(1));
        roster.entry(key(1)).peak_bytes = Some(1);
        roster.retain(|_, _| false);
        assert!(roster.get(&key(1)).is_none() && roster.of_slot(1).is_none());
        assert_eq!(roster.entry(key(2)).peak_bytes, None);
        assert!(roster.of_slot(1).is_none(), "it has the place and not the slot");
        roster.remove(&key(2));
        assert_eq!((roster.len(), roster.iter_mut().count()), (0, 0));
    }
}
