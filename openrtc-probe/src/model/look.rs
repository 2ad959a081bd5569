//! What comes in: one look at the counters, and the facts in between.

use std::collections::HashSet;

use openrtc_common::{
    account::{Reading, state},
    histogram::Lengths,
    session::{Counters, Session},
    tag::{TagKey, TagText},
    thread::{Thread, role},
    wait::{Key, Registers, Waits},
};
use smol_str::SmolStr;

use super::{
    cost::Expense,
    mode::{ModeChange, Sampling},
    record::Sample,
};

/// Everything read of the worker at one moment.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// Nanoseconds since the Unix epoch.
    pub at_unix_ns: i128,
    /// CPU time of the process, by the kernel's own account; unknown once the process is gone.
    pub process_cpu_ns: Option<u64>,
    /// Resident set, if it could be read.
    pub rss_bytes: Option<u64>,
    /// Of that, with what is shared in parts: of a process that may run one session alone.
    pub share_bytes: Option<u64>,
    /// Threads alive.
    pub thread_count: u32,
    /// The followed threads.
    pub threads: Vec<ThreadLook>,
    /// The counters of sessions, by slot.
    pub sessions: Vec<SlotLook>,
    /// Slots that are in use by another session than at the look before, with its tag.
    pub met: Vec<(u32, TagText)>,
    /// All polls on loop threads so far, in the classes of `histogram::FINE`.
    pub loop_polls: Vec<u64>,
    /// The histograms of each slot of the session in focus.
    pub focus: Vec<Lengths>,
    /// Losses in the kernel, by cause.
    pub losses: Vec<u64>,
    /// How long the process has lived.
    pub uptime_ns: Option<u64>,
    /// What we use, and what a hit takes.
    pub expense: Expense,
    /// What samples have brought.
    pub sampling: Sampling,
}

impl Look {
    /// What a second's end is told by.
    pub(super) fn sample(&self) -> Sample {
        Sample {
            at_ns: self.at_ns,
            process_cpu_ns: self.process_cpu_ns,
            rss_bytes: self.rss_bytes,
            loop_polls: self.loop_polls.clone(),
        }
    }
}

/// The counters in one slot.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlotLook {
    /// The slot.
    pub slot: u32,
    /// What is in it.
    pub counters: Counters,
}

/// One thread's account.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadLook {
    /// The account.
    pub thread: Thread,
    /// What it is doing now: the scheduler's word, or `/proc`'s where no event was heard yet.
    pub doing: u32,
    /// What it sleeps for by `/proc`'s word, where no event was heard yet: since before we came.
    pub asleep: Option<(Key, Registers)>,
}

impl ThreadLook {
    /// The account of a thread that is doing what the scheduler told last.
    pub fn new(thread: Thread) -> ThreadLook {
        ThreadLook { thread, doing: thread.clock.state, asleep: None }
    }

    /// Whether the scheduler has told nothing of it yet.
    pub fn is_unheard(&self) -> bool {
        state::is_unheard(self.thread.clock.state)
    }

    /// Whether it runs an event loop.
    pub fn is_loop(&self) -> bool {
        self.thread.role == role::LOOP
    }

    /// Its times up to now.
    pub fn reading(&self, now_ns: u64) -> Reading {
        self.thread.clock.read_as(now_ns, self.doing)
    }

    /// What it waits for now, in the poll that began at `poll_at_ns`, and where in user space it is; `None`
    /// of one that runs.
    pub fn waits_for(&self, poll_at_ns: u64) -> Option<(Key, Registers)> {
        let waits = &self.thread.waits;
        let is_its = waits.poll_at_ns == poll_at_ns && self.doing != state::ON_CPU;
        self.asleep.or_else(|| is_its.then_some((waits.open, waits.registers)))
    }

    /// What it has waited for in the poll that began at `poll_at_ns`, up to now.
    pub fn waits(&self, poll_at_ns: u64, now_ns: u64) -> Waits {
        let Thread { waits, clock, .. } = &self.thread;
        waits.of(poll_at_ns, self.doing, clock.since_at_ns, now_ns)
    }

    /// CPU time outside any context: what the kernel charged the thread with, less its polls. Until the
    /// scheduler's programs are attached a poll's sleep counts as running, so that it may be negative;
    /// the difference to a later look is right.
    pub fn outside_ns(&self, now_ns: u64) -> i64 {
        let polls = &self.thread.polls;
        let open = polls.open_span(&self.reading(now_ns));
        let open_ns = open.map_or(0, |open| open.split.on_cpu_ns);
        let charged_ns = self.thread.clock.charged_ns(now_ns, self.doing);
        charged_ns.cast_signed() - (polls.on_cpu_ns + open_ns).cast_signed()
    }
}

/// What the worker's memory says of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The agent variable's value.
    pub agent: Option<SmolStr>,
    /// The tenant variable's value.
    pub tenant: Option<SmolStr>,
}

/// Something that was found out between two looks.
#[derive(Clone, Debug)]
pub enum Fact {
    /// These sessions were there when we attached: they have lived longer than we saw.
    Found(Vec<TagKey>),
    /// A session's agent and tenant.
    Named(TagKey, Names),
    /// The type at this address, of values that are no text, has this name.
    TypeNamed(u64, String),
    /// Tasks hold these tags; the walk that found them began at this time.
    Live(HashSet<TagKey>, u64),
    /// A thread exited: its last account.
    ThreadGone(Box<Thread>),
    /// A forgotten session's slot was freed: its last counters.
    SessionGone(Box<Session>),
    /// A slot of this session was freed: its last histograms. Comes before [`Fact::SessionGone`].
    LengthsGone(TagKey, Box<Lengths>),
    /// What a session's histograms held at the first look: that does not count.
    LengthsBefore(TagKey, Box<Lengths>),
    /// An event loop of this type runs.
    LoopSeen(String),
    /// Polls are accounted in this way from now on.
    Mode(ModeChange),
    /// The tag variable was found.
    TagFound,
    /// So many variables have its name, and so many tasks hold a tag in one that is not followed.
    TagVars {
        /// Variables, the followed one included.
        count: usize,
        /// Tasks.
        elsewhere: usize,
    },
    /// This many events were missed or misread by the daemon itself, by cause.
    Lost(&'static str, u64),
}
