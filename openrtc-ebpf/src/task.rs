//! The kernel's `task_struct`, by the offsets that the daemon found in the kernel's own type
//! information.

use aya_ebpf::helpers::{bpf_get_current_task, bpf_probe_read_kernel};

use crate::maps::config;

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

    /// Whether it is one of the worker's threads, of a task that is a tracepoint's own argument: the
    /// verifier knows what it points at, and the offset as a constant, so that this is one load and no
    /// call of a helper. It is done for every stranger.
    #[inline(always)]
    pub fn is_workers(self) -> bool {
        let at = self.0 + u64::from(config().kernel.task_tgid);
        // SAFETY: the verifier has seen that it is a field of the kernel's own struct.
        unsafe { (at as *const u32).read_volatile() == config().tgid }
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

    #[inline(always)]
    fn field<T: Default>(self, offset: u32) -> T {
        // SAFETY: the helper checks the address; the offset is the kernel's own.
        unsafe { bpf_probe_read_kernel((self.0 + u64::from(offset)) as *const T) }
            .unwrap_or_default()
    }
}
