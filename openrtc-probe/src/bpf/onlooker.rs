//! The worker's threads as a thread of our own sees them, many times a second.

use std::{mem::offset_of, os::fd::AsFd as _, sync::Arc, time::Duration};

use aya::maps::{MapData, RingBuf};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use openrtc_common::{
    account::{Clock, state},
    board::Board,
    seen::Seen,
    thread::Thread,
    wait::Waits,
};

use super::{attach::Kernel, shared::Shared};

/// How often a thread is read again when it changes under our eyes.
const READ_TRIES: usize = 8;

/// Reads clocks, and sleeps until a thread of the worker runs.
pub struct Onlooker {
    threads: Arc<Shared<Thread>>,
    board: Arc<Shared<Board>>,
    wakes: RingBuf<MapData>,
}

impl Kernel {
    /// The worker's threads for a thread of our own: there is one.
    pub fn onlooker(&mut self) -> Option<Onlooker> {
        let wakes = self.wakes.take()?;
        Some(Onlooker { threads: Arc::clone(&self.threads), board: Arc::clone(&self.board), wakes })
    }

    /// Gives it back.
    pub fn keep(&mut self, onlooker: Onlooker) {
        self.wakes = Some(onlooker.wakes);
    }
}

impl Onlooker {
    /// The clock of the thread in this slot, and what it was doing when it last left its CPU; `None` where it
    /// does not hold still.
    pub fn look(&self, slot: u32) -> Option<(Clock, Seen)> {
        let clock = || self.threads.read_field::<Clock>(slot, offset_of!(Thread, clock));
        let mut before = clock()?;
        for _ in 0..READ_TRIES {
            let seen = self.threads.read_field(slot, offset_of!(Thread, seen))?;
            let after = clock()?;
            if before.turns == after.turns && before.turns.is_multiple_of(2) {
                return Some((after, seen));
            }
            before = after;
        }
        None
    }

    /// What the thread in this slot has waited for in the poll that it names.
    pub fn waits(&self, slot: u32) -> Option<Waits> {
        self.threads.read_field(slot, offset_of!(Thread, waits))
    }

    /// Sleeps until one of `slots` may run, or for so long.
    pub fn sleep(&mut self, slots: impl Iterator<Item = u32>, at_most: Duration) {
        self.board.write_field(0, offset_of!(Board, wants_wake), 1_u64);
        // Whoever began to run before we asked does not wake us.
        let sleeps = |clock: &Clock| !matches!(clock.state, state::ON_CPU | state::RUNNABLE);
        let all_sleep = slots.into_iter().all(|slot| match self.look(slot) {
            Some((clock, _)) => sleeps(&clock),
            None => false,
        });
        if all_sleep {
            let fd = self.wakes.as_fd();
            let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
            // A signal ends it early, which does no harm.
            let _ = poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout);
        }
        while self.wakes.next().is_some() {}
    }
}
