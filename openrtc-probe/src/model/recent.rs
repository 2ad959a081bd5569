//! Stalls of each session in the last minute.

use std::collections::{HashMap, VecDeque};

use openrtc_common::tag::TagKey;

use super::{history::SECONDS, record::SECOND_NS};

/// Counts by second, of those sessions that stalled in the last minute.
#[derive(Debug, Default)]
pub(super) struct Recent(HashMap<TagKey, VecDeque<(u64, u32)>>);

impl Recent {
    /// A stall of this session began then.
    pub(super) fn add(&mut self, key: TagKey, at_ns: u64) {
        let second = at_ns / SECOND_NS;
        let counts = self.0.entry(key).or_default();
        match counts.iter_mut().find(|(at, _)| *at == second) {
            Some((_, count)) => *count += 1,
            None => counts.push_back((second, 1)),
        }
    }

    /// Drops what is older than a minute.
    pub(super) fn forget_old(&mut self, now_ns: u64) {
        let oldest = (now_ns / SECOND_NS).saturating_sub(SECONDS as u64 - 1);
        self.0.retain(|_, counts| {
            counts.retain(|(second, _)| *second >= oldest);
            !counts.is_empty()
        });
    }

    /// How many stalls of it began in the last minute.
    pub(super) fn count(&self, key: &TagKey) -> u64 {
        if self.0.is_empty() {
            // As it should be: nothing to look up, ten thousand times.
            return 0;
        }
        let counts = self.0.get(key).into_iter().flatten();
        counts.map(|(_, count)| u64::from(*count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_later_a_stall_is_forgotten() {
        let key = |lo| TagKey { lo, hi: 0 };
        let mut recent = Recent::default();
        for at_s in [1, 1, 30] {
            recent.add(key(7), at_s * SECOND_NS + 5);
        }
        recent.add(key(8), SECOND_NS);
        recent.forget_old(60 * SECOND_NS);
        assert_eq!(
            (recent.count(&key(7)), recent.count(&key(8)), recent.count(&key(9))),
            (3, 1, 0)
        );
        recent.forget_old(61 * SECOND_NS);
        assert_eq!((recent.count(&key(7)), recent.count(&key(8))), (1, 0));
        assert_eq!(recent.0.len(), 1, "nobody is kept who does not stall");
    }
}
