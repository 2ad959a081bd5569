//! A process that takes a CPU from the worker's loop.

use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// What it takes more of the CPU than a usual one: nine parts of ten.
const NICE: &str = "-10";

/// The process, on the same CPU as the loop's thread. Both are as before when this is gone.
#[derive(Debug)]
pub struct Hog {
    child: Child,
    victim: Pid,
    before: CpuSet,
}

impl Hog {
    /// Starts one on a CPU of this process's first thread, which has to stay there.
    pub fn start(victim: i32) -> Result<Self> {
        let victim = Pid::from_raw(victim);
        let before = sched_getaffinity(victim).context("asking where the loop may run")?;
        let cpu = (0..CpuSet::count()).find(|cpu| before.is_set(*cpu).unwrap_or(false));
        let mut only = CpuSet::new();
        only.set(cpu.context("the loop may run nowhere")?)?;
        let mut command = Command::new("nice");
        command.args(["-n", NICE, "yes"]);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting yes")?;
        let hog = Self { child, victim, before };
        for pid in [Pid::from_raw(hog.pid()), victim] {
            sched_setaffinity(pid, &only).context("pinning to a CPU")?;
        }
        Ok(hog)
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        // Each of these fails only when it has ended in the meantime.
        let _ = sched_setaffinity(self.victim, &self.before);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
