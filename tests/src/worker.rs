//! A fixture worker: a Python program that says `word {json}` lines (`tests/fixtures/README.md`).

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{
    container, field,
    process::{Line, Program},
    setting::{Interpreter, Setting},
    truth::Truth,
};

/// How long an interpreter may take to import asyncio, uvloop and `openrtc`, on a busy machine.
const START: Duration = Duration::from_mins(1);
/// How long a worker may take to answer; its loop may be blocked for a while.
const ANSWER: Duration = Duration::from_secs(10);

/// A running fixture worker, whose sessions are up.
#[derive(Debug)]
pub struct Worker {
    program: Program,
    /// Its process id on the host.
    pub pid: i32,
    /// What it said when it was ready.
    pub ready: Value,
}

impl Worker {
    /// Starts a fixture (`sessions.py --loop uvloop`) and waits until it is ready.
    pub fn start(setting: &Setting, interpreter: &Interpreter, words: &str) -> Result<Self> {
        Self::start_with(&mut setting.fixture(interpreter, words))
    }

    /// Starts a fixture with this command, which may be one in a container.
    pub fn start_with(command: &mut Command) -> Result<Self> {
        let mut program = Program::start("the worker", command)?;
        let ready = object(&program.next(START)?, "ready")?;
        let own_pid = i32::try_from(field::int(&ready, "pid")?)?;
        let pid = container::host_pid(program.pid(), own_pid)?;
        Ok(Self { program, pid, ready })
    }

    /// Asks for its account as it was at an instant of the last second.
    pub fn mark(&mut self, at_real_ns: i64) -> Result<Truth> {
        self.say(&format!("mark {at_real_ns}"))?;
        let truth = Truth::parse(self.word("mark")?)?;
        ensure!(truth.exact, "the worker was asked too late for its account at this instant");
        Ok(truth)
    }

    /// Says a line to it.
    pub fn say(&mut self, line: &str) -> Result<()> {
        self.program.say(&format!("{line}\n"))
    }

    /// The object of its next line, which must begin with this word.
    pub fn word(&mut self, word: &str) -> Result<Value> {
        self.word_within(word, ANSWER)
    }

    /// The same, for what takes a while.
    pub fn word_within(&mut self, word: &str, limit: Duration) -> Result<Value> {
        object(&self.program.next(limit)?, word)
    }

    /// The objects of all lines with this word that it says from now on for so long.
    pub fn words_for(&mut self, word: &str, span: Duration) -> Result<Vec<Value>> {
        let end_real_ns = crate::clock::now_real_ns() + i64::try_from(span.as_nanos())?;
        let from_real_ns = crate::clock::now_real_ns();
        let mut found = Vec::new();
        loop {
            let line = self.program.next(ANSWER)?;
            if line.read_at_real_ns > end_real_ns {
                return Ok(found);
            }
            if line.read_at_real_ns > from_real_ns {
                found.push(object(&line, word)?);
            }
        }
    }

    /// The object of the next line with this word; others are left out.
    pub fn skip_to(&mut self, word: &str, limit: Duration) -> Result<Value> {
        let wanted = |line: &Line| Ok(object(line, word).ok());
        self.program.find(word, limit, wanted)
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> Result<bool> {
        self.program.is_running()
    }

    /// Ends it in order; its last account.
    pub fn end(self) -> Result<Truth> {
        Truth::parse(self.end_with_words()?)
    }

    /// Ends it in order; the object of its `truth` line, which is empty for some.
    pub fn end_with_words(mut self) -> Result<Value> {
        self.program.close_stdin();
        let truth = |line: &Line| Ok(object(line, "truth").ok());
        let truth = self.program.find("the worker's truth", ANSWER, truth)?;
        let ended = self.program.finish(ANSWER)?;
        ensure!(ended.status.success(), "the worker ended with {}: {ended:?}", ended.status);
        Ok(truth)
    }
}

/// The object of a `word {json}` line.
pub fn object(line: &Line, word: &str) -> Result<Value> {
    let Some(json) = line.text.strip_prefix(word).and_then(|rest| rest.strip_prefix(' ')) else {
        bail!("the worker said {:.200} and not {word}", line.text);
    };
    serde_json::from_str(json).with_context(|| format!("reading the worker's {word} line"))
}
