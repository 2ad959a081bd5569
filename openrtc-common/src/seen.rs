//! What ran on a loop's thread when it left its CPU: the poll is known, and its tag, without any probe at it,
//! because neither can change until the thread runs again.

use bytemuck::{Pod, Zeroable};

/// What the scheduler's programs have seen of a thread's context. They alone write it, but for `words_at` and
/// `bases`, which are the daemon's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Seen {
    /// Where the thread's `PyThreadState.context` stands, and `context_ver` behind it; 0 where nobody wants to
    /// know, because the programs at the sites account the thread's polls.
    pub words_at: u64,
    /// Contexts that are no poll, but what polls are entered in: the thread's own, and uvloop's.
    pub bases: [u64; 2],
    /// `context_ver` when the thread last left its CPU.
    pub version: u64,
    /// The context that it was in then; 0 outside of any poll.
    pub context: u64,
    /// When the thread was first seen to leave its CPU at that version: what names the poll.
    pub at_ns: u64,
    /// When it last left its CPU.
    pub left_at_ns: u64,
    /// The thread's off-CPU time until then.
    pub off_cpu_ns: u64,
    /// The thread's run-queue wait until then.
    pub run_queue_ns: u64,
    /// The slot of the context's tag.
    pub slot: u32,
    /// Not 0 once anything was seen.
    pub is_known: u32,
}
