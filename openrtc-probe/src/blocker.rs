//! Everything that keeps the probe from its work and that a user can do something about.
//!
//! Each message is one line that names the act and its nouns; [`Blocker::hint`] says what to type.
//! All of them are reviewed in one place: the golden list in this file's test.

/// A reason why the probe cannot attach.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Blocker {
    /// No process has the id.
    #[error("no process has the id {pid}")]
    NoSuchProcess {
        /// What was typed.
        pid: i32,
    },
    /// No process has the id here, but some have it in a pid namespace of their own.
    #[error("no process has the id {pid}; {pid} is the id that {} in {} own container",
            have(.here), if .here.len() == 1 { "its" } else { "their" })]
    ContainerPid {
        /// What was typed.
        pid: i32,
        /// The ids here of those that have it inside; never empty.
        here: Vec<i32>,
    },
    /// The id is that of a thread, not of a process.
    #[error("{tid} is a thread of process {pid}, not a process")]
    ThreadId {
        /// What was typed.
        tid: i32,
        /// The thread's process.
        pid: i32,
    },
    /// The id is that of a thread of the kernel.
    #[error("{pid} is the kernel thread `{name}`, not a Python worker")]
    KernelThread {
        /// What was typed.
        pid: i32,
        /// The thread's name.
        name: String,
    },
    /// The process has ended, or is a zombie.
    #[error("process {pid} has exited")]
    Exited {
        /// Its process id.
        pid: i32,
    },
    /// The process runs another program now.
    #[error("process {pid} has replaced itself (exec)")]
    Replaced {
        /// Its process id.
        pid: i32,
    },
    /// The process runs no event loop, but some below it do.
    #[error("process {pid} runs no event loop, processes below it do")]
    OnlyParent {
        /// Its process id.
        pid: i32,
        /// Those that do.
        workers: Vec<i32>,
    },
    /// No interpreter is mapped.
    #[error("process {pid} ({exe}) is not a Python process: it has no CPython mapped")]
    NotPython {
        /// Its process id.
        pid: i32,
        /// Its executable.
        exe: String,
        /// The Python processes below it.
        workers: Vec<i32>,
    },
    /// An interpreter that we do not know how to read.
    #[error("process {pid} runs {found}, which is not supported: {why}")]
    PythonUnsupported {
        /// Its process id.
        pid: i32,
        /// Such as `CPython 3.16` or `PyPy`.
        found: String,
        /// What is missing.
        why: String,
    },
    /// The interpreter's file cannot be opened.
    #[error("cannot open {path}, which process {pid} has mapped: {why}")]
    BinaryUnreadable {
        /// The worker.
        pid: i32,
        /// The file as the worker's mappings name it.
        path: String,
        /// What the system said.
        why: String,
    },
    /// No instruction of this interpreter is fit for a probe.
    #[error("no safe place for a probe in {what}: {why}")]
    SiteRefused {
        /// The function, such as `Context.run`.
        what: String,
        /// What was seen in its code.
        why: String,
    },
    /// The interpreter's memory does not look as its version says.
    #[error("the interpreter's memory is not laid out as expected: {what}")]
    LayoutMismatch {
        /// What was looked at, what was expected and what was there.
        what: String,
    },
    /// A capability of ours is missing.
    #[error("missing capability {name}, needed to {needed_for}")]
    MissingCapability {
        /// Such as `CAP_BPF`.
        name: &'static str,
        /// Such as `load programs into the kernel`.
        needed_for: &'static str,
    },
    /// We run in a namespace that makes ids or capabilities mean something else to the kernel.
    #[error("openrtc-probe runs in a {kind} namespace of its own: {so}")]
    OwnNamespace {
        /// `pid` or `user`.
        kind: &'static str,
        /// What does not work there.
        so: &'static str,
    },
    /// The kernel carries no type information.
    #[error("this kernel has no type information (/sys/kernel/btf/vmlinux is missing)")]
    NoBtf,
    /// The kernel does not say what a process has started.
    #[error("this kernel does not list the children of a process (/proc/PID/task/TID/children)")]
    NoChildren,
    /// The kernel cannot place user-space probes.
    #[error("this kernel cannot probe user space (no `uprobe` performance events)")]
    NoUprobes,
    /// This process may not open what it needs.
    #[error("openrtc-probe may have {limit} files open, and needs {needed}")]
    FewFiles {
        /// What it may be raised to.
        limit: u64,
        /// For all workers that are named.
        needed: u64,
    },
    /// This process may not lock the memory that its maps are in.
    #[error(
        "openrtc-probe may lock {limit} bytes of memory, and this kernel counts its maps among them"
    )]
    LittleMemory {
        /// In bytes.
        limit: u64,
    },
    /// The worker belongs to somebody else.
    #[error("process {pid} belongs to user {user}: its memory cannot be read")]
    OtherUser {
        /// The worker.
        pid: i32,
        /// Name or number of its user.
        user: String,
    },
    /// The worker holds no such context variable.
    #[error("no context variable named `{var}` in the worker yet")]
    NoSessionVar {
        /// The variable's name.
        var: String,
    },
    /// No task of the worker is of this session.
    #[error("no task of process {pid} is of a session {session}")]
    NoSuchSession {
        /// The worker.
        pid: i32,
        /// What was typed.
        session: String,
    },
    /// The worker has not imported `asyncio`'s accelerator.
    #[error("process {pid} has no tasks to go by: it has not imported asyncio yet")]
    NoTasks {
        /// The worker.
        pid: i32,
    },
    /// The machine is not one that we know the instructions of.
    #[error("this machine is {arch}: only x86_64 is supported")]
    NotX86_64 {
        /// Such as `aarch64`.
        arch: String,
    },
    /// The kernel did not accept one of our programs.
    #[error("the kernel refused the program `{program}`: {why}")]
    ProgramRefused {
        /// The program.
        program: String,
        /// What the kernel said.
        why: String,
    },
    /// We were started with another user's rights.
    #[error(
        "openrtc-probe does not run setuid or setgid: anybody could look into the processes of others with it"
    )]
    SetUser,
    /// A file under `/proc` or `/sys` cannot be read, for no reason that we know.
    #[error("cannot read {what}: {why}")]
    Unreadable {
        /// The file.
        what: String,
        /// What the system said.
        why: String,
    },
}

/// `process 5 has`, `processes 5, 6 and 3 more have`.
fn have(pids: &[i32]) -> String {
    /// More are counted only.
    const LISTED: usize = 4;
    let listed: Vec<String> = pids.iter().take(LISTED).map(ToString::to_string).collect();
    let rest = pids.len() - listed.len();
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    match pids.len() {
        1 => format!("process {} has", listed.join("")),
        _ => format!("processes {}{more} have", listed.join(", ")),
    }
}

/// Workers that a hint names one by one.
const MOST_NAMED: usize = 4;

const REPORT_KERNEL: &str =
    "report it with the output of `openrtc-probe doctor`; kernels from 5.10 on should accept it";

/// How to get a capability, or do without.
fn to_get(capability: &str) -> &'static str {
    match capability {
        "CAP_SYS_ADMIN" => "run it with `sudo`, or without probes: --mode sampled",
        _ => {
            "run it with `sudo`, or once `sudo setcap \
             cap_bpf,cap_perfmon,cap_sys_ptrace,cap_checkpoint_restore+ep $(command -v openrtc-probe)`"
        }
    }
}

impl Blocker {
    /// What to do about it, as far as possible in the form of something to type.
    pub fn hint(&self) -> String {
        const SUPPORTED: &str = "run the worker on CPython 3.9 to 3.15 (not free-threaded)";
        const NEWER_KERNEL: &str = "use a kernel from 5.10 on that is built with";
        match self {
            Self::NoSuchProcess { .. } | Self::Exited { .. } => {
                "find the worker with `pgrep -af python`".into()
            }
            Self::ThreadId { pid, .. } | Self::Replaced { pid } => {
                format!("openrtc-probe --pid {pid}")
            }
            Self::ContainerPid { here, .. } => one_of(here),
            Self::OnlyParent { pid, workers } => below(*pid, workers),
            Self::NotPython { pid, workers, .. } if !workers.is_empty() => below(*pid, workers),
            Self::KernelThread { .. } | Self::NotPython { .. } => {
                "give the id of the Python process itself, not of a shell or supervisor around it: \
                 `pgrep -af python`"
                    .into()
            }
            Self::PythonUnsupported { .. } => SUPPORTED.into(),
            Self::SiteRefused { .. } | Self::LayoutMismatch { .. } => format!(
                "this build of the interpreter is not known: {SUPPORTED}, or report it with the \
                 output of `openrtc-probe doctor --pid PID`"
            ),
            Self::BinaryUnreadable { pid, .. } | Self::OtherUser { pid, .. } => {
                format!("sudo openrtc-probe --pid {pid}")
            }
            Self::MissingCapability { name, .. } => to_get(name).into(),
            Self::SetUser => "sudo chmod u-s,g-s $(command -v openrtc-probe), and run it with \
                 `sudo`"
                .into(),
            Self::OwnNamespace { kind, .. } => format!(
                "run it in the host's {kind} namespace, on the host itself or with `docker run \
                 --pid=host --userns=host --privileged ...`"
            ),
            Self::NoBtf => format!("{NEWER_KERNEL} CONFIG_DEBUG_INFO_BTF=y"),
            Self::NoChildren => {
                format!("name the workers with --pid, or {NEWER_KERNEL} CONFIG_PROC_CHILDREN=y")
            }
            Self::NoUprobes => format!("{NEWER_KERNEL} CONFIG_UPROBE_EVENTS=y"),
            Self::FewFiles { needed, .. } => {
                format!("sudo prlimit --nofile={needed} openrtc-probe ...")
            }
            Self::LittleMemory { .. } => {
                "sudo prlimit --memlock=unlimited openrtc-probe ...".into()
            }
            Self::NoSessionVar { .. } => {
                "start a session in the worker, or name its variable: --session-var NAME".into()
            }
            Self::NoSuchSession { pid, .. } => format!("openrtc-probe dump --pid {pid}"),
            Self::NoTasks { .. } => {
                "start it when the worker's loop runs, or leave out --tag task-name".into()
            }
            Self::NotX86_64 { .. } => "run the probe and the worker on an x86_64 machine".into(),
            Self::ProgramRefused { .. } => REPORT_KERNEL.into(),
            Self::Unreadable { .. } => "see that /proc and /sys are mounted, and use `sudo`".into(),
        }
    }

    /// The process's exit code: 2 usage, 3 this host cannot, 4 this worker cannot, 1 anything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoSuchProcess { .. } | Self::ContainerPid { .. } | Self::ThreadId { .. } => 2,
            Self::BinaryUnreadable { .. }
            | Self::MissingCapability { .. }
            | Self::OwnNamespace { .. }
            | Self::NoBtf
            | Self::NoUprobes
            | Self::NoChildren
            | Self::FewFiles { .. }
            | Self::LittleMemory { .. }
            | Self::OtherUser { .. }
            | Self::NotX86_64 { .. }
            | Self::ProgramRefused { .. }
            | Self::SetUser => 3,
            Self::KernelThread { .. }
            | Self::Exited { .. }
            | Self::NotPython { .. }
            | Self::Replaced { .. }
            | Self::OnlyParent { .. }
            | Self::PythonUnsupported { .. }
            | Self::SiteRefused { .. }
            | Self::LayoutMismatch { .. }
            | Self::NoTasks { .. }
            | Self::NoSessionVar { .. } => 4,
            Self::NoSuchSession { .. } | Self::Unreadable { .. } => 1,
        }
    }
}

/// What to type for the only one of these processes, or for the first.
fn one_of(pids: &[i32]) -> String {
    match pids {
        [only] => format!("openrtc-probe --pid {only}"),
        several => {
            let first = several.first().copied().unwrap_or_default();
            format!("openrtc-probe --pid {first}, or another of them: `pgrep -af python`")
        }
    }
}

/// What to type for the workers below a process.
fn below(parent: i32, workers: &[i32]) -> String {
    if workers.len() > MOST_NAMED {
        return format!("openrtc-probe --pid {parent} --children");
    }
    let pids: Vec<_> = workers.iter().map(|pid| format!("--pid {pid}")).collect();
    format!("openrtc-probe {}, or all of them: --pid {parent} --children", pids.join(" "))
}

#[cfg(test)]
mod tests {
    use super::Blocker;

    /// One of each. A new variant fails the match in `hint`, and belongs here too.
    fn all() -> Vec<Blocker> {
        let pid = 4711;
        vec![
            Blocker::NoSuchProcess { pid },
            Blocker::ContainerPid { pid: 7, here: vec![4711] },
            Blocker::ContainerPid { pid: 7, here: (4711..4717).collect() },
            Blocker::ThreadId { tid: 4712, pid },
            Blocker::KernelThread { pid, name: "kthreadd".into() },
            Blocker::Exited { pid },
            Blocker::Replaced { pid },
            Blocker::OnlyParent { pid, workers: vec![4713] },
            Blocker::NotPython { pid, exe: "/usr/bin/bash".into(), workers: vec![] },
            Blocker::NotPython { pid, exe: "/usr/bin/uv".into(), workers: vec![4713, 4714] },
            Blocker::NotPython { pid, exe: "/usr/bin/uv".into(), workers: vec![1; 5] },
            Blocker::PythonUnsupported {
                pid,
                found: "CPython 3.16".into(),
                why: "the layouts of 3.9 to 3.15 are known".into(),
            },
            Blocker::BinaryUnreadable {
                pid,
                path: "/usr/bin/python3.11".into(),
                why: "permission denied".into(),
            },
            Blocker::SiteRefused {
                what: "Context.run".into(),
                why: "it enters and leaves its context at 3 places, not 2".into(),
            },
            Blocker::LayoutMismatch { what: "PyContext_Type is 56 bytes, expected 48".into() },
            Blocker::MissingCapability {
                name: "CAP_BPF",
                needed_for: "load programs into the kernel",
            },
            Blocker::OwnNamespace {
                kind: "pid",
                so: "the kernel knows processes by other ids than those seen here",
            },
            Blocker::NoBtf,
            Blocker::NoUprobes,
            Blocker::NoChildren,
            Blocker::FewFiles { limit: 80, needed: 96 },
            Blocker::LittleMemory { limit: 65_536 },
            Blocker::OtherUser { pid, user: "livekit".into() },
            Blocker::NoSessionVar { var: "openrtc_session_id".into() },
            Blocker::NoSuchSession { pid, session: "AJ_1f3c".into() },
            Blocker::NoTasks { pid },
            Blocker::NotX86_64 { arch: "aarch64".into() },
            Blocker::ProgramRefused {
                program: "run_enter".into(),
                why: "the verifier rejects it".into(),
            },
            Blocker::SetUser,
            Blocker::Unreadable { what: "/proc/4711/maps".into(), why: "I/O error".into() },
        ]
    }

    /// Exit code, message and hint of each.
    const GOLDEN: &str = r"2 no process has the id 4711
  hint: find the worker with `pgrep -af python`
2 no process has the id 7; 7 is the id that process 4711 has in its own container
  hint: openrtc-probe --pid 4711
2 no process has the id 7; 7 is the id that processes 4711, 4712, 4713, 4714 and 2 more have in their own container
  hint: openrtc-probe --pid 4711, or another of them: `pgrep -af python`
2 4712 is a thread of process 4711, not a process
  hint: openrtc-probe --pid 4711
4 4711 is the kernel thread `kthreadd`, not a Python worker
  hint: give the id of the Python process itself, not of a shell or supervisor around it: `pgrep -af python`
4 process 4711 has exited
  hint: find the worker with `pgrep -af python`
4 process 4711 has replaced itself (exec)
  hint: openrtc-probe --pid 4711
4 process 4711 runs no event loop, processes below it do
  hint: openrtc-probe --pid 4713, or all of them: --pid 4711 --children
4 process 4711 (/usr/bin/bash) is not a Python process: it has no CPython mapped
  hint: give the id of the Python process itself, not of a shell or supervisor around it: `pgrep -af python`
4 process 4711 (/usr/bin/uv) is not a Python process: it has no CPython mapped
  hint: openrtc-probe --pid 4713 --pid 4714, or all of them: --pid 4711 --children
4 process 4711 (/usr/bin/uv) is not a Python process: it has no CPython mapped
  hint: openrtc-probe --pid 4711 --children
4 process 4711 runs CPython 3.16, which is not supported: the layouts of 3.9 to 3.15 are known
  hint: run the worker on CPython 3.9 to 3.15 (not free-threaded)
3 cannot open /usr/bin/python3.11, which process 4711 has mapped: permission denied
  hint: sudo openrtc-probe --pid 4711
4 no safe place for a probe in Context.run: it enters and leaves its context at 3 places, not 2
  hint: this build of the interpreter is not known: run the worker on CPython 3.9 to 3.15 (not free-threaded), or report it with the output of `openrtc-probe doctor --pid PID`
4 the interpreter's memory is not laid out as expected: PyContext_Type is 56 bytes, expected 48
  hint: this build of the interpreter is not known: run the worker on CPython 3.9 to 3.15 (not free-threaded), or report it with the output of `openrtc-probe doctor --pid PID`
3 missing capability CAP_BPF, needed to load programs into the kernel
  hint: run it with `sudo`, or once `sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_checkpoint_restore+ep $(command -v openrtc-probe)`
3 openrtc-probe runs in a pid namespace of its own: the kernel knows processes by other ids than those seen here
  hint: run it in the host's pid namespace, on the host itself or with `docker run --pid=host --userns=host --privileged ...`
3 this kernel has no type information (/sys/kernel/btf/vmlinux is missing)
  hint: use a kernel from 5.10 on that is built with CONFIG_DEBUG_INFO_BTF=y
3 this kernel cannot probe user space (no `uprobe` performance events)
  hint: use a kernel from 5.10 on that is built with CONFIG_UPROBE_EVENTS=y
3 this kernel does not list the children of a process (/proc/PID/task/TID/children)
  hint: name the workers with --pid, or use a kernel from 5.10 on that is built with CONFIG_PROC_CHILDREN=y
3 openrtc-probe may have 80 files open, and needs 96
  hint: sudo prlimit --nofile=96 openrtc-probe ...
3 openrtc-probe may lock 65536 bytes of memory, and this kernel counts its maps among them
  hint: sudo prlimit --memlock=unlimited openrtc-probe ...
3 process 4711 belongs to user livekit: its memory cannot be read
  hint: sudo openrtc-probe --pid 4711
4 no context variable named `openrtc_session_id` in the worker yet
  hint: start a session in the worker, or name its variable: --session-var NAME
1 no task of process 4711 is of a session AJ_1f3c
  hint: openrtc-probe dump --pid 4711
4 process 4711 has no tasks to go by: it has not imported asyncio yet
  hint: start it when the worker's loop runs, or leave out --tag task-name
3 this machine is aarch64: only x86_64 is supported
  hint: run the probe and the worker on an x86_64 machine
3 the kernel refused the program `run_enter`: the verifier rejects it
  hint: report it with the output of `openrtc-probe doctor`; kernels from 5.10 on should accept it
3 openrtc-probe does not run setuid or setgid: anybody could look into the processes of others with it
  hint: sudo chmod u-s,g-s $(command -v openrtc-probe), and run it with `sudo`
1 cannot read /proc/4711/maps: I/O error
  hint: see that /proc and /sys are mounted, and use `sudo`
";

    #[test]
    fn messages_read_well() {
        let say = |b: &Blocker| format!("{} {b}\n  hint: {}\n", b.exit_code(), b.hint());
        let said = all().iter().map(say).collect::<Vec<_>>().concat();
        assert_eq!(said, GOLDEN, "\n{said}");
    }

    #[test]
    fn each_is_one_line() {
        for blocker in all() {
            assert!(!blocker.to_string().contains('\n') && !blocker.hint().contains('\n'));
        }
    }
}
