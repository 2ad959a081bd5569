//! Running the daemon as somebody who is not root.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, Result};

use crate::setting::Setting;

/// What makes `setpriv` run a program as `nobody`.
pub const AS_NOBODY: &[&str] = &["--reuid=65534", "--regid=65534", "--clear-groups"];

/// A program as `nobody`, with these capabilities, as `+bpf,+perfmon`.
pub fn command(program: &Path, capabilities: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(AS_NOBODY);
    command.args([format!("--inh-caps={capabilities}"), format!("--ambient-caps={capabilities}")]);
    command.arg(program);
    command
}

/// A copy of the daemon where everybody can reach it.
pub struct Copy(PathBuf);

impl Copy {
    /// Makes it.
    pub fn for_everybody(setting: &Setting) -> Result<Copy> {
        let folder = std::env::temp_dir().join(format!("openrtc-tests-{}", std::process::id()));
        let copy = Copy(folder);
        fs::create_dir_all(&copy.0)?;
        fs::copy(setting.probe_file(), copy.file())?;
        copy.set_mode(0o755)?;
        fs::set_permissions(&copy.0, Permissions::from_mode(0o755))?;
        Ok(copy)
    }

    /// The program.
    pub fn file(&self) -> PathBuf {
        self.0.join("openrtc-probe")
    }

    /// One picture as JSON, looked at as `nobody` with these capabilities.
    pub fn look_once(&self, capabilities: &str, pid: i32, words: &[&str]) -> Result<Output> {
        let mut command = command(&self.file(), capabilities);
        command.args(["--once", "--json", "--pid", &pid.to_string()]).args(words);
        command.output().with_context(|| format!("{command:?}"))
    }

    /// Who may do what with it.
    pub fn set_mode(&self, mode: u32) -> Result<()> {
        Ok(fs::set_permissions(self.file(), Permissions::from_mode(mode))?)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // It is in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
