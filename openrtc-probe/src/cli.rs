//! What was typed. What it means is for `plan.rs`.
//!
//! A command line that cannot be meant is refused in one line and a hint ([`Usage`], exit code 2),
//! whatever clap would print.

mod accounting;
mod doctor;
mod dump;

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, Parser, ValueEnum};

use crate::view::order::{Sort, StatusFilter};

pub use accounting::{Accounting, ModeChoice};
pub use doctor::Doctor;
pub use dump::DumpOf;

const AFTER_HELP: &str = "\
What to put into a bug report, and what to type when nothing works:
  sudo openrtc-probe doctor [--pid PID]

What every session waits for right now, and at which line:
  sudo openrtc-probe dump --pid PID [--session ID]

Exit codes:
  0  it did what was asked (also when the worker ends while attached)
  1  something failed
  2  the command line cannot be meant: a wrong flag, no such process, a thread's id
  3  this host cannot: a capability or a kernel feature is missing
  4  this worker cannot: it has exited, is not Python, or of a version we do not know

Examples:
  sudo openrtc-probe --pid 4242
      Live table of the worker's sessions; without a terminal, a log line for each stall.
  sudo openrtc-probe --pid 4242 --once --interval 5
      Measure 5 seconds, print who used the CPU, exit.
  sudo openrtc-probe --pid 4242 --pid 4243
      Two workers in one table.
  sudo openrtc-probe --pid 4242 --children
      The job processes that 4242 starts (isolation=process), as they come and go.
  sudo openrtc-probe --pid 4242 --json --duration 60 --session-var request_id
      JSON Lines for a minute, of any asyncio service with a request id in a ContextVar.

JSON, log lines and table are documented in docs/output.md.";

/// Which session of a live asyncio worker burns the CPU, and which one blocks the loop, seen from
/// outside the worker: nothing is written to it and it is never stopped.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(name = "openrtc-probe", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// Process id of a worker; for several workers, give it several times
    #[arg(long, value_name = "PID", value_parser = pid, required = true)]
    pub pid: Vec<u32>,
    /// Follow what these processes start too, now and later: each process is a worker of its own
    #[arg(long)]
    pub children: bool,
    /// What says who a poll is for: a context variable, or the name of the task that runs
    #[arg(long, value_name = "SOURCE", default_value = "contextvar")]
    pub tag: TagSource,
    /// Names of context variables.
    #[command(flatten)]
    pub vars: VarNames,
    /// How polls are accounted.
    #[command(flatten)]
    pub accounting: Accounting,
    /// A poll longer than this, in milliseconds, is a stall
    #[arg(long, value_name = "MS", default_value = "50", value_parser = threshold)]
    pub slow_session_threshold_ms: u64,
    /// Measure one interval, print it, exit
    #[arg(long)]
    pub once: bool,
    /// Length of the interval of --once, in seconds [default: 1]
    #[arg(long, value_name = "SECS", value_parser = interval)]
    pub interval: Option<f64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECS", value_parser = duration)]
    pub duration: Option<f64>,
    /// Pictures per second, 0.5 to 10 Hz (ignored with --once)
    #[arg(long, value_name = "HZ", default_value = "1", value_parser = refresh_rate)]
    pub refresh_rate: f64,
    /// Sort sessions by this (openrtc top's own default is memory); numbers descend, text ascends
    #[arg(long, value_name = "KEY", default_value = Sort::default().name(), value_parser = sort())]
    pub sort: Sort,
    /// Show sessions of this status only
    #[arg(long, value_name = "STATUS", default_value = StatusFilter::default().name(),
          value_parser = status())]
    pub status: StatusFilter,
    /// Show this agent only, by its exact name
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Show this tenant only, by its exact name
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Write JSON: JSON Lines, or one object with --once
    #[arg(long)]
    pub json: bool,
    /// Say more on stderr: -v what is attached where, -vv everything
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

/// Names of the context variables that say who a poll is for: every command that looks at a worker has
/// them.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct VarNames {
    /// Name of the context variable that holds the session's id
    #[arg(long, value_name = "NAME", default_value = "openrtc_session_id")]
    pub session_var: String,
    /// Name of the context variable that holds the agent's name
    #[arg(long, value_name = "NAME", default_value = "openrtc_agent_name")]
    pub agent_var: String,
    /// Name of the context variable that holds the tenant
    #[arg(long, value_name = "NAME", default_value = "openrtc_tenant_id")]
    pub tenant_var: String,
}

/// What says who a poll is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TagSource {
    /// A context variable.
    #[value(name = "contextvar")]
    Contextvar,
    /// The name of the task.
    #[value(name = "task-name")]
    TaskName,
}

/// `PID_MAX_LIMIT` of the kernel on 64 bits (include/linux/threads.h).
const PIDS: (u32, u32) = (1, 4_194_304);
/// Up to an hour.
const THRESHOLD_MS: (u64, u64) = (1, 3_600_000);
/// Ten milliseconds to an hour: below, a rate over the interval means little.
const INTERVAL_S: (f64, f64) = (0.01, 3600.0);
/// Up to a year.
const DURATION_S: (f64, f64) = (0.01, 31_536_000.0);
/// The band of `openrtc top`.
const REFRESH_HZ: (f64, f64) = (0.5, 10.0);

/// A command line that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What is wrong with it, on one line.
    pub message: String,
    /// What to type.
    pub hint: String,
}

impl Usage {
    /// Of its two sentences.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Usage {}

/// What comes of a command line.
#[derive(Clone, Debug, PartialEq)]
pub enum Typed {
    /// Something to do.
    Run(Box<Cli>),
    /// Something to examine.
    Doctor(Doctor),
    /// A worker to look at once.
    Dump(Box<DumpOf>),
    /// Help or version, asked for: print it to stdout as it is and exit 0.
    Print(String),
}

/// Reads a command line, its first word being the program's name.
pub fn parse<I, T>(words: I) -> Result<Typed, Usage>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
    // A command of its own: none of the flags above mean anything to it, nor its to them.
    if let [_, command, rest @ ..] = words.as_slice() {
        let named = format!("openrtc-probe {}", command.display());
        let rest = std::iter::once(named.into()).chain(rest.iter().cloned());
        if command == doctor::COMMAND {
            return typed(Doctor::try_parse_from(rest), Typed::Doctor);
        }
        if command == dump::COMMAND {
            return typed(DumpOf::try_parse_from(rest), |it| Typed::Dump(Box::new(it)));
        }
    }
    typed(Cli::try_parse_from(words), |cli| Typed::Run(Box::new(cli)))
}

/// What clap made of it, in our words.
fn typed<C>(parsed: clap::error::Result<C>, meant: impl Fn(C) -> Typed) -> Result<Typed, Usage> {
    match parsed {
        Ok(command) => Ok(meant(command)),
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            Ok(Typed::Print(error.render().to_string()))
        }
        Err(error) => Err(in_one_line(&error)),
    }
}

fn in_one_line(error: &clap::Error) -> Usage {
    let said = |kind| error.get(kind).map(ContextValue::to_string).unwrap_or_default();
    let (arg, value) = (said(ContextKind::InvalidArg), said(ContextKind::InvalidValue));
    let listed = said(ContextKind::ValidValue);
    let help = "see openrtc-probe --help";
    match error.kind() {
        ErrorKind::MissingRequiredArgument => {
            Usage::new(format!("missing {arg}"), "openrtc-probe --pid <PID of the worker>")
        }
        ErrorKind::InvalidValue if value.is_empty() => {
            Usage::new(format!("{arg} needs a value"), help)
        }
        ErrorKind::InvalidValue => {
            Usage::new(format!("{arg}: there is no {value:?}"), format!("one of {listed}"))
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(ToString::to_string);
            Usage::new(format!("{arg}: {value:?}: {}", why.unwrap_or_default()), help)
        }
        ErrorKind::ArgumentConflict => {
            Usage::new(format!("{arg} is given more than once"), "give it once")
        }
        ErrorKind::UnknownArgument => {
            let like = said(ContextKind::SuggestedArg);
            let hint = if like.is_empty() { help.into() } else { format!("did you mean {like}?") };
            Usage::new(format!("unknown argument {arg:?}"), hint)
        }
        _ => {
            let text = error.render().to_string();
            let first = text.lines().next().unwrap_or_default();
            Usage::new(first.trim_start_matches("error: "), help)
        }
    }
}

fn sort() -> impl TypedValueParser<Value = Sort> {
    named(&Sort::ALL)
}

fn status() -> impl TypedValueParser<Value = StatusFilter> {
    named(&StatusFilter::ALL)
}

/// By name, exactly: the lists of the views are the only ones.
fn named<T>(all: &'static [(T, &'static str)]) -> impl TypedValueParser<Value = T>
where
    T: Copy + Default + Send + Sync + 'static,
{
    PossibleValuesParser::new(all.iter().map(|(_, name)| *name)).map(move |typed| {
        let found = all.iter().find(|(_, name)| *name == typed);
        found.map_or_else(T::default, |(it, _)| *it)
    })
}

fn pid(text: &str) -> Result<u32, String> {
    within(text, PIDS, "a process id")
}

fn threshold(text: &str) -> Result<u64, String> {
    within(text, THRESHOLD_MS, "whole milliseconds")
}

fn interval(text: &str) -> Result<f64, String> {
    within(text, INTERVAL_S, "seconds")
}

fn duration(text: &str) -> Result<f64, String> {
    within(text, DURATION_S, "seconds")
}

fn refresh_rate(text: &str) -> Result<f64, String> {
    within(text, REFRESH_HZ, "Hz")
}

fn within<T>(text: &str, (least, most): (T, T), what: &str) -> Result<T, String>
where
    T: FromStr + PartialOrd + fmt::Display,
{
    let number = text.parse::<T>().ok().filter(|number| (&least..=&most).contains(&number));
    number.ok_or_else(|| format!("must be {what} from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    pub fn typed(line: &str) -> Result<Typed, Usage> {
        parse(std::iter::once("openrtc-probe").chain(line.split_whitespace()))
    }

    fn run(line: &str) -> Cli {
        match typed(line) {
            Ok(Typed::Run(cli)) => *cli,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn clap_finds_no_fault() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults() {
        let cli = run("--pid 42");
        assert_eq!(cli.pid, [42]);
        assert_eq!(cli.vars.session_var, "openrtc_session_id");
        assert_eq!(cli.vars.agent_var, "openrtc_agent_name");
        assert_eq!(cli.vars.tenant_var, "openrtc_tenant_id");
        assert_eq!(cli.slow_session_threshold_ms, 50);
        assert!((cli.refresh_rate - 1.0).abs() < f64::EPSILON);
        assert_eq!((cli.sort, cli.status), (Sort::CpuPct, StatusFilter::All));
        assert_eq!((cli.interval, cli.duration, cli.verbose), (None, None, 0));
    }

    #[test]
    fn every_name_of_a_sort_and_a_status_can_be_typed() {
        for (sort, name) in Sort::ALL {
            assert_eq!(run(&format!("--pid 1 --sort {name}")).sort, sort);
        }
        for (status, name) in StatusFilter::ALL {
            assert_eq!(run(&format!("--pid 1 --status {name}")).status, status);
        }
        assert_eq!(run("--pid 1 -vv").verbose, 2);
    }

    #[test]
    fn what_cannot_be_meant_is_one_line_and_a_hint() {
        let sorts = "one of mem_mb, cpu_pct, duration_s, agent_name, session_id, off_cpu, \
                     run_queue, polls, longest_poll, stalls, polls_per_s, idle";
        let help = "see openrtc-probe --help";
        for (line, message, hint) in [
            ("", "missing --pid <PID>", "openrtc-probe --pid <PID of the worker>"),
            ("--pid x", "--pid <PID>: \"x\": must be a process id from 1 to 4194304", help),
            ("--pid 0", "--pid <PID>: \"0\": must be a process id from 1 to 4194304", help),
            ("--pid", "--pid <PID> needs a value", help),
            ("--pid 1 --sort a --sort b", "--sort <KEY>: there is no \"a\"", sorts),
            ("--pid 1 --once --once", "--once is given more than once", "give it once"),
            ("--pid 1 --sort cpu", "--sort <KEY>: there is no \"cpu\"", sorts),
            (
                "--pid 1 --tag name",
                "--tag <SOURCE>: there is no \"name\"",
                "one of contextvar, task-name",
            ),
            ("--pid 1 --sort CPU_PCT", "--sort <KEY>: there is no \"CPU_PCT\"", sorts),
            (
                "--pid 1 --refresh-rate 20",
                "--refresh-rate <HZ>: \"20\": must be Hz from 0.5 to 10",
                help,
            ),
            (
                "--pid 1 --duration NaN",
                "--duration <SECS>: \"NaN\": must be seconds from 0.01 to 31536000",
                help,
            ),
            (
                "--pid 1 --slow-session-threshold-ms 0",
                "--slow-session-threshold-ms <MS>: \"0\": must be whole milliseconds from 1 to 3600000",
                help,
            ),
            (
                "--pid 1 --mode fast",
                "--mode <MODE>: there is no \"fast\"",
                "one of exact, sampled, auto",
            ),
            (
                "--pid 1 --sample-rate 20000",
                "--sample-rate <HZ>: \"20000\": must be whole Hz from 10 to 10000",
                help,
            ),
            (
                "--pid 1 --max-overhead much",
                "--max-overhead <PCT>: \"much\": must be percent from 0 to 100",
                help,
            ),
            ("--pid 1 --jsn", "unknown argument \"--jsn\"", "did you mean --json?"),
            ("4242", "unknown argument \"4242\"", help),
        ] {
            assert_eq!(typed(line), Err(Usage::new(message, hint)), "{line}");
        }
    }

    #[test]
    fn help_names_exit_codes_and_every_flag_in_one_line() {
        let Ok(Typed::Print(help)) = typed("--help") else { panic!("no help") };
        assert!(help.contains("Exit codes:") && help.contains("Examples:"));
        for arg in Cli::command().get_arguments() {
            let text = arg.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!text.is_empty() && !text.contains('\n'), "{}", arg.get_id());
        }
        assert!(matches!(typed("--version"), Ok(Typed::Print(_))));
    }
}
