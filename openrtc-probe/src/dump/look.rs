//! Looks at a worker's tasks. Memory is read, nothing is attached.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

use openrtc_common::{
    loss::Loss,
    tag::{TagKey, TagText},
};

use super::{Dump, Session, State, Task, doing::Teller};
use crate::{
    blocker::Blocker,
    cpython::{
        CodeCache, LoopType, PyThread, Python, TaskAt, TaskSeen, VarAt, WalkError,
        memory::RemoteAddr,
    },
    profiler::{Now, Tag},
    worker::Worker,
};

/// What to look at, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The worker's process id.
    pub pid: i32,
    /// What says which session a task is of.
    pub tag: Tag,
    /// Names of the context variables: session, agent, tenant.
    pub vars: [String; 3],
    /// The only session to look at.
    pub session: Option<String>,
}

/// Looks at the worker.
///
/// # Errors
/// A [`Blocker`] that says why it cannot be looked at, or that there is no such session.
pub fn look(wanted: &Wanted, now: impl Fn() -> Now) -> Result<Dump, Blocker> {
    let pid = wanted.pid;
    let worker = Worker::open(pid)?;
    let tids = worker.tids().map_err(|why| {
        let what = format!("/proc/{pid}/task");
        Blocker::Unreadable { what, why: format!("{why:#}") }
    })?;
    let found = worker.readable()?;
    let version = found.version;
    let python = worker.python_of(found, &tids)?;
    let moving = |why: WalkError| {
        if !worker.is_alive() {
            return Blocker::Exited { pid };
        }
        let what = format!("the memory of process {pid}");
        Blocker::Unreadable { what, why: why.to_string() }
    };
    let threads = python.threads(&tids).map_err(moving)?;
    let whose = Whose::find(&python, wanted).map_err(moving)?;
    let at_unix_ns = now().unix_ns;
    let dump = whose.dump(wanted, &threads).map_err(moving)?;
    // All of this was read by the process's id: was it the same process, and the same program?
    if !worker.is_alive() {
        return Err(Blocker::Exited { pid });
    }
    if worker.is_replaced() {
        return Err(Blocker::Replaced { pid });
    }
    if let Some(session) = wanted.session.as_ref().filter(|_| dump.sessions.is_empty()) {
        return Err(Blocker::NoSuchSession { pid, session: session.clone() });
    }
    let event_loop = event_loop(&threads);
    Ok(Dump {
        at_unix_ns,
        pid: pid.cast_unsigned(),
        python: version.to_string(),
        event_loop,
        ..dump
    })
}

/// The packages of the loops that run.
fn event_loop(threads: &[PyThread]) -> String {
    let loops = threads.iter().filter_map(|thread| thread.running_loop.as_ref());
    let packages: BTreeSet<&str> = loops.map(LoopType::package).collect();
    packages.into_iter().collect::<Vec<_>>().join(", ")
}

/// The tasks, and what says whose they are.
struct Whose<'p> {
    python: &'p Python,
    tasks: Vec<TaskAt>,
    /// The variable, with [`Tag::Variable`] and once there is one.
    tag: Option<VarAt>,
    /// Variables of the agent's and of the tenant's name.
    names: [Vec<VarAt>; 2],
    /// Whether there is what says whose a task is.
    tag_found: bool,
    by_name: bool,
}

impl<'p> Whose<'p> {
    fn find(python: &'p Python, wanted: &Wanted) -> Result<Self, WalkError> {
        let tasks = python.tasks()?;
        let by_name = wanted.tag == Tag::TaskName;
        if by_name {
            let names = Default::default();
            return Ok(Self { python, tasks, tag: None, names, tag_found: true, by_name });
        }
        let names = wanted.vars.each_ref().map(String::as_str);
        let found = <[_; 3]>::try_from(python.find_vars(&names)?);
        let [tags, agents, tenants] = found.unwrap_or_default();
        let tag = match &tags[..] {
            [one] => Some(*one),
            several => most_held(python, several, &tasks),
        };
        let tag_found = tag.is_some();
        Ok(Self { python, tasks, tag, names: [agents, tenants], tag_found, by_name })
    }

    /// What they do, by session.
    fn dump(&self, wanted: &Wanted, threads: &[PyThread]) -> Result<Dump, WalkError> {
        let mut codes = CodeCache::default();
        let tasks = self.candidates(wanted.session.as_deref());
        let seen = self.python.look(&tasks, self.tag, &mut codes)?;
        let unread = seen.iter().filter(|seen| seen.is_none()).count();
        let teller = Teller::new(self.python, threads, self.tag, &mut codes);
        let mut sorter = Sorter {
            teller,
            wanted: wanted.session.as_deref(),
            dump: Dump { tag_found: self.tag_found, unread, ..Dump::default() },
            places: HashMap::new(),
            firsts: Vec::new(),
        };
        for seen in seen.into_iter().flatten() {
            let tag = if self.by_name { seen.name } else { seen.tag };
            sorter.put_task(tag, seen);
        }
        sorter.put_threads();
        let Sorter { mut dump, firsts, .. } = sorter;
        self.name(&mut dump.sessions, &firsts);
        dump.sort();
        Ok(dump)
    }

    /// The tasks that may be of the session that is wanted: all where none is, or where tasks go by names.
    /// A tag that is no text is not told from others here.
    fn candidates(&self, session: Option<&str>) -> Cow<'_, [TaskAt]> {
        let Some((session, var)) = session.zip(self.tag) else { return (&self.tasks[..]).into() };
        let contexts = contexts(&self.tasks);
        let tags = self.python.values(&contexts, var, |_, _| false);
        let may_be = |tag: &Result<Option<TagText>, Loss>| match tag {
            Ok(None) => false,
            Ok(Some(tag)) => tag.type_addr().is_some() || tag.chars().eq(session.chars()),
            Err(_) => true,
        };
        let found = self.tasks.iter().zip(&tags).filter(|(_, tag)| may_be(tag));
        found.map(|(task, _)| *task).collect()
    }

    /// Names the agent and the tenant of each session, of which a tag and a context are known.
    fn name(&self, sessions: &mut [Session], firsts: &[(TagText, RemoteAddr)]) {
        let Some(var) = self.tag else { return };
        let contexts: Vec<RemoteAddr> = firsts.iter().map(|(_, context)| *context).collect();
        let [agents, tenants] =
            self.names.each_ref().map(|vars| self.python.texts(vars, &contexts));
        // Another session's context may be there by now.
        let held = self.python.values(&contexts, var, |_, _| false);
        let names = agents.into_iter().zip(tenants).zip(held).zip(firsts);
        for (session, (((agent, tenant), held), (tag, _))) in sessions.iter_mut().zip(names) {
            if held.as_ref().is_ok_and(|held| held.as_ref() == Some(tag)) {
                (session.agent_name, session.tenant) = (agent, tenant);
            }
        }
    }
}

/// Puts what is seen where it belongs.
struct Sorter<'p, 'w> {
    teller: Teller<'p>,
    wanted: Option<&'w str>,
    dump: Dump,
    /// Which session has this tag.
    places: HashMap<TagKey, usize>,
    /// Of each session its tag, and the first context that held it.
    firsts: Vec<(TagText, RemoteAddr)>,
}

impl Sorter<'_, '_> {
    fn put_task(&mut self, tag: Option<TagText>, seen: TaskSeen) {
        let Some(tag) = tag else {
            if self.wanted.is_none() {
                let task = self.teller.task(seen);
                self.dump.untagged.push(task);
            }
            return;
        };
        if let Some(at) = self.session(&tag, seen.context) {
            let task = self.teller.task(seen);
            if let Some(session) = self.dump.sessions.get_mut(at) {
                session.tasks.push(task);
            }
        }
    }

    /// Puts the threads that are in a session's context without a step of its tasks.
    fn put_threads(&mut self) {
        for (tag, context, thread) in self.teller.threads_in_sessions() {
            let Some(at) = self.session(&tag, context) else { continue };
            let Some(session) = self.dump.sessions.get_mut(at) else { continue };
            let tid = Some(thread.tid);
            let mut states = session.tasks.iter().map(|task| task.doing.state);
            if !states.any(|state| state == State::Running { tid }) {
                session.threads.push(thread);
            }
        }
    }

    /// Where the session with this tag is, if it is wanted.
    fn session(&mut self, tag: &TagText, context: RemoteAddr) -> Option<usize> {
        if let Some(at) = self.places.get(&tag.key()) {
            return Some(*at);
        }
        let (session_id, id_type) = self.teller.id(tag);
        if self.wanted.is_some_and(|wanted| *wanted != session_id) {
            return None;
        }
        let id_is_cut = tag.is_cut();
        self.dump.sessions.push(Session { session_id, id_type, id_is_cut, ..Session::default() });
        self.firsts.push((*tag, context));
        self.places.insert(tag.key(), self.firsts.len() - 1);
        Some(self.firsts.len() - 1)
    }
}

fn contexts(tasks: &[TaskAt]) -> Vec<RemoteAddr> {
    tasks.iter().map(|task| task.context).collect()
}

/// Of several variables of a name, the one that most tasks hold a value in.
fn most_held(python: &Python, vars: &[VarAt], tasks: &[TaskAt]) -> Option<VarAt> {
    let contexts = contexts(tasks);
    let held = |var: &VarAt| {
        let tags = python.values(&contexts, *var, |_, _| false);
        tags.iter().filter(|tag| matches!(tag, Ok(Some(_)))).count()
    };
    vars.iter().max_by_key(|var| held(var)).copied()
}

impl Dump {
    /// Puts sessions in the order of their ids, and tasks in that of their names.
    fn sort(&mut self) {
        self.sessions.sort_by(|a, b| a.session_id.cmp(&b.session_id));
        self.sessions.iter_mut().for_each(|session| by_name(&mut session.tasks));
        by_name(&mut self.untagged);
    }
}

/// By name, numbers in names by their size: `Task-9` comes before `Task-10`.
fn by_name(tasks: &mut [Task]) {
    tasks.sort_by_cached_key(|task| {
        let name = task.name.clone().unwrap_or_default();
        let start = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let number = name.get(start..).and_then(|digits| digits.parse::<u64>().ok());
        (name.get(..start).unwrap_or_default().to_owned(), number, name)
    });
}
