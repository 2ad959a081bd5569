//! What was typed.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::{RATES, contenders::CONTENDERS};
use crate::setting::{Loop, listed};

/// The help text.
pub const USAGE: &str = "\
usage: bench [--loops asyncio,uvloop] [--rates 1000,0] [--contenders exact,sampled] [--interpreters NAME,..]
             [--rounds 9] [--seconds 1] [--quick] [--no-scores] [--update-docs]

What each way of looking costs a worker: phases with it and without alternate in one run, at each rate of polls
(0: back to back), for auto also under a step of the rate; and, but for --no-scores, how well each sees. Keeps all figures in target/bench/performance.json, where those of other runs stay; --update-docs
makes the table in docs/performance.md of all of them.
--quick: two rounds of half a second, to try it out. Started by `cargo xtask bench`.
";

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Names of interpreters.
    pub interpreters: Vec<String>,
    /// Which loops.
    pub loops: Vec<Loop>,
    /// Polls a second.
    pub rates: Vec<u32>,
    /// Names of contenders; empty for all.
    pub contenders: Vec<String>,
    /// Rounds in which each comes once.
    pub rounds: usize,
    /// How long each phase is.
    pub phase: Duration,
    /// Whether it is scored how well each sees.
    pub scores: bool,
    /// Whether the table in the docs is made anew.
    pub updates_docs: bool,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// The help text.
    Help,
    /// A bench.
    Bench(Options),
}

impl Options {
    /// Reads the arguments after the program's name.
    pub fn from_command_line(mut arguments: impl Iterator<Item = String>) -> Result<Asked> {
        let mut options = Options {
            interpreters: vec!["debian-bookworm-3.11".to_owned()],
            loops: vec![Loop::Asyncio],
            rates: RATES.to_vec(),
            contenders: Vec::new(),
            rounds: 9,
            phase: Duration::from_secs(1),
            scores: true,
            updates_docs: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value =
                || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--help" | "-h" => return Ok(Asked::Help),
                "--interpreters" => options.interpreters = listed(&value()?),
                "--loops" => {
                    options.loops = listed(&value()?)
                        .iter()
                        .map(|it| Loop::parse(it))
                        .collect::<Result<_>>()?;
                }
                "--rates" => {
                    let rates = listed(&value()?);
                    let rates = rates.iter().map(|it| it.parse().context("a rate is a number"));
                    options.rates = rates.collect::<Result<_>>()?;
                }
                "--contenders" => options.contenders = listed(&value()?),
                "--rounds" => options.rounds = value()?.parse().context("--rounds is a number")?,
                "--seconds" => {
                    let seconds: f64 = value()?.parse().context("--seconds is a number")?;
                    options.phase = Duration::try_from_secs_f64(seconds)?;
                }
                "--quick" => (options.rounds, options.phase) = (2, Duration::from_millis(500)),
                "--no-scores" => options.scores = false,
                "--update-docs" => options.updates_docs = true,
                _ => bail!("unknown argument {argument}\n{USAGE}"),
            }
        }
        let known = |name: &String| CONTENDERS.iter().any(|it| it.name == name);
        let unknown = options.contenders.iter().find(|name| !known(name));
        ensure!(unknown.is_none(), "there is no contender {unknown:?}\n{USAGE}");
        Ok(Asked::Bench(options))
    }

    /// Whether this contender was asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.contenders.is_empty() || self.contenders.iter().any(|it| it == name)
    }
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
        assert_eq!((plain.rounds, plain.rates.len(), plain.loops.len()), (9, 5, 1));
        assert!(plain.wants("exact") && plain.wants("py-spy-100"));
        let line = "--rates 1000,0 --contenders auto,exact --loops uvloop --quick --update-docs";
        let Asked::Bench(some) = read(line).unwrap() else { panic!("help") };
        assert_eq!((some.rates.as_slice(), some.rounds), (&[1000, 0][..], 2));
        assert!(some.wants("auto") && !some.wants("sampled") && some.updates_docs);
        assert_eq!(read("--help").unwrap(), Asked::Help);
        assert!(read("--contenders strace").is_err() && read("--rates fast").is_err());
    }
}
