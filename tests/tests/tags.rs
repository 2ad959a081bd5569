//! Whatever a tag is, its session has a row of its own and the CPU time that it used; and where the
//! name of the tag variable is not unique, the one in use is followed and nothing is silent.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal::SIGTERM;
use openrtc_tests::{
    accuracy::{burns, compare::Accounts, measure},
    probe::{PATIENCE, Probe},
    said::Session,
    setting::{Interpreter, Loop, Setting},
    worker::Worker,
};

const SPAN: Duration = Duration::from_secs(5);
/// Rows of the fixture, untagged left out.
const ROWS: usize = 33;

#[test]
fn every_kind_of_tag_has_its_own_row_and_time() -> Result<()> {
    let setting = Setting::from_environment()?;
    setting.in_turn(|interpreter, kind| {
        let worker = start(&setting, interpreter, kind, "none")?;
        let ready = worker.ready.clone();
        let probe = Probe::start(&setting, worker.pid, &format!("--duration {}", SPAN.as_secs()))?;
        let accounts = measure(worker, probe, SPAN)?;
        every_row_is_right(&accounts)?;
        for session in &accounts.last_snapshot.sessions {
            let listed = |field: &str, text: &str| {
                let list = ready[field].as_array().into_iter().flatten();
                list.filter_map(|one| one.as_str()).any(|one| one == text)
            };
            let ty = if listed("types", &session.id) {
                session.id.trim_matches(|c| c == '<' || c == '>')
            } else {
                "str"
            };
            let is_right = session.id_type.as_deref() == Some(ty)
                && session.is_cut == listed("cut", &session.id);
            ensure!(is_right, "{ty}, {session:?}");
        }
        let lost = &accounts.last_snapshot.lost;
        ensure!(lost.is_empty(), "lost: {lost:?}");
        let vars = accounts.last_snapshot.worker.session_vars;
        ensure!(vars == 1, "{vars} variables of the name");
        Ok(())
    })
}

fn start(setting: &Setting, interpreter: &Interpreter, kind: Loop, second: &str) -> Result<Worker> {
    Worker::start(setting, interpreter, &format!("tags.py --loop {kind} --second {second}"))
}

/// Every row of the worker's account is there, nothing else is, and each has the time that was burnt.
fn every_row_is_right(accounts: &Accounts) -> Result<()> {
    let Accounts { last, last_snapshot, .. } = accounts;
    ensure!(last.sessions.len() == ROWS, "rows: {:?}", last.sessions.keys());
    let wrong = burns::wrong_rows(accounts)?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let is_real = |session: &Session| last.sessions.contains_key(&session.id);
    let invented = last_snapshot.sessions.iter().find(|session| !is_real(session));
    ensure!(invented.is_none(), "it never existed: {invented:?}");
    Ok(())
}

/// Where another variable of the name has the lower address and nobody uses it.
#[test]
fn the_variable_in_use_is_followed() -> Result<()> {
    let setting = Setting::from_environment()?;
    for kind in Loop::ALL {
        let worker = start(&setting, setting.usual(), kind, "unused")?;
        let mut probe = Probe::start(&setting, worker.pid, "")?;
        let snapshot = probe.snapshot()?;
        ensure!(snapshot.sessions.len() == ROWS, "{:?}", snapshot.sessions);
        let said = (snapshot.worker.session_vars, snapshot.worker.tasks_tagged_elsewhere);
        ensure!(said == (2, 0), "variables, tasks elsewhere: {said:?}");
        let stderr = probe.stop(SIGTERM)?.stderr;
        ensure!(stderr.is_empty(), "there is nothing to warn of: {stderr:?}");
    }
    Ok(())
}

/// Where both are in use: the one that most tasks hold, and it is said what is not seen.
#[test]
fn a_second_variable_in_use_is_told() -> Result<()> {
    let setting = Setting::from_environment()?;
    let worker = start(&setting, setting.newest(), Loop::Asyncio, "use")?;
    let mut probe = Probe::start(&setting, worker.pid, "")?;
    let snapshot = probe.snapshot()?;
    ensure!(snapshot.sessions.len() == ROWS, "{:?}", snapshot.sessions);
    let said = (snapshot.worker.session_vars, snapshot.worker.tasks_tagged_elsewhere);
    ensure!(said == (2, 3), "variables, tasks elsewhere: {said:?}");
    let warning = probe.program.find_error("warning: ", PATIENCE)?;
    ensure!(warning.contains("3 tasks hold an id in another"), "{warning}");
    probe.stop(SIGTERM)?;
    let mut command = setting.probe(worker.pid, "--once");
    let output = command.output().context("running openrtc-probe")?;
    let text = String::from_utf8(output.stdout).context("not UTF-8")?;
    ensure!(text.contains("2 session variables have this name"), "{text}");
    Ok(())
}

/// Once nobody uses the followed one any more, the other one is followed.
#[test]
fn the_choice_is_made_anew_when_the_followed_one_is_out_of_use() -> Result<()> {
    let setting = Setting::from_environment()?;
    let mut worker = start(&setting, setting.usual(), Loop::Asyncio, "later")?;
    let mut probe = Probe::start(&setting, worker.pid, "--refresh-rate 5")?;
    let before = probe.snapshot()?;
    ensure!(before.session("AJ_resets").is_some(), "{before:?}");
    worker.say("second")?;
    worker.word("second")?;
    let what = "with the sessions of the second variable at work, and no others";
    probe.snapshot_where(what, PATIENCE, |snapshot| {
        let works = |id| snapshot.session(id).is_some_and(|session| session.usage.polls > 0);
        snapshot.sessions.len() == 3
            && ["AJ_second1", "AJ_second2", "AJ_second3"].iter().all(|id| works(id))
    })?;
    probe.stop(SIGTERM).map(drop)
}
