//! The worker goes while it is watched, in every way but its own, or stands still: the probe says what it has seen and
//! ends, or goes on, and is never taken in by whoever gets the worker's id next.

use std::{fs, process::Command};

use anyhow::{Result, bail, ensure};
use nix::{
    sys::signal::{
        Signal::{SIGCONT, SIGKILL, SIGSTOP, SIGTERM},
        kill,
    },
    unistd::Pid,
};
use openrtc_tests::{
    cgroup::Group,
    code_pages,
    probe::{PATIENCE, Probe, Record},
    process::Program,
    say,
    setting::{Loop, Setting},
    worker::Worker,
};

/// The id that the kernel gave last, in this pid namespace.
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
/// Others take ids too.
const TRIES: usize = 500;
/// What a worker may have once it is limited: each session takes a few thousand bytes.
const MEMORY_BYTES: u64 = 24 << 20;

const MODES: [&str; 2] = ["exact", "sampled"];

/// It ended well, with a last picture that still has all sessions.
fn said_goodbye(record: &Record, sessions: usize) -> Result<()> {
    let last = record.last();
    ensure!(last.is_final && last.sessions.len() >= sessions, "{last:?}");
    ensure!(record.stderr.len() <= 1, "{:?}", record.stderr);
    Ok(())
}

#[test]
fn killed() -> Result<()> {
    let setting = Setting::from_environment()?;
    for (kind, mode) in Loop::ALL.into_iter().zip(MODES) {
        let words = format!("sessions.py --sessions 6 --truth none --loop {kind}");
        let worker = Worker::start(&setting, setting.usual(), &words)?;
        let mut probe =
            Probe::start(&setting, worker.pid, &format!("--mode {mode} --refresh-rate 5"))?;
        probe.snapshot_where("with all sessions", PATIENCE, |it| it.sessions.len() == 6)?;
        kill(Pid::from_raw(worker.pid), SIGKILL)?;
        said_goodbye(&probe.finish()?, 6)?;
    }
    Ok(())
}

#[test]
fn out_of_memory() -> Result<()> {
    let setting = Setting::from_environment()?;
    let Some(group) = Group::memory() else {
        say::not_run("a worker without memory", "there is no control group to limit it with");
        return Ok(());
    };
    let mut worker = Worker::start(&setting, setting.usual(), "scale.py --sessions 100")?;
    let mut probe = Probe::start(&setting, worker.pid, "--refresh-rate 5")?;
    probe.snapshot_where("with all sessions", PATIENCE, |it| it.sessions.len() == 100)?;
    group.add(worker.pid)?;
    group.limit_memory(MEMORY_BYTES)?;
    worker.say("churn 10000000 10000000")?;
    let record = probe.finish()?;
    ensure!(!worker.is_running()?, "it has not run out of memory");
    said_goodbye(&record, 100)
}

/// As with `kill -STOP`, or in a debugger: pictures go on, nobody used anything meanwhile, and when it goes on so does
/// the account.
#[test]
fn stopped_for_long() -> Result<()> {
    let setting = Setting::from_environment()?;
    for mode in MODES {
        let worker = Worker::start(&setting, setting.usual(), "sessions.py --sessions 6 --hot 1")?;
        let mut probe =
            Probe::start(&setting, worker.pid, &format!("--mode {mode} --refresh-rate 5"))?;
        probe.snapshot_where("with all sessions", PATIENCE, |it| it.sessions.len() == 6)?;
        kill(Pid::from_raw(worker.pid), SIGSTOP)?;
        let stopped = probe.snapshot()?;
        let (from_s, until_s) = (stopped.elapsed_s + 0.5, stopped.elapsed_s + 2.0);
        let first =
            probe.snapshot_where("of a stopped worker", PATIENCE, |it| it.elapsed_s > from_s)?;
        let last = probe.snapshot_where("after a while", PATIENCE, |it| it.elapsed_s > until_s)?;
        let used_s = last.worker.cpu_s - first.worker.cpu_s;
        ensure!(used_s.abs() < 0.01, "{mode}: it used {used_s} s while it was stopped");
        let polls = last.worker.polls;
        ensure!(polls == first.worker.polls, "{mode}: it polled while it was stopped");
        kill(Pid::from_raw(worker.pid), SIGCONT)?;
        probe.snapshot_where("that goes on", PATIENCE, |it| {
            it.worker.cpu_s > last.worker.cpu_s + 0.02 && it.sessions.len() == 6
        })?;
        let record = probe.stop(SIGTERM)?;
        ensure!(record.last().lost.is_empty(), "{mode}: lost {:?}", record.last().lost);
        worker.end()?;
    }
    Ok(())
}

/// The probe sleeps while its worker ends and another process, just such a worker, gets the id.
#[test]
fn its_id_is_given_to_another() -> Result<()> {
    let setting = Setting::from_environment()?;
    for mode in MODES {
        let words = "sessions.py --sessions 6 --truth none";
        let worker = Worker::start(&setting, setting.usual(), words)?;
        let pid = worker.pid;
        let mut probe = Probe::start(&setting, pid, &format!("--mode {mode} --refresh-rate 5"))?;
        probe.snapshot_where("with all sessions", PATIENCE, |it| it.sessions.len() == 6)?;
        let probe_pid = Pid::from_raw(probe.program.pid());
        kill(probe_pid, SIGSTOP)?;
        worker.end_with_words()?;
        let words = "sessions.py --sessions 9 --truth none";
        let mut next = with_pid(pid, || setting.fixture(setting.usual(), words))?;
        next.next(PATIENCE)?;
        kill(probe_pid, SIGCONT)?;
        let record = probe.finish()?;
        said_goodbye(&record, 6)?;
        let most = record.snapshots.iter().map(|it| it.sessions.len()).max();
        ensure!(most == Some(6), "{mode}: it has taken up with the next: {most:?} sessions");
        ensure!(next.is_running()?, "{mode}: the next has died");
        let breakpoints = code_pages::differences(pid)?;
        ensure!(breakpoints.is_empty(), "{mode}: left in the next: {breakpoints:?}");
        next.close_stdin();
        next.wait(PATIENCE)?;
    }
    Ok(())
}

/// Starts a process that gets this id, which nobody has.
fn with_pid(pid: i32, command: impl Fn() -> Command) -> Result<Program> {
    for _ in 0..TRIES {
        fs::write(LAST_PID, (pid - 1).to_string())?;
        let program = Program::start("the next worker", &mut command())?;
        if program.pid() == pid {
            return Ok(program);
        }
        program.signal(SIGKILL)?;
    }
    bail!("the id {pid} cannot be had")
}
