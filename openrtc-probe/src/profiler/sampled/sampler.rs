//! The thread that takes samples: it looks, and hands on what it saw. All else is for others.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use openrtc_common::{
    account::{Clock, state},
    seen::Seen,
    wait::Waits,
};

use super::{super::Now, due::Dues};
use crate::{
    bpf::Onlooker,
    cpython::{Around, Python, Running, VarAt, memory::RemoteAddr},
    host,
};

/// Samples in a row that met nobody running, after which there is nothing to be due until somebody is.
const IDLE_SAMPLES: u32 = 8;
/// A sleep ends after this, so that who is to end, or has another thread to look at, is heard.
const SLEEP_AT_MOST: Duration = Duration::from_millis(50);
/// Samples that wait to be taken; more are counted as lost.
const MAX_WAITING: usize = 1 << 16;

/// A thread that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::profiler) struct Subject {
    /// Its slot in the kernel's map.
    pub(in crate::profiler) slot: u32,
    /// Its `PyThreadState`.
    pub(in crate::profiler) state: RemoteAddr,
    /// Whether it runs an event loop.
    pub(in crate::profiler) is_loop: bool,
    /// Contexts of it that are no polls.
    pub(in crate::profiler) bases: [u64; 2],
}

/// What a thread did when a sample was due.
#[derive(Clone, Debug)]
pub(super) enum Doing {
    /// It runs, in this.
    Runs(Running),
    /// It ran until we took its CPU ourselves; what it was doing then is known.
    HasLeft,
    /// It does not run, and since it was first looked at it has left no CPU: it is in this.
    Still(Running),
    /// It does not run; what it was doing when it left its CPU is known.
    Waits,
}

/// One look at one thread.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// The thread's slot.
    pub(super) slot: u32,
    /// When.
    pub(super) at_ns: u64,
    /// Its clock, and what it was doing when it last left its CPU.
    pub(super) clock: Clock,
    /// As above.
    pub(super) seen: Seen,
    /// What it has waited for, of a loop's thread that has left its CPU since the last sample.
    pub(super) waits: Option<Box<Waits>>,
    /// What it does.
    pub(super) doing: Doing,
}

impl Doing {
    fn own(&self) -> Option<u64> {
        match self {
            Doing::Runs(running) | Doing::Still(running) => running.own,
            Doing::HasLeft | Doing::Waits => None,
        }
    }
}

impl Sample {
    /// Whether the thread ran.
    pub(super) fn met_it_running(&self) -> bool {
        matches!(self.doing, Doing::Runs(_) | Doing::HasLeft)
    }
}

/// What both threads see.
#[derive(Default)]
struct Common {
    subjects: Mutex<(Vec<Subject>, Option<VarAt>)>,
    waiting: Mutex<Vec<Sample>>,
    lost: AtomicU64,
    late: AtomicU64,
    ends: AtomicBool,
}

/// The sampler. Dropping it ends its thread.
pub(super) struct Sampler {
    common: Arc<Common>,
    thread: Option<JoinHandle<Onlooker>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sampler {
    /// Starts it.
    pub(super) fn start(
        onlooker: Onlooker,
        python: Python,
        rate_hz: u32,
        now: fn() -> Now,
    ) -> Result<Sampler> {
        let common = Arc::new(Common::default());
        let looker = Looker {
            common: Arc::clone(&common),
            onlooker,
            python,
            dues: Dues::new(rate_hz, now().monotonic_ns),
            met: HashMap::new(),
            now,
        };
        let thread = thread::Builder::new().name("sampler".into()).spawn(|| looker.run());
        Ok(Sampler { common, thread: Some(thread.context("cannot start the sampler's thread")?) })
    }

    /// From now on these are looked at, and this is the tag's variable.
    pub(super) fn look_at(&self, subjects: Vec<Subject>, var: Option<VarAt>) {
        *held(&self.common.subjects) = (subjects, var);
    }

    /// The samples since the last time.
    pub(super) fn take(&self) -> Vec<Sample> {
        std::mem::take(&mut *held(&self.common.waiting))
    }

    /// How many samples were lost, and how many were late by a period or more, since the last time.
    pub(super) fn take_missed(&self) -> (u64, u64) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        (take(&self.common.lost), take(&self.common.late))
    }

    /// Ends it; its thread gives back what it looked with.
    pub(super) fn end(mut self) -> Option<JoinHandle<Onlooker>> {
        self.common.ends.store(true, Ordering::Relaxed);
        self.thread.take()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.common.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it looked with goes with it.
            drop(thread.join());
        }
    }
}

/// What is remembered of a subject from one sample to the next.
#[derive(Clone, Copy, Default)]
struct Met {
    /// Changes of its clock.
    turns: u32,
    /// Its own context: see [`Around::own`].
    own: Option<u64>,
}

/// The sampler's own thread.
struct Looker {
    common: Arc<Common>,
    onlooker: Onlooker,
    python: Python,
    dues: Dues,
    /// What is remembered of each subject, by its slot.
    met: HashMap<u32, Met>,
    now: fn() -> Now,
}

impl Looker {
    fn run(mut self) -> Onlooker {
        host::own::hurry();
        // What it cannot give up it cannot use either: it reads.
        let _ = host::privilege::keep(host::privilege::Work::Read);
        let mut idle = 0;
        while !self.common.ends.load(Ordering::Relaxed) {
            let due_ns = self.dues.next((self.now)().monotonic_ns);
            let rest_ns = due_ns.saturating_sub((self.now)().monotonic_ns);
            thread::sleep(Duration::from_nanos(rest_ns));
            let is_late = (self.now)().monotonic_ns > due_ns + self.dues.period_ns();
            self.common.late.fetch_add(u64::from(is_late), Ordering::Relaxed);
            idle = if self.sample(due_ns) { 0 } else { idle + 1 };
            if idle >= IDLE_SAMPLES {
                let slots: Vec<u32> =
                    held(&self.common.subjects).0.iter().map(|it| it.slot).collect();
                self.onlooker.sleep(slots.into_iter(), SLEEP_AT_MOST);
            }
        }
        self.onlooker
    }

    /// Looks at all; whether any of them ran.
    fn sample(&mut self, due_ns: u64) -> bool {
        let common = Arc::clone(&self.common);
        let (subjects, var) = &*held(&common.subjects);
        let mut any_ran = false;
        let mut samples = Vec::with_capacity(subjects.len());
        for subject in subjects {
            let Some(look) = self.onlooker.look(subject.slot) else { continue };
            let before = self.met.get(&subject.slot).copied();
            let own = before.and_then(|before| before.own);
            let doing = self.doing(subject, *var, own, &look, due_ns);
            let (clock, seen) = look;
            let has_moved = before.is_none_or(|before| before.turns != clock.turns);
            let own = doing.own().or(own);
            self.met.insert(subject.slot, Met { turns: clock.turns, own });
            any_ran |= has_moved || matches!(doing, Doing::Runs(_) | Doing::HasLeft);
            if !matches!(doing, Doing::Waits) || (has_moved && subject.is_loop) {
                let at_ns = (self.now)().monotonic_ns;
                let waits =
                    (has_moved && subject.is_loop).then(|| self.onlooker.waits(subject.slot));
                let waits = waits.flatten().map(Box::new);
                samples.push(Sample { slot: subject.slot, at_ns, clock, seen, waits, doing });
            }
        }
        let waiting = &mut *held(&common.waiting);
        if waiting.len() + samples.len() > MAX_WAITING {
            common.lost.fetch_add(samples.len() as u64, Ordering::Relaxed);
        } else {
            waiting.append(&mut samples);
        }
        any_ran
    }

    fn doing(
        &self,
        subject: &Subject,
        var: Option<VarAt>,
        own: Option<u64>,
        (clock, seen): &(Clock, Seen),
        due_ns: u64,
    ) -> Doing {
        let around = Around { bases: &subject.bases, own };
        let running = || self.python.running(subject.state, var, &around).ok();
        let is_preempted = clock.state == state::RUNNABLE && clock.since_at_ns == seen.left_at_ns;
        match clock.state {
            state::ON_CPU => running().map_or(Doing::Waits, Doing::Runs),
            state::RUNNABLE if is_preempted && seen.left_at_ns > due_ns => Doing::HasLeft,
            state::EXITED => Doing::Waits,
            _ if subject.is_loop && seen.is_known == 0 => {
                running().map_or(Doing::Waits, Doing::Still)
            }
            _ => Doing::Waits,
        }
    }
}
