//! What crosses the boundary between the kernel programs and the daemon, and the arithmetic that
//! both sides share.
//!
//! Everything here is plain data or a pure function of its arguments: no clock, no I/O, no
//! allocation. The kernel side compiles these very functions, so their host tests test it too.
//!
//! Invariants:
//! - every shared struct is `#[repr(C)]` and [`bytemuck::Pod`]: no padding, any bit pattern valid;
//! - every loop has a constant bound, for the verifier and because the worker's memory is hostile;
//! - times are nanoseconds of `CLOCK_MONOTONIC`.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod account;
pub mod board;
pub mod config;
pub mod event;
pub mod hamt;
pub mod histogram;
pub mod loss;
pub mod memo;
pub mod memory;
pub mod poll;
pub mod seen;
pub mod session;
pub mod tag;
pub mod thread;
pub mod wait;

#[cfg(test)]
extern crate std;
