//! What a lookup found in a map of variables, remembered so that not every poll has to walk it.
//!
//! A HAMT is immutable: whoever finds this very map in a context finds the same tag in it. When it has
//! died, another may be made at its address. But maps are made by setting or resetting a variable, and
//! by nothing else (the empty one is made once and lives for ever), and a program stands at both:
//! <https://github.com/python/cpython/blob/v3.11.7/Python/context.c>. So each set and reset, of
//! whatever variable, begins a new generation, before it makes its map, and what was remembered in an
//! older one counts for nothing. Between that moment and the map, garbage may be collected and another
//! thread may run; so the next enter on the thread that has set begins one more.
//!
//! Invariant: a memo that two threads wrote at once is worth nothing, and is known by its check.

use bytemuck::{Pod, Zeroable};

/// Memos there are: maps that live at once, one for each session, and those that share a place.
pub const MAX_MEMOS: u32 = 1 << MEMO_BITS;

const MEMO_BITS: u32 = 10;
/// Of the multiplicative hash: 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The slot of the tag in one map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Memo {
    /// Address of the map.
    map: u64,
    /// When it was looked up.
    generation: u64,
    /// The session's slot.
    slot: u64,
    /// Of the other fields.
    check: u64,
}

impl Memo {
    /// What the map at `map` was found to hold in this generation.
    #[inline(always)]
    pub fn new(map: u64, generation: u64, slot: u32) -> Memo {
        let slot = u64::from(slot);
        Memo { map, generation, slot, check: check(map, generation, slot) }
    }

    /// The slot of the tag in the map at `map`, if that is what is remembered, and still holds.
    #[inline(always)]
    pub fn recall(&self, map: u64, generation: u64) -> Option<u32> {
        let is_it = self.map == map && self.generation == generation && map != 0;
        let is_whole = self.check == check(self.map, self.generation, self.slot);
        (is_it && is_whole).then_some(self.slot as u32)
    }

    /// Where the memo of the map at `map` stands.
    #[inline(always)]
    pub fn place(map: u64) -> u32 {
        (map.wrapping_mul(SPREAD) >> (u64::BITS - MEMO_BITS)) as u32
    }
}

#[inline(always)]
fn check(map: u64, generation: u64, slot: u64) -> u64 {
    map ^ generation.rotate_left(48) ^ slot.rotate_left(24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_map_of_the_same_generation_is_recalled() {
        let memo = Memo::new(0x7f00_1230, 5, 9);
        assert_eq!(memo.recall(0x7f00_1230, 5), Some(9));
        assert_eq!(memo.recall(0x7f00_1230, 6), None, "a variable was set since");
        assert_eq!(memo.recall(0x7f00_1270, 5), None, "another map in its place");
        assert_eq!(Memo::default().recall(0, 0), None, "an empty place");
    }

    #[test]
    fn two_writers_at_once_leave_nothing() {
        let (one, two) = (Memo::new(0x7f00_1230, 5, 9), Memo::new(0x7f00_5670, 5, 12));
        for fields in 1..15_u32 {
            let of = |bit: u32, one: u64, two: u64| if fields & 1 << bit == 0 { one } else { two };
            let torn = Memo {
                map: of(0, one.map, two.map),
                generation: of(1, one.generation, two.generation),
                slot: of(2, one.slot, two.slot),
                check: of(3, one.check, two.check),
            };
            let recalled = [torn.recall(one.map, 5), torn.recall(two.map, 5)];
            let whole = [one.recall(one.map, 5), two.recall(two.map, 5)];
            let is_right =
                recalled.iter().zip(whole).all(|(got, right)| got.is_none() || *got == right);
            assert!(is_right, "{fields:04b}: {torn:x?}");
        }
    }

    #[test]
    fn places_are_spread_and_within_bounds() {
        let places: std::collections::BTreeSet<u32> =
            (0..256_u64).map(|i| Memo::place(0x7f3a_c010_0000 + 64 * i)).collect();
        assert!(places.len() > 200, "{} of 256 maps have a place of their own", places.len());
        assert!(places.iter().all(|place| *place < MAX_MEMOS));
    }
}
