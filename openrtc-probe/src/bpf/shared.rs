//! An array map mapped into the daemon: reading the counters costs no system call.

use std::{
    num::NonZeroUsize,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, Result};
use bytemuck::Pod;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

const PAGE_BYTES: usize = 4096;

/// A mapped `BPF_F_MMAPABLE` array of `T`.
///
/// The kernel's programs write it at any time, so values are copied out by volatile loads and may
/// be torn; whoever needs a consistent copy compares the value's own change counter.
pub struct Shared<T> {
    start: NonNull<T>,
    len: u32,
    bytes: NonZeroUsize,
}

// SAFETY: the mapping belongs to this value alone and is only accessed by volatile copies.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above; what several threads write at once they write by atomic additions.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T: Pod> Shared<T> {
    /// Maps the array behind `fd`, which holds `len` elements.
    pub fn map(fd: impl AsFd, len: u32) -> Result<Shared<T>> {
        // The kernel rounds an element up to eight bytes; our structs are such multiples.
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        let bytes = (size_of::<T>() * len as usize).next_multiple_of(PAGE_BYTES);
        let bytes = NonZeroUsize::new(bytes).context("an empty map cannot be mapped")?;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new shared mapping at an address of the kernel's choice.
        let start = unsafe { mmap(None, bytes, prot, MapFlags::MAP_SHARED, fd, 0) }
            .context("cannot map a BPF array into the daemon")?;
        Ok(Shared { start: start.cast(), len, bytes })
    }

    /// How many elements there are.
    pub fn len(&self) -> u32 {
        self.len
    }

    fn at(&self, index: u32) -> Option<NonNull<T>> {
        // SAFETY: the index is inside the mapping.
        (index < self.len).then(|| unsafe { self.start.add(index as usize) })
    }

    /// A copy of the element, possibly torn; `None` beyond the end.
    pub fn read(&self, index: u32) -> Option<T> {
        // SAFETY: inside the mapping, aligned, and any bit pattern is a `T`.
        self.at(index).map(|at| unsafe { at.as_ptr().read_volatile() })
    }

    /// A copy of one field of the element, which stands at `offset` (`offset_of!`).
    pub fn read_field<F: Pod>(&self, index: u32, offset: usize) -> Option<F> {
        // SAFETY: inside the element and aligned, by `field`.
        self.field::<F>(index, offset).map(|at| unsafe { at.read_volatile() })
    }

    /// Writes the element, which must be one that no program uses now.
    pub fn write(&self, index: u32, value: T) {
        if let Some(at) = self.at(index) {
            // SAFETY: as in `read`.
            unsafe { at.as_ptr().write_volatile(value) }
        }
    }

    /// Writes one field of the element, which must be one that only the daemon writes.
    pub fn write_field<F: Pod>(&self, index: u32, offset: usize, value: F) {
        if let Some(at) = self.field::<F>(index, offset) {
            // SAFETY: as in `read_field`.
            unsafe { at.write_volatile(value) }
        }
    }

    /// Takes a word of the element that the programs write too, and leaves 0.
    pub fn take(&self, index: u32, offset: usize) -> u64 {
        let at = self.field::<u64>(index, offset);
        // SAFETY: inside the element and aligned, by `field`; here this alone accesses it.
        at.map_or(0, |at| unsafe { AtomicU64::from_ptr(at) }.swap(0, Ordering::Relaxed))
    }

    /// Adds to a word of the element that the programs add to as well.
    pub fn add(&self, index: u32, offset: usize, amount: u64) {
        if let Some(at) = self.field::<u64>(index, offset) {
            // SAFETY: inside the element and aligned, by `field`; all add to it atomically.
            unsafe { AtomicU64::from_ptr(at) }.fetch_add(amount, Ordering::Relaxed);
        }
    }

    fn field<F: Pod>(&self, index: u32, offset: usize) -> Option<*mut F> {
        let fits = offset + size_of::<F>() <= size_of::<T>();
        let aligned = offset.is_multiple_of(align_of::<F>());
        let at = self.at(index).filter(|_| fits && aligned)?;
        // SAFETY: the offset is inside the element.
        Some(unsafe { at.as_ptr().byte_add(offset) }.cast())
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, unmapped once. It can only fail on a wrong address.
        let _ = unsafe { munmap(self.start.cast(), self.bytes.get()) };
    }
}
