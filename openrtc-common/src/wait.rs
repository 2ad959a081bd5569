//! What a loop's thread waits for inside a poll: the facts behind the cause of a stall.
//!
//! When the thread leaves its CPU in a poll, it is noted why; when that ends, the time goes to what it
//! was. A [`Waits`] is of one poll: the first wait of another one begins anew. Only the scheduler's
//! programs write it.
//!
//! Invariant: the times in the table and in `other_ns` are disjoint stretches in which the thread did
//! not run, so that they sum to at most the poll's off-CPU time and run-queue wait; what is missing was
//! not seen.

use bytemuck::{Pod, Zeroable};

use crate::account::state;

/// Different waits of one poll that are told apart; a power of two.
pub const MAX_WAITS: usize = 8;

/// Kinds of waits.
pub mod kind {
    /// None: a free place, or nothing that is open.
    pub const NONE: u32 = 0;
    /// Asleep in the system call `number`, whose first argument is `detail`.
    pub const SYSCALL: u32 = 1;
    /// Asleep, and not in a system call: a page that had to be brought in, or a lock on the way to it.
    pub const FAULT: u32 = 2;
    /// Stopped by a signal or a tracer, or frozen with its group.
    pub const STOPPED: u32 = 3;
    /// Runnable without a CPU, which the process `detail` had until then (0: no process).
    pub const RUN_QUEUE: u32 = 4;
    /// Runnable, and its group has used up its quota of CPU time.
    pub const THROTTLED: u32 = 5;
}

/// What a thread waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Key {
    /// One of [`kind`].
    pub kind: u32,
    /// The system call's number on x86-64.
    pub number: u32,
    /// As its kind says.
    pub detail: u64,
}

/// Time that one kind of wait took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Wait {
    /// For what.
    pub key: Key,
    /// For how long, in all.
    pub ns: u64,
    /// How often.
    pub count: u64,
}

/// Registers of the thread in user space, as it left the CPU: where a look at its stack begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Registers {
    /// `rip`.
    pub ip: u64,
    /// `rsp`.
    pub sp: u64,
    /// `rbp`.
    pub bp: u64,
}

/// All waits of one poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Waits {
    /// When that poll began: what names it on its thread.
    pub poll_at_ns: u64,
    /// What the thread waits for now.
    pub open: Key,
    /// Where in user space it left the CPU last.
    pub registers: Registers,
    /// Waits that are over.
    pub table: [Wait; MAX_WAITS],
    /// Such that found no place in the table, or lost it to a longer one.
    pub other_ns: u64,
    /// When the thread last went to sleep outside of any poll: all that was ready had run.
    pub idle_at_ns: u64,
}

impl Waits {
    /// The thread leaves its CPU for `key`, in the poll that began at `poll_at_ns`.
    #[inline(always)]
    pub fn begin(&mut self, poll_at_ns: u64, key: Key, registers: Registers) {
        if self.poll_at_ns != poll_at_ns {
            self.poll_at_ns = poll_at_ns;
            self.table = [Wait::default(); MAX_WAITS];
            self.other_ns = 0;
        }
        self.open = key;
        self.registers = registers;
    }

    /// The thread leaves its CPU outside of any poll.
    #[inline(always)]
    pub fn begin_outside(&mut self) {
        self.open = Key::default();
    }

    /// It was woken after `slept_ns` asleep; from now on it waits as `next` says.
    #[inline(always)]
    pub fn wake(&mut self, slept_ns: u64, next: u32) {
        if self.open.kind == kind::NONE {
            return;
        }
        self.charge(self.open, slept_ns);
        self.open = Key { kind: next, ..Key::default() };
    }

    /// It gets its CPU after `waited_ns` more of what was open; the process `before` had it until now.
    #[inline(always)]
    pub fn end(&mut self, waited_ns: u64, before: u32) {
        let mut key = self.open;
        if key.kind == kind::NONE {
            return;
        }
        if key.kind == kind::RUN_QUEUE {
            key.detail = u64::from(before);
        }
        self.charge(key, waited_ns);
        self.open = Key::default();
    }

    /// The waits of the poll that began at `poll_at_ns`, what is open since `since_ns` included; none
    /// where it has not left its CPU.
    #[must_use]
    pub fn of(&self, poll_at_ns: u64, doing: u32, since_ns: u64, now_ns: u64) -> Waits {
        if self.poll_at_ns != poll_at_ns {
            return Waits::default();
        }
        let mut waits = *self;
        if matches!(doing, state::OFF_CPU | state::RUNNABLE) && self.open.kind != kind::NONE {
            waits.charge(self.open, now_ns.saturating_sub(since_ns));
        }
        waits
    }

    /// Adds to the place of `key`, or to a free one.
    #[inline(always)]
    fn charge(&mut self, key: Key, ns: u64) {
        for (place, wait) in self.table.iter_mut().enumerate() {
            // On a busy machine there may be many that had the CPU: they are not to fill the table.
            let is_one_of_many = place >= MAX_WAITS / 2
                && key.kind == kind::RUN_QUEUE
                && wait.key.kind == kind::RUN_QUEUE;
            if is_one_of_many || wait.key == key || wait.key.kind == kind::NONE {
                wait.key = key;
                wait.ns += ns;
                wait.count += 1;
                return;
            }
        }
        self.displace(key, ns);
    }

    /// Of more waits than there are places the longest are kept.
    #[inline(always)]
    fn displace(&mut self, key: Key, ns: u64) {
        let (mut least, mut least_ns) = (0, u64::MAX);
        for (place, wait) in self.table.iter().enumerate() {
            if wait.ns < least_ns {
                (least, least_ns) = (place, wait.ns);
            }
        }
        if let Some(wait) = self.table.get_mut(least & (MAX_WAITS - 1))
            && least_ns < ns
        {
            self.other_ns += least_ns;
            *wait = Wait { key, ns, count: 1 };
        } else {
            self.other_ns += ns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syscall(number: u32, detail: u64) -> Key {
        Key { kind: kind::SYSCALL, number, detail }
    }

    fn ns_of(waits: &Waits, wanted: u32) -> u64 {
        waits.table.iter().filter(|wait| wait.key.kind == wanted).map(|wait| wait.ns).sum()
    }

    #[test]
    fn a_sleep_and_what_follows_it_are_told_apart() {
        let mut waits = Waits::default();
        waits.begin(7, syscall(230, 1), Registers { ip: 1, sp: 2, bp: 3 });
        waits.wake(1_000, kind::RUN_QUEUE);
        waits.end(50, 42);
        assert_eq!(waits.table[0], Wait { key: syscall(230, 1), ns: 1_000, count: 1 });
        let queue = Key { kind: kind::RUN_QUEUE, number: 0, detail: 42 };
        assert_eq!(waits.table[1], Wait { key: queue, ns: 50, count: 1 });
        assert_eq!(waits.open, Key::default());
    }

    #[test]
    fn a_wakeup_that_was_not_seen_leaves_it_all_to_the_sleep() {
        let mut waits = Waits::default();
        waits.begin(7, syscall(0, 5), Registers::default());
        waits.end(1_050, 42);
        assert_eq!(ns_of(&waits, kind::SYSCALL), 1_050);
        assert_eq!(waits.table[0].key, syscall(0, 5), "who had the CPU is no part of it");
    }

    #[test]
    fn the_same_wait_again_is_summed() {
        let mut waits = Waits::default();
        for _ in 0..3 {
            waits.begin(7, syscall(202, 0xff0), Registers::default());
            waits.end(10, 0);
        }
        assert_eq!(waits.table[0], Wait { key: syscall(202, 0xff0), ns: 30, count: 3 });
        assert_eq!(waits.table[1], Wait::default());
    }

    #[test]
    fn what_finds_no_place_is_counted_all_the_same() {
        let mut waits = Waits::default();
        for at in 0..MAX_WAITS as u64 + 2 {
            waits.begin(7, syscall(202, at), Registers::default());
            waits.end(10, 0);
        }
        assert_eq!(waits.other_ns, 20);
        assert_eq!(ns_of(&waits, kind::SYSCALL), 10 * MAX_WAITS as u64);
    }

    #[test]
    fn a_long_wait_displaces_the_shortest() {
        let mut waits = Waits::default();
        for at in 0..MAX_WAITS as u64 {
            waits.begin(7, syscall(202, at), Registers::default());
            waits.end(10 + at, 0);
        }
        waits.begin(7, Key { kind: kind::STOPPED, ..Key::default() }, Registers::default());
        waits.end(600, 0);
        assert_eq!((ns_of(&waits, kind::STOPPED), waits.other_ns), (600, 10));
        assert!(waits.table.iter().all(|wait| wait.key != syscall(202, 0)), "the shortest is gone");
    }

    #[test]
    fn however_many_had_the_cpu_there_is_room_for_the_rest() {
        let mut waits = Waits::default();
        for before in 0..100 {
            waits.begin(7, Key { kind: kind::RUN_QUEUE, ..Key::default() }, Registers::default());
            waits.end(10, before);
        }
        waits.begin(7, syscall(202, 0), Registers::default());
        waits.end(10, 0);
        assert_eq!((ns_of(&waits, kind::RUN_QUEUE), ns_of(&waits, kind::SYSCALL)), (1_000, 10));
    }

    #[test]
    fn another_poll_begins_anew_and_what_lies_outside_is_of_none() {
        let mut waits = Waits::default();
        waits.begin(7, syscall(202, 1), Registers::default());
        waits.end(10, 0);
        waits.begin_outside();
        waits.wake(99, kind::RUN_QUEUE);
        waits.end(99, 0);
        assert_eq!(ns_of(&waits, kind::SYSCALL), 10);
        waits.begin(8, syscall(0, 1), Registers::default());
        waits.end(3, 0);
        assert_eq!((waits.poll_at_ns, ns_of(&waits, kind::SYSCALL)), (8, 3));
    }

    #[test]
    fn an_open_wait_counts_up_to_now_and_only_for_its_poll() {
        let mut waits = Waits::default();
        waits.begin(7, syscall(230, 0), Registers::default());
        let of = |poll, doing| ns_of(&waits.of(poll, doing, 1_000, 1_600), kind::SYSCALL);
        assert_eq!(of(7, state::OFF_CPU), 600);
        assert_eq!(of(7, state::ON_CPU), 0, "it runs again, and that was not noted yet");
        assert_eq!(of(9, state::OFF_CPU), 0);
    }
}
