//! The pinned compiler: which one it is, where it lies, and its `rust-src`, which `core` is built
//! from.

use std::{ffi::OsStr, fs, path::PathBuf};

use anyhow::{Context, Result};

use crate::{cargo, hint::Hinted, step, workspace::Workspace};

/// What the compiler says of itself.
pub struct Toolchain {
    /// All of `rustc -vV`: two compilers are the same if this is.
    pub identity: String,
    /// The triple of this machine.
    pub host: String,
    /// The version of the LLVM inside.
    pub llvm: String,
    sysroot: PathBuf,
}

impl Toolchain {
    /// Asks the compiler that `rust-toolchain.toml` names.
    pub fn ask(workspace: &Workspace) -> Result<Self> {
        let rustc = |arguments: &[&str]| {
            step::output(cargo::program(workspace, "rustc").args(arguments)).context(Hinted::new(
                "ask the pinned Rust toolchain",
                "install rustup, then type: rustup toolchain install",
            ))
        };
        let version = rustc(&["--verbose", "--version"])?;
        let sysroot = rustc(&["--print", "sysroot"])?;
        Self::parse(&version, &sysroot).with_context(|| format!("read rustc's answer: {version}"))
    }

    fn parse(version: &str, sysroot: &str) -> Option<Self> {
        let field = |name: &str| {
            version
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(|text| text.trim().to_owned())
        };
        Some(Self {
            identity: version.trim().to_owned(),
            host: field("host:")?,
            llvm: field("LLVM version:")?,
            sysroot: sysroot.trim().into(),
        })
    }

    /// The LLVM library that the compiler itself uses.
    pub fn llvm_library(&self) -> Result<PathBuf> {
        let lib = self.sysroot.join("lib");
        let entries = fs::read_dir(&lib).with_context(|| format!("list {}", lib.display()))?;
        let is_llvm = |name: &OsStr| name.to_string_lossy().starts_with("libLLVM.so.");
        let mut files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        files.find(|path| path.file_name().is_some_and(is_llvm)).ok_or_else(|| {
            Hinted::new(
                format!("no libLLVM.so in {}", lib.display()),
                "the kernel object needs rustup's toolchain; a distribution's does not do",
            )
            .into()
        })
    }

    /// Fetches `rust-src` if it is not there.
    pub fn fetch_rust_src(&self, workspace: &Workspace) -> Result<()> {
        if self.sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file() {
            return Ok(());
        }
        let mut rustup = cargo::program(workspace, "rustup");
        step::run("fetch rust-src", rustup.args(["component", "add", "rust-src"])).context(
            Hinted::new("fetch the compiler's sources", "type: rustup component add rust-src"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_read() {
        let version = "rustc 1.95.0\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.2\n";
        let toolchain = Toolchain::parse(version, "/opt/rust\n").unwrap();
        assert_eq!(toolchain.identity, version.trim());
        assert_eq!(toolchain.sysroot, std::path::Path::new("/opt/rust"));
        assert_eq!(toolchain.host, "x86_64-unknown-linux-gnu");
        assert_eq!(toolchain.llvm, "22.1.2");
        assert!(Toolchain::parse("rustc 1.95.0", "/opt/rust").is_none());
    }
}
