//! The ledger: where every nanosecond of the worker's CPU time went, since attach.
//!
//! Invariant: sessions + untagged + loop overhead + other threads is the on-CPU time of all
//! followed threads; [`Worker::accounted_ratio`] shows it against the kernel's own account.

mod focus;
mod minute;
mod sampling;

use std::collections::HashMap;

use openrtc_common::{
    loss::Loss,
    session::{self, UNTAGGED},
    tag::{TagKey, TagText},
};

use self::focus::Focused;
use super::{
    cost::{Expense, Hits, cost},
    ended::{Ended, Gone},
    entry::{Census, End, Entry, Home, Moment, TypeNames, id_of},
    look::{Fact, Look, SlotLook, ThreadLook},
    mode::{Accounting, ModeWish},
    recent::Recent,
    record::Recorder,
    roster::Roster,
    snapshot::{Health, IdType, Session, Snapshot, Stall, Untagged, Usage, Worker},
    stalls::{Known, StallIds, Stalls},
    usage::Rates,
};

/// What the daemon misses and makes up for, less exactly: a poll between two samples that are further apart.
const OWN_MENDED: [&str; 1] = ["samples_late"];

/// What stays the same of a worker.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Process id.
    pub pid: u32,
    /// Interpreter version.
    pub python: String,
    /// Where its stalls get their numbers.
    pub stall_ids: StallIds,
    /// How its polls are to be accounted.
    pub accounting: ModeWish,
}

/// Cumulative totals besides the sessions.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    process_cpu_ns: u64,
    loop_threads: usize,
    loop_overhead_ns: i64,
    other_threads_ns: i64,
    /// Run-queue wait of loop threads.
    loop_run_queue_ns: u64,
    hits: Hits,
    untagged: Usage,
}

/// What the next picture's rates are to.
#[derive(Clone, Copy, Debug)]
struct Before {
    at_ns: u64,
    totals: Totals,
    polls: u64,
    poll_cpu_ns: u64,
    expense: Expense,
    sampled_ns: u64,
}

impl Before {
    fn new(look: &Look, totals: Totals, in_contexts: &Usage) -> Before {
        Before {
            at_ns: look.at_ns,
            totals,
            polls: in_contexts.polls + look.sampling.polls,
            poll_cpu_ns: in_contexts.loop_cpu_ns,
            expense: look.expense,
            sampled_ns: look.sampling.sampled_ns,
        }
    }
}

/// What came between two readings of what may begin below zero; never less than nothing.
fn since(now: i64, origin: i64) -> u64 {
    now.saturating_sub(origin).max(0).cast_unsigned()
}

/// The model of one worker.
#[derive(Debug)]
pub struct Ledger {
    about: About,
    threshold_ns: u64,
    /// All stalls.
    pub stalls: Stalls,
    sessions: Roster,
    types: TypeNames,
    /// Sessions that ended and were cleared away.
    gone: Usage,
    /// Threads that exited.
    exited: Totals,
    /// Counters at the moment of the first look; what is shown is since then.
    origin: Option<(u64, Totals)>,
    before: Option<Before>,
    /// The last minute; from the first look on.
    recorder: Option<Recorder>,
    /// Seconds that the sessions' histories have, and when they last grew.
    marked: (u64, u64),
    recent: Recent,
    ended: Ended,
    focus: Option<Focused>,
    /// Sessions that were met.
    seen: u64,
    /// Stalls of untagged polls that the kernel did not count.
    untagged_unheard: u64,
    census: Option<Census>,
    loops: Vec<String>,
    tag_found: bool,
    accounting: Accounting,
    /// When polls were last sampled.
    sampled_at_ns: Option<u64>,
    /// Variables of its name, and tasks that hold a tag in another one.
    tag_vars: (usize, usize),
    lost: Vec<(&'static str, u64)>,
}

impl Ledger {
    /// An empty ledger; a poll of `threshold_ns` or more is a stall.
    pub fn new(about: About, threshold_ns: u64, unix_offset_ns: i128) -> Ledger {
        let ids = about.stall_ids.clone();
        Ledger {
            stalls: Stalls::new(about.pid, ids, threshold_ns, unix_offset_ns),
            accounting: Accounting { wish: about.accounting, ..Accounting::default() },
            about,
            threshold_ns,
            sessions: Roster::default(),
            types: TypeNames::new(),
            gone: Usage::default(),
            exited: Totals::default(),
            origin: None,
            before: None,
            recorder: None,
            marked: (0, 0),
            recent: Recent::default(),
            ended: Ended::default(),
            focus: None,
            seen: 0,
            untagged_unheard: 0,
            census: None,
            loops: Vec::new(),
            tag_found: false,
            sampled_at_ns: None,
            tag_vars: (0, 0),
            lost: Vec::new(),
        }
    }

    /// Takes in what was found out.
    pub fn take(&mut self, fact: Fact) {
        match fact {
            Fact::Found(keys) => {
                for key in keys {
                    self.sessions.entry(key).was_there = true;
                }
            }
            Fact::Named(key, names) => {
                let known = &mut self.sessions.entry(key).names;
                known.agent = names.agent.or(known.agent.take());
                known.tenant = names.tenant.or(known.tenant.take());
            }
            Fact::TypeNamed(ty, name) => {
                self.types.insert(ty, name);
                self.sessions.ids_have_changed();
            }
            Fact::Live(tags, at_ns) => self.census = Some(Census { tags, at_ns }),
            Fact::ThreadGone(thread) => {
                let look = ThreadLook::new(*thread);
                let outside_ns = look.outside_ns(thread.clock.since_at_ns);
                self.exited.hits.add(&thread);
                if look.is_loop() {
                    self.exited.loop_run_queue_ns += thread.clock.run_queue_ns;
                    self.exited.loop_overhead_ns += outside_ns;
                } else {
                    self.exited.other_threads_ns += outside_ns;
                }
            }
            Fact::SessionGone(session) => self.fold(&session),
            Fact::LengthsGone(key, lengths) => {
                if let Some(entry) = self.sessions.get_mut(&key).filter(|it| !it.is_over()) {
                    let known = entry.lengths.get_or_insert_default();
                    **known = focus::plus(known, &lengths);
                }
            }
            Fact::LengthsBefore(key, lengths) => {
                let known = self.sessions.entry(key).lengths.get_or_insert_default();
                **known = focus::minus(known, &lengths);
            }
            Fact::LoopSeen(name) => {
                if !self.loops.contains(&name) {
                    self.loops.push(name);
                    self.loops.sort();
                }
            }
            Fact::Mode(change) => self.accounting.change(change),
            Fact::TagFound => self.tag_found = true,
            Fact::TagVars { count, elsewhere } => self.tag_vars = (count, elsewhere),
            Fact::Lost(cause, count) => match self.lost.iter_mut().find(|(c, _)| *c == cause) {
                Some((_, total)) => *total += count,
                None => self.lost.push((cause, count)),
            },
        }
    }

    /// Marks the culprit as slow, and adds its names to the stall.
    pub fn blame(&mut self, known: &Known, now_ns: u64) -> Stall {
        if let Some(key) = known.key {
            self.sessions.entry(key).last_stall_ns = Some(now_ns);
        }
        self.with_names(known)
    }

    /// Marks the culprit of this stall as slow.
    pub fn mark_slow(&mut self, stall_id: u64, now_ns: u64) {
        if let Some(key) = self.stalls.get(stall_id).and_then(|known| known.key) {
            self.sessions.entry(key).last_stall_ns = Some(now_ns);
        }
    }

    /// Lists a stall that is over, with those that had to wait for it.
    pub fn list(&mut self, mut known: Known, bystanders: &[TagText], now_ns: u64) -> Stall {
        if let Some(late) = &mut known.stall.anatomy.late {
            late.session_ids = bystanders.iter().map(|tag| id_of(tag, &self.types).0).collect();
            late.session_ids.sort_unstable();
        }
        let stall = self.blame(&known, now_ns);
        self.stalls.list(known);
        stall
    }

    /// The id of a tag, as views show it.
    pub fn id_of(&self, tag: &TagText) -> String {
        id_of(tag, &self.types).0
    }

    /// Whether an event loop was seen.
    pub fn has_loop(&self) -> bool {
        !self.loops.is_empty()
    }

    /// Whether this session is known, listed or not.
    pub fn knows(&self, key: &TagKey) -> bool {
        self.sessions.get(key).is_some()
    }

    /// Whether it is worth looking for a session's agent and tenant now.
    pub fn wants_names(&mut self, key: &TagKey) -> bool {
        self.sessions.entry(*key).wants_names()
    }

    /// Sessions that are kept, listed or not.
    #[cfg(test)]
    pub(super) fn known_count(&self) -> usize {
        self.sessions.len()
    }

    /// The type that a tag is of, while its name is not known.
    pub fn unnamed_type(&self, tag: &TagText) -> Option<u64> {
        tag.type_addr().filter(|ty| !self.types.contains_key(ty))
    }

    /// Sessions that ended and have been shown so: they can be forgotten. Each is named once.
    pub fn take_forgettable(&mut self) -> Vec<TagKey> {
        let shown = self.sessions.iter_mut().filter(|(_, entry)| entry.end == End::Shown);
        let forget = |(key, entry): (&TagKey, &mut Entry)| {
            entry.end = End::Forgotten;
            *key
        };
        shown.map(forget).collect()
    }

    /// The picture at the moment of `look`.
    pub fn picture(&mut self, look: &Look, is_final: bool) -> Snapshot {
        let is_first = self.origin.is_none();
        self.recorder.get_or_insert_with(|| Recorder::new(look.sample()));
        let sample = self.is_second_over(look.at_ns).then(|| look.sample());
        self.note(0, &look.threads, sample);
        self.recent.forget_old(look.at_ns);
        let mut totals = self.totals(look);
        totals.untagged = self.meet_all(look);
        let (origin_ns, origin) = *self.origin.get_or_insert((look.at_ns, totals));
        let before = self.before.unwrap_or_else(|| Before::new(look, totals, &Usage::default()));
        let is_sampled = look.sampling.sampled_ns > before.sampled_ns;
        self.take_sampling(look, is_sampled);
        let interval_ns = look.at_ns.saturating_sub(before.at_ns);
        let rates = Rates { interval_ns, are_polls_known: !is_sampled };

        let (live_count, shown) = self.settle_all(look.at_ns, is_first);
        let ended = self.ended_rows(look.at_ns);
        let sessions = self.rows(look, live_count, rates);
        let untagged = Untagged {
            usage: totals.untagged.since(&origin.untagged),
            cpu_ratio: rates.ratio(totals.untagged.cpu_ns(), before.totals.untagged.cpu_ns()),
            cpu_se_ns: self.error_of_untagged(look),
        };
        let mut in_contexts = shown;
        in_contexts.add(&self.gone);
        in_contexts.add(&untagged.usage);
        let mut worker = self.worker(look, &totals, &origin);
        worker.loop_delay = self.loop_delay(look, totals.loop_threads);
        worker.polls = in_contexts.polls + look.sampling.polls;
        self.add_rates(&mut worker, &totals, &before, &in_contexts, rates);
        let listed_ns: u64 = sessions.iter().map(|session| session.usage.cpu_ns()).sum();
        let of_sessions_ns = in_contexts.cpu_ns().saturating_sub(untagged.usage.cpu_ns());
        worker.ended_cpu_ns = of_sessions_ns.saturating_sub(listed_ns);
        account(&mut worker, in_contexts.cpu_ns(), look.process_cpu_ns.is_some());
        self.before = Some(Before::new(look, totals, &in_contexts));
        Snapshot {
            at_unix_ns: look.at_unix_ns,
            elapsed_ns: look.at_ns.saturating_sub(origin_ns),
            interval_ns: rates.interval_ns,
            is_final,
            worker,
            untagged,
            sessions,
            stalls: self.stalls.iter().map(|known| self.with_names(known)).collect(),
            health: self.health(look),
            threshold_ns: self.threshold_ns,
            ended,
            history: self.recorder.as_ref().map(Recorder::history).unwrap_or_default(),
            cost: cost(rates, (&look.expense, totals.hits), (&before.expense, before.totals.hits)),
            focus: self.focus_of(look),
            accounting: self.accounting.clone(),
            ..Snapshot::default()
        }
    }

    /// What all did over the interval.
    fn add_rates(
        &self,
        worker: &mut Worker,
        totals: &Totals,
        before: &Before,
        in_contexts: &Usage,
        rates: Rates,
    ) {
        worker.cpu_ratio = rates.ratio(totals.process_cpu_ns, before.totals.process_cpu_ns);
        worker.polls_per_s = rates.per_s(worker.polls, before.polls);
        worker.poll_cpu_ratio = rates.ratio(in_contexts.loop_cpu_ns, before.poll_cpu_ns);
        // A thread that became a loop's takes its past with it: a leap, and no rate.
        let before = &before.totals;
        let is_split_alike = totals.loop_threads <= before.loop_threads;
        let rate =
            |now: i64, before: i64| rates.ratio(since(now, before), 0).filter(|_| is_split_alike);
        worker.loop_overhead_cpu_ratio = rate(totals.loop_overhead_ns, before.loop_overhead_ns);
        worker.other_threads_cpu_ratio = rate(totals.other_threads_ns, before.other_threads_ns);
        worker.loop_run_queue_ratio = rates
            .ratio(totals.loop_run_queue_ns, before.loop_run_queue_ns)
            .filter(|_| is_split_alike);
        worker.rss_growth_bytes = self.recorder.as_ref().and_then(Recorder::growth);
    }

    /// Takes in the closed and the open spans of every session; what the untagged polls have used.
    fn meet_all(&mut self, look: &Look) -> Usage {
        let open = self.open_spans(look);
        let mut untagged = Usage::default();
        let unheard = Usage { stalls: self.untagged_unheard, ..Usage::default() };
        for (slot, tag) in look.met.iter().filter(|(slot, _)| *slot != UNTAGGED) {
            let key = tag.key();
            self.sessions.bind(*slot, key);
            if self.sessions.entry(key).is_new(tag) {
                self.seen += 1;
                self.sessions.ids_have_changed();
            }
        }
        for SlotLook { slot, counters } in &look.sessions {
            let mut usage = Usage::of(counters);
            let open = if open.is_empty() { None } else { open.get(slot) };
            let is_running = open.inspect(|open| usage.add(open)).is_some();
            if *slot == UNTAGGED {
                untagged = usage;
                untagged.add(&unheard);
            } else if let Some(entry) = self.sessions.of_slot(*slot) {
                entry.meet(counters, &usage, is_running);
            }
        }
        untagged
    }

    /// What polls that still run have used so far, by the slots of those that run and of those that
    /// held them for the most part.
    fn open_spans(&self, look: &Look) -> HashMap<u32, Usage> {
        let mut by_slot = HashMap::<u32, Usage>::new();
        for thread in &look.threads {
            let now = thread.reading(look.at_ns);
            let polls = &thread.thread.polls;
            if let Some(open) = polls.open_span(&now) {
                let usage = by_slot.entry(open.slot).or_default();
                if thread.is_loop() {
                    usage.loop_cpu_ns += open.split.on_cpu_ns;
                    usage.off_cpu_ns += open.split.off_cpu_ns;
                    usage.run_queue_ns += open.split.run_queue_ns;
                } else {
                    usage.offloaded_cpu_ns += open.split.on_cpu_ns;
                }
            }
            if let Some(poll) = polls.open_poll(&now)
                && thread.is_loop()
            {
                let usage = by_slot.entry(poll.slot).or_default();
                usage.longest_poll_ns = usage.longest_poll_ns.max(poll.split.wall_ns);
                let is_told = self.stalls.is_told(thread.thread.tid, poll.started_at_ns);
                usage.stalls += u64::from(is_told || poll.split.wall_ns >= self.threshold_ns);
            }
        }
        by_slot
    }

    fn totals(&self, look: &Look) -> Totals {
        let last_ns = self.before.map_or(0, |before| before.totals.process_cpu_ns);
        let process_cpu_ns = look.process_cpu_ns.unwrap_or(last_ns);
        let mut totals = Totals { process_cpu_ns, ..self.exited };
        for thread in &look.threads {
            let outside_ns = thread.outside_ns(look.at_ns);
            totals.hits.add(&thread.thread);
            if thread.is_loop() {
                totals.loop_threads += 1;
                totals.loop_run_queue_ns += thread.reading(look.at_ns).run_queue_ns;
                totals.loop_overhead_ns += outside_ns;
            } else {
                totals.other_threads_ns += outside_ns;
            }
        }
        totals
    }

    fn worker(&self, look: &Look, totals: &Totals, origin: &Totals) -> Worker {
        Worker {
            pid: self.about.pid,
            python: self.about.python.clone(),
            event_loop: self.loops.join(", "),
            cpu_ns: totals.process_cpu_ns.saturating_sub(origin.process_cpu_ns),
            stalls: self.stalls.count,
            rss_bytes: look.rss_bytes,
            threads: look.thread_count,
            loop_overhead_cpu_ns: since(totals.loop_overhead_ns, origin.loop_overhead_ns),
            other_threads_cpu_ns: since(totals.other_threads_ns, origin.other_threads_ns),
            tag_found: self.tag_found,
            tag_vars: self.tag_vars.0,
            tasks_tagged_elsewhere: self.tag_vars.1,
            uptime_ns: look.uptime_ns,
            sessions_seen: self.seen,
            ..Worker::default()
        }
    }

    /// Ends the look for every session: how many live, and what all have used that is shown.
    ///
    /// There may be thousands, which no cache holds: each is visited as rarely as can be.
    fn settle_all(&mut self, now_ns: u64, is_first: bool) -> (u64, Usage) {
        let (mut live_count, mut shown) = (0, Usage::default());
        let mark = self.next_mark(now_ns);
        let census = self.census.as_ref();
        self.sessions.retain(|key, entry| {
            entry.settle(key, now_ns, census, is_first);
            mark.inspect(|mark| entry.mark(*mark));
            live_count += u64::from(entry.end == End::No);
            shown.add(&entry.shown);
            // One that never got a slot has nothing to show.
            entry.end == End::No || entry.tag.is_some()
        });
        (live_count, shown)
    }

    fn rows(&mut self, look: &Look, live_count: u64, rates: Rates) -> Vec<Session> {
        let ongoing: Vec<TagKey> = self.stalls.ongoing().filter_map(|known| known.key).collect();
        let of_all = look.share_bytes.or(look.rss_bytes);
        let home = Home {
            pid: self.about.pid,
            bytes: of_all.filter(|_| live_count > 0).map(|bytes| bytes / live_count),
            is_own: look.share_bytes.is_some() && live_count == 1,
        };
        let moment = Moment { now_ns: look.at_ns, types: &self.types, home, rates };
        let (mut rows, mut ended) = (Vec::with_capacity(self.sessions.len()), Vec::new());
        self.sessions.visit_by_id(&self.types, |key, entry| {
            if entry.end >= End::Shown {
                return;
            }
            if entry.end == End::No {
                entry.peak_bytes = entry.peak_bytes.max(home.bytes);
            }
            let is_stalling = ongoing.contains(key);
            let mut row = entry.row(&moment, is_stalling);
            row.stalls_last_minute = self.recent.count(key).max(u64::from(is_stalling));
            if entry.end == End::Ended {
                entry.end = End::Shown;
                let (key, last_at_ns) = (*key, entry.last_at_ns);
                ended.push(Gone { key, at_ns: look.at_ns, last_at_ns, row: row.clone() });
            }
            rows.push(row);
        });
        self.ended.add(ended);
        rows
    }

    fn fold(&mut self, session: &session::Session) {
        let key = session.tag.key();
        let usage = Usage::of(&session.counters);
        match self.sessions.get_mut(&key) {
            Some(entry) if entry.is_over() => {
                self.gone.add(&entry.shown);
                self.sessions.remove(&key);
                // Another type may stand at its address when the tag comes again.
                if !self.stalls.iter().any(|known| known.key == Some(key)) {
                    session.tag.type_addr().map(|ty| self.types.remove(&ty));
                }
            }
            Some(entry) => entry.base.add(&usage),
            None => self.gone.add(&usage),
        }
    }

    fn with_names(&self, known: &Known) -> Stall {
        let names = known.key.and_then(|key| self.sessions.get(&key)).map(|entry| &entry.names);
        let (session_id, id_type) = match known.key {
            Some(_) => {
                let (id, id_type) = id_of(&known.tag, &self.types);
                (Some(id.into()), id_type)
            }
            None => (None, IdType::Text),
        };
        Stall {
            session_id,
            id_is_cut: known.tag.is_cut(),
            id_type,
            agent_name: names.and_then(|names| names.agent.clone()),
            tenant: names.and_then(|names| names.tenant.clone()),
            ..known.stall.clone()
        }
    }

    fn health(&self, look: &Look) -> Health {
        let kernel = Loss::NAMES.iter().zip(&look.losses);
        let (mended, lost): (Vec<_>, Vec<_>) = kernel
            .map(|((loss, name), count)| (loss, (*name, *count)))
            .partition(|(loss, _)| Loss::MENDED.contains(loss));
        let (own_mended, own): (Vec<_>, Vec<_>) =
            self.lost.iter().copied().partition(|(cause, _)| OWN_MENDED.contains(cause));
        let stalls = [("stall_ends", self.stalls.lost_ends)];
        let all = lost.into_iter().map(|(_, told)| told).chain(own).chain(stalls);
        let mended = mended.into_iter().map(|(_, told)| told).chain(own_mended);
        Health {
            lost: all.filter(|(_, count)| *count > 0).collect(),
            mended: mended.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

/// How much of the process's CPU has a place.
fn account(worker: &mut Worker, in_contexts_ns: u64, is_known: bool) {
    let placed_ns = in_contexts_ns + worker.loop_overhead_cpu_ns + worker.other_threads_cpu_ns;
    worker.accounted_ratio = (worker.cpu_ns > 0).then(|| placed_ns as f64 / worker.cpu_ns as f64);
    if !is_known {
        // What is known is the least that it was, and there is nothing to check it against.
        (worker.cpu_ns, worker.cpu_ratio) = (worker.cpu_ns.max(placed_ns), None);
        worker.accounted_ratio = None;
    }
}
