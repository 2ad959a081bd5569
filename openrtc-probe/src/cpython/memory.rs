//! Reading the worker's memory: live by `process_vm_readv`, or from a recorded image.
//!
//! Invariants: nothing is ever written to the worker and it is never stopped; so everything read
//! may be torn, stale or hostile, and no read is longer than its caller's named limit.

mod pages;

use std::{fmt, io::IoSliceMut};

use bytemuck::{AnyBitPattern, Pod, Zeroable};
use nix::{
    errno::Errno,
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};
use openrtc_common::tag::TAG_BYTES;

pub use pages::{Order, PageCache};

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

    /// Fills each of `parts` from its address, one after the other and as close together as can be; how
    /// many of them, up to the first that fails.
    fn read_all(&self, parts: &mut [(RemoteAddr, &mut [u8])]) -> usize {
        let read = |(addr, buf): &mut (RemoteAddr, &mut [u8])| self.read_fresh(*addr, buf).is_ok();
        parts.iter_mut().map(read).take_while(|is_read| *is_read).count()
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

    fn read_all(&self, parts: &mut [(RemoteAddr, &mut [u8])]) -> usize {
        (**self).read_all(parts)
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

    /// In few system calls.
    fn read_all(&self, parts: &mut [(RemoteAddr, &mut [u8])]) -> usize {
        let mut whole = 0;
        for together in parts.chunks_mut(MAX_TOGETHER) {
            let read = self.read_together(together);
            whole += read;
            if read < together.len() {
                break;
            }
        }
        whole
    }
}

/// Parts that one system call reads: half of what it takes.
const MAX_TOGETHER: usize = 512;

impl LiveMemory {
    /// As [`ReadMemory::read_all`], in one system call.
    fn read_together(self, parts: &mut [(RemoteAddr, &mut [u8])]) -> usize {
        let far: Vec<_> = parts
            .iter()
            .map(|(addr, buf)| RemoteIoVec { base: addr.0 as usize, len: buf.len() })
            .collect();
        let mut near: Vec<_> = parts.iter_mut().map(|(_, buf)| IoSliceMut::new(buf)).collect();
        // It ends at the first part that is not there as a whole.
        let mut read = process_vm_readv(self.pid, &mut near, &far).unwrap_or(0);
        let is_whole = |part: &&RemoteIoVec| {
            let rest = read.checked_sub(part.len);
            read = rest.unwrap_or(0);
            rest.is_some()
        };
        far.iter().take_while(is_whole).count()
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
    use super::*;

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
    fn many_parts_are_read_up_to_the_first_that_is_not_there() {
        let words = [7_u64, 8];
        let memory = LiveMemory::new(std::process::id() as i32);
        let at = RemoteAddr(words.as_ptr() as u64);
        let (mut one, mut two, mut three) = ([0; 8], [0; 8], [0; 8]);
        let parts: &mut [(RemoteAddr, &mut [u8])] =
            &mut [(at.plus(8), &mut one), (RemoteAddr(0), &mut two), (at, &mut three)];
        assert_eq!(memory.read_all(parts), 1);
        parts.swap(1, 2);
        assert_eq!(memory.read_all(parts), 2);
        assert_eq!(memory.read_all(&mut []), 0);
        assert_eq!((u64::from_le_bytes(one), u64::from_le_bytes(three)), (8, 7));
    }
}
