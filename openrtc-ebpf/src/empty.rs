//! An empty pair of programs for the same sites: what a probe costs before it does anything.
//! `cargo xtask bench cost` measures the real ones against it.

use aya_ebpf::{macros::uprobe, programs::ProbeContext};

/// Stands at an entry and does nothing.
#[uprobe]
pub fn empty_enter(_ctx: ProbeContext) -> u32 {
    0
}

/// Stands at an exit and does nothing.
#[uprobe]
pub fn empty_exit(_ctx: ProbeContext) -> u32 {
    0
}
