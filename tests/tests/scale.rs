//! Very many sessions at once, and very many over a run: all are there, those that end leave, what has no
//! room is counted and shown, and the daemon stays as large as it was.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal::SIGTERM;
use openrtc_tests::{
    probe::Probe,
    said::{self, Said, Snapshot},
    scale,
    setting::Setting,
    worker::Worker,
};

/// Slots of sessions, less the one of `untagged`.
const SLOTS: usize = 16_383;
/// Short sessions, and how many of them begin each second: so many that each slot is used twice.
const SHORT: u64 = 36_000;
const PER_S: u64 = 1_500;
/// A session that has ended is listed until a walk over the tasks has missed it and one more picture
/// has shown that; both come each second, later where the machine is busy.
const LISTED_S: usize = 6;
/// What the daemon may grow by from the first half of the short sessions to the last one: what an allocator
/// keeps, not what is kept for each.
const GROWTH_BYTES: u64 = 4 << 20;

fn once(setting: &Setting, worker: &Worker) -> Result<Snapshot> {
    let output = setting.probe(worker.pid, "--json --once --interval 2").output()?;
    ensure!(output.status.success(), "{output:?}");
    match said::parse(&String::from_utf8(output.stdout)?, 0)? {
        Said::Snapshot(snapshot) => Ok(*snapshot),
        other => anyhow::bail!("{other:?}"),
    }
}

#[test]
fn ten_thousand_sessions_are_found_and_counted() -> Result<()> {
    let setting = Setting::from_environment()?;
    for interpreter in [setting.usual(), setting.newest()] {
        let worker = Worker::start(&setting, interpreter, "scale.py --polls-per-s 2000")?;
        let snapshot = once(&setting, &worker)?;
        ensure!(snapshot.sessions.len() == 10_000, "sessions: {}", snapshot.sessions.len());
        let is_known = |session: &said::Session| {
            session.is_lower_bound && session.agent.is_some() && session.tenant.is_some()
        };
        let unknown = snapshot.sessions.iter().find(|session| !is_known(session));
        ensure!(unknown.is_none(), "it was there and has names: {unknown:?}");
        let polls: i64 = snapshot.sessions.iter().map(|session| session.usage.polls).sum();
        let all = polls + snapshot.untagged.polls;
        ensure!(polls > 0 && all == snapshot.worker.polls, "{polls}, {snapshot:.200?}");
        ensure!(snapshot.lost.is_empty(), "lost: {:?}", snapshot.lost);
    }
    Ok(())
}

#[test]
fn sessions_that_end_leave_and_every_poll_is_counted() -> Result<()> {
    let setting = Setting::from_environment()?;
    let words = "scale.py --sessions 100 --polls-per-s 0";
    let mut worker = Worker::start(&setting, setting.usual(), words)?;
    let mut probe = Probe::start(&setting, worker.pid, "")?;
    let churned = scale::churn(&mut worker, &mut probe, SHORT, PER_S)?;
    let lost = &churned.last.lost;
    ensure!(lost.is_empty(), "lost: {lost:?}");
    ensure!(
        churned.callbacks > SHORT as i64 && churned.polls == churned.callbacks,
        "{} callbacks, {} polls",
        churned.callbacks,
        churned.polls
    );
    let most = 100 + PER_S as usize * LISTED_S;
    ensure!((101..=most).contains(&churned.most_listed), "{} were listed", churned.most_listed);
    let [then, now] = churned.memory;
    let grown_bytes = now.rss_bytes.saturating_sub(then.rss_bytes);
    ensure!(grown_bytes <= GROWTH_BYTES, "it grew by {grown_bytes} bytes to {now:?}");
    ensure!(now.kernel_bytes == then.kernel_bytes, "maps are made once: {then:?}, {now:?}");
    probe.stop(SIGTERM).map(drop)
}

#[test]
fn what_has_no_room_is_counted_and_shown() -> Result<()> {
    let setting = Setting::from_environment()?;
    let words = "scale.py --sessions 17000 --polls-per-s 3000";
    let worker = Worker::start(&setting, setting.usual(), words)?;
    let snapshot = once(&setting, &worker)?;
    ensure!(snapshot.sessions.len() == SLOTS, "sessions: {}", snapshot.sessions.len());
    let lost = |cause: &str| snapshot.lost.get(cause).copied().unwrap_or(0);
    ensure!(lost("sessions_unlisted") == 17_000 - SLOTS as i64, "lost: {:?}", snapshot.lost);
    // Losses count since the programs stood, polls since the first look.
    let homeless = (lost("sessions_full"), snapshot.untagged.polls);
    ensure!(homeless.0 > 0 && homeless.1 > 0, "lost, untagged: {homeless:?}");
    let listed: i64 = snapshot.sessions.iter().map(|session| session.usage.polls).sum();
    ensure!(listed + snapshot.untagged.polls == snapshot.worker.polls, "{listed}");
    let output = setting.probe(worker.pid, "--once").output().context("running openrtc-probe")?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(text.contains("sessions_unlisted 617"), "it is not shown");
    Ok(())
}
