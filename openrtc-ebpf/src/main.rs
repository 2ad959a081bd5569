//! The kernel side of openrtc-probe: programs at the boundary of every poll and at the scheduler's
//! switches, which account a worker's time to the session tag found in its context variables.
//!
//! Nothing here writes to the worker or fails it: a program that cannot do its work counts a loss
//! and returns.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(clippy::needless_pass_by_value, reason = "aya hands a program its context by value")]

mod empty;
mod loss;
mod maps;
mod memory;
mod poll;
mod sched;
mod seen;
mod tag;
mod task;
mod thread;

/// The kernel lets only GPL-compatible programs read a process's memory.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // No path leads here: the verifier would refuse an endless loop that it can reach.
    loop {}
}
