//! Which program a process runs: `execve` keeps its id and its threads' leader, and nothing else.
//!
//! The kernel puts sixteen random bytes on the stack of every program that it starts, and their address
//! into its auxiliary vector (`AT_RANDOM`): a fork copies them, an `execve` makes new ones. They are
//! one short read, so that they can be compared each time before anything else is read.

use std::fs;

use crate::cpython::memory::{LiveMemory, ReadMemory as _, RemoteAddr};

/// The key of their address:
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/auxvec.h#L33>.
const AT_RANDOM: u64 = 25;

/// A program in a process, as one `execve` started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    at: RemoteAddr,
    random: [u64; 2],
}

impl Image {
    /// What the process runs now; `None` where it cannot be told, as of one that has exited.
    pub fn of(pid: i32) -> Option<Image> {
        let vector = fs::read(format!("/proc/{pid}/auxv")).ok()?;
        let at = address(&vector)?;
        Some(Image { at, random: LiveMemory::new(pid).read(at).ok()? })
    }

    /// Whether the process, which ran this one, runs another one now.
    pub fn is_replaced_in(self, pid: i32) -> bool {
        let same = LiveMemory::new(pid).read(self.at) == Ok(self.random);
        !same && Image::of(pid).is_some_and(|now| now != self)
    }
}

/// Where an auxiliary vector, pairs of a key and a value, says that the random bytes stand.
fn address(vector: &[u8]) -> Option<RemoteAddr> {
    let pairs = vector.chunks_exact(16).map(bytemuck::pod_read_unaligned::<[u64; 2]>);
    pairs.into_iter().find_map(|[key, value]| (key == AT_RANDOM).then_some(RemoteAddr(value)))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn the_address_is_found_by_its_key() {
        let vector: Vec<u8> =
            [6, 4096, AT_RANDOM, 0x7ffd, 0, 0_u64].into_iter().flat_map(u64::to_ne_bytes).collect();
        assert_eq!(address(&vector), Some(RemoteAddr(0x7ffd)));
        assert_eq!(address(&vector[..16]), None);
        assert_eq!(address(b"short"), None);
    }

    #[test]
    fn we_stay_who_we_are() {
        let pid = std::process::id().cast_signed();
        let image = Image::of(pid).unwrap();
        assert!(!image.is_replaced_in(pid));
        assert!(!image.is_replaced_in(i32::MAX), "nobody has the id: gone, not replaced");
    }

    #[test]
    fn a_shell_that_becomes_the_same_shell_is_another_one() {
        let mut shell = Command::new("sh")
            .args(["-c", "echo; read go; exec sh -c 'echo; read go'"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = shell.id().cast_signed();
        let mut stdout = shell.stdout.take().unwrap();
        let mut it_speaks = || stdout.read_exact(&mut [0]).unwrap();
        it_speaks();
        let image = Image::of(pid).unwrap();
        assert!(!image.is_replaced_in(pid));
        shell.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        it_speaks();
        assert!(image.is_replaced_in(pid));
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert!(!image.is_replaced_in(pid), "it is gone");
    }
}
