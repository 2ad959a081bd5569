//! `cargo xtask bench`: builds and runs a measurement of `openrtc-tests`, as root.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::ValueEnum;

use crate::{setup_python::Roots, tool, workspace::Workspace};

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// Which figures
    what: Measurement,
    /// Passed to the measurement
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// A measurement.
#[derive(Clone, Copy, ValueEnum)]
enum Measurement {
    /// CPU seconds and stalls beside openrtc's own and the worker's account
    Accuracy,
    /// Sessions, classes and lines of a thousand random stalls beside the worker's own word
    Anatomy,
    /// The worker's polls per second while its stalls are captured, beside those while none is
    Capture,
    /// Time added to each poll beside empty probes on the same sites
    Cost,
    /// The time of an attach and a detach, and what the daemon needs for a thousand sessions
    Daemon,
    /// What the daemon needs for ten thousand sessions, and for two hundred thousand over a run
    Scale,
    /// The time of a frame of ten thousand sessions, and the daemon's CPU at ten frames a second
    Top,
}

impl Measurement {
    fn program(self) -> &'static str {
        match self {
            Self::Accuracy => "bench-accuracy",
            Self::Anatomy => "bench-anatomy",
            Self::Capture => "bench-capture",
            Self::Cost => "bench-cost",
            Self::Daemon => "bench-daemon",
            Self::Scale => "bench-scale",
            Self::Top => "bench-top",
        }
    }
}

/// Measures; the exit code is the measurement's.
pub fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    tool::run(workspace, Roots::LeaveOut, args.what.program(), &args.args)
}
