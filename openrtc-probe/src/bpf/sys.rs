//! bpf(2) itself, for what aya has no call: programs that go to several sites by one link.
//! Source: <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/bpf.h>.

use std::{
    ffi::{CStr, c_char, c_long},
    io, mem,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    ptr::from_mut,
};

use aya_obj::generated::{
    bpf_attach_type::BPF_TRACE_UPROBE_MULTI,
    bpf_attr,
    bpf_cmd::{self, BPF_LINK_CREATE, BPF_OBJ_GET_INFO_BY_FD, BPF_PROG_LOAD},
    bpf_insn, bpf_prog_info,
    bpf_prog_type::BPF_PROG_TYPE_KPROBE,
};
use nix::libc;

/// How much of what the verifier says is kept: its last words say why it refuses.
const LOG_BYTES: usize = 1 << 20;
const LOG_LEVEL: u32 = 1;

/// Loads a program for [`link`].
///
/// # Errors
/// The kernel's, and with it what its verifier said.
pub fn load(
    name: &str,
    license: &CStr,
    instructions: &[bpf_insn],
) -> Result<OwnedFd, (io::Error, String)> {
    let mut log = Vec::new();
    // The verifier takes long to talk: it is asked for its reasons only where it refused.
    load_with(name, license, instructions, &mut log).or_else(|_| {
        log.resize(LOG_BYTES, 0);
        load_with(name, license, instructions, &mut log).map_err(|why| {
            let said = log.split(|byte| *byte == 0).next().unwrap_or_default();
            (why, last_words(&String::from_utf8_lossy(said)))
        })
    })
}

fn load_with(
    name: &str,
    license: &CStr,
    instructions: &[bpf_insn],
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let mut attr = empty();
    // SAFETY: all variants are plain words, and all are 0.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = BPF_PROG_TYPE_KPROBE as u32;
    load.expected_attach_type = BPF_TRACE_UPROBE_MULTI as u32;
    load.insns = instructions.as_ptr() as u64;
    load.insn_cnt = instructions.len() as u32;
    load.license = license.as_ptr() as u64;
    // The last byte stays 0.
    let room = load.prog_name.len() - 1;
    for (to, from) in load.prog_name[..room].iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    if !log.is_empty() {
        load.log_level = LOG_LEVEL;
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = log.len() as u32;
    }
    // SAFETY: instructions, licence and log live until the call returns, with the lengths given.
    unsafe { new_fd(BPF_PROG_LOAD, &mut attr) }
}

/// Puts a program at these offsets of a file, for this process: all of them, or none. Closing the link takes it
/// from all.
pub fn link(
    program: BorrowedFd<'_>,
    path: &CStr,
    offsets: &[u64],
    pid: u32,
) -> io::Result<OwnedFd> {
    let mut attr = empty();
    // SAFETY: as in `load_with`.
    unsafe {
        let link = &mut attr.link_create;
        link.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
        link.attach_type = BPF_TRACE_UPROBE_MULTI as u32;
        let uprobes = &mut link.__bindgen_anon_3.uprobe_multi;
        uprobes.path = path.as_ptr() as u64;
        uprobes.offsets = offsets.as_ptr() as u64;
        uprobes.cnt = offsets.len() as u32;
        uprobes.pid = pid;
    }
    // SAFETY: path and offsets live until the call returns, with the lengths given.
    unsafe { new_fd(BPF_LINK_CREATE, &mut attr) }
}

/// What the kernel tells of a program.
pub fn info(program: impl AsFd) -> io::Result<bpf_prog_info> {
    // SAFETY: all its fields are plain words.
    let mut info: bpf_prog_info = unsafe { mem::zeroed() };
    let mut attr = empty();
    // SAFETY: as in `load_with`.
    let ask = unsafe { &mut attr.info };
    ask.bpf_fd = program.as_fd().as_raw_fd() as u32;
    ask.info_len = size_of_val(&info) as u32;
    ask.info = from_mut(&mut info) as u64;
    // SAFETY: the kernel writes no more than the length given.
    unsafe { call(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info)
}

/// The last line before the verifier's own statistics, which says what it does not allow.
fn last_words(log: &str) -> String {
    let says = |line: &&str| !line.trim().is_empty() && !line.starts_with("processed ");
    log.lines().rfind(says).unwrap_or("the verifier said nothing").to_owned()
}

fn empty() -> bpf_attr {
    // SAFETY: a union of plain words.
    unsafe { mem::zeroed() }
}

/// # Safety
/// What the attributes point to lives, and is as long as they say; the command returns a new descriptor.
unsafe fn new_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: by the contract.
    unsafe { call(command, attr).map(|fd| OwnedFd::from_raw_fd(fd as i32)) }
}

/// # Safety
/// What the attributes point to lives, and is as long as they say.
unsafe fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<c_long> {
    // SAFETY: by the contract.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as c_long, from_mut(attr), size_of_val(attr))
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
