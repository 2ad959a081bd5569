//! Finding, and starting, the account of a thread.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::bpf_ktime_get_ns,
};
use aya_log_ebpf::debug;
use openrtc_common::{
    account::{Clock, Reading, state},
    loss::Loss,
    thread::{MAX_THREADS, Thread},
};

use crate::{
    loss,
    maps::{FREE_THREADS, NEAR_THREADS, THREAD_SLOTS, THREADS},
    task::Task,
};

/// How often a reading is tried again when the thread was switched away in the middle of it.
const READ_TRIES: u32 = 4;

/// The thread's account, if it has one.
#[inline(always)]
pub fn find(tid: u32) -> Option<*mut Thread> {
    recall(tid).or_else(|| THREADS.get_ptr_mut(slot(tid)?))
}

/// The account of the thread that this program runs on, if it has one; the next time it is found faster.
///
/// Only the thread itself brings a found slot near: it lives, so no other with its id begins meanwhile.
#[inline(always)]
pub fn find_own(tid: u32) -> Option<*mut Thread> {
    recall(tid).or_else(|| {
        let slot = slot(tid)?;
        bring_near(tid, slot);
        THREADS.get_ptr_mut(slot)
    })
}

/// The thread's account, a new one if it had none; `task` is the thread.
#[inline(always)]
pub fn find_or_start(tid: u32, task: Task) -> Option<*mut Thread> {
    find(tid).or_else(|| start(tid, task, state::UNKNOWN, BPF_NOEXIST))
}

/// The same for the thread that this program runs on.
#[inline(always)]
pub fn find_own_or_start(tid: u32) -> Option<*mut Thread> {
    find_own(tid).or_else(|| start(tid, Task::current(), state::UNKNOWN, BPF_NOEXIST))
}

#[inline(always)]
fn slot(tid: u32) -> Option<u32> {
    // SAFETY: the value is one aligned word, copied at once.
    unsafe { THREAD_SLOTS.get(tid) }.copied()
}

/// The account at the place that is near for this thread, if it is the thread's.
#[inline(always)]
fn recall(tid: u32) -> Option<*mut Thread> {
    let slot = NEAR_THREADS.get(tid % MAX_THREADS)?;
    let thread = THREADS.get_ptr_mut(*slot)?;
    // SAFETY: a map value.
    (unsafe { (*thread).tid } == tid).then_some(thread)
}

#[inline(always)]
fn bring_near(tid: u32, slot: u32) {
    if let Some(near) = NEAR_THREADS.get_ptr_mut(tid % MAX_THREADS) {
        // SAFETY: a map value, one aligned word.
        unsafe { *near = slot };
    }
}

/// Starts an account for a thread that has just been created, also where a dead thread with the
/// same id was not cleared away yet.
#[inline(always)]
pub fn restart(task: Task) {
    start(task.tid(), task, state::RUNNABLE, BPF_ANY);
}

#[inline(always)]
fn start(tid: u32, task: Task, doing: u32, flags: u32) -> Option<*mut Thread> {
    let Ok(Some(slot)) = FREE_THREADS.pop() else {
        loss::count(Loss::ThreadsFull);
        return None;
    };
    let thread = THREADS.get_ptr_mut(slot)?;
    // SAFETY: a valid map value; the daemon cleared it before the slot became free, so the rest
    // is zero.
    unsafe {
        (*thread).clock = Clock::starting(bpf_ktime_get_ns(), doing, task.charged_ns());
        (*thread).tid = tid;
    }
    if THREAD_SLOTS.insert(tid, slot, flags.into()).is_err() {
        // SAFETY: as above; the slot is still ours alone.
        unsafe { (*thread).tid = 0 };
        if FREE_THREADS.push(slot, 0).is_err() {
            loss::count(Loss::ThreadsFull);
        }
        return find(tid);
    }
    // Also over a dead thread of the same id, whose slot still has it.
    bring_near(tid, slot);
    debug!(&(), "slot {} for thread {}", slot, tid);
    Some(thread)
}

/// Whether the scheduler has told that the thread runs, which does: where not, that is made up for.
///
/// The scheduler's program may come in between, where this one is preempted. That is as rare as what is
/// mended here, and what is written over then is one stretch of a few microseconds.
///
/// # Safety
/// `thread` is a map value, the account of the thread that this program runs on.
#[inline(always)]
pub unsafe fn mend(thread: *mut Thread, now_and_charged_ns: impl FnOnce() -> (u64, u64)) {
    // SAFETY: by the contract.
    unsafe {
        if !matches!((*thread).clock.state, state::OFF_CPU | state::RUNNABLE) {
            return;
        }
        let (now_ns, charged_ns) = now_and_charged_ns();
        if let Some(waited_ns) = (*thread).clock.found_running(now_ns, charged_ns) {
            (*thread).waits.end(waited_ns, 0);
            loss::count(Loss::SwitchUnheard);
        }
    }
}

/// A poll begins at `at_ns` on the thread of this clock. As long as the scheduler has told nothing of it,
/// all before stays unknown ([`Clock::met_running`]).
#[inline(always)]
pub fn begin_poll(clock: *mut Clock, at_ns: u64) {
    // SAFETY: callers pass a pointer into a map value. Before the first event there is no other
    // writer to speak of: the scheduler's programs are being attached.
    unsafe {
        if state::is_unheard((*clock).state) {
            (*clock).met_running(at_ns);
        }
    }
}

/// A reading, for the moment `at_ns`, of the clock of the thread that this program runs on. The moment
/// is the program's start, so that what it looks up until now counts to what begins with it.
///
/// The scheduler's program can come in between, when this one is preempted; then it is read anew.
#[inline(always)]
pub fn read_clock(clock: *mut Clock, at_ns: u64) -> Reading {
    // SAFETY: callers pass a pointer into a map value. Before the first event there is no other
    // writer to speak of: the scheduler's programs are being attached.
    unsafe {
        if (*clock).state == state::UNKNOWN {
            (*clock).met_running(at_ns);
        }
    }
    let mut reading = Reading::default();
    for _ in 0..READ_TRIES {
        // SAFETY: callers pass a pointer into a map value. Volatile, so that all is read between the turns.
        let (turns, read) = unsafe {
            let turns = (&raw const (*clock).turns).read_volatile();
            let read = Clock {
                since_at_ns: (&raw const (*clock).since_at_ns).read_volatile(),
                on_cpu_ns: (&raw const (*clock).on_cpu_ns).read_volatile(),
                off_cpu_ns: (&raw const (*clock).off_cpu_ns).read_volatile(),
                run_queue_ns: (&raw const (*clock).run_queue_ns).read_volatile(),
                ..Clock::default()
            };
            (turns, read)
        };
        reading = read.read_as(at_ns, state::ON_CPU);
        // SAFETY: as above.
        if turns == unsafe { (&raw const (*clock).turns).read_volatile() } {
            break;
        }
    }
    reading
}
