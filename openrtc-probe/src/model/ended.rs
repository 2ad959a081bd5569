//! Sessions that ended a short while ago.

use std::collections::VecDeque;

use openrtc_common::tag::TagKey;

use super::snapshot::{MAX_ENDED, Session};

/// How long they are kept.
const KEPT_NS: u64 = 60_000_000_000;

/// One of them.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) key: TagKey,
    /// When its end was shown.
    pub(super) at_ns: u64,
    /// When it last ran.
    pub(super) last_at_ns: u64,
    /// As it was shown then.
    pub(super) row: Session,
}

/// Those that ended in the last minute, the last to end first.
#[derive(Debug, Default)]
pub(super) struct Ended(VecDeque<Gone>);

impl Ended {
    /// Adds those of one picture.
    pub(super) fn add(&mut self, mut gone: Vec<Gone>) {
        gone.sort_by_key(|gone| gone.last_at_ns);
        for mut gone in gone {
            // What they do now is nothing; what they used in all stays.
            (gone.row.cpu_ratio, gone.row.polls_per_s) = (None, None);
            self.0.retain(|known| known.key != gone.key);
            self.0.push_front(gone);
        }
        self.0.truncate(MAX_ENDED);
    }

    /// The rows now, without those that are alive again.
    pub(super) fn rows(
        &mut self,
        now_ns: u64,
        is_alive: impl Fn(&TagKey) -> bool,
        stalls: impl Fn(&TagKey) -> u64,
    ) -> Vec<Session> {
        let is_old = |gone: &Gone| now_ns.saturating_sub(gone.at_ns) > KEPT_NS;
        self.0.retain(|gone| !is_old(gone) && !is_alive(&gone.key));
        let row = |gone: &Gone| Session {
            idle_ns: now_ns.saturating_sub(gone.last_at_ns),
            stalls_last_minute: stalls(&gone.key),
            ..gone.row.clone()
        };
        self.0.iter().map(row).collect()
    }
}
