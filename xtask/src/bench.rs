//! `cargo xtask bench`: builds and runs a measurement of `openrtc-tests`, as root.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::ValueEnum;

use crate::{
    daemon, root, setup_python,
    step::{self, say},
    workspace::Workspace,
};

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
    /// Time added to each poll beside empty probes on the same sites
    Cost,
}

impl Measurement {
    fn program(self) -> &'static str {
        match self {
            Self::Accuracy => "bench-accuracy",
            Self::Cost => "bench-cost",
        }
    }
}

/// Measures; the exit code is the measurement's.
pub fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    root::check()?;
    let built = daemon::build(workspace, &["openrtc-tests"])?;
    let probe = daemon::executable(&built, "openrtc-probe")?;
    let program = daemon::executable(&built, args.what.program())?;
    let interpreters = setup_python::run(workspace, setup_python::Roots::LeaveOut)?;
    say(&format!("run {}", workspace.relative(program).display()));
    let mut command = root::command(program);
    command.args(&args.args).current_dir(workspace.root()).envs(daemon::environment(
        workspace,
        probe,
        &interpreters,
    ));
    Ok(step::exit_code(step::status(&mut command)?))
}
