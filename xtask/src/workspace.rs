//! Where things are. All that xtask makes itself lies in `<root>/target`, also when
//! `CARGO_TARGET_DIR` points elsewhere: `openrtc-probe/build.rs` looks for the object there.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The workspace that xtask belongs to.
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Cargo says where xtask is when it runs it; a binary that is started by hand remembers where
    /// it was built.
    pub fn find() -> Result<Self> {
        let manifest_dir = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest_dir.parent().context("find the workspace above xtask")?;
        Ok(Self { root: root.to_path_buf() })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// As short as it can be said in a message.
    pub fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// The kernel object, where `openrtc-probe/build.rs` finds it.
    pub fn ebpf_object(&self) -> PathBuf {
        self.path("target/ebpf/openrtc-ebpf")
    }

    /// Its time is when the last good build of the kernel object began.
    pub fn ebpf_stamp(&self) -> PathBuf {
        self.path("target/ebpf/openrtc-ebpf.stamp")
    }

    /// One Python environment per interpreter.
    pub fn python_dir(&self) -> PathBuf {
        self.path("target/python")
    }

    /// The list of them, which the tests read.
    pub fn interpreters(&self) -> PathBuf {
        self.path("target/python/interpreters.json")
    }

    /// The list of those that are wanted and not there, which is looked for beside the other.
    pub fn interpreters_not_run(&self) -> PathBuf {
        self.path("target/python/not-run.json")
    }
}
