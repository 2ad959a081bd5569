//! The command: reads the command line, runs, and turns what went wrong into one line, a hint and
//! an exit code.

use std::{env, io::IsTerminal as _, process::ExitCode};

use anyhow::Context as _;
use openrtc_probe::{
    blocker::Blocker,
    cli::{self, Typed, Usage},
    host::{
        filter, limits, own,
        privilege::{self, Work},
    },
    output::{is_closed_pipe, print_line},
    plan::{Plan, Surroundings},
    run,
};

const FINE: u8 = 0;
const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match start() {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(tell(&error)),
    }
}

/// Does what was typed; the exit code.
fn start() -> anyhow::Result<u8> {
    own::share_heaps();
    privilege::refuse_setuid()?;
    privilege::keep(Work::Any).context("cannot give up capabilities")?;
    let typed = cli::parse(env::args_os())?;
    let here = Surroundings::new(std::io::stdout().is_terminal(), |name| env::var(name).ok());
    let cli = match typed {
        Typed::Run(cli) => *cli,
        Typed::Doctor(doctor) => {
            limits::raise_files(1)?;
            return run::examine(&doctor, here.is_utf8);
        }
        Typed::Dump(typed) => {
            filter::refuse()?;
            return run::dump(&typed, here.is_utf8).map(|()| FINE);
        }
        Typed::Print(text) => {
            return print_line(text.trim_end()).map(|()| FINE);
        }
    };
    let plan = Plan::new(cli, here)?;
    limits::raise_files(plan.pids.len())?;
    filter::refuse()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?
        .block_on(run::run(&plan))
        .map(|()| FINE)
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
