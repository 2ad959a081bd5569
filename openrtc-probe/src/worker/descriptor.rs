//! What a worker's descriptor is a descriptor of: its kind, never its name or content.

use std::{fs, io::Read as _, os::unix::fs::FileTypeExt as _};

use nix::sys::statfs::statfs;
use procfs::process::Process;

use super::Worker;

/// Bytes of one of the kernel's tables of sockets that are read; a line takes some 150.
const MAX_TABLE_BYTES: u64 = 4 << 20;

/// A table of sockets below `/proc/PID/net`, the column that holds an inode, and what a socket in it is.
const SOCKETS: [(&str, usize, &str); 7] = [
    ("net/tcp", 9, "inet tcp"),
    ("net/tcp6", 9, "inet6 tcp"),
    ("net/unix", 6, "unix"),
    ("net/udp", 9, "inet udp"),
    ("net/udp6", 9, "inet6 udp"),
    ("net/netlink", 9, "netlink"),
    ("net/packet", 8, "packet"),
];

/// File systems by the numbers that `statfs` gives,
/// <https://github.com/torvalds/linux/blob/v6.1/include/uapi/linux/magic.h>.
const FILE_SYSTEMS: [(i64, &str); 18] = [
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0xf2f5_2010, "f2fs"),
    (0x794c_7630, "overlay"),
    (0x0102_1994, "tmpfs"),
    (0x8584_58f6, "ramfs"),
    (0x7371_7368, "squashfs"),
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x00c3_6400, "ceph"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "fuse"),
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x6367_7270, "cgroup2"),
];

impl Worker {
    /// What the descriptor `number` is: such as `socket inet tcp`, `pipe`, `file ext4`, `eventfd`. `None`
    /// where it is not open (any more).
    pub fn descriptor_kind(&self, number: u32) -> Option<String> {
        let path = format!("/proc/{}/fd/{number}", self.pid());
        let link = fs::read_link(&path).ok()?;
        let link = link.to_str().unwrap_or_default();
        if let Some(inode) = inner(link, "socket:[") {
            let known = SOCKETS.iter().find(|(table, column, _)| {
                self.table(table).is_some_and(|text| has_inode(&text, *column, inode))
            });
            return Some(known.map_or("socket".into(), |(.., what)| format!("socket {what}")));
        }
        if link.starts_with("pipe:[") {
            return Some("pipe".into());
        }
        if let Some(what) = link.strip_prefix("anon_inode:") {
            return Some(what.trim_matches(['[', ']']).to_owned());
        }
        Some(format!("{} {}", file_kind(&path)?, file_system(&path)))
    }

    fn table(&self, name: &str) -> Option<String> {
        let file = Process::new(self.pid()).ok()?.open_relative(name).ok()?;
        let mut text = String::new();
        file.take(MAX_TABLE_BYTES).read_to_string(&mut text).ok()?;
        Some(text)
    }
}

/// What a process is called, while there is one; of untrusted text.
pub fn process_name(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end_matches('\n').to_owned())
}

fn inner<'a>(link: &'a str, before: &str) -> Option<&'a str> {
    link.strip_prefix(before)?.strip_suffix(']')
}

fn has_inode(table: &str, column: usize, inode: &str) -> bool {
    table.lines().any(|line| line.split_ascii_whitespace().nth(column) == Some(inode))
}

fn file_kind(path: &str) -> Option<&'static str> {
    let kind = fs::metadata(path).ok()?.file_type();
    Some(match kind {
        _ if kind.is_file() => "file",
        _ if kind.is_dir() => "directory",
        _ if kind.is_fifo() => "pipe",
        _ if kind.is_block_device() => "block device",
        _ if kind.is_char_device() => "character device",
        _ => "other",
    })
}

fn file_system(path: &str) -> String {
    let Ok(found) = statfs(path) else { return "?".into() };
    let number = found.filesystem_type().0;
    let known = FILE_SYSTEMS.iter().find(|(magic, _)| *magic == number);
    known.map_or_else(|| format!("{number:#x}"), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::{fd::AsRawFd, unix::net::UnixStream},
    };

    use super::*;

    fn kind_of(file: &impl AsRawFd) -> Option<String> {
        let us = Worker::open(std::process::id().cast_signed()).unwrap();
        us.descriptor_kind(file.as_raw_fd().cast_unsigned())
    }

    #[test]
    fn each_kind_has_its_word() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(kind_of(&peer).unwrap(), "socket inet tcp");
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(kind_of(&one).unwrap(), "socket unix");
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(kind_of(&reader).unwrap(), "pipe");
        assert_eq!(kind_of(&fs::File::open("/proc/self/stat").unwrap()).unwrap(), "file proc");
        assert_eq!(kind_of(&fs::File::open("/proc/self").unwrap()).unwrap(), "directory proc");
    }

    #[test]
    fn one_that_is_closed_is_not_known() {
        let us = Worker::open(std::process::id().cast_signed()).unwrap();
        assert_eq!(us.descriptor_kind(1_000_000), None);
    }

    #[test]
    fn a_process_has_a_name_while_it_is_there() {
        assert!(process_name(std::process::id()).is_some_and(|name| !name.is_empty()));
        assert_eq!(process_name(u32::MAX), None);
    }
}
