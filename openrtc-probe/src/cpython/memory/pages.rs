//! Whole pages of another memory, kept: few readings instead of many, and each page of one moment.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
};

use super::{ReadError, ReadMemory, RemoteAddr};

/// Bytes of a page on x86-64: the unit in which memory is mapped or not.
const PAGE_BYTES: usize = 4096;
/// Pages that one walk keeps (64 MiB); beyond that it starts over with an empty cache.
const MAX_PAGES: usize = 16_384;
/// Longer reads go past the cache: they are bulk data that is read once.
const MAX_CACHED_READ: usize = 4 * PAGE_BYTES;

/// Pages that are read anew together; a cache of more starts over. All fit one system call.
const MAX_REFRESHED: usize = 256;

/// In which order pages are read anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they were asked for at first.
    FirstFirst,
    /// The other way round.
    LastFirst,
}

/// Whole pages of another memory, kept for the length of one walk: thousands of small reads become
/// few system calls, and all reads from one page see the same moment.
pub struct PageCache<'m, M> {
    memory: &'m M,
    pages: RefCell<Pages>,
}

/// The pages by their addresses.
#[derive(Default)]
struct Pages {
    places: HashMap<u64, usize, Spread>,
    /// Each with its address; `None` where it cannot be read as a whole.
    pages: Vec<(u64, Option<Box<Page>>)>,
    /// The one that was read last, and its place: the fields of an object mostly stand in one page.
    last: Option<(u64, usize)>,
}

type Page = [u8; PAGE_BYTES];

impl<'m, M: ReadMemory> PageCache<'m, M> {
    /// An empty cache over `memory`.
    pub fn new(memory: &'m M) -> Self {
        Self { memory, pages: RefCell::default() }
    }

    /// Reads all pages anew that it holds, as close together as can be and in this order; those that it
    /// does not hold are read when they are asked for, as ever.
    pub fn refresh(&self, order: Order) {
        let mut pages = self.pages.borrow_mut();
        let count = pages.pages.len();
        let held = pages.pages.iter_mut();
        let mut parts: Vec<_> = held
            .filter_map(|(at, page)| Some((RemoteAddr(*at), &mut page.as_mut()?[..])))
            .collect();
        if order == Order::LastFirst {
            parts.reverse();
        }
        if count > MAX_REFRESHED || self.memory.read_all(&mut parts) < parts.len() {
            *pages = Pages::default();
        }
    }

    /// Copies from one page; says whether the page could be read as a whole.
    fn copy(&self, page: u64, from: usize, out: &mut [u8]) -> bool {
        let mut pages = self.pages.borrow_mut();
        let place = match pages.last {
            Some((last, place)) if last == page => place,
            _ => self.place(&mut pages, page),
        };
        pages.last = Some((page, place));
        let Some((_, Some(bytes))) = pages.pages.get(place) else { return false };
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
            pages.push((page, is_whole.then_some(bytes)));
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::cpython::memory::{LiveMemory, image::Image};

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

    #[test]
    fn pages_are_read_anew_when_that_is_asked_for() {
        let words = Image::default();
        let cache = PageCache::new(&words);
        cache.refresh(Order::FirstFirst);
        let live = LiveMemory::new(std::process::id() as i32);
        let page = vec![Cell::new(1_u8); 2 * PAGE_BYTES];
        let at = RemoteAddr(page.as_ptr() as u64).plus(PAGE_BYTES as u64);
        let cache = PageCache::new(&live);
        assert_eq!(cache.read::<u8>(at), Ok(1));
        page[PAGE_BYTES].set(2);
        assert_eq!(cache.read::<u8>(at), Ok(1), "of the same moment");
        for (order, value) in [(Order::FirstFirst, 3), (Order::LastFirst, 4)] {
            page[PAGE_BYTES].set(value);
            cache.refresh(order);
            assert_eq!(cache.read::<u8>(at), Ok(value));
        }
    }

    #[test]
    fn pages_that_are_gone_are_forgotten() {
        let mut image = Image::default();
        image.put(0x1000, &[1; PAGE_BYTES]);
        let memory = RefCell::new(image);
        let cache = PageCache::new(&memory);
        assert_eq!(cache.read::<u8>(RemoteAddr(0x1000)), Ok(1));
        memory.replace(Image::default());
        cache.refresh(Order::FirstFirst);
        assert!(cache.read::<u8>(RemoteAddr(0x1000)).is_err());
    }

    impl ReadMemory for RefCell<Image> {
        fn read_exact(&self, addr: RemoteAddr, buf: &mut [u8]) -> Result<(), ReadError> {
            self.borrow().read_exact(addr, buf)
        }
    }
}
