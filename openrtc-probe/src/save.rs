//! A picture kept in a file: what the reader saw, to look at later or to send to somebody.
//!
//! - **Nothing that is there is touched**, and no link is followed: we run as root in directories of
//!   other people.
//! - Only the owner may read it: it has the ids of sessions in it.
//! - There is a whole file or none.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use nix::fcntl::OFlag;

/// Files of one worker and one second.
const MOST: u32 = 100;

/// Writes one line of JSON, the picture of this worker at this time, to a new file in the current
/// directory; where it is.
///
/// # Errors
/// One line that says what could not be done, and with which file.
pub fn save(json_line: &str, pid: u32, at_unix_ns: i128) -> Result<PathBuf> {
    // Told in full: after hours nobody knows any more where we were started.
    let here =
        std::env::current_dir().context("cannot write the snapshot: no current directory")?;
    // Not by that name: somebody may have put something else there since.
    let name = save_in(Path::new("."), json_line, pid, at_unix_ns);
    name.map(|name| here.join(name)).with_context(|| format!("in {}", here.display()))
}

/// The name of the new file in this directory.
fn save_in(dir: &Path, json_line: &str, pid: u32, at_unix_ns: i128) -> Result<String> {
    let stem = stem(pid, at_unix_ns);
    for count in 1..=MOST {
        let name = match count {
            1 => format!("{stem}.json"),
            _ => format!("{stem}-{count}.json"),
        };
        let path = dir.join(&name);
        match create(&path) {
            Ok(file) => {
                write_whole(file, json_line, &path)
                    .with_context(|| format!("cannot write {name}"))?;
                return Ok(name);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot create {name}")),
        }
    }
    bail!("cannot create {stem}.json: there are {MOST} of that second already")
}

/// `openrtc-probe-PID-YYYYmmddTHHMMSSZ`.
fn stem(pid: u32, at_unix_ns: i128) -> String {
    let at = Timestamp::from_nanosecond(at_unix_ns).unwrap_or_default();
    format!("openrtc-probe-{pid}-{}", at.strftime("%Y%m%dT%H%M%SZ"))
}

fn create(path: &Path) -> io::Result<File> {
    let mut new = OpenOptions::new();
    // A new file is never a link's; it is said twice.
    new.write(true).create_new(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    new.open(path)
}

/// Writes the line to a new file, or removes the file.
fn write_whole(mut file: impl Write, line: &str, path: &Path) -> io::Result<()> {
    let written = file.write_all(format!("{line}\n").as_bytes()).and_then(|()| file.flush());
    written.inspect_err(|_| {
        // Half of it is worth nothing; if it cannot be removed, the first error is the one to tell.
        let _ = fs::remove_file(path);
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    /// 2026-03-01 12:34:56.9 UTC.
    const AT: i128 = 1_772_368_496_900_000_000;
    const NAME: &str = "openrtc-probe-42-20260301T123456Z.json";

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_line_becomes_a_file_that_only_its_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(save_in(dir.path(), r#"{"a":1}"#, 42, AT).unwrap(), NAME);
        let path = dir.path().join(NAME);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"a\":1}\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn what_is_there_stays_and_the_next_has_a_number() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), "mine").unwrap();
        // A link to nothing: opened carelessly, it would make a file there.
        let target = elsewhere.path().join("target");
        symlink(&target, dir.path().join(NAME.replace(".json", "-2.json"))).unwrap();
        let third = NAME.replace(".json", "-3.json");
        assert_eq!(save_in(dir.path(), "{}", 42, AT).unwrap(), third);
        assert_eq!(fs::read_to_string(dir.path().join(NAME)).unwrap(), "mine");
        assert!(!target.exists(), "a planted link was followed");
    }

    #[test]
    fn there_is_an_end_to_it() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..MOST {
            save_in(dir.path(), "{}", 42, AT).unwrap();
        }
        let said = format!("{:#}", save_in(dir.path(), "{}", 42, AT).unwrap_err());
        assert_eq!(said, format!("cannot create {NAME}: there are 100 of that second already"));
        // Of another second, or of another worker, there is none yet.
        save_in(dir.path(), "{}", 42, AT + 1_000_000_000).unwrap();
        save_in(dir.path(), "{}", 43, AT).unwrap();
    }

    #[test]
    fn half_a_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        create(&path).unwrap();
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = write_whole(full, "{}", &path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn an_error_names_the_act_and_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let said = format!("{:#}", save_in(&gone, "{}", 42, AT).unwrap_err());
        assert_eq!(said, format!("cannot create {NAME}: No such file or directory (os error 2)"));
        // A file system that takes no files, for root neither.
        let said = format!("{:#}", save_in(Path::new("/proc"), "{}", 42, AT).unwrap_err());
        assert!(said.starts_with(&format!("cannot create {NAME}: ")), "{said}");
    }
}
