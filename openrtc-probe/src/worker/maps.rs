//! The list of a worker's mappings, `/proc/PID/maps`, as bytes: names of files are the worker's, of any bytes and any
//! look. Only those with code are kept.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::PathBuf};

use super::binary::{FileId, Mapping};

/// Lines that are looked at.
const MAX_MAPPINGS: usize = 65_536;
/// What the kernel calls its own code in a process. A file's name begins with a slash.
pub const VDSO: &str = "[vdso]";

/// Every executable mapping of a file and the kernel's own, by ascending addresses. What is no such line is left out.
pub fn code(text: &[u8]) -> Vec<Mapping> {
    text.split(|byte| *byte == b'\n').take(MAX_MAPPINGS).filter_map(mapping).collect()
}

/// `start-end perms offset major:minor inode   path`, all but the last and the inode in hexadecimal.
fn mapping(line: &[u8]) -> Option<Mapping> {
    let mut words = line.splitn(6, |byte| *byte == b' ');
    let mut word = || std::str::from_utf8(words.next()?).ok();
    let range = pair(word()?, '-')?;
    let is_code = word()?.as_bytes().get(2) == Some(&b'x');
    let offset = hex(word()?)?;
    let (major, minor) = pair(word()?, ':')?;
    let device = (i32::try_from(major).ok()?, i32::try_from(minor).ok()?);
    let inode = word()?.parse().ok()?;
    let path = words.next()?.trim_ascii_start();
    let is_named = path.starts_with(b"/") || path == VDSO.as_bytes();
    (is_code && is_named && range.0 < range.1).then(|| Mapping {
        range,
        offset,
        file: FileId { device, inode },
        path: PathBuf::from(OsStr::from_bytes(path)),
    })
}

fn pair(text: &str, between: char) -> Option<(u64, u64)> {
    let (first, second) = text.split_once(between)?;
    Some((hex(first)?, hex(second)?))
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_and_the_kernel_s_own_is_kept() {
        let text = b"\
55d0c0000000-55d0c0001000 r--p 00000000 fe:00 123                        /usr/bin/python3.11
55d0c0001000-55d0c0281000 r-xp 00001000 fe:00 123                        /usr/bin/python3.11
55d0c1000000-55d0c1100000 rwxp 00000000 00:00 0                          [heap]
7f0000000000-7f0000200000 r-xp 00000000 00:2a 99                         /app/a b.so (deleted)
7f0000300000-7f0000400000 r-xp 00000000 00:00 0
7ffc00100000-7ffc00102000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";
        let found = code(text);
        let paths: Vec<_> = found.iter().map(|it| it.path.to_string_lossy()).collect();
        assert_eq!(paths, ["/usr/bin/python3.11", "/app/a b.so (deleted)", "[vdso]"]);
        let file = FileId { device: (0xfe, 0), inode: 123 };
        assert_eq!((found[0].offset, found[0].file), (0x1000, file));
        assert_eq!(found[0].range, (0x55d0_c000_1000, 0x55d0_c028_1000));
        assert!(found[2].is_vdso() && !found[1].is_vdso());
    }

    /// Each of these names of files has made a library that reads such lists panic, or refuse all of it.
    #[test]
    fn any_name_of_a_file_is_one() {
        for name in [
            &b"/SYSVx"[..],
            b"/SYSV\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9x",
            b"/\xff\xfe.so",
            b"/[stack:",
            b"/  ",
        ] {
            let line = [&b"1000-2000 r-xp 00000000 08:01 7 "[..], name, b"\n"].concat();
            assert_eq!(code(&line).pop().unwrap().path.as_os_str().as_bytes(), name);
        }
    }

    #[test]
    fn what_is_no_such_line_is_left_out() {
        for line in [
            "",
            "-",
            "1000 r-xp 0 8:1 7 /x",
            "1000-2000",
            "2000-1000 r-xp 0 8:1 7 /x",
            "1000-2000 r-xp 0 8:1 -7 /x",
            "1000-2000 r-xp 0 ffffffffff:1 7 /x",
            "1000-20000000000000000 r-xp 0 8:1 7 /x",
        ] {
            assert_eq!(code(line.as_bytes()), [], "{line}");
        }
    }
}
