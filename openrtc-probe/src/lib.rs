//! openrtc-probe: an out-of-process session profiler for OpenRTC and other asyncio workers.
//!
//! The rooms, in the direction in which data flows: [`worker`] and [`cpython`] look at the worker
//! from outside, [`bpf`] holds the programs in the kernel, [`profiler`] brings their facts to the
//! [`model`], and [`view`] shows the model's pictures. See `ARCHITECTURE.md`.

pub mod blocker;
pub mod bpf;
pub mod cli;
pub mod clock;
pub mod cpython;
pub mod doctor;
pub mod dump;
pub mod fleet;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod host;
pub mod model;
pub mod native;
pub mod output;
pub mod plan;
pub mod profiler;
pub mod run;
pub mod save;
pub mod view;
pub mod worker;
