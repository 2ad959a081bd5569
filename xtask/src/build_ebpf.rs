//! `cargo xtask build-ebpf`: the kernel object, from the pinned stable compiler.
//!
//! Stable refuses `-Z build-std` unless `RUSTC_BOOTSTRAP` is set; it is set for this one build, the
//! way Rust for Linux builds. The programs are compiled for the linker's generic BPF CPU: newer
//! ones use instructions that Linux 5.10 refuses.

use std::{
    env::consts::ARCH,
    fs::{self, File},
    path::Path,
    process::Command,
    time::{Instant, SystemTime},
};

use anyhow::{Context, Result};

use crate::{
    bpf_linker, cargo, lock,
    step::{self, say},
    toolchain::Toolchain,
    workspace::Workspace,
};

/// The kernel's machine, little-endian, as the hosts that we know are.
const TARGET: &str = "bpfel-unknown-none";

/// The flags of every crate in the object, `core` too: line numbers, and types for the kernel.
const FLAGS: &[&str] = &["-Cdebuginfo=2", "-Clink-arg=--btf"];

/// In place of the workspace's release profile, whose `lto = "thin"` is for programs of this
/// machine: here the linker itself joins all bitcode.
const PROFILE: &[(&str, &str)] = &[
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "2"),
    ("CARGO_PROFILE_RELEASE_LTO", "false"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
];

/// Builds the object and puts it where the daemon's build finds it.
pub fn run(workspace: &Workspace) -> Result<()> {
    let started = Instant::now();
    // Before the sources are read: what changes while we build is newer than the object.
    let began_at = SystemTime::now();
    let object = workspace.ebpf_object();
    let dir = object.parent().context("find the object's folder")?;
    let _turn = lock::take(dir)?;
    let mut cargo = cargo(workspace, "build")?;
    step::run("build openrtc-ebpf", &mut cargo)?;
    let built = workspace.path("target/ebpf-build").join(TARGET).join("release/openrtc-ebpf");
    let is_new = publish(&built, &object)?;
    stamp(&workspace.ebpf_stamp(), began_at)?;
    let state = if is_new { "new" } else { "unchanged" };
    let shown = workspace.relative(&object).display();
    say(&format!("{shown} is {state} ({:.1} s in all)", started.elapsed().as_secs_f64()));
    Ok(())
}

/// Cargo for the kernel object, with all that it needs installed. Clippy and rustdoc take the same
/// flags as the build.
pub fn cargo(workspace: &Workspace, subcommand: &str) -> Result<Command> {
    let toolchain = Toolchain::ask(workspace)?;
    toolchain.fetch_rust_src(workspace)?;
    let linker = bpf_linker::install(workspace, &toolchain)?;
    let mut cargo = cargo::isolated(workspace);
    cargo
        .args([subcommand, "--package", "openrtc-ebpf", "--release", "--target", TARGET])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(workspace.path("target/ebpf-build"))
        .envs(PROFILE.iter().copied())
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
        // The registers that hold a function's arguments are this machine's.
        .env("AYA_BPF_TARGET_ARCH", ARCH);
    Ok(cargo)
}

/// Copies the object, at once or not at all, and only if it changed: its time is what makes cargo
/// rebuild the daemon.
fn publish(built: &Path, object: &Path) -> Result<bool> {
    let new = fs::read(built).with_context(|| format!("read {}", built.display()))?;
    if fs::read(object).is_ok_and(|old| old == new) {
        return Ok(false);
    }
    let part = object.with_extension("part");
    fs::write(&part, new).with_context(|| format!("write {}", part.display()))?;
    fs::rename(&part, object).with_context(|| format!("put {} in place", object.display()))?;
    Ok(true)
}

/// Notes when a good build began; `openrtc-probe/build.rs` compares the sources with it.
fn stamp(path: &Path, began_at: SystemTime) -> Result<()> {
    File::create(path)
        .and_then(|file| file.set_modified(began_at))
        .with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_did_not_change_keeps_its_time() {
        let dir = std::env::temp_dir().join(format!("xtask-publish-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (built, object) = (dir.join("built"), dir.join("object"));
        fs::write(&built, b"one").unwrap();
        assert!(publish(&built, &object).unwrap());
        let time = fs::metadata(&object).unwrap().modified().unwrap();
        assert!(!publish(&built, &object).unwrap());
        assert_eq!(fs::metadata(&object).unwrap().modified().unwrap(), time);
        fs::write(&built, b"two").unwrap();
        assert!(publish(&built, &object).unwrap());
        assert_eq!(fs::read(&object).unwrap(), b"two");
        fs::remove_dir_all(&dir).unwrap();
    }
}
