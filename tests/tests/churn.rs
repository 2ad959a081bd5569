//! Sessions that are replaced all the time: the memory of their ids, contexts and maps is reused at
//! once, and still no time goes to another session.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use openrtc_tests::{
    field,
    probe::{PATIENCE, Probe, Record},
    said::Session,
    setting::{Interpreter, Loop, Setting},
    stolen::Stolen,
    truth::{self, Truth},
    worker::Worker,
};

const SPAN: Duration = Duration::from_secs(12);

/// How a session's CPU time may differ from the worker's own account of it. Sessions burn different
/// amounts, so a neighbour's time would show.
struct Tolerance {
    /// For each poll, what the probe sees around the worker's measurement.
    per_poll_s: f64,
    /// For each session, whatever it did.
    constant_s: f64,
    /// What the probe's own breakpoints take of each poll, which it does not charge to anybody.
    below_per_poll_s: f64,
}

/// Interrupts may come between the worker's clock and the probe's, around a poll: such time is the
/// worker's alone.
const INTERRUPTED_RATIO: f64 = 0.01;

/// On the stdlib loop the worker measures each callback at its boundary.
const AT_THE_BOUNDARY: Tolerance =
    Tolerance { per_poll_s: 0.000_003, constant_s: 0.000_3, below_per_poll_s: 0.000_010 };
/// On uvloop it measures from just inside it: the start and the end of each are missed, 50 us after
/// an idle wait.
const FROM_INSIDE: Tolerance =
    Tolerance { per_poll_s: 0.000_150, constant_s: 0.000_3, below_per_poll_s: 0.000_010 };

#[test]
fn no_time_is_charged_to_a_wrong_session() -> Result<()> {
    let setting = Setting::from_environment()?;
    for kind in Loop::ALL {
        for interpreter in [setting.usual(), setting.newest()] {
            let what = || format!("{} on {kind}", interpreter.name);
            let stolen = Stolen::start();
            let (record, truth) = run(&setting, interpreter, kind).with_context(what)?;
            memory_was_reused(&truth).with_context(what)?;
            nobody_was_invented(&record, &truth).with_context(what)?;
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

fn nobody_was_invented(record: &Record, truth: &Truth) -> Result<()> {
    for snapshot in &record.snapshots {
        for session in &snapshot.sessions {
            let is_real = truth.sessions.contains_key(&session.id);
            ensure!(is_real, "{:?} never existed", session.id);
        }
    }
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
///
/// A session's first step is untagged until it has tagged itself. Where it has to wait for a CPU just
/// then, for longer than all the rest takes, the poll is untagged's, and the session has one less.
fn each_has_its_own(record: &Record, truth: &Truth, kind: Loop, stolen_s: f64) -> Result<()> {
    let tolerance = if kind == Loop::Uvloop { FROM_INSIDE } else { AT_THE_BOUNDARY };
    let (mut wrong, mut whole, mut seen) = (Vec::new(), 0, 0);
    let (mut too_much_s, mut too_little_s, mut all_s) = (0.0, 0.0, 0.0);
    let mut untagged_first_steps = 0;
    for (id, real) in &truth.sessions {
        let Some(last) = record.last_of(id) else { continue };
        let most_s = most_ever(record, id);
        let (above_s, below_s) = (above(real, &tolerance), below(real, &tolerance));
        let is_whole = was_seen_whole(record, last);
        let mut is_right = most_s <= above_s;
        too_much_s += (most_s - above_s).max(0.0);
        if is_whole {
            is_right &= most_s >= below_s;
            too_little_s += (below_s - most_s).max(0.0);
            let missing = real.polls - last.usage.polls;
            untagged_first_steps += usize::from(missing == 1);
            ensure!((0..=1).contains(&missing), "polls: {last:?}, really {real:?}");
        }
        (whole, seen, all_s) = (whole + usize::from(is_whole), seen + 1, all_s + most_s);
        if !is_right {
            wrong.push(format!("{most_s:.6} s, whole: {is_whole}, {last:?}, really {real:?}"));
        }
    }
    ensure!(whole > 200, "only {whole} of {seen} sessions were seen from begin to end");
    ensure!(untagged_first_steps * 50 <= whole, "{untagged_first_steps} of {whole} lack a poll");
    let is_explained = too_much_s <= stolen_s && too_little_s <= all_s * INTERRUPTED_RATIO;
    ensure!(
        is_explained,
        "{too_much_s:.6} s too much ({stolen_s:.3} s were stolen), {too_little_s:.6} s too little, of \
         {all_s:.3} s:\n{}",
        wrong.join("\n")
    );
    Ok(())
}

/// It began after the first snapshot, and it was shown as ended.
fn was_seen_whole(record: &Record, last: &Session) -> bool {
    let was_early = record.snapshots[0].session(&last.id).is_some();
    !was_early && !last.is_lower_bound && last.status == "ended"
}

fn most_ever(record: &Record, id: &str) -> f64 {
    let shown = record.snapshots.iter().filter_map(|snapshot| snapshot.session(id));
    shown.map(|session: &Session| session.usage.cpu_s).fold(0.0, f64::max)
}

fn above(real: &truth::Session, tolerance: &Tolerance) -> f64 {
    real.cpu_ns as f64 / 1e9 + tolerance.constant_s + real.polls as f64 * tolerance.per_poll_s
}

fn below(real: &truth::Session, tolerance: &Tolerance) -> f64 {
    real.cpu_ns as f64 / 1e9 - tolerance.constant_s - real.polls as f64 * tolerance.below_per_poll_s
}
