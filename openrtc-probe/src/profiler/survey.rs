//! Looking around in the worker's memory: which threads run loops, which sessions live, and how
//! they are called.

use std::collections::HashSet;

use openrtc_common::tag::{TagKey, TagText};

use super::{Now, Profiler, Tag};
use crate::{
    cpython::{VarAt, memory::RemoteAddr},
    model::{Fact, Mode, Names},
};

impl Profiler {
    /// Looks around. To be called now and then; a look costs a walk over all tasks.
    pub fn survey(&mut self, now: Now) {
        self.lookout.stolen.read(now.monotonic_ns);
        self.measure_programs(now);
        self.find_gils();
        self.find_loops();
        if self.tag_found() {
            self.census(now);
        } else {
            self.find_vars(now);
            self.find_sessions(now);
        }
        self.kernel.flush_log();
    }

    /// Finds the threads that run event loops, and tells the programs.
    pub(super) fn find_loops(&mut self) {
        self.kernel.find_threads();
        let Ok(tids) = self.worker.tids() else { return };
        let Ok(threads) = self.python.threads(&tids) else { return };
        self.know_threads(&threads);
        for thread in &threads {
            let Some(running) = &thread.running_loop else { continue };
            self.ledger.take(Fact::LoopSeen(running.package().to_owned()));
            let slot = self.kernel.threads().find(|(_, known)| known.tid == thread.tid);
            if let Some((slot, _)) = slot {
                self.kernel.mark_loop(slot);
            }
        }
        self.follow_threads(&threads);
    }

    /// Finds the sessions that were there before us, idle ones too, and how they are called.
    pub(super) fn find_sessions(&mut self, now: Now) {
        let Some(found) = self.tags_of_tasks() else { return };
        let mut keys = HashSet::with_capacity(found.len());
        for (tag, context) in &found {
            if keys.insert(tag.key()) {
                self.open_slot(tag, *context, now);
            }
        }
        self.ledger.take(Fact::Found(keys.into_iter().collect()));
        self.take_census(&found, now);
        self.tell_others();
    }

    /// Which tags do tasks hold, and how are their sessions called?
    fn census(&mut self, now: Now) {
        let Some(found) = self.tags_of_tasks() else { return };
        let is_due = self.vars.are_due(now, found.len());
        self.take_census(&found, now);
        if is_due {
            let before = self.vars.tag;
            self.find_vars(now);
            if self.vars.tag != before {
                self.find_sessions(now);
            }
        }
        self.tell_others();
    }

    /// Gives a session a slot, if it has none.
    fn open_slot(&mut self, tag: &TagText, context: RemoteAddr, now: Now) {
        if self.kernel.open_session(tag, context.0, now.monotonic_ns).is_none() {
            self.ledger.take(Fact::Lost("sessions_unlisted", 1));
        }
    }

    fn take_census(&mut self, found: &[(TagText, RemoteAddr)], now: Now) {
        let mut live = HashSet::with_capacity(found.len());
        let mut unnamed = Vec::new();
        for (tag, context) in found {
            let key = tag.key();
            if !live.insert(key) {
                continue;
            }
            // Without probes a session is met by samples only, and a quiet one by none for long.
            if self.modes.mode == Mode::Sampled && !self.ledger.knows(&key) {
                self.open_slot(tag, *context, now);
            }
            if self.ledger.wants_names(&key) {
                unnamed.push((key, *context));
            }
        }
        for (key, names) in self.names_in(&unnamed) {
            self.ledger.take(Fact::Named(key, names));
        }
        self.ledger.take(Fact::Live(live, now.monotonic_ns));
    }

    /// The tag of every task that has one, and its context; `None` where it cannot be told now. What a
    /// context held the last time and holds now is read once.
    fn tags_of_tasks(&mut self) -> Option<Vec<(TagText, RemoteAddr)>> {
        if self.target.tag == Tag::TaskName {
            return self.names_of_tasks();
        }
        let contexts = self.contexts_of_tasks()?;
        let held = |tag: &Option<TagText>| tag.as_ref().map(TagText::key);
        let was_read =
            |at, tag: &Option<TagText>| self.seen.get(&at).is_some_and(|seen| *seen == held(tag));
        let tags = self.python.values(&contexts, self.vars.tag?, was_read);
        let read =
            || tags.iter().zip(&contexts).filter_map(|(tag, at)| Some((tag.as_ref().ok()?, at)));
        self.seen = read().map(|(tag, at)| (*at, held(tag))).collect();
        Some(read().filter_map(|(tag, at)| Some(((*tag)?, *at))).collect())
    }

    fn names_of_tasks(&self) -> Option<Vec<(TagText, RemoteAddr)>> {
        let tasks = self.python.tasks().ok()?;
        let names = self.python.names(&tasks).into_iter().zip(&tasks);
        Some(names.filter_map(|(name, task)| Some((name.ok()??, task.context))).collect())
    }

    /// The name of the task whose steps run in `context`.
    pub(super) fn name_of_task_in(&self, context: RemoteAddr) -> Option<TagText> {
        let named = self.names_of_tasks()?;
        named.into_iter().find(|(_, at)| *at == context).map(|(name, _)| name)
    }

    fn contexts_of_tasks(&self) -> Option<Vec<RemoteAddr>> {
        let tasks = self.python.tasks().ok()?;
        Some(tasks.iter().map(|task| task.context).collect())
    }

    /// How many tasks hold a tag in `var`; none where it cannot be told now.
    pub(super) fn count_held(&self, var: VarAt) -> usize {
        let Some(contexts) = self.contexts_of_tasks() else { return 0 };
        let tags = self.python.values(&contexts, var, |_, _| false);
        tags.iter().filter(|tag| matches!(tag, Ok(Some(_)))).count()
    }

    /// Reads the name of the type that a tag is of, if it is not known.
    pub(super) fn name_type(&mut self, tag: &TagText) {
        let Some(ty) = self.ledger.unnamed_type(tag) else { return };
        if let Some(name) = self.python.type_name(RemoteAddr(ty)) {
            self.ledger.take(Fact::TypeNamed(ty, name));
        }
    }

    /// The same for these, and for those where it failed before.
    pub(super) fn name_types(&mut self, met: &[(u32, TagText)]) {
        let are_types = met.iter().map(|(_, tag)| *tag).filter(|tag| tag.type_addr().is_some());
        let mut tags = std::mem::take(&mut self.unnamed);
        tags.extend(are_types);
        for tag in &tags {
            self.name_type(tag);
        }
        tags.retain(|tag| self.ledger.unnamed_type(tag).is_some());
        self.unnamed = tags;
    }

    /// Reads the names of the session in this slot, if they are not known and its first context
    /// still holds its tag.
    pub(super) fn name(&mut self, tag: &TagText, slot: u32) {
        self.name_type(tag);
        let key = tag.key();
        if tag.chars == 0 || !self.ledger.wants_names(&key) {
            return;
        }
        let Some(context) = self.kernel.session(slot).map(|session| session.context) else {
            return;
        };
        let Some(var) = self.vars.tag else { return };
        let context = RemoteAddr(context);
        let held = self.python.value(context, var).ok().flatten();
        if held.is_some_and(|held| held.key() == key) {
            for (key, names) in self.names_in(&[(key, context)]) {
                self.ledger.take(Fact::Named(key, names));
            }
        }
    }

    /// The names of sessions, each read in a context that holds its tag.
    fn names_in(&self, sessions: &[(TagKey, RemoteAddr)]) -> Vec<(TagKey, Names)> {
        let contexts: Vec<RemoteAddr> = sessions.iter().map(|(_, context)| *context).collect();
        let names = self.python.texts(&self.vars.agents, &contexts);
        let names = names.into_iter().zip(self.python.texts(&self.vars.tenants, &contexts));
        let keys = sessions.iter().map(|(key, _)| *key);
        keys.zip(names.map(|(agent, tenant)| Names {
            agent: agent.map(Into::into),
            tenant: tenant.map(Into::into),
        }))
        .collect()
    }
}
