//! How the shared walks read the worker's memory: the kernel by `bpf_probe_read_user`, the daemon
//! by `process_vm_readv` or from a recorded image.

use bytemuck::AnyBitPattern;

use crate::tag::TAG_BYTES;

/// Read access to the worker's address space. Addresses are untrusted: a read may fail, and what
/// it returns may be torn.
pub trait Memory {
    /// The value at `addr`, or `None` where the page cannot be read now.
    fn read<T: AnyBitPattern>(&self, addr: u64) -> Option<T>;

    /// Reads the value at `addr` into `out`; `false` where the page cannot be read now.
    fn read_into<T: AnyBitPattern>(&self, addr: u64, out: &mut T) -> bool;

    /// Fills the first `len` bytes of `out` from `addr`; `len` is at most [`TAG_BYTES`].
    fn read_text(&self, addr: u64, len: usize, out: &mut [u8; TAG_BYTES]) -> Option<()>;
}
