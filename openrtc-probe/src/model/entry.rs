//! One session of the ledger.

use std::collections::{HashMap, HashSet};

use openrtc_common::{
    session,
    tag::{TagKey, TagText},
};

use super::{
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
pub(super) type TypeNames = HashMap<u64, String>;

/// The id of a tag as views show it, and what it is made of.
pub(super) fn id_of(tag: &TagText, names: &TypeNames) -> (String, IdType) {
    let Some(ty) = tag.type_addr() else { return (tag.chars().collect(), IdType::Text) };
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

/// One session, over all the slots that its tag has had.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// `None` until a slot with its tag is met: names may come first.
    pub(super) tag: Option<TagText>,
    pub(super) names: Names,
    pub(super) first_at_ns: u64,
    pub(super) last_at_ns: u64,
    pub(super) was_there: bool,
    /// How many slots held its tag at the last look.
    pub(super) slots: u32,
    /// What its counters held at the first look.
    pub(super) origin: Usage,
    /// From slots that were freed while the tag lives on in another.
    pub(super) base: Usage,
    /// Cumulative, as last shown; nothing shown ever goes back.
    pub(super) shown: Usage,
    pub(super) shown_cpu_before_ns: u64,
    pub(super) peak_bytes: Option<u64>,
    pub(super) last_stall_ns: Option<u64>,
    pub(super) is_running: bool,
    pub(super) ended_shown: bool,
}

impl Entry {
    /// Whether the last walk found no task that holds the tag, and it has not run since.
    pub(super) fn has_ended(&self, key: &TagKey, census: Option<&Census>) -> bool {
        census.is_some_and(|census| {
            let ran = self.is_running || self.last_at_ns + ENDED_MARGIN_NS >= census.at_ns;
            !ran && !census.tags.contains(key)
        })
    }

    /// Takes in a slot that holds the session's tag.
    pub(super) fn meet(&mut self, session: &session::Session, is_running: bool) {
        if self.tag.is_none() {
            self.tag = Some(session.tag);
            self.first_at_ns = session.first_at_ns;
        }
        self.last_at_ns = self.last_at_ns.max(session.last_at_ns);
        self.is_running |= is_running;
        self.slots += 1;
    }

    /// The session as views show it.
    pub(super) fn row(
        &self,
        now_ns: u64,
        types: &TypeNames,
        ended: bool,
        home: Home,
        stalls_now: bool,
        rates: Rates,
    ) -> Session {
        let slow = stalls_now
            || self.last_stall_ns.is_some_and(|at_ns| now_ns.saturating_sub(at_ns) <= SLOW_NS);
        let until_ns = if ended { self.last_at_ns } else { now_ns };
        let tag = self.tag.unwrap_or(TagText::EMPTY);
        let (session_id, id_type) = id_of(&tag, types);
        Session {
            session_id,
            pid: home.pid,
            id_is_cut: tag.is_cut(),
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
        }
    }
}
