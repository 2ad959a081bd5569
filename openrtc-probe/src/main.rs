//! The command: reads the command line, runs, and turns what went wrong into one line, a hint and
//! an exit code.

use std::{env, io::IsTerminal as _, process::ExitCode};

use anyhow::Context as _;
use openrtc_probe::{
    blocker::Blocker,
    cli::{self, Typed, Usage},
    output::{is_closed_pipe, print_line},
    plan::{Plan, Surroundings},
    run,
};

const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(tell(&error)),
    }
}

fn start() -> anyhow::Result<()> {
    let cli = match cli::parse(env::args_os())? {
        Typed::Run(cli) => *cli,
        Typed::Print(text) => {
            return print_line(text.trim_end());
        }
    };
    let here = Surroundings::new(std::io::stdout().is_terminal(), |name| env::var(name).ok());
    let plan = Plan::new(cli, here)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?
        .block_on(run::run(&plan))
}

/// Prints the error; its exit code.
fn tell(error: &anyhow::Error) -> u8 {
    eprintln!("error: {error:#}");
    if let Some(blocker) = error.downcast_ref::<Blocker>() {
        eprintln!("hint: {}", blocker.hint());
        return blocker.exit_code();
    }
    if let Some(usage) = error.downcast_ref::<Usage>() {
        eprintln!("hint: {}", usage.hint);
        return USAGE;
    }
    FAILED
}
