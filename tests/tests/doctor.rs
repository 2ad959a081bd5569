//! What `openrtc-probe doctor` finds on this machine, in live workers, and where something is missing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal::SIGKILL;
use openrtc_tests::{
    field, kernel,
    probe::PATIENCE,
    process::Program,
    say,
    setting::{Interpreter, Loop, Setting},
    worker::Worker,
};
use serde_json::Value;

/// Documented in `docs/output.md`, in this order.
const HOST: &[&str] = &[
    "kernel",
    "arch",
    "btf",
    "uprobe_events",
    "cap_bpf",
    "cap_perfmon",
    "cap_sys_ptrace",
    "cap_sys_admin",
    "cap_checkpoint_restore",
    "cap_dac_read_search",
    "bpf",
    "uprobe",
    "sched_events",
    "lockdown",
    "ptrace_scope",
    "seccomp",
    "pid_namespace",
    "user_namespace",
    "mount_namespace",
    "perf_event_paranoid",
    "unprivileged_bpf",
    "bpf_stats",
    "memlock",
    "cpus",
    "cpu_limit",
];
const WORKER: &[&str] = &[
    "process",
    "worker_namespaces",
    "worker_cpu_limit",
    "interpreter",
    "python",
    "site_run_enter",
    "site_run_exit",
    "site_context_enter",
    "site_context_exit",
    "site_var_set",
    "site_var_reset",
    "tags_remembered",
    "layout",
    "threads",
    "loops",
    "session_var",
    "agent_var",
    "tenant_var",
    "sessions",
];
const SELF_TEST: &[&str] = &["self_test", "self_test_sessions", "self_test_cpu", "self_test_stall"];

#[derive(Debug)]
struct Check {
    status: String,
    found: String,
    hint: String,
}

#[derive(Debug)]
struct Report {
    code: Option<i32>,
    ids: Vec<String>,
    checks: BTreeMap<String, Check>,
}

impl Report {
    /// Runs the doctor with `--json`, and reads what it says: one line, nothing on stderr.
    fn of(mut command: Command) -> Result<Self> {
        let before = kernel::ours()?;
        let output = command.arg("--json").stdin(Stdio::null()).output()?;
        let report = Self::read(&output).with_context(|| format!("{command:?}: {output:?}"))?;
        kernel::wait_until_nothing_is_left(&before)?;
        Ok(report)
    }

    fn read(output: &std::process::Output) -> Result<Self> {
        ensure!(output.stderr.is_empty(), "it said something on stderr");
        let said: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(field::text(&said, "type")? == "doctor" && field::int(&said, "schema")? == 1);
        let code = output.status.code();
        ensure!(code.map(i64::from) == Some(field::int(&said, "exit_code")?), "exit code {code:?}");
        let list = said["checks"].as_array().context("no checks")?;
        let (mut ids, mut checks) = (Vec::new(), BTreeMap::new());
        for it in list {
            let id = field::text(it, "id")?;
            let hint = it["hint"].as_str().unwrap_or_default().to_owned();
            let (status, found) = (field::text(it, "status")?, field::text(it, "found")?);
            checks.insert(id.clone(), Check { status, found, hint });
            ids.push(id);
        }
        Ok(Self { code, ids, checks })
    }

    fn check(&self, id: &str) -> Result<&Check> {
        self.checks.get(id).with_context(|| format!("no check {id}"))
    }

    /// That a check has this status, and that these words are in what was found.
    fn is(&self, id: &str, status: &str, words: &[&str]) -> Result<()> {
        let check = self.check(id)?;
        let fits = check.status == status && words.iter().all(|word| check.found.contains(word));
        ensure!(fits, "{id} is not {status} with {words:?}: {check:?}");
        Ok(())
    }

    fn all_are(&self, ids: &[&str], status: &str) -> Result<()> {
        ids.iter().try_for_each(|id| self.is(id, status, &[]))
    }

    fn failed(&self) -> Vec<&str> {
        let failed = self.ids.iter().filter(|id| self.checks[*id].status == "FAIL");
        failed.map(String::as_str).collect()
    }
}

fn doctor(program: impl AsRef<Path>, pid: Option<i32>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.arg("doctor");
    if let Some(pid) = pid {
        command.args(["--pid", &pid.to_string()]);
    }
    command
}

/// A folder of one test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("openrtc-doctor-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It is in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A folder for `PATH`, in which `python3` is this one. A link would forget which virtual environment it
/// belongs to; a shell that becomes it does not.
fn only_python(python: &Path) -> Result<Folder> {
    let folder = Folder::new()?;
    let file = folder.0.join("python3");
    fs::write(&file, format!("#!/bin/sh\nexec {} \"$@\"\n", python.display()))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// Of every interpreter and loop, and the self-test on every interpreter.
#[test]
fn a_worker_that_can_be_observed_is_well() -> Result<()> {
    let setting = Setting::from_environment()?;
    setting.on_each(|interpreter, kind| {
        let words = format!("sessions.py --sessions 3 --truth none --loop {kind}");
        let worker = Worker::start(&setting, interpreter, &words)?;
        let path = only_python(&setting.python(interpreter)?)?;
        let mut command = doctor(setting.probe_file(), Some(worker.pid));
        command.env("PATH", &path.0);
        let report = Report::of(command)?;
        ensure!(report.code == Some(0) && report.failed().is_empty(), "{report:?}");
        ensure!(report.ids == [HOST, WORKER, SELF_TEST].concat(), "{:?}", report.ids);
        report.is("python", "ok", &[&interpreter.version])?;
        report.is("loops", "ok", &[kind.name(), &format!("on thread {}", worker.pid)])?;
        report.is("session_var", "ok", &["openrtc_session_id"])?;
        report.is("sessions", "ok", &["3 in "])?;
        let sites = WORKER.iter().filter(|id| id.starts_with("site_"));
        sites.into_iter().try_for_each(|id| report.is(id, "ok", &["0x", "; in r"]))?;
        report.is("self_test", "ok", &[&interpreter.version])?;
        report.is("self_test_sessions", "ok", &["doctor-blocks", "doctor-burns"])?;
        // Where a hypervisor takes time, that is told.
        ["self_test_cpu", "self_test_stall"].into_iter().try_for_each(|id| {
            let exact = report.is(id, "ok", &["doctor-b"]);
            exact.or_else(|_| report.is(id, "note", &["taken by the hypervisor"]))
        })
    })
}

/// An upgrade of the distribution replaces the interpreter under a worker that goes on running.
#[test]
fn an_interpreter_that_was_deleted_or_replaced_is_told() -> Result<()> {
    let setting = Setting::from_environment()?;
    let Some(system) = setting.interpreters().iter().find(|it| it.system) else {
        say::not_run("a deleted interpreter", "no interpreter of the distribution");
        return Ok(());
    };
    let folder = Folder::new()?;
    let file = folder.0.join("python3.copy");
    fs::copy(fs::canonicalize(setting.python(system)?)?, &file)?;
    let copied = Interpreter { python: file.clone(), ..system.clone() };
    let worker = Worker::start(&setting, &copied, "sessions.py --sessions 3")?;
    let examine = || -> Result<Report> {
        let mut command = doctor(setting.probe_file(), Some(worker.pid));
        command.env("PATH", "/nowhere");
        let report = Report::of(command)?;
        ensure!(report.code == Some(0), "{report:?}");
        report.is("sessions", "ok", &["3 in "])?;
        Ok(report)
    };
    examine()?.is("interpreter", "ok", &["python3.copy"])?;
    fs::remove_file(&file)?;
    examine()?.is("interpreter", "note", &["python3.copy (deleted)"])?;
    fs::write(&file, "something else")?;
    examine()?.is("interpreter", "note", &["(deleted)", "another file has its name now"])
}

/// As in a container: ids of its own.
#[test]
fn a_worker_in_a_pid_namespace_is_told_with_its_id_there() -> Result<()> {
    let setting = Setting::from_environment()?;
    let fixture = setting.fixture(setting.usual(), "sessions.py --sessions 3");
    let mut command = Command::new("unshare");
    command.args(["--pid", "--mount", "--fork"]).arg(fixture.get_program());
    let mut container = Program::start("the container", command.args(fixture.get_args()))?;
    container.next(PATIENCE)?;
    let pid = until("unshare has its child", || child_of(container.pid()))?;
    let mut command = doctor(setting.probe_file(), Some(pid));
    command.env("PATH", "/nowhere");
    let report = Report::of(command)?;
    ensure!(report.code == Some(0), "{report:?}");
    let words = ["pid another (there it is 1)", "mount another", "user the same"];
    report.is("worker_namespaces", "ok", &words)?;
    report.is("loops", "ok", &[&format!("on thread {pid}")])?;
    report.is("sessions", "ok", &["3 in "])?;
    container.close_stdin();
    container.wait(PATIENCE).map(|_| ())
}

/// What is given to a reader is what is given to a script.
#[test]
fn the_text_has_every_check() -> Result<()> {
    let setting = Setting::from_environment()?;
    let worker = Worker::start(&setting, setting.usual(), "sessions.py --sessions 3")?;
    let output = doctor(setting.probe_file(), Some(worker.pid)).env("PATH", "/nowhere").output()?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout)?;
    for id in [HOST, WORKER, SELF_TEST].concat() {
        let line = text.lines().find(|line| line.split_whitespace().any(|word| word == id));
        ensure!(line.is_some(), "{id} is not in {text}");
    }
    let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > 80).collect();
    let is_path = |line: &&str| line.contains(" /");
    ensure!(wide.iter().all(is_path), "{wide:?}");
    Ok(())
}

/// Capabilities that are taken from root, the check that names what is missing, and what it was for.
const TAKEN: &[(&str, &str, &str)] = &[
    ("-bpf,-sys_admin", "cap_bpf", "load programs into the kernel"),
    ("-perfmon,-sys_admin", "cap_perfmon", "attach them"),
    ("-sys_ptrace", "cap_sys_ptrace", "read the memory of the worker"),
];

fn without(setting: &Setting, caps: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args([format!("--bounding-set={caps}"), format!("--inh-caps={caps}")]);
    command.arg(setting.probe_file()).arg("doctor");
    command
}

#[test]
fn a_missing_capability_is_named_with_its_purpose() -> Result<()> {
    let setting = Setting::from_environment()?;
    for (caps, id, purpose) in TAKEN {
        let report = Report::of(without(&setting, caps))?;
        ensure!(report.code == Some(3), "{caps}: {report:?}");
        report.is(id, "FAIL", &["missing", purpose])?;
        ensure!(report.check(id)?.hint.contains("setcap"), "{report:?}");
        report.is("self_test", "not run", &[id])?;
        ensure!(report.ids == [HOST, SELF_TEST].concat(), "{:?}", report.ids);
    }
    // What does not keep it from its work is no failure.
    let report = Report::of(without(&setting, "-dac_read_search"))?;
    report.is("cap_dac_read_search", "note", &["missing"])?;
    ensure!(report.code == Some(0), "{report:?}");
    // Whether this kernel asks for it is found out by trying.
    let report = Report::of(without(&setting, "-sys_admin"))?;
    if report.check("uprobe")?.status == "ok" {
        report.is("cap_sys_admin", "ok", &["does not ask for it"])
    } else {
        ensure!(report.failed() == ["cap_sys_admin", "uprobe"], "{report:?}");
        report.is("cap_sys_admin", "FAIL", &["probes to user space"])
    }
}

#[test]
fn what_is_no_worker_fails_and_the_rest_is_not_run() -> Result<()> {
    let setting = Setting::from_environment()?;
    let mut sleep = Program::start("sleep", Command::new("sleep").arg("60"))?;
    let mut command = doctor(setting.probe_file(), Some(sleep.pid()));
    command.env("PATH", "/nowhere");
    let report = Report::of(command)?;
    ensure!(report.code == Some(4) && report.failed() == ["interpreter"], "{report:?}");
    report.is("process", "ok", &["sleep"])?;
    report.is("interpreter", "FAIL", &["is not a Python process"])?;
    report.all_are(&WORKER[4..], "not run")?;
    ensure!(sleep.is_running()?, "it did not survive");

    let mut command = doctor(setting.probe_file(), Some(4_194_303));
    command.env("PATH", "/nowhere");
    let report = Report::of(command)?;
    ensure!(report.code == Some(2) && report.failed() == ["process"], "{report:?}");
    report.all_are(&WORKER[1..], "not run")
}

#[test]
fn without_a_python_of_ours_the_self_test_is_not_run() -> Result<()> {
    let setting = Setting::from_environment()?;
    let mut command = doctor(setting.probe_file(), None);
    command.env("PATH", "/nowhere");
    let report = Report::of(command)?;
    ensure!(report.code == Some(0), "{report:?}");
    ensure!(report.ids == [HOST, SELF_TEST].concat(), "{:?}", report.ids);
    report.all_are(SELF_TEST, "not run")?;
    report.is("self_test", "not run", &["no python3 found"])?;

    let Some(old) = pyenv("3.8.") else {
        say::not_run("a python3 that is too old", "no 3.8 in ~/.pyenv/versions");
        return Ok(());
    };
    let path = only_python(&old)?;
    let mut command = doctor(setting.probe_file(), None);
    command.env("PATH", &path.0);
    let report = Report::of(command)?;
    ensure!(report.code == Some(0), "{report:?}");
    report.is("self_test", "not run", &["not supported"])
}

fn pyenv(version: &str) -> Option<PathBuf> {
    let versions = Path::new(&std::env::var_os("HOME")?).join(".pyenv/versions");
    let mut found = fs::read_dir(versions).ok()?.flatten();
    let named = found.find(|entry| entry.file_name().to_string_lossy().starts_with(version))?;
    Some(named.path().join("bin/python3")).filter(|python| python.is_file())
}

/// A `python3` that does not work is told as such.
#[test]
fn a_python_that_does_not_start_fails_the_self_test() -> Result<()> {
    let setting = Setting::from_environment()?;
    let path = only_python(Path::new("/bin/false"))?;
    let mut command = doctor(setting.probe_file(), None);
    command.env("PATH", &path.0);
    let report = Report::of(command)?;
    ensure!(report.code == Some(1) && report.failed() == ["self_test"], "{report:?}");
    report.is("self_test", "FAIL", &["it ended before it said"])?;
    report.all_are(&SELF_TEST[1..], "not run")
}

#[test]
fn namespaces_of_our_own_are_refused() -> Result<()> {
    let setting = Setting::from_environment()?;
    let own: [(&[&str], &str, &str); 2] = [
        (&["--pid", "--fork", "--mount-proc"], "pid_namespace", "--pid=host"),
        (&["--user", "--map-root-user"], "user_namespace", "--userns=host"),
    ];
    for (words, id, hint) in own {
        let mut command = Command::new("unshare");
        command.args(words).arg(setting.probe_file()).arg("doctor");
        let report = Report::of(command)?;
        ensure!(report.code == Some(3) && report.failed() == [id], "{words:?}: {report:?}");
        ensure!(report.check(id)?.hint.contains(hint), "{report:?}");
        report.all_are(SELF_TEST, "not run")?;
    }
    Ok(())
}

/// However it ends, its own worker ends with it, and nothing is left in the kernel.
#[test]
fn a_killed_doctor_takes_its_worker_with_it() -> Result<()> {
    let setting = Setting::from_environment()?;
    let before = kernel::ours()?;
    let path = only_python(&setting.python(setting.usual())?)?;
    let mut command = doctor(setting.probe_file(), None);
    let mut program = Program::start("openrtc-probe doctor", command.env("PATH", &path.0))?;
    let child = until("it starts its worker", || child_of(program.pid()))?;
    program.signal(SIGKILL)?;
    program.wait(PATIENCE)?;
    until("its worker ends", || is_gone(child).then_some(()))?;
    kernel::wait_until_nothing_is_left(&before)
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A process whose parent is `pid`.
fn child_of(pid: i32) -> Option<i32> {
    let children = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
        let child: i32 = entry.file_name().to_str()?.parse().ok()?;
        (field_of_stat(child, 1)? == pid.to_string()).then_some(child)
    });
    children.into_iter().next()
}

fn is_gone(pid: i32) -> bool {
    field_of_stat(pid, 0).is_none_or(|state| state == "Z")
}

/// A field of `/proc/<pid>/stat` behind the name, which may hold anything.
fn field_of_stat(pid: i32, index: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(index).map(str::to_owned)
}

/// The worker of `--pid` is looked at only: its loop goes on, and its sessions are whole.
#[test]
fn the_worker_goes_on_undisturbed() -> Result<()> {
    let setting = Setting::from_environment()?;
    let words = format!("sessions.py --sessions 3 --loop {}", Loop::Asyncio);
    let mut worker = Worker::start(&setting, setting.usual(), &words)?;
    for _ in 0..3 {
        let mut command = doctor(setting.probe_file(), Some(worker.pid));
        command.env("PATH", "/nowhere");
        let report = Report::of(command)?;
        ensure!(report.code == Some(0), "{report:?}");
    }
    ensure!(worker.is_running()?, "the worker has ended");
    worker.end().map(|_| ())
}
