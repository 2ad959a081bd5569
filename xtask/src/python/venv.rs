//! An environment for one interpreter, with the real `openrtc` and what the fixture workers need.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::Interpreter;
use crate::{hint::Hinted, lock, step, workspace::Workspace};

/// What is installed, one call of pip each. `openrtc` comes alone: what it would draw in serves
/// real calls.
const PACKAGES: &[&[&str]] = &[
    &["openrtc==0.20.1", "--no-deps"],
    &["watchfiles", "python-dotenv", "typer", "rich", "click", "psutil", "uvloop", "greenlet"],
];

/// Makes the environment if it is not there, and returns its Python.
pub fn prepare(workspace: &Workspace, interpreter: &Interpreter) -> Result<PathBuf> {
    let _turn = lock::take(&workspace.python_dir())?;
    let dir = workspace.python_dir().join(&interpreter.name);
    let python = dir.join("bin/python");
    let stamp_path = dir.join("openrtc-probe.stamp");
    let stamp = stamp(interpreter, &dir);
    if python.is_file() && fs::read_to_string(&stamp_path).is_ok_and(|old| old == stamp) {
        return Ok(python);
    }
    let shown = workspace.relative(&dir).display();
    step::timed(&format!("make {shown} with {}", interpreter.executable.display()), || {
        create(interpreter, &dir)?;
        PACKAGES.iter().try_for_each(|packages| install(&python, packages))
    })?;
    fs::write(&stamp_path, stamp).with_context(|| format!("write {}", stamp_path.display()))?;
    Ok(python)
}

/// All that the environment depends on; its scripts remember its place.
fn stamp(interpreter: &Interpreter, dir: &Path) -> String {
    let Interpreter { version, executable, .. } = interpreter;
    format!("{version} {}\n{}\n{PACKAGES:?}\n", executable.display(), dir.display())
}

fn create(interpreter: &Interpreter, dir: &Path) -> Result<()> {
    let what = || format!("make a Python environment with {}", interpreter.executable.display());
    if !interpreter.has_ensurepip {
        return Err(Hinted::new(
            format!("{}: it has no ensurepip", what()),
            missing_ensurepip(interpreter),
        )
        .into());
    }
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    let mut venv = isolated(&interpreter.executable);
    step::output(venv.args(["-m", "venv"]).arg(dir)).with_context(what)?;
    Ok(())
}

/// What to type when an interpreter cannot make environments: distributions split that part off.
fn missing_ensurepip(interpreter: &Interpreter) -> String {
    if interpreter.system {
        format!("type: apt-get install python{}-venv", interpreter.version.short())
    } else {
        "build this interpreter with ensurepip, or take it off PATH".to_owned()
    }
}

fn install(python: &Path, packages: &[&str]) -> Result<()> {
    let mut pip = isolated(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
    let status = step::status(pip.stdin(Stdio::null()))?;
    if !status.success() {
        bail!("pip install {} failed ({status})", packages.join(" "));
    }
    Ok(())
}

/// A Python that no other environment leaks into.
fn isolated(python: &Path) -> Command {
    let mut command = Command::new(python);
    for name in ["PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"] {
        command.env_remove(name);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::Version;

    fn without_ensurepip(system: bool) -> Interpreter {
        Interpreter {
            name: "x-3.11".into(),
            version: Version(3, 11, 2),
            executable: "/usr/bin/python3.11".into(),
            system,
            stripped: true,
            has_ensurepip: false,
        }
    }

    #[test]
    fn a_missing_ensurepip_names_the_package() {
        let error = create(&without_ensurepip(true), Path::new("/nowhere")).unwrap_err();
        let hint = error.downcast_ref::<Hinted>().unwrap().hint();
        assert_eq!(hint, "type: apt-get install python3.11-venv");
        let error = create(&without_ensurepip(false), Path::new("/nowhere")).unwrap_err();
        assert!(!error.downcast_ref::<Hinted>().unwrap().hint().contains("apt-get"));
    }
}
