//! Cargo, started from a process that cargo itself started: without what the outer one left in the
//! environment.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{step, workspace::Workspace};

/// Set by `cargo run` and rustup for this process, and wrong for another package.
const LEFT_BY_CARGO_RUN: &[&str] = &[
    "CARGO",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PRIMARY_PACKAGE",
    "OUT_DIR",
    "RUSTUP_TOOLCHAIN",
];

/// A user's choices for programs of this machine, wrong for the kernel's.
const CHOICES_FOR_THE_HOST: &[&str] = &[
    "CARGO_BUILD_",
    "CARGO_ENCODED_",
    "CARGO_INCREMENTAL",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "CARGO_UNSTABLE_",
    "RUSTC",
    "RUSTC_",
    "RUSTDOC",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
];

/// Cargo for the packages of this machine, on the pinned toolchain, in the workspace's root.
pub fn host(workspace: &Workspace) -> Command {
    program(workspace, "cargo")
}

/// Cargo that no setting for this machine's programs reaches.
pub fn isolated(workspace: &Workspace) -> Command {
    let mut command = host(workspace);
    remove(&mut command, CHOICES_FOR_THE_HOST);
    command
}

/// A program of the toolchain. In the root, so that rustup reads `rust-toolchain.toml`.
pub fn program(workspace: &Workspace, name: &str) -> Command {
    let mut command = Command::new(name);
    command.current_dir(workspace.root());
    remove(&mut command, LEFT_BY_CARGO_RUN);
    command
}

/// Removes the variables that are in `names`; a name that ends in `_` stands for all that begin so.
fn remove(command: &mut Command, names: &[&str]) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| is_listed(name, names)) {
            command.env_remove(name);
        }
    }
}

fn is_listed(name: &str, names: &[&str]) -> bool {
    // The number of jobs is about this machine, whatever is built.
    name != "CARGO_BUILD_JOBS"
        && names.iter().any(|listed| {
            if listed.ends_with('_') { name.starts_with(listed) } else { name == *listed }
        })
}

/// Builds, and returns the executables by name. Cargo is asked for their places, since settings can
/// move them.
pub fn build(what: &str, command: &mut Command) -> Result<BTreeMap<String, PathBuf>> {
    step::timed(what, || {
        command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
        let mut child = command.spawn().context("start cargo")?;
        let mut executables = BTreeMap::new();
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines() {
                executables.extend(executable(&line.context("read cargo's messages")?));
            }
        }
        let status = child.wait().context("wait for cargo")?;
        if !status.success() {
            bail!("{what} failed ({status})");
        }
        Ok(executables)
    })
}

/// The executable that one of cargo's messages tells of.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let name = message["target"]["name"].as_str()?;
    let path = message["executable"].as_str()?;
    Some((name.to_owned(), PathBuf::from(path)))
}

/// The variable that names the program which `cargo test` and `cargo run` start the host's
/// executables with.
pub fn runner_variable(host: &str) -> OsString {
    format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace('-', "_")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaks_is_listed_and_what_the_user_needs_is_not() {
        for name in ["CARGO", "CARGO_PKG_VERSION", "CARGO_MANIFEST_DIR", "RUSTUP_TOOLCHAIN"] {
            assert!(is_listed(name, LEFT_BY_CARGO_RUN), "{name}");
        }
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_PROFILE_RELEASE_LTO", "RUSTC"] {
            assert!(is_listed(name, CHOICES_FOR_THE_HOST), "{name}");
        }
        for name in
            ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_TERM_COLOR", "CARGO_BUILD_JOBS", "PATH"]
        {
            assert!(!is_listed(name, LEFT_BY_CARGO_RUN), "{name}");
            assert!(!is_listed(name, CHOICES_FOR_THE_HOST), "{name}");
        }
    }

    #[test]
    fn an_executable_is_read_from_its_message() {
        let built = r#"{"target":{"name":"openrtc-probe"},"executable":"/t/openrtc-probe"}"#;
        let expected = ("openrtc-probe".to_owned(), PathBuf::from("/t/openrtc-probe"));
        assert_eq!(executable(built), Some(expected));
        assert_eq!(executable(r#"{"target":{"name":"lib"},"executable":null}"#), None);
        assert_eq!(executable("not json"), None);
    }

    #[test]
    fn the_runner_is_named_after_the_host() {
        let name = runner_variable("x86_64-unknown-linux-gnu");
        assert_eq!(name, "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER");
    }
}
