//! The last minute, second by second.

/// Seconds that are kept.
pub const SECONDS: usize = 60;

/// The worker's last minute, oldest second first. A second that goes on is not in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// At most [`SECONDS`]; fewer in the first minute.
    pub seconds: Vec<Second>,
}

/// One second of the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Second {
    /// CPU time of the process, of one core.
    pub cpu_ratio: Option<f64>,
    /// The longest poll that ended in it or went on at its end.
    pub longest_poll_ns: u64,
    /// Stalls that began in it.
    pub stalls: u32,
    /// The resident set at its end.
    pub rss_bytes: Option<u64>,
}

/// A session's CPU in the last minute, oldest second first.
///
/// Kept in thousandths of a core: there may be ten thousand of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuHistory {
    thousandths: [u16; SECONDS],
    len: u8,
}

impl Default for CpuHistory {
    fn default() -> Self {
        Self { thousandths: [0; SECONDS], len: 0 }
    }
}

impl CpuHistory {
    /// Adds a second; of more than [`SECONDS`] the oldest leaves.
    pub fn push(&mut self, ratio: f64) {
        if usize::from(self.len) == SECONDS {
            self.thousandths.rotate_left(1);
            self.len -= 1;
        }
        if let Some(next) = self.thousandths.get_mut(usize::from(self.len)) {
            // Saturates: a session cannot use 65 cores.
            *next = (ratio * 1000.0).round() as u16;
            self.len += 1;
        }
    }

    /// Shares of one core.
    pub fn ratios(&self) -> impl ExactSizeIterator<Item = f64> + '_ {
        let kept = self.thousandths.get(..usize::from(self.len)).unwrap_or_default();
        kept.iter().map(|thousandths| f64::from(*thousandths) / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute_is_kept() {
        let mut history = CpuHistory::default();
        assert_eq!(history.ratios().len(), 0);
        for second in 0..100 {
            history.push(f64::from(second) / 1000.0);
        }
        let kept: Vec<_> = history.ratios().collect();
        assert_eq!((kept.len(), kept.first(), kept.last()), (SECONDS, Some(&0.04), Some(&0.099)));
        history.push(1e9);
        assert_eq!(history.ratios().last(), Some(65.535));
    }
}
