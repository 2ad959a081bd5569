//! Compares what the probe says with what the worker measured of itself, beside `OpenRTC`'s own.
//!
//! For each interpreter and each kind of loop: a worker of 50 sessions with the real in-process
//! introspection in it, the probe outside it, and the worker's own account of thread CPU time as the
//! truth. Ends with 1 when any demand is missed.

use std::process::ExitCode;

use openrtc_tests::accuracy::{
    self,
    options::{self, Asked, Options},
};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-accuracy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<bool> {
    let options = match Options::from_command_line(std::env::args().skip(1))? {
        Asked::Help => {
            print!("{}", options::USAGE);
            return Ok(true);
        }
        Asked::Bench(options) => options,
    };
    accuracy::bench(&options)
}
