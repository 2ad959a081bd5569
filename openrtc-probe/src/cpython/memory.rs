//! Reading the worker's memory: live by `process_vm_readv`, or from a recorded image.
//!
//! Invariants: nothing is ever written to the worker and it is never stopped; so everything read
//! may be torn, stale or hostile, and no read is longer than its caller's named limit.

use std::{
    cell::RefCell,
    collections::HashMap,
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    io::IoSliceMut,
};

use bytemuck::{AnyBitPattern, Pod, Zeroable};
use nix::{
    errno::Errno,
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};
use openrtc_common::tag::TAG_BYTES;

/// An address in the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
#[repr(transparent)]
pub struct RemoteAddr(pub u64);

impl RemoteAddr {
    /// The address `offset` bytes on; hostile addresses wrap instead of failing here, and then
    /// cannot be read.
    #[must_use]
    pub fn plus(self, offset: u64) -> Self {
        Self(self.0.wrapping_add(offset))
    }

    /// The address `offset` bytes on, or back where it is negative.
    #[must_use]
    pub fn offset(self, offset: i64) -> Self {
        Self(self.0.wrapping_add_signed(offset))
    }

    /// `None` for the null pointer.
    pub fn non_null(self) -> Option<Self> {
        (self.0 != 0).then_some(self)
    }
}

impl fmt::Display for RemoteAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Why the worker's memory could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No memory is mapped there, or it is not readable.
    #[error("{len} bytes at {addr} of the worker's memory are not mapped")]
    Unmapped {
        /// Where.
        addr: RemoteAddr,
        /// How much was wanted.
        len: usize,
    },
    /// The process is gone.
    #[error("the worker has exited")]
    Gone,
    /// We may not read this process.
    #[error("the worker's memory may not be read")]
    Denied,
}

/// Read access to an address space, in exact lengths.
pub trait ReadMemory {
    /// Fills `buf` from `addr`, or fails as a whole.
    fn read_exact(&self, addr: RemoteAddr, buf: &mut [u8]) -> Result<(), ReadError>;

    /// The same, of this very moment: for what changes under a walk.
    fn read_fresh(&self, addr: RemoteAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.read_exact(addr, buf)
    }

    /// The value at `addr`.
    fn read<T: AnyBitPattern>(&self, addr: RemoteAddr) -> Result<T, ReadError> {
        let len = size_of::<T>();
        let mut short = [0; SHORT_VALUE];
        if let Some(bytes) = short.get_mut(..len) {
            self.read_exact(addr, bytes)?;
            return Ok(bytemuck::pod_read_unaligned(bytes));
        }
        let mut long = vec![0; len];
        self.read_exact(addr, &mut long)?;
        Ok(bytemuck::pod_read_unaligned(&long))
    }

    /// The pointer at `addr`.
    fn read_ptr(&self, addr: RemoteAddr) -> Result<RemoteAddr, ReadError> {
        self.read(addr).map(RemoteAddr)
    }

    /// The C string at `addr`, cut after `limit` bytes; what is no UTF-8 in it is replaced.
    fn read_c_str(&self, addr: RemoteAddr, limit: usize) -> Result<String, ReadError> {
        let mut text = Vec::new();
        for index in 0..limit as u64 {
            match self.read(addr.plus(index))? {
                0 => break,
                byte => text.push(byte),
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

impl<M: ReadMemory> ReadMemory for &M {
    fn read_exact(&self, addr: RemoteAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        (**self).read_exact(addr, buf)
    }

    fn read_fresh(&self, addr: RemoteAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        (**self).read_fresh(addr, buf)
    }
}

/// Values up to this many bytes are read without an allocation.
const SHORT_VALUE: usize = 64;

/// The memory of a live process.
#[derive(Clone, Copy, Debug)]
pub struct LiveMemory {
    pid: Pid,
}

impl LiveMemory {
    /// The memory of the process `pid`. Nothing is opened: each read names the process anew.
    pub fn new(pid: i32) -> Self {
        Self { pid: Pid::from_raw(pid) }
    }
}

impl ReadMemory for LiveMemory {
    fn read_exact(&self, addr: RemoteAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let len = buf.len();
        let unmapped = ReadError::Unmapped { addr, len };
        let base = usize::try_from(addr.0).map_err(|_| unmapped)?;
        let remote = [RemoteIoVec { base, len }];
        match process_vm_readv(self.pid, &mut [IoSliceMut::new(buf)], &remote) {
            Ok(read) if read == len => Ok(()),
            Err(Errno::ESRCH) => Err(ReadError::Gone),
            Err(Errno::EPERM) => Err(ReadError::Denied),
            // Less than asked for means that the rest is not mapped.
            Ok(_) | Err(_) => Err(unmapped),
        }
    }
}

/// Bytes of a page on x86-64: the unit in which memory is mapped or not.
const PAGE_BYTES: usize = 4096;
/// Pages that one walk keeps (64 MiB); beyond that it starts over with an empty cache.
const MAX_PAGES: usize = 16_384;
/// Longer reads go past the cache: they are bulk data that is read once.
const MAX_CACHED_READ: usize = 4 * PAGE_BYTES;

/// Whole pages of another memory, kept for the length of one walk: thousands of small reads become
/// few system calls, and all reads from one page see the same moment.
pub struct PageCache<'m, M> {
    memory: &'m M,
    pages: RefCell<Pages>,
}

/// The pages by their addresses; `None` where one cannot be read as a whole.
#[derive(Default)]
struct Pages {
    places: HashMap<u64, usize, Spread>,
    pages: Vec<Option<Box<Page>>>,
    /// The one that was read last, and its place: the fields of an object mostly stand in one page.
    last: Option<(u64, usize)>,
}

type Page = [u8; PAGE_BYTES];

impl<'m, M: ReadMemory> PageCache<'m, M> {
    /// An empty cache over `memory`.
    pub fn new(memory: &'m M) -> Self {
        Self { memory, pages: RefCell::default() }
    }

    /// Copies from one page; says whether the page could be read as a whole.
    fn copy(&self, page: u64, from: usize, out: &mut [u8]) -> bool {
        let mut pages = self.pages.borrow_mut();
        let place = match pages.last {
            Some((last, place)) if last == page => place,
            _ => self.place(&mut pages, page),
        };
        pages.last = Some((page, place));
        let Some(Some(bytes)) = pages.pages.get(place) else { return false };
        let Some(bytes) = bytes.get(from..from + out.len()) else { return false };
        out.copy_from_slice(bytes);
        true
    }

    /// The place of a page, which is read if it is not there.
    fn place(&self, pages: &mut Pages, page: u64) -> usize {
        if pages.pages.len() >= MAX_PAGES {
            *pages = Pages::default();
        }
        let Pages { places, pages, .. } = pages;
        *places.entry(page).or_insert_with(|| {
            let mut bytes = Box::new([0; PAGE_BYTES]);
            let is_whole = self.memory.read_exact(RemoteAddr(page), &mut bytes[..]).is_ok();
            pages.push(is_whole.then_some(bytes));
            pages.len() - 1
        })
    }
}

/// Hashes one word by multiplying it with a number that nobody knows in advance: several times faster
/// than the library's hash, which is made for more than that.
#[derive(Clone, Copy)]
struct Spread(u64);

impl Default for Spread {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0_u64) | 1)
    }
}

impl BuildHasher for Spread {
    type Hasher = WordHasher;

    fn build_hasher(&self) -> WordHasher {
        WordHasher { factor: self.0, hash: 0 }
    }
}

/// The hash of the words so far.
struct WordHasher {
    factor: u64,
    hash: u64,
}

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let wide = u128::from(self.hash ^ word) * u128::from(self.factor);
        self.hash = wide as u64 ^ (wide >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

impl<M: ReadMemory> ReadMemory for PageCache<'_, M> {
    fn read_fresh(&self, addr: RemoteAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.memory.read_fresh(addr, buf)
    }

    fn read_exact(&self, addr: RemoteAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        if buf.len() > MAX_CACHED_READ {
            return self.memory.read_exact(addr, buf);
        }
        let mut at = addr.0;
        let mut rest = &mut buf[..];
        while !rest.is_empty() {
            let from = (at % PAGE_BYTES as u64) as usize;
            let here = rest.len().min(PAGE_BYTES - from);
            let (now, later) = rest.split_at_mut(here);
            if !self.copy(at - from as u64, from, now) {
                // A recorded image may hold less than pages.
                return self.memory.read_exact(addr, buf);
            }
            at = at.wrapping_add(here as u64);
            rest = later;
        }
        Ok(())
    }
}

/// Lets the walks shared with the kernel side read from any [`ReadMemory`].
pub struct Shared<'m, M>(pub &'m M);

impl<M: ReadMemory> openrtc_common::memory::Memory for Shared<'_, M> {
    fn read<T: AnyBitPattern>(&self, addr: u64) -> Option<T> {
        self.0.read(RemoteAddr(addr)).ok()
    }

    fn read_into<T: AnyBitPattern>(&self, addr: u64, out: &mut T) -> bool {
        self.read(addr).map(|value| *out = value).is_some()
    }

    fn read_text(&self, addr: u64, len: usize, out: &mut [u8; TAG_BYTES]) -> Option<()> {
        self.0.read_exact(RemoteAddr(addr), out.get_mut(..len)?).ok()
    }
}

#[cfg(test)]
pub mod image {
    //! A memory image made by hand.

    use std::{cell::Cell, collections::BTreeMap};

    use super::{ReadError, ReadMemory, RemoteAddr};

    /// Bytes by address, and how often they were read.
    #[derive(Clone, Default)]
    pub struct Image {
        bytes: BTreeMap<u64, u8>,
        /// How often [`ReadMemory::read_exact`] was called.
        pub reads: Cell<usize>,
    }

    impl Image {
        /// Puts bytes at an address.
        pub fn put(&mut self, at: u64, bytes: &[u8]) {
            self.bytes.extend(bytes.iter().enumerate().map(|(i, byte)| (at + i as u64, *byte)));
        }

        /// Puts words at an address.
        pub fn words(&mut self, at: u64, words: &[u64]) {
            for (i, word) in words.iter().enumerate() {
                self.put(at + 8 * i as u64, &word.to_le_bytes());
            }
        }
    }

    impl ReadMemory for Image {
        fn read_exact(&self, addr: RemoteAddr, buf: &mut [u8]) -> Result<(), ReadError> {
            self.reads.set(self.reads.get() + 1);
            let len = buf.len();
            for (i, byte) in buf.iter_mut().enumerate() {
                let at = addr.0.wrapping_add(i as u64);
                *byte = *self.bytes.get(&at).ok_or(ReadError::Unmapped { addr, len })?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{image::Image, *};

    #[test]
    fn own_memory_is_read() {
        let words = [7_u64, 8];
        let memory = LiveMemory::new(std::process::id() as i32);
        let at = RemoteAddr(words.as_ptr() as u64);
        assert_eq!(memory.read(at), Ok(words));
        assert_eq!(memory.read_ptr(at.plus(8)), Ok(RemoteAddr(8)));
        let null = memory.read::<u64>(RemoteAddr(0));
        assert_eq!(null, Err(ReadError::Unmapped { addr: RemoteAddr(0), len: 8 }));
        assert!(memory.read::<u64>(RemoteAddr(u64::MAX - 3)).is_err(), "wraps");
    }

    #[test]
    fn a_page_is_read_once() {
        let mut image = Image::default();
        image.put(0x1000, &[1; 2 * PAGE_BYTES]);
        let cache = PageCache::new(&image);
        for i in 0..100 {
            assert_eq!(cache.read::<u8>(RemoteAddr(0x1000 + i)), Ok(1));
        }
        assert_eq!(image.reads.get(), 1);
        assert_eq!(cache.read::<[u8; 16]>(RemoteAddr(0x1ff8)), Ok([1; 16]), "across pages");
        assert_eq!(image.reads.get(), 2);
    }

    #[test]
    fn a_page_in_part_is_read_exactly() {
        let mut image = Image::default();
        image.put(0x1234, b"tag\0");
        let cache = PageCache::new(&image);
        assert_eq!(cache.read_c_str(RemoteAddr(0x1234), 16), Ok("tag".into()));
        assert_eq!(cache.read_c_str(RemoteAddr(0x1234), 2), Ok("ta".into()));
        assert!(cache.read::<u64>(RemoteAddr(0x1234)).is_err());
    }
}
