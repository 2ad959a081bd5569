//! A worker whose memory cannot be trusted: it overwrites its own structures while it is watched.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use openrtc_tests::{
    field,
    probe::PATIENCE,
    process::{Ended, Program},
    say,
    scale::Memory,
    setting::{Loop, Setting},
    worker::Worker,
};
use serde_json::Value;

const SPAN: Duration = Duration::from_secs(4);
/// In that time at least; it is some thousand a second.
const FAULTS: i64 = 500;
/// More than what a view needs.
const GROWN_BYTES: u64 = 8 << 20;
const END: Duration = Duration::from_secs(20);

#[test]
fn a_worker_that_scribbles_over_itself_is_survived() -> Result<()> {
    let setting = Setting::from_environment()?;
    let mut seed = 0;
    setting.in_turn(|interpreter, kind| {
        for mode in ["exact", "sampled"] {
            seed += 1;
            let words = format!("scribble.py --loop {kind} --seed {seed}");
            let mut worker = Worker::start(&setting, interpreter, &words)?;
            let last = watch(&setting, &worker, mode)
                .with_context(|| format!("{} on {kind}, {mode}, seed {seed}", interpreter.name))?;
            dump(&setting, &worker)?;
            ensure!(worker.is_running()?, "the worker has died");
            worker.say("count")?;
            let scribbled = worker.word("scribbled")?;
            let faults = field::int(&scribbled, "faults")?;
            say::note(&format!(
                "{} on {kind}, {mode}: {faults} faults, {}; lost {}",
                interpreter.name, scribbled["kinds"], last["health"]["lost"]
            ));
            ensure!(faults > FAULTS, "{scribbled}");
            works_on(&last, kind)?;
            worker.end_with_words()?;
        }
        Ok(())
    })
}

/// Names of processes and files are bytes of any kind, also of one whose threads are in a container.
#[test]
fn names_that_are_no_text_hide_nothing() -> Result<()> {
    let setting = Setting::from_environment()?;
    let both = [Some(setting.usual()), setting.contained()?];
    for interpreter in both.into_iter().flatten() {
        let worker = Worker::start(&setting, interpreter, "hostile.py")?;
        let sessions = field::int(&worker.ready, "sessions")?;
        for mode in ["exact", "sampled"] {
            let words = format!("--once --json --interval 1 --mode {mode}");
            let output = setting.probe(worker.pid, &words).output()?;
            ensure!(output.status.success() && output.stderr.is_empty(), "{mode}: {output:?}");
            let line = String::from_utf8(output.stdout)?;
            is_harmless(line.trim_end())?;
            let said: Value = serde_json::from_str(&line)?;
            let listed = said["sessions"].as_array().map_or(0, Vec::len);
            ensure!(listed as i64 == sessions, "{mode}: {listed} of {sessions} sessions: {line}");
        }
        worker.end_with_words()?;
    }
    Ok(())
}

/// Reads what the daemon prints: whole lines, in time, none with a control character; the last picture.
fn watch(setting: &Setting, worker: &Worker, mode: &str) -> Result<Value> {
    let words = format!("--json --refresh-rate 4 --mode {mode}");
    let mut probe = Program::start("openrtc-probe", &mut setting.probe(worker.pid, &words))?;
    let read = |probe: &mut Program| {
        let line = probe.next(PATIENCE)?.text;
        is_harmless(&line)?;
        serde_json::from_str::<Value>(&line).with_context(|| format!("no JSON: {line:.200}"))
    };
    let (mut last, end) = (read(&mut probe)?, Instant::now() + SPAN);
    let before = Memory::of(probe.pid())?;
    while Instant::now() < end {
        let said = read(&mut probe)?;
        if said["type"] == "snapshot" {
            last = said;
        }
    }
    let grown = Memory::of(probe.pid())?.rss_bytes.saturating_sub(before.rss_bytes);
    ensure!(grown < GROWN_BYTES, "the daemon has grown by {grown} bytes");
    probe.signal(Signal::SIGTERM)?;
    let Ended { status, stderr, .. } = probe.finish(END)?;
    ensure!(status.success(), "{status}: {stderr:?}");
    stderr.iter().try_for_each(|line| is_harmless(line))?;
    Ok(last)
}

/// Walks of all tasks, whose contexts are being overwritten.
fn dump(setting: &Setting, worker: &Worker) -> Result<()> {
    for _ in 0..5 {
        let mut command = std::process::Command::new(setting.probe_file());
        command.args(["dump", "--json", "--pid", &worker.pid.to_string()]);
        let output = command.output()?;
        ensure!(output.status.code().is_some(), "the dump was killed: {output:?}");
        is_harmless(String::from_utf8(output.stdout)?.trim_end())?;
    }
    Ok(())
}

/// Who did nothing wrong is accounted for.
fn works_on(last: &Value, kind: Loop) -> Result<()> {
    let sessions = last["sessions"].as_array().context("no sessions")?;
    let honest = sessions.iter().find(|it| it["session_id"] == "AJ_honest");
    let honest = honest.with_context(|| format!("{kind}: AJ_honest is missing in {last:.2000}"))?;
    ensure!(field::float(honest, "cpu_seconds")? > 0.02, "{honest}");
    Ok(())
}

fn is_harmless(line: &str) -> Result<()> {
    let odd: Vec<char> = line.chars().filter(|c| c.is_control()).collect();
    ensure!(odd.is_empty(), "{odd:?} in {line:.200}");
    Ok(())
}
