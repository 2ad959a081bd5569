//! What a poll costs the worker while it is watched, beside an empty probe pair on the same sites.
//!
//! Phases alternate within one run, because the machine's speed drifts: nothing attached, the empty
//! pair, all of openrtc-probe. What counts is the ratio of the added times, round by round.

#[path = "../cost/mod.rs"]
mod cost;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cost::bench(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-cost: {error:#}");
            ExitCode::FAILURE
        }
    }
}
