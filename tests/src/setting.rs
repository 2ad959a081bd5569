//! Where the interpreters, the fixtures and the daemon are, and how each is started.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::field;

/// What sets the environment.
const HINT: &str = "type: cargo xtask test kernel (or: cargo xtask bench ...)";

/// An event loop to run the worker on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loop {
    /// The standard library's.
    Asyncio,
    /// uvloop's.
    Uvloop,
}

impl Loop {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Asyncio, Self::Uvloop];

    /// As the worker's `--loop` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Asyncio => "asyncio",
            Self::Uvloop => "uvloop",
        }
    }

    /// By its name.
    pub fn parse(name: &str) -> Result<Self> {
        let named = Self::ALL.into_iter().find(|kind| kind.name() == name);
        named.with_context(|| format!("no such loop: {name} (asyncio, uvloop)"))
    }
}

impl fmt::Display for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A Python to run the worker with.
#[derive(Debug, Clone)]
pub struct Interpreter {
    /// What `--interpreters` calls it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The executable, relative to the workspace.
    pub python: PathBuf,
    /// Whether it is the distribution's.
    pub system: bool,
    /// Whether its symbols were stripped.
    pub stripped: bool,
}

impl Interpreter {
    /// The second number of its version.
    pub fn minor(&self) -> u32 {
        let minor = self.version.split('.').nth(1);
        minor.and_then(|minor| minor.parse().ok()).unwrap_or_default()
    }
}

/// The surroundings of tests and measurements.
#[derive(Debug)]
pub struct Setting {
    workspace: PathBuf,
    probe: PathBuf,
    interpreters: Vec<Interpreter>,
}

fn from_environment(name: &str) -> Result<PathBuf> {
    let value = std::env::var_os(name).map(PathBuf::from);
    value.with_context(|| format!("{name} is not set; {HINT}"))
}

impl Setting {
    /// Reads what `cargo xtask` has set.
    pub fn from_environment() -> Result<Self> {
        let list = from_environment("OPENRTC_INTERPRETERS")?;
        let text = std::fs::read_to_string(&list)
            .with_context(|| format!("reading the interpreters in {}; {HINT}", list.display()))?;
        let interpreters = parse_interpreters(&text)
            .with_context(|| format!("reading the interpreters in {}", list.display()))?;
        ensure!(!interpreters.is_empty(), "{} lists no interpreter; {HINT}", list.display());
        let workspace = from_environment("OPENRTC_WORKSPACE")?;
        let probe = from_environment("OPENRTC_PROBE_BIN")?;
        ensure!(probe.is_file(), "there is no {}; {HINT}", probe.display());
        Ok(Self { workspace, probe, interpreters })
    }

    /// All interpreters.
    pub fn interpreters(&self) -> &[Interpreter] {
        &self.interpreters
    }

    /// The interpreters of these names, or all when there are none.
    pub fn chosen(&self, names: &[String]) -> Result<Vec<Interpreter>> {
        if names.is_empty() {
            return Ok(self.interpreters.clone());
        }
        let known =
            || self.interpreters.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join(", ");
        names
            .iter()
            .map(|name| {
                let found = self.interpreters.iter().find(|i| i.name == *name);
                found
                    .cloned()
                    .with_context(|| format!("no interpreter {name} (there are: {})", known()))
            })
            .collect()
    }

    /// The interpreter for what does not depend on its version: the hardest one, stripped of its
    /// symbols, where there is such a one.
    pub fn usual(&self) -> &Interpreter {
        let stripped = self.interpreters.iter().find(|i| i.system && i.stripped);
        stripped.unwrap_or(&self.interpreters[0])
    }

    /// The newest interpreter, which has what the older ones have not.
    pub fn newest(&self) -> &Interpreter {
        let newest = self.interpreters.iter().max_by_key(|i| i.minor());
        newest.unwrap_or(&self.interpreters[0])
    }

    /// Runs `test` on all interpreters and both loops, and fails with all that went wrong.
    pub fn on_each(&self, mut test: impl FnMut(&Interpreter, Loop) -> Result<()>) -> Result<()> {
        let mut failed = Vec::new();
        for interpreter in &self.interpreters {
            for kind in Loop::ALL {
                if let Err(error) = test(interpreter, kind) {
                    failed.push(format!("{} on {kind}: {error:#}", interpreter.name));
                }
            }
        }
        ensure!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
        Ok(())
    }

    /// A fixture worker, with its arguments split at spaces.
    pub fn fixture(&self, interpreter: &Interpreter, words: &str) -> Command {
        let mut words = words.split_whitespace();
        let folder = self.workspace.join("tests/fixtures");
        let mut command = Command::new(self.workspace.join(&interpreter.python));
        command.arg(folder.join(words.next().unwrap_or_default())).args(words);
        command
    }

    /// The daemon's file.
    pub fn probe_file(&self) -> &Path {
        &self.probe
    }

    /// The daemon, on a process, with its other arguments split at spaces.
    pub fn probe(&self, pid: i32, words: &str) -> Command {
        let mut command = Command::new(&self.probe);
        command.args(["--pid", &pid.to_string()]).args(words.split_whitespace());
        command
    }
}

fn parse_interpreters(text: &str) -> Result<Vec<Interpreter>> {
    let Value::Array(list) = serde_json::from_str(text).context("not JSON")? else {
        bail!("not a list");
    };
    let one = |entry: &Value| -> Result<Interpreter> {
        Ok(Interpreter {
            name: field::text(entry, "name")?,
            version: field::text(entry, "version")?,
            python: field::text(entry, "python")?.into(),
            system: field::flag(entry, "system"),
            stripped: field::flag(entry, "stripped"),
        })
    };
    list.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting() -> Setting {
        let text = r#"[{"name":"py312","version":"3.12.1","python":"target/py/bin/python",
            "system":false,"stripped":false},{"name":"deb","version":"3.11.2","python":"x",
            "system":true,"stripped":true}]"#;
        let interpreters = parse_interpreters(text).unwrap();
        Setting { workspace: "w".into(), probe: "p".into(), interpreters }
    }

    #[test]
    fn the_list_names_a_python_inside_the_workspace() {
        let setting = setting();
        assert_eq!((setting.usual().name.as_str(), setting.newest().minor()), ("deb", 12));
        assert_eq!(setting.chosen(&["deb".to_owned()]).unwrap().len(), 1);
        assert_eq!(setting.chosen(&[]).unwrap().len(), 2);
        assert!(setting.chosen(&["nope".to_owned()]).is_err());
        let command = setting.fixture(setting.usual(), "churn.py  --loop uvloop");
        assert_eq!(command.get_program(), "w/x");
        let arguments: Vec<_> = command.get_args().collect();
        assert_eq!(arguments, ["w/tests/fixtures/churn.py", "--loop", "uvloop"]);
    }

    #[test]
    fn every_combination_is_run_and_every_failure_is_told() {
        let mut runs = 0;
        let error = setting().on_each(|interpreter, kind| {
            runs += 1;
            ensure!(kind == Loop::Asyncio || interpreter.minor() == 11, "no good");
            Ok(())
        });
        assert_eq!(runs, 4);
        assert_eq!(error.unwrap_err().to_string(), "1 failed:\npy312 on uvloop: no good");
    }
}
