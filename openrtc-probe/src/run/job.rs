//! We as a job of a shell: stopped and continued, with the terminal given back in between.
//!
//! Only where we have the terminal: else the kernel's own way of stopping is the right one.

use std::future::pending;

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal::SIGTSTP, kill, sigaction},
    unistd::Pid,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::wakes::Wake;
use crate::plan::{Plan, View};

/// Who is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// All that the shell started with us, as Ctrl-Z means it. In raw mode the terminal does not tell
    /// them.
    Job,
    /// We: somebody has told each that he wants to stop.
    Us,
}

/// The signals that a shell stops and continues us with.
pub struct Job(Option<[Signal; 2]>);

impl Job {
    /// From now on we are asked to stop, not stopped, if we have the terminal.
    pub fn new(plan: &Plan) -> Result<Self> {
        if plan.view != View::Table {
            return Ok(Self(None));
        }
        let listen =
            |number| signal(SignalKind::from_raw(number)).context("cannot wait for signals");
        Ok(Self(Some([listen(nix::libc::SIGTSTP)?, listen(nix::libc::SIGCONT)?])))
    }

    /// Waits until we are to stop or have been stopped. That we go on after [`stop`] is told too.
    pub async fn next(&mut self) -> Wake {
        let Some([stop, go_on]) = &mut self.0 else { return pending().await };
        tokio::select! {
            _ = stop.recv() => Wake::Suspend,
            _ = go_on.recv() => Wake::Resumed,
        }
    }
}

/// Stops, and returns when we go on. At once, where there is nobody to let us go on: the kernel stops no
/// job whose shell is gone, or that never had one.
pub fn stop(whom: Whom) -> Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no code of ours.
    let ours = unsafe { sigaction(SIGTSTP, &default) }.context("cannot stop")?;
    // A job is 0: our process group.
    let pid = if whom == Whom::Job { Pid::from_raw(0) } else { Pid::this() };
    // It is the thread that sends it which takes it, before this returns: it is the process's first.
    let stopped = kill(pid, SIGTSTP).context("cannot stop");
    // SAFETY: what tokio had set.
    unsafe { sigaction(SIGTSTP, &ours) }.context("cannot go on")?;
    stopped
}
