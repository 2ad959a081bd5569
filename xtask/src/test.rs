//! `cargo xtask test`: `host` needs no privilege; `kernel` drives the real daemon against real
//! workers, and `matrix` does so on every interpreter and loop, both as root; `vm` does some of it on other kernels.

use std::{process::Command, thread, time::Instant};

use anyhow::{Result, anyhow};
use clap::ValueEnum;

use crate::{
    build_ebpf, cargo, daemon, root,
    setup_python::{self, Roots},
    step::{self, say},
    tool,
    toolchain::Toolchain,
    vm,
    workspace::Workspace,
};

/// Which tests.
#[derive(clap::Args)]
pub struct Args {
    /// Only these; all if not given
    suite: Option<Suite>,
    /// Passed to the tests: names to select, and options such as `--nocapture`
    #[arg(last = true)]
    filter: Vec<String>,
}

/// A set of tests with one demand on the machine.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Without root and without BPF
    Host,
    /// As root, on a kernel with BPF
    Kernel,
    /// As root: a table of every interpreter and loop; names select its lines
    Matrix,
    /// On Debian's kernels, each booted in an emulated machine: all, or `-- 5.10 6.1 6.12 newest`; with `-- load` only
    /// whether they take our programs
    Vm,
}

/// Runs what was asked for.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let started = Instant::now();
    match args.suite {
        Some(Suite::Host) => host(workspace, &args.filter)?,
        Some(Suite::Kernel) => kernel(workspace, &args.filter)?,
        Some(Suite::Matrix) => matrix(workspace, &args.filter)?,
        Some(Suite::Vm) => vm::run(workspace, &args.filter)?,
        None => {
            // Said now, not after the host's tests.
            root::check()?;
            host(workspace, &args.filter)?;
            if args.filter.is_empty() {
                prepare(workspace)?;
                kernel(workspace, &[])?;
                matrix(workspace, &[])?;
            } else {
                kernel(workspace, &args.filter)?;
                say("matrix and other kernels are not run: they have no tests to select by name");
            }
        }
    }
    let what = match args.suite {
        Some(Suite::Host) => "the host tests",
        Some(Suite::Kernel) => "the kernel tests",
        Some(Suite::Matrix) => "the matrix",
        Some(Suite::Vm) => "the tests on other kernels",
        None => "all tests",
    };
    say(&format!("{what} passed in {:.0} s", started.elapsed().as_secs_f64()));
    Ok(())
}

/// The object is built all the same: the daemon does not compile without it.
fn host(workspace: &Workspace, filter: &[String]) -> Result<()> {
    build_ebpf::run(workspace)?;
    let mut cargo = cargo::host(workspace);
    cargo.arg("test");
    for package in ["openrtc-common", "openrtc-probe", "xtask"] {
        cargo.args(["--package", package]);
    }
    step::run("host tests", cargo.arg("--").args(filter))
}

/// What takes a while and no measuring, all at once: packages come from the network, guests use one CPU, and the
/// compiler has the rest.
fn prepare(workspace: &Workspace) -> Result<()> {
    thread::scope(|scope| {
        let guests = scope.spawn(|| vm::run_beside(workspace));
        setup_python::run(workspace, Roots::Make)?;
        step::run("build the kernel tests", tests(workspace).arg("--no-run"))?;
        guests.join().map_err(|_| anyhow!("the tests on other kernels panicked"))?
    })
}

/// All of what is wrong, not only the first: a run takes minutes.
fn tests(workspace: &Workspace) -> Command {
    let mut cargo = cargo::host(workspace);
    cargo.args(["test", "--package", "openrtc-tests", "--no-fail-fast"]);
    cargo
}

/// One test at a time: each attaches to the kernel, and measures.
fn kernel(workspace: &Workspace, filter: &[String]) -> Result<()> {
    root::check()?;
    let built = daemon::build(workspace, &[])?;
    let probe = daemon::executable(&built, "openrtc-probe")?;
    let interpreters = setup_python::run(workspace, Roots::Make)?;
    let mut cargo = tests(workspace);
    cargo.args(["--", "--test-threads=1"]).args(filter).envs(daemon::environment(
        workspace,
        probe,
        &interpreters,
    ));
    if !root::is_root() {
        // The build stays the user's; only the tests themselves are run as root.
        let host = Toolchain::ask(workspace)?.host;
        cargo.env(cargo::runner_variable(&host), "sudo -E");
    }
    step::run("kernel tests", &mut cargo)
}

/// A program, not tests: its table is what there is to see.
fn matrix(workspace: &Workspace, words: &[String]) -> Result<()> {
    let mut matrix = tool::test(workspace, Roots::Make, "test-matrix")?;
    step::run("matrix", matrix.args(words))
}
