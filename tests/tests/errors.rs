//! What a user can do something about: one line that says what is wrong, one that says what to type,
//! and an exit code that says whose fault it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use openrtc_tests::{
    kernel,
    nobody::{AS_NOBODY, Copy},
    probe::PATIENCE,
    process::Program,
    refusal, say,
    setting::{Loop, Setting},
    worker::Worker,
};

/// An id that no process has: the greatest that there can be.
const NOBODY: i32 = 4_194_303;
/// `kthreadd`, where this is the first pid namespace.
const KERNEL_THREAD: i32 = 2;

const FAILED_USAGE: i32 = 2;
const FAILED_HOST: i32 = 3;
const FAILED_WORKER: i32 = 4;

/// Runs the probe where it must fail, and looks at how it does: two lines on stderr, the error with
/// these words and a hint, nothing on stdout, this exit code, and nothing left in the kernel.
fn fails(mut command: Command, code: i32, words: &[&str], hint: &str) -> Result<()> {
    let before = kernel::ours()?;
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    refusal::check(&output, code, words, hint).with_context(|| format!("{command:?}"))?;
    kernel::wait_until_nothing_is_left(&before).with_context(|| format!("{command:?}"))
}

/// A child that is no worker; it is killed at the end.
struct Other(Child);

impl Other {
    fn start(program: impl AsRef<Path>, words: &[&str]) -> Result<Self> {
        let mut command = Command::new(program.as_ref());
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn().with_context(|| format!("{command:?}"))?))
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_is_no_worker_is_named() -> Result<()> {
    let setting = Setting::from_environment()?;
    let pid = NOBODY.to_string();
    let words = ["no process has the id", &pid];
    fails(setting.probe(NOBODY, ""), FAILED_USAGE, &words, "pgrep")?;

    let sleep = Other::start("sleep", &["60"])?;
    let words = ["is not a Python process", "sleep"];
    fails(setting.probe(sleep.pid(), ""), FAILED_WORKER, &words, "pgrep")?;

    let worker = Worker::start(&setting, setting.usual(), "steps.py")?;
    let tid = thread_of(worker.pid)?;
    let (pid, number) = (worker.pid.to_string(), tid.to_string());
    let words = [&*number, "is a thread of process", &pid];
    fails(setting.probe(tid, ""), FAILED_USAGE, &words, &format!("--pid {pid}"))?;

    // Nobody waits for it before we have looked at it.
    let zombie = Other::start("true", &[])?;
    becomes_a_zombie(zombie.pid())?;
    fails(setting.probe(zombie.pid(), ""), FAILED_WORKER, &["has exited"], "pgrep")?;

    let name = fs::read_to_string(format!("/proc/{KERNEL_THREAD}/comm")).unwrap_or_default();
    if name.trim() == "kthreadd" {
        let words = ["kernel thread", "kthreadd"];
        fails(setting.probe(KERNEL_THREAD, ""), FAILED_WORKER, &words, "pgrep")?;
    } else {
        say::not_run("a kernel thread", "process 2 is none in this pid namespace");
    }
    Ok(())
}

/// One of its threads that is not its first.
fn thread_of(pid: i32) -> Result<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))?;
    let tids = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok());
    tids.into_iter().find(|tid| *tid != pid).context("the worker has one thread only")
}

fn becomes_a_zombie(pid: i32) -> Result<()> {
    for _ in 0..100 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        if stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    anyhow::bail!("process {pid} does not end")
}

/// In a pid namespace of its own, with this one's `/proc`: says an id that nobody has here, and keeps it
/// until its standard input ends.
const INSIDE: &str = r#"
import os, sys
while True:
    child = os.fork()
    if child == 0:
        if os.path.exists("/proc/%d" % os.getpid()):
            os._exit(0)
        print(os.getpid(), flush=True)
        sys.stdin.read()
        os._exit(1)
    if os.waitpid(child, 0)[1]:
        break
"#;

/// What `docker exec` shows is no id of the host's; whose it is, is told.
#[test]
fn the_id_of_a_container_is_told_by_the_host_s() -> Result<()> {
    let setting = Setting::from_environment()?;
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork"]).arg(setting.python(setting.usual())?).args(["-c", INSIDE]);
    let mut container = Program::start("the container", &mut command)?;
    let inside: i32 = container.next(PATIENCE)?.text.trim().parse()?;
    let here = outside(inside)?;
    let words = [
        format!("no process has the id {inside}"),
        format!("{inside} is the id that process {here} has in its own container"),
    ];
    let words = words.each_ref().map(String::as_str);
    fails(setting.probe(inside, ""), FAILED_USAGE, &words, &format!("--pid {here}"))?;
    // That one exists, and can be looked at: it is a Python without asyncio.
    let output = setting.probe(here, "--once").stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!said.contains("no process"), "{said}");
    container.close_stdin();
    Ok(())
}

/// The id here of the process that has this one inside.
fn outside(inside: i32) -> Result<i32> {
    let ids = fs::read_dir("/proc")?.flatten().filter_map(|entry| {
        let here: i32 = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        (ids.split_whitespace().nth(1)? == inside.to_string()).then_some(here)
    });
    ids.into_iter().next().with_context(|| format!("nobody has the id {inside} inside"))
}

/// There the kernel's ids are not ours: nothing would be seen, so nothing is attached.
#[test]
fn a_probe_in_a_container_s_pid_namespace_is_refused() -> Result<()> {
    let setting = Setting::from_environment()?;
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc"]).arg(setting.probe_file());
    command.args(["--pid", "1"]);
    fails(command, FAILED_HOST, &["pid namespace of its own"], "--pid=host")
}

/// Too old ones are refused by their version.
#[test]
fn an_unsupported_python_is_named() -> Result<()> {
    let setting = Setting::from_environment()?;
    for version in ["3.8", "3.7"] {
        let Some(python) = pyenv(version) else {
            say::not_run(&format!("CPython {version}"), "not in ~/.pyenv/versions");
            continue;
        };
        let process = Other::start(&python, &["-c", "import asyncio; input()"])?;
        has_asyncio(process.pid())?;
        // What exports no version is told by its age and its file.
        let words = ["not supported", "CPython before 3.11", version];
        fails(setting.probe(process.pid(), ""), FAILED_WORKER, &words, "CPython 3.9 to 3.15")?;
    }
    Ok(())
}

fn pyenv(version: &str) -> Option<PathBuf> {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")))?;
    let versions = fs::read_dir(root.join("versions")).ok()?;
    let mut pythons = versions.flatten().filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.starts_with(&format!("{version}.")))
    });
    Some(pythons.next()?.path().join("bin/python3")).filter(|python| python.is_file())
}

/// It is up when its modules are mapped.
fn has_asyncio(pid: i32) -> Result<()> {
    for _ in 0..250 {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        if maps.contains("/_asyncio.") {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    anyhow::bail!("process {pid} does not import asyncio")
}

/// A way to run the probe as somebody who may do less.
struct Weaker {
    setpriv: &'static [&'static str],
    missing: &'static str,
}

const WEAKER: &[Weaker] = &[
    Weaker { setpriv: &[], missing: "CAP_BPF" },
    Weaker { setpriv: &["--inh-caps=+bpf", "--ambient-caps=+bpf"], missing: "CAP_PERFMON" },
    Weaker {
        setpriv: &["--inh-caps=+bpf,+perfmon", "--ambient-caps=+bpf,+perfmon"],
        missing: "CAP_SYS_PTRACE",
    },
];

/// A worker of root's, looked at by somebody who is not root: what he lacks is named.
#[test]
fn a_missing_capability_is_named() -> Result<()> {
    let setting = Setting::from_environment()?;
    let worker = Worker::start(&setting, setting.usual(), "sessions.py --sessions 3")?;
    let probe = Copy::for_everybody(&setting)?;
    for Weaker { setpriv, missing } in WEAKER {
        let mut command = Command::new("setpriv");
        command.args(AS_NOBODY).args(*setpriv).arg(probe.file());
        command.args(["--pid", &worker.pid.to_string()]);
        fails(command, FAILED_HOST, &["missing capability", missing], "sudo")?;
    }
    // Root in name only.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin"]);
    command.arg(probe.file()).args(["--pid", &worker.pid.to_string()]);
    fails(command, FAILED_HOST, &["missing capability", "CAP_BPF"], "setcap")
}

/// Whoever types what the hint says, for a worker of somebody else's, gets what he wants.
#[test]
fn the_capabilities_of_the_hint_are_enough() -> Result<()> {
    let setting = Setting::from_environment()?;
    let probe = Copy::for_everybody(&setting)?;
    for kind in Loop::ALL {
        let words = format!("sessions.py --sessions 3 --truth none --loop {kind}");
        let worker = Worker::start(&setting, setting.usual(), &words)?;
        let run = |caps: &str| probe.look_once(caps, worker.pid, &[]);
        let refused = String::from_utf8(run("-all")?.stderr)?;
        let caps = capabilities_in(&refused).with_context(|| format!("none in {refused}"))?;
        let output = run(&caps)?;
        ensure!(output.status.success() && !output.stdout.is_empty(), "{caps}: {output:?}");
    }
    Ok(())
}

/// `setcap cap_bpf,cap_perfmon+ep` as `setpriv` takes it: `+bpf,+perfmon`.
fn capabilities_in(hint: &str) -> Option<String> {
    let list = hint.split_once("setcap ")?.1.split_once("+ep")?.0;
    let names: Option<Vec<_>> = list.split(',').map(|name| name.strip_prefix("cap_")).collect();
    Some(format!("+{}", names?.join(",+")))
}

/// What cannot be meant, and what the error and the hint say of it.
const USAGE: &[(&[&str], &str, &str)] = &[
    (&[], "missing --pid", "--pid <PID"),
    (&["--pid", "abc"], "must be a process id", "--help"),
    (&["--pid", "1", "--sort", "size"], "there is no \"size\"", "cpu_pct"),
    (&["--pid", "1", "--status", "dead"], "there is no \"dead\"", "slow"),
    (&["--pid", "1", "--refresh-rate", "11"], "from 0.5 to 10", "--help"),
    (&["--pid", "1", "--slow-session-threshold-ms", "0"], "from 1 to", "--help"),
    (&["--pid", "1", "--interval", "2"], "--interval needs --once", "--once"),
    (&["--pid", "1", "--once", "--duration", "2"], "--duration", "--interval"),
    (&["--pid", "1", "--session-var", ""], "--session-var is empty", "ContextVar"),
    (&["--pid", "1", "--pid", "1"], "--pid 1 is given twice", "each worker once"),
    (&["--pid", "1", "--jsno"], "unknown argument", "--json"),
];

#[test]
fn a_command_line_that_cannot_be_meant_is_refused() -> Result<()> {
    let setting = Setting::from_environment()?;
    for (words, error, hint) in USAGE {
        let mut command = Command::new(setting.probe_file());
        command.args(*words);
        fails(command, FAILED_USAGE, &[error], hint)?;
    }
    Ok(())
}
