//! `cargo xtask setup-python`: an environment for each interpreter, and the list that the tests
//! read.
//!
//! The kernel tests are to be run on certain interpreters. In CI a missing one is an error;
//! elsewhere it is said.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::{
    hint::Hinted,
    python::{self, Interpreter},
    step::say,
    workspace::Workspace,
};

/// One kind of interpreter that the tests are to be run on.
struct Wanted {
    what: &'static str,
    minor: u32,
    system: bool,
    hint: &'static str,
}

const PYENV: &str = "pyenv installs it: pyenv install 3.11 3.12 3.13";

const WANTED: &[Wanted] = &[
    Wanted {
        what: "the distribution's CPython 3.11, stripped",
        minor: 11,
        system: true,
        hint: "on Debian 12 type: apt-get install python3.11 python3.11-venv",
    },
    Wanted {
        what: "a CPython 3.11 that is not the distribution's",
        minor: 11,
        system: false,
        hint: PYENV,
    },
    Wanted {
        what: "a CPython 3.12 that is not the distribution's",
        minor: 12,
        system: false,
        hint: PYENV,
    },
    Wanted {
        what: "a CPython 3.13 that is not the distribution's",
        minor: 13,
        system: false,
        hint: PYENV,
    },
];

impl Wanted {
    fn is(&self, interpreter: &Interpreter) -> bool {
        interpreter.version.1 == self.minor
            && interpreter.system == self.system
            && (interpreter.stripped || !self.system)
    }
}

/// One line of `interpreters.json`.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    version: String,
    /// The environment's, from the workspace's root.
    python: PathBuf,
    system: bool,
    stripped: bool,
}

/// Makes all environments and writes the list; returns the list's place.
pub fn run(workspace: &Workspace) -> Result<PathBuf> {
    let in_ci = env::var_os("CI").is_some_and(|value| value == "true");
    let found = python::find();
    let mut ready = Vec::new();
    for interpreter in &found {
        match python::prepare(workspace, interpreter) {
            Ok(python) => ready.push((interpreter, python)),
            // One that cannot be used is only passed over where another can.
            Err(error) if in_ci || found.len() == 1 => return Err(error),
            Err(error) => say_not_run(interpreter, &error),
        }
    }
    for (interpreter, python) in &ready {
        let symbols = if interpreter.stripped { "stripped" } else { "with symbols" };
        let python = workspace.relative(python).display();
        say(&format!("{}: CPython {}, {symbols}, {python}", interpreter.name, interpreter.version));
    }
    report_missing(&found, in_ci)?;
    if ready.is_empty() {
        return Err(none());
    }
    write_list(workspace, &ready)
}

/// The interpreter for a demonstration: what `python3` means, if that will do, else the first that
/// was found.
pub fn any(workspace: &Workspace) -> Result<PathBuf> {
    let found = python::find();
    python::prepare(workspace, found.first().ok_or_else(none)?)
}

fn none() -> anyhow::Error {
    let what = "no CPython 3.11 to 3.13 to run a worker with";
    Hinted::new(what, "on Debian 12 type: apt-get install python3 python3-venv").into()
}

fn say_not_run(interpreter: &Interpreter, error: &anyhow::Error) {
    say(&format!("not run: {}: {error:#}", interpreter.name));
    if let Some(hinted) = error.downcast_ref::<Hinted>() {
        say(&format!("hint: {}", hinted.hint()));
    }
}

fn report_missing(found: &[Interpreter], in_ci: bool) -> Result<()> {
    let is_missing = |wanted: &&Wanted| !found.iter().any(|interpreter| wanted.is(interpreter));
    let missing: Vec<_> = WANTED.iter().filter(is_missing).collect();
    for wanted in &missing {
        say(&format!("not run: {} (not found; {})", wanted.what, wanted.hint));
    }
    if in_ci && !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|wanted| wanted.what).collect();
        bail!("CI=true and required interpreters are missing: {}", names.join("; "));
    }
    Ok(())
}

fn write_list(workspace: &Workspace, ready: &[(&Interpreter, PathBuf)]) -> Result<PathBuf> {
    let entries: Vec<_> = ready
        .iter()
        .map(|(interpreter, python)| Entry {
            name: &interpreter.name,
            version: interpreter.version.to_string(),
            python: workspace.relative(python).to_path_buf(),
            system: interpreter.system,
            stripped: interpreter.stripped,
        })
        .collect();
    let path = workspace.interpreters();
    let text = serde_json::to_string_pretty(&entries).context("write the list of interpreters")?;
    fs::write(&path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::Version;

    fn interpreter(minor: u32, system: bool, stripped: bool) -> Interpreter {
        Interpreter {
            name: format!("x-3.{minor}"),
            version: Version(3, minor, 0),
            executable: PathBuf::new(),
            system,
            stripped,
            has_ensurepip: true,
        }
    }

    #[test]
    fn in_ci_a_missing_interpreter_is_an_error_that_names_it() {
        let found = [
            interpreter(11, false, false),
            interpreter(12, false, false),
            interpreter(11, true, true),
        ];
        assert!(report_missing(&found, false).is_ok());
        let error = report_missing(&found, true).unwrap_err().to_string();
        assert!(error.contains("a CPython 3.13") && !error.contains("3.12"), "{error}");
    }

    #[test]
    fn the_complete_set_will_do_and_symbols_in_the_system_one_will_not() {
        let others = [11, 12, 13].map(|minor| interpreter(minor, false, false));
        for (stripped, is_complete) in [(true, true), (false, false)] {
            let system = [interpreter(11, true, stripped)];
            let found = [&others[..], &system].concat();
            assert_eq!(report_missing(&found, true).is_ok(), is_complete);
        }
    }
}
