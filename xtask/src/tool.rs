//! Runs a program of `openrtc-tests`, as root, with all that it needs made before: the daemon and the
//! interpreters.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::{
    cargo, daemon, root,
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
    let built = daemon::build(workspace, &["openrtc-tests"])?;
    let mut command = command(workspace, roots, &built, program)?;
    Ok(step::exit_code(step::status(command.args(args))?))
}

/// Builds it as the tests are, so that it is there already when they were run; returns the command that
/// runs it. The daemon is built for release all the same.
pub fn test(workspace: &Workspace, roots: Roots, program: &str) -> Result<Command> {
    root::check()?;
    let mut built = daemon::build(workspace, &[])?;
    let mut cargo = cargo::host(workspace);
    cargo.args(["build", "--bins", "--package", "openrtc-tests"]);
    built.extend(cargo::build("build openrtc-tests", &mut cargo)?);
    command(workspace, roots, &built, program)
}

fn command(
    workspace: &Workspace,
    roots: Roots,
    built: &BTreeMap<String, PathBuf>,
    program: &str,
) -> Result<Command> {
    root::check()?;
    let probe = daemon::executable(built, "openrtc-probe")?;
    let program = daemon::executable(built, program)?;
    let interpreters = setup_python::run(workspace, roots)?;
    say(&format!("run {}", workspace.relative(program).display()));
    let mut command = root::command(program);
    let environment = daemon::environment(workspace, probe, &interpreters);
    command.current_dir(workspace.root()).envs(environment);
    Ok(command)
}
