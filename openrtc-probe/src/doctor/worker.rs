//! What to think of a worker. Pure.

use crate::{
    blocker::Blocker,
    host::Namespaces,
    worker::{Interpreter, SiteKind},
};

use super::{
    Check,
    host::cpu_limit,
    look::{OnDisk, ProcessSeen, PythonSeen, Seen},
};

/// Ids of the checks that need the process to be opened.
const OF_PROCESS: [&str; 3] = ["process", "worker_namespaces", "worker_cpu_limit"];
/// That need the interpreter to be found.
const OF_IDENTITY: [&str; 2] = ["interpreter", "python"];
/// That need its sites to be chosen: one a kind, and whether changes are seen.
const OF_SITES: [(SiteKind, &str); 6] = [
    (SiteKind::RunEnter, "site_run_enter"),
    (SiteKind::RunExit, "site_run_exit"),
    (SiteKind::ContextEnter, "site_context_enter"),
    (SiteKind::ContextExit, "site_context_exit"),
    (SiteKind::VarSet, "site_var_set"),
    (SiteKind::VarReset, "site_var_reset"),
];
const REMEMBERS: &str = "tags_remembered";
/// That need its memory to be read.
const OF_MEMORY: [&str; 7] =
    ["layout", "threads", "loops", "session_var", "agent_var", "tenant_var", "sessions"];

/// Running loops that are named; more are counted.
const LOOPS_LISTED: usize = 4;

/// Every check of the worker; `ours` are the probe's own namespaces, `vars` the names asked for.
pub fn checks(seen: &Seen, ours: &Namespaces, vars: &[String; 3]) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.extend(seen.process.iter().flat_map(|process| self::process(process, ours)));
    checks.extend(seen.identity.iter().flat_map(|(identity, on_disk)| {
        let path = identity.path.display();
        let file = match on_disk {
            OnDisk::Same => Check::ok("interpreter", path.to_string()),
            OnDisk::Deleted => Check::note("interpreter", path.to_string()),
            OnDisk::Replaced => {
                Check::note("interpreter", format!("{path}, another file has its name now"))
            }
        };
        [file, Check::ok("python", format!("CPython {}", identity.version))]
    }));
    checks.extend(seen.interpreter.iter().flat_map(sites));
    let loaded = seen.interpreter.as_ref();
    checks.extend(seen.python.iter().flat_map(|python| memory(python, loaded, vars)));
    fill(checks, seen.refused.as_ref())
}

/// All ids, in order: those of `known`, the one that the refusal falls on, and those after it.
fn fill(mut known: Vec<Check>, refused: Option<&Blocker>) -> Vec<Check> {
    let sites = OF_SITES.iter().map(|(_, id)| *id);
    let ids: Vec<&'static str> = OF_PROCESS
        .into_iter()
        .chain(OF_IDENTITY)
        .chain(sites)
        .chain([REMEMBERS])
        .chain(OF_MEMORY)
        .collect();
    let is_unknown = |id: &&'static str| known.iter().all(|check| check.id != *id);
    let unknown: Vec<_> = ids.iter().copied().filter(is_unknown).collect();
    let Some(first) = unknown.first().copied() else { return known };
    let culprit = refused.map_or(first, |blocker| place(blocker, first));
    let culprit = if unknown.contains(&culprit) { culprit } else { first };
    for id in unknown {
        known.push(match refused {
            Some(blocker) if id == culprit => Check::blocked(id, blocker),
            _ => Check::not_run(id, format!("see {culprit}")),
        });
    }
    known.sort_by_key(|check| ids.iter().position(|id| *id == check.id));
    known
}

/// The check that a refusal falls on; `first` is the first one that is not known.
fn place(blocker: &Blocker, first: &'static str) -> &'static str {
    match blocker {
        Blocker::PythonUnsupported { .. } if OF_IDENTITY.contains(&first) => "python",
        Blocker::PythonUnsupported { .. } | Blocker::LayoutMismatch { .. } => "layout",
        Blocker::SiteRefused { what, .. } => {
            // Both places in `Context.run` are chosen together.
            let named = OF_SITES.iter().find(|(kind, _)| kind.name() == what);
            named.map_or(first, |(_, id)| id)
        }
        _ => first,
    }
}

fn process(process: &ProcessSeen, ours: &Namespaces) -> [Check; 3] {
    let ProcessSeen { exe, user, .. } = process;
    let state = process.state.map_or("unknown".into(), |state| state.to_string());
    let same = |theirs: Option<u64>, ours: Option<u64>| match (theirs, ours) {
        (Some(theirs), Some(ours)) if theirs == ours => "the same",
        (Some(_), Some(_)) => "another",
        _ => "unknown",
    };
    let (theirs, inside) = (&process.namespaces, process.ns_pids.last().copied());
    let inside = inside.filter(|_| process.ns_pids.len() > 1);
    let inside = inside.map_or(String::new(), |pid| format!(" (there it is {pid})"));
    let found = format!(
        "pid {}{inside}, mount {}, user {}",
        same(theirs.pid, ours.pid),
        same(theirs.mount, ours.mount),
        same(theirs.user, ours.user),
    );
    [
        Check::ok("process", format!("{exe}, user {user}, state {state}")),
        Check::ok("worker_namespaces", found),
        cpu_limit(
            "worker_cpu_limit",
            Some(process.cpu_limit),
            "its group: throttled time shows as run-queue wait",
        ),
    ]
    .map(|check| match (check.id, process.threads) {
        ("process", Some(threads)) => {
            Check { found: format!("{}, threads {threads}", check.found), ..check }
        }
        _ => check,
    })
}

fn sites(interpreter: &Interpreter) -> Vec<Check> {
    let mut checks: Vec<_> = OF_SITES
        .iter()
        .filter_map(|(kind, id)| {
            let mut sites = interpreter.sites.iter().filter(|site| site.kind == *kind);
            let site = sites.next()?;
            let registers: Vec<_> = site.registers.iter().map(ToString::to_string).collect();
            let (address, instruction) = (site.address, &site.instruction);
            let found = format!("{address}: {instruction}; in {}", registers.join(", "));
            let others = sites.map(|site| format!("; also {}", site.address));
            Some(Check::ok(id, others.fold(found, |found, other| found + &other)))
        })
        .collect();
    checks.push(if interpreter.changes_are_seen {
        Check::ok(REMEMBERS, "until a variable is set")
    } else {
        Check::note(REMEMBERS, "never: a compiler may have inlined ContextVar.set; polls cost more")
    });
    checks
}

fn memory(python: &PythonSeen, loaded: Option<&Interpreter>, vars: &[String; 3]) -> [Check; 7] {
    let confirmed = match python.debug_offsets {
        0 => "it publishes no offsets of its own".into(),
        count => format!("it publishes {count} of them itself"),
    };
    let [session, agent, tenant] = &python.vars;
    let sessions = match python.tasks {
        Some((tasks, sessions)) => {
            Check::ok("sessions", format!("{sessions} in {tasks} pending tasks"))
        }
        None => Check::note("sessions", "the tasks changed faster than they could be read"),
    };
    let missing = Blocker::NoSessionVar { var: vars[0].clone() };
    [
        Check::ok("layout", format!("{}; {confirmed}", python.layout_source)),
        Check::ok("threads", format!("{} run Python", python.threads)),
        loops(python, loaded),
        var("session_var", &vars[0], session.len(), &missing.hint()),
        var("agent_var", &vars[1], agent.len(), "name it with --agent-var NAME"),
        var("tenant_var", &vars[2], tenant.len(), "name it with --tenant-var NAME"),
        sessions,
    ]
}

fn loops(python: &PythonSeen, loaded: Option<&Interpreter>) -> Check {
    let loaded = loaded.map(|interpreter| interpreter.loops).unwrap_or_default();
    let names = [(loaded.asyncio, "asyncio"), (loaded.uvloop, "uvloop")];
    let names: Vec<_> = names.iter().filter(|(is, _)| *is).map(|(_, name)| *name).collect();
    let loaded = if names.is_empty() { "none".into() } else { names.join(", ") };
    let listed = python.loops.iter().take(LOOPS_LISTED);
    let mut running: Vec<_> =
        listed.map(|(tid, class)| format!("{class} on thread {tid}")).collect();
    if let Some(rest @ 1..) = python.loops.len().checked_sub(LOOPS_LISTED) {
        running.push(format!("{rest} more"));
    }
    if running.is_empty() {
        return Check::note("loops", format!("loaded {loaded}; none runs now"));
    }
    Check::ok("loops", format!("loaded {loaded}; running {}", running.join(", ")))
}

fn var(id: &'static str, name: &str, found: usize, hint: &str) -> Check {
    match found {
        0 => Check::note(id, format!("{name}: not found yet")).hint(hint),
        1 => Check::ok(id, format!("{name}: found")),
        // A module that was imported twice.
        many => Check::note(
            id,
            format!("{name}: {many} of this name; the one that most tasks hold counts"),
        ),
    }
}
