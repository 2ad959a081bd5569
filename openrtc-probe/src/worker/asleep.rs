//! What a thread waits for that was asleep before anybody watched it: the kernel's own word.

use std::io::Read as _;

use openrtc_common::wait::{Key, Registers, kind};

use super::Worker;

/// A line has nine words.
const MAX_BYTES: u64 = 512;
/// The words of a thread that sleeps in a system call: number, six arguments, stack pointer, program
/// counter.
const WORDS: usize = 9;

impl Worker {
    /// What a sleeping thread waits for, and where in user space it is, by `/proc/PID/task/TID/syscall`
    /// (<https://man7.org/linux/man-pages/man5/proc_pid_syscall.5.html>). `None` of one that runs.
    pub fn sleeps_for(&self, tid: u32) -> Option<(Key, Registers)> {
        let file = self.process.open_relative(format!("task/{tid}/syscall")).ok()?;
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
        parse(&text)
    }
}

fn parse(text: &str) -> Option<(Key, Registers)> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let hex = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    match words.as_slice() {
        // In no system call.
        ["-1", sp, ip] => {
            let key = Key { kind: kind::FAULT, ..Key::default() };
            Some((key, Registers { ip: hex(ip)?, sp: hex(sp)?, bp: 0 }))
        }
        [number, first, .., sp, ip] if words.len() == WORDS => {
            let key =
                Key { kind: kind::SYSCALL, number: number.parse().ok()?, detail: hex(first)? };
            Some((key, Registers { ip: hex(ip)?, sp: hex(sp)?, bp: 0 }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_the_line_is_read() {
        let text = "230 0x1 0x0 0x7ffd10 0x0 0x0 0x0 0x7ffd00 0x7f10\n";
        let (key, registers) = parse(text).unwrap();
        assert_eq!(key, Key { kind: kind::SYSCALL, number: 230, detail: 1 });
        assert_eq!(registers, Registers { ip: 0x7f10, sp: 0x7_ffd00, bp: 0 });
        assert_eq!(parse("-1 0x7ffd00 0x7f10\n").unwrap().0.kind, kind::FAULT);
        assert_eq!(parse("running\n"), None);
        assert_eq!(parse(""), None);
        assert_eq!(parse("230 0x1 zzz\n"), None);
    }
}
