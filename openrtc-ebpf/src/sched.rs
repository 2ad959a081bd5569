//! Programs at the scheduler's switches and wakeups: they alone move the threads' clocks.
//!
//! They run on every switch of the machine, so what they do for a stranger is one load and one
//! comparison.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use openrtc_common::{
    account::{Clock, Leave, state},
    loss::Loss,
    thread::{Thread, role},
    wait::{Key, kind},
};

use crate::{loss, seen, task::Task, thread};

/// `TASK_RUNNING`: <https://github.com/torvalds/linux/blob/v5.15/include/linux/sched.h#L84>.
const TASK_RUNNING: u32 = 0;
/// `__TASK_STOPPED`, `__TASK_TRACED` and `TASK_FROZEN` (from 6.1):
/// <https://github.com/torvalds/linux/blob/v6.1/include/linux/sched.h#L85>.
const TASK_STOPPED: u32 = 0x4 | 0x8 | 0x8000;
/// `TASK_DEAD`: <https://github.com/torvalds/linux/blob/v5.15/include/linux/sched.h#L94>.
const TASK_DEAD: u32 = 0x80;

/// `sched_switch(preempt, prev, next)`: one thread leaves this CPU, another gets it.
#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    let (prev, next) = (Task(ctx.arg(1)), Task(ctx.arg(2)));
    if prev.is_workers() {
        // It is still the current one: that spares a read.
        leave(bpf_get_current_pid_tgid() as u32, ctx.arg::<u64>(0) as u8 != 0, prev);
    }
    if next.is_workers() {
        enter(next, prev.tgid());
    }
    0
}

// In both directions the time is taken before the look-up: after a sleep the caches are cold, and
// what the look-up takes then would be missing from the thread's time.

#[inline(always)]
fn enter(task: Task, before: u32) {
    // SAFETY: the helper has no precondition.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    if let Some(thread) = thread::find_or_start(task.tid(), task) {
        // SAFETY: a map value; clocks and waits are moved under the run queue's lock, one event at a
        // time for one thread.
        unsafe {
            let clock = &mut (*thread).clock;
            if clock.state == state::ON_CPU && clock.found_away(now_ns, task.charged_ns()) {
                loss::count(Loss::SwitchUnheard);
                note_unheard(thread, task);
            }
            let waited_ns = open_ns(&(*thread).clock, now_ns);
            (*thread).clock.switch_in(now_ns);
            // After the clock: a reader in between misses some of it, and takes nothing twice.
            (*thread).waits.end(waited_ns, before);
            if seen::is_wanted(thread) {
                seen::come_back(&(*thread).seen, &(*thread).clock);
            }
        }
        seen::wake_sampler();
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
    unsafe {
        let charged_ns = task.charged_ns();
        thread::mend(thread, || (now_ns, charged_ns));
        let is_loop = (*thread).role == role::LOOP;
        // Before the clock: who reads a thread that does not run finds out what it was doing.
        let poll_at_ns = if is_loop { poll_of(thread, now_ns) } else { None };
        (*thread).clock.switch_out(now_ns, leave, charged_ns);
        if is_loop {
            note_wait(thread, poll_at_ns, now_ns, leave, task);
        }
    }
}

/// When the poll began that a loop's thread is in: its name. `None` outside any.
///
/// # Safety
/// `thread` is a map value, the account of the thread that this program runs on.
#[inline(always)]
unsafe fn poll_of(thread: *mut Thread, now_ns: u64) -> Option<u64> {
    // SAFETY: by the contract; the polls are the thread's own, which is here.
    unsafe {
        if seen::is_wanted(thread) {
            return seen::leave(thread, now_ns);
        }
        let polls = &(*thread).polls;
        (!polls.is_idle()).then_some(polls.poll.at_ns)
    }
}

/// Notes why a loop's thread leaves its CPU in the poll that began then.
///
/// # Safety
/// `thread` is a map value, the account of `task`, which runs this program.
#[inline(always)]
unsafe fn note_wait(
    thread: *mut Thread,
    poll_at_ns: Option<u64>,
    now_ns: u64,
    leave: Leave,
    task: Task,
) {
    // SAFETY: by the contract.
    unsafe {
        let waits = &mut (*thread).waits;
        let Some(poll_at_ns) = poll_at_ns else {
            waits.begin_outside();
            if leave == Leave::Asleep {
                waits.idle_at_ns = now_ns;
            }
            return;
        };
        let (key, registers) = match leave {
            Leave::Asleep if task.state() & TASK_STOPPED == 0 => task.sleeps_for(),
            Leave::Asleep => (of_kind(kind::STOPPED), task.registers()),
            _ => (of_kind(queue_kind(task)), task.registers()),
        };
        waits.begin(poll_at_ns, key, registers);
    }
}

/// Notes why a loop's thread had left its CPU unheard, where it comes back to a system call.
///
/// # Safety
/// `thread` is a map value, the account of `task`, which is about to run.
#[inline(always)]
unsafe fn note_unheard(thread: *mut Thread, task: Task) {
    // SAFETY: by the contract; the thread does not run, so that nobody else uses its account.
    unsafe {
        if (*thread).role != role::LOOP || (*thread).polls.is_idle() {
            return;
        }
        let (key, registers) = task.sleeps_for();
        if key.kind == kind::SYSCALL {
            (*thread).waits.begin((*thread).polls.poll.at_ns, key, registers);
        }
    }
}

#[inline(always)]
fn of_kind(kind: u32) -> Key {
    Key { kind, ..Key::default() }
}

/// What a runnable thread without a CPU waits for.
#[inline(always)]
fn queue_kind(task: Task) -> u32 {
    if task.is_throttled() { kind::THROTTLED } else { kind::RUN_QUEUE }
}

/// What has been open since the last event: nothing, as long as none was heard.
#[inline(always)]
fn open_ns(clock: &Clock, now_ns: u64) -> u64 {
    if state::is_unheard(clock.state) { 0 } else { now_ns.saturating_sub(clock.since_at_ns) }
}

/// `sched_wakeup(task)`: a thread becomes runnable.
#[btf_tracepoint(function = "sched_wakeup")]
pub fn sched_wakeup(ctx: BtfTracePointContext) -> i32 {
    let task = Task(ctx.arg(0));
    if task.is_workers()
        && let Some(thread) = thread::find(task.tid())
    {
        // SAFETY: the helper has no precondition; clock and waits as in `enter`.
        unsafe {
            let now_ns = bpf_ktime_get_ns();
            let is_asleep = (*thread).clock.state == state::OFF_CPU;
            let slept_ns = open_ns(&(*thread).clock, now_ns);
            (*thread).clock.wake(now_ns);
            if is_asleep {
                (*thread).waits.wake(slept_ns, queue_kind(task));
            }
        }
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
