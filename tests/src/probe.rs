//! The daemon, attached to a worker and printing JSON Lines.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::{
    process::Program,
    said::{self, Said, Session, Snapshot, Stall},
    setting::Setting,
};

/// How long the daemon may take to attach, and to end, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of a snapshot that an error quotes.
const QUOTED: usize = 20_000;

/// A running daemon, and all that was read of it.
#[derive(Debug)]
pub struct Probe {
    /// The process.
    pub program: Program,
    /// Every snapshot read.
    pub snapshots: Vec<Snapshot>,
    /// Every report of a stall read.
    pub stalls: Vec<Stall>,
}

impl Probe {
    /// Starts it with `--json` on a process.
    pub fn start(setting: &Setting, pid: i32, words: &str) -> Result<Self> {
        Self::start_with(setting.probe(pid, words).arg("--json"))
    }

    /// Starts it with this command, which has `--json` in it.
    pub fn start_with(command: &mut Command) -> Result<Self> {
        let program = Program::start("openrtc-probe", command)?;
        Ok(Self { program, snapshots: Vec::new(), stalls: Vec::new() })
    }

    /// Reads one line, and keeps it.
    fn read(&mut self, limit: Duration) -> Result<Said> {
        let line = self.program.next(limit)?;
        let said = said::parse(&line.text, line.read_at_real_ns)?;
        match &said {
            Said::Snapshot(snapshot) => self.snapshots.push((**snapshot).clone()),
            Said::Stall(stall) => self.stalls.push((**stall).clone()),
            Said::Other => bail!("openrtc-probe printed {:.200}", line.text),
        }
        Ok(said)
    }

    /// The next snapshot.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        self.snapshot_where("that is the next", PATIENCE, |_| true)
    }

    /// Reads on until a snapshot is as wanted.
    pub fn snapshot_where(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Snapshot) -> bool,
    ) -> Result<Snapshot> {
        let deadline = Instant::now() + limit;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            if let Said::Snapshot(snapshot) = self.read(left)?
                && wanted(&snapshot)
            {
                return Ok(*snapshot);
            }
        }
        let mut last = format!("{:?}", self.snapshots.last());
        // Thousands of sessions tell no more than the first of them.
        last.truncate(last.floor_char_boundary(QUOTED));
        bail!("no snapshot {what} within {limit:?}; the last: {last}")
    }

    /// Reads on until a stall is as wanted.
    pub fn stall_where(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Stall) -> bool,
    ) -> Result<Stall> {
        let deadline = Instant::now() + limit;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            if let Said::Stall(stall) = self.read(left)?
                && wanted(&stall)
            {
                return Ok(*stall);
            }
        }
        bail!("no stall {what} within {limit:?}; there were {:?}", self.stalls)
    }

    /// Reads on to the last snapshot.
    pub fn last_snapshot(&mut self, limit: Duration) -> Result<Snapshot> {
        self.snapshot_where("that is the last", limit, |snapshot| snapshot.is_final)
    }

    /// Asks it to end, and reads what is left.
    pub fn stop(self, signal: Signal) -> Result<Record> {
        self.program.signal(signal)?;
        self.finish()
    }

    /// Reads to its end, which must come by itself and be a good one: a last snapshot, exit code 0.
    pub fn finish(mut self) -> Result<Record> {
        if self.snapshots.last().is_none_or(|snapshot| !snapshot.is_final) {
            self.last_snapshot(PATIENCE)?;
        }
        let Self { program, snapshots, stalls } = self;
        let ended = program.finish(PATIENCE)?;
        ensure!(ended.status.success(), "openrtc-probe ended with {}: {ended:?}", ended.status);
        ensure!(ended.stdout.is_empty(), "it went on after its last snapshot: {ended:?}");
        Ok(Record { snapshots, stalls, stderr: ended.stderr })
    }
}

/// All that the daemon said in a run that ended well.
#[derive(Debug)]
pub struct Record {
    /// Every snapshot; the last one is final.
    pub snapshots: Vec<Snapshot>,
    /// Every report of a stall.
    pub stalls: Vec<Stall>,
    /// Standard error.
    pub stderr: Vec<String>,
}

impl Record {
    /// The last snapshot.
    pub fn last(&self) -> &Snapshot {
        &self.snapshots[self.snapshots.len() - 1]
    }

    /// A session as it was last listed. One that only callbacks hold, not tasks, comes and goes.
    pub fn last_of(&self, id: &str) -> Option<&Session> {
        self.snapshots.iter().rev().find_map(|snapshot| snapshot.session(id))
    }
}
