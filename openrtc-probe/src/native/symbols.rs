//! The names of a file's functions, from its tables of symbols.
//!
//! Libraries that look symbols up map the file, and believe its sizes: a worker that shortened a file of its
//! own meanwhile would kill us by SIGBUS, and one that wrote it could have gigabytes sorted. So the tables
//! are read, within limits, and only what may be a function is kept.

use object::{
    LittleEndian, ReadCache, ReadRef,
    elf::{FileHeader64, SHT_DYNSYM, SHT_SYMTAB},
    read::elf::{FileHeader as _, SectionHeader as _},
};

use super::image::Source;

/// Bytes of one table of symbols that are read: some 350,000, which are sorted once.
const MAX_TABLE_BYTES: u64 = 8 << 20;
/// Bytes of one table's names that are read.
const MAX_NAMES_BYTES: u64 = 32 << 20;
/// Bytes of a name that are told.
const MAX_NAME: usize = 128;
/// Functions before an address that are tried: some begin inside of others, or have several names.
const MAX_TRIED: usize = 32;

/// `sizeof(Elf64_Sym)`: name, kind, other, section, value, size.
const SYMBOL_BYTES: usize = 24;
/// What has a size and may be run: `STT_NOTYPE`, `STT_FUNC`, `STT_GNU_IFUNC`.
const KINDS: [u8; 3] = [0, 2, 10];

/// Names by address.
pub struct Symbols {
    /// By where they begin.
    functions: Vec<Function>,
    names: Vec<u8>,
}

/// A function that has an end.
struct Function {
    start: u64,
    size: u64,
    /// Where its name begins.
    name: u32,
}

impl Symbols {
    /// Reads the tables of a file; `None` where it names no function.
    pub fn read(source: &Source) -> Option<Self> {
        let mut symbols = Self { functions: Vec::new(), names: Vec::new() };
        match source {
            Source::File(file) => symbols.read_tables(&ReadCache::new(file)),
            Source::Bytes(bytes) => symbols.read_tables(&**bytes),
        }?;
        symbols.functions.sort_unstable_by_key(|function| function.start);
        (!symbols.functions.is_empty()).then_some(symbols)
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        self.functions.len() * size_of::<Function>() + self.names.len()
    }

    /// The function that covers the address, the innermost of several. In a stripped file the last one before
    /// it may be far away, and is no answer.
    pub fn name(&self, addr: u64) -> Option<String> {
        let end = self.functions.partition_point(|function| function.start <= addr);
        let before = self.functions.get(..end)?.iter().rev().take(MAX_TRIED);
        let mut covering = before.filter(|function| addr - function.start < function.size);
        let first = covering.next()?;
        // Of several names of one function the plainest.
        let alike = covering.take_while(|function| function.start == first.start);
        let names = std::iter::once(first).chain(alike).filter_map(|it| self.name_at(it.name));
        let plainest = |name: &&str| (name.len() - name.trim_start_matches('_').len(), name.len());
        let name = names.min_by_key(plainest)?;
        name.get(..name.floor_char_boundary(MAX_NAME)).map(ToOwned::to_owned)
    }

    fn name_at(&self, at: u32) -> Option<&str> {
        let rest = self.names.get(at as usize..)?;
        // Names stay as they are: there is no limit to what a mangled one may expand to.
        let name = rest.split(|byte| *byte == 0).next()?;
        let name = match std::str::from_utf8(name) {
            Ok(name) => name,
            Err(error) => std::str::from_utf8(name.get(..error.valid_up_to())?).ok()?,
        };
        (!name.is_empty()).then_some(name)
    }

    /// Takes the functions of both tables; `None` where the file is none of ours.
    fn read_tables<'d, R: ReadRef<'d>>(&mut self, data: R) -> Option<()> {
        let header = FileHeader64::<LittleEndian>::parse(data).ok()?;
        let endian = header.endian().ok()?;
        let sections = header.sections(endian, data).ok()?;
        for kind in [SHT_SYMTAB, SHT_DYNSYM] {
            let table = sections.iter().find(|section| section.sh_type(endian) == kind);
            let Some(table) = table.filter(|table| table.sh_size(endian) <= MAX_TABLE_BYTES) else {
                continue;
            };
            let names = sections.section(table.link(endian)).ok();
            let Some(names) = names.filter(|names| names.sh_size(endian) <= MAX_NAMES_BYTES) else {
                continue;
            };
            let both = table.data(endian, data).ok().zip(names.data(endian, data).ok());
            if let Some((symbols, names)) = both {
                self.add(symbols, names);
            }
        }
        Some(())
    }

    fn add(&mut self, symbols: &[u8], names: &[u8]) {
        let before = self.names.len() as u32;
        let symbols = symbols.as_chunks::<SYMBOL_BYTES>().0.iter();
        self.functions.extend(symbols.filter_map(|symbol| function(symbol, before)));
        self.names.extend(names);
        // Each ends, also the last one.
        self.names.push(0);
    }
}

/// What is defined, may be run, and ends behind where it begins; its name begins so much further on.
fn function(symbol: &[u8; SYMBOL_BYTES], names_at: u32) -> Option<Function> {
    let word = |at: usize| {
        let bytes = symbol.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    let (start, size) = (word(8), word(16));
    let is_function = [symbol[6], symbol[7]] != [0, 0]
        && KINDS.contains(&(symbol[4] & 0xf))
        && size > 0
        && start.checked_add(size).is_some();
    let name = (word(0) as u32).saturating_add(names_at);
    is_function.then_some(Function { start, size, name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::elf::{EM_X86_64, SHT_STRTAB};

    fn symbol(name: u32, kind: u8, value: u64, size: u64) -> Vec<u8> {
        let head = [&name.to_le_bytes()[..], &[kind, 0, 1, 0]].concat();
        [&head[..], &value.to_le_bytes(), &size.to_le_bytes()].concat()
    }

    fn functions(symbols: &[Vec<u8>], names: &[u8]) -> Option<Symbols> {
        Symbols::read(&Source::Bytes(file(&symbols.concat(), names)))
    }

    /// An ELF file of one table: a header, the symbols, their names, the sections' names, the sections.
    fn file(symbols_bytes: &[u8], names_bytes: &[u8]) -> Vec<u8> {
        const HEADER_BYTES: u64 = 64;
        const SECTION_NAMES: &[u8] = b"\0.symtab\0.strtab\0.shstrtab\0";
        let (symbols, names) = (symbols_bytes.len() as u64, names_bytes.len() as u64);
        let names_at = HEADER_BYTES + symbols;
        let section_names_at = names_at + names;
        let end = section_names_at + SECTION_NAMES.len() as u64;
        let sections_at = end.next_multiple_of(8);
        let mut file = [&b"\x7fELF\x02\x01\x01"[..], &[0; 9], &[3, 0]].concat();
        file.extend(EM_X86_64.0.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        file.extend([0, 0, sections_at].map(u64::to_le_bytes).concat());
        file.extend([0; 4]);
        // Sizes and counts: this header, program headers (none), sections; where the sections' names are.
        file.extend([HEADER_BYTES as u16, 56, 0, 64, 4, 3].map(u16::to_le_bytes).concat());
        file.extend(symbols_bytes);
        file.extend(names_bytes);
        file.extend(SECTION_NAMES);
        file.resize(sections_at as usize, 0);
        file.extend([0; 64]);
        let strings = SHT_STRTAB.0;
        for (name, kind, at, length, link, item) in [
            (1_u32, SHT_SYMTAB.0, HEADER_BYTES, symbols, 2_u32, SYMBOL_BYTES as u64),
            (9, strings, names_at, names, 0, 0),
            (17, strings, section_names_at, SECTION_NAMES.len() as u64, 0, 0),
        ] {
            file.extend([name, kind].map(u32::to_le_bytes).concat());
            file.extend([0, 0, at, length].map(u64::to_le_bytes).concat());
            file.extend([link, 0].map(u32::to_le_bytes).concat());
            file.extend([1, item].map(u64::to_le_bytes).concat());
        }
        file
    }

    #[test]
    fn only_what_covers_the_address_is_its_name() {
        let long = [&[b'x'; 127][..], "é".as_bytes(), b"y\0"].concat();
        let names = [&b"\0first\0second\0"[..], &long].concat();
        let known = functions(
            &[
                symbol(1, 0x12, 0x1000, 0x10),
                symbol(7, 0x22, 0x2000, 0x10),
                symbol(14, 0x12, 0x3000, 1),
                symbol(1, 0x12, 0x4000, 0),
                symbol(1, 0x11, 0x5000, 0x10),
                symbol(u32::MAX, 0x12, 0x6000, 0x10),
                symbol(1, 0x12, u64::MAX - 1, 0x10),
                symbol(0, 0x12, 0x7000, 0x10),
            ],
            &names,
        )
        .unwrap();
        let name = |addr| known.name(addr);
        assert_eq!(name(0x1000).as_deref(), Some("first"));
        assert_eq!(name(0x100f).as_deref(), Some("first"));
        assert_eq!(name(0x2008).as_deref(), Some("second"));
        assert_eq!(name(0x3000), Some("x".repeat(127)), "at most 128 bytes, and whole letters");
        for none in [0, 0xfff, 0x1010, 0x2010, 0x4000, 0x5000, 0x6000, 0x7000, u64::MAX] {
            assert_eq!(name(none), None, "{none:#x}");
        }
    }

    #[test]
    fn broken_files_name_nothing_and_harm_nobody() {
        assert!(functions(&[], b"\0").is_none());
        assert!(Symbols::read(&Source::Bytes(Vec::new())).is_none());
        let whole = file(&symbol(1, 0x12, 0x1000, 0x10), b"\0first\0");
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut broken = whole.clone();
                broken[at] = byte;
                if let Some(known) = Symbols::read(&Source::Bytes(broken)) {
                    for addr in [0, 0x1000, u64::MAX] {
                        assert!(known.name(addr).is_none_or(|name| name.len() <= MAX_NAME));
                    }
                }
            }
            assert!(Symbols::read(&Source::Bytes(whole[..at].to_vec())).is_none(), "{at}");
        }
    }
}
