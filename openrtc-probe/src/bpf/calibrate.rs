//! What one trap takes on this machine: the time between an instruction with a probe on it and the
//! probe's program, and back. No program can see it, but the worker pays for it inside its polls.
//!
//! Between two traps the worker does other work, and the kernel's code and data are no longer in the
//! caches nearest to the core: such a trap takes a third longer than one in a loop of traps (1.3 us
//! and 1.0 us where this was written). So here, too, other work is done in between.

use std::{fs, hint::black_box, num::NonZeroU32, path::Path};

use anyhow::{Context as _, Result, anyhow};

use crate::worker::{Mapping, code_of};

use super::attach::Kernel;

/// The program that does nothing.
pub(super) const EMPTY: &str = "empty_enter";
const OWN_FILE: &str = "/proc/self/exe";
const ROUNDS: usize = 100;
/// What the other work touches: about what a core's own caches hold.
const OTHER_WORK_BYTES: usize = 512 << 10;
const CACHE_LINE_BYTES: usize = 64;

// An instruction that the kernel emulates, as it does the worker's.
core::arch::global_asm!(
    ".globl openrtc_calibration_site",
    "openrtc_calibration_site:",
    "nop",
    "ret"
);

unsafe extern "C" {
    safe fn openrtc_calibration_site();
}

impl Kernel {
    /// Puts an empty program on an instruction of our own and runs over it; nanoseconds a trap.
    /// `now_ns` is a clock. The probe stays until the scheduler's programs are attached.
    pub fn measure_trap(&mut self, now_ns: impl Fn() -> u64) -> Result<u64> {
        let offset = own_offset(openrtc_calibration_site as *const () as u64)?;
        let pid = NonZeroU32::new(std::process::id()).context("we have no process id")?;
        let bare_ns = per_call(&now_ns);
        let link = self.sites.loaded().link(EMPTY, Path::new(OWN_FILE), &[offset], pid);
        self.calibration = link.context("cannot attach a probe to ourselves")?;
        Ok(per_call(&now_ns).saturating_sub(bare_ns))
    }
}

/// Nanoseconds a call after other work, in the middle one of many rounds.
fn per_call(now_ns: &impl Fn() -> u64) -> u64 {
    let mut other_work = vec![0_u8; OTHER_WORK_BYTES];
    let mut rounds: Vec<u64> = (0..ROUNDS)
        .map(|_| {
            for byte in other_work.iter_mut().step_by(CACHE_LINE_BYTES) {
                *byte = black_box(byte.wrapping_add(1));
            }
            let start_ns = now_ns();
            openrtc_calibration_site();
            now_ns().saturating_sub(start_ns)
        })
        .collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2]
}

/// Where in our own file the instruction at `address` stands.
fn own_offset(address: u64) -> Result<u64> {
    let maps = fs::read("/proc/self/maps").context("cannot read our own mappings")?;
    let offset_in = |mapping: Mapping| {
        let (start, end) = mapping.range;
        (start..end).contains(&address).then(|| address - start + mapping.offset)
    };
    code_of(&maps)
        .into_iter()
        .find_map(offset_in)
        .ok_or_else(|| anyhow!("our own code is not mapped"))
}
