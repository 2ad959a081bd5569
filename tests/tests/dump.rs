//! What `openrtc-probe dump` tells of tasks that wait, run or are due, of many sessions, and of tasks that come
//! and go while it looks.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use openrtc_tests::{
    field, kernel, refusal, say,
    setting::{self, Interpreter, Loop, Setting},
    worker::Worker,
};
use serde_json::Value;

/// The files of the fixtures' own code.
const FIXTURES: &[&str] = &["/awaits.py", "/dump.py"];
/// Looks at tasks that come and go.
const LOOKS: usize = 40;
/// Looks of which the shortest and the middle one are told.
const TIMED: usize = 20;

/// A place in a fixture: function and line.
type Place = (String, i64);

fn dump(setting: &Setting, pid: i32, words: &[&str]) -> Command {
    let mut command = Command::new(setting.probe_file());
    command.env("LC_ALL", "C.UTF-8");
    command.args(["dump", "--pid", &pid.to_string()]).args(words).stdin(Stdio::null());
    command
}

/// What it says with `--json`: one line, and nothing on stderr.
fn look(mut command: Command) -> Result<Value> {
    let output = command.arg("--json").output()?;
    let fine = output.status.success() && output.stderr.is_empty();
    ensure!(fine, "{command:?}: {output:?}");
    let said: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(field::text(&said, "type")? == "dump" && field::int(&said, "schema")? == 1);
    Ok(said)
}

/// All tasks with the session that each is listed under.
fn tasks(said: &Value) -> Vec<(Option<String>, &Value)> {
    let sessions = said["sessions"].as_array().into_iter().flatten();
    let of_sessions = sessions.flat_map(|session| {
        let id = field::maybe_text(session, "session_id");
        let tasks = session["tasks"].as_array().into_iter().flatten();
        tasks.map(move |task| (id.clone(), task))
    });
    let untagged = said["untagged"].as_array().into_iter().flatten();
    of_sessions.chain(untagged.map(|task| (None, task))).collect()
}

fn stack(task: &Value) -> Result<Vec<(String, Place)>> {
    let frames = task["stack"].as_array().context("no stack")?.iter();
    let place = |frame: &Value| {
        let place = (field::text(frame, "function")?, field::int(frame, "line")?);
        Ok((field::text(frame, "file")?, place))
    };
    frames.map(place).collect()
}

/// The places of a stack that are in the fixture's own code, innermost first.
fn chain(task: &Value) -> Result<Vec<Place>> {
    let is_own = |file: &String| FIXTURES.iter().any(|own| file.ends_with(own));
    let own = stack(task)?.into_iter().filter(|(file, _)| is_own(file));
    Ok(own.map(|(_, place)| place).collect())
}

/// A list of `[function, line]`.
fn places(list: &Value) -> Result<Vec<Place>> {
    serde_json::from_value(list.clone()).with_context(|| format!("no places: {list}"))
}

/// Runs `test` on every interpreter that is there, on one loop each, in turn; with `OPENRTC_TESTS=all` on
/// both.
fn on_all(setting: &Setting, test: impl Fn(&Interpreter, Loop) -> Result<()>) -> Result<()> {
    let mut failed = Vec::new();
    for (interpreter, turn) in setting.interpreters().iter().zip(Loop::ALL.into_iter().cycle()) {
        for kind in Loop::ALL {
            let is_left_out = kind != turn && !setting::is_all();
            if is_left_out || (kind == Loop::Uvloop && !interpreter.extras.uvloop) {
                continue;
            }
            if let Err(error) = test(interpreter, kind) {
                failed.push(format!("{} on {kind}: {error:#}", interpreter.name));
            }
        }
    }
    ensure!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    Ok(())
}

#[test]
fn every_way_to_wait_is_told_with_its_lines() -> Result<()> {
    let setting = Setting::from_environment()?;
    on_all(&setting, |interpreter, kind| {
        let worker = Worker::start(&setting, interpreter, &format!("awaits.py --loop {kind}"))?;
        let said = look(dump(&setting, worker.pid, &[]))?;
        ensure!(said["loop"].as_str().is_some_and(|it| it.contains(kind.name())), "{said:.300}");
        let listed = tasks(&said);
        let expected = worker.ready["tasks"].as_object().context("no tasks")?;
        let wrong: Vec<_> = expected
            .iter()
            .filter_map(|(name, expected)| {
                let error = is_as_expected(&listed, name, expected).err()?;
                Some(format!("{name}: {error:#}"))
            })
            .collect();
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        threads_are_told(&said, &worker.ready["threads"])?;
        worker.end_with_words().map(|_| ())
    })
}

/// Those that work for a session, and no others.
fn threads_are_told(said: &Value, expected: &Value) -> Result<()> {
    let mut found = BTreeMap::new();
    for session in said["sessions"].as_array().into_iter().flatten() {
        for thread in session["threads"].as_array().context("no threads")? {
            ensure!(thread["stack_complete"] == true && thread["thread"].is_number(), "{thread}");
            found.insert(field::text(session, "session_id")?, chain(thread)?);
        }
    }
    let expected: BTreeMap<String, Vec<Place>> = serde_json::from_value(expected.clone())?;
    ensure!(found == expected, "{found:?}, not {expected:?}");
    Ok(())
}

fn is_as_expected(listed: &[(Option<String>, &Value)], name: &str, expected: &Value) -> Result<()> {
    let mut named = listed.iter().filter(|(_, task)| task["name"] == *name);
    let (session, task) = named.next().context("it is not there")?;
    ensure!(named.next().is_none(), "there are two");
    let fits = |what: &str, is: Value| {
        ensure!(is == expected[what], "{what} is {is}, not {}: {task}", expected[what]);
        Ok(())
    };
    fits("session", session.clone().into())?;
    fits("state", task["state"].clone())?;
    let waits_for = task["waits_for"].get("task").cloned().unwrap_or_default();
    fits("waits_for", waits_for)?;
    let (is, wanted) = (chain(task)?, places(&expected["chain"])?);
    ensure!(is == wanted, "{is:?}, not {wanted:?}: {task}");
    ensure!(task["stack_complete"] == true, "it is not complete: {task}");
    ensure!(task["thread"].is_number() == (task["state"] == "running"), "{task}");
    // Up to 3.10 functions have no qualified names.
    let innermost = stack(task)?.first().map(|(_, (function, _))| function.clone());
    let innermost = innermost.as_deref().and_then(|name| name.rsplit('.').next());
    let wanted = expected["innermost"].as_str();
    ensure!(wanted.is_none() || task["state"] == "running" || innermost == wanted, "{task}");
    let own = task["coroutine"].as_str().context("no coroutine")?;
    ensure!(is.last().is_some_and(|(function, _)| function == own), "{task}");
    Ok(())
}

/// OpenRTC's own variables, where there is the package.
#[test]
fn fifty_sessions_are_told_and_the_one_that_is_stuck() -> Result<()> {
    let setting = Setting::from_environment()?;
    setting.on_each(|interpreter, kind| {
        let words = format!("dump.py --real --sessions 50 --loop {kind}");
        let worker = Worker::start(&setting, interpreter, &words)?;
        let said = look(dump(&setting, worker.pid, &[]))?;
        let sessions = said["sessions"].as_array().context("no sessions")?;
        ensure!(sessions.len() == 50, "{} sessions", sessions.len());
        let by_name = worker.ready["tasks"].as_object().context("no tasks")?;
        let at = marks(&setting, "dump.py")?;
        for session in sessions {
            let id = field::text(session, "session_id")?;
            let kind = field::text(&worker.ready["kinds"], &id)?;
            let expected = by_name[&kind].as_object().context("no tasks of the kind")?;
            let listed = session["tasks"].as_array().context("no tasks")?;
            ensure!(listed.len() == expected.len(), "{id}: {session}");
            for task in listed {
                let marked = places_at(&expected[&field::text(task, "name")?], &at)?;
                is_at(task, &kind, &marked).with_context(|| format!("{id}: {task}"))?;
            }
        }
        let times = timed(|| look(dump(&setting, worker.pid, &[])))?;
        say::note(&format!("{} on {kind}, 50 sessions: {times}", interpreter.name));
        stuck_alone(&setting, worker.pid)
    })
}

/// The lines of a fixture that are marked, by mark.
fn marks(setting: &Setting, fixture: &str) -> Result<BTreeMap<String, i64>> {
    let command = setting.fixture(setting.usual(), fixture);
    let file = command.get_args().next().context("no fixture")?.to_owned();
    let text = std::fs::read_to_string(file)?;
    let mark =
        |(at, line): (i64, &str)| Some((line.split_once("# dump: ")?.1.trim().to_owned(), at));
    Ok((1..).zip(text.lines()).filter_map(mark).collect())
}

/// A chain of `[function, mark]`, outermost first, as places, innermost first.
fn places_at(list: &Value, at: &BTreeMap<String, i64>) -> Result<Vec<Place>> {
    let list: Vec<(String, String)> = serde_json::from_value(list.clone())?;
    let place = |(function, mark): (String, String)| {
        Ok((function, *at.get(&mark).with_context(|| format!("no mark {mark}"))?))
    };
    list.into_iter().rev().map(place).collect()
}

fn is_at(task: &Value, kind: &str, expected: &[Place]) -> Result<()> {
    // Of this one a step may be due, or may run.
    let state = field::text(task, "state")?;
    ensure!(state == "waiting" || kind == "ticking", "it is {state}");
    if state != "unknown" {
        let is = chain(task)?;
        ensure!(is == expected, "{is:?}, not {expected:?}");
    }
    Ok(())
}

/// The shortest and the middle one of several, the start of the process included.
fn timed(run: impl Fn() -> Result<Value>) -> Result<String> {
    let mut times = Vec::new();
    for _ in 0..TIMED {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(format!("{:.1?} at best, {:.1?} in the middle", times[0], times[TIMED / 2]))
}

/// Only the session that is asked for, as JSON and as text.
fn stuck_alone(setting: &Setting, pid: i32) -> Result<()> {
    let said = look(dump(setting, pid, &["--session", "AJ_stuck"]))?;
    let listed = tasks(&said);
    let [(Some(id), task)] = &listed[..] else { return Err(anyhow::anyhow!("{said}")) };
    ensure!(id == "AJ_stuck" && task["state"] == "waiting", "{task}");
    let output = dump(setting, pid, &["--session", "AJ_stuck"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let marked: Vec<_> = text.lines().filter(|line| line.contains('→')).collect();
    ensure!(marked.len() == 1 && marked[0].ends_with("greet"), "{text}");
    ensure!(text.contains("waiting  Event.wait") || text.contains("waiting  wait"), "{text}");
    Ok(())
}

/// Never a chain that no task was in, nor one under another session.
#[test]
fn tasks_that_come_and_go_are_told_right_or_not_at_all() -> Result<()> {
    let setting = Setting::from_environment()?;
    setting.in_turn(|interpreter, kind| {
        let words = format!("awaits.py --loop {kind} --churn 200");
        let worker = Worker::start(&setting, interpreter, &words)?;
        let mut chains = BTreeMap::new();
        for state in ["waiting", "ready"] {
            let listed = worker.ready["chains"][state].as_array().context("no chains")?;
            let listed = listed.iter().map(places).collect::<Result<Vec<_>>>()?;
            chains.insert(state.to_owned(), listed);
        }
        let mut seen = BTreeMap::<String, usize>::new();
        for _ in 0..LOOKS {
            let said = look(dump(&setting, worker.pid, &[]))?;
            for (session, task) in tasks(&said) {
                let Some(id) = session else { continue };
                *seen.entry(field::text(task, "state")?).or_default() += 1;
                is_possible(&id, task, &chains).with_context(|| format!("{id}: {task}"))?;
            }
        }
        say::note(&format!("{} on {kind}: {seen:?}", interpreter.name));
        let (known, all) = (seen.get("waiting"), seen.values().sum::<usize>());
        ensure!(known.is_some() && all > LOOKS, "nothing was seen: {seen:?}");
        worker.end_with_words().map(|_| ())
    })
}

fn is_possible(id: &str, task: &Value, chains: &BTreeMap<String, Vec<Vec<Place>>>) -> Result<()> {
    let name = field::maybe_text(task, "name");
    // Before it is named it has a default name.
    let is_own = |name: &str| name.starts_with("Task-") || format!("AJ_{name}") == id;
    ensure!(name.is_none_or(|name| is_own(&name)), "it is another session's");
    // One that runs may be anywhere.
    let Some(possible) = chains.get(&field::text(task, "state")?) else { return Ok(()) };
    let is = chain(task)?;
    ensure!(possible.contains(&is), "{is:?} is none of {possible:?}");
    Ok(())
}

/// The capabilities that are left to it.
#[test]
fn it_takes_one_capability() -> Result<()> {
    let setting = Setting::from_environment()?;
    let worker = Worker::start(&setting, setting.usual(), "awaits.py")?;
    let before = kernel::ours()?;
    let with = |caps: &str| {
        let mut command = Command::new("setpriv");
        command.args([format!("--bounding-set={caps}"), format!("--inh-caps={caps}")]);
        let dump = dump(&setting, worker.pid, &[]);
        command.arg(dump.get_program()).args(dump.get_args());
        command
    };
    let said = look(with("-all,+sys_ptrace"))?;
    ensure!(said["sessions"].as_array().is_some_and(|all| all.len() > 10), "{said:.300}");
    refusal::check(&with("-all").output()?, 3, &["missing capability CAP_SYS_PTRACE"], "setcap")?;
    kernel::wait_until_nothing_is_left(&before)
}

#[test]
fn what_cannot_be_told_is_an_error_with_a_hint() -> Result<()> {
    let setting = Setting::from_environment()?;
    let worker = Worker::start(&setting, setting.usual(), "awaits.py")?;
    let output = dump(&setting, worker.pid, &["--session", "AJ_nobody"]).output()?;
    let hint = format!("openrtc-probe dump --pid {}", worker.pid);
    refusal::check(&output, 1, &["is of a session AJ_nobody"], &hint)?;
    let output = dump(&setting, 4_194_303, &[]).output()?;
    refusal::check(&output, 2, &["no process has the id"], "pgrep")?;
    let own = std::process::id().cast_signed();
    refusal::check(
        &dump(&setting, own, &[]).output()?,
        4,
        &["is not a Python process"],
        "openrtc-probe",
    )?;
    // By the names of its tasks, each is a session of its own.
    let said = look(dump(&setting, worker.pid, &["--tag", "task-name", "--session", "deep"]))?;
    ensure!(tasks(&said).len() == 1, "{said}");
    no_variable_is_said(&setting)
}

/// All there is is shown all the same.
fn no_variable_is_said(setting: &Setting) -> Result<()> {
    let plain = Worker::start(setting, setting.usual(), "plain.py")?;
    let output = dump(setting, plain.pid, &["--json"]).output()?;
    ensure!(output.status.success(), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(said["session_var_found"] == false && tasks(&said).is_empty(), "{said}");
    let errors = String::from_utf8(output.stderr)?;
    let words = ["no context variable named `openrtc_session_id`", "hint: ", "--session-var NAME"];
    ensure!(words.iter().all(|word| errors.contains(word)), "{errors}");
    Ok(())
}
