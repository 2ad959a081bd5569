//! What the fixture workers import beside the standard library, where there is a version of it for
//! the interpreter.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Version;
use crate::step::{self, say};

/// One call of pip each. `openrtc` comes alone: what it would draw in serves real calls.
const OPENRTC: &[&[&str]] = &[
    &["openrtc==0.20.1", "--no-deps"],
    &["watchfiles", "python-dotenv", "typer", "rich", "click", "psutil"],
];

/// Taken as wheels only: nothing is compiled, and a version that has none does without.
const WHEELS: &[&str] = &["uvloop", "greenlet"];

/// An interpreter tells what it can import.
const QUESTION: &str = r#"
import importlib, json
modules = {
    "uvloop": "uvloop",
    "greenlet": "greenlet",
    "openrtc": "openrtc.observability.session_context",
}
def can_import(module):
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True
print(json.dumps({name: can_import(module) for name, module in modules.items()}))
"#;

/// What can be imported.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Extras {
    pub uvloop: bool,
    pub greenlet: bool,
    pub openrtc: bool,
}

impl Extras {
    /// Asks the interpreter that this command starts.
    pub fn ask(python: &mut Command) -> Result<Self> {
        let answer = step::output(python.args(["-c", QUESTION]).stdin(Stdio::null()))?;
        serde_json::from_str(&answer).context("read what an interpreter can import")
    }
}

/// What [`install`] depends on, for a stamp.
pub fn stamp(version: Version) -> String {
    let openrtc = if version.has_openrtc() { OPENRTC } else { &[] };
    format!("{openrtc:?} {WHEELS:?}\n")
}

/// Installs all that there is for this version; `pip` begins a call of `pip install`.
pub fn install(version: Version, pip: impl Fn() -> Command) -> Result<()> {
    if version.has_openrtc() {
        for packages in OPENRTC {
            let status = step::status(quiet(pip().args(*packages)))?;
            if !status.success() {
                bail!("pip install {} failed ({status})", packages.join(" "));
            }
        }
    }
    if install_wheels(WHEELS, pip())? {
        return Ok(());
    }
    for package in WHEELS {
        if !install_wheels(&[package], pip())? {
            say(&format!("there is no wheel of {package} for CPython {}", version.short()));
        }
    }
    Ok(())
}

/// Whether there are wheels of all of them.
fn install_wheels(packages: &[&str], mut pip: Command) -> Result<bool> {
    let output = quiet(pip.arg("--only-binary=:all:").args(packages))
        .output()
        .with_context(|| format!("start {}", pip.get_program().display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && !has_no_wheel(&said) {
        let packages = packages.join(" ");
        bail!("pip install {packages} failed ({}): {}", output.status, said.trim());
    }
    Ok(output.status.success())
}

/// What is imported is compiled then; much of it never is.
fn quiet(pip: &mut Command) -> &mut Command {
    pip.args(["--quiet", "--no-compile", "--disable-pip-version-check"])
        .arg("--root-user-action=ignore")
        .stdin(Stdio::null())
}

/// Whether pip looked and found none. It says the same where it could not look, after having tried
/// again and again.
fn has_no_wheel(said: &str) -> bool {
    said.contains("No matching distribution found") && !said.contains("Retrying")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_wheel_is_told_from_a_missing_network() {
        let none = "ERROR: No matching distribution found for uvloop";
        assert!(has_no_wheel(none));
        assert!(!has_no_wheel(&format!("WARNING: Retrying (Retry(total=4))\n{none}")));
        assert!(!has_no_wheel("ERROR: Could not install packages due to an OSError"));
    }

    #[test]
    fn versions_without_openrtc_do_without() {
        assert!(stamp(Version(3, 13, 0)).contains("openrtc"));
        assert!(!stamp(Version(3, 14, 0)).contains("openrtc"));
    }
}
