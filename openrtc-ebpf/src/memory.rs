//! Reading the worker's memory, and the registers it was stopped with.

use aya_ebpf::{
    EbpfContext as _,
    bindings::pt_regs,
    helpers::{bpf_probe_read_user, generated::bpf_probe_read_user as read_user_raw},
    programs::ProbeContext,
};
use bytemuck::AnyBitPattern;
use openrtc_common::{memory::Memory, tag::TAG_BYTES};

/// The memory of the process that hit the probe.
pub struct WorkerMemory;

impl Memory for WorkerMemory {
    #[inline(always)]
    fn read<T: AnyBitPattern>(&self, addr: u64) -> Option<T> {
        // SAFETY: the helper checks the address and fails on a page that is not present.
        unsafe { bpf_probe_read_user(addr as *const T) }.ok()
    }

    #[inline(always)]
    fn read_into<T: AnyBitPattern>(&self, addr: u64, out: &mut T) -> bool {
        let len = size_of::<T>() as u32;
        // SAFETY: `out` is that long.
        unsafe { read_user_raw((&raw mut *out).cast(), len, addr as *const _) == 0 }
    }

    #[inline(always)]
    fn read_text(&self, addr: u64, len: usize, out: &mut [u8; TAG_BYTES]) -> Option<()> {
        let mut len = len as u64;
        // The compiler knows this bound already and drops the check; the verifier needs to see it.
        // SAFETY: no memory is touched; the value is what it was.
        unsafe {
            core::arch::asm!(
                "if {len} <= {max} goto +1",
                "{len} = {max}",
                len = inout(reg) len,
                max = const TAG_BYTES,
            );
        }
        // SAFETY: `len` is at most the size of `out`.
        let failed =
            unsafe { read_user_raw(out.as_mut_ptr().cast(), len as u32, addr as *const _) };
        (failed == 0).then_some(())
    }
}

/// The register that stands `offset` bytes into `struct pt_regs`.
///
/// `offset` is a constant to the verifier, so of the branches below only one is left. Each loads
/// at an offset fixed in the code, because the verifier refuses a computed one; volatile keeps the
/// compiler from merging them into one.
#[inline(always)]
pub fn register(ctx: &ProbeContext, offset: u32) -> u64 {
    let regs = ctx.as_ptr().cast::<pt_regs>();
    macro_rules! select {
        ($($field:ident),*) => {
            $(if offset == core::mem::offset_of!(pt_regs, $field) as u32 {
                // SAFETY: the context of a uprobe's program is the worker's `pt_regs`.
                return unsafe { (&raw const (*regs).$field).read_volatile() };
            })*
        };
    }
    select!(rdi, rsi, rbx, rbp, r12, r13, r14, r15, rdx, rcx, rax, r8, r9, r10, r11);
    0
}

/// An element of an array in a map value, whose length is a power of two.
///
/// In one piece of assembly: between a mask and the addition the compiler may put the index on the stack,
/// where the verifier forgets its bounds, or leave the mask out, because it knows them.
#[inline(always)]
pub fn element<T, const LEN: usize>(array: *mut [T; LEN], index: u32) -> *mut T {
    const { assert!(LEN.is_power_of_two() && size_of::<T>().is_power_of_two()) };
    let mut at = array.cast::<T>();
    // SAFETY: what comes out is inside of the array.
    unsafe {
        core::arch::asm!(
            "{index} &= {mask}",
            "{index} <<= {shift}",
            "{at} += {index}",
            at = inout(reg) at,
            index = inout(reg) u64::from(index) => _,
            mask = const LEN - 1,
            shift = const size_of::<T>().trailing_zeros(),
        );
    }
    at
}
