//! Clearing away threads that exited and sessions that ended, so that the maps stay bounded over
//! any run.
//!
//! A session's slot is freed in two steps: its tag is forgotten first, so that no program finds the
//! slot any more, and only a quarantine later, when no thread's frames refer to it, is it cleared.
//! The memory of a worker reuses addresses at once; our slots never do.

use openrtc_common::{
    account::state, histogram::Lengths, session::Session, tag::TagKey, thread::Thread,
};

use super::{attach::Kernel, wire::Wire};

/// How long a forgotten slot waits; far longer than a program can be preempted while it holds one.
const QUARANTINE_NS: u64 = 5_000_000_000;

/// Slots that wait to be freed.
#[derive(Default)]
pub struct Reaper {
    quarantine: Vec<(u64, u32)>,
}

impl Reaper {
    /// Frees the slots of threads that exited; these slots and the last accounts.
    pub fn threads(kernel: &mut Kernel) -> Vec<(u32, Thread)> {
        let exited: Vec<(u32, Thread)> =
            kernel.threads().filter(|(_, thread)| thread.clock.state == state::EXITED).collect();
        for (slot, thread) in &exited {
            // A new thread with the same id has its own slot under that id by now.
            if kernel.thread_slots.get(&thread.tid, 0).is_ok_and(|found| found == *slot) {
                let _ = kernel.thread_slots.remove(&thread.tid);
            }
            kernel.give_back_thread(*slot);
        }
        exited
    }

    /// Forgets the tag of a session that ended: from now on the tag, if it comes again, is a new
    /// session.
    pub fn forget(&mut self, kernel: &mut Kernel, key: TagKey, now_ns: u64) {
        let key = Wire(key);
        let Ok(slot) = kernel.session_slots.get(&key, 0) else { return };
        if kernel.session_slots.remove(&key).is_ok() {
            self.quarantine.push((now_ns, slot));
        }
    }

    /// Frees forgotten slots whose quarantine is over; their last counters and
    /// histograms.
    pub fn sessions(&mut self, kernel: &mut Kernel, now_ns: u64) -> Vec<(Session, Lengths)> {
        let in_use: Vec<u32> = kernel
            .threads()
            .flat_map(|(_, thread)| {
                let depth = thread.polls.depth as usize;
                thread.polls.frames.into_iter().take(depth).map(|frame| frame.slot)
            })
            .collect();
        let mut freed = Vec::new();
        self.quarantine.retain(|&(since_ns, slot)| {
            let over = now_ns.saturating_sub(since_ns) >= QUARANTINE_NS && !in_use.contains(&slot);
            if over && let Some(session) = kernel.session(slot) {
                freed.push((slot, (session, kernel.lengths(slot).unwrap_or_default())));
            }
            !over
        });
        for (slot, _) in &freed {
            kernel.give_back_session(*slot);
        }
        freed.into_iter().map(|(_, last)| last).collect()
    }
}
