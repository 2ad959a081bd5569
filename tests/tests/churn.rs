//! Sessions that are replaced all the time: the memory of their ids, contexts and maps is reused at
//! once, and still no time goes to another session.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use openrtc_tests::{
    churn::Watched,
    field,
    probe::{PATIENCE, Probe, Record},
    setting::{Interpreter, Loop, Setting},
    stolen::Stolen,
    truth::Truth,
    worker::Worker,
};

const SPAN: Duration = Duration::from_secs(12);

/// Interrupts may come between the worker's clock and the probe's, around a poll: such time is the
/// worker's alone.
const INTERRUPTED_RATIO: f64 = 0.01;

#[test]
fn no_time_is_charged_to_a_wrong_session() -> Result<()> {
    let setting = Setting::from_environment()?;
    for kind in Loop::ALL {
        for interpreter in [setting.usual(), setting.newest()] {
            let what = || format!("{} on {kind}", interpreter.name);
            let stolen = Stolen::start();
            let (record, truth) = run(&setting, interpreter, kind).with_context(what)?;
            memory_was_reused(&truth).with_context(what)?;
            no_culprit_was_invented(&record, &truth).with_context(what)?;
            the_ended_leave(&record).with_context(what)?;
            each_has_its_own(&record, &truth, kind, stolen.so_far_s()).with_context(what)?;
            let lost = &record.last().lost;
            ensure!(lost.is_empty(), "{}: lost: {lost:?}", what());
        }
    }
    Ok(())
}

fn run(setting: &Setting, interpreter: &Interpreter, kind: Loop) -> Result<(Record, Truth)> {
    let worker = Worker::start(setting, interpreter, &format!("churn.py --loop {kind}"))?;
    let words = format!("--refresh-rate 5 --duration {}", SPAN.as_secs());
    let mut probe = Probe::start(setting, worker.pid, &words)?;
    probe.last_snapshot(SPAN + PATIENCE)?;
    Ok((probe.finish()?, worker.end()?))
}

/// Without that the test would prove nothing.
fn memory_was_reused(truth: &Truth) -> Result<()> {
    let born = field::int(&truth.object, "born")?;
    let id_addresses = field::int(&truth.object, "id_addresses")?;
    ensure!(born > 300 && id_addresses * 2 < born, "{born} ids at {id_addresses} addresses");
    Ok(())
}

fn no_culprit_was_invented(record: &Record, truth: &Truth) -> Result<()> {
    for stall in &record.stalls {
        let is_real = stall.session.as_ref().is_none_or(|id| truth.sessions.contains_key(id));
        ensure!(is_real, "the culprit never existed: {stall:?}");
    }
    Ok(())
}

/// Alive, then shown as ended once, then gone for good.
fn the_ended_leave(record: &Record) -> Result<()> {
    let mut last_shown: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (number, snapshot) in record.snapshots.iter().enumerate() {
        for session in &snapshot.sessions {
            let before = last_shown.insert(&session.id, (number, &session.status));
            ensure!(
                before.is_none_or(|(_, status)| status != "ended"),
                "{} is shown again after it was shown as ended: {session:?}",
                session.id
            );
        }
    }
    let last = record.snapshots.len() - 1;
    for (id, (number, status)) in last_shown {
        ensure!(number == last || status == "ended", "{id} left as {status:?}");
    }
    Ok(())
}

/// The same number of polls, one for one, and the CPU time of these; what does not fit a session must
/// be explained, in all, by what was stolen from it or by interrupts between two clocks.
fn each_has_its_own(record: &Record, truth: &Truth, kind: Loop, stolen_s: f64) -> Result<()> {
    let mut watched = Watched::default();
    record.snapshots.iter().for_each(|picture| watched.see(picture));
    let found = watched.judge(truth, kind);
    let (whole, seen) = (found.whole, found.seen);
    ensure!(whole > 200, "only {whole} of {seen} sessions were seen from begin to end");
    ensure!(found.invented.is_empty(), "never existed: {:?}", found.invented);
    ensure!(found.other_polls.is_empty(), "polls: {}", found.other_polls.join("\n"));
    ensure!(found.lack_one_poll * 50 <= whole, "{} of {whole} lack a poll", found.lack_one_poll);
    let is_explained =
        found.too_much_s <= stolen_s && found.too_little_s <= found.all_s * INTERRUPTED_RATIO;
    ensure!(
        is_explained,
        "{:.6} s too much ({stolen_s:.3} s were stolen), {:.6} s too little, of {:.3} s:\n{}",
        found.too_much_s,
        found.too_little_s,
        found.all_s,
        found.wrong.join("\n")
    );
    Ok(())
}
