//! Why a stall took its time: classes of causes, and the time of each.

use std::ops::Range;

use openrtc_common::{
    account::Split,
    wait::{Key, Wait, Waits, kind},
};

use super::syscalls::{class_of, name_of};

/// A class of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It ran.
    Cpu,
    /// It slept because it asked to: the `nanosleep` family.
    Sleep,
    /// It waited for a lock.
    Lock,
    /// It waited for the interpreter's own lock.
    Gil,
    /// It waited for a file, a socket or a pipe.
    Io,
    /// It waited for a child process.
    Wait,
    /// It waited for a page of memory.
    PageFault,
    /// It could run, and had no CPU.
    RunQueue,
    /// It could run, and its group's quota of CPU time was used up.
    Throttled,
    /// It was stopped by a signal or a tracer, or frozen.
    Stopped,
    /// It slept in a system call of none of these classes.
    Other,
    /// It did not run, and nobody saw why.
    Unknown,
}

impl Class {
    /// Every class, in the order in which views show them.
    pub const ALL: [Class; 12] = [
        Class::Cpu,
        Class::Sleep,
        Class::Lock,
        Class::Gil,
        Class::Io,
        Class::Wait,
        Class::PageFault,
        Class::RunQueue,
        Class::Throttled,
        Class::Stopped,
        Class::Other,
        Class::Unknown,
    ];

    /// Its name in every view.
    pub fn name(self) -> &'static str {
        match self {
            Class::Cpu => "cpu",
            Class::Sleep => "sleep",
            Class::Lock => "lock",
            Class::Gil => "gil",
            Class::Io => "io",
            Class::Wait => "wait",
            Class::PageFault => "page-fault",
            Class::RunQueue => "run-queue",
            Class::Throttled => "throttled",
            Class::Stopped => "stopped",
            Class::Other => "other",
            Class::Unknown => "unknown",
        }
    }
}

/// Where the interpreter keeps its own locks, by address in the worker: what is waited for in there is a
/// GIL.
pub type GilPlaces = [Range<u64>];

/// The time of a stall by class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Causes {
    ns: [u64; Class::ALL.len()],
    /// The longest wait of each class.
    longest: [Option<Wait>; Class::ALL.len()],
}

impl Causes {
    /// Of a poll whose time is `split` and that waited for `waits`. What they say too much, because they
    /// were read a moment later, is left out.
    pub fn of(split: &Split, waits: &Waits, gil: &GilPlaces) -> Causes {
        let mut causes = Causes::default();
        causes.ns[Class::Cpu as usize] = split.on_cpu_ns;
        let mut left_ns = split.wall_ns.saturating_sub(split.on_cpu_ns);
        for wait in waits.table.iter().filter(|wait| wait.key.kind != kind::NONE) {
            let class = class_of_wait(&wait.key, gil) as usize;
            let ns = wait.ns.min(left_ns);
            left_ns -= ns;
            causes.ns[class] += ns;
            if causes.longest[class].is_none_or(|longest| longest.ns < wait.ns) {
                causes.longest[class] = Some(*wait);
            }
        }
        causes.ns[Class::Unknown as usize] = left_ns;
        causes
    }

    /// Says that what nobody saw was a wait for `key`.
    pub fn explain(&mut self, key: &Key, gil: &GilPlaces) {
        let ns = std::mem::take(&mut self.ns[Class::Unknown as usize]);
        let class = class_of_wait(key, gil) as usize;
        self.ns[class] += ns;
        if self.longest[class].is_none_or(|longest| longest.ns < ns) {
            self.longest[class] = Some(Wait { key: *key, ns, count: 1 });
        }
    }

    /// The class that took most; `None` of a stall without any time.
    pub fn first(&self) -> Option<Class> {
        // Of equals the first in their order.
        let of = |class: &Class| (self.ns(*class), std::cmp::Reverse(*class));
        Class::ALL.into_iter().max_by_key(of).filter(|class| self.ns(*class) > 0)
    }

    /// What a class took.
    pub fn ns(&self, class: Class) -> u64 {
        self.ns[class as usize]
    }

    /// Every class that took any time, and how much; they sum to the duration.
    pub fn iter(&self) -> impl Iterator<Item = (Class, u64)> + '_ {
        Class::ALL.into_iter().map(|class| (class, self.ns(class))).filter(|(_, ns)| *ns > 0)
    }

    /// The longest wait of the class that took most.
    pub fn wait(&self) -> Option<&Wait> {
        self.longest(self.first()?)
    }

    /// The longest wait of a class.
    pub fn longest(&self, class: Class) -> Option<&Wait> {
        self.longest[class as usize].as_ref()
    }

    /// The system call of that wait.
    pub fn syscall(&self) -> Option<&'static str> {
        let key = self.wait()?.key;
        if key.kind == kind::SYSCALL { name_of(key.number) } else { None }
    }

    /// The process that had the CPU for the longest part of the run-queue wait, where that took most;
    /// `None` where none had.
    pub fn cpu_holder(&self) -> Option<u32> {
        let key = self.wait()?.key;
        let is_queue = key.kind == kind::RUN_QUEUE && key.detail != 0;
        is_queue.then_some(key.detail as u32)
    }
}

#[cfg(any(test, fuzzing))]
impl Causes {
    /// Of such parts; the longest wait of a class is in the call of this number.
    pub fn of_parts(parts: &[(Class, u64)], syscall: Option<(Class, u32)>) -> Causes {
        let mut causes = Causes::default();
        for (class, ns) in parts {
            causes.ns[*class as usize] = *ns;
        }
        if let Some((class, number)) = syscall {
            let key = Key { kind: kind::SYSCALL, number, detail: 0 };
            causes.longest[class as usize] = Some(Wait { key, ns: causes.ns(class), count: 1 });
        }
        causes
    }
}

/// The class of one wait.
pub fn class_of_wait(key: &Key, gil: &GilPlaces) -> Class {
    match key.kind {
        kind::FAULT => Class::PageFault,
        kind::STOPPED => Class::Stopped,
        kind::RUN_QUEUE => Class::RunQueue,
        kind::THROTTLED => Class::Throttled,
        kind::SYSCALL => match class_of(key.number).0 {
            Class::Lock if gil.iter().any(|place| place.contains(&key.detail)) => Class::Gil,
            class => class,
        },
        _ => Class::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUTEX: u32 = 202;
    const NANOSLEEP: u32 = 230;
    const GIL: &GilPlaces = &[0x1000..0x10d0, 0x2000..0x20d0];

    fn syscall(number: u32, detail: u64) -> Key {
        Key { kind: kind::SYSCALL, number, detail }
    }

    fn waits(of: &[(Key, u64)]) -> Waits {
        let mut waits = Waits::default();
        for (place, (key, ns)) in waits.table.iter_mut().zip(of) {
            *place = Wait { key: *key, ns: *ns, count: 1 };
        }
        waits
    }

    fn split(on_cpu_ns: u64, waited_ns: u64) -> Split {
        Split { wall_ns: on_cpu_ns + waited_ns, on_cpu_ns, off_cpu_ns: waited_ns, run_queue_ns: 0 }
    }

    #[test]
    fn classes_sum_to_the_duration() {
        let waits = waits(&[
            (syscall(NANOSLEEP, 1), 60),
            (syscall(FUTEX, 0x1010), 20),
            (syscall(FUTEX, 0x9010), 7),
            (Key { kind: kind::RUN_QUEUE, number: 0, detail: 42 }, 3),
        ]);
        let causes = Causes::of(&split(5, 100), &waits, GIL);
        let all: Vec<_> = causes.iter().collect();
        assert_eq!(
            all,
            [
                (Class::Cpu, 5),
                (Class::Sleep, 60),
                (Class::Lock, 7),
                (Class::Gil, 20),
                (Class::RunQueue, 3),
                (Class::Unknown, 10)
            ]
        );
        assert_eq!(all.iter().map(|(_, ns)| ns).sum::<u64>(), 105);
        assert_eq!(
            (causes.first(), causes.syscall()),
            (Some(Class::Sleep), Some("clock_nanosleep"))
        );
        assert_eq!(causes.cpu_holder(), None, "it is not what took most");
    }

    #[test]
    fn what_was_read_too_late_adds_nothing() {
        let causes = Causes::of(&split(5, 50), &waits(&[(syscall(NANOSLEEP, 1), 60)]), GIL);
        assert_eq!((causes.ns(Class::Sleep), causes.ns(Class::Unknown)), (50, 0));
    }

    #[test]
    fn what_nobody_saw_can_be_explained() {
        let mut causes = Causes::of(&split(5, 50), &Waits::default(), GIL);
        causes.explain(&syscall(FUTEX, 0x1010), GIL);
        assert_eq!((causes.ns(Class::Gil), causes.ns(Class::Unknown)), (50, 0));
        assert_eq!(causes.syscall(), Some("futex"));
    }

    #[test]
    fn who_had_the_cpu_is_told_where_it_is_why() {
        let queue = |detail| Key { kind: kind::RUN_QUEUE, number: 0, detail };
        let causes = Causes::of(&split(5, 100), &waits(&[(queue(41), 30), (queue(42), 70)]), GIL);
        assert_eq!((causes.first(), causes.cpu_holder()), (Some(Class::RunQueue), Some(42)));
        assert_eq!(causes.syscall(), None);
    }

    #[test]
    fn running_is_a_cause_too_and_nothing_is_none() {
        let causes = Causes::of(&split(90, 10), &Waits::default(), GIL);
        assert_eq!((causes.first(), causes.ns(Class::Unknown)), (Some(Class::Cpu), 10));
        assert_eq!(causes.wait(), None);
        assert_eq!(Causes::default().first(), None);
    }
}
