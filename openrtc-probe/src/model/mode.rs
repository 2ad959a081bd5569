//! How the worker's polls are accounted: by probes at each of them, or by samples.

/// How polls are accounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// By probes at both ends of each.
    #[default]
    Exact,
    /// By looks at the running context from outside: no probe.
    Sampled,
}

impl Mode {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Exact => "exact",
            Mode::Sampled => "sampled",
        }
    }
}

/// Which of them was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Choice {
    /// Always exact.
    Exact,
    /// Never.
    Sampled,
    /// Exact as long as that adds at most this to the worker, of its one core.
    #[default]
    Auto,
}

/// What is asked of the modes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModeWish {
    /// Which.
    pub choice: Choice,
    /// Samples a second.
    pub sample_rate_hz: u32,
    /// What the probes of [`Choice::Auto`] may add to the worker, of one core.
    pub max_overhead_ratio: f64,
}

impl Default for ModeWish {
    fn default() -> ModeWish {
        ModeWish { choice: Choice::Auto, sample_rate_hz: 500, max_overhead_ratio: 0.01 }
    }
}

impl ModeWish {
    /// Whether there may ever be a probe at a poll.
    pub fn may_probe(&self) -> bool {
        match self.choice {
            Choice::Exact => true,
            Choice::Sampled => false,
            Choice::Auto => self.max_overhead_ratio > 0.0,
        }
    }
}

/// Why the mode is what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Reason {
    /// It was asked for.
    #[default]
    Asked,
    /// Probes add this much at so many polls a second, which the budget allows.
    Fits(ProbeLoad),
    /// Probes add this much, or would, at so many polls a second, which is more than the budget.
    TooDear(ProbeLoad),
    /// How many polls there are a second could not be told.
    RateUnknown,
    /// Tags that are names of tasks cannot be sampled.
    ByTaskName,
    /// The probes could not be attached.
    Refused,
}

/// What polls cost with probes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProbeLoad {
    /// Polls a second.
    pub polls_per_s: f64,
    /// What probes add to the worker at that, of one core.
    pub overhead_ratio: f64,
}

/// A change of the mode; the first is the attach.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ModeChange {
    /// Wall-clock time, nanoseconds since the Unix epoch.
    pub at_unix_ns: i128,
    /// What it is from then on.
    pub mode: Mode,
    /// Why.
    pub reason: Reason,
}

/// What samples have brought, since attach.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// How long the mode was [`Mode::Sampled`].
    pub sampled_ns: u64,
    /// Looks at threads that ran.
    pub samples: u64,
    /// Polls that ended on loop threads, counted by the interpreter's own counter of contexts entered and left:
    /// nested runs, and with uvloop the loop's own contexts, are in it.
    pub polls: u64,
    /// The squared standard error of each slot's on-CPU time, ns².
    pub variances: Vec<(u32, f64)>,
}

/// Changes of the mode that are kept.
const MAX_CHANGES: usize = 16;

/// How polls are accounted, as a picture shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Accounting {
    /// How, now; `None` where workers differ.
    pub mode: Option<Mode>,
    /// What was asked for.
    pub wish: ModeWish,
    /// The last changes, the latest last; the first of all is the attach.
    pub changes: Vec<ModeChange>,
    /// How many changes there were, without the attach.
    pub change_count: u64,
    /// How long polls were sampled, since attach.
    pub sampled_ns: u64,
    /// Samples that met a thread of the worker running.
    pub samples: u64,
}

impl Accounting {
    /// Whether anything since attach is of samples.
    pub fn was_sampled(&self) -> bool {
        self.sampled_ns > 0
    }

    /// Takes in a change.
    pub(super) fn change(&mut self, change: ModeChange) {
        self.change_count += u64::from(self.mode.is_some_and(|mode| mode != change.mode));
        self.mode = Some(change.mode);
        if self.changes.len() == MAX_CHANGES {
            self.changes.remove(0);
        }
        self.changes.push(change);
    }
}
