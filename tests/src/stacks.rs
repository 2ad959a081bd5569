//! What `stacks.py` says of its threads, and what is read of them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use openrtc_probe::{
    cpython::{CodeCache, Frame, GilAt, NsTid, PyThread, Python, Stack},
    worker,
};
use serde_json::Value;

use crate::{
    field,
    setting::{Interpreter, Loop, Setting},
    worker::Worker,
};

/// Bytes of a path that are kept.
const KEPT_BYTES: usize = 512;

/// A fixture that was opened.
pub struct Stacks {
    /// It.
    pub fixture: Worker,
    /// Its memory.
    pub python: Python,
    /// What was read before.
    pub cache: CodeCache,
    open: worker::Worker,
}

/// Function, file and line; what a worker says and what we say is the same.
pub type Place = (String, String, Option<u64>);

/// A thread of the fixture, as it sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtRest {
    /// Its id in the worker's pid namespace.
    pub ns_tid: NsTid,
    /// Innermost first.
    pub places: Vec<Place>,
}

/// Where a spinning thread may be.
pub struct Spinning {
    /// Its id in the worker's pid namespace.
    pub ns_tid: NsTid,
    /// The lines of each function.
    pub lines: BTreeMap<String, BTreeSet<u64>>,
    /// What each line of a function may have called.
    pub calls: BTreeMap<(String, u64), String>,
}

impl Stacks {
    /// Starts the fixture on this interpreter and loop.
    pub fn start(setting: &Setting, interpreter: &Interpreter, on: Loop) -> Result<Self> {
        let words = format!("stacks.py --loop {}", on.name());
        let fixture = Worker::start(setting, interpreter, &words)?;
        let open = worker::Worker::open(fixture.pid)?;
        let python = open.python(&open.interpreter()?, &open.tids()?)?;
        Ok(Self { fixture, python, cache: CodeCache::default(), open })
    }

    /// The thread of this id, as the interpreter knows it.
    pub fn thread(&self, ns_tid: NsTid) -> Result<PyThread> {
        let threads = self.python.threads(&self.open.tids()?)?;
        let found = threads.into_iter().find(|thread| thread.ns_tid == ns_tid);
        found.with_context(|| format!("the interpreter knows no thread {}", ns_tid.0))
    }

    /// What the fixture says now of those at rest, by name.
    pub fn at_rest(&mut self) -> Result<BTreeMap<String, AtRest>> {
        self.fixture.say("rest")?;
        at_rest(&self.fixture.word("rest")?["threads"])
    }

    /// Lets this function spin, and no other.
    pub fn spin(&mut self, name: &str) -> Result<Spinning> {
        self.fixture.say(&format!("spin {name}"))?;
        let said = self.fixture.word("spinning")?;
        let lines = said["lines"].as_object().context("\"lines\" is no object")?;
        let lines = lines.iter().map(|(function, lines)| {
            let lines = lines.as_array().into_iter().flatten().filter_map(Value::as_u64);
            (function.clone(), lines.collect())
        });
        let calls = said["calls"].as_object().context("\"calls\" is no object")?;
        let calls = calls.iter().map(|(at, callee)| {
            let (function, line) = at.rsplit_once(':').context("no line of a call")?;
            let callee = callee.as_str().context("a callee that is no text")?;
            Ok(((function.to_owned(), line.parse()?), callee.to_owned()))
        });
        let ns_tid = ns_tid(&said)?;
        Ok(Spinning { ns_tid, lines: lines.collect(), calls: calls.collect::<Result<_>>()? })
    }

    /// Lets nothing spin any more.
    pub fn stop(&mut self) -> Result<()> {
        self.fixture.say("spin")
    }

    /// The only GIL.
    pub fn gil(&self) -> Result<GilAt> {
        match &self.python.gils()?[..] {
            [gil] => Ok(gil.clone()),
            others => bail!("there is not one GIL: {others:?}"),
        }
    }

    /// The threads in the `ready` line.
    pub fn first_at_rest(&self) -> Result<BTreeMap<String, AtRest>> {
        at_rest(&self.fixture.ready["threads"])
    }

    /// What can spin.
    pub fn spinners(&self) -> Result<Vec<String>> {
        let names = self.fixture.ready["spinners"].as_array().context("no spinners")?;
        Ok(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
    }
}

fn ns_tid(said: &Value) -> Result<NsTid> {
    Ok(NsTid(u32::try_from(field::int(said, "tid")?)?))
}

fn at_rest(said: &Value) -> Result<BTreeMap<String, AtRest>> {
    let threads = said.as_object().context("\"threads\" is no object")?;
    let thread = |said: &Value| -> Result<AtRest> {
        let frames = said["frames"].as_array().context("\"frames\" is no list")?;
        let places = frames.iter().map(place).collect::<Result<_>>()?;
        Ok(AtRest { ns_tid: ns_tid(said)?, places })
    };
    threads.iter().map(|(name, said)| Ok((name.clone(), thread(said)?))).collect()
}

fn place(said: &Value) -> Result<Place> {
    let function = said[0].as_str().context("a function that is no text")?;
    let file = said[1].as_str().context("a file that is no text")?;
    let kept = match file.len().checked_sub(KEPT_BYTES) {
        Some(cut) if cut > 0 => format!("…{}", file.get(cut..).context("a cut character")?),
        _ => file.to_owned(),
    };
    // The line of what comes before a module's first is 0.
    Ok((function.to_owned(), kept, said[2].as_u64().filter(|line| *line > 0)))
}

/// The same of what we read.
pub fn places(stack: &Stack) -> Vec<Place> {
    let place = |frame: &Frame| {
        (frame.function().to_owned(), frame.file().to_owned(), frame.line.map(u64::from))
    };
    stack.frames.iter().map(place).collect()
}

impl Spinning {
    /// Fails where a frame is at a line at which its function cannot be, or where one has called another
    /// that it does not call there. `outer` are the frames that never move.
    pub fn check(&self, stack: &Stack, file: &str, outer: &[Place]) -> Result<()> {
        let places = places(stack);
        let begin =
            places.len().checked_sub(outer.len()).context("its outer frames are missing")?;
        ensure!(places.get(begin..) == Some(outer), "its outer frames are not {outer:?}");
        let own: Vec<_> = places.iter().take(begin).collect();
        for (index, (function, at, line)) in own.iter().copied().enumerate() {
            let Some(line) = *line else { continue };
            if let Some(number) = at.strip_prefix("<cell ").and_then(|rest| rest.strip_suffix('>'))
            {
                check_cell(function, number.parse()?, line)?;
                continue;
            }
            if at != file {
                continue;
            }
            let lines = self.lines.get(function);
            ensure!(
                lines.is_some_and(|lines| lines.contains(&line)),
                "{function} has no line {line}"
            );
            let Some((callee, ..)) = index.checked_sub(1).and_then(|inner| own.get(inner)) else {
                continue;
            };
            let called = self.calls.get(&(function.clone(), line));
            let is_cell = function == "cells" && callee == "<module>";
            ensure!(
                is_cell || called == Some(callee),
                "{function} called {callee} in line {line}, which may call {called:?}"
            );
        }
        Ok(())
    }
}

/// Each cell is made of its number.
fn check_cell(function: &str, number: u64, line: u64) -> Result<()> {
    let first = number % 50 + 1;
    let is_right = match function {
        // Before its first instruction it is in line 1, as all modules.
        "<module>" => line == first || line == first + 2 || line == 1,
        _ => function == format!("cell_{number}") && (line == first || line == first + 1),
    };
    ensure!(is_right, "cell {number} has no {function} in line {line}");
    Ok(())
}
