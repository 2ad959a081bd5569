//! What stands in an ELF file: read in pieces, each with a limit, and never mapped: a worker that shortened a
//! mapped file would kill whoever reads it.

use std::{fs::File, os::unix::fs::FileExt as _};

use object::{
    LittleEndian,
    elf::{EM_X86_64, FileHeader64, PT_GNU_EH_FRAME, PT_LOAD},
    read::elf::{FileHeader as _, ProgramHeader as _},
};

/// Bytes at a file's beginning, in which its program headers stand.
const HEAD_BYTES: u64 = 8192;

/// Where the bytes of a module come from.
pub enum Source {
    /// The mapped file.
    File(File),
    /// A copy of the kernel's own code.
    Bytes(Vec<u8>),
}

impl Source {
    /// Its length in bytes.
    pub fn len(&self) -> Option<u64> {
        match self {
            Self::File(file) => file.metadata().ok().map(|meta| meta.len()),
            Self::Bytes(bytes) => Some(bytes.len() as u64),
        }
    }

    /// `length` bytes from `offset`, all of them; the caller has limited the length.
    pub fn read(&self, offset: u64, length: u64) -> Option<Vec<u8>> {
        let end =
            offset.checked_add(length).filter(|end| self.len().is_some_and(|len| *end <= len))?;
        match self {
            Self::File(file) => {
                let mut bytes = vec![0; usize::try_from(length).ok()?];
                file.read_exact_at(&mut bytes, offset).ok()?;
                Some(bytes)
            }
            Self::Bytes(bytes) => Some(bytes.get(offset as usize..end as usize)?.to_vec()),
        }
    }
}

/// A loaded part of a file.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Its address before loading.
    addr: u64,
    /// Which byte of the file it begins with.
    offset: u64,
    /// How many come from the file.
    length: u64,
}

/// A place in a file that is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its address before loading.
    pub addr: u64,
    /// Where it stands in the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// A file's own view of where it is loaded.
pub struct Image {
    parts: Vec<Part>,
    /// The index of the tables for unwinding.
    pub unwind_index: Option<Place>,
}

impl Image {
    /// Reads the headers; `None` where it is no ELF file for this machine.
    pub fn parse(source: &Source) -> Option<Self> {
        let head = source.read(0, source.len()?.min(HEAD_BYTES))?;
        let header = FileHeader64::<LittleEndian>::parse(&*head).ok()?;
        let endian = header.endian().ok()?;
        if header.e_machine(endian) != EM_X86_64 {
            return None;
        }
        let headers = header.program_headers(endian, &*head).ok()?;
        let parts = headers.iter().filter(|header| header.p_type(endian) == PT_LOAD);
        let index = headers.iter().find(|header| header.p_type(endian) == PT_GNU_EH_FRAME);
        Some(Self {
            parts: parts
                .map(|header| Part {
                    addr: header.p_vaddr(endian),
                    offset: header.p_offset(endian),
                    length: header.p_filesz(endian),
                })
                .collect(),
            unwind_index: index.map(|header| Place {
                addr: header.p_vaddr(endian),
                offset: header.p_offset(endian),
                length: header.p_filesz(endian),
            }),
        })
    }

    /// The address of a byte of the file.
    pub fn addr_of(&self, offset: u64) -> Option<u64> {
        self.parts.iter().find_map(|part| {
            let into = offset.checked_sub(part.offset).filter(|into| *into < part.length)?;
            Some(part.addr.wrapping_add(into))
        })
    }

    /// From an address of the file to the end of the part that it is in.
    pub fn rest_from(&self, addr: u64) -> Option<Place> {
        self.parts.iter().find_map(|part| {
            let into = addr.checked_sub(part.addr).filter(|into| *into < part.length)?;
            Some(Place { addr, offset: part.offset.checked_add(into)?, length: part.length - into })
        })
    }
}
