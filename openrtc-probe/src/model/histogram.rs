//! How often something took how long.

use openrtc_common::histogram::Resolution;

/// Counts by length, the shortest first, without gaps between the first and the last that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The classes; none where nothing was counted.
    pub buckets: Vec<Bucket>,
}

/// How many took from so long to so long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// At least so long.
    pub least_ns: u64,
    /// And less than so long; `None` in the last class, which has no end.
    pub below_ns: Option<u64>,
    /// How many.
    pub count: u64,
}

impl Histogram {
    /// Of counts by class.
    pub(super) fn of(resolution: Resolution, counts: &[u64]) -> Self {
        let is_used = |count: &u64| *count > 0;
        let first = counts.iter().position(is_used).unwrap_or(counts.len());
        let end = counts.iter().rposition(is_used).map_or(0, |last| last + 1);
        let bucket = |(class, count): (u32, &u64)| Bucket {
            least_ns: resolution.least_ns(class),
            below_ns: resolution.below_ns(class),
            count: *count,
        };
        let used = (0..).zip(counts).take(end).skip(first);
        Self { buckets: used.map(bucket).collect() }
    }

    /// How many in all.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }
}

#[cfg(test)]
mod tests {
    use openrtc_common::histogram::{COARSE, COARSE_LEN};

    use super::*;

    #[test]
    fn there_is_no_class_before_the_first_nor_after_the_last_and_no_gap() {
        let mut counts = [0; COARSE_LEN];
        assert_eq!(Histogram::of(COARSE, &counts), Histogram::default());
        (counts[1], counts[3], counts[COARSE_LEN - 1]) = (5, 2, 1);
        let all = Histogram::of(COARSE, &counts);
        assert_eq!((all.buckets.len(), all.count()), (COARSE_LEN - 1, 8));
        let bucket = |least_ns, below_ns, count| Bucket { least_ns, below_ns, count };
        let first = [
            bucket(1 << 11, Some(1 << 12), 5),
            bucket(1 << 12, Some(1 << 13), 0),
            bucket(1 << 13, Some(1 << 14), 2),
        ];
        assert_eq!(all.buckets[..3], first);
        assert_eq!(all.buckets.last(), Some(&bucket(1 << 33, None, 1)));
    }
}
