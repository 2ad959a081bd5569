//! Finding, and starting, the account of a thread.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::bpf_ktime_get_ns,
};
use aya_log_ebpf::debug;
use openrtc_common::{
    account::{Clock, Reading, state},
    loss::Loss,
    thread::Thread,
};

use crate::{
    loss,
    maps::{FREE_THREADS, THREAD_SLOTS, THREADS},
    task::Task,
};

/// How often a reading is tried again when the thread was switched away in the middle of it.
const READ_TRIES: u32 = 4;

/// The thread's account, if it has one.
#[inline(always)]
pub fn find(tid: u32) -> Option<*mut Thread> {
    // SAFETY: the value is one aligned word, copied at once.
    let slot = unsafe { THREAD_SLOTS.get(tid) }.copied()?;
    THREADS.get_ptr_mut(slot)
}

/// The thread's account, a new one if it had none; `task` is the thread.
#[inline(always)]
pub fn find_or_start(tid: u32, task: Task) -> Option<*mut Thread> {
    match find(tid) {
        Some(thread) => Some(thread),
        None => start(tid, task, state::UNKNOWN, BPF_NOEXIST),
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
        // SAFETY: callers pass a pointer into a map value.
        let (copy, turns) =
            unsafe { (clock.read_volatile(), (&raw const (*clock).turns).read_volatile()) };
        reading = copy.read_as(at_ns, state::ON_CPU);
        if copy.turns == turns {
            break;
        }
    }
    reading
}
