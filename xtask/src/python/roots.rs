//! Debian roots for interpreters that this machine's distribution does not have: made by debootstrap,
//! kept in `target/python/roots`, entered by chroot.
//!
//! What is mounted for a command in a root is mounted in a mount namespace of its own, and gone when
//! the command is. pip never runs inside: it is told which interpreter it installs for.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};

use super::{Extras, Ready, Version, extras, find};
use crate::{hint::Hinted, lock, root, step, workspace::Workspace};

/// A release of Debian, and the interpreters that are taken from it.
pub struct Suite {
    pub name: &'static str,
    /// Of CPython 3.
    pub minors: &'static [u32],
}

/// The distribution's builds before and after Debian 12's: stripped, static, at fixed addresses.
pub const SUITES: &[Suite] = &[
    Suite { name: "bullseye", minors: &[9] },
    Suite { name: "trixie", minors: &[13] },
    Suite { name: "sid", minors: &[14, 15] },
];

/// Where a root keeps what is ours.
const OURS: &str = "opt/openrtc-probe";

/// Oldest last: a wheel for any of them runs on the C library of every suite.
const PLATFORMS: &[&str] = &[
    "manylinux_2_28_x86_64",
    "manylinux_2_24_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
    "manylinux_2_12_x86_64",
    "manylinux2010_x86_64",
    "manylinux_2_5_x86_64",
    "manylinux1_x86_64",
];

/// A root, as somebody outside sees it.
#[derive(Clone, Debug)]
pub struct Root {
    pub dir: PathBuf,
    /// For `PYTHONPATH`, inside.
    pub python_path: PathBuf,
}

/// Why an interpreter of a suite is not there.
pub enum Absent {
    /// The suite has moved on, or is not so far yet: there is nothing to install.
    NotOffered(String),
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Absent {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// An interpreter's name in lists, and the interpreter.
pub type Prepared = (String, Result<Ready, Absent>);

/// All interpreters of all suites; `pip` is a Python that has pip. Roots that are not there are made
/// if that is asked for, all at once: each waits for the network and the disk most of the time.
pub fn prepare_all(workspace: &Workspace, make: bool, pip: &Path) -> Result<Vec<Prepared>> {
    let _turn = lock::take(&workspace.python_dir())?;
    if make && !root::is_root() && root::check().is_ok() {
        // So that sudo asks for a password once, and not each of the threads.
        step::status(root::command(Path::new("true")).stdin(Stdio::inherit()))?;
    }
    let one = |suite: &'static Suite| {
        move || {
            let made = suite.make_once(workspace, make).map_err(|error| format!("{error:#}"));
            let prepare = |minor: &u32| {
                let prepared = match &made {
                    Ok(()) => suite.prepare(workspace, *minor, make, pip),
                    Err(why) => Err(Absent::Failed(anyhow::anyhow!("{why}"))),
                };
                (suite.name_of(*minor), prepared)
            };
            suite.minors.iter().map(prepare).collect::<Vec<_>>()
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = SUITES.iter().map(|suite| scope.spawn(one(suite))).collect();
        let mut all = Vec::new();
        for thread in threads {
            let Ok(some) = thread.join() else { bail!("a thread that makes a root has panicked") };
            all.extend(some);
        }
        Ok(all)
    })
}

impl Suite {
    /// What an interpreter of it is called.
    pub fn name_of(&self, minor: u32) -> String {
        format!("debian-{}-3.{minor}", self.name)
    }

    fn dir(&self, workspace: &Workspace) -> PathBuf {
        workspace.python_dir().join("roots").join(self.name)
    }

    /// Makes the root, unless a stamp beside it says that this was done to the end.
    fn make_once(&self, workspace: &Workspace, make: bool) -> Result<()> {
        let dir = self.dir(workspace);
        let stamp = Stamp::beside(&dir, "root", format!("debootstrap {}\n", self.name));
        if dir.is_dir() && stamp.is_set() {
            return Ok(());
        }
        if !make {
            bail!(Hinted::new("its root is not made yet", "type: cargo xtask setup-python"));
        }
        root::check()?;
        let debootstrap = find_debootstrap()?;
        let shown = workspace.relative(&dir).display();
        step::timed(&format!("make {shown} with debootstrap"), || self.make(&debootstrap, &dir))?;
        stamp.set()
    }

    /// In a mount namespace of its own, so that an interrupted run leaves nothing mounted.
    fn make(&self, debootstrap: &Path, dir: &Path) -> Result<()> {
        let log_path = dir.with_extension("log");
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        }
        let log = File::create(&log_path).with_context(|| format!("{}", log_path.display()))?;
        if dir.exists() {
            let mut remove = root::command(Path::new("rm"));
            step::output(remove.args(["-r", "-f", "--one-file-system"]).arg(dir))?;
        }
        let mut command = root::command(Path::new("unshare"));
        command.arg("--mount").arg(debootstrap).arg("--variant=minbase").arg(self.name).arg(dir);
        let errors = log.try_clone().context("write debootstrap's log")?;
        let status = step::status(command.stdin(Stdio::null()).stdout(log).stderr(errors))?;
        if !status.success() {
            let said = fs::read_to_string(&log_path).unwrap_or_default();
            let last = said.lines().rfind(|line| line.starts_with("E:")).unwrap_or_default();
            bail!("debootstrap {} failed ({status}; {}): {last}", self.name, log_path.display());
        }
        Ok(())
    }

    fn prepare(
        &self,
        workspace: &Workspace,
        minor: u32,
        make: bool,
        pip: &Path,
    ) -> Result<Ready, Absent> {
        let (name, dir) = (self.name_of(minor), self.dir(workspace));
        let version = Version(3, minor, 0);
        let file = format!("usr/bin/python{}", version.short());
        if make && !dir.join(&file).is_file() {
            step::timed(&format!("install {name}"), || Ok(install_python(&dir, version)))??;
        }
        let python = Path::new("/").join(&file);
        let answer = find::ask_with(inside(&dir, "").arg(&python));
        let answer =
            answer.with_context(|| format!("{} does not answer", dir.join(&file).display()))?;
        let image = dir.join(answer.image.strip_prefix("/").unwrap_or(&answer.image));
        let interpreter = answer.interpreter(name, true, &image);
        let ours = format!("{OURS}/python{}", version.short());
        install_extras(&dir, &ours, version, pip)?;
        let python_path = Path::new("/").join(&ours);
        let extras = Extras::ask(
            inside(&dir, &format!("PYTHONPATH={}", python_path.display())).arg(&python),
        )?;
        Ok(Ready { interpreter, python, root: Some(Root { dir, python_path }), extras })
    }
}

/// A file that says, beside a root, what was done to it.
struct Stamp {
    path: PathBuf,
    text: String,
}

impl Stamp {
    fn beside(dir: &Path, what: &str, text: String) -> Self {
        Self { path: dir.with_extension(format!("{what}.stamp")), text }
    }

    fn is_set(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|old| old == self.text)
    }

    fn set(&self) -> Result<()> {
        let path = &self.path;
        fs::write(path, &self.text).with_context(|| format!("write {}", path.display()))
    }
}

fn find_debootstrap() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Where a user's PATH need not lead.
    let dirs = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let mut files = dirs.map(|dir| dir.join("debootstrap")).filter(|file| file.is_file());
    files.next().ok_or_else(|| {
        let hint = "on Debian type: apt-get install debootstrap";
        Hinted::new("debootstrap is not here, which makes Debian roots", hint).into()
    })
}

/// Begins a command in a root, with `/proc` and an environment of its own.
fn inside(dir: &Path, variable: &str) -> Command {
    let mut command = root::command(Path::new("unshare"));
    command
        .args(["--mount", "--pid", "--fork", "--kill-child"])
        .arg(format!("--mount-proc={}", dir.join("proc").display()))
        .arg("chroot")
        .arg(dir)
        .args(["/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]);
    command.args(Some(variable).filter(|variable| !variable.is_empty())).stdin(Stdio::null());
    command
}

fn install_python(dir: &Path, version: Version) -> Result<(), Absent> {
    let package = format!("python{}", version.short());
    let mut apt = inside(dir, "DEBIAN_FRONTEND=noninteractive");
    apt.args(["apt-get", "install", "--quiet", "--yes", "--no-install-recommends"]).arg(&package);
    let output = apt.output().context("start apt-get")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(());
    }
    let is_offered = !["Unable to locate package", "has no installation candidate"]
        .iter()
        .any(|refusal| said.contains(refusal));
    if !is_offered {
        return Err(Absent::NotOffered(format!("the suite has no package {package}")));
    }
    let what = format!("apt-get install {package} failed ({}): {}", output.status, said.trim());
    Err(Absent::Failed(anyhow::anyhow!(what)))
}

/// With a pip from outside, told what the interpreter inside is.
fn install_extras(dir: &Path, ours: &str, version: Version, pip: &Path) -> Result<()> {
    let what = version.short();
    let stamp = Stamp::beside(dir, &format!("python{what}"), extras::stamp(version));
    let target = dir.join(ours);
    if stamp.is_set() && target.is_dir() {
        return Ok(());
    }
    let abi = format!("cp{}{}", version.0, version.1);
    step::timed(&format!("fetch packages for {}", target.display()), || {
        step::output(root::command(Path::new("mkdir")).arg("-p").arg(&target))?;
        extras::install(version, || {
            let mut command = root::command(pip);
            command.args(["-m", "pip", "install", "--upgrade", "--only-binary=:all:", "--target"]);
            command.arg(&target).args(["--implementation", "cp", "--python-version", &what]);
            command.args(["--abi", &abi]);
            command.args(PLATFORMS.iter().flat_map(|name| ["--platform", name]).map(OsStr::new));
            command
        })
    })?;
    stamp.set()
}
