//! Tells the crate where the kernel object is, and the user which command builds it.
//!
//! The object has one place, `<workspace>/target/ebpf/openrtc-ebpf`, whatever `CARGO_TARGET_DIR`
//! says; `OPENRTC_EBPF_OBJECT` names another one, from the workspace's root.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

const VARIABLE: &str = "OPENRTC_EBPF_OBJECT";
const DEFAULT: &str = "target/ebpf/openrtc-ebpf";
const COMMAND: &str = "cargo xtask build-ebpf";

/// What the object is made of.
const SOURCES: &[&str] = &[
    "openrtc-ebpf/src",
    "openrtc-ebpf/Cargo.toml",
    "openrtc-common/src",
    "openrtc-common/Cargo.toml",
];

fn main() {
    let Some(root) = workspace_root() else {
        println!("cargo::error=cannot find the workspace above openrtc-probe");
        return;
    };
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let chosen = env::var_os(VARIABLE);
    let object = root.join(chosen.as_deref().unwrap_or(DEFAULT.as_ref()));
    println!("cargo::rerun-if-changed={}", object.display());
    if !object.is_file() {
        let place = object.strip_prefix(&root).unwrap_or(&object).display();
        println!(
            "cargo::error=the kernel object is not built yet ({place} is missing); type: {COMMAND}"
        );
        return;
    }
    println!("cargo::rustc-env={VARIABLE}={}", object.display());
    if chosen.is_none() {
        warn_if_old(&root, &object);
    }
}

fn workspace_root() -> Option<PathBuf> {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    Some(manifest_dir.parent()?.to_path_buf())
}

/// The sources may be newer than an object that is still right, so it is the stamp of the last
/// build that counts.
fn warn_if_old(root: &Path, object: &Path) {
    let sources: Vec<_> = SOURCES.iter().map(|source| root.join(source)).collect();
    for source in &sources {
        println!("cargo::rerun-if-changed={}", source.display());
    }
    let stamp = object.with_extension("stamp");
    let built_at = fs::metadata(&stamp).and_then(|metadata| metadata.modified());
    let newest = sources.iter().filter_map(|source| newest_below(source).ok()).max();
    if built_at.is_ok_and(|built_at| newest.is_none_or(|newest| newest <= built_at)) {
        return;
    }
    // Only now: a build that leaves the object as it was must not rebuild the daemon, except to
    // take this warning back.
    println!("cargo::rerun-if-changed={}", stamp.display());
    println!("cargo::warning=the kernel object is older than its sources; type: {COMMAND}");
}

/// The latest change of a file at or below `path`.
fn newest_below(path: &Path) -> io::Result<SystemTime> {
    let metadata = fs::metadata(path)?;
    let mut newest = metadata.modified()?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            newest = newest.max(newest_below(&entry?.path())?);
        }
    }
    Ok(newest)
}
