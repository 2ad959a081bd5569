//! Processes with a root of their own, and with process ids of their own too: what a container is to
//! somebody outside.
//!
//! A root is shown read-only, with a `/tmp` that nobody else sees. Whatever is mounted is mounted in a
//! mount namespace that ends with the process, so nothing is left behind however that ends.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

/// Where a folder of the host is shown inside.
pub const SHOWN: &str = "/mnt";

/// What a process in a root does not share with the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Walls {
    /// Its files.
    Root,
    /// Its process ids too: it is number 1, and is killed with whoever started it.
    Pids,
}

/// Run inside the new namespaces, before the root is changed: `$1` is the root, `$2` the folder to
/// show, and the rest what to run.
const SET_UP: &str = r#"
set -e
root=$1 shown=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind "$shown" "$root/mnt"
mount -o remount,bind,ro "$root/mnt"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
exec chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin LC_ALL=C.UTF-8 "$@"
"#;

/// A command in a root, which sees the folder `shown` of the host at [`SHOWN`]. `words` are variables
/// (`A=b`), then the program and its arguments.
pub fn command<W: AsRef<OsStr>>(
    walls: Walls,
    root: &Path,
    shown: &Path,
    words: impl IntoIterator<Item = W>,
) -> Command {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if walls == Walls::Pids {
        command.args(["--pid", "--fork", "--kill-child"]);
    }
    command.args(["sh", "-c", SET_UP, "sh"]).arg(root).arg(shown).args(words);
    command
}

/// The host's id of the process that was started as `started`, or by it as its only child, and that
/// calls itself `own`.
pub fn host_pid(started: i32, own: i32) -> Result<i32> {
    let children = fs::read_to_string(format!("/proc/{started}/task/{started}/children"))
        .with_context(|| format!("reading the children of process {started}"))?;
    let mut pids = std::iter::once(started)
        .chain(children.split_whitespace().filter_map(|word| word.parse().ok()));
    let found = pids.find(|pid| innermost_pid(*pid) == Some(own));
    found.with_context(|| format!("neither process {started} nor a child of it is {own} to itself"))
}

/// The host's id of a thread of a process that has this id in the innermost pid namespace.
pub fn host_tid(pid: i32, own: i64) -> Result<i64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .with_context(|| format!("listing the threads of process {pid}"))?;
    let mut tids = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok());
    let found = tids.find(|tid: &i32| innermost_pid(*tid).map(i64::from) == Some(own));
    let found = found.with_context(|| format!("no thread of process {pid} is {own} to itself"))?;
    Ok(i64::from(found))
}

/// What a process, or a thread, is called in its own pid namespace.
fn innermost_pid(pid: i32) -> Option<i32> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    // A process may be called by anything.
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_this_namespace_is_itself() {
        let own = std::process::id().cast_signed();
        assert_eq!(host_pid(own, own).unwrap(), own);
        let error = host_pid(own, i32::MAX).unwrap_err().to_string();
        assert!(error.contains("nor a child"), "{error}");
        assert_eq!(host_tid(own, i64::from(own)).unwrap(), i64::from(own));
        assert!(host_tid(own, -1).is_err());
    }

    #[test]
    fn only_process_ids_need_a_second_process() {
        let with = |walls| {
            let command = command(walls, Path::new("r"), Path::new("f"), ["true"]);
            command.get_args().any(|argument| argument == "--fork")
        };
        assert!(with(Walls::Pids) && !with(Walls::Root));
    }
}
