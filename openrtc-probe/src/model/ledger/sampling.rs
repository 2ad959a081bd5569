//! What samples tell of a picture, and how sure that is.

use openrtc_common::session::UNTAGGED;

use super::Ledger;
use crate::model::look::Look;

/// For how long what was sampled is in the figures of the last minute.
const MINUTE_NS: u64 = 60_000_000_000;

impl Ledger {
    /// Takes in what samples have brought by now; `is_now` where polls were sampled since the last picture.
    pub(super) fn take_sampling(&mut self, look: &Look, is_now: bool) {
        self.accounting.sampled_ns = look.sampling.sampled_ns;
        self.accounting.samples = look.sampling.samples;
        if is_now {
            self.sampled_at_ns = Some(look.at_ns);
        }
        if !self.accounting.was_sampled() {
            return;
        }
        self.sessions.iter_mut().for_each(|(_, entry)| entry.variance = Some(0.0));
        for (slot, variance) in &look.sampling.variances {
            if let Some(entry) = self.sessions.of_slot(*slot).filter(|_| *slot != UNTAGGED) {
                *entry.variance.get_or_insert(0.0) += variance;
            }
        }
    }

    /// Whether some of the last minute was sampled.
    pub(super) fn was_sampled_lately(&self, now_ns: u64) -> bool {
        self.sampled_at_ns.is_some_and(|at_ns| now_ns.saturating_sub(at_ns) < MINUTE_NS)
    }

    /// The standard error of what untagged polls have used.
    pub(super) fn error_of_untagged(&self, look: &Look) -> Option<u64> {
        let variances = look.sampling.variances.iter();
        let of_untagged = variances.filter(|(slot, _)| *slot == UNTAGGED);
        let variance: f64 = of_untagged.map(|(_, variance)| variance).sum();
        self.accounting.was_sampled().then(|| variance.sqrt() as u64)
    }
}
