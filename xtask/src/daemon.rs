//! The daemon as users run it, and what its tests and measurements are told through the
//! environment.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{build_ebpf, cargo, workspace::Workspace};

/// Builds the kernel object and then, for release, the daemon and what else is named; returns the
/// executables by name.
pub fn build(workspace: &Workspace, packages: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    build_ebpf::run(workspace)?;
    let mut cargo = cargo::host(workspace);
    cargo.args(["build", "--release", "--bins", "--package", "openrtc-probe"]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    cargo::build("build openrtc-probe for release", &mut cargo)
}

/// One of them.
pub fn executable<'a>(built: &'a BTreeMap<String, PathBuf>, name: &str) -> Result<&'a Path> {
    built.get(name).map(PathBuf::as_path).with_context(|| format!("cargo built no program {name}"))
}

/// What the kernel tests and the measurements read.
pub fn environment(
    workspace: &Workspace,
    probe: &Path,
    interpreters: &Path,
) -> [(&'static str, OsString); 3] {
    [
        ("OPENRTC_PROBE_BIN", probe.into()),
        ("OPENRTC_INTERPRETERS", interpreters.into()),
        ("OPENRTC_WORKSPACE", workspace.root().into()),
    ]
}
