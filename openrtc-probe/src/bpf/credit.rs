//! Writing into the counters what the programs at the sites do not: while polls are sampled, and where one
//! way of accounting follows the other.

use std::mem::offset_of;

use openrtc_common::{account::Split, poll::Polls, seen::Seen, session::Counters, thread::Thread};

use super::{attach::Kernel, read::COUNTERS};

/// Where a session's time was spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a thread that runs an event loop.
    Loop,
    /// On another one.
    Offloaded,
}

impl Kernel {
    /// Adds CPU time to the session in this slot, which ran last at `at_ns`.
    pub fn credit_cpu(&self, slot: u32, place: Place, on_cpu_ns: u64, at_ns: u64) {
        let field = match place {
            Place::Loop => offset_of!(Counters, loop_on_cpu_ns),
            Place::Offloaded => offset_of!(Counters, offloaded_on_cpu_ns),
        };
        self.sessions.add(slot, COUNTERS + field, on_cpu_ns);
        self.touch(slot, at_ns);
    }

    /// The session in this slot ran at `at_ns`.
    fn touch(&self, slot: u32, at_ns: u64) {
        // Of several writers any may win: their times are equal in effect.
        let last = COUNTERS + offset_of!(Counters, last_at_ns);
        if self.sessions.read_field::<u64>(slot, last).is_some_and(|last_ns| last_ns < at_ns) {
            self.sessions.write_field(slot, last, at_ns);
        }
    }

    /// Adds what a session waited for on a loop's thread.
    pub fn credit_waits(&self, slot: u32, split: &Split) {
        let add = |field, ns| self.sessions.add(slot, COUNTERS + field, ns);
        add(offset_of!(Counters, loop_off_cpu_ns), split.off_cpu_ns);
        add(offset_of!(Counters, loop_run_queue_ns), split.run_queue_ns);
    }

    /// Counts a stall of the session in this slot.
    pub fn credit_stall(&self, slot: u32) {
        self.sessions.add(slot, COUNTERS + offset_of!(Counters, stalls), 1);
    }

    /// Takes in the wall time of a poll of the session in this slot, maybe the longest.
    pub fn credit_length(&self, slot: u32, wall_ns: u64) {
        let longest = COUNTERS + offset_of!(Counters, longest_poll_ns);
        if self.sessions.read_field::<u64>(slot, longest).is_some_and(|known| known < wall_ns) {
            self.sessions.write_field(slot, longest, wall_ns);
        }
    }

    /// From now on the scheduler's programs tell which poll the thread in this slot is in, and go on from what is
    /// known of that.
    pub fn watch_words(&self, slot: u32, words_at: u64, known: Seen) {
        // Nobody uses the rest as long as this is 0, and it is written last.
        let at = offset_of!(Thread, seen);
        self.threads.write_field(slot, at, Seen { words_at: 0, ..known });
        self.threads.write_field(slot, at + offset_of!(Seen, words_at), words_at);
    }

    /// Sets the contexts of this thread that are no polls.
    pub fn set_bases(&self, slot: u32, bases: [u64; 2]) {
        self.threads.write_field(slot, offset_of!(Thread, seen) + offset_of!(Seen, bases), bases);
    }

    /// They tell no more.
    pub fn unwatch_words(&self, slot: u32) {
        let at = offset_of!(Thread, seen) + offset_of!(Seen, words_at);
        self.threads.write_field(slot, at, 0_u64);
    }

    /// No context is entered on this thread, as far as the programs at the sites know; none of them may be at
    /// work.
    pub fn close_polls(&self, slot: u32, on_cpu_ns: u64) {
        let polls = Polls { on_cpu_ns, ..Polls::default() };
        self.threads.write_field(slot, offset_of!(Thread, polls), polls);
    }
}
