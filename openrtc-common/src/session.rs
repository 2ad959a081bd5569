//! One session, in a slot of the `SESSIONS` map.

use bytemuck::{Pod, Zeroable};

use crate::{histogram::Lengths, tag::TagText};

/// The slot of all polls without a tag.
pub const UNTAGGED: u32 = 0;
/// Slots there are, `untagged` included: how many tags can be live at once.
pub const MAX_SESSIONS: u32 = 16_384;

/// What one tag has used since the slot was given to it. Times and counts only grow.
///
/// Apart from the rest: of each session it is read with every picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Counters {
    /// On-CPU inside polls on loop threads.
    pub loop_on_cpu_ns: u64,
    /// Off-CPU inside polls on loop threads.
    pub loop_off_cpu_ns: u64,
    /// Run-queue wait inside polls on loop threads.
    pub loop_run_queue_ns: u64,
    /// On-CPU under the session's context on threads that run no loop.
    pub offloaded_on_cpu_ns: u64,
    /// Polls that ended on loop threads and that this tag held for the most part.
    pub polls: u64,
    /// Wall time of the longest of them.
    pub longest_poll_ns: u64,
    /// Those of them that passed the stall threshold.
    pub stalls: u64,
    /// When the tag was first seen; with the slot, what tells this use of it from all others.
    pub first_at_ns: u64,
    /// When the tag last began to run; it is live at least until then.
    pub last_at_ns: u64,
}

/// One tag in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Session {
    /// What it has used.
    pub counters: Counters,
    /// A context that held the tag when it was first seen.
    pub context: u64,
    /// When the last stall of another session began behind which this one was polled late.
    pub late_behind_at_ns: u64,
    /// The tag; empty for `untagged` and for free slots.
    pub tag: TagText,
}

/// A slot of the `SESSIONS` map: what each picture reads, and what only a closer look does, next to each
/// other, because a poll writes both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Slot {
    /// The counters.
    pub session: Session,
    /// The histograms.
    pub lengths: Lengths,
}
