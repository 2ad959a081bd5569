//! Builds, checks, tests, measures and shows openrtc-probe: `cargo xtask <command>`, one file per
//! command.

mod bench;
mod bpf_linker;
mod build_ebpf;
mod cargo;
mod daemon;
mod demo;
mod fuzz;
mod hint;
mod lint;
mod lock;
mod python;
mod root;
mod screenshot;
mod setup_python;
mod step;
mod test;
mod tidy;
mod tmux;
mod tool;
mod toolchain;
mod vm;
mod workspace;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{hint::Hinted, setup_python::Roots, workspace::Workspace};

/// What was typed.
#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, check, test, measure and show openrtc-probe")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

/// The commands, in the order in which somebody new meets them.
#[derive(Subcommand)]
enum Task {
    /// Start a worker with 12 sessions (one hot, one blocking) and attach to it
    Demo(demo::Args),
    /// Take the pictures in `docs/` anew, of a real run in a terminal
    Screenshot,
    /// Build the kernel object that the daemon embeds
    BuildEbpf,
    /// Check format, habits, import law, clippy and documentation
    Lint,
    /// Run the tests: `host` needs no privilege, `kernel` needs root
    Test(test::Args),
    /// Measure: `accuracy` beside openrtc's own figures, `cost` beside empty probes
    Bench(bench::Args),
    /// Feed what reads hostile bytes, for a minute each: `fuzz maps --seconds 10`
    Fuzz(fuzz::Args),
    /// Make a Python environment for each interpreter found
    SetupPython,
    /// Let interpreters find their rows of the table of layouts: all, or those named or given by path
    Layouts {
        /// Names as `setup-python` lists them, or files such as `/opt/python/bin/python3.16`
        interpreters: Vec<OsString>,
    },
    /// Record the memory of a fixture worker on each interpreter, for the host tests
    RecordImages,
}

fn main() -> ExitCode {
    let task = Cli::parse().command;
    run(task).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        if let Some(hinted) = error.downcast_ref::<Hinted>() {
            eprintln!("hint: {}", hinted.hint());
        }
        ExitCode::FAILURE
    })
}

fn run(task: Task) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::find()?;
    match task {
        Task::Demo(args) => return demo::run(&workspace, &args),
        Task::Screenshot => screenshot::run(&workspace)?,
        Task::BuildEbpf => build_ebpf::run(&workspace)?,
        Task::Lint => lint::run(&workspace)?,
        Task::Test(args) => test::run(&workspace, &args)?,
        Task::Bench(args) => return bench::run(&workspace, &args),
        Task::Fuzz(args) => fuzz::run(&workspace, &args)?,
        Task::Layouts { interpreters } => {
            return tool::run(&workspace, Roots::Make, "layouts", &interpreters);
        }
        Task::RecordImages => return tool::run(&workspace, Roots::Make, "record-images", &[]),
        Task::SetupPython => {
            setup_python::run(&workspace, Roots::Make)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
