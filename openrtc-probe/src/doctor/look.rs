//! Looks at a worker as far as it lets itself be looked at. Memory is read, nothing is attached.

use std::{collections::HashSet, fs, path::Path};

use crate::{
    blocker::Blocker,
    cpython::{Python, VarAt, memory::RemoteAddr},
    host::{
        Namespaces,
        cgroup::{CpuLimit, cpu_limit},
    },
    worker::{Identity, Interpreter, Worker},
};

/// What was seen of a worker; where it was refused, what is not known stays `None`.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The process.
    pub process: Option<ProcessSeen>,
    /// Which interpreter it runs, and whether its file is still where it was.
    pub identity: Option<(Identity, OnDisk)>,
    /// The interpreter and its sites.
    pub interpreter: Option<Interpreter>,
    /// What stands in its memory.
    pub python: Option<PythonSeen>,
    /// Why the rest is not known.
    pub refused: Option<Blocker>,
}

/// What `/proc` says of a process.
#[derive(Clone, Debug)]
pub struct ProcessSeen {
    /// Its executable.
    pub exe: String,
    /// Its state: `R`, `S`, ...
    pub state: Option<char>,
    /// Its user.
    pub user: String,
    /// Its ids from our pid namespace inwards.
    pub ns_pids: Vec<i32>,
    /// Those that it is in.
    pub namespaces: Namespaces,
    /// What its control group lets it use.
    pub cpu_limit: CpuLimit,
    /// How many threads it has.
    pub threads: Option<u32>,
}

/// Where a mapped file is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisk {
    /// Where it was.
    Same,
    /// Nothing has its name any more.
    Deleted,
    /// Another file has its name.
    Replaced,
}

/// What stands in the interpreter's memory.
#[derive(Clone, Debug)]
pub struct PythonSeen {
    /// Where the row of offsets comes from.
    pub layout_source: &'static str,
    /// How many of them the interpreter publishes itself.
    pub debug_offsets: usize,
    /// Its threads that run Python.
    pub threads: usize,
    /// Those that run loops: their ids, and the loops' classes.
    pub loops: Vec<(u32, String)>,
    /// The session's, the agent's and the tenant's variable: all of that name.
    pub vars: [Vec<VarAt>; 3],
    /// Pending tasks, and how many different sessions they are of; `None` where they moved too fast.
    pub tasks: Option<(usize, usize)>,
}

/// Looks at the process `pid`.
pub fn at(pid: i32, vars: &[String; 3]) -> Seen {
    let mut seen = Seen::default();
    seen.refused = fill(&mut seen, pid, vars).err();
    seen
}

fn fill(seen: &mut Seen, pid: i32, vars: &[String; 3]) -> Result<(), Blocker> {
    let worker = Worker::open(pid)?;
    seen.process = Some(process(&worker));
    let identity = worker.identify()?;
    let on_disk = on_disk(pid, &identity.path);
    seen.identity = Some((identity, on_disk));
    let interpreter = worker.interpreter()?;
    let interpreter = seen.interpreter.insert(interpreter);
    let tids = worker
        .tids()
        .map_err(|why| Blocker::Unreadable { what: "its threads".into(), why: why.to_string() })?;
    let python = worker.python(interpreter, &tids)?;
    let threads = python.threads(&tids).unwrap_or_default();
    let loops = threads.iter().filter_map(|thread| {
        let running = thread.running_loop.as_ref()?;
        Some((thread.tid, format!("{}.{}", running.module, running.name)))
    });
    let names = vars.each_ref().map(String::as_str);
    let found = python.find_vars(&names).ok().and_then(|found| found.try_into().ok());
    let found: [Vec<VarAt>; 3] = found.unwrap_or_default();
    seen.python = Some(PythonSeen {
        layout_source: python.layout().source,
        debug_offsets: python.layout().runtime_debug.len(),
        threads: threads.len(),
        loops: loops.collect(),
        // Of several variables of the name, that of the most sessions.
        tasks: found[0]
            .iter()
            .map(|var| tasks(&python, Some(*var)))
            .max()
            .unwrap_or_else(|| tasks(&python, None)),
        vars: found,
    });
    Ok(())
}

fn process(worker: &Worker) -> ProcessSeen {
    ProcessSeen {
        exe: worker.exe().display().to_string(),
        state: worker.state(),
        user: worker.user(),
        ns_pids: worker.ns_pids().to_vec(),
        namespaces: Namespaces::of(worker.pid()),
        cpu_limit: cpu_limit(worker.pid()),
        threads: worker.thread_count().ok(),
    }
}

/// Whether the file that the kernel calls `path` is still there under its name.
fn on_disk(pid: i32, path: &Path) -> OnDisk {
    let Some(name) = path.to_str().and_then(|path| path.strip_suffix(" (deleted)")) else {
        return OnDisk::Same;
    };
    let now = format!("/proc/{pid}/root{name}");
    if fs::symlink_metadata(now).is_ok() { OnDisk::Replaced } else { OnDisk::Deleted }
}

fn tasks(python: &Python, session: Option<VarAt>) -> Option<(usize, usize)> {
    let tasks = python.tasks().ok()?;
    let contexts: Vec<RemoteAddr> = tasks.iter().map(|task| task.context).collect();
    let tags = session.map(|var| python.values(&contexts, var, |_, _| false)).unwrap_or_default();
    let sessions: HashSet<_> = tags.into_iter().filter_map(|tag| Some(tag.ok()??.key())).collect();
    Some((contexts.len(), sessions.len()))
}
