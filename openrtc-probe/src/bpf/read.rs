//! Reading the counters, seeding what was there before us, and draining events.

use std::{
    mem::offset_of,
    os::fd::{AsFd, BorrowedFd},
};

use openrtc_common::{
    account::{Clock, Reading, state},
    board::Board,
    event::{Event, StallEnd},
    histogram::{FINE_LEN, Lengths},
    poll::{Frame, Polls},
    session::{Counters, Session, Slot, UNTAGGED},
    tag::TagText,
    thread::{Thread, role},
};

use super::{attach::Kernel, wire::Wire};
use crate::model::SlotLook;

/// What the programs tell.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time is handed on, and looked at at once")]
pub enum Told {
    /// Something needs a look.
    Event(Event),
    /// A stall has ended.
    StallEnd(StallEnd),
}

/// Where in a slot stands what it has used.
pub(super) const COUNTERS: usize = offset_of!(Slot, session) + offset_of!(Session, counters);

/// How often a thread is read again when it changes under our eyes.
const READ_TRIES: usize = 16;
/// Only insert: `BPF_NOEXIST`.
const NO_EXIST: u64 = 1;

impl AsFd for Kernel {
    /// The ring buffer's: readable while events wait.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl Kernel {
    /// The next event, if one waits.
    pub fn next_event(&mut self) -> Option<Told> {
        let item = self.events.next()?;
        // A record of another size cannot come from our programs.
        match bytemuck::try_pod_read_unaligned(&item) {
            Ok(event) => Some(Told::Event(event)),
            Err(_) => bytemuck::try_pod_read_unaligned(&item).ok().map(Told::StallEnd),
        }
    }

    /// Looks through all slots for threads that the programs have met since. It takes long, for each slot lies on
    /// memory of its own.
    pub fn find_threads(&mut self) {
        let tid = |slot| self.threads.read_field::<u32>(slot, offset_of!(Thread, tid));
        let in_use = (0..self.threads.len()).filter(|slot| tid(*slot).is_some_and(|tid| tid != 0));
        self.known_threads = in_use.collect();
    }

    /// Every thread that was found, with its slot, each copied between two changes of its own.
    pub fn threads(&self) -> impl Iterator<Item = (u32, Thread)> + '_ {
        self.known_threads.iter().filter_map(|slot| Some((*slot, self.thread(*slot)?)))
    }

    /// The slot of the thread of this id.
    pub fn slot_of_thread(&self, tid: u32) -> Option<u32> {
        self.thread_slots.get(&tid, 0).ok()
    }

    /// The thread in this slot.
    pub fn thread(&self, slot: u32) -> Option<Thread> {
        let mut copy = self.threads.read(slot)?;
        for _ in 0..READ_TRIES {
            let again = self.threads.read(slot)?;
            let settled = copy.clock.turns == again.clock.turns && copy.clock.turns % 2 == 0;
            if settled && copy.polls.turns == again.polls.turns && copy.polls.turns % 2 == 0 {
                break;
            }
            copy = again;
        }
        Some(copy)
    }

    /// Every session with its slot, `untagged` first.
    pub fn sessions(&self) -> impl Iterator<Item = (u32, Session)> + '_ {
        self.counters().filter_map(|look| Some((look.slot, self.session(look.slot)?)))
    }

    /// The counters of every session with their slots, `untagged` first.
    pub fn counters(&self) -> impl Iterator<Item = SlotLook> + '_ {
        (UNTAGGED..self.sessions.len()).filter_map(|slot| {
            let counters: Counters = self.sessions.read_field(slot, COUNTERS)?;
            (slot == UNTAGGED || counters.first_at_ns != 0).then_some(SlotLook { slot, counters })
        })
    }

    /// The session in this slot.
    pub fn session(&self, slot: u32) -> Option<Session> {
        self.sessions.read_field(slot, offset_of!(Slot, session))
    }

    /// The histograms of the session in this slot.
    pub fn lengths(&self, slot: u32) -> Option<Lengths> {
        self.sessions.read_field(slot, offset_of!(Slot, lengths))
    }

    /// All polls that have ended on loop threads, by wall time in the classes of `histogram::FINE`.
    pub fn loop_polls(&self) -> Vec<u64> {
        let all = self.board.read(0).map(|board| board.loop_polls);
        all.iter().flatten().take(FINE_LEN).copied().collect()
    }

    /// The longest poll that has ended on a loop thread since this was last asked.
    pub fn take_longest_poll(&self) -> u64 {
        self.board.take(0, offset_of!(Board, longest_poll_ns))
    }

    /// How often a variable was set or reset, and what maps were found to hold had to be forgotten.
    pub fn var_changes(&self) -> u64 {
        self.var_changes.read(0).unwrap_or(0)
    }

    /// Losses by cause.
    pub fn losses(&self) -> Vec<u64> {
        (0..self.losses.len()).filter_map(|cause| self.losses.read(cause)).collect()
    }

    /// Wants to be called when the thread in this slot has entered so many contexts.
    pub fn call_at(&self, slot: u32, enters: u64) {
        self.threads.write_field(slot, offset_of!(Thread, call_at), enters);
    }

    /// Says that the thread in this slot runs an event loop.
    pub fn mark_loop(&self, slot: u32) {
        self.threads.write_field(slot, offset_of!(Thread, role), role::LOOP);
    }

    /// The slot of a tag that is known.
    pub fn slot_of(&self, tag: &TagText) -> Option<u32> {
        self.session_slots.get(&Wire(tag.key()), 0).ok()
    }

    /// The slot of a tag found in the worker's memory, a new one if the programs have not met it.
    /// `None` while all slots are in use.
    pub fn open_session(&mut self, tag: &TagText, context: u64, now_ns: u64) -> Option<u32> {
        let key = Wire(tag.key());
        // Most are new: to try it first saves a call for each.
        let Ok(slot) = self.free_sessions.pop(0) else {
            return self.session_slots.get(&key, 0).ok();
        };
        let empty: Session = bytemuck::Zeroable::zeroed();
        let counters = Counters { first_at_ns: now_ns, last_at_ns: now_ns, ..Counters::default() };
        let session = Session { counters, tag: *tag, context, ..empty };
        self.sessions.write_field(slot, offset_of!(Slot, session), session);
        if self.session_slots.insert(key, slot, NO_EXIST).is_err() {
            self.give_back_session(slot);
            return self.session_slots.get(&key, 0).ok();
        }
        Some(slot)
    }

    /// Gives a thread that was there before us its account: `charged_ns` is the CPU time it has used
    /// so far, `frames` are the contexts it is in.
    /// Says `false`, and changes nothing, where the programs have met it already.
    pub fn seed_thread(
        &mut self,
        tid: u32,
        now_ns: u64,
        charged_ns: u64,
        frames: &[Frame],
    ) -> bool {
        let Ok(slot) = self.free_threads.pop(0) else { return false };
        let now = Reading { at_ns: now_ns, ..Reading::default() };
        let clock = Clock::starting(now_ns, state::UNKNOWN, charged_ns);
        let polls = Polls::seed(&now, frames);
        self.threads.write(slot, Thread { tid, clock, polls, ..Thread::default() });
        let inserted = self.thread_slots.insert(tid, slot, NO_EXIST).is_ok();
        if !inserted {
            self.give_back_thread(slot);
        } else if let Err(at) = self.known_threads.binary_search(&slot) {
            self.known_threads.insert(at, slot);
        }
        inserted
    }

    /// Takes back a seed that turned out to be stale. Only for threads whose account the programs
    /// have not used: they start another one when they next meet the thread.
    pub fn unseed_thread(&mut self, tid: u32) {
        let Ok(slot) = self.thread_slots.get(&tid, 0) else { return };
        let met = self.thread(slot).is_none_or(|thread| thread.hits.enters() > 0);
        if !met && self.thread_slots.remove(&tid).is_ok() {
            self.give_back_thread(slot);
        }
    }

    /// Clears a slot that no program uses any more, and frees it.
    pub(super) fn give_back_thread(&mut self, slot: u32) {
        self.known_threads.retain(|known| *known != slot);
        self.threads.write(slot, Thread::default());
        // It cannot be full: the slot came from it.
        let _ = self.free_threads.push(slot, 0);
    }

    /// The same for a session's slot.
    pub(super) fn give_back_session(&mut self, slot: u32) {
        self.sessions.write(slot, bytemuck::Zeroable::zeroed());
        let _ = self.free_sessions.push(slot, 0);
    }
}
