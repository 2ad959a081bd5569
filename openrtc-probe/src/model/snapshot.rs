//! What the model hands to every view: one picture of the worker at one moment.
//!
//! Times are nanoseconds, sizes bytes, ratios of one core (1.0 is one core fully used). `None` is
//! "not known", never zero. All `*_ns` of a [`Usage`] are cumulative since attach and count a poll
//! that still runs up to the moment of the picture.

use smol_str::SmolStr;

use super::{
    anatomy::Anatomy,
    histogram::Histogram,
    history::{CpuHistory, History},
    mode::Accounting,
};

/// The worker and its sessions at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Wall-clock time of the picture, nanoseconds since the Unix epoch.
    pub at_unix_ns: i128,
    /// Since attach.
    pub elapsed_ns: u64,
    /// Since the picture before; what the rates are over.
    pub interval_ns: u64,
    /// Whether it is the last one.
    pub is_final: bool,
    /// The worker as a whole.
    pub worker: Worker,
    /// Polls without a tag.
    pub untagged: Untagged,
    /// Every session, live ones and those that ended since the picture before, by id.
    pub sessions: Vec<Session>,
    /// Stalls, newest first: all that go on, and the last that ended.
    pub stalls: Vec<Stall>,
    /// What we know that we missed.
    pub health: Health,
    /// Where several workers may be followed: each by itself. All else is then of all of them; see
    /// [`merge`](super::merge()).
    pub fleet: Option<Vec<Snapshot>>,
    /// What else is to be said, such as what else to look at.
    pub notes: Vec<String>,
    /// The wall time of a poll from which it is a stall, now.
    pub threshold_ns: u64,
    /// Sessions that ended in the last minute and are not in [`Snapshot::sessions`] any more, the last to
    /// end first; not more than [`MAX_ENDED`].
    pub ended: Vec<Session>,
    /// The last minute.
    pub history: History,
    /// What we cost.
    pub cost: Cost,
    /// The session that is looked at more closely, if one is, and if it is still there.
    pub focus: Option<Focus>,
    /// How polls are accounted.
    pub accounting: Accounting,
}

impl Snapshot {
    /// The process is gone: no session lives in it any more, and no poll goes on.
    pub fn end_sessions(&mut self) {
        for session in &mut self.sessions {
            session.status = Status::Ended;
        }
        for stall in &mut self.stalls {
            stall.ongoing = false;
        }
    }
}

/// Ended sessions that are kept for display.
pub const MAX_ENDED: usize = 500;

/// What we cost, of one core.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Our own process, over the interval.
    pub daemon_cpu_ratio: Option<f64>,
    /// Our own resident set.
    pub daemon_rss_bytes: Option<u64>,
    /// What probes and programs add to the worker, over the interval: an estimate, of the traps and
    /// the programs that ran, by what each was measured to take on this machine.
    pub worker_cpu_ratio: Option<f64>,
}

/// What only a close look at one session shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Focus {
    /// Its process.
    pub pid: u32,
    /// Its id.
    pub session_id: SmolStr,
    /// Wall times of its polls on loop threads, in classes of octaves.
    pub polls: Histogram,
    /// How long polls of it slept in all, of those that did.
    pub off_cpu: Histogram,
}

/// How long the loop does not answer: what a callback that becomes ready at a random moment of the
/// last minute waits at least, because a poll runs then that has so long to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoopDelay {
    /// Half of all moments; not known where polls were sampled.
    pub p50_ns: Option<u64>,
    /// All but one in a hundred; as above.
    pub p99_ns: Option<u64>,
    /// The worst moment: the longest poll.
    pub max_ns: u64,
}

/// The worker as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Worker {
    /// Process id.
    pub pid: u32,
    /// Interpreter version, such as `3.11.2`.
    pub python: String,
    /// The loops seen, such as `asyncio` or `asyncio, uvloop`; empty while none is.
    pub event_loop: String,
    /// CPU time of the process over the interval, of one core.
    pub cpu_ratio: Option<f64>,
    /// CPU time of the process since attach, by the kernel's own account.
    pub cpu_ns: u64,
    /// Stalls since attach, those that go on included.
    pub stalls: u64,
    /// Resident set.
    pub rss_bytes: Option<u64>,
    /// Threads alive.
    pub threads: u32,
    /// Polls that ended on loop threads since attach. Of the time that was sampled with nested runs, and with
    /// uvloop's own contexts.
    pub polls: u64,
    /// The same per second over the interval.
    pub polls_per_s: Option<f64>,
    /// On-CPU of loop threads outside any poll.
    pub loop_overhead_cpu_ns: u64,
    /// On-CPU of other threads outside any context.
    pub other_threads_cpu_ns: u64,
    /// Sessions, those that ended too, + untagged + loop overhead + other threads, over
    /// [`Worker::cpu_ns`].
    pub accounted_ratio: Option<f64>,
    /// Whether the tag variable has been found; until then every poll is untagged.
    pub tag_found: bool,
    /// The share of [`Worker::loop_overhead_cpu_ns`] over the interval, of one core.
    pub loop_overhead_cpu_ratio: Option<f64>,
    /// The share of [`Worker::other_threads_cpu_ns`] over the interval, of one core.
    pub other_threads_cpu_ratio: Option<f64>,
    /// Variables of the tag variable's name; one of them is followed.
    pub tag_vars: usize,
    /// Tasks that hold a tag in one that is not followed: here they have none.
    pub tasks_tagged_elsewhere: usize,
    /// CPU of sessions that are no longer listed. With those that are, it is that of all sessions.
    pub ended_cpu_ns: u64,
    /// How long the process has lived.
    pub uptime_ns: Option<u64>,
    /// Sessions since attach, those that were there included.
    pub sessions_seen: u64,
    /// CPU in polls on loop threads over the interval, of one core; with
    /// [`Worker::loop_overhead_cpu_ratio`] the load of the loops.
    pub poll_cpu_ratio: Option<f64>,
    /// Time that loop threads waited for a CPU over the interval, inside polls and outside, of one core.
    pub loop_run_queue_ratio: Option<f64>,
    /// Over the last minute; of several loops at a moment on any of them, of several workers the worst.
    /// `None` while no poll was seen.
    pub loop_delay: Option<LoopDelay>,
    /// By how much the resident set grows in a minute, negative where it shrinks: a line through the last
    /// minute. `None` until there is half a minute of it.
    pub rss_growth_bytes: Option<i64>,
}

/// What polls used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// On-CPU on loop threads.
    pub loop_cpu_ns: u64,
    /// On-CPU on threads that run no loop (`to_thread`).
    pub offloaded_cpu_ns: u64,
    /// Off-CPU inside polls on loop threads.
    pub off_cpu_ns: u64,
    /// Run-queue wait inside polls on loop threads.
    pub run_queue_ns: u64,
    /// Polls on loop threads.
    pub polls: u64,
    /// The longest of them, one that still runs included.
    pub longest_poll_ns: u64,
    /// Those that passed the threshold, one that still runs included.
    pub stalls: u64,
}

impl Usage {
    /// All CPU time.
    pub fn cpu_ns(&self) -> u64 {
        self.loop_cpu_ns + self.offloaded_cpu_ns
    }
}

/// Polls without a tag.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Untagged {
    /// Cumulative.
    pub usage: Usage,
    /// CPU time over the interval, of one core.
    pub cpu_ratio: Option<f64>,
    /// As [`Session::cpu_se_ns`].
    pub cpu_se_ns: Option<u64>,
}

/// One session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Session {
    /// The tag as the worker holds it: untrusted text. Of a value that is no text, its type in angle
    /// brackets.
    pub session_id: SmolStr,
    /// The process that it runs in: with the tag, what tells it from all others.
    pub pid: u32,
    /// Whether the id was longer than what is kept.
    pub id_is_cut: bool,
    /// What the id is made of.
    pub id_type: IdType,
    /// Untrusted text.
    pub agent_name: Option<SmolStr>,
    /// Untrusted text.
    pub tenant: Option<SmolStr>,
    /// How long it has lived, as far as it was seen.
    pub duration_ns: u64,
    /// Whether it was there before us: it has lived longer than that.
    pub duration_is_lower_bound: bool,
    /// Cumulative.
    pub usage: Usage,
    /// CPU time over the interval, of one core.
    pub cpu_ratio: Option<f64>,
    /// Memory of the worker, shared equally among live sessions, as `openrtc top` defines it: its resident
    /// set, or in a process for one session the part of it that is its own.
    pub mem_bytes: Option<u64>,
    /// Whether that is of this session alone.
    pub mem_is_own: bool,
    /// The highest value of that in the session's life.
    pub peak_bytes: Option<u64>,
    /// What it is doing.
    pub status: Status,
    /// Polls on loop threads over the interval.
    pub polls_per_s: Option<f64>,
    /// How long ago it last ran; 0 while it runs. A lower bound where it has run no poll since we attached.
    pub idle_ns: u64,
    /// Stalls in the last minute.
    pub stalls_last_minute: u64,
    /// CPU in the last minute, second by second.
    pub cpu_history: CpuHistory,
    /// The standard error of its CPU time; `None` where all of that was measured. Where some was sampled, its polls
    /// are those that were counted one by one, its longest poll is known to a sample, and it may have run since it
    /// was last seen to.
    pub cpu_se_ns: Option<u64>,
}

/// What a tag is, and so what is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IdType {
    /// A `str`: the id is its text.
    #[default]
    Text,
    /// A value of another type, which has this name if it could be read; all values of the type are
    /// one session here. Untrusted text.
    Other(Option<String>),
}

/// What a session is doing, in the words of `openrtc top`. `draining` and `errored` cannot be seen
/// from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// Alive.
    #[default]
    Active,
    /// It stalls, or did so in the last five seconds.
    Slow,
    /// No task holds its tag any more.
    Ended,
}

impl Status {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Active => "active",
            Status::Slow => "slow",
            Status::Ended => "ended",
        }
    }
}

/// A poll on a loop thread that passed the threshold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stall {
    /// Counts up from 1 in one run, over all workers.
    pub stall_id: u64,
    /// The process that it is in.
    pub pid: u32,
    /// The culprit, `None` for an untagged poll; as [`Session::session_id`].
    pub session_id: Option<SmolStr>,
    /// Whether its id was longer than what is kept.
    pub id_is_cut: bool,
    /// What its id is made of.
    pub id_type: IdType,
    /// Untrusted text.
    pub agent_name: Option<SmolStr>,
    /// Untrusted text.
    pub tenant: Option<SmolStr>,
    /// Wall-clock time when the poll began, nanoseconds since the Unix epoch.
    pub started_at_unix_ns: i128,
    /// Whether the poll still runs.
    pub ongoing: bool,
    /// Whether it already ran when we attached: its times are lower bounds.
    pub is_lower_bound: bool,
    /// Wall time.
    pub duration_ns: u64,
    /// Of that: running.
    pub on_cpu_ns: u64,
    /// Of that: asleep in the kernel.
    pub off_cpu_ns: u64,
    /// Of that: runnable without a CPU.
    pub run_queue_ns: u64,
    /// Why, on what, at which line, and who had to wait.
    pub anatomy: Anatomy,
    /// In a list: how often it came again within a minute, this one being the worst.
    pub repeats: Repeats,
}

/// The same stall several times: of the same session, for the same cause, at the same line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeats {
    /// How often, the first included; 0 of one that is not (yet) in a list.
    pub count: u32,
    /// How long all took together.
    pub total_ns: u64,
    /// When the first began, nanoseconds since the Unix epoch.
    pub first_unix_ns: i128,
    /// When the last began.
    pub last_unix_ns: i128,
}

/// What we know that we missed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// Count by cause, every cause that is not zero, in a fixed order.
    pub lost: Vec<(&'static str, u64)>,
    /// The same of what was missed, and found out in another way that is less exact.
    pub mended: Vec<(&'static str, u64)>,
}
