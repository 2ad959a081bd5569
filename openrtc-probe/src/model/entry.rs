//! One session of the ledger.

use std::collections::{HashMap, HashSet};

use openrtc_common::{
    histogram::Lengths,
    session::Counters,
    tag::{TagKey, TagText},
};
use smol_str::SmolStr;

use super::{
    history::{CpuHistory, SECONDS},
    look::Names,
    snapshot::{IdType, Session, Status, Usage},
    usage::Rates,
};

/// How long a session stays `slow` after a stall, as OpenRTC has it.
const SLOW_NS: u64 = 5_000_000_000;
/// A session that no task holds counts as ended only if it has not run since this long before the
/// walk that missed it: a walk takes time.
const ENDED_MARGIN_NS: u64 = 100_000_000;

/// What the last walk over the worker's tasks found.
#[derive(Debug)]
pub(super) struct Census {
    /// The tags that tasks hold.
    pub(super) tags: HashSet<TagKey>,
    /// When the walk began.
    pub(super) at_ns: u64,
}

/// The names of types whose values serve as tags, by their addresses.
pub type TypeNames = HashMap<u64, String>;

/// The id of a tag as views show it, and what it is made of.
pub fn id_of(tag: &TagText, names: &TypeNames) -> (String, IdType) {
    if let Some(number) = tag.task_number() {
        return (format!("Task-{number}"), IdType::Text);
    }
    let Some(ty) = tag.type_addr() else { return (text(tag), IdType::Text) };
    let name = names.get(&ty);
    (format!("<{}>", name.map_or("?", String::as_str)), IdType::Other(name.cloned()))
}

/// The process that a session lives in, and what a live one has of its memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Home {
    pub(super) pid: u32,
    pub(super) bytes: Option<u64>,
    /// It is alone in the process.
    pub(super) is_own: bool,
}

/// A tag's text. Most are ASCII, which is copied as it stands.
fn text(tag: &TagText) -> String {
    match tag.bytes.get(..tag.stored()) {
        Some(bytes) if tag.unit == 1 && bytes.is_ascii() => String::from_utf8_lossy(bytes).into(),
        _ => tag.chars().collect(),
    }
}

/// How far the end of a session has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// It lives.
    #[default]
    No,
    /// It has ended, and no picture has shown that yet.
    Ended,
    /// One has.
    Shown,
    /// Its slot is given up.
    Forgotten,
}

/// One session, over all the slots that its tag has had.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// `None` until a slot with its tag is met: names may come first. Apart from the rest, which every
    /// picture visits.
    pub(super) tag: Option<Box<TagText>>,
    is_cut: bool,
    pub(super) names: Names,
    pub(super) first_at_ns: u64,
    pub(super) last_at_ns: u64,
    pub(super) was_there: bool,
    /// How many slots held its tag at the last look.
    pub(super) slots: u32,
    /// And at this one, so far.
    slots_now: u32,
    /// What its counters held at the first look.
    pub(super) origin: Usage,
    /// What its counters hold at this look, open spans included; nothing between two looks.
    pub(super) now: Usage,
    /// From slots that were freed while the tag lives on in another.
    pub(super) base: Usage,
    /// Cumulative, as last shown; nothing shown ever goes back.
    pub(super) shown: Usage,
    pub(super) shown_cpu_before_ns: u64,
    /// The same of its polls.
    polls_before: u64,
    /// What was shown of its CPU when its history last grew.
    cpu_at_mark_ns: u64,
    cpu_history: CpuHistory,
    /// Its id, once it is known for good: each picture has it.
    id: Option<SmolStr>,
    pub(super) peak_bytes: Option<u64>,
    pub(super) last_stall_ns: Option<u64>,
    pub(super) is_running: bool,
    pub(super) end: End,
    /// To be added to the histograms of its slots: those of slots that were freed, less what was there at
    /// the first look. Few have any.
    pub(super) lengths: Option<Box<Lengths>>,
    /// How often its names were looked for in vain, or in part.
    pub(super) names_wanted: u32,
    /// The squared standard error of its CPU time, ns², where some of that was sampled.
    pub(super) variance: Option<f64>,
}

/// Seconds by which the histories grow with a picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// How many.
    pub(super) seconds: u64,
    /// Since the last time.
    pub(super) span_ns: u64,
}

/// What all rows of a picture have in common.
pub(super) struct Moment<'a> {
    pub(super) now_ns: u64,
    pub(super) types: &'a TypeNames,
    pub(super) home: Home,
    pub(super) rates: Rates,
}

impl Entry {
    /// Whether the last walk found no task that holds the tag, and it has not run since.
    fn has_ended(&self, key: &TagKey, census: Option<&Census>) -> bool {
        census.is_some_and(|census| {
            let ran = self.is_running || self.last_at_ns + ENDED_MARGIN_NS >= census.at_ns;
            !ran && !census.tags.contains(key)
        })
    }

    /// Whether it ended, was shown so, and did not come back in another slot.
    pub(super) fn is_over(&self) -> bool {
        self.end >= End::Shown && self.slots <= 1
    }

    /// Takes in its tag; whether it was not met before.
    pub(super) fn is_new(&mut self, tag: &TagText) -> bool {
        let is_new = self.tag.is_none();
        if is_new {
            self.tag = Some(Box::new(*tag));
            self.is_cut = tag.is_cut();
        }
        is_new
    }

    /// Takes in a slot that holds the session's tag, what it has used, and whether it runs.
    pub(super) fn meet(&mut self, counters: &Counters, usage: &Usage, is_running: bool) {
        if self.first_at_ns == 0 {
            self.first_at_ns = counters.first_at_ns;
        }
        self.last_at_ns = self.last_at_ns.max(counters.last_at_ns);
        self.is_running |= is_running;
        self.slots_now += 1;
        self.now.add(usage);
    }

    /// Ends a look: brings what is shown up to date; the first time, sets where it starts from.
    pub(super) fn settle(
        &mut self,
        key: &TagKey,
        now_ns: u64,
        census: Option<&Census>,
        is_first: bool,
    ) {
        let mut now = std::mem::take(&mut self.now);
        now.add(&self.base);
        if is_first {
            self.origin = now;
        }
        self.shown_cpu_before_ns = self.shown.cpu_ns();
        self.polls_before = self.shown.polls;
        self.shown.raise(&now.since(&self.origin));
        let has_ended = self.has_ended(key, census);
        self.end = if has_ended { self.end.max(End::Ended) } else { End::No };
        if std::mem::take(&mut self.is_running) {
            self.last_at_ns = self.last_at_ns.max(now_ns);
        }
        self.slots = std::mem::take(&mut self.slots_now);
    }

    /// Whether to look for its names now: while one is missing, ever more rarely, because a session may
    /// have none.
    pub(super) fn wants_names(&mut self) -> bool {
        let is_whole = self.names.agent.is_some() && self.names.tenant.is_some();
        self.names_wanted += u32::from(!is_whole);
        !is_whole && self.names_wanted.is_power_of_two()
    }

    /// Its history grows by seconds in which it used what it has used since the last time.
    pub(super) fn mark(&mut self, mark: Mark) {
        let used_ns = self.shown.cpu_ns() - self.cpu_at_mark_ns;
        self.cpu_at_mark_ns = self.shown.cpu_ns();
        let ratio = if mark.span_ns > 0 { used_ns as f64 / mark.span_ns as f64 } else { 0.0 };
        // Nobody may have come for hours.
        (0..mark.seconds.min(SECONDS as u64)).for_each(|_| self.cpu_history.push(ratio));
    }

    /// Its id as views show it, and what that is made of.
    pub(super) fn id(&mut self, types: &TypeNames) -> (SmolStr, IdType) {
        if let Some(id) = &self.id {
            return (id.clone(), IdType::Text);
        }
        let (id, id_type) = id_of(self.tag.as_deref().unwrap_or(&TagText::EMPTY), types);
        let id: SmolStr = id.into();
        // The name of a type may become known later.
        if id_type == IdType::Text {
            self.id = Some(id.clone());
        }
        (id, id_type)
    }

    /// The session as views show it, but for its stalls of late.
    pub(super) fn row(&mut self, moment: &Moment<'_>, stalls_now: bool) -> Session {
        let Moment { now_ns, types, home, rates } = *moment;
        let slow = stalls_now
            || self.last_stall_ns.is_some_and(|at_ns| now_ns.saturating_sub(at_ns) <= SLOW_NS);
        let ended = self.end > End::No;
        let until_ns = if ended { self.last_at_ns } else { now_ns };
        let (session_id, id_type) = self.id(types);
        Session {
            session_id,
            pid: home.pid,
            id_is_cut: self.is_cut,
            id_type,
            agent_name: self.names.agent.clone(),
            tenant: self.names.tenant.clone(),
            duration_ns: until_ns.saturating_sub(self.first_at_ns),
            duration_is_lower_bound: self.was_there,
            usage: self.shown,
            cpu_ratio: rates.ratio(self.shown.cpu_ns(), self.shown_cpu_before_ns),
            mem_bytes: home.bytes.filter(|_| !ended),
            mem_is_own: home.is_own && !ended,
            peak_bytes: self.peak_bytes,
            status: match (ended, slow) {
                (true, _) => Status::Ended,
                (false, true) => Status::Slow,
                (false, false) => Status::Active,
            },
            polls_per_s: rates.polls_per_s(self.shown.polls, self.polls_before),
            idle_ns: now_ns.saturating_sub(self.last_at_ns),
            stalls_last_minute: 0,
            cpu_history: self.cpu_history,
            cpu_se_ns: self.variance.map(|variance| variance.sqrt() as u64),
        }
    }
}
