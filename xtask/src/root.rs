//! Programs that must run as root: directly if we are, else through sudo.

use std::{env, path::Path, process::Command};

use anyhow::Result;
use nix::unistd::geteuid;

use crate::hint::Hinted;

/// True if no sudo is needed.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// An error now, before anything is built, if there is no way to become root.
pub fn check() -> Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    if is_root() || env::split_paths(&path).any(|dir| dir.join("sudo").is_file()) {
        return Ok(());
    }
    Err(Hinted::new(
        "loading programs into the kernel needs root, and there is no sudo here",
        "type the same command as root, or install sudo",
    )
    .into())
}

/// The program as root, with the environment that is set on the command.
pub fn command(program: &Path) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.arg("-E").arg(program);
    sudo
}
