//! What a reader sees: every view is a pure function of one [`Snapshot`](crate::model::Snapshot).
//!
//! - **Drawing reads.** A view changes nothing, has no clock and does no I/O; only `top/terminal.rs`
//!   touches the terminal.
//! - **Units end here.** MB, % and the word `slow` exist in this room only, and only `units.rs`
//!   turns a number into text.
//! - **Text of a worker is hostile.** It reaches a terminal through `harmless.rs`, never directly.

pub mod ascii;
mod bars;
mod chart;
mod columns;
mod columns_of;
pub mod doctor;
pub mod dump;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod grid;
mod harmless;
pub mod header;
pub mod json;
mod last_minute;
pub mod log_line;
pub mod mode;
pub mod once;
pub mod order;
#[cfg(any(test, fuzzing))]
mod samples;
mod stalls;
mod stalls_table;
pub mod top;
mod units;
mod verdict;
