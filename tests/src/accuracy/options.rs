//! What was typed.

use anyhow::{Context as _, Result, bail};

use crate::setting::{Loop, listed};

/// The help text.
pub const USAGE: &str = "\
usage: bench-accuracy [--seconds 40] [--interpreters all|NAME,..] [--loops asyncio,uvloop] [--each]
                      [--mode exact]

Runs a fixture worker with OpenRTC's introspection in it, openrtc-probe beside it, and compares both
with the worker's own account. --each also prints every session. --mode is openrtc-probe's: demands on what is
sampled are others. Started by `cargo xtask bench
accuracy`, which sets OPENRTC_PROBE_BIN, OPENRTC_INTERPRETERS and OPENRTC_WORKSPACE.
";

/// What to measure.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// How long the probe looks, per run.
    pub seconds: u32,
    /// Names of interpreters; empty for all.
    pub interpreters: Vec<String>,
    /// Which loops.
    pub loops: Vec<Loop>,
    /// Whether to print every session.
    pub each: bool,
    /// How polls are accounted.
    pub mode: String,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// The help text.
    Help,
    /// A bench.
    Bench(Options),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seconds: 40,
            interpreters: Vec::new(),
            loops: Loop::ALL.to_vec(),
            each: false,
            mode: "exact".to_owned(),
        }
    }
}

impl Options {
    /// Reads the arguments after the program's name.
    pub fn from_command_line(mut arguments: impl Iterator<Item = String>) -> Result<Asked> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--help" | "-h" => return Ok(Asked::Help),
                "--seconds" => {
                    options.seconds = value()?.parse().context("--seconds takes a whole number")?;
                }
                "--interpreters" => options.interpreters = names(&value()?),
                "--loops" => {
                    options.loops =
                        names(&value()?).iter().map(|n| Loop::parse(n)).collect::<Result<_>>()?;
                }
                "--each" => options.each = true,
                "--mode" => options.mode = value()?,
                _ => bail!("unknown argument {argument}\n{USAGE}"),
            }
        }
        Ok(Asked::Bench(options))
    }
}

/// Splits a list at its commas; `all` is the empty list.
fn names(list: &str) -> Vec<String> {
    if list == "all" {
        return Vec::new();
    }
    listed(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Asked> {
        Options::from_command_line(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn everything_has_a_default_and_lists_go_by_commas() {
        let Asked::Bench(plain) = read("").unwrap() else { panic!("help") };
        assert_eq!((plain.seconds, plain.interpreters.len(), plain.loops.len()), (40, 0, 2));
        let Asked::Bench(some) =
            read("--seconds 5 --interpreters a,b --loops uvloop --each").unwrap()
        else {
            panic!("help")
        };
        assert_eq!(some.interpreters, ["a", "b"]);
        assert_eq!(some.loops, [Loop::Uvloop]);
        assert!(some.each);
        assert_eq!(read("--help").unwrap(), Asked::Help);
        assert!(read("--loops gevent").is_err());
        assert!(read("--seconds").is_err());
    }
}
