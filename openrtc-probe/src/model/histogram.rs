//! How often something took how long.

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
    /// How many in all.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }
}
