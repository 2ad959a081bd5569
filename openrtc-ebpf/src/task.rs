//! The kernel's `task_struct`, by the offsets that the daemon found in the kernel's own type
//! information.

use aya_ebpf::{
    bindings::pt_regs,
    helpers::{bpf_get_current_task, bpf_probe_read_kernel, generated::bpf_task_pt_regs},
};
use openrtc_common::wait::{Key, Registers, kind};

use crate::maps::config;

/// Bytes of a thread's stack in the kernel (`THREAD_SIZE` on x86-64): what a thread has in registers when
/// it enters the kernel stands at its top,
/// <https://github.com/torvalds/linux/blob/v5.10/arch/x86/include/asm/page_64_types.h>.
const STACK_BYTES: u64 = 16_384;
/// `orig_ax` of a thread that came into the kernel by no system call,
/// <https://github.com/torvalds/linux/blob/v5.10/arch/x86/entry/entry_64.S>.
const NO_SYSCALL: u64 = u64::MAX;

/// What stands in `struct pt_regs` from `di` on.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Entry {
    di: u64,
    orig_ax: u64,
    ip: u64,
    _cs: u64,
    _flags: u64,
    sp: u64,
}

/// A `task_struct` that the kernel hands out.
#[derive(Clone, Copy)]
pub struct Task(pub u64);

impl Task {
    /// The thread that this program runs on.
    #[inline(always)]
    pub fn current() -> Task {
        // SAFETY: the helper has no precondition.
        Task(unsafe { bpf_get_current_task() })
    }

    /// Whether it is one of the worker's threads; of a tracepoint's own argument only. It is asked of
    /// every stranger.
    #[inline(always)]
    pub fn is_workers(self) -> bool {
        self.tgid() == config().tgid
    }

    /// Its process id, in the initial pid namespace; of a tracepoint's own argument only: the verifier
    /// knows what that points at, and the offset as a constant, so that this is one load and no call of a
    /// helper.
    #[inline(always)]
    pub fn tgid(self) -> u32 {
        let at = self.0 + u64::from(config().kernel.task_tgid);
        // SAFETY: the verifier has seen that it is a field of the kernel's own struct.
        unsafe { (at as *const u32).read_volatile() }
    }

    /// Its thread id, in the initial pid namespace.
    #[inline(always)]
    pub fn tid(self) -> u32 {
        self.field(config().kernel.task_tid)
    }

    /// What it is about to wait for, if anything: the kernel's `TASK_*` bits.
    #[inline(always)]
    pub fn state(self) -> u32 {
        self.field(config().kernel.task_state)
    }

    /// The kernel's account of its CPU time: up to date when it leaves its CPU, behind by up to a
    /// tick while it runs.
    #[inline(always)]
    pub fn charged_ns(self) -> u64 {
        self.field(config().kernel.task_charged)
    }

    /// What it waits for that goes to sleep, and where in user space it is; of a tracepoint's own argument
    /// only.
    #[inline(always)]
    pub fn sleeps_for(self) -> (Key, Registers) {
        let (entry, bp) = self.entry();
        let key = if entry.orig_ax == NO_SYSCALL {
            Key { kind: kind::FAULT, ..Key::default() }
        } else {
            Key { kind: kind::SYSCALL, number: entry.orig_ax as u32, detail: entry.di }
        };
        (key, Registers { ip: entry.ip, sp: entry.sp, bp })
    }

    /// Where in user space it is, of one that is preempted; of a tracepoint's own argument only.
    #[inline(always)]
    pub fn registers(self) -> Registers {
        let (entry, bp) = self.entry();
        Registers { ip: entry.ip, sp: entry.sp, bp }
    }

    /// Whether it does not run because its group has used up its quota.
    #[inline(always)]
    pub fn is_throttled(self) -> bool {
        let kernel = &config().kernel;
        if kernel.task_throttled != 0 && self.field::<u8>(kernel.task_throttled) != 0 {
            return true;
        }
        if kernel.task_queue == 0 || kernel.queue_throttled == 0 {
            return false;
        }
        Task(self.field(kernel.task_queue)).field::<u32>(kernel.queue_throttled) != 0
    }

    #[inline(always)]
    fn entry(self) -> (Entry, u64) {
        let regs = if config().kernel.has_task_pt_regs != 0 {
            // SAFETY: the verifier has seen that it is a task of the kernel's own.
            unsafe { bpf_task_pt_regs(self.0 as *mut _) as u64 }
        } else {
            self.field::<u64>(config().kernel.task_stack) + STACK_BYTES
                - size_of::<pt_regs>() as u64
        };
        let at = |offset: usize| regs + offset as u64;
        // SAFETY: the helper checks the addresses.
        unsafe {
            (
                bpf_probe_read_kernel(at(core::mem::offset_of!(pt_regs, rdi)) as *const Entry)
                    .unwrap_or_default(),
                bpf_probe_read_kernel(at(core::mem::offset_of!(pt_regs, rbp)) as *const u64)
                    .unwrap_or_default(),
            )
        }
    }

    #[inline(always)]
    fn field<T: Default>(self, offset: u32) -> T {
        // SAFETY: the helper checks the address; the offset is the kernel's own.
        unsafe { bpf_probe_read_kernel((self.0 + u64::from(offset)) as *const T) }
            .unwrap_or_default()
    }
}
