//! A worker under observation: the process, its interpreter, the programs in the kernel and the
//! ledger, and how facts get from the ones to the other.
//!
//! It has no clock and no loop of its own: whoever drives it says what time it is.

mod attach;
mod candidate;
mod capture;
mod costs;
mod governor;
mod modes;
mod native;
mod pace;
mod pairing;
mod python;
mod sampled;
mod survey;
mod vars;

use std::collections::HashMap;

use anyhow::Result;
use openrtc_common::{
    account::state,
    config::Settings,
    event::kind,
    session::UNTAGGED,
    tag::{TagKey, TagText},
    thread::Thread,
};

pub use attach::{Tag, Target, attach, check_host, config, site_points};
pub use candidate::Candidate;
use capture::Lookout;
use costs::Costs;
use modes::Modes;
use pairing::AtAttach;
pub use pairing::{Pairing, Verdict};
use vars::Vars;

use crate::{
    blocker::Blocker,
    bpf::{Kernel, ProgramCost, Reaper, Told},
    cpython::{Python, memory::RemoteAddr},
    host::own::{own_cpu_ns, own_rss_bytes},
    model::{
        Expense, Fact, Ledger, Look, Mode, Sample, SlotLook, SmolStr, Snapshot, Stall, ThreadLook,
    },
    worker::{Interpreter, Worker},
};

/// Looks at threads and sessions that are tried for one that is not torn.
const LOOK_TRIES: usize = 8;
/// An open span shorter than this may close between two reads without being missed.
const SHORT_SPAN_NS: u64 = 100_000;

/// While a stall goes on whose end only samples tell, it is looked for this often.
const SAMPLED_STALL_NS: u64 = 5_000_000;

/// Now, on all clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub monotonic_ns: u64,
    /// `CLOCK_BOOTTIME`, which goes on while the machine sleeps; nanoseconds.
    pub boottime_ns: u64,
    /// Nanoseconds since the Unix epoch.
    pub unix_ns: i128,
}

/// A worker that we are attached to. Dropping it detaches.
pub struct Profiler {
    worker: Worker,
    python: Python,
    interpreter: Interpreter,
    kernel: Kernel,
    ledger: Ledger,
    reaper: Reaper,
    /// What the programs were told last.
    settings: Settings,
    target: Target,
    vars: Vars,
    lookout: Lookout,
    /// What tasks' contexts held at the last census.
    seen: HashMap<RemoteAddr, Option<TagKey>>,
    at_attach: AtAttach,
    costs: Costs,
    modes: Modes,
    /// Since when each slot was in use at the last look.
    in_use_since: Vec<u64>,
    /// Tags of a type whose name could not be read yet.
    unnamed: Vec<TagText>,
}

impl Profiler {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.target.pid.cast_unsigned()
    }

    /// Whether the worker is still the one that we attached to.
    ///
    /// # Errors
    /// [`Blocker::Exited`] and [`Blocker::Replaced`].
    pub fn whereabouts(&self) -> Result<(), Blocker> {
        let pid = self.target.pid;
        if self.worker.is_replaced() {
            return Err(Blocker::Replaced { pid });
        }
        if self.worker.is_alive() { Ok(()) } else { Err(Blocker::Exited { pid }) }
    }

    /// Whether the worker runs another program now: nothing that we know of its memory holds.
    pub fn is_replaced(&self) -> bool {
        self.worker.is_replaced()
    }

    /// Whether a thread of it has run an event loop.
    pub fn has_loop(&self) -> bool {
        self.ledger.has_loop()
    }

    /// What is probed, for `-v`.
    pub fn interpreter(&self) -> &Interpreter {
        &self.interpreter
    }

    /// What one trap was found to take on this machine, nanoseconds.
    pub fn trap_ns(&self) -> u64 {
        self.settings.trap_ns
    }

    /// Whether the programs may remember what a map of variables was found to hold.
    pub fn remembers(&self) -> bool {
        self.settings.remembers != 0
    }

    /// Whether the tag variable has been found.
    pub fn tag_found(&self) -> bool {
        self.target.tag == Tag::TaskName || self.vars.tag.is_some()
    }

    /// The kernel side, for its file descriptor.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// From now on a poll that lasts so long is a stall. The next [`Self::watch`] should come at once.
    pub fn set_stall_threshold(&mut self, threshold_ns: u64) {
        self.target.stall_threshold_ns = threshold_ns;
        self.settings.stall_threshold_ns = threshold_ns;
        self.kernel.set(&self.settings);
        self.ledger.set_threshold(threshold_ns);
    }

    /// Pictures show more of the session of this id from now on, or of none.
    pub fn focus(&mut self, session_id: Option<SmolStr>) {
        self.ledger.focus(session_id);
    }

    /// What the programs have cost, by the kernel's own statistics.
    pub fn costs(&self) -> Result<Vec<ProgramCost>> {
        self.kernel.costs()
    }

    /// Whether entries and exits of each site pair up.
    pub fn pairing(&self) -> Pairing {
        Pairing::of(self.kernel.threads(), &self.at_attach)
    }

    /// Takes in the events that wait; says whether a stall has ended.
    pub fn drain(&mut self, now: Now) -> bool {
        let mut has_ended = self.take_sampled(now);
        while let Some(told) = self.kernel.next_event() {
            match told {
                Told::StallEnd(end) => {
                    self.end_stall(&end, Mode::Exact, now);
                    has_ended = true;
                }
                Told::Event(event) => match event.kind {
                    kind::SESSION => self.name(&tag_of(&self.kernel, event.slot), event.slot),
                    kind::THREAD => self.find_loops(),
                    // Whoever drains keeps the budget next.
                    kind::CALL => {}
                    _ => self.ledger.take(Fact::Lost("unknown_events", 1)),
                },
            }
        }
        has_ended
    }

    /// Looks for polls that have passed the threshold, and for stalls that are over and whose loops have
    /// caught up; says when to look next.
    pub fn watch(&mut self, now: Now) -> (Vec<Stall>, u64) {
        self.take_sampled(now);
        let threads = self.thread_looks();
        self.note(now, &threads);
        let kernel = &self.kernel;
        let passed =
            self.ledger.stalls.watch(now.monotonic_ns, &threads, |slot| tag_of(kernel, slot));
        self.look_at_stalls(now, &threads);
        self.take_samples(now);
        let mut stalls = self.settle(now, &threads, false);
        for stall_id in passed {
            let Some(known) = self.ledger.stalls.get(stall_id).cloned() else { continue };
            self.name_type(&known.tag);
            stalls.push(self.ledger.blame(&known, now.monotonic_ns));
        }
        let mut next_ns = self.ledger.stalls.next_watch_ns(now.monotonic_ns, &threads);
        if self.modes.samples() && self.ledger.stalls.ongoing().next().is_some() {
            // Nobody tells its end.
            next_ns = next_ns.min(now.monotonic_ns + SAMPLED_STALL_NS);
        }
        (stalls, self.lookout.natives.due_at_ns().map_or(next_ns, |due_ns| due_ns.min(next_ns)))
    }

    /// Takes in the events that wait, and waits for no loop to catch up: what is still to be told of
    /// stalls that have ended.
    pub fn last_stalls(&mut self, now: Now) -> Vec<Stall> {
        self.drain(now);
        let threads = self.thread_looks();
        self.settle(now, &threads, true)
    }

    /// Brings the last minute up to date.
    fn note(&mut self, now: Now, threads: &[ThreadLook]) {
        let at_ns = now.monotonic_ns;
        let sample = self.ledger.is_second_over(at_ns).then(|| Sample {
            at_ns,
            process_cpu_ns: self.worker.cpu_ns().ok(),
            rss_bytes: self.worker.rss_bytes().ok(),
            loop_polls: self.kernel.loop_polls(),
        });
        let longest_ns = self.take_longest_poll();
        self.ledger.note(longest_ns, threads, sample);
    }

    /// The longest poll that has ended on a loop thread since this was last asked.
    fn take_longest_poll(&mut self) -> u64 {
        self.kernel.take_longest_poll().max(self.modes.take_longest_ns())
    }

    /// The picture now.
    pub fn picture(&mut self, now: impl Fn() -> Now, is_final: bool) -> Snapshot {
        self.kernel.find_threads();
        self.reap(now());
        self.take_sampled(now());
        self.share_out(now());
        let mut look = self.look(now);
        let longest_ns = self.take_longest_poll();
        self.ledger.note(longest_ns, &look.threads, None);
        look.met = self.met(&look.sessions);
        let in_focus = self.ledger.focus_slots(&look).into_iter();
        look.focus = in_focus.filter_map(|slot| self.kernel.lengths(slot)).collect();
        self.name_types(&look.met);
        self.ledger.picture(&look, is_final)
    }

    /// The first picture, which all figures are to.
    fn first_picture(&mut self, now: impl Fn() -> Now) {
        self.picture(now, false);
        for (slot, session) in self.kernel.sessions() {
            if slot == UNTAGGED || session.counters.polls == 0 {
                continue;
            }
            let Some(lengths) = self.kernel.lengths(slot) else { continue };
            self.ledger.take(Fact::LengthsBefore(session.tag.key(), Box::new(lengths)));
        }
    }

    /// Which slots are another session's than before, and its tag.
    fn met(&mut self, sessions: &[SlotLook]) -> Vec<(u32, TagText)> {
        let mut met = Vec::new();
        for SlotLook { slot, counters } in sessions {
            let at = *slot as usize;
            if self.in_use_since.len() <= at {
                self.in_use_since.resize(at + 1, 0);
            }
            let Some(since_ns) = self.in_use_since.get_mut(at) else { continue };
            if *slot != UNTAGGED && *since_ns != counters.first_at_ns {
                *since_ns = counters.first_at_ns;
                met.push((*slot, tag_of(&self.kernel, *slot)));
            }
        }
        met
    }

    /// Reads all counters, so that no span that was long open is missed or counted twice.
    fn look(&mut self, now: impl Fn() -> Now) -> Look {
        let mut look = Look::default();
        for _ in 0..LOOK_TRIES {
            let before = self.thread_looks();
            let sessions: Vec<_> = self.kernel.counters().collect();
            let after = self.thread_looks();
            let at = now();
            let torn = is_torn(at.monotonic_ns, &before, &after);
            look = Look {
                at_ns: at.monotonic_ns,
                at_unix_ns: at.unix_ns,
                uptime_ns: Some(self.worker.uptime(at.boottime_ns).as_nanos() as u64),
                threads: after,
                sessions,
                ..look
            };
            if !torn {
                break;
            }
        }
        Look {
            process_cpu_ns: self.worker.cpu_ns().ok(),
            rss_bytes: self.worker.rss_bytes().ok(),
            share_bytes: if self.target.is_job { self.worker.pss_bytes() } else { None },
            thread_count: self.worker.thread_count().unwrap_or(0),
            loop_polls: self.kernel.loop_polls(),
            losses: self.kernel.losses(),
            expense: self.expense(),
            sampling: self.modes.sampling(look.at_ns),
            ..look
        }
    }

    /// What we use ourselves, and what a hit takes.
    fn expense(&self) -> Expense {
        Expense {
            own_cpu_ns: own_cpu_ns(),
            own_rss_bytes: own_rss_bytes(),
            trap_ns: self.settings.trap_ns,
            run_ns: self.costs.run_ns(),
            var_changes: self.kernel.var_changes(),
            has_steps: self.target.tag == Tag::TaskName,
        }
    }

    /// The followed threads. Of one that no event was heard of, `/proc` says what it is doing.
    fn thread_looks(&self) -> Vec<ThreadLook> {
        let mut looks: Vec<ThreadLook> =
            self.kernel.threads().map(|(slot, thread)| self.complete(slot, thread)).collect();
        for look in looks.iter_mut().filter(|look| look.is_unheard()) {
            look.doing = match self.worker.thread_state(look.thread.tid) {
                Some('R') => state::ON_CPU,
                Some(_) => state::OFF_CPU,
                None => state::UNKNOWN,
            };
            if look.is_loop() && look.doing == state::OFF_CPU {
                look.asleep = self.worker.sleeps_for(look.thread.tid);
            }
        }
        looks
    }

    /// The account of the thread of this id.
    fn thread_of(&self, tid: u32) -> Option<Thread> {
        let slot = self.kernel.slot_of_thread(tid)?;
        let thread = self.kernel.thread(slot).filter(|thread| thread.tid == tid)?;
        Some(self.complete(slot, thread).thread)
    }

    fn complete(&self, slot: u32, mut thread: Thread) -> ThreadLook {
        self.modes.complete(slot, &mut thread);
        ThreadLook::new(thread)
    }

    fn reap(&mut self, now: Now) {
        for (slot, mut thread) in Reaper::threads(&mut self.kernel) {
            self.at_attach.forget(slot);
            self.modes.complete(slot, &mut thread);
            self.modes.forget(slot);
            self.ledger.take(Fact::ThreadGone(Box::new(thread)));
        }
        let ended = self.ledger.take_forgettable();
        for key in &ended {
            self.reaper.forget(&mut self.kernel, *key, now.monotonic_ns);
        }
        if !ended.is_empty() {
            // After the tags: whoever looks one up from now on does not find it.
            self.settings.forgotten += 1;
            self.kernel.set(&self.settings);
        }
        for (session, lengths) in self.reaper.sessions(&mut self.kernel, now.monotonic_ns) {
            self.ledger.take(Fact::LengthsGone(session.tag.key(), Box::new(lengths)));
            self.ledger.take(Fact::SessionGone(Box::new(session)));
        }
    }
}

/// The tag of a slot; empty for `untagged`.
fn tag_of(kernel: &Kernel, slot: u32) -> TagText {
    match kernel.session(slot) {
        Some(session) if slot != UNTAGGED => session.tag,
        _ => TagText::EMPTY,
    }
}

/// Whether a span that was open before the sessions were read was closed after: then it is in
/// neither or in both.
fn is_torn(now_ns: u64, before: &[ThreadLook], after: &[ThreadLook]) -> bool {
    before.iter().any(|before| {
        let polls = &before.thread.polls;
        let is_long = polls.depth > 0 && now_ns.saturating_sub(polls.span.at_ns) > SHORT_SPAN_NS;
        is_long
            && after
                .iter()
                .find(|after| after.thread.tid == before.thread.tid)
                .is_none_or(|after| after.thread.polls.turns != polls.turns)
    })
}
