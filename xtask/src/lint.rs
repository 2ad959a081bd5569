//! `cargo xtask lint`: all that can be said of the sources without running them; what is quick
//! comes first.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{build_ebpf, cargo, hint::Hinted, step, tidy, workspace::Workspace};

/// The packages of this machine: the kernel side is checked for its own.
const HOST: &[&str] = &["--workspace", "--exclude", "openrtc-ebpf"];

/// Every warning is an error.
const DENY: &[&str] = &["--", "-D", "warnings"];

/// Checks everything, and stops at the first check that fails.
pub fn run(workspace: &Workspace) -> Result<()> {
    let mut fmt = cargo::host(workspace);
    step::run("format", fmt.args(["fmt", "--all", "--check"]))
        .context(Hinted::new("the format is not rustfmt's", "type: cargo fmt --all"))?;
    step::timed("habits and import law", || tidy::check(workspace))?;
    build_ebpf::run(workspace)?;
    let mut clippy = cargo::host(workspace);
    step::run("clippy", clippy.arg("clippy").args(HOST).arg("--all-targets").args(DENY))?;
    let mut clippy = build_ebpf::cargo(workspace, "clippy")?;
    step::run("clippy of openrtc-ebpf", clippy.args(DENY))?;
    let mut doc = cargo::host(workspace);
    step::run("documentation", documentation(doc.arg("doc").args(HOST)))?;
    let mut doc = build_ebpf::cargo(workspace, "doc")?;
    step::run("documentation of openrtc-ebpf", documentation(&mut doc))?;
    step::say("nothing to complain about");
    Ok(())
}

/// Private items too: this is a program, its readers are its authors.
fn documentation(doc: &mut Command) -> &mut Command {
    doc.args(["--no-deps", "--document-private-items"]).env("RUSTDOCFLAGS", "-D warnings")
}
