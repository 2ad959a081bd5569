//! The anatomy of stalls: the fixture `stalls.py` makes one of each kind, at a known line, and says what it
//! really was; the probe says why, on what and where. Both are compared here.
//!
//! A stall is judged by clocks, not by its name: what the worker's thread clock, the kernel's account of run
//! queues or whoever disturbed it say of it has to be in the class of that.

pub mod hog;
pub mod judge;
pub mod kinds;
pub mod kinds_table;
pub mod marks;
pub mod quota;
pub mod random;
pub mod scratch;
pub mod table;
pub mod truth;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use hog::Hog;
use judge::{Outside, Seen};
use kinds::Expected;
use marks::Marks;
use quota::Quota;
use scratch::Scratch;
use truth::Stalled;

use crate::probe::{PATIENCE, Probe};
use crate::said::Stall;
use crate::setting::{Interpreter, Loop, Setting};
use crate::stolen::Stolen;
use crate::worker::Worker;
use crate::{container, field};

/// How long the worker is stopped.
const STOP: Duration = Duration::from_millis(600);
/// How often a stall is made again that others have made something else of.
const ATTEMPTS: usize = 4;

/// A worker that stalls as it is told, and the probe on it.
#[derive(Debug)]
pub struct Scene {
    /// The worker.
    pub worker: Worker,
    /// The probe.
    pub probe: Probe,
    /// The lines at which the worker stalls.
    pub marks: Marks,
    scratch: Scratch,
    made: usize,
    mended: i64,
}

/// What became of one kind.
#[derive(Debug, Clone)]
pub enum Made {
    /// It was made.
    Seen(Box<Seen>),
    /// This machine cannot, and why.
    NotRun(&'static str),
}

impl Scene {
    /// Starts both; further words are for the fixture and for the probe.
    pub fn start(
        setting: &Setting,
        interpreter: &Interpreter,
        kind: Loop,
        for_fixture: &str,
        for_probe: &str,
    ) -> Result<Self> {
        let marks = Marks::read(&setting.fixtures())?;
        let scratch = Scratch::create(&setting.scratch_folder())?;
        let words = format!("stalls.py --loop {kind} --scratch-fd {} {for_fixture}", scratch::FD);
        let command = setting.fixture(interpreter, &words);
        let worker = Worker::start_with(&mut scratch.handed_to(&command))?;
        let mut probe = Probe::start(setting, worker.pid, for_probe)?;
        probe.snapshot().context("before the first stall")?;
        Ok(Self { worker, probe, marks, scratch, made: 0, mended: 0 })
    }

    /// Whether the kernel kept a switch of the worker's from the probe since this was asked last: then the
    /// probe says of what it was in that it does not know.
    pub fn missed_any(&mut self) -> Result<bool> {
        let mended = self.probe.snapshot()?.mended.values().sum();
        let before = std::mem::replace(&mut self.mended, mended);
        Ok(mended > before)
    }

    /// Makes a stall of a kind; again, when the machine was too busy for it to be what it was to be.
    pub fn make(&mut self, expected: &Expected) -> Result<Made> {
        if self.scratch.is_in_memory() && matches!(expected.kind, "fsync" | "page-fault") {
            return Ok(Made::NotRun("the workspace is on no disk"));
        }
        for _ in 1..ATTEMPTS {
            match self.make_once(expected.kind, expected.ms)? {
                Made::Seen(seen) if !seen.is_as_planned(expected) => {}
                made => return Ok(made),
            }
        }
        self.make_once(expected.kind, expected.ms)
    }

    /// Makes one that nobody has to disturb.
    pub fn stall(&mut self, kind: &str, ms: u32) -> Result<Seen> {
        match self.make_once(kind, ms)? {
            Made::Seen(seen) => Ok(*seen),
            Made::NotRun(why) => anyhow::bail!("{kind}: {why}"),
        }
    }

    fn make_once(&mut self, kind: &str, ms: u32) -> Result<Made> {
        self.made += 1;
        let session = format!("AJ_{kind}-{}", self.made);
        let pid = self.worker.pid;
        let hog = (kind == "cpu-hog").then(|| Hog::start(pid)).transpose()?;
        let quota = if kind == "throttled" { Quota::put_on(pid)? } else { None };
        if kind == "throttled" && quota.is_none() {
            return Ok(Made::NotRun("no control group can limit the CPU here"));
        }
        let stolen = Stolen::start();
        self.worker.say(&format!("stall {kind} {session} {ms}"))?;
        let stopped_ms = if kind == "stopped" { self.stop()? } else { 0.0 };
        let truth = Stalled::parse(&self.worker.word_within("stalled", PATIENCE)?)?;
        let stolen_ms = stolen.so_far_s() * 1e3;
        let throttled_ms = quota.as_ref().map(Quota::kept_ms).transpose()?.unwrap_or(0.0);
        let outside = Outside {
            kept_ms: stopped_ms + throttled_ms,
            hog: hog.as_ref().map(Hog::pid),
            gil_holder: truth.holder_tid.map(|tid| container::host_tid(pid, tid)).transpose()?,
        };
        drop((hog, quota));
        let told = self.told(&session)?;
        ensure!(told.duration_ms >= truth.wall_ms - 1.0, "{} ms of {truth:?}", told.duration_ms);
        let filesystem = self.scratch.filesystem.clone();
        Ok(Made::Seen(Box::new(Seen { truth, told, outside, stolen_ms, filesystem })))
    }

    /// The report of the end of a session's stall.
    pub fn told(&mut self, session: &str) -> Result<Stall> {
        let is_it = |stall: &Stall| !stall.ongoing && stall.session.as_deref() == Some(session);
        if let Some(stall) = self.probe.stalls.iter().rev().find(|stall| is_it(stall)) {
            return Ok(stall.clone());
        }
        let told = self.probe.stall_where("of it", PATIENCE, is_it);
        told.with_context(|| format!("the end of the stall of {session} is not reported"))
    }

    /// Stops the worker for a while, as soon as it says that it stalls; for how long.
    fn stop(&mut self) -> Result<f64> {
        self.worker.word("begun")?;
        let pid = Pid::from_raw(self.worker.pid);
        kill(pid, Signal::SIGSTOP).context("stopping the worker")?;
        std::thread::sleep(STOP);
        kill(pid, Signal::SIGCONT).context("continuing the worker")?;
        Ok(STOP.as_secs_f64() * 1e3)
    }

    /// The thread of the worker's loop, by its id on the host.
    pub fn loop_tid(&self) -> Result<i64> {
        container::host_tid(self.worker.pid, field::int(&self.worker.ready, "loop_tid")?)
    }
}
