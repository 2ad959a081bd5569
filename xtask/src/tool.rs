//! Runs a program of `openrtc-tests`, as root, with all that it needs made before: the daemon and the
//! interpreters.

use std::{
    ffi::OsString,
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::{
    daemon, root,
    setup_python::{self, Roots},
    step::{self, say},
    workspace::Workspace,
};

/// Builds and runs it; the exit code is the program's.
pub fn run(
    workspace: &Workspace,
    roots: Roots,
    program: &str,
    args: &[OsString],
) -> Result<ExitCode> {
    let mut command = command(workspace, roots, program)?;
    Ok(step::exit_code(step::status(command.args(args))?))
}

/// Builds it; returns the command that runs it.
pub fn command(workspace: &Workspace, roots: Roots, program: &str) -> Result<Command> {
    root::check()?;
    let built = daemon::build(workspace, &["openrtc-tests"])?;
    let probe = daemon::executable(&built, "openrtc-probe")?;
    let program = daemon::executable(&built, program)?;
    let interpreters = setup_python::run(workspace, roots)?;
    say(&format!("run {}", workspace.relative(program).display()));
    let mut command = root::command(program);
    let environment = daemon::environment(workspace, probe, &interpreters);
    command.current_dir(workspace.root()).envs(environment);
    Ok(command)
}
