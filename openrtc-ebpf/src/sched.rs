//! Programs at the scheduler's switches and wakeups: they alone move the threads' clocks.
//!
//! They run on every switch of the machine, so what they do for a stranger is one load and one
//! comparison.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use openrtc_common::account::Leave;

use crate::{maps::config, task::Task, thread};

/// `TASK_RUNNING`: <https://github.com/torvalds/linux/blob/v5.15/include/linux/sched.h#L84>.
const TASK_RUNNING: u32 = 0;
/// `TASK_DEAD`: <https://github.com/torvalds/linux/blob/v5.15/include/linux/sched.h#L94>.
const TASK_DEAD: u32 = 0x80;

/// `sched_switch(preempt, prev, next)`: one thread leaves this CPU, another gets it.
#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    let next = Task(ctx.arg(2));
    // The thread that leaves is still the current one: that spares a read.
    let current = bpf_get_current_pid_tgid();
    if (current >> 32) as u32 == config().tgid {
        leave(current as u32, ctx.arg::<u64>(0) as u8 != 0, Task(ctx.arg(1)));
    }
    if next.is_workers() {
        enter(next);
    }
    0
}

// In both directions the time is taken before the look-up: after a sleep the caches are cold, and
// what the look-up takes then would be missing from the thread's time.

#[inline(always)]
fn enter(task: Task) {
    // SAFETY: the helper has no precondition.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    if let Some(thread) = thread::find_or_start(task.tid(), task) {
        // SAFETY: a map value; clocks are moved under the run queue's lock, one event at a time
        // for one thread.
        unsafe { (*thread).clock.switch_in(now_ns) };
    }
}

#[inline(always)]
fn leave(tid: u32, preempted: bool, task: Task) {
    // SAFETY: the helper has no precondition.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    let Some(thread) = thread::find_or_start(tid, task) else { return };
    let leave = match task.state() {
        _ if preempted => Leave::Runnable,
        TASK_RUNNING => Leave::Runnable,
        dead if dead & TASK_DEAD != 0 => Leave::Exited,
        _ => Leave::Asleep,
    };
    // SAFETY: as in `enter`.
    unsafe { (*thread).clock.switch_out(now_ns, leave, task.charged_ns()) };
}

/// `sched_wakeup(task)`: a thread becomes runnable.
#[btf_tracepoint(function = "sched_wakeup")]
pub fn sched_wakeup(ctx: BtfTracePointContext) -> i32 {
    let task = Task(ctx.arg(0));
    if task.is_workers()
        && let Some(thread) = thread::find(task.tid())
    {
        // SAFETY: the helper has no precondition; the clock as in `enter`.
        unsafe { (*thread).clock.wake(bpf_ktime_get_ns()) };
    }
    0
}

/// `sched_wakeup_new(task)`: a thread begins.
#[btf_tracepoint(function = "sched_wakeup_new")]
pub fn sched_wakeup_new(ctx: BtfTracePointContext) -> i32 {
    let task = Task(ctx.arg(0));
    if task.is_workers() {
        thread::restart(task);
    }
    0
}
