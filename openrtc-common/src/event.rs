//! Records in the ring buffer. There are few: an event says that something needs a look, the
//! numbers stand in the counters.

use bytemuck::{Pod, Zeroable};

use crate::{account::Split, poll::Ended, wait::Waits};

/// What an [`Event`] says.
pub mod kind {
    /// A tag was seen for the first time: `slot` was given to it, found in the context `context`.
    pub const SESSION: u32 = 1;
    /// A poll that passed the stall threshold has ended.
    pub const STALL_END: u32 = 2;
    /// A thread entered a context for the first time: is it a loop's?
    pub const THREAD: u32 = 3;
    /// A thread has entered as many contexts as the daemon wanted to be called at.
    pub const CALL: u32 = 4;
}

/// A stall that has ended, with what the thread waited for: the record of [`kind::STALL_END`]. All others
/// are an [`Event`] alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct StallEnd {
    /// The stall.
    pub event: Event,
    /// The waits of its thread, which are of its poll or of an earlier one.
    pub waits: Waits,
}

/// One record. Fields that its kind does not use are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Event {
    /// One of [`kind`].
    pub kind: u32,
    /// The thread.
    pub tid: u32,
    /// The session's slot.
    pub slot: u32,
    /// Whether the poll was already running when we attached: its times are lower bounds.
    pub seeded: u32,
    /// The context that the tag was found in.
    pub context: u64,
    /// When the poll began.
    pub started_at_ns: u64,
    /// Where the poll's time went.
    pub split: Split,
}

impl Event {
    /// A poll of this thread that has ended was a stall.
    #[inline(always)]
    pub fn stall_end(tid: u32, ended: &Ended) -> Event {
        Event {
            kind: kind::STALL_END,
            tid,
            slot: ended.slot,
            seeded: u32::from(ended.seeded),
            context: 0,
            started_at_ns: ended.started_at_ns,
            split: ended.split,
        }
    }
}
