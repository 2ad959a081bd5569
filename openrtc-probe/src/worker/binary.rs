//! A file that the worker has mapped: opened as the exact file, and read as ELF.
//!
//! Code is read from the file, because the worker's own copy may hold breakpoints of other
//! profilers; data is read from the worker's memory, where every relocation has been applied.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    fs::File,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use gimli::{BaseAddresses, EhFrameHdr, LittleEndian};
use nix::libc;
use object::{
    Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, ObjectSymbolTable as _,
    ReadCache, RelocationTarget,
    elf::{EM_X86_64, PF_W, PF_X, PT_GNU_EH_FRAME, PT_LOAD},
    read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _},
};

use crate::{blocker::Blocker, cpython::memory::RemoteAddr};

use super::{Worker, maps};

/// Files that are looked at in search of the interpreter.
const MAX_FILES: usize = 512;
/// Dynamic symbols of one file that are looked at.
const MAX_SYMBOLS: usize = 1 << 20;
/// Dynamic relocations of one file that are looked at.
const MAX_RELOCATIONS: usize = 1 << 20;
/// Bytes of the list of functions of one file that are read.
const MAX_INDEX_BYTES: u64 = 64 << 20;
/// Bytes of code that are read of one file.
const MAX_CODE_BYTES: u64 = 256 << 20;

/// An address as the ELF file names it, before it is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ElfAddr(pub u64);

impl fmt::Display for ElfAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A byte of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileOffset(pub u64);

impl fmt::Display for FileOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Which file it is, whatever its name: as long as it is mapped, no other has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Major and minor number of the device.
    pub device: (i32, i32),
    /// The file's number there.
    pub inode: u64,
}

/// An executable mapping of a file, or of the kernel's own code (`[vdso]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First and last address plus one.
    pub range: (u64, u64),
    /// Which byte of the file stands at the first.
    pub offset: u64,
    /// The file.
    pub file: FileId,
    /// The file's name in the worker's mount namespace; ` (deleted)` may follow.
    pub path: PathBuf,
}

impl Mapping {
    /// The last part of the path.
    pub fn file_name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Whether it is the code that the kernel gives each process, which is in no file.
    pub fn is_vdso(&self) -> bool {
        self.path == Path::new(maps::VDSO)
    }

    fn is_file(&self, file: &File) -> bool {
        file.metadata().is_ok_and(|meta| {
            let device = (libc::major(meta.dev()), libc::minor(meta.dev()));
            let device = (device.0 as i32, device.1 as i32);
            FileId { device, inode: meta.ino() } == self.file
        })
    }
}

/// Every executable mapping of a file and the kernel's own, by ascending addresses.
pub fn code(worker: &Worker) -> Result<Vec<Mapping>, Blocker> {
    Ok(maps::code(&worker.read("maps")?))
}

/// The first executable mapping of each file, files called something with `python` first.
pub fn executables(worker: &Worker) -> Result<Vec<Mapping>, Blocker> {
    let mut known = HashSet::new();
    let mut found = code(worker)?;
    found.retain(|mapping| !mapping.is_vdso() && known.insert(mapping.file));
    found.sort_by_key(|mapping| !mapping.file_name().contains("python"));
    found.truncate(MAX_FILES);
    Ok(found)
}

/// A loaded part of an ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its address before loading.
    pub addr: u64,
    /// Which byte of the file it begins with.
    pub offset: u64,
    /// Bytes that come from the file.
    pub file_bytes: u64,
    /// Whether it is executed.
    pub executable: bool,
    /// Whether it is written.
    pub writable: bool,
}

impl Segment {
    /// Whether `addr` comes from the file in it.
    pub fn holds(&self, addr: ElfAddr) -> bool {
        addr.0.checked_sub(self.addr).is_some_and(|into| into < self.file_bytes)
    }
}

/// An ELF file that the worker has mapped.
pub struct Binary {
    /// The path that names this exact file to the kernel.
    pub open_path: PathBuf,
    /// Its name in the worker's mount namespace.
    pub path: PathBuf,
    /// Its loaded parts.
    pub segments: Vec<Segment>,
    file: File,
    /// Where the file lists its functions: address, place in the file and bytes.
    frame_index: Option<(u64, u64, u64)>,
    /// What is added to an address of the file when it is loaded.
    bias: u64,
    symbols: Symbols,
    /// Words of the file's data that the dynamic linker points at a symbol, when it is first used.
    slots: HashMap<ElfAddr, ElfAddr>,
}

impl Binary {
    /// Opens a mapped file and looks up the symbols `wanted`; `Ok(None)` where it is no ELF file for
    /// this machine.
    ///
    /// # Errors
    /// [`Blocker::BinaryUnreadable`] where the exact file cannot be opened.
    pub fn open(
        worker: &Worker,
        mapping: &Mapping,
        wanted: &[&'static str],
    ) -> Result<Option<Self>, Blocker> {
        let (open_path, file) = open_exact(worker, mapping)?;
        Ok(Self::read(open_path, file, mapping, wanted))
    }

    /// Reads an open file that is mapped so.
    pub(super) fn read(
        open_path: PathBuf,
        file: File,
        mapping: &Mapping,
        wanted: &[&'static str],
    ) -> Option<Self> {
        let Parsed { segments, symbols, slots, frame_index } = parse(&file, wanted)?;
        let bias = bias(mapping, &segments)?;
        let path = mapping.path.clone();
        Some(Self { open_path, path, segments, file, frame_index, bias, symbols, slots })
    }

    /// The address of a symbol that this file defines for others.
    pub fn symbol(&self, name: &str) -> Option<ElfAddr> {
        self.symbols.get(name).copied()
    }

    /// The symbol that a word of the data will point at, one of those that were wanted.
    pub fn slot_symbol(&self, slot: ElfAddr) -> Option<ElfAddr> {
        self.slots.get(&slot).copied()
    }

    /// Where an address of the file is in the worker.
    pub fn remote(&self, addr: ElfAddr) -> RemoteAddr {
        RemoteAddr(addr.0.wrapping_add(self.bias))
    }

    /// Which address of the file an address in the worker is, if it is in an executable part.
    pub fn code_addr(&self, addr: RemoteAddr) -> Option<ElfAddr> {
        let addr = ElfAddr(addr.0.wrapping_sub(self.bias));
        self.code_segment(addr).map(|_| addr)
    }

    /// Where in the worker the section `name` is loaded. Stripped files keep the table of those that are.
    pub fn section(&self, name: &str) -> Option<RemoteAddr> {
        let cache = ReadCache::new(&self.file);
        let elf = ElfFile64::<Endianness, _>::parse(&cache).ok()?;
        let address = elf.section_by_name(name)?.address();
        (address != 0).then(|| self.remote(ElfAddr(address)))
    }

    /// Where its functions begin, in ascending order: from the index for unwinding, which is loaded and
    /// so survives stripping. Parts that the compiler split off count as functions.
    pub fn function_starts(&self) -> Option<Vec<ElfAddr>> {
        let (addr, offset, length) = self.frame_index.filter(|index| index.2 <= MAX_INDEX_BYTES)?;
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, offset).ok()?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(addr);
        let index = EhFrameHdr::new(&bytes, LittleEndian).parse(&bases, 8).ok()?;
        let mut starts = Vec::new();
        let table = index.table()?;
        let mut entries = table.iter(&bases);
        while let Some((start, _)) = entries.next().ok()? {
            starts.push(ElfAddr(start.direct().ok()?));
        }
        starts.sort_unstable();
        Some(starts)
    }

    /// The words through which it calls the function `name` of another file, or its own.
    pub fn slots_of(&self, name: &str) -> HashSet<ElfAddr> {
        let cache = ReadCache::new(&self.file);
        let Ok(elf) = ElfFile64::<Endianness, _>::parse(&cache) else { return HashSet::new() };
        named_slots(&elf, |symbol| (symbol == name).then_some(())).map(|(slot, ())| slot).collect()
    }

    fn code_segment(&self, addr: ElfAddr) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.executable && segment.holds(addr))
    }

    /// The code of the executable part that holds `addr`, and the part itself.
    pub fn code(&self, addr: ElfAddr) -> Option<(Segment, Vec<u8>)> {
        let segment = *self.code_segment(addr)?;
        if segment.file_bytes > MAX_CODE_BYTES {
            return None;
        }
        let mut code = vec![0; segment.file_bytes as usize];
        self.file.read_exact_at(&mut code, segment.offset).ok()?;
        Some((segment, code))
    }
}

/// Opens the very file of a mapping, and says under which path.
///
/// `map_files` names the file itself, also where it was deleted, or replaced by another under the
/// same name, or lives in a container; but only a privileged process may use it. Else the name in
/// the worker's root is taken, if device and inode prove it to be that file.
pub fn open_exact(worker: &Worker, mapping: &Mapping) -> Result<(PathBuf, File), Blocker> {
    let (start, end) = mapping.range;
    let link = PathBuf::from(format!("/proc/{}/map_files/{start:x}-{end:x}", worker.pid()));
    if let Ok(file) = File::open(&link) {
        return Ok((link, file));
    }
    let refused = |why: String| Blocker::BinaryUnreadable {
        pid: worker.pid(),
        path: mapping.path.display().to_string(),
        why,
    };
    let below_root = mapping.path.strip_prefix("/").unwrap_or(&mapping.path);
    let path = PathBuf::from(format!("/proc/{}/root", worker.pid())).join(below_root);
    let file = File::open(&path).map_err(|why| refused(why.to_string()))?;
    if mapping.is_file(&file) {
        return Ok((path, file));
    }
    Err(refused("another file has its name now".into()))
}

type Symbols = HashMap<&'static str, ElfAddr>;

/// What a file tells of itself; see [`Binary`].
struct Parsed {
    segments: Vec<Segment>,
    symbols: Symbols,
    slots: HashMap<ElfAddr, ElfAddr>,
    frame_index: Option<(u64, u64, u64)>,
}

fn parse(file: &File, wanted: &[&'static str]) -> Option<Parsed> {
    let cache = ReadCache::new(file);
    let elf = ElfFile64::<Endianness, _>::parse(&cache).ok()?;
    let endian = elf.endian();
    if elf.elf_header().e_machine(endian) != EM_X86_64 {
        return None;
    }
    let segments = elf
        .elf_program_headers()
        .iter()
        .filter(|header| header.p_type(endian) == PT_LOAD)
        .map(|header| Segment {
            addr: header.p_vaddr(endian),
            offset: header.p_offset(endian),
            file_bytes: header.p_filesz(endian),
            executable: header.p_flags(endian).contains(PF_X),
            writable: header.p_flags(endian).contains(PF_W),
        })
        .collect();
    let symbols: Symbols = elf
        .dynamic_symbols()
        .take(MAX_SYMBOLS)
        .filter(object::ObjectSymbol::is_definition)
        .filter_map(|symbol| {
            let name = symbol.name_bytes().ok()?;
            let name = wanted.iter().find(|wanted| wanted.as_bytes() == name)?;
            Some((*name, ElfAddr(symbol.address())))
        })
        .collect();
    let slots = slots(&elf, &symbols);
    let index = elf.elf_program_headers().iter().find(|h| h.p_type(endian) == PT_GNU_EH_FRAME);
    let frame_index = index.map(|h| (h.p_vaddr(endian), h.p_offset(endian), h.p_filesz(endian)));
    Some(Parsed { segments, symbols, slots, frame_index })
}

/// The words through which the file calls symbols that it defines itself (`R_X86_64_JUMP_SLOT`,
/// `R_X86_64_GLOB_DAT`).
fn slots<'f>(
    elf: &ElfFile64<'f, Endianness, &'f ReadCache<&'f File>>,
    symbols: &Symbols,
) -> HashMap<ElfAddr, ElfAddr> {
    if symbols.is_empty() {
        return HashMap::new();
    }
    named_slots(elf, |name| symbols.get(name).copied()).collect()
}

/// The words that the dynamic linker points at a symbol, with what `pick` makes of its name.
fn named_slots<'f, T>(
    elf: &ElfFile64<'f, Endianness, &'f ReadCache<&'f File>>,
    pick: impl Fn(&str) -> Option<T>,
) -> impl Iterator<Item = (ElfAddr, T)> {
    let table = elf.dynamic_symbol_table();
    let relocations = elf.dynamic_relocations().into_iter().flatten().take(MAX_RELOCATIONS);
    relocations.filter_map(move |(at, relocation)| {
        let RelocationTarget::Symbol(index) = relocation.target() else { return None };
        let symbol = table.as_ref()?.symbol_by_index(index).ok()?;
        let name = std::str::from_utf8(symbol.name_bytes().ok()?).ok()?;
        Some((ElfAddr(at), pick(name)?))
    })
}

/// What loading has added to the file's addresses: an executable mapping shows a byte of the file
/// at an address, and the segment that holds the byte tells the address it has in the file. It is
/// 0 for files with fixed addresses.
fn bias(mapping: &Mapping, segments: &[Segment]) -> Option<u64> {
    /// Mappings begin at pages, segments anywhere in one.
    const PAGE_MASK: u64 = !0xfff;
    let segment = segments.iter().find(|segment| {
        let first = segment.offset & PAGE_MASK;
        segment.executable
            && (first..segment.offset.saturating_add(segment.file_bytes)).contains(&mapping.offset)
    })?;
    let in_file = segment.addr.wrapping_sub(segment.offset).wrapping_add(mapping.offset);
    Some(mapping.range.0.wrapping_sub(in_file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: u64, offset: u64) -> Mapping {
        Mapping {
            range: (start, start + 0x1000),
            offset,
            file: FileId { device: (0, 0), inode: 1 },
            path: "/usr/lib/libpython3.11.so.1.0".into(),
        }
    }

    fn segment(addr: u64, offset: u64, file_bytes: u64, executable: bool) -> Segment {
        Segment { addr, offset, file_bytes, executable, writable: !executable }
    }

    #[test]
    fn the_bias_follows_from_the_mapping() {
        let segments = [segment(0, 0, 0xf5000, false), segment(0xf5000, 0xf5000, 0x20_0000, true)];
        let at = mapping(0x7f00_000f_5000, 0xf5000);
        assert_eq!(bias(&at, &segments), Some(0x7f00_0000_0000));
        let fixed = [segment(0x41_f000, 0x1_f000, 0x28_4000, true)];
        assert_eq!(bias(&mapping(0x41_f000, 0x1_f000), &fixed), Some(0), "ET_EXEC");
        let inside_a_page = [segment(0x2040, 0x1040, 0x100, true)];
        assert_eq!(bias(&mapping(0x7000_2000, 0x1000), &inside_a_page), Some(0x7000_0000));
        assert_eq!(bias(&mapping(0x1000, 0x9000), &inside_a_page), None);
    }

    #[test]
    fn hostile_segments_hold_nothing() {
        assert!(!segment(u64::MAX - 1, 0, 8, true).holds(ElfAddr(0)));
        assert!(segment(0x1000, 0, 8, true).holds(ElfAddr(0x1007)));
        assert!(!segment(0x1000, 0, 8, true).holds(ElfAddr(0x1008)));
        let overflowing = [segment(0, u64::MAX - 5, 100, true)];
        assert_eq!(bias(&mapping(0x1000, 0x9000), &overflowing), None);
    }
}
