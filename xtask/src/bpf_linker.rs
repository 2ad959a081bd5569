//! Installs `bpf-linker` below `target/`, linked with the LLVM that the pinned compiler itself
//! uses.
//!
//! The linker must read the bitcode that the compiler writes, so the two need one LLVM. Rustup
//! ships the compiler's as a shared library; `LLVM_PREFIX` points the linker's build at a folder
//! with links to it, and no LLVM of the system is asked for. The linker remembers that folder, so
//! the tree's place is part of what makes an installation current.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{cargo, hint::Hinted, step, toolchain::Toolchain, workspace::Workspace};

const VERSION: &str = "0.13.0";

/// The LLVM that this version is built for here: the major version of the pinned compiler's, and
/// the crate's feature.
const LLVM: (&str, &str) = ("22", "llvm-22");

/// Installs the linker if this one, for this compiler, is not there; returns the executable.
pub fn install(workspace: &Workspace, toolchain: &Toolchain) -> Result<PathBuf> {
    check_llvm(&toolchain.llvm)?;
    let dir = workspace.path("target/bpf-linker");
    let library = toolchain.llvm_library()?;
    let executable = dir.join("bin/bpf-linker");
    let stamp_path = dir.join("stamp.txt");
    let stamp = stamp(toolchain, &library, &dir);
    if executable.is_file() && fs::read_to_string(&stamp_path).is_ok_and(|old| old == stamp) {
        return Ok(executable);
    }
    link_llvm(&dir, &library)?;
    build(workspace, &dir)?;
    fs::write(&stamp_path, stamp).with_context(|| format!("write {}", stamp_path.display()))?;
    Ok(executable)
}

/// A new pinned compiler may carry another LLVM: say so here, not in a linker's error.
fn check_llvm(version: &str) -> Result<()> {
    if version.split('.').next() == Some(LLVM.0) {
        return Ok(());
    }
    let what =
        format!("the pinned compiler carries LLVM {version}, bpf-linker is set up for {}", LLVM.0);
    let hint = "change rust-toolchain.toml and xtask/src/bpf_linker.rs together";
    Err(Hinted::new(what, hint).into())
}

/// All that an installation depends on.
fn stamp(toolchain: &Toolchain, library: &Path, dir: &Path) -> String {
    let (library, dir) = (library.display(), dir.display());
    format!("bpf-linker {VERSION}\n{}\nlibrary: {library}\nplace: {dir}\n", toolchain.identity)
}

/// The folder for `LLVM_PREFIX`: the name that is linked with, and the name that is looked up when
/// the linker starts.
fn link_llvm(dir: &Path, library: &Path) -> Result<()> {
    let lib = dir.join("llvm/lib");
    let act = || -> std::io::Result<()> {
        if lib.exists() {
            fs::remove_dir_all(&lib)?;
        }
        fs::create_dir_all(&lib)?;
        symlink(library, lib.join("libLLVM.so"))?;
        symlink(library, lib.join(library.file_name().unwrap_or_default()))
    };
    act().with_context(|| format!("link {} into {}", library.display(), lib.display()))
}

fn build(workspace: &Workspace, dir: &Path) -> Result<()> {
    let build_dir = dir.join("build");
    let mut path = vec![dir.join("bin")];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let mut cargo = cargo::isolated(workspace);
    cargo
        .args(["install", "bpf-linker", "--version", VERSION, "--locked", "--force"])
        .args(["--no-default-features", "--features", LLVM.1, "--root"])
        .arg(dir)
        .env("LLVM_PREFIX", dir.join("llvm"))
        .env("CARGO_TARGET_DIR", &build_dir)
        // Or cargo would advise to put it there, which nobody needs.
        .env("PATH", env::join_paths(path).context("set PATH")?);
    let what = format!("install bpf-linker {VERSION} into {}", workspace.relative(dir).display());
    step::run(&what, &mut cargo).context(Hinted::new(
        "install the kernel object's linker",
        "it needs the crate registry and a C compiler: apt-get install gcc libc6-dev",
    ))?;
    // 300 MB that nothing needs again.
    fs::remove_dir_all(&build_dir).with_context(|| format!("remove {}", build_dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_llvm_is_refused_with_the_files_to_change() {
        assert!(check_llvm("22.1.2").is_ok());
        let error = check_llvm("23.0.0").unwrap_err();
        assert!(error.downcast_ref::<Hinted>().unwrap().hint().contains("rust-toolchain.toml"));
        assert!(check_llvm("221.0").is_err());
    }
}
