//! What was typed behind `openrtc-probe dump`.

use clap::Parser;

use super::{TagSource, VarNames, pid};

/// The first word.
pub const COMMAND: &str = "dump";

const AFTER_HELP: &str = "\
Each task is a line: what it waits for, then where, innermost first, with an arrow at the innermost place
of your own code. Tasks of one session that do the same are said once. Memory is only read, no probe is
attached: that takes CAP_SYS_PTRACE and nothing else.

Exit codes:
  0  it did what was asked
  1  something failed: no task is of the session that was asked for
  2  the command line cannot be meant: a wrong flag, no such process, a thread's id
  3  this host cannot: a capability is missing
  4  this worker cannot: it has exited, is not Python, or of a version we do not know

Examples:
  sudo openrtc-probe dump --pid 4242
      What every session does, and the tasks of none.
  sudo openrtc-probe dump --pid 4242 --session AJ_1f3c
      One call that hangs: what it awaits, at which line.
  sudo openrtc-probe dump --pid 4242 --json --session-var request_id
      One JSON object, of any asyncio service with a request id in a ContextVar.

Text and JSON are documented in docs/output.md.";

/// What every session of a live worker waits for right now, and at which line: one look from outside, which
/// answers what a single call hangs on.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(name = "openrtc-probe dump", version, after_help = AFTER_HELP)]
pub struct DumpOf {
    /// Process id of the worker
    #[arg(long, value_name = "PID", value_parser = pid, required = true)]
    pub pid: u32,
    /// Look at this session only, by its exact id
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// What says which session a task is of: a context variable, or its name
    #[arg(long, value_name = "SOURCE", default_value = "contextvar")]
    pub tag: TagSource,
    /// Names of context variables.
    #[command(flatten)]
    pub vars: VarNames,
    /// Write one JSON object
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Typed, Usage, tests::typed};

    fn dump(line: &str) -> DumpOf {
        match typed(line) {
            Ok(Typed::Dump(dump)) => *dump,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_worker_and_at_most_one_session() {
        let plain = dump("dump --pid 42");
        assert_eq!((plain.pid, plain.session, plain.json), (42, None, false));
        assert_eq!(
            (plain.tag, &*plain.vars.session_var),
            (TagSource::Contextvar, "openrtc_session_id")
        );
        let one = dump("dump --pid 42 --session AJ_1 --json --tag task-name --agent-var a");
        assert_eq!((one.session.as_deref(), one.json), (Some("AJ_1"), true));
        assert_eq!((one.tag, &*one.vars.agent_var), (TagSource::TaskName, "a"));
    }

    #[test]
    fn what_cannot_be_meant_is_one_line_and_a_hint() {
        let help = "see openrtc-probe --help";
        let missing = "openrtc-probe --pid <PID of the worker>";
        for (line, message, hint) in [
            ("dump", "missing --pid <PID>", missing),
            ("dump 42", "unknown argument \"42\"", help),
            ("dump --pid 1 --once", "unknown argument \"--once\"", help),
            ("dump --pid 1 --pid 2", "--pid <PID> is given more than once", "give it once"),
            ("dump --pid 1 --sesion a", "unknown argument \"--sesion\"", "did you mean --session?"),
        ] {
            assert_eq!(typed(line), Err(Usage::new(message, hint)), "{line}");
        }
    }

    #[test]
    fn help_and_version_are_printed() {
        let Ok(Typed::Print(help)) = typed("dump --help") else { panic!("no help") };
        assert!(help.contains("Exit codes:") && help.contains("Examples:"), "{help}");
        assert!(matches!(typed("dump --version"), Ok(Typed::Print(_))));
    }
}
