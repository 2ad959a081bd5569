//! `cargo xtask bench`: builds and runs a measurement of `openrtc-tests`, as root.

use std::{
    ffi::OsString,
    process::{Command, ExitCode, Stdio},
};

use anyhow::Result;
use clap::ValueEnum;

use crate::{setup_python::Roots, step, tool, workspace::Workspace};

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// Which figures
    #[arg(default_value = "all")]
    what: Measurement,
    /// Passed to the measurement
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// A measurement.
#[derive(Clone, Copy, ValueEnum)]
enum Measurement {
    /// What each way of looking costs a worker, ours and others: docs/performance.md
    All,
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
    /// Half an hour of 20,000 polls a second by sessions that are replaced all the time, beside their own account
    Soak,
    /// The time of a frame of ten thousand sessions, and the daemon's CPU at ten frames a second
    Top,
}

impl Measurement {
    fn program(self) -> &'static str {
        match self {
            Self::All => "bench",
            Self::Accuracy => "bench-accuracy",
            Self::Anatomy => "bench-anatomy",
            Self::Capture => "bench-capture",
            Self::Cost => "bench-cost",
            Self::Daemon => "bench-daemon",
            Self::Scale => "bench-scale",
            Self::Soak => "bench-soak",
            Self::Top => "bench-top",
        }
    }
}

/// What the harness compares with, from the Python package index.
const COMPARED: &str = "py-spy==0.4.3";

/// Installs it in a folder of its own, once.
fn install_compared(workspace: &Workspace) -> Result<()> {
    let folder = workspace.python_dir().join("tools");
    if folder.join("bin/py-spy").exists() {
        return Ok(());
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args(["--root-user-action=ignore", "--target"]).arg(&folder).arg(COMPARED);
    step::run(&format!("pip install {COMPARED}"), pip.stdin(Stdio::null()))
}

/// Measures; the exit code is the measurement's.
pub fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    if matches!(args.what, Measurement::All) {
        install_compared(workspace)?;
    }
    tool::run(workspace, Roots::LeaveOut, args.what.program(), &args.args)
}
