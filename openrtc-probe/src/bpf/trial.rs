//! Whether this kernel takes our programs, found out by trying, on nobody but ourselves.

use anyhow::Result;
use openrtc_common::config::{Config, Settings};

use super::{
    attach::{Kernel, Loading, Preparing, SCHEDULER},
    calibrate::EMPTY,
    kernel_layout,
};

/// Every program at a worker's sites.
const AT_SITES: [&str; 7] =
    ["run_enter", "run_exit", "context_enter", "context_exit", "var_set", "var_reset", "task_step"];

/// What came of it; each step needs the one before.
#[derive(Debug)]
pub struct Trial {
    /// Maps were made, and every program passed the verifier: how many at sites.
    pub programs: Result<usize>,
    /// A probe was put on an instruction of our own: nanoseconds that a trap takes.
    pub trap_ns: Option<Result<u64>>,
    /// The programs were attached to the scheduler's tracepoints, and followed nobody.
    pub scheduler: Option<Result<()>>,
}

/// Loads and attaches everything as for a worker, but on ourselves, and takes it out again. `now_ns` is
/// a clock.
pub fn trial(now_ns: impl Fn() -> u64) -> Trial {
    let (mut kernel, programs) = match load() {
        Ok((kernel, programs)) => (kernel, Ok(programs)),
        Err(why) => return Trial { programs: Err(why), trap_ns: None, scheduler: None },
    };
    let trap_ns = kernel.load_programs(&[EMPTY]).and_then(|()| kernel.measure_trap(now_ns));
    let scheduler = kernel.load_programs(&SCHEDULER).and_then(|()| kernel.attach_scheduler());
    Trial { programs, trap_ns: Some(trap_ns), scheduler: Some(scheduler) }
}

fn load() -> Result<(Kernel, usize)> {
    let config = Config { tgid: std::process::id(), kernel: kernel_layout()?, ..Config::default() };
    let mut kernel =
        Kernel::load(Preparing::start(), &config, &Settings::default(), Loading::default())?;
    kernel.load_programs(&AT_SITES)?;
    Ok((kernel, AT_SITES.len()))
}
