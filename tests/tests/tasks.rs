//! With `--tag task-name` each name of tasks has a row of its own and the CPU time of their steps; those
//! that only wait are listed too, and a stall has the name of its task.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use openrtc_tests::{
    accuracy::{burns, compare::Accounts, measure, stalls},
    probe::Probe,
    said::Session,
    setting::{Interpreter, Loop, Setting},
    worker::Worker,
};
use serde_json::Value;

const SPAN: Duration = Duration::from_secs(5);
/// Rows of those that work, untagged left out.
const ROWS: usize = 27;
/// On 3.12 and later, those of eager tasks.
const EAGER_ROWS: usize = 3;

#[test]
fn every_name_of_a_task_has_its_own_row_and_time() -> Result<()> {
    let setting = Setting::from_environment()?;
    setting.in_turn(|interpreter, kind| {
        let (accounts, ready) = look(&setting, interpreter, kind)?;
        let rows = listed(&ready, "rows");
        let known: BTreeSet<_> = accounts.last.sessions.keys().map(String::as_str).collect();
        let expected = ROWS + if interpreter.minor() >= 12 { EAGER_ROWS } else { 0 };
        ensure!(known == rows && rows.len() == expected, "{known:?}, {expected} of {rows:?}");
        let wrong = burns::wrong_rows(&accounts)?;
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        idle_ones_are_listed(&accounts, &listed(&ready, "idle"))?;
        for session in &accounts.last_snapshot.sessions {
            is_as_it_should_be(session, &ready)?;
        }
        stalls_are_named(&accounts)?;
        let lost = &accounts.last_snapshot.lost;
        ensure!(lost.is_empty(), "lost: {lost:?}");
        Ok(())
    })
}

/// Both accounts, and what the worker said of its tasks.
fn look(setting: &Setting, interpreter: &Interpreter, kind: Loop) -> Result<(Accounts, Value)> {
    let worker = Worker::start(setting, interpreter, &format!("tasks.py --loop {kind}"))?;
    let ready = worker.ready.clone();
    let words = format!("--tag task-name --duration {}", SPAN.as_secs());
    let probe = Probe::start(setting, worker.pid, &words)?;
    Ok((measure(worker, probe, SPAN)?, ready))
}

/// The texts of a list in the worker's `ready` line.
fn listed<'a>(ready: &'a Value, field: &str) -> BTreeSet<&'a str> {
    ready[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// They are there from the first picture to the last, and did nothing meanwhile.
fn idle_ones_are_listed(accounts: &Accounts, idle: &BTreeSet<&str>) -> Result<()> {
    ensure!(!idle.is_empty(), "no task is idle");
    for snapshot in [&accounts.first_snapshot, &accounts.last_snapshot] {
        for name in idle {
            let session = snapshot.demand(name)?;
            ensure!(session.usage.polls == 0, "it never ran: {session:?}");
        }
    }
    Ok(())
}

/// It is a name that the worker gave, is marked as cut where it is, and all of it is on the loop's thread.
fn is_as_it_should_be(session: &Session, ready: &Value) -> Result<()> {
    let is_listed = |field| listed(ready, field).contains(session.id.as_str());
    ensure!(is_listed("rows") || is_listed("idle"), "it never existed: {session:?}");
    ensure!(session.is_cut == is_listed("cut"), "{session:?}");
    ensure!(session.usage.offloaded_cpu_s == 0.0, "no task runs elsewhere: {session:?}");
    // A default name is a number up to its first use: what its type is, is the interpreter's affair.
    if !session.id.starts_with("Task-") {
        let is_text = !is_listed("types");
        let ty = if is_text { "str" } else { session.id.trim_matches(['<', '>']) };
        ensure!(session.id_type.as_deref() == Some(ty), "{ty}, {session:?}");
    }
    Ok(())
}

/// The worker's stalls are found, each as that of the task that blocked, and no others.
fn stalls_are_named(accounts: &Accounts) -> Result<()> {
    let tally = stalls::ours(accounts);
    let is_right = tally.real > 0 && tally.found == tally.real && tally.right == tally.found;
    ensure!(is_right && tally.invented == 0, "{tally:?}, {:?}", accounts.stalls);
    Ok(())
}
