//! First of all: can this machine run the kernel tests? Where it cannot, this fails and nothing else
//! is run.

use std::path::Path;

use anyhow::{Result, ensure};
use nix::unistd::geteuid;
use openrtc_tests::{kernel, say, setting::Setting, terminal};

const HINT: &str = "hint: cargo xtask test kernel";

/// What CI must run all tests on: minor version, and whether it is the distribution's, stripped.
const REQUIRED: &[(u32, bool)] = &[(11, true), (11, false), (12, false), (13, false)];

/// What must be there in a root of its own.
const REQUIRED_ROOTS: &[&str] = &["debian-bullseye-3.9", "debian-trixie-3.13"];

#[test]
fn can_run_the_kernel_tests() -> Result<()> {
    ensure!(geteuid().is_root(), "loading programs into the kernel needs root\n{HINT}");
    let btf = Path::new("/sys/kernel/btf/vmlinux");
    ensure!(btf.exists(), "this kernel has no type information: {} is missing", btf.display());
    kernel::check_lists()?;

    let setting = Setting::from_environment()?;
    for interpreter in setting.interpreters() {
        let symbols = if interpreter.stripped { "stripped" } else { "with symbols" };
        say::note(&format!("{}: CPython {}, {symbols}", interpreter.name, interpreter.version));
    }
    say::note(&format!("what does not depend on the version: {}", setting.usual().name));
    Ok(())
}

#[test]
fn every_required_interpreter_is_here() -> Result<()> {
    let setting = Setting::from_environment()?;
    for &(minor, is_debian) in REQUIRED {
        let mut on_host = setting.interpreters().iter().filter(|found| found.root.is_none());
        let is_it = on_host.any(|interpreter| {
            let is_debian_like = interpreter.system && interpreter.stripped;
            interpreter.minor() == minor && is_debian_like == is_debian
        });
        let whose = if is_debian { "the distribution's, stripped" } else { "with symbols" };
        let what = format!("CPython 3.{minor}, {whose}");
        ensure!(is_it || !say::in_ci(), "CI=true, and there is no {what}\n{HINT}");
        if !is_it {
            say::not_run(&what, "not on this machine");
        }
    }
    Ok(())
}

/// What a suite does not offer today is said, and no error: sid moves on.
#[test]
fn every_required_root_is_here() -> Result<()> {
    let setting = Setting::from_environment()?;
    for name in REQUIRED_ROOTS {
        let is_it = setting.interpreters().iter().any(|found| found.name == *name);
        ensure!(is_it || !say::in_ci(), "CI=true, and there is no {name}\n{HINT}");
    }
    for missing in setting.missing() {
        say::not_run(&missing.name, &missing.why);
    }
    Ok(())
}

#[test]
fn a_terminal_is_here() -> Result<()> {
    ensure!(terminal::is_available() || !say::in_ci(), "CI=true, and there is no tmux");
    Ok(())
}
