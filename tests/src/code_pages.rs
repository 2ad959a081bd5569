//! A process's code as it is in memory, compared with the files that it was mapped from: a uprobe is
//! a byte that differs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// What a uprobe puts in the place of an instruction's first byte: `int3`.
pub const BREAKPOINT: u8 = 0xcc;

/// A byte of code that is not as in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The file.
    pub path: PathBuf,
    /// Where in the file.
    pub offset: u64,
    /// What is there in memory.
    pub found: u8,
}

/// A stretch of code.
struct Mapping {
    start: u64,
    bytes: usize,
    offset: u64,
    path: PathBuf,
}

/// Every byte of the process's code that is not as in its file.
pub fn differences(pid: i32) -> Result<Vec<Difference>> {
    let memory = File::open(format!("/proc/{pid}/mem")).context("opening a process's memory")?;
    let mut found = Vec::new();
    for mapping in code(pid)? {
        let file = File::open(&mapping.path)
            .with_context(|| format!("opening {}", mapping.path.display()))?;
        let (mut on_disk, mut mapped) = (vec![0; mapping.bytes], vec![0; mapping.bytes]);
        let read = read_at_most(&file, &mut on_disk, mapping.offset)
            .with_context(|| format!("reading {}", mapping.path.display()))?;
        memory
            .read_exact_at(&mut mapped[..read], mapping.start)
            .with_context(|| format!("reading {} in memory", mapping.path.display()))?;
        let pairs = on_disk[..read].iter().zip(&mapped).enumerate();
        found.extend(pairs.filter(|(_, (disk, memory))| disk != memory).map(|(at, (_, &byte))| {
            Difference {
                path: mapping.path.clone(),
                offset: mapping.offset + at as u64,
                found: byte,
            }
        }));
    }
    Ok(found)
}

/// The mappings of files that can be executed.
fn code(pid: i32) -> Result<Vec<Mapping>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).context("reading the mappings")?;
    Ok(maps.lines().filter_map(parse).collect())
}

/// `start-end perms offset device inode path`.
fn parse(line: &str) -> Option<Mapping> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let is_code = words.next()?.contains('x');
    let offset = u64::from_str_radix(words.next()?, 16).ok()?;
    let path = line.find('/').map(|at| PathBuf::from(&line[at..]))?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let bytes = usize::try_from(u64::from_str_radix(end, 16).ok()? - start).ok()?;
    is_code.then_some(Mapping { start, bytes, offset, path })
}

/// The last page of a mapping reaches beyond the end of its file.
fn read_at_most(file: &File, into: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut read = 0;
    while read < into.len() {
        match file.read_at(&mut into[read..], offset + read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_code_is_as_in_its_files() {
        assert_eq!(differences(std::process::id().cast_signed()).unwrap(), []);
    }

    #[test]
    fn a_line_of_the_mappings() {
        let line = "55e0-66e0 r-xp 00002000 fd:00 1234                       /usr/bin/a b";
        let mapping = parse(line).unwrap();
        assert_eq!((mapping.start, mapping.bytes, mapping.offset), (0x55e0, 0x1100, 0x2000));
        assert_eq!(mapping.path, PathBuf::from("/usr/bin/a b"));
        assert!(parse("55e0-66e0 rw-p 00002000 fd:00 1234 /usr/bin/a").is_none());
        assert!(parse("55e0-66e0 r-xp 00000000 00:00 0    [vdso]").is_none());
    }
}
