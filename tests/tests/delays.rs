//! How long polls take and loops do not answer, beside the worker's own word; a threshold that changes
//! while the probe runs; sessions that have ended.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use openrtc_probe::model::{Histogram, Snapshot, Stall};
use openrtc_tests::{
    driver::{Driver, demand, of},
    probe::PATIENCE,
    setting::{Loop, Setting},
    worker::Worker,
};
use serde_json::Value;

/// The threshold that fixtures are looked at with at first.
const THRESHOLD_NS: u64 = 50_000_000;
const BLOCKS: u64 = 30;
const BLOCK_MS: u64 = 45;
const REST_MS: u64 = 15;
/// From so long on a poll is one that blocked: where an octave begins.
const LONG_NS: u64 = 1 << 25;
/// What a class of lengths leaves open, of the length.
const CLASS_RATIO: f64 = 0.07;
/// What surrounds a block in its poll.
const AROUND_NS: f64 = 1.5e6;

/// From one question to the next whether the worker has said something.
const LOOK: Duration = Duration::from_millis(50);
/// After so long the end of a stall is told, whether its loop has caught up or not.
const SETTLED: Duration = Duration::from_millis(1100);

/// The whole numbers of a list.
fn numbers(object: &Value, name: &str) -> Result<Vec<u64>> {
    let list = object[name].as_array().with_context(|| format!("no list {name:?}"))?;
    list.iter().map(|number| Ok(number.as_i64().context("no number")?.max(0) as u64)).collect()
}

/// How many took `ns` or longer; an octave begins there.
fn from(histogram: &Histogram, ns: u64) -> u64 {
    let long = histogram.buckets.iter().filter(|bucket| bucket.least_ns >= ns);
    long.map(|bucket| bucket.count).sum()
}

/// What is exceeded for so much of the time, by the definition: of a poll of `d` there are `d - x` in which
/// it has more than `x` to go.
fn delay_ns(walls_ns: &[u64], time_ns: f64, share: f64) -> f64 {
    let exceeded = |x: f64| walls_ns.iter().map(|wall| (*wall as f64 - x).max(0.0)).sum::<f64>();
    let (mut least, mut most) = (0.0, 1e10);
    for _ in 0..60 {
        let middle = f64::midpoint(least, most);
        if exceeded(middle) > share * time_ns { least = middle } else { most = middle }
    }
    if exceeded(0.0) <= share * time_ns { 0.0 } else { least }
}

#[test]
fn lengths_of_polls_and_the_delay_of_the_loop_are_what_the_worker_measured() -> Result<()> {
    let setting = Setting::from_environment()?;
    for kind in Loop::ALL {
        let words = format!("delays.py --loop {kind}");
        let mut worker = Worker::start(&setting, setting.usual(), &words)?;
        let mut driver = Driver::attach(&worker)?;
        driver.fleet.focus(Some(&(driver.pid(), "AJ_blocks".into())));
        worker.say(&format!("block AJ_blocks {BLOCKS} {BLOCK_MS} {REST_MS}"))?;
        let all = |picture: &Snapshot| {
            let focus = picture.focus.as_ref();
            focus.is_some_and(|focus| from(&focus.polls, LONG_NS) >= BLOCKS)
        };
        driver.until("with all blocks", PATIENCE, all)?;
        let walls_ns = numbers(&worker.word("blocked")?, "walls_ns")?;
        let picture = driver.picture()?;
        check_lengths(&picture).with_context(|| format!("{kind}: {picture:?}"))?;
        check_delay(&picture, &walls_ns).with_context(|| kind.to_string())?;
    }
    Ok(())
}

/// Every poll of the session is in its histogram, those that blocked are where they belong, and half of them
/// slept.
fn check_lengths(picture: &Snapshot) -> Result<()> {
    let focus = picture.focus.as_ref().context("nothing is in focus")?;
    let polls = demand(&picture.sessions, "AJ_blocks")?.usage.polls;
    ensure!(focus.polls.count() == polls, "{polls} polls");
    // The one that only says so may have had to wait for a CPU.
    let (long, slept) = (from(&focus.polls, LONG_NS), from(&focus.off_cpu, LONG_NS));
    ensure!((BLOCKS..=BLOCKS + 1).contains(&long), "{long} long polls");
    ensure!((BLOCKS / 2..=BLOCKS / 2 + 1).contains(&slept), "{slept} polls that slept");
    Ok(())
}

fn check_delay(picture: &Snapshot, walls_ns: &[u64]) -> Result<()> {
    let told = picture.worker.loop_delay.context("no delay")?;
    let longest_ns = demand(&picture.sessions, "AJ_blocks")?.usage.longest_poll_ns;
    let longest_ns = longest_ns.max(picture.untagged.usage.longest_poll_ns);
    ensure!(told.max_ns == longest_ns, "the longest poll took {longest_ns} ns: {told:?}");
    let time_ns = picture.elapsed_ns as f64;
    for (share, told_ns) in [(0.5, told.p50_ns), (0.01, told.p99_ns)] {
        let true_ns = delay_ns(walls_ns, time_ns, share);
        let open_ns = CLASS_RATIO * longest_ns as f64 + AROUND_NS;
        let told_ns = told_ns.context("polls were sampled")? as f64;
        let what = format!("{told_ns} ns are told for {share}, the blocks make {true_ns}");
        ensure!((told_ns - true_ns).abs() <= open_ns, "{what}: {walls_ns:?} in {time_ns}");
    }
    Ok(())
}

/// Has a session block; how long each block took, once all that there is to tell of them was told.
fn block(worker: &mut Worker, driver: &mut Driver, id: &str, ms: u64) -> Result<Vec<u64>> {
    worker.say(&format!("block {id} 6 {ms} 20"))?;
    let end = Instant::now() + PATIENCE;
    let said = loop {
        driver.look_on(LOOK);
        match worker.word_within("blocked", Duration::from_millis(1)) {
            Err(_) if Instant::now() < end => {}
            said => break said?,
        }
    };
    driver.look_on(SETTLED);
    numbers(&said, "walls_ns")
}

/// How many stalls a session has.
fn stalls(driver: &mut Driver, id: &str, threshold_ns: u64) -> Result<u64> {
    let picture = driver.picture()?;
    ensure!(picture.threshold_ns == threshold_ns, "threshold {}", picture.threshold_ns);
    let listed = of(&picture.sessions, id).or_else(|| of(&picture.ended, id));
    let session = listed.with_context(|| format!("no session {id}: {picture:?}"))?;
    Ok(session.usage.stalls)
}

/// Has a new session block: it must have as many stalls as it had blocks over the threshold.
fn check_stalls(
    worker: &mut Worker,
    driver: &mut Driver,
    id: &str,
    threshold_ns: u64,
) -> Result<u64> {
    let walls_ns = block(worker, driver, id, 30)?;
    let told = stalls(driver, id, threshold_ns)?;
    let over = |ns: u64| walls_ns.iter().filter(|wall| **wall >= ns).count() as u64;
    let most = over(threshold_ns - 2 * AROUND_NS as u64);
    let is_right = (over(threshold_ns)..=most).contains(&told);
    ensure!(is_right, "{id}: {told} stalls at {threshold_ns}, blocks {walls_ns:?}");
    Ok(told)
}

#[test]
fn the_threshold_can_be_changed_while_the_probe_runs() -> Result<()> {
    const LOWER_NS: u64 = 20_000_000;
    let setting = Setting::from_environment()?;
    let mut worker = Worker::start(&setting, setting.usual(), "delays.py")?;
    let mut driver = Driver::attach(&worker)?;
    let before = check_stalls(&mut worker, &mut driver, "AJ_before", THRESHOLD_NS)?;
    driver.fleet.set_stall_threshold(LOWER_NS);
    let lower = check_stalls(&mut worker, &mut driver, "AJ_lower", LOWER_NS)?;
    ensure!(lower == 6, "each block is longer: {lower}");
    let is_told =
        |stall: &&Stall| !stall.ongoing && stall.session_id.as_deref() == Some("AJ_lower");
    let told = driver.stalls.iter().filter(is_told).count() as u64;
    ensure!(told == lower, "{told} of {lower} were told: {:?}", driver.stalls);
    ensure!(stalls(&mut driver, "AJ_before", LOWER_NS)? == before, "it did nothing meanwhile");
    driver.fleet.set_stall_threshold(THRESHOLD_NS);
    check_stalls(&mut worker, &mut driver, "AJ_after", THRESHOLD_NS)?;
    ensure!(stalls(&mut driver, "AJ_lower", THRESHOLD_NS)? == lower, "what was told stays");
    Ok(())
}

#[test]
fn sessions_that_have_ended_stay_until_they_come_back() -> Result<()> {
    let setting = Setting::from_environment()?;
    let mut worker = Worker::start(&setting, setting.usual(), "delays.py")?;
    let mut driver = Driver::attach(&worker)?;
    let walls_ns = block(&mut worker, &mut driver, "AJ_ends", 5)?;
    let is_ended = |picture: &Snapshot| of(&picture.ended, "AJ_ends").is_some();
    let picture = driver.until("with what has ended", PATIENCE, is_ended)?;
    ensure!(of(&picture.sessions, "AJ_ends").is_none(), "it is listed too: {picture:?}");
    let row = demand(&picture.ended, "AJ_ends")?;
    let is_whole = row.usage.polls > walls_ns.len() as u64 && row.cpu_ratio.is_none();
    ensure!(is_whole && row.status.as_str() == "ended", "{row:?}");
    let is_back = |picture: &Snapshot| of(&picture.sessions, "AJ_ends").is_some();
    worker.say("block AJ_ends 100 5 5")?;
    let picture = driver.until("with it again", PATIENCE, is_back)?;
    ensure!(of(&picture.ended, "AJ_ends").is_none(), "it lives: {picture:?}");
    Ok(())
}
