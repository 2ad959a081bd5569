//! Faults of every kind around a worker that is watched: whatever is stopped, frozen, moved, killed or has no room,
//! the account stays whole, and what it lacks is counted.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    os::unix::process::ExitStatusExt as _,
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::signal::{
        Signal::{self, SIGCONT, SIGKILL, SIGSTOP, SIGTERM},
        kill,
    },
    unistd::Pid,
};
use openrtc_tests::{
    cgroup::Group,
    churn::Watched,
    code_pages, kernel,
    probe::{PATIENCE, Probe, Record},
    process::Program,
    random::Random,
    say,
    setting::{Interpreter, Loop, Setting, is_all},
    stolen::Stolen,
    truth::Truth,
    worker::Worker,
};

/// With `OPENRTC_TESTS=all`, and without.
const SPANS: [Duration; 2] = [Duration::from_mins(3), Duration::from_secs(12)];
/// Of each kind at least.
const LEAST: u32 = 2;
/// Polls that one of both counts and the other does not, at each end.
const EDGE_POLLS: i64 = 20;
/// Interrupts between two clocks, and the breakpoints of others.
const APART_RATIO: f64 = 0.02;

/// What happens while a probe watches a worker. Of a second probe on the worker, what it makes of it is looked at too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// The worker is stopped, for up to a tenth of a second.
    WorkerStopped,
    /// The same by its control group.
    WorkerFrozen,
    /// The worker may run on one CPU only, now this one, now that.
    WorkerMoved,
    /// The probe is stopped, for up to half a second.
    ProbeStopped,
    /// A second probe is killed, at any moment of its attaching or after.
    OtherKilled,
    /// A second probe is asked to end, at any moment.
    OtherEnded,
    /// A second probe may open a few files only.
    OtherWithoutFiles,
    /// A second probe writes to a full disk.
    OtherOnFullDisk,
    /// A second probe writes to nobody.
    OtherUnread,
    /// A dump is killed, at any moment.
    DumpKilled,
}

const FAULTS: [Fault; 10] = [
    Fault::WorkerStopped,
    Fault::WorkerFrozen,
    Fault::WorkerMoved,
    Fault::ProbeStopped,
    Fault::OtherKilled,
    Fault::OtherEnded,
    Fault::OtherWithoutFiles,
    Fault::OtherOnFullDisk,
    Fault::OtherUnread,
    Fault::DumpKilled,
];

#[test]
fn whatever_happens_nothing_is_lost_unseen() -> Result<()> {
    let setting = Setting::from_environment()?;
    for (seed, (kind, interpreter)) in
        (1..).zip([(Loop::Asyncio, setting.usual()), (Loop::Uvloop, setting.newest())])
    {
        let what = || format!("{} on {kind}, seed {seed}", interpreter.name);
        run(&setting, interpreter, kind, seed).with_context(what)?;
    }
    Ok(())
}

fn run(setting: &Setting, interpreter: &Interpreter, kind: Loop, seed: u64) -> Result<()> {
    let before = kernel::ours()?;
    let stolen = Stolen::start();
    let mut worker = Worker::start(setting, interpreter, &format!("churn.py --loop {kind}"))?;
    let mut probe = Probe::start(setting, worker.pid, "--refresh-rate 5")?;
    let first = probe.snapshot()?;
    let from = worker.mark(first.attached_real_ns())?;
    let mut chaos = Chaos::new(setting, &worker, &probe, seed);
    let (began, span) = (Instant::now(), SPANS[usize::from(!is_all())]);
    // All of them in turn, so that none is left out; when and for how long is random.
    let faults = chaos.possible();
    for fault in faults.iter().cycle() {
        let is_enough = faults.iter().all(|fault| chaos.count(*fault) >= LEAST);
        if is_enough && began.elapsed() > span {
            break;
        }
        chaos.inflict(*fault)?;
        ensure!(worker.is_running()?, "the worker has died");
    }
    let counts = std::mem::take(&mut chaos.counts);
    drop(chaos);
    let record = probe.stop(SIGTERM)?;
    let to = worker.mark(record.last().at_real_ns)?;
    let found = whole(&record, &from, &to, kind, stolen.so_far_s())?;
    let faults: u32 = counts.values().sum();
    say::note(&format!("{} on {kind}: {faults} faults, {found}; {counts:?}", interpreter.name));
    let breakpoints = code_pages::differences(worker.pid)?;
    ensure!(breakpoints.is_empty(), "left in the worker: {breakpoints:?}");
    kernel::wait_until_nothing_is_left(&before)?;
    worker.end()?;
    Ok(())
}

/// What inflicts faults, and how often each.
struct Chaos<'s> {
    setting: &'s Setting,
    worker: i32,
    probe: i32,
    group: Option<Group>,
    cpus: CpuSet,
    random: Random,
    counts: BTreeMap<Fault, u32>,
}

impl<'s> Chaos<'s> {
    fn new(setting: &'s Setting, worker: &Worker, probe: &Probe, seed: u64) -> Self {
        let group = Group::freezer();
        if group.is_none() {
            say::not_run("freezing", "there is no control group to do it with");
        }
        let cpus = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        Self {
            setting,
            worker: worker.pid,
            probe: probe.program.pid(),
            group,
            cpus,
            random: Random::of(seed),
            counts: BTreeMap::new(),
        }
    }

    /// Those that this machine can inflict.
    fn possible(&self) -> Vec<Fault> {
        let is_possible = |fault: &Fault| *fault != Fault::WorkerFrozen || self.group.is_some();
        FAULTS.into_iter().filter(is_possible).collect()
    }

    fn count(&self, fault: Fault) -> u32 {
        self.counts.get(&fault).copied().unwrap_or(0)
    }

    fn within(&mut self, most_ms: u64) -> Duration {
        Duration::from_micros(self.random.below(most_ms * 1000))
    }

    fn inflict(&mut self, fault: Fault) -> Result<()> {
        let before = self.count(fault);
        self.fault(fault).with_context(|| format!("{fault:?}, after {before} of its kind"))?;
        *self.counts.entry(fault).or_default() += 1;
        Ok(())
    }

    fn fault(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::WorkerStopped => {
                let span = self.within(100);
                stop_for(self.worker, span)
            }
            Fault::WorkerFrozen => self.freeze(),
            Fault::WorkerMoved => self.move_worker(),
            Fault::ProbeStopped => {
                let span = self.within(500);
                stop_for(self.probe, span)
            }
            Fault::OtherKilled => self.end_other(SIGKILL),
            Fault::OtherEnded => self.end_other(SIGTERM),
            Fault::OtherWithoutFiles => self.without_files(),
            Fault::OtherOnFullDisk => {
                let output = self
                    .once()
                    .stdout(OpenOptions::new().write(true).open("/dev/full")?)
                    .output()?;
                says(&output, &[1], "No space left on device")
            }
            Fault::OtherUnread => self.unread(),
            Fault::DumpKilled => self.kill_dump(),
        }
    }

    fn freeze(&mut self) -> Result<()> {
        let span = self.within(100);
        let group = self.group.as_ref().context("there is no group")?;
        group.add(self.worker)?;
        group.freeze_for(span)
    }

    /// Onto one of the CPUs that we may use ourselves.
    fn move_worker(&mut self) -> Result<()> {
        let usable: Vec<usize> =
            (0..CpuSet::count()).filter(|cpu| self.cpus.is_set(*cpu).unwrap_or(false)).collect();
        let mut one = CpuSet::new();
        one.set(usable[self.random.below(usable.len() as u64) as usize])?;
        sched_setaffinity(Pid::from_raw(self.worker), &one)?;
        sleep(self.within(50));
        Ok(sched_setaffinity(Pid::from_raw(self.worker), &self.cpus)?)
    }

    fn other(&self) -> Command {
        self.setting.probe(self.worker, "--json --refresh-rate 10")
    }

    fn once(&self) -> Command {
        self.setting.probe(self.worker, "--json --once --interval 0.1")
    }

    fn end_other(&mut self, signal: Signal) -> Result<()> {
        let other = Program::start("a second probe", &mut self.other())?;
        sleep(self.within(400));
        other.signal(signal)?;
        let ended = other.finish(PATIENCE)?;
        let status = ended.status;
        // Before it listens for it, SIGTERM ends it as it ends everybody.
        let is_good =
            status.signal() == Some(signal as i32) || (signal == SIGTERM && status.success());
        ensure!(is_good, "{ended:?}");
        Ok(())
    }

    /// It works, or says in a line or two that it cannot: with so few as cannot even start a program, by its loader.
    fn without_files(&mut self) -> Result<()> {
        let limit = 3 + self.random.below(117);
        let once = self.once();
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={limit}:{limit}")).arg(once.get_program());
        let output = command.args(once.get_args()).stdin(Stdio::null()).output()?;
        match output.status.code() {
            Some(0) => Ok(()),
            Some(127) => says(&output, &[127], "shared object"),
            _ => says(&output, &[3], "files open"),
        }
        .with_context(|| format!("{limit} files"))
    }

    fn unread(&mut self) -> Result<()> {
        let mut other = self.other().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        sleep(self.within(300));
        drop(other.stdout.take());
        let output = other.wait_with_output()?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        Ok(())
    }

    fn kill_dump(&mut self) -> Result<()> {
        let mut command = Command::new(self.setting.probe_file());
        command.args(["dump", "--pid", &self.worker.to_string()]);
        let dump = Program::start("a dump", &mut command)?;
        sleep(self.within(60));
        dump.signal(SIGKILL)?;
        dump.finish(PATIENCE)?;
        Ok(())
    }
}

fn stop_for(pid: i32, span: Duration) -> Result<()> {
    kill(Pid::from_raw(pid), SIGSTOP)?;
    sleep(span);
    Ok(kill(Pid::from_raw(pid), SIGCONT)?)
}

/// It ended with one of these codes and said why, in two lines at most.
fn says(output: &Output, codes: &[i32], why: &str) -> Result<()> {
    let text = String::from_utf8_lossy(&output.stderr);
    let is_good = output.status.code().is_some_and(|code| codes.contains(&code));
    ensure!(is_good && text.contains(why) && text.lines().count() <= 2, "{output:?}");
    Ok(())
}

/// Each poll is counted or lost, each session has its own, nobody was invented; what was found, in words.
fn whole(record: &Record, from: &Truth, to: &Truth, kind: Loop, stolen_s: f64) -> Result<String> {
    let last = record.last();
    let (made, counted) = (to.polls() - from.polls(), last.worker.polls);
    let lost: i64 = last.lost.values().sum();
    // On uvloop the worker knows of the polls of sessions only.
    let is_whole = kind == Loop::Uvloop || (made - counted - lost).abs() <= EDGE_POLLS;
    ensure!(is_whole, "{made} polls were made, {counted} counted, lost {:?}", last.lost);
    let mut watched = Watched::default();
    record.snapshots.iter().for_each(|picture| watched.see(picture));
    let found = watched.judge(to, kind);
    ensure!(found.invented.is_empty(), "never existed: {:?}", found.invented);
    ensure!(found.whole > 100, "only {} of {} sessions were seen whole", found.whole, found.seen);
    ensure!(found.other_polls.is_empty(), "polls: {}", found.other_polls.join("\n"));
    let is_own = found.too_much_s <= stolen_s + found.all_s * APART_RATIO
        && found.too_little_s <= found.all_s * APART_RATIO;
    ensure!(
        is_own,
        "{:.4} s too much, {:.4} s too little of {:.3} s:\n{}",
        found.too_much_s,
        found.too_little_s,
        found.all_s,
        found.wrong.join("\n")
    );
    Ok(format!(
        "{counted} of {made} polls, lost {:?}; {} sessions from begin to end, {} lack their first poll",
        last.lost, found.whole, found.lack_one_poll
    ))
}
