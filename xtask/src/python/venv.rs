//! An environment for one interpreter of this machine, with what the fixture workers need.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use super::{Extras, Interpreter, Ready, extras};
use crate::{hint::Hinted, lock, step, workspace::Workspace};

/// Makes the environment if it is not there.
pub fn prepare(workspace: &Workspace, interpreter: &Interpreter) -> Result<Ready> {
    let _turn = lock::take(&workspace.python_dir())?;
    let dir = workspace.python_dir().join(&interpreter.name);
    let python = dir.join("bin/python");
    let stamp_path = dir.join("openrtc-probe.stamp");
    let stamp = stamp(interpreter, &dir);
    let is_made = fs::read_to_string(&stamp_path).is_ok_and(|old| old == stamp);
    if !is_made || !python.is_file() {
        let shown = workspace.relative(&dir).display();
        step::timed(&format!("make {shown} with {}", interpreter.executable.display()), || {
            create(interpreter, &dir)?;
            extras::install(interpreter.version, || {
                let mut pip = isolated(&python);
                pip.args(["-m", "pip", "install"]);
                pip
            })
        })?;
        fs::write(&stamp_path, stamp).with_context(|| format!("write {}", stamp_path.display()))?;
    }
    let extras = Extras::ask(&mut isolated(&python))?;
    Ok(Ready { interpreter: interpreter.clone(), python, root: None, extras })
}

/// All that the environment depends on; its scripts remember its place.
fn stamp(interpreter: &Interpreter, dir: &Path) -> String {
    let Interpreter { version, executable, .. } = interpreter;
    let (executable, dir) = (executable.display(), dir.display());
    format!("{version} {executable}\n{dir}\n{}", extras::stamp(*version))
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
