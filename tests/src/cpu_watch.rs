//! The kernel's own account of a process's CPU time, read all the time by somebody who has nothing to
//! do with the daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::clock;

/// Between two readings: what the bracket of an instant is wide.
const EVERY: Duration = Duration::from_millis(2);

/// CPU time of a process so far, by its POSIX clock.
pub fn process_cpu_ns(pid: i32) -> Result<i64> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid))
        .and_then(clock_gettime)
        .with_context(|| format!("reading the CPU clock of process {pid}"))?;
    Ok(i64::try_from(Duration::from(clock).as_nanos())?)
}

/// One reading, and `CLOCK_REALTIME` before and after it.
#[derive(Debug, Clone, Copy)]
struct Reading {
    before: i64,
    after: i64,
    cpu_ns: i64,
}

/// Readings that go on until they are asked for.
#[derive(Debug)]
pub struct CpuWatch {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Reading>>,
}

impl CpuWatch {
    /// Begins.
    pub fn start(pid: i32) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            let mut readings = Vec::new();
            loop {
                let is_last = asked.load(Ordering::Relaxed);
                let before = clock::now_real_ns();
                // At the end of the process.
                let Ok(cpu_ns) = process_cpu_ns(pid) else { break };
                let after = clock::now_real_ns();
                readings.push(Reading { before, after, cpu_ns });
                if is_last {
                    break;
                }
                std::thread::sleep(EVERY);
            }
            readings
        });
        Self { ends, thread }
    }

    /// Ends, with a last reading.
    pub fn stop(self) -> Result<CpuReadings> {
        self.ends.store(true, Ordering::Relaxed);
        let readings = self.thread.join().map_err(|_| anyhow!("the CPU watch panicked"))?;
        Ok(CpuReadings { readings })
    }
}

/// Everything that was read.
#[derive(Debug)]
pub struct CpuReadings {
    readings: Vec<Reading>,
}

impl CpuReadings {
    /// The least and the most CPU time, in seconds, that the process can have had used at some
    /// moment of this span.
    pub fn bracket(&self, from_real_ns: i64, to_real_ns: i64) -> Result<(f64, f64)> {
        let before = self.readings.iter().rfind(|reading| reading.after <= from_real_ns);
        let after = self.readings.iter().find(|reading| reading.before >= to_real_ns);
        let (before, after) = before.zip(after).context("an instant outside the CPU watch")?;
        Ok((before.cpu_ns as f64 / 1e9, after.cpu_ns as f64 / 1e9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_bracketed_by_the_nearest_readings() {
        let reading = |at, cpu_ns| Reading { before: at, after: at + 2, cpu_ns };
        let second = 1_000_000_000;
        let readings = vec![reading(0, 0), reading(10, second), reading(20, 2 * second)];
        let watched = CpuReadings { readings };
        assert_eq!(watched.bracket(12, 14).unwrap(), (1.0, 2.0));
        assert_eq!(watched.bracket(11, 11).unwrap(), (0.0, 2.0));
        assert!(watched.bracket(25, 25).is_err());
    }

    #[test]
    fn our_own_time_goes_on() {
        let pid = std::process::id().cast_signed();
        let watch = CpuWatch::start(pid);
        let first = process_cpu_ns(pid).unwrap();
        while process_cpu_ns(pid).unwrap() < first + 5_000_000 {}
        let readings = watch.stop().unwrap().readings;
        assert!(readings.last().unwrap().cpu_ns >= first + 5_000_000);
        assert!(readings.windows(2).all(|two| two[0].cpu_ns <= two[1].cpu_ns));
    }
}
