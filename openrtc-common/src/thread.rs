//! Everything kept of one of the worker's threads, in a slot of the `THREADS` map.

use bytemuck::{Pod, Zeroable};

use crate::{account::Clock, poll::Polls, seen::Seen, tag::TagText, wait::Waits};

/// Threads that are followed at once.
pub const MAX_THREADS: u32 = 4_096;

/// What a thread is to the worker. Only the daemon writes it.
pub mod role {
    /// It runs no event loop: executors, pools, or not known yet.
    pub const OTHER: u32 = 0;
    /// It runs an event loop.
    pub const LOOP: u32 = 1;
}

/// How often each site was hit on a thread: proves that entries and exits pair up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SiteHits {
    /// `Context.run` entered.
    pub run_enters: u64,
    /// `Context.run` left.
    pub run_exits: u64,
    /// `PyContext_Enter`.
    pub context_enters: u64,
    /// `PyContext_Exit`.
    pub context_exits: u64,
    /// Exits of contexts that we did not see entered.
    pub unmatched_exits: u64,
}

impl SiteHits {
    /// Contexts entered, by whichever way.
    #[inline(always)]
    pub fn enters(&self) -> u64 {
        self.run_enters + self.context_enters
    }
}

/// Room in which the programs at the sites look up a tag. It is the thread's own, because those of
/// two threads can interrupt each other on one CPU, and the stack is too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Scratch {
    /// The tag.
    pub tag: TagText,
    /// Not 0 from a set or reset of a variable to the next enter ([`crate::memo`]).
    pub has_set: u64,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch { tag: TagText::EMPTY, has_set: 0 }
    }
}

/// Those who had to wait for the last stall of a thread: whoever is first polled before the loop has
/// nothing more to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Backlog {
    /// When the stall began.
    pub stall_at_ns: u64,
    /// When it ended; 0 where there was none, or where the loop has caught up with it.
    pub ended_at_ns: u64,
    /// The slot of the session that stalled.
    pub culprit: u32,
    /// Sessions that were polled since.
    pub count: u32,
}

/// One thread. `clock` and `waits` are written by the scheduler's programs only, `polls`, `backlog`,
/// `hits` and `scratch` by the programs at the sites only, `role` and `call_at` by the
/// daemon only; of `seen` as it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Thread {
    /// The thread's id in the initial pid namespace; 0 in a free slot.
    pub tid: u32,
    /// One of [`role`].
    pub role: u32,
    /// The scheduler's account.
    pub clock: Clock,
    /// The entered contexts.
    pub polls: Polls,
    /// What it waits for inside a poll.
    pub waits: Waits,
    /// Who had to wait for its last stall.
    pub backlog: Backlog,
    /// How often each site was hit.
    pub hits: SiteHits,
    /// Contexts entered, by either way, at which the daemon wants to be called: it counts what probes cost.
    pub call_at: u64,
    /// What ran on it when it last left its CPU.
    pub seen: Seen,
    /// Of no meaning outside the programs.
    pub scratch: Scratch,
}
