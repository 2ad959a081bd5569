//! Time that the machine took from everybody: what a hypervisor gives to others while a thread runs.
//!
//! The kernel's clock of a thread stands still in that time (`CONFIG_PARAVIRT_TIME_ACCOUNTING`), and so
//! does the truth of the fixture workers; the probe sees a thread that has the CPU. Nobody can tell
//! whose time it was, so a test allows all of it to anybody.

use std::fs;

/// What `/proc/stat` counts in: `USER_HZ` is 100 on every machine that we know.
const TICK_S: f64 = 0.01;
/// The column of a `cpu` line, its name being the first.
const STEAL: usize = 8;

/// A stretch of time that has begun.
#[derive(Debug)]
pub struct Stolen {
    at_start_s: f64,
}

impl Stolen {
    /// Begins.
    pub fn start() -> Self {
        Self { at_start_s: now_s() }
    }

    /// What was stolen so far, on all CPUs: up to a tick more than was counted.
    pub fn so_far_s(&self) -> f64 {
        now_s() - self.at_start_s + TICK_S
    }
}

/// Nothing, where the kernel does not tell.
fn now_s() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Option<u32> = line.split_whitespace().nth(STEAL).and_then(|word| word.parse().ok());
    f64::from(ticks.unwrap_or_default()) * TICK_S
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_never_given_back() {
        let stolen = Stolen::start();
        assert!(stolen.so_far_s() >= TICK_S && stolen.so_far_s() < 60.0);
    }
}
