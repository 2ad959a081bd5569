//! How a run ends: by the worker's end, by a signal, by itself, by a reader who has seen enough; and
//! what it prints until then.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal::{self, SIGHUP, SIGINT, SIGTERM};
use openrtc_tests::{
    code_pages, kernel,
    probe::{PATIENCE, Probe, Record},
    said::{self, Said, Session},
    setting::{Loop, Setting},
    stolen::Stolen,
    worker::Worker,
};

/// A worker whose sessions work a little.
fn worker(setting: &Setting) -> Result<Worker> {
    let words = "sessions.py --sessions 6 --hot 1 --hot-burn-us 2000 --block 1";
    Worker::start(setting, setting.usual(), words)
}

#[test]
fn the_worker_ends_while_it_is_watched() -> Result<()> {
    let setting = Setting::from_environment()?;
    for kind in Loop::ALL {
        let words = format!("sessions.py --sessions 6 --truth burn --loop {kind}");
        let worker = Worker::start(&setting, setting.usual(), &words)?;
        let mut probe = Probe::start(&setting, worker.pid, "--refresh-rate 5")?;
        let snapshot = probe.snapshot()?;
        worker.end()?;
        let record = probe.finish()?;
        ensure!(record.last().sessions.len() == 6, "where are they? {:?}", record.last());
        let (before_s, after_s) = (snapshot.worker.cpu_s, record.last().worker.cpu_s);
        ensure!(after_s >= before_s, "its CPU time went back from {before_s} to {after_s}");
    }
    Ok(())
}

#[test]
fn a_signal_ends_it_with_a_last_snapshot() -> Result<()> {
    let setting = Setting::from_environment()?;
    let worker = worker(&setting)?;
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        ends_by(&setting, &worker, signal).with_context(|| signal.as_str())?;
    }
    Ok(())
}

fn ends_by(setting: &Setting, worker: &Worker, signal: Signal) -> Result<()> {
    let before = kernel::ours()?;
    let mut probe = Probe::start(setting, worker.pid, "")?;
    probe.snapshot()?;
    let record = probe.stop(signal)?;
    let finals = record.snapshots.iter().filter(|snapshot| snapshot.is_final).count();
    ensure!(finals == 1, "{finals} snapshots are the last one");
    ensure!(record.stderr.is_empty(), "nobody asked: {:?}", record.stderr);
    // It takes its breakpoints with it; the rest goes when the kernel gets round to it.
    let breakpoints = code_pages::differences(worker.pid)?;
    ensure!(breakpoints.is_empty(), "left in the worker: {breakpoints:?}");
    kernel::wait_until_nothing_is_left(&before)
}

#[test]
fn the_duration_ends_it() -> Result<()> {
    let setting = Setting::from_environment()?;
    let worker = worker(&setting)?;
    let probe = Probe::start(&setting, worker.pid, "--duration 1.5 --refresh-rate 2")?;
    let record = probe.finish()?;
    let elapsed_s = record.last().elapsed_s;
    // It begins to count when it is attached; the picture at its end may have to wait for a CPU.
    ensure!((1.5..2.0).contains(&elapsed_s), "it looked for {elapsed_s} s");
    let count = record.snapshots.len();
    // At 0.5, 1.0 and 1.5 s, where the last may be one with the final one.
    ensure!((3..=4).contains(&count), "{count} snapshots in 1.5 s at 2 Hz");
    Ok(())
}

#[test]
fn json_once_is_one_object() -> Result<()> {
    let setting = Setting::from_environment()?;
    let worker = worker(&setting)?;
    let output = setting.probe(worker.pid, "--json --once --interval 0.5").output()?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout)?;
    ensure!(text.ends_with('\n') && text.lines().count() == 1, "not one line: {text}");
    let Said::Snapshot(snapshot) = said::parse(&text, 0)? else {
        anyhow::bail!("no snapshot: {text}");
    };
    ensure!(snapshot.is_final && snapshot.sessions.len() == 6, "{snapshot:?}");
    ensure!((0.5..1.0).contains(&snapshot.elapsed_s), "{} s", snapshot.elapsed_s);
    Ok(())
}

#[test]
fn once_prints_header_table_and_check_line() -> Result<()> {
    let setting = Setting::from_environment()?;
    let worker = worker(&setting)?;
    let output = setting.probe(worker.pid, "--once --sort cpu_pct").output()?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout)?;
    let hot = worker.ready["hot"][0].as_str().context("no hot session")?;
    let parts = [
        &format!("pid {}  python 3.", worker.pid),
        "loop asyncio",
        "sort cpu_pct",
        // Not the number before it: its column is wider where a row is marked as slow.
        "  session  ",
        "(untagged)",
        "(loop overhead)",
        "(other threads)",
        "accounted ",
        " s CPU  lost: nothing",
    ];
    let mut rest = text.as_str();
    for part in parts {
        let at = rest.find(part).with_context(|| format!("no {part:?} after that in\n{text}"))?;
        rest = &rest[at..];
    }
    // With a mark before its number, where it has stalled.
    let is_first = |line: &&str| line.trim_start_matches('!').starts_with("1 ");
    let first = text.lines().find(is_first).with_context(|| format!("no first in\n{text}"))?;
    ensure!(first.contains(hot), "{hot} is not the first in\n{text}");
    Ok(())
}

/// `openrtc-probe | head -1`: whoever closes the pipe has seen enough.
#[test]
fn a_closed_pipe_is_no_error() -> Result<()> {
    let setting = Setting::from_environment()?;
    let worker = worker(&setting)?;
    let mut command = setting.probe(worker.pid, "--json --refresh-rate 10");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdout = BufReader::new(child.stdout.take().context("no pipe")?);
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    drop(stdout);
    // It finds out at its next line.
    let output = child.wait_with_output()?;
    ensure!(line.starts_with('{') && output.status.success(), "{output:?} after {line}");
    ensure!(output.stderr.is_empty(), "{output:?}");
    Ok(())
}

/// Each has its own account: neither changes what the other counts.
#[test]
fn two_probes_on_one_worker_agree() -> Result<()> {
    let setting = Setting::from_environment()?;
    for kind in Loop::ALL {
        let stolen = Stolen::start();
        let words = format!("sessions.py --sessions 6 --hot 2 --truth burn --loop {kind}");
        let worker = Worker::start(&setting, setting.usual(), &words)?;
        let mut probes = [
            Probe::start(&setting, worker.pid, "--refresh-rate 10")?,
            Probe::start(&setting, worker.pid, "--refresh-rate 10")?,
        ];
        let [first, second] = &mut probes;
        first.snapshot()?;
        second.snapshot()?;
        std::thread::sleep(Duration::from_secs(5));
        let [first, second] = probes.map(|probe| probe.stop(SIGTERM));
        agree(&first?, &second?, stolen.so_far_s()).with_context(|| kind.name())?;
        worker.end()?;
    }
    Ok(())
}

/// Polls of each session between the same two instants, by both. The instants of their pictures are up
/// to a refresh apart, at both ends.
fn agree(first: &Record, second: &Record, stolen_s: f64) -> Result<()> {
    const APART_S: f64 = 0.2;
    const TICK_S: f64 = 0.01;
    for session in &first.last().sessions {
        let id = &session.id;
        let other = second.last().demand(id)?;
        let rate = |session: &Session, record: &Record| {
            session.usage.polls as f64 / record.last().elapsed_s
        };
        let (one, two) = (rate(session, first), rate(other, second));
        let slack = (one + two) * APART_S / first.last().elapsed_s.min(second.last().elapsed_s);
        ensure!((one - two).abs() <= slack, "{id}: {one:.1} and {two:.1} polls a second");
    }
    for record in [first, second] {
        let last = record.last();
        let accounted_pct = last.worker.accounted_pct.context("no accounted_pct")?;
        // What is stolen is on-CPU to the probe, and nothing to the process's clock.
        // A switch that the kernel does not tell is mended to a tick (`health.mended`).
        let slack_pct = 2.0 + 100.0 * TICK_S / last.worker.cpu_s;
        let most_pct = 100.0 + slack_pct + 100.0 * stolen_s / last.worker.cpu_s;
        ensure!(
            (100.0 - slack_pct..=most_pct).contains(&accounted_pct),
            "{accounted_pct} % accounted for"
        );
        ensure!(last.lost.is_empty(), "lost: {:?}", last.lost);
    }
    Ok(())
}

/// `--agent` and `--tenant` keep what they name, `--status` too.
#[test]
fn filters_keep_what_they_name() -> Result<()> {
    let setting = Setting::from_environment()?;
    let worker = worker(&setting)?;
    let count = |words: &str| -> Result<usize> {
        let probe = Probe::start(&setting, worker.pid, &format!("{words} --duration 1.2"))?;
        let record = probe.finish()?;
        Ok(record.last().sessions.len())
    };
    // Six sessions, three agents and two tenants in turn.
    for (words, expected) in
        [("", 6), ("--agent booking", 2), ("--tenant t2", 3), ("--agent sales --tenant t1", 1)]
    {
        let found = count(words)?;
        ensure!(found == expected, "{words}: {found} sessions and not {expected}");
    }
    ensure!(count("--status ended")? == 0, "none has ended");
    Ok(())
}

/// It ends in time also when it is told to before it has said anything.
#[test]
fn a_signal_right_after_the_start_is_heard() -> Result<()> {
    let setting = Setting::from_environment()?;
    let worker = worker(&setting)?;
    for delay_ms in [0, 100, 300, 500] {
        let mut probe = Probe::start(&setting, worker.pid, "--refresh-rate 10")?;
        // Either it has not begun to listen, then the signal ends it; or it has, then it says goodbye.
        let _ = probe.program.next(Duration::from_millis(delay_ms));
        probe.program.signal(SIGTERM)?;
        let ended = probe.program.finish(PATIENCE)?;
        let is_good = ended.status.success() || ended.status.code().is_none();
        ensure!(is_good, "after {delay_ms} ms: {ended:?}");
    }
    Ok(())
}
