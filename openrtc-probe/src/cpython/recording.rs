//! What walks have read of an interpreter's memory, to be walked again without it.
//!
//! A [`Recorder`] stands between the walks and a live worker and keeps every byte that they asked for;
//! the [`Recording`] that it leaves is a memory of its own, can be written to a file and read back. Files
//! are made of fixture workers only: `cargo xtask record-images`.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{self, Read, Write},
};

use super::{
    Addresses, NsTid, Tids,
    layout::{Published, Version},
    memory::{ReadError, ReadMemory, RemoteAddr},
};

/// What a file begins with.
const MAGIC: [u8; 8] = *b"ORPIMG1\n";
/// Words of [`Addresses`] in a file.
const ADDRESS_WORDS: usize = size_of::<Addresses>() / 8;
/// Threads, ranges and bytes of a file that are read.
const MAX_COUNT: u64 = 1 << 24;
/// Bytes of a page: nobody but a cache asks for one.
const PAGE_BYTES: usize = 4096;

/// Bytes by the address of the first, none next to another.
type Ranges = BTreeMap<u64, Vec<u8>>;

/// A memory that remembers what was read of it.
pub struct Recorder<M> {
    memory: M,
    seen: RefCell<Ranges>,
}

impl<M> Recorder<M> {
    /// In front of `memory`.
    pub fn new(memory: M) -> Self {
        Self { memory, seen: RefCell::default() }
    }

    /// What was read, with what else it takes to walk it again.
    pub fn finish(self, facts: Facts) -> Recording {
        let mut ranges = Ranges::new();
        for (addr, bytes) in self.seen.into_inner() {
            match ranges.last_entry() {
                Some(mut last) if addr <= last.key() + last.get().len() as u64 => {
                    let known = (last.key() + last.get().len() as u64 - addr) as usize;
                    last.get_mut().extend(bytes.get(known..).unwrap_or_default());
                }
                _ => drop(ranges.insert(addr, bytes)),
            }
        }
        Recording { facts, ranges }
    }
}

impl<M: ReadMemory> ReadMemory for Recorder<M> {
    /// Whole pages are refused, so that a cache asks for what it really wants: a recording holds no more
    /// than the walks have looked at.
    fn read_exact(&self, addr: RemoteAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        if buf.len() == PAGE_BYTES && addr.0.is_multiple_of(PAGE_BYTES as u64) {
            return Err(ReadError::Unmapped { addr, len: buf.len() });
        }
        self.memory.read_exact(addr, buf)?;
        let mut seen = self.seen.borrow_mut();
        let known = seen.entry(addr.0).or_default();
        if known.len() < buf.len() {
            *known = buf.to_vec();
        }
        Ok(())
    }
}

/// What has to be known before the first walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The interpreter's version.
    pub version: Version,
    /// Where its own objects stand.
    pub addresses: Addresses,
    /// Where it publishes its layout.
    pub published: Published,
    /// Its threads.
    pub tids: Tids,
    /// What the worker said of itself: what the walks must find.
    pub truth: String,
}

/// What was read of a worker's memory, and nothing else of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// What has to be known before the first walk.
    pub facts: Facts,
    ranges: Ranges,
}

impl ReadMemory for Recording {
    fn read_exact(&self, addr: RemoteAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let unmapped = ReadError::Unmapped { addr, len: buf.len() };
        let (start, bytes) = self.ranges.range(..=addr.0).next_back().ok_or(unmapped)?;
        let from = (addr.0 - start) as usize;
        let end = from.checked_add(buf.len()).ok_or(unmapped)?;
        buf.copy_from_slice(bytes.get(from..end).ok_or(unmapped)?);
        Ok(())
    }
}

impl Recording {
    /// Bytes of memory that it holds.
    pub fn len(&self) -> usize {
        self.ranges.values().map(Vec::len).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Replaces a path of the machine it was made on by a name, filled up to the same length, wherever it
    /// stands.
    pub fn blot(&mut self, path: &str, name: &str) {
        let filled = name.bytes().chain(std::iter::repeat(b'-')).take(path.len());
        let filled: Vec<u8> = filled.collect();
        for bytes in self.ranges.values_mut() {
            let mut from = 0;
            while let Some(at) = find(bytes.get(from..).unwrap_or_default(), path.as_bytes()) {
                let end = from + at + path.len();
                if let Some(place) = bytes.get_mut(from + at..end) {
                    place.copy_from_slice(&filled);
                }
                from = end;
            }
        }
        let filled = String::from_utf8_lossy(&filled);
        self.facts.truth = self.facts.truth.replace(path, &filled);
    }

    /// Writes it: words of eight bytes, little-endian, and texts and memory behind their length.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let Facts { version, addresses, published, tids, truth } = &self.facts;
        to.write_all(&MAGIC)?;
        put(to, &[u64::from(version.0), published.runtime.0])?;
        put(to, &[published.asyncio.map_or(0, |at| at.0)])?;
        put(to, bytemuck::cast_ref::<_, [u64; ADDRESS_WORDS]>(addresses))?;
        put(to, &[tids.len() as u64])?;
        for (ns_tid, tid) in tids {
            put(to, &[u64::from(ns_tid.0), u64::from(*tid)])?;
        }
        put(to, &[truth.len() as u64])?;
        to.write_all(truth.as_bytes())?;
        put(to, &[self.ranges.len() as u64])?;
        for (addr, bytes) in &self.ranges {
            put(to, &[*addr, bytes.len() as u64])?;
            to.write_all(bytes)?;
        }
        Ok(())
    }

    /// Reads what [`Self::write`] has written.
    pub fn read(from: &mut impl Read) -> io::Result<Self> {
        if take::<1>(from)? != [u64::from_le_bytes(MAGIC)] {
            return Err(invalid("it is no recording of this kind"));
        }
        let [version, runtime, asyncio] = take(from)?;
        let addresses: Addresses = bytemuck::cast(take::<ADDRESS_WORDS>(from)?);
        let mut tids = Tids::new();
        for _ in 0..count(from)? {
            let [ns_tid, tid] = take(from)?;
            tids.insert(NsTid(ns_tid as u32), tid as u32);
        }
        let length = count(from)?;
        let truth = String::from_utf8(text(from, length)?);
        let truth = truth.map_err(|_| invalid("the worker's words are no text"))?;
        let mut ranges = Ranges::new();
        for _ in 0..count(from)? {
            let [addr] = take(from)?;
            let length = count(from)?;
            ranges.insert(addr, text(from, length)?);
        }
        let published =
            Published { runtime: RemoteAddr(runtime), asyncio: RemoteAddr(asyncio).non_null() };
        let version = Version(version as u32);
        Ok(Self { facts: Facts { version, addresses, published, tids, truth }, ranges })
    }
}

/// Where `text` begins in `bytes`.
fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    let is_there = |place: &[u8]| !text.is_empty() && place == text;
    bytes.windows(text.len().max(1)).position(is_there)
}

fn put(to: &mut impl Write, words: &[u64]) -> io::Result<()> {
    words.iter().try_for_each(|word| to.write_all(&word.to_le_bytes()))
}

fn take<const N: usize>(from: &mut impl Read) -> io::Result<[u64; N]> {
    let mut words = [0; N];
    for word in &mut words {
        let mut bytes = [0; 8];
        from.read_exact(&mut bytes)?;
        *word = u64::from_le_bytes(bytes);
    }
    Ok(words)
}

/// A number of things that follow, none of which is a whole memory.
fn count(from: &mut impl Read) -> io::Result<u64> {
    let [count] = take(from)?;
    if count > MAX_COUNT { Err(invalid("it says that it is too long")) } else { Ok(count) }
}

fn text(from: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpython::memory::image::Image;

    fn recorded() -> Recording {
        let mut image = Image::default();
        image.put(0x1000, &[7; 8192]);
        let recorder = Recorder::new(image);
        for (addr, len) in [(0x1010, 16), (0x1018, 16), (0x1028, 4), (0x1800, 1), (0x1010, 4)] {
            recorder.read_exact(RemoteAddr(addr), &mut vec![0; len]).unwrap();
        }
        let page = recorder.read_exact(RemoteAddr(0x1000), &mut [0; 4096]);
        assert!(page.is_err(), "a page is more than anybody asked for");
        let addresses = Addresses { module_type: RemoteAddr(6), ..Addresses::default() };
        let tids = [(NsTid(1), 101)].into();
        let truth = "{}".into();
        recorder.finish(Facts { version: Version(5), addresses, tids, truth, ..Facts::default() })
    }

    #[test]
    fn what_was_read_can_be_read_again_and_nothing_else() {
        let recording = recorded();
        assert_eq!(recording.len(), 28 + 1);
        let can = |addr, len| recording.read_exact(RemoteAddr(addr), &mut vec![0; len]).is_ok();
        assert!(can(0x1010, 28) && can(0x102b, 1) && can(0x1800, 1));
        assert!(!can(0x100f, 2) && !can(0x1010, 29) && !can(0x1801, 1) && !can(u64::MAX, 8));
    }

    #[test]
    fn a_path_is_blotted_out_wherever_it_stands() {
        let mut image = Image::default();
        image.put(0x1000, b"x/home/me/a.py /home/me/b.py");
        let recorder = Recorder::new(image);
        recorder.read_exact(RemoteAddr(0x1000), &mut [0; 28]).unwrap();
        let truth = r#"{"file":"/home/me/a.py"}"#.to_owned();
        let mut recording = recorder.finish(Facts { truth, ..Facts::default() });
        recording.blot("/home/me", "/app");
        recording.blot("", "/app");
        let mut bytes = [0; 28];
        recording.read_exact(RemoteAddr(0x1000), &mut bytes).unwrap();
        assert_eq!(&bytes, b"x/app----/a.py /app----/b.py");
        assert_eq!(recording.facts.truth, r#"{"file":"/app----/a.py"}"#);
    }

    #[test]
    fn a_file_holds_all_of_it_and_a_cut_or_foreign_one_is_refused() {
        let recording = recorded();
        let mut file = Vec::new();
        recording.write(&mut file).unwrap();
        assert_eq!(Recording::read(&mut &file[..]).unwrap(), recording);
        for length in 0..file.len() {
            assert!(Recording::read(&mut &file[..length]).is_err(), "cut at {length}");
        }
        file[0] = b'x';
        assert!(Recording::read(&mut &file[..]).is_err());
    }
}
