//! Where in native code a stalling thread is: at once of one that sleeps, a few milliseconds later of one
//! that runs, because it has to be sampled meanwhile.

use std::path::PathBuf;

use openrtc_common::{account::state, wait};

use super::{Now, Profiler};
use crate::{
    model::Wanted,
    native::{Registers, Sample, Sampler, Stacks, most},
};

/// How long a running thread is sampled, in a stall of fifty milliseconds or more.
const SAMPLE_FOR_NS: u64 = 6_000_000;
/// How often a sleeper that woke up meanwhile is looked at again.
const SLEEPER_TRIES: usize = 4;
/// Samples that are taken out of a ring, which holds fewer.
const MAX_SAMPLES: usize = 16;
/// Threads that are sampled at once; each takes a descriptor and 68 KiB.
const MAX_SAMPLED: usize = 16;

/// The native stacks of a worker's stalling threads.
pub(super) struct Natives {
    stacks: Stacks,
    sampled: Vec<Sampled>,
}

/// A thread that is being sampled for a stall.
struct Sampled {
    wanted: Wanted,
    due_at_ns: u64,
    sampler: Sampler,
}

impl Natives {
    /// Of a worker whose interpreter is this file.
    pub(super) fn new(interpreter: PathBuf) -> Self {
        Self { stacks: Stacks::new(interpreter), sampled: Vec::new() }
    }

    /// When the first samples are due.
    pub(super) fn due_at_ns(&self) -> Option<u64> {
        self.sampled.iter().map(|sampled| sampled.due_at_ns).min()
    }

    /// Takes out what is due.
    fn take_due(&mut self, now_ns: u64) -> Vec<Sampled> {
        let (due, rest) =
            std::mem::take(&mut self.sampled).into_iter().partition(|it| it.due_at_ns <= now_ns);
        self.sampled = rest;
        due
    }
}

fn samples(mut sampler: Sampler) -> Vec<Sample> {
    std::iter::from_fn(|| sampler.take()).take(MAX_SAMPLES).collect()
}

impl Profiler {
    /// Where the thread is, if it sleeps; else it begins to be sampled.
    pub(super) fn native_now(&mut self, wanted: &Wanted, now: Now) -> Option<String> {
        let mut sleeper = wanted.registers.map(|registers| (registers, wanted.turns));
        for _ in 0..SLEEPER_TRIES {
            let Some((wait::Registers { ip, sp, bp }, turns)) = sleeper else {
                self.begin_sampling(wanted, now);
                return None;
            };
            // A frame pointer that is not known is zero.
            let registers = Registers { ip, sp, bp: Some(bp).filter(|bp| *bp != 0) };
            let native = self.lookout.natives.stacks.of_sleeper(&self.worker, registers);
            let thread = self.thread_of(wanted.tid)?;
            if thread.clock.turns == turns {
                return native.innermost();
            }
            // One that woke up has written over what was read; it may sleep again by now.
            let waits = &thread.waits;
            let is_away = matches!(thread.clock.state, state::OFF_CPU | state::RUNNABLE);
            let is_its = is_away && waits.poll_at_ns == wanted.started_at_ns;
            sleeper = is_its.then_some((waits.registers, thread.clock.turns));
        }
        None
    }

    fn begin_sampling(&mut self, wanted: &Wanted, now: Now) {
        if self.lookout.natives.sampled.len() >= MAX_SAMPLED {
            return;
        }
        // Where it may not be sampled, that is one thing less that is known.
        if let Ok(sampler) = Sampler::start(wanted.tid) {
            let due_at_ns = now.monotonic_ns + SAMPLE_FOR_NS;
            self.lookout.natives.sampled.push(Sampled { wanted: *wanted, due_at_ns, sampler });
        }
    }

    /// Takes the samples that are due. Of a stall that ended meanwhile some may be of what came after it.
    pub(super) fn take_samples(&mut self, now: Now) {
        for Sampled { wanted, sampler, .. } in self.lookout.natives.take_due(now.monotonic_ns) {
            let samples = samples(sampler);
            if !self.still_stalls(&wanted) {
                continue;
            }
            let native = most(&self.lookout.natives.stacks.of_samples(&self.worker, &samples));
            let stall = self.ledger.stalls.get_mut(wanted.stall_id);
            if let Some(capture) = stall.and_then(|stall| stall.anatomy.captures.last_mut()) {
                capture.native = native;
            }
        }
    }
}
