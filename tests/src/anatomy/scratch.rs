//! A file on a disk that a worker may write to, also one in a root that is read-only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// The descriptor under which the worker finds it.
pub const FD: u32 = 3;

/// Opens `$1` under that descriptor, and becomes the rest.
const OPEN: &str = r#"exec 3<>"$1"; shift; exec "$@""#;

/// The file, which goes with this.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// The name of the file system that it is on.
    pub filesystem: String,
}

impl Scratch {
    /// Makes one in this folder.
    pub fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let path = folder.join(format!("scratch-{}", std::process::id()));
        fs::write(&path, b"").with_context(|| format!("making {}", path.display()))?;
        let path = path.canonicalize().with_context(|| format!("finding {}", path.display()))?;
        let mounts = fs::read_to_string("/proc/self/mounts").context("reading the mounts")?;
        let filesystem = filesystem(&mounts, &path).context("the scratch file is on no mount")?;
        Ok(Self { path, filesystem })
    }

    /// Whether it is in memory, and never waits for a disk.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.filesystem.as_str(), "tmpfs" | "ramfs")
    }

    /// The same command, which finds the file open.
    pub fn handed_to(&self, command: &Command) -> Command {
        let mut handing = Command::new("sh");
        handing.args(["-c", OPEN, "sh"]).arg(&self.path);
        handing.arg(command.get_program()).args(command.get_args());
        handing
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Who has it open still has it.
        let _ = fs::remove_file(&self.path);
    }
}

/// The type of the last of the deepest mounts that hold a path.
fn filesystem(mounts: &str, path: &Path) -> Option<String> {
    let mut found: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let mut words = line.split_whitespace().skip(1);
        let (Some(point), Some(kind)) = (words.next(), words.next()) else { continue };
        let is_deeper = found.is_none_or(|(deepest, _)| point.len() >= deepest);
        if path.starts_with(point) && is_deeper {
            found = Some((point.len(), kind));
        }
    }
    found.map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_counts_and_the_last_one_there() {
        let mounts = "a / ext4 rw 0 0\nb /srv tmpfs rw 0 0\nc /srv xfs rw 0 0\nd /wor btrfs rw";
        assert_eq!(filesystem(mounts, Path::new("/srv/a/b")).as_deref(), Some("xfs"));
        assert_eq!(filesystem(mounts, Path::new("/home")).as_deref(), Some("ext4"));
        assert_eq!(filesystem("", Path::new("/home")), None);
    }

    #[test]
    fn a_command_finds_it_open() {
        let scratch = Scratch::create(&std::env::temp_dir().join("openrtc-scratch-test")).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo hello >&3"]);
        assert!(scratch.handed_to(&command).status().unwrap().success());
        assert_eq!(fs::read_to_string(&scratch.path).unwrap(), "hello\n");
    }
}
