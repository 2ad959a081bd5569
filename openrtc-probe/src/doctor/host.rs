//! What to think of this machine. Pure.

use crate::{
    blocker::Blocker,
    bpf::Trial,
    host::{
        CAPABILITIES, Capability, FIRST_PID, FIRST_USER, HostFacts, Namespaces, Need, blockers,
        cgroup::CpuLimit, settings::Settings,
    },
};

use super::{Check, one_line};

/// The exit code.
const HOST_CANNOT: u8 = 3;
/// The oldest kernel that the programs are built for.
const OLDEST_KERNEL: (u32, u32) = (5, 10);
/// From this one on BPF's memory is no longer counted as locked.
const UNLOCKED_BPF: (u32, u32) = (5, 11);

/// What came of trying our programs on ourselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Programs that the kernel took.
    pub programs: Step<usize>,
    /// What a trap takes, nanoseconds.
    pub trap_ns: Step<u64>,
    /// The scheduler's tracepoints.
    pub scheduler: Step<()>,
}

/// One step of the trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// It went well.
    Done(T),
    /// The kernel refused, and said this.
    Refused(String),
    /// It was not tried, because of this.
    NotTried(String),
}

impl Tried {
    /// Nothing was tried: the machine lacks what each of them needs.
    pub fn not(blocker: &Blocker) -> Self {
        let why = format!("see {}", place(blocker));
        Self {
            programs: Step::NotTried(why.clone()),
            trap_ns: Step::NotTried(why.clone()),
            scheduler: Step::NotTried(why),
        }
    }
}

impl From<Trial> for Tried {
    fn from(trial: Trial) -> Self {
        Self {
            programs: Step::of(Some(trial.programs)),
            trap_ns: Step::of(trial.trap_ns),
            scheduler: Step::of(trial.scheduler),
        }
    }
}

impl<T> Step<T> {
    fn of(result: Option<anyhow::Result<T>>) -> Self {
        match result {
            Some(Ok(value)) => Self::Done(value),
            Some(Err(why)) => Self::Refused(one_line(&why)),
            None => Self::NotTried("see bpf".into()),
        }
    }

    fn check(&self, id: &'static str, hint: &str, done: impl Fn(&T) -> String) -> Check {
        match self {
            Self::Done(value) => Check::ok(id, done(value)),
            Self::Refused(why) => Check::fail(id, HOST_CANNOT, why.as_str()).hint(hint),
            Self::NotTried(why) => Check::not_run(id, why.as_str()),
        }
    }
}

/// The check that tells of a blocker.
fn place(blocker: &Blocker) -> &'static str {
    match blocker {
        Blocker::NotX86_64 { .. } => "arch",
        Blocker::NoBtf => "btf",
        Blocker::NoUprobes => "uprobe_events",
        Blocker::OwnNamespace { kind: "user", .. } => "user_namespace",
        Blocker::OwnNamespace { .. } => "pid_namespace",
        _ => {
            let missing = CAPABILITIES.iter().find(|capability| capability.blocker() == *blocker);
            missing.map_or("kernel", |capability| capability.id)
        }
    }
}

/// Every check of the machine.
pub fn checks(facts: &HostFacts, settings: &Settings, tried: &Tried) -> Vec<Check> {
    let mut checks = Vec::from(kernel(facts, settings));
    checks.extend(CAPABILITIES.iter().map(|it| capability(it, facts, tried)));
    checks.extend(programs(tried));
    checks.extend(confinement(settings));
    checks.extend(namespaces(facts));
    checks.extend(tuning(settings));
    checks
}

fn kernel(facts: &HostFacts, settings: &Settings) -> [Check; 4] {
    let found = blockers(facts);
    let unless = |blocker: &Blocker, id, fine: String| {
        if found.contains(blocker) { Check::blocked(id, blocker) } else { Check::ok(id, fine) }
    };
    let release = settings.kernel_release.as_deref().unwrap_or("unknown");
    let mut kernel = Check::ok("kernel", format!("Linux {release}"));
    if settings.version().is_some_and(|version| version < OLDEST_KERNEL) {
        kernel = Check::note("kernel", format!("Linux {release}, older than any that was tried"))
            .hint("use a kernel from 5.10 on");
    }
    let kilobytes = settings.btf_bytes.unwrap_or(0) >> 10;
    let uprobes = settings.uprobe_type.map_or("there".into(), |it| format!("event type {it}"));
    [
        kernel,
        unless(&Blocker::NotX86_64 { arch: facts.arch.into() }, "arch", facts.arch.into()),
        unless(&Blocker::NoBtf, "btf", format!("{}, {kilobytes} kB", crate::host::BTF)),
        unless(&Blocker::NoUprobes, "uprobe_events", uprobes),
    ]
}

fn capability(capability: &Capability, facts: &HostFacts, tried: &Tried) -> Check {
    let Capability { id, needed_for, need, .. } = *capability;
    if facts.holds(capability.number) {
        return Check::ok(id, format!("held, to {needed_for}"));
    }
    if facts.has(capability) {
        return Check::ok(id, format!("in CAP_SYS_ADMIN, to {needed_for}"));
    }
    let missing = format!("missing, needed to {needed_for}");
    let is_needed = match need {
        Need::Always => true,
        Need::ByWorker => false,
        Need::ByKernel => match &tried.trap_ns {
            Step::Done(_) => return Check::ok(id, "missing, and this kernel does not ask for it"),
            Step::Refused(_) => true,
            Step::NotTried(_) => false,
        },
    };
    if is_needed {
        let blocker = capability.blocker();
        return Check::fail(id, blocker.exit_code(), missing).hint(blocker.hint());
    }
    Check::note(
        id,
        match need {
            Need::ByKernel => "missing; hardly any kernel asks for it".into(),
            Need::Always | Need::ByWorker => format!("{missing}; most workers do without"),
        },
    )
}

fn programs(tried: &Tried) -> [Check; 3] {
    /// All that is known to keep a kernel of a fit version from taking them.
    const HINT: &str =
        "see capabilities, lockdown, seccomp and memlock here; else report all of this";
    [
        tried.programs.check("bpf", HINT, |programs| {
            format!("tried: the kernel takes our {programs} programs at sites, and their maps")
        }),
        tried
            .trap_ns
            .check("uprobe", HINT, |ns| format!("tried on ourselves: a trap takes {ns} ns")),
        tried.scheduler.check("sched_events", HINT, |()| {
            "tried: attached to the scheduler, and detached".into()
        }),
    ]
}

/// What may keep even root from it.
fn confinement(settings: &Settings) -> [Check; 3] {
    let lockdown = match settings.lockdown.as_deref() {
        None => Check::ok("lockdown", "this kernel has none, or does not show it"),
        Some("confidentiality") => Check::note("lockdown", "confidentiality: no program may read")
            .hint("boot with lockdown=integrity, or without Secure Boot"),
        Some(other) => Check::ok("lockdown", other),
    };
    let yama = match settings.ptrace_scope {
        None => Check::ok("ptrace_scope", "this kernel has no Yama"),
        Some(3) => {
            Check::fail("ptrace_scope", HOST_CANNOT, "3: nobody may read a process's memory").hint(
                "start the host with kernel.yama.ptrace_scope = 2 or less: it cannot be lowered",
            )
        }
        Some(scope @ 1..) => {
            Check::ok("ptrace_scope", format!("{scope}, which CAP_SYS_PTRACE overrides"))
        }
        Some(0) => Check::ok("ptrace_scope", "0"),
    };
    let seccomp = match settings.seccomp {
        None => Check::not_run("seccomp", "/proc/self/status does not say"),
        Some(0) => Check::ok("seccomp", "no filter on us"),
        Some(_) => {
            Check::note("seccomp", "a filter is on us: it may refuse what the kernel allows")
                .hint("in a container: --security-opt seccomp=unconfined, or --privileged")
        }
    };
    [lockdown, yama, seccomp]
}

fn namespaces(facts: &HostFacts) -> [Check; 3] {
    let Namespaces { pid, mount, user } = facts.namespaces;
    let blockers = blockers(facts);
    let check = |id, kind: &str, found: Option<u64>, first: u64| {
        let ours =
            |it: &&Blocker| matches!(it, Blocker::OwnNamespace { kind: k, .. } if *k == kind);
        match (blockers.iter().find(ours), found) {
            (Some(blocker), _) => Check::blocked(id, blocker),
            (None, Some(_)) => Check::ok(id, format!("the host's ({first})")),
            (None, None) => Check::not_run(id, format!("/proc/self/ns/{kind} cannot be read")),
        }
    };
    [
        check("pid_namespace", "pid", pid, FIRST_PID),
        check("user_namespace", "user", user, FIRST_USER),
        match mount {
            Some(inode) => Check::ok("mount_namespace", inode.to_string()),
            None => Check::not_run("mount_namespace", "/proc/self/ns/mnt cannot be read"),
        },
    ]
}

/// What makes it slower, or says what others may do.
fn tuning(settings: &Settings) -> [Check; 6] {
    let value = |id, found: Option<String>| match found {
        Some(found) => Check::ok(id, found),
        None => Check::not_run(id, "this kernel does not tell"),
    };
    let paranoid = settings.perf_event_paranoid.map(|it| it.to_string());
    let stats = match settings.bpf_stats_enabled {
        Some(1..) => Check::note("bpf_stats", "on: each run of a program takes longer")
            .hint("sysctl kernel.bpf_stats_enabled=0"),
        off => value("bpf_stats", off.map(|_| "off".into())),
    };
    let online = settings.cpus_online.as_deref().unwrap_or("unknown");
    let usable = settings.cpus_usable.map_or("unknown".into(), |cpus| cpus.to_string());
    [
        value(
            "perf_event_paranoid",
            paranoid.map(|it| format!("{it}, which CAP_PERFMON overrides")),
        ),
        value(
            "unprivileged_bpf",
            settings.unprivileged_bpf_disabled.map(|it| match it {
                0 => "allowed (0)".into(),
                it => format!("disabled ({it})"),
            }),
        ),
        stats,
        memlock(settings),
        Check::ok("cpus", format!("online {online}, usable by us {usable}")),
        cpu_limit(
            "cpu_limit",
            settings.cpu_limit,
            "our own group: we may be slowed, not the worker",
        ),
    ]
}

fn memlock(settings: &Settings) -> Check {
    let Some(limit) = &settings.memlock else {
        return Check::not_run("memlock", "/proc/self/limits does not say");
    };
    let counts = settings.version().is_some_and(|version| version < UNLOCKED_BPF);
    if counts && limit != "unlimited" {
        return Check::note("memlock", format!("{limit}: before Linux 5.11 it limits our maps"))
            .hint("ulimit -l unlimited");
    }
    let found = if limit == "unlimited" { "unlimited".into() } else { format!("{limit} bytes") };
    Check::ok("memlock", found)
}

/// What a control group lets a process use.
pub fn cpu_limit(id: &'static str, limit: Option<CpuLimit>, whose: &str) -> Check {
    match limit {
        Some(CpuLimit::Cpus(cpus)) => Check::note(id, format!("{cpus:.2} CPUs, by {whose}")),
        Some(CpuLimit::None) => Check::ok(id, "none"),
        Some(CpuLimit::Unknown) | None => {
            Check::not_run(id, "no cgroup v2 is mounted at /sys/fs/cgroup")
        }
    }
}
