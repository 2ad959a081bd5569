//! The interpreters that `cargo xtask setup-python` has found or made, as its lists tell of them.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::field;

/// A Python to run the worker with.
#[derive(Debug, Clone)]
pub struct Interpreter {
    /// What `--interpreters` calls it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The executable, relative to the workspace; where there is a root, inside that.
    pub python: PathBuf,
    /// Whether it is the distribution's.
    pub system: bool,
    /// Whether its symbols were stripped.
    pub stripped: bool,
    /// The Debian root that it lives in.
    pub root: Option<Root>,
    /// What is run on it.
    pub tier: Tier,
    /// What it can import beside the standard library.
    pub extras: Extras,
}

/// What is run on an interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// All kernel tests.
    Full,
    /// The matrix, and tests that ask for it.
    Matrix,
}

/// Packages that an interpreter has, or has not.
#[derive(Debug, Clone, Copy)]
pub struct Extras {
    /// For `--loop uvloop`.
    pub uvloop: bool,
    /// For `--real` and `--introspection`.
    pub openrtc: bool,
}

/// A folder with a Debian in it.
#[derive(Debug, Clone)]
pub struct Root {
    /// Relative to the workspace.
    pub dir: PathBuf,
    /// What to set `PYTHONPATH` to, inside.
    pub python_path: String,
}

/// One that the tests should be run on, and that is not there.
#[derive(Debug, Clone)]
pub struct Missing {
    /// What it would be called.
    pub name: String,
    /// Why it is not there, and what could be done.
    pub why: String,
}

impl Interpreter {
    /// The second number of its version.
    pub fn minor(&self) -> u32 {
        let minor = self.version.split('.').nth(1);
        minor.and_then(|minor| minor.parse().ok()).unwrap_or_default()
    }
}

/// Reads `interpreters.json`.
pub fn parse_interpreters(text: &str) -> Result<Vec<Interpreter>> {
    let one = |entry: &Value| -> Result<Interpreter> {
        Ok(Interpreter {
            name: field::text(entry, "name")?,
            version: field::text(entry, "version")?,
            python: field::text(entry, "python")?.into(),
            system: field::flag(entry, "system"),
            stripped: field::flag(entry, "stripped"),
            root: field::maybe_text(entry, "root").map(|dir| root(entry, dir)).transpose()?,
            tier: tier(&field::text(entry, "tier")?)?,
            extras: Extras {
                uvloop: field::flag(entry, "uvloop"),
                openrtc: field::flag(entry, "openrtc"),
            },
        })
    };
    list(text)?.iter().map(one).collect()
}

fn tier(name: &str) -> Result<Tier> {
    match name {
        "full" => Ok(Tier::Full),
        "matrix" => Ok(Tier::Matrix),
        _ => bail!("no such tier: {name}"),
    }
}

fn root(entry: &Value, dir: String) -> Result<Root> {
    Ok(Root { dir: dir.into(), python_path: field::text(entry, "python_path")? })
}

/// Reads `not-run.json`.
pub fn parse_missing(text: &str) -> Result<Vec<Missing>> {
    let one = |entry: &Value| -> Result<Missing> {
        Ok(Missing { name: field::text(entry, "name")?, why: field::text(entry, "why")? })
    };
    list(text)?.iter().map(one).collect()
}

fn list(text: &str) -> Result<Vec<Value>> {
    let Value::Array(list) = serde_json::from_str(text).context("not JSON")? else {
        bail!("not a list");
    };
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_in_a_root_is_read() {
        let text = r#"[{"name":"debian-sid-3.14","version":"3.14.1","python":"/usr/bin/python3.14",
            "system":true,"stripped":true,"root":"target/python/roots/sid","python_path":"/opt/x",
            "tier":"matrix","uvloop":true,"openrtc":false}]"#;
        let found = parse_interpreters(text).unwrap().remove(0);
        assert_eq!((found.minor(), found.tier), (14, Tier::Matrix));
        assert!(found.extras.uvloop && !found.extras.openrtc);
        assert_eq!(found.root.unwrap().python_path, "/opt/x");
        let half = text.replace("python_path", "other");
        assert!(parse_interpreters(&half).is_err(), "a root needs to know where its packages are");
    }

    #[test]
    fn what_is_missing_has_a_reason() {
        let missing = parse_missing(r#"[{"name":"pyenv-3.9","why":"not found"}]"#).unwrap();
        assert_eq!((&*missing[0].name, &*missing[0].why), ("pyenv-3.9", "not found"));
        assert!(parse_missing(r#"[{"name":"pyenv-3.9"}]"#).is_err());
    }
}
