//! `cargo xtask setup-python`: an environment for each interpreter, and the lists that the tests
//! read.
//!
//! The tests are to be run on certain interpreters. In CI a missing one is an error where it can be
//! had there; whatever is missing is said, and listed with the reason.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::{
    hint::Hinted,
    python::{self, Absent, Extras, Interpreter, Ready},
    step::{self, say},
    workspace::Workspace,
};

/// One kind of interpreter that the tests are to be run on, found on this machine.
struct Wanted {
    /// Where none is listed by its own name.
    name: &'static str,
    what: &'static str,
    minor: u32,
    system: bool,
    hint: &'static str,
    /// CI has it.
    required: bool,
}

const PYENV: &str = "pyenv installs it: pyenv install 3.9 3.10 3.11 3.12 3.13";

/// A required one that is not the distribution's, to be filled in.
const ELSEWHERE: Wanted =
    Wanted { name: "", what: "", minor: 0, system: false, hint: PYENV, required: true };

const WANTED: &[Wanted] = &[
    Wanted {
        name: "debian-bookworm-3.11",
        what: "the distribution's CPython 3.11, stripped",
        minor: 11,
        system: true,
        hint: "on Debian 12 type: apt-get install python3.11 python3.11-venv",
        ..ELSEWHERE
    },
    Wanted {
        name: "pyenv-3.9",
        what: "a CPython 3.9 that is not the distribution's",
        minor: 9,
        required: false,
        ..ELSEWHERE
    },
    Wanted {
        name: "pyenv-3.10",
        what: "a CPython 3.10 that is not the distribution's",
        minor: 10,
        required: false,
        ..ELSEWHERE
    },
    Wanted {
        name: "pyenv-3.11",
        what: "a CPython 3.11 that is not the distribution's",
        minor: 11,
        ..ELSEWHERE
    },
    Wanted {
        name: "pyenv-3.12",
        what: "a CPython 3.12 that is not the distribution's",
        minor: 12,
        ..ELSEWHERE
    },
    Wanted {
        name: "pyenv-3.13",
        what: "a CPython 3.13 that is not the distribution's",
        minor: 13,
        ..ELSEWHERE
    },
];

impl Wanted {
    fn is(&self, interpreter: &Interpreter) -> bool {
        interpreter.version.1 == self.minor
            && interpreter.system == self.system
            && (interpreter.stripped || !self.system)
    }
}

/// One that is wanted and not there.
#[derive(Serialize)]
struct Missing {
    name: String,
    why: String,
    /// An error in CI.
    #[serde(skip)]
    required: bool,
}

/// What is done about Debian roots that are not there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Roots {
    /// They are made, which takes minutes.
    Make,
    /// They are left out.
    LeaveOut,
}

/// Which tests an interpreter is for.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Tier {
    /// All of them.
    Full,
    /// The matrix, and tests that ask for it.
    Matrix,
}

/// One line of `interpreters.json`.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    version: String,
    /// From the workspace's root; where there is a root, inside that.
    python: &'a Path,
    system: bool,
    stripped: bool,
    /// The folder to change the root to, from the workspace's.
    root: Option<&'a Path>,
    /// What to set `PYTHONPATH` to, inside the root.
    python_path: Option<&'a Path>,
    tier: Tier,
    #[serde(flatten)]
    extras: Extras,
}

impl<'a> Entry<'a> {
    fn of(workspace: &'a Workspace, ready: &'a Ready) -> Self {
        let Ready { interpreter, python, root, extras } = ready;
        let is_full = root.is_none() && interpreter.version.has_openrtc();
        Self {
            name: &interpreter.name,
            version: interpreter.version.to_string(),
            python: workspace.relative(python),
            system: interpreter.system,
            stripped: interpreter.stripped,
            root: root.as_ref().map(|root| workspace.relative(&root.dir)),
            python_path: root.as_ref().map(|root| root.python_path.as_path()),
            tier: if is_full { Tier::Full } else { Tier::Matrix },
            extras: *extras,
        }
    }
}

/// Makes all environments and writes the lists; returns the place of that of interpreters.
pub fn run(workspace: &Workspace, roots: Roots) -> Result<PathBuf> {
    let in_ci = step::in_ci();
    let mut ready = on_this_machine(workspace, in_ci)?;
    let found: Vec<_> = ready.iter().map(|ready| &ready.interpreter).collect();
    let mut missing = missing(&found);
    let pip = ready.first().map(|ready| ready.python.clone()).ok_or_else(none)?;
    for (name, prepared) in python::prepare_roots(workspace, roots == Roots::Make, &pip)? {
        match prepared {
            Ok(one) => ready.push(one),
            Err(absent) => missing.push(missing_in_root(name, absent, roots)),
        }
    }
    for ready in &ready {
        say_ready(workspace, ready);
    }
    report(&missing, in_ci)?;
    let entries: Vec<_> = ready.iter().map(|ready| Entry::of(workspace, ready)).collect();
    write_list(&workspace.interpreters_not_run(), &missing)?;
    write_list(&workspace.interpreters(), &entries)?;
    Ok(workspace.interpreters())
}

/// The Python for a demonstration, which shows `openrtc`: what `python3` means, if that will do, else
/// the first that was found.
pub fn any(workspace: &Workspace) -> Result<PathBuf> {
    let found = python::find();
    let first = found.iter().find(|interpreter| interpreter.version.has_openrtc());
    Ok(python::prepare(workspace, first.ok_or_else(none)?)?.python)
}

fn none() -> anyhow::Error {
    let what = "no CPython 3.11 to 3.13 to run a worker with";
    Hinted::new(what, "on Debian 12 type: apt-get install python3 python3-venv").into()
}

fn on_this_machine(workspace: &Workspace, in_ci: bool) -> Result<Vec<Ready>> {
    let found = python::find();
    let mut ready = Vec::new();
    for interpreter in &found {
        match python::prepare(workspace, interpreter) {
            Ok(one) => ready.push(one),
            // One that cannot be used is only passed over where another can.
            Err(error) if in_ci || found.len() == 1 => return Err(error),
            Err(error) => say(&format!("not run: {}: {}", interpreter.name, why(&error))),
        }
    }
    Ok(ready)
}

fn why(error: &anyhow::Error) -> String {
    let hint = error.downcast_ref::<Hinted>().map(|hinted| format!("; {}", hinted.hint()));
    format!("{error:#}{}", hint.unwrap_or_default())
}

fn missing(found: &[&Interpreter]) -> Vec<Missing> {
    let is_missing = |wanted: &&Wanted| !found.iter().any(|interpreter| wanted.is(interpreter));
    let missing = |wanted: &Wanted| Missing {
        name: wanted.name.to_owned(),
        why: format!("{} was not found; {}", wanted.what, wanted.hint),
        required: wanted.required,
    };
    WANTED.iter().filter(is_missing).map(missing).collect()
}

/// What a suite does not offer, nobody can install.
fn missing_in_root(name: String, absent: Absent, roots: Roots) -> Missing {
    match absent {
        Absent::NotOffered(why) => Missing { name, why, required: false },
        Absent::Failed(error) => Missing { name, why: why(&error), required: roots == Roots::Make },
    }
}

fn say_ready(workspace: &Workspace, ready: &Ready) {
    let Entry { name, version, stripped, root, .. } = Entry::of(workspace, ready);
    let symbols = if stripped { "stripped" } else { "with symbols" };
    let uvloop = if ready.extras.uvloop { "uvloop" } else { "no uvloop" };
    let root = root.map(|root| format!(", in {}", root.display())).unwrap_or_default();
    say(&format!("{name}: CPython {version}, {symbols}, {uvloop}{root}"));
}

fn report(missing: &[Missing], in_ci: bool) -> Result<()> {
    for Missing { name, why, .. } in missing {
        say(&format!("not run: {name}: {why}"));
    }
    let required: Vec<_> =
        missing.iter().filter(|missing| missing.required).map(|missing| &*missing.name).collect();
    if in_ci && !required.is_empty() {
        bail!("CI=true and required interpreters are missing: {}", required.join(", "));
    }
    Ok(())
}

fn write_list(path: &Path, list: &[impl Serialize]) -> Result<()> {
    let text = serde_json::to_string_pretty(list).context("write a list of interpreters")?;
    fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
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
            &interpreter(11, false, false),
            &interpreter(12, false, false),
            &interpreter(11, true, true),
        ];
        assert!(report(&missing(&found), false).is_ok());
        let error = report(&missing(&found), true).unwrap_err().to_string();
        assert!(error.contains("pyenv-3.13") && !error.contains("3.12"), "{error}");
    }

    #[test]
    fn the_required_set_will_do_and_symbols_in_the_system_one_will_not() {
        let others = [11, 12, 13].map(|minor| interpreter(minor, false, false));
        for (stripped, is_complete) in [(true, true), (false, false)] {
            let system = interpreter(11, true, stripped);
            let found: Vec<_> = others.iter().chain([&system]).collect();
            let missing = missing(&found);
            assert_eq!(report(&missing, true).is_ok(), is_complete);
            let names: Vec<_> = missing.iter().map(|missing| &*missing.name).collect();
            assert!(names.contains(&"pyenv-3.9") && names.contains(&"pyenv-3.10"), "{names:?}");
        }
    }

    #[test]
    fn a_root_that_cannot_be_made_is_an_error_but_not_what_a_suite_does_not_offer() {
        let failed = || Absent::Failed(anyhow::anyhow!("no network"));
        let gone = Absent::NotOffered("no package".to_owned());
        let name = "debian-sid-3.14".to_owned();
        assert!(missing_in_root(name.clone(), failed(), Roots::Make).required);
        assert!(!missing_in_root(name.clone(), failed(), Roots::LeaveOut).required);
        assert!(!missing_in_root(name, gone, Roots::Make).required);
    }
}
