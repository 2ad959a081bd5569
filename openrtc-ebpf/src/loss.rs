//! Counting what was missed.

use aya_log_ebpf::debug;
use openrtc_common::loss::Loss;

use crate::maps::LOSSES;

/// Counts one more loss of this cause, and tells it to whoever runs with `-vv`.
///
/// Not inlined: it is rare, and the log's code is long.
#[inline(never)]
pub fn count(loss: Loss) {
    debug!(&(), "lost, cause {}", loss as u32);
    if let Some(counter) = LOSSES.get_ptr_mut(loss as u32) {
        add(counter, 1);
    }
}

/// Adds to a counter in a map that other threads add to as well.
#[inline(always)]
pub fn add(counter: *mut u64, amount: u64) {
    // The target has no atomic types; this is the one atomic instruction that kernels before 5.12
    // know.
    // SAFETY: callers pass pointers into map values, aligned and valid for the program's life.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({counter} + 0) += {amount}",
            counter = in(reg) counter,
            amount = in(reg) amount,
        );
    }
}

/// Adds one to a counter of four bytes.
#[inline(always)]
pub fn add_short(counter: *mut u32) {
    // SAFETY: as in `add`.
    unsafe {
        core::arch::asm!(
            "lock *(u32 *)({counter} + 0) += {one}",
            counter = in(reg) counter,
            one = in(reg) 1_u64,
        );
    }
}
