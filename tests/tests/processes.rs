//! Several workers in one run: named ones, and those that a process starts; how each of them comes, is
//! accounted, and goes.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};
use openrtc_tests::{
    code_pages, field, kernel,
    probe::{PATIENCE, Probe},
    process::Program,
    said::{self, Said, Snapshot},
    setting::{Loop, Setting},
    stolen::Stolen,
    truth::Truth,
    worker::Worker,
};
use serde_json::Value;

/// A process may start, import and be found in this time, on a busy machine.
const FOUND: Duration = Duration::from_secs(30);
/// How far the probe may be from a process's own account of a session, both taken over some seconds.
const MOST_WRONG: f64 = 0.03;
/// What the readings of the account at both ends are worth.
const SLACK_S: f64 = 0.004;

/// A parent of job processes.
fn parent(setting: &Setting, words: &str) -> Result<Worker> {
    Worker::start(setting, setting.usual(), &format!("processes.py {words}"))
}

/// Tells the parent to start or fork a job process; its id once it is up.
fn begin(parent: &mut Worker, verb: &str, name: &str) -> Result<i64> {
    parent.say(&format!("{verb} {name}"))?;
    let up: Value = parent.word("up")?;
    ensure!(field::text(&up, "session")? == name, "who is up? {up}");
    field::int(&up, "pid")
}

/// The next snapshot of a process that is as wanted.
fn snapshot_of(
    probe: &mut Probe,
    pid: i64,
    what: &str,
    wanted: impl Fn(&Snapshot) -> bool,
) -> Result<Snapshot> {
    probe.snapshot_where(&format!("of {pid} {what}"), FOUND, |snapshot| {
        snapshot.worker.pid == pid && wanted(snapshot)
    })
}

fn has(id: &'static str) -> impl Fn(&Snapshot) -> bool {
    move |snapshot| snapshot.session(id).is_some()
}

/// Asks a probe to end; its last snapshots, one of each worker that was still there.
fn last_ones(probe: Probe) -> Result<(Vec<Snapshot>, Vec<String>)> {
    probe.program.signal(SIGTERM)?;
    rest(probe)
}

/// What a probe that ends by itself still says.
fn rest(probe: Probe) -> Result<(Vec<Snapshot>, Vec<String>)> {
    let ended = probe.program.finish(PATIENCE)?;
    ensure!(ended.status.success(), "openrtc-probe ended with {}: {ended:?}", ended.status);
    let mut snapshots = Vec::new();
    for line in &ended.stdout {
        if let Said::Snapshot(snapshot) = said::parse(line, 0)? {
            snapshots.push(*snapshot);
        }
    }
    snapshots.retain(|snapshot| snapshot.is_final);
    Ok((snapshots, ended.stderr))
}

fn pids(snapshots: &[Snapshot]) -> BTreeSet<i64> {
    snapshots.iter().map(|snapshot| snapshot.worker.pid).collect()
}

fn no_breakpoint_is_left(pid: i64) -> Result<()> {
    let breakpoints = code_pages::differences(i32::try_from(pid)?)?;
    ensure!(breakpoints.is_empty(), "left in process {pid}: {breakpoints:?}");
    Ok(())
}

/// Equal ids in two workers are two sessions, and the end of one worker is not that of the other.
#[test]
fn two_workers_with_equal_ids() -> Result<()> {
    let setting = Setting::from_environment()?;
    let words = "sessions.py --sessions 3 --hot 1 --block 1 --truth none";
    let one = Worker::start(&setting, setting.usual(), words)?;
    let other = Worker::start(&setting, setting.newest(), words)?;
    let (first, second) = (i64::from(one.pid), i64::from(other.pid));
    let mut probe = Probe::start(&setting, one.pid, &format!("--pid {second} --refresh-rate 5"))?;
    let worked = |snapshot: &Snapshot| {
        snapshot.sessions.len() == 3 && snapshot.sessions.iter().all(|s| s.usage.polls > 20)
    };
    let of_one = snapshot_of(&mut probe, first, "with three sessions", worked)?;
    let of_other = snapshot_of(&mut probe, second, "with three sessions", worked)?;
    let ids = |snapshot: &Snapshot| -> BTreeSet<String> {
        snapshot.sessions.iter().map(|session| session.id.clone()).collect()
    };
    ensure!(ids(&of_one) == ids(&of_other), "{of_one:?} {of_other:?}");
    let mut stalled = BTreeSet::new();
    let both = |stalled: &BTreeSet<i64>| stalled.len() == 2;
    let mut numbers = BTreeSet::new();
    while !both(&stalled) {
        let stall = probe.stall_where("of either", PATIENCE, |stall| stall.ongoing)?;
        ensure!(numbers.insert(stall.id.clone()), "two stalls have the number {}", stall.id);
        stalled.insert(stall.pid);
    }
    ensure!(stalled == BTreeSet::from([first, second]), "{stalled:?}");

    one.end_with_words()?;
    let last = snapshot_of(&mut probe, first, "that is its last", |snapshot| snapshot.is_final)?;
    let all_ended = last.sessions.iter().all(|session| session.status == "ended");
    ensure!(all_ended && last.sessions.len() == 3, "it is gone: {last:?}");
    let later = snapshot_of(&mut probe, second, "after that", worked)?;
    ensure!(!later.is_final, "it goes on: {later:?}");
    other.end_with_words()?;
    let (last, _) = rest(probe)?;
    ensure!(pids(&last) == BTreeSet::from([second]), "{last:?}");
    Ok(())
}

/// Job processes come and go while their parent is followed, and each is accounted by itself.
#[test]
fn job_processes_come_and_go() -> Result<()> {
    let setting = Setting::from_environment()?;
    for (method, kind) in [("forkserver", Loop::Asyncio), ("spawn", Loop::Asyncio)] {
        come_and_go(&setting, &format!("--method {method} --loop {kind}"))
            .with_context(|| format!("{method} on {kind}"))?;
    }
    Ok(())
}

fn come_and_go(setting: &Setting, words: &str) -> Result<()> {
    let mut parent = parent(setting, words)?;
    let early = begin(&mut parent, "start", "AJ_early")?;
    let mut probe = Probe::start(setting, parent.pid, "--children --refresh-rate 5")?;
    let was_there = snapshot_of(&mut probe, early, "with its session", has("AJ_early"))?;
    let session = was_there.demand("AJ_early")?;
    ensure!(session.is_lower_bound, "it was there before: {session:?}");

    let late = begin(&mut parent, "start", "AJ_late")?;
    let stolen = Stolen::start();
    let from = snapshot_of(&mut probe, late, "with its session", has("AJ_late"))?;
    let account_from = mark(&mut parent, "AJ_late", from.at_real_ns)?;
    let to = snapshot_of(&mut probe, late, "some seconds later", |snapshot| {
        snapshot.elapsed_s > from.elapsed_s + 4.0
    })?;
    let account_to = mark(&mut parent, "AJ_late", to.at_real_ns)?;
    agrees([&from, &to], [&account_from, &account_to], stolen.so_far_s())?;
    let session = to.demand("AJ_late")?;
    ensure!(session.mem_is_own && session.mem_mb.is_some_and(|mb| mb > 1.0), "{session:?}");
    // Neither the fork server nor what watches for leaked resources is a worker.
    let seen: BTreeSet<i64> = pids(&probe.snapshots);
    ensure!(seen == BTreeSet::from([early, late]), "{seen:?} and not {early} and {late}");

    parent.say("stop AJ_early")?;
    parent.word("gone")?;
    let last = snapshot_of(&mut probe, early, "that is its last", |snapshot| snapshot.is_final)?;
    ensure!(last.demand("AJ_early")?.status == "ended", "{last:?}");
    snapshot_of(&mut probe, late, "after that", has("AJ_late"))?;
    parent.end_with_words()?;
    let (last, stderr) = rest(probe)?;
    ensure!(pids(&last) == BTreeSet::from([late]) && stderr.is_empty(), "{last:?} {stderr:?}");
    Ok(())
}

/// A job's account as it was at an instant.
fn mark(parent: &mut Worker, name: &str, at_real_ns: i64) -> Result<Truth> {
    parent.say(&format!("mark {name} {at_real_ns}"))?;
    let truth = Truth::parse(parent.word("mark")?)?;
    ensure!(truth.exact, "it was asked too late");
    Ok(truth)
}

/// What was found between two snapshots is what the process's own account says of that time, but for what
/// was stolen from the machine: that is on-CPU to the probe only.
fn agrees([from, to]: [&Snapshot; 2], [began, ended]: [&Truth; 2], stolen_s: f64) -> Result<()> {
    let id = "AJ_late";
    let real_s = (ended.session(id).cpu_ns - began.session(id).cpu_ns) as f64 / 1e9;
    let found_s = to.cpu_s(id) - from.cpu_s(id);
    let slack_s = real_s * MOST_WRONG + SLACK_S;
    let may_be = real_s - slack_s..=real_s + slack_s + stolen_s;
    let is_right = real_s > 0.2 && may_be.contains(&found_s);
    ensure!(is_right, "{found_s:.4} s were found of {real_s:.4} s ({stolen_s:.3} s stolen)");
    let lost = &to.lost;
    ensure!(lost.is_empty(), "lost: {lost:?}");
    Ok(())
}

/// Whoever names only the parent is told of the workers.
#[test]
fn a_parent_says_who_the_workers_are() -> Result<()> {
    let setting = Setting::from_environment()?;
    let mut parent = parent(&setting, "")?;
    let job = begin(&mut parent, "start", "AJ_1")?;
    let output = setting.probe(parent.pid, "--once").output()?;
    let stderr = String::from_utf8(output.stderr)?;
    let pid = parent.pid;
    let note = format!("process {pid} runs no event loop, processes below it do");
    let hint = format!("hint: openrtc-probe --pid {job}, or all of them: --pid {pid} --children");
    let says = stderr.contains(&note) && stderr.contains(&hint);
    ensure!(output.status.success() && says, "{stderr}");

    let python = parent_command(&setting, "processes.py --session AJ_2");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{python}; true")]);
    let mut shell = Program::start("a shell", &mut shell)?;
    let ready = openrtc_tests::worker::object(&shell.next(FOUND)?, "ready")?;
    let worker = field::int(&ready, "pid")?;
    let output = setting.probe(shell.pid(), "--once").output()?;
    let stderr = String::from_utf8(output.stderr)?;
    let hint = format!(
        "hint: openrtc-probe --pid {worker}, or all of them: --pid {} --children",
        shell.pid()
    );
    let says = stderr.contains("is not a Python process") && stderr.contains(&hint);
    ensure!(output.status.code() == Some(4) && says, "{stderr}");

    let mut probe = Probe::start(&setting, shell.pid(), "--children --refresh-rate 5")?;
    snapshot_of(&mut probe, worker, "below a shell", has("AJ_2"))?;
    shell.close_stdin();
    let (last, _) = rest(probe)?;
    ensure!(pids(&last) == BTreeSet::from([worker]), "{last:?}");
    ensure!(shell.wait(PATIENCE)?.success(), "the shell failed");
    Ok(())
}

/// The fixture's command line for a shell, its own stdin kept.
fn parent_command(setting: &Setting, words: &str) -> String {
    let command = setting.fixture(setting.usual(), words);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// A worker that becomes another program ends its rows, and the run where it was the only one.
#[test]
fn a_worker_that_replaces_itself_is_let_go() -> Result<()> {
    let setting = Setting::from_environment()?;
    let mut worker = parent(&setting, "--session AJ_1")?;
    let pid = i64::from(worker.pid);
    let before = kernel::ours()?;
    let mut probe = Probe::start(&setting, worker.pid, "--refresh-rate 5")?;
    let snapshot = snapshot_of(&mut probe, pid, "with its session", has("AJ_1"))?;
    worker.say("exec")?;
    worker.word("ready")?;
    let (last, stderr) = rest(probe)?;
    ensure!(last.len() == 1 && last[0].demand("AJ_1")?.status == "ended", "{last:?}");
    ensure!(last[0].cpu_s("AJ_1") >= snapshot.cpu_s("AJ_1"), "{last:?}");
    let why = format!("process {pid} has replaced itself (exec)");
    ensure!(stderr.first() == Some(&why), "{stderr:?}");
    no_breakpoint_is_left(pid)?;
    kernel::wait_until_nothing_is_left(&before)?;

    // With its children it is followed in its new shape, as soon as that is a worker.
    let mut probe = Probe::start(&setting, worker.pid, "--children --refresh-rate 5")?;
    snapshot_of(&mut probe, pid, "with its session", has("AJ_1"))?;
    worker.say("exec")?;
    snapshot_of(&mut probe, pid, "that is its last", |snapshot| snapshot.is_final)?;
    worker.word("ready")?;
    snapshot_of(&mut probe, pid, "as another program", has("AJ_1"))?;
    worker.say("sleep")?;
    snapshot_of(&mut probe, pid, "that is its last", |snapshot| snapshot.is_final)?;
    let (last, _) = last_ones(probe)?;
    ensure!(last.is_empty(), "nobody was left: {last:?}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker.pid), SIGKILL)?;
    Ok(())
}

/// A fork has the worker's breakpoints in its memory: neither of them minds, and none is left.
#[test]
fn a_fork_of_a_worker_lives_on() -> Result<()> {
    let setting = Setting::from_environment()?;
    for words in ["--refresh-rate 5", "--refresh-rate 5 --children"] {
        let mut worker = parent(&setting, "--session AJ_parent")?;
        let pid = i64::from(worker.pid);
        let mut probe = Probe::start(&setting, worker.pid, words)?;
        snapshot_of(&mut probe, pid, "with its session", has("AJ_parent"))?;
        let child = begin(&mut worker, "fork", "AJ_child")?;
        if words.contains("children") {
            let from = snapshot_of(&mut probe, child, "with its session", has("AJ_child"))?;
            let worked = |snapshot: &Snapshot| snapshot.cpu_s("AJ_child") > 0.1;
            let to = snapshot_of(&mut probe, child, "at work", worked)?;
            // Its memory holds the parent's tasks too, but nobody runs them.
            let is_own = to.cpu_s("AJ_parent") == 0.0 && to.elapsed_s > from.elapsed_s;
            ensure!(is_own, "the parent's session is not the child's: {to:?}");
        }
        let of_parent = snapshot_of(&mut probe, pid, "after the fork", |snapshot| {
            snapshot.cpu_s("AJ_parent") > 0.2
        })?;
        ensure!(of_parent.session("AJ_child").is_none(), "it is not its own: {of_parent:?}");
        ensure!(of_parent.lost.is_empty(), "lost: {:?}", of_parent.lost);
        last_ones(probe)?;
        no_breakpoint_is_left(pid)?;
        no_breakpoint_is_left(child)?;
        worker.say("stop AJ_child")?;
        let gone = worker.word("gone")?;
        ensure!(field::int(&gone, "pid")? == child, "{gone}");
        worker.end_with_words()?;
    }
    Ok(())
}

/// Where one cannot be attached to, the others are not either; and whoever kills the probe gets rid of
/// all of it.
#[test]
fn all_or_nothing() -> Result<()> {
    let setting = Setting::from_environment()?;
    let words = "sessions.py --sessions 3 --truth none";
    let one = Worker::start(&setting, setting.usual(), words)?;
    let other = Worker::start(&setting, setting.usual(), words)?;
    let before = kernel::ours()?;
    let own = std::process::id();
    let output = setting.probe(one.pid, &format!("--pid {own} --once")).output()?;
    let stderr = String::from_utf8(output.stderr)?;
    let error = format!("error: cannot attach to process {own}: process {own} (");
    let says = stderr.starts_with(&error) && stderr.lines().count() == 2;
    ensure!(output.status.code() == Some(4) && says, "{stderr}");
    no_breakpoint_is_left(one.pid.into())?;
    kernel::wait_until_nothing_is_left(&before)?;

    let mut probe = Probe::start(&setting, one.pid, &format!("--pid {}", other.pid))?;
    snapshot_of(&mut probe, one.pid.into(), "at all", |_| true)?;
    snapshot_of(&mut probe, other.pid.into(), "at all", |_| true)?;
    for pid in [one.pid, other.pid] {
        ensure!(!code_pages::differences(pid)?.is_empty(), "nothing is in process {pid}");
    }
    probe.program.signal(SIGKILL)?;
    probe.program.wait(PATIENCE)?;
    kernel::wait_until_nothing_is_left(&before)?;
    for worker in [one, other] {
        no_breakpoint_is_left(worker.pid.into())?;
        worker.end_with_words()?;
    }
    Ok(())
}
