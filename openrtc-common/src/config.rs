//! What the daemon tells the kernel programs: constants patched in before load, and settings that
//! may change while they run.

use bytemuck::{Pod, Zeroable};

use crate::hamt::NodeTypes;

/// What the walk from a context to its tag needs to know of this interpreter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PyLayout {
    /// Types of the HAMT's nodes.
    pub nodes: NodeTypes,
    /// Address of `PyUnicode_Type`.
    pub str_type: u64,
    /// Address of `PyLong_Type`.
    pub int_type: u64,
    /// Address of `None`.
    pub none: u64,
    /// Offset of `PyContext.ctx_vars`; `ctx_entered` stands 16 bytes behind it (checked on attach).
    pub context_vars: u32,
    /// Offset of `PyHamtObject.h_root`.
    pub hamt_root: u32,
    /// Offset of the text in a compact ASCII `str`.
    pub str_ascii_data: u32,
    /// Offset of the text in any other compact `str`.
    pub str_wide_data: u32,
    /// Offset of `PyContextToken.tok_oldval`.
    pub token_old_value: u32,
    /// Not 0 where a thread runs within a `Context.run` of its own: from 3.14.
    pub threads_in_context: u32,
    /// Offset of `TaskObj.task_name`.
    pub task_name: u32,
    /// Keeps the size a multiple of eight.
    pub reserved: u32,
}

/// Offsets of fields of the running kernel, from its own type information.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct KernelLayout {
    /// `task_struct.pid`: the thread's id.
    pub task_tid: u32,
    /// `task_struct.tgid`: the process's id.
    pub task_tgid: u32,
    /// `task_struct.__state` (`state` before 5.14).
    pub task_state: u32,
    /// `task_struct.se.sum_exec_runtime`: the kernel's account of the thread's CPU time.
    pub task_charged: u32,
    /// `task_struct.stack`: the bottom of the thread's stack in the kernel.
    pub task_stack: u32,
    /// Not 0 where the helper `bpf_task_pt_regs` is there: from 5.15.
    pub has_task_pt_regs: u32,
    /// `task_struct.throttled`, 0 where it is not there: from 6.18, with bandwidth control.
    pub task_throttled: u32,
    /// `task_struct.se.cfs_rq`, 0 where there is no group scheduling.
    pub task_queue: u32,
    /// `cfs_rq.throttle_count`, 0 where there is no bandwidth control.
    pub queue_throttled: u32,
    /// Keeps the size a multiple of eight.
    pub reserved: u32,
}

/// Where a value of the interpreter stands when a site is hit: a field of `struct pt_regs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SiteRegisters {
    /// Byte offset in `pt_regs` of the context at the entry of `Context.run`.
    pub run_enter: u32,
    /// The same at its exit.
    pub run_exit: u32,
    /// The context at `PyContext_Enter`.
    pub context_enter: u32,
    /// The context at `PyContext_Exit`.
    pub context_exit: u32,
    /// The variable at `PyContextVar_Set`.
    pub set_var: u32,
    /// The value at `PyContextVar_Set`.
    pub set_value: u32,
    /// The variable at `PyContextVar_Reset`.
    pub reset_var: u32,
    /// The token at `PyContextVar_Reset`.
    pub reset_token: u32,
    /// The task at the beginning of its step.
    pub step_task: u32,
    /// Keeps the size a multiple of eight.
    pub reserved: u32,
}

/// Constants patched into the programs before they are loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Config {
    /// The worker's process id, in the initial pid namespace.
    pub tgid: u32,
    /// Not 0 where the tag is the name of the task that runs, and no variable's value.
    pub by_task: u32,
    /// The interpreter's layout.
    pub python: PyLayout,
    /// The kernel's layout.
    pub kernel: KernelLayout,
    /// Where each site's values stand.
    pub registers: SiteRegisters,
}

/// Settings in a map: the daemon may write them while the programs run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Settings {
    /// Address of the tag's `ContextVar` in the worker, 0 while it is not found.
    pub tag_var: u64,
    /// Its folded hash ([`crate::hamt::fold_hash`]).
    pub tag_var_hash: u64,
    /// Wall time from which a poll on a loop thread is a stall.
    pub stall_threshold_ns: u64,
    /// What one trap takes on this machine. A poll begins so much before its program can take the
    /// time: half of what its two traps take, which no program sees, lies inside it.
    pub trap_ns: u64,
    /// Not 0 where setting and resetting a variable is known to pass our sites, so that what a map
    /// holds may be remembered ([`crate::memo`]).
    pub remembers: u64,
    /// Goes up when the daemon frees a slot or finds the variable: nothing remembered holds any more.
    pub forgotten: u64,
    /// Not 0 while the programs at the sites account; while it is 0 they return at once.
    pub accounts: u64,
}
