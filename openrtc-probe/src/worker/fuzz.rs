//! Any bytes where a worker's list of mappings, its interpreter's file or the code in that should be.

#![expect(clippy::missing_panics_doc, reason = "to panic is how a fault is told")]

use std::{fs::File, os::unix::fs::FileExt as _, path::PathBuf};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{
    binary::{Binary, ElfAddr, FileId, FileOffset, Mapping},
    flow::MachineCode,
    site::{Functions, SiteKind, choose},
};

const WANTED: [&str; 3] = ["PyContext_Enter", "PyContext_Exit", "Py_GetVersion"];
/// Where the code of [`sites`] stands.
const CODE: u64 = 0x40_0000;

/// A list of mappings, as `/proc/PID/maps` is.
pub fn maps(data: &[u8]) {
    for mapping in super::maps::code(data) {
        assert!(!mapping.file_name().contains('/'), "{mapping:?}");
        assert!(mapping.range.0 < mapping.range.1, "{mapping:?}");
        assert!(mapping.is_vdso() || mapping.path.is_absolute(), "{mapping:?}");
    }
}

/// An ELF file, and all that is asked of one; the first eight bytes say which of its bytes is mapped.
pub fn elf(data: &[u8]) {
    let Some((offset, bytes)) = data.split_first_chunk() else { return };
    let (range, offset) = ((CODE, CODE + 0x1000), u64::from_le_bytes(*offset));
    let file = FileId { device: (8, 1), inode: 7 };
    let mapping = Mapping { range, offset, file, path: "/usr/bin/python3".into() };
    let Some(file) = file_of(bytes) else { return };
    let Some(binary) = Binary::read(PathBuf::new(), file, &mapping, &WANTED) else { return };
    if let Some(starts) = binary.function_starts() {
        assert!(starts.is_sorted());
    }
    let _ = binary.section(".PyRuntime");
    for slot in binary.slots_of("PyObject_Call") {
        let _ = binary.slot_symbol(slot);
    }
    for addr in WANTED.iter().filter_map(|name| binary.symbol(name)) {
        assert!(binary.code_addr(binary.remote(addr)).is_none_or(|again| again == addr));
        if let Some((segment, code)) = binary.code(addr) {
            assert!(segment.executable && code.len() as u64 == segment.file_bytes);
            assert!(code.len() <= bytes.len());
        }
    }
}

fn file_of(bytes: &[u8]) -> Option<File> {
    let file = File::from(memfd_create(c"fuzz", MFdFlags::empty()).ok()?);
    file.write_all_at(bytes, 0).ok()?;
    Some(file)
}

/// Machine code, in which sites are chosen: five functions begin where the first ten bytes say.
pub fn sites(data: &[u8]) {
    let Some((entries, bytes)) = data.split_first_chunk::<10>() else { return };
    let entry = |at: usize| {
        let bytes = entries.get(2 * at..).and_then(|rest| rest.first_chunk());
        ElfAddr(CODE + bytes.map_or(0, |bytes| u64::from(u16::from_le_bytes(*bytes))))
    };
    let functions = Functions {
        context_run: entry(0),
        context_enter: entry(1),
        context_exit: entry(2),
        var_set: entry(3),
        var_reset: entry(4),
    };
    let mut starts = [0, 1, 2, 3, 4].map(entry);
    starts.sort_unstable();
    let code = MachineCode { bytes, addr: CODE };
    let Ok(sites) = choose(code, FileOffset(0x1000), &functions, &starts) else { return };
    for kind in SiteKind::ALL {
        assert!(sites.iter().any(|site| site.kind == kind), "{kind:?} is missing");
    }
    for site in &sites {
        let at = site.address.0 - CODE;
        assert_eq!(site.offset, FileOffset(at + 0x1000));
        let instruction = code.decode(site.address);
        assert!(instruction.is_ok_and(|it| code.is_emulated(&it)), "{site:?}");
        assert!(!site.registers.is_empty(), "{site:?}");
    }
}
