//! What was typed behind `openrtc-probe doctor`.

use clap::Parser;

use super::{VarNames, pid};

/// The first word.
pub const COMMAND: &str = "doctor";

const AFTER_HELP: &str = "\
Exit codes:
  0  nothing keeps openrtc-probe from its work
  1  the self-test failed
  2  the command line cannot be meant: a wrong flag, no such process, a thread's id
  3  this host cannot: a capability or a kernel feature is missing
  4  this worker cannot: it has exited, is not Python, or of a version we do not know

The self-test starts the python3 of PATH as a small worker of its own, for about a second; it never
touches the worker of --pid, whose memory is only read.

Every check is documented in docs/output.md.";

/// Says what this host and this worker lack, and tries whether all of it works together: the first thing
/// that a bug report will hold.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(name = "openrtc-probe doctor", version, after_help = AFTER_HELP)]
pub struct Doctor {
    /// Process id of a worker to examine too
    #[arg(long, value_name = "PID", value_parser = pid)]
    pub pid: Option<u32>,
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

    fn doctor(line: &str) -> Doctor {
        match typed(line) {
            Ok(Typed::Doctor(doctor)) => doctor,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_worker_is_examined_only_if_it_is_named() {
        let plain = doctor("doctor");
        assert_eq!((plain.pid, plain.json), (None, false));
        assert_eq!(plain.vars.session_var, "openrtc_session_id");
        let named = doctor("doctor --pid 42 --json --session-var request_id");
        assert_eq!((named.pid, named.json), (Some(42), true));
        assert_eq!(named.vars.session_var, "request_id");
    }

    #[test]
    fn what_cannot_be_meant_is_one_line_and_a_hint() {
        let help = "see openrtc-probe --help";
        for (line, message, hint) in [
            ("doctor 42", "unknown argument \"42\"", help),
            ("doctor --once", "unknown argument \"--once\"", help),
            ("doctor --jsn", "unknown argument \"--jsn\"", "did you mean --json?"),
            ("doctor --pid 0", "--pid <PID>: \"0\": must be a process id from 1 to 4194304", help),
            ("--pid 1 doctor", "unknown argument \"doctor\"", help),
        ] {
            assert_eq!(typed(line), Err(Usage::new(message, hint)), "{line}");
        }
    }

    #[test]
    fn help_and_version_are_printed() {
        let Ok(Typed::Print(help)) = typed("doctor --help") else { panic!("no help") };
        assert!(help.contains("Exit codes:") && help.contains("openrtc-probe doctor"), "{help}");
        assert!(matches!(typed("doctor --version"), Ok(Typed::Print(_))));
    }
}
