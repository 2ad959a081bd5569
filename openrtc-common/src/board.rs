//! What the daemon tells the programs and what all of them count together: one element of one map, so that
//! a poll touches one page for it.

use bytemuck::{Pod, Zeroable};

use crate::{config::Settings, histogram::FINE_ROOM};

/// That element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Board {
    /// Written by the daemon at any time.
    pub settings: Settings,
    /// Set by the daemon, which wants to be woken when a thread of the worker gets a CPU; cleared by the
    /// program that wakes it.
    pub wants_wake: u64,
    /// Wall time of the longest poll that has ended on a loop thread since the daemon took it, which it does
    /// by an exchange for 0. Of loops that end polls at once any may win.
    pub longest_poll_ns: u64,
    /// All polls that have ended on loop threads, by wall time in the classes of `histogram::FINE`; only grows.
    pub loop_polls: [u64; FINE_ROOM],
}
