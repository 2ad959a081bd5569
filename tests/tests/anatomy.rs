//! Why a worker stalls, on what, at which line, and who had to wait: each kind of stall is told as what it is.

use anyhow::{Context as _, Result, ensure};
use openrtc_tests::{
    anatomy::{Made, Scene, judge, kinds::Expected, kinds_table::KINDS, table},
    said::{Stall, anatomy::Frame},
    say,
    setting::{Interpreter, Loop, Setting},
};

/// Interpreters beside those of all kernel tests: the newest that is released.
const ALSO: &[&str] = &["debian-sid-3.14"];
/// When what goes on is looked at: the probe's default threshold, ten times that, and each five seconds.
const LOOKS_MS: &[f64] = &[50.0, 500.0, 5000.0, 10_000.0, 15_000.0];
/// Sessions with a timer each 10 ms.
const BYSTANDERS: i64 = 12;
/// What the worker's own figure may be over: it sees its bystanders in turn, after the stall.
const LOST: f64 = 0.95;

#[test]
fn each_kind_has_its_cause_its_line_and_its_split() -> Result<()> {
    let setting = Setting::from_environment()?;
    let mut failed = Vec::new();
    let mut note = |interpreter: &Interpreter, kind: Loop| {
        if let Err(error) = all_kinds(&setting, interpreter, kind) {
            failed.push(format!("{} on {kind}: {error:#}", interpreter.name));
        }
        Ok(())
    };
    setting.in_turn(&mut note)?;
    for name in ALSO {
        match setting.chosen(&[(*name).to_owned()]) {
            Ok(found) => Loop::ALL.into_iter().try_for_each(|kind| note(&found[0], kind))?,
            Err(error) if say::in_ci() => return Err(error),
            Err(error) => say::not_run(name, &format!("{error:#}")),
        }
    }
    ensure!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    Ok(())
}

/// Prints the table of all kinds; an error with those that are wrong.
fn all_kinds(setting: &Setting, interpreter: &Interpreter, kind: Loop) -> Result<()> {
    let mut scene = Scene::start(setting, interpreter, kind, "", "")?;
    say::note(&format!("{} on {kind}", interpreter.name));
    say::note(table::head().trim_end());
    let mut wrong = Vec::new();
    for expected in KINDS {
        let (text, is_right) = row(&mut scene, expected);
        say::note(text.trim_end());
        if !is_right {
            wrong.push(text);
        }
    }
    ensure!(wrong.is_empty(), "{} of {} kinds:\n{}", wrong.len(), KINDS.len(), wrong.concat());
    Ok(())
}

/// How often a kind is made again of which the kernel did not tell all.
const ATTEMPTS: usize = 3;

/// The line of a kind, and whether it is right.
fn row(scene: &mut Scene, expected: &Expected) -> (String, bool) {
    let mut row = row_once(scene, expected);
    for _ in 1..ATTEMPTS {
        if row.1 || !scene.missed_any().is_ok_and(|missed| missed) {
            break;
        }
        row = row_once(scene, expected);
    }
    row
}

fn row_once(scene: &mut Scene, expected: &Expected) -> (String, bool) {
    let made = match scene.make(expected) {
        Ok(made) => made,
        Err(error) => return (table::other(expected, &format!("BROKEN: {error}")), false),
    };
    let seen = match made {
        Made::Seen(seen) => seen,
        Made::NotRun(why) => {
            say::not_run(expected.kind, why);
            return (table::other(expected, &format!("not run: {why}")), true);
        }
    };
    let faults = judge::faults(&seen, expected, &scene.marks)
        .unwrap_or_else(|error| vec![format!("{error:#}")]);
    (table::seen(expected, &seen, &scene.marks, &faults), faults.is_empty())
}

#[test]
fn those_who_had_to_wait_are_counted_with_what_they_lost() -> Result<()> {
    Setting::from_environment().and_then(|setting| {
        setting.in_turn(|interpreter, kind| {
            let words = format!("--bystanders {BYSTANDERS}");
            let mut scene = Scene::start(&setting, interpreter, kind, &words, "")?;
            for kind in ["sleep", "python", "lock"] {
                let seen = scene.stall(kind, 200)?;
                let told = seen.told.demand_anatomy()?;
                let real = seen.truth.bystanders.context("the worker counts no bystanders")?;
                let (count, lost_ms) = told
                    .bystanders
                    .zip(told.lost_session_ms)
                    .context("it does not say who had to wait")?;
                // A timer that is due in the last moment of it may be seen as either.
                ensure!((count - real).abs() <= 1, "{kind}: {real} had to wait: {told:?}");
                let least_ms = seen.truth.lost_ms.unwrap_or(0.0) * LOST;
                let most_ms = (real + 1) as f64 * seen.told.duration_ms;
                let is_bound = (least_ms..=most_ms).contains(&lost_ms);
                ensure!(is_bound, "{kind}: {least_ms} to {most_ms} ms were lost: {told:?}");
            }
            Ok(())
        })
    })
}

/// What goes on is looked at again: at ten times the threshold, and each five seconds.
#[test]
fn a_long_stall_is_looked_at_again() -> Result<()> {
    let setting = Setting::from_environment()?;
    for (interpreter, kind) in [(setting.usual(), Loop::Asyncio), (setting.newest(), Loop::Uvloop)]
    {
        let mut scene = Scene::start(&setting, interpreter, kind, "", "")?;
        let seen = scene.stall("long", 11_000)?;
        let told = seen.told.demand_anatomy()?;
        let (first, second) =
            (scene.marks.demand("long.first")?, scene.marks.demand("long.second")?);
        let at: Vec<f64> = told.captures.iter().map(|capture| capture.at_ms).collect();
        ensure!(at.len() >= 4, "11 s were looked at {} times: {told:?}", at.len());
        // Each comes after its time, and before that of the next.
        let is_in_time = at
            .iter()
            .zip(LOOKS_MS.windows(2))
            .all(|(at_ms, window)| (window[0]..window[1]).contains(at_ms));
        ensure!(is_in_time, "{at:?} are not {LOOKS_MS:?}");
        for part in &seen.truth.parts {
            let mark = if part.mark == "long.first" { first } else { second };
            let is_within = |ms: f64| (part.from_ms + 5.0..part.to_ms - 5.0).contains(&ms);
            let during = told.captures.iter().filter(|capture| is_within(capture.at_ms));
            for capture in during {
                let is_there = mark.has(capture.file.as_deref(), capture.line);
                ensure!(is_there, "it was at {}, not at {capture:?}", part.mark);
            }
        }
    }
    Ok(())
}

/// A stack goes from the line that blocks to the beginning of the poll, whatever is between.
#[test]
fn the_stack_is_that_of_the_worker() -> Result<()> {
    Setting::from_environment().and_then(|setting| {
        setting.in_turn(|interpreter, kind| {
            let mut scene = Scene::start(&setting, interpreter, kind, "", "")?;
            // An await chain, a recursion, and a call of the standard library that sleeps.
            let deep = ["deep"].into_iter().chain([DEEP_CALLER; DEEP - 1]).collect::<Vec<_>>();
            stands(&mut scene, "chain", &["chain", "chain.middle", "chain.outer"])?;
            stands(&mut scene, "deep", &deep)?;
            let told = scene.stall("library", 200)?.told;
            let stack = &told.demand_anatomy()?.stack;
            let [innermost, caller, ..] = stack.as_slice() else {
                anyhow::bail!("too few frames: {stack:?}")
            };
            let library = innermost.file.as_deref().unwrap_or_default();
            ensure!(library.ends_with("/sched.py") && !innermost.is_users, "{innermost:?}");
            ensure!(caller.is_users && is_at(&scene, caller, "library")?, "{caller:?}");
            ongoing_too(&scene, &told)
        })
    })
}

/// Calls in the fixture's recursion, and the mark of all but the innermost.
const DEEP: usize = 120;
const DEEP_CALLER: &str = "deep.caller";

/// The stack begins with the frames of these marks, innermost first.
fn stands(scene: &mut Scene, kind: &str, marks: &[&str]) -> Result<()> {
    let told = scene.stall(kind, 200)?.told;
    let anatomy = told.demand_anatomy()?;
    ensure!(anatomy.is_complete, "{kind}: {} frames are not all", anatomy.stack.len());
    ensure!(anatomy.stack.len() > marks.len(), "{kind}: too few: {:?}", anatomy.stack);
    for (frame, mark) in anatomy.stack.iter().zip(marks) {
        ensure!(
            frame.is_users && is_at(scene, frame, mark)?,
            "{kind}: {mark} is told as {frame:?}"
        );
    }
    Ok(())
}

fn is_at(scene: &Scene, frame: &Frame, mark: &str) -> Result<bool> {
    let mark = scene.marks.demand(mark)?;
    Ok(mark.has(frame.file.as_deref(), frame.line) && mark.is_in(frame.function.as_deref()))
}

/// The report of a stall that goes on has its anatomy so far; its line, where it is known, is no other.
fn ongoing_too(scene: &Scene, told: &Stall) -> Result<()> {
    let mut reports = scene.probe.stalls.iter().filter(|stall| stall.id == told.id);
    let first = reports.find(|stall| stall.ongoing).context("it was not told while it went on")?;
    let anatomy = first.demand_anatomy()?;
    if let Some(frame) = anatomy.users() {
        ensure!(is_at(scene, frame, "library")?, "while it went on: {frame:?}");
    }
    Ok(())
}
