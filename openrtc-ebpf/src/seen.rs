//! Which poll a thread is in without any probe at it: read where the scheduler takes its CPU away.
//!
//! A poll and its tag cannot change while their thread does not run. So what the thread waits for, and for
//! how long, is known of each session as exactly as with probes; only what it does while it runs is not.

use aya_ebpf::bindings::BPF_RB_FORCE_WAKEUP;
use bytemuck::AnyBitPattern;
use openrtc_common::{
    account::Clock, loss::Loss, memory::Memory as _, seen::Seen, session::UNTAGGED, thread::Thread,
};

use crate::{
    loss,
    maps::{BOARD, WAKES, session, settings},
    memory::WorkerMemory,
    tag,
};

/// `PyThreadState.context` and what stands behind it.
#[derive(Clone, Copy, AnyBitPattern)]
#[repr(C)]
struct Words {
    context: u64,
    version: u64,
}

/// Whether this is how the thread's polls are known now: somebody wants it, and the programs at the sites
/// have none of its polls open.
///
/// # Safety
/// `thread` is a map value.
#[inline(always)]
pub unsafe fn is_wanted(thread: *const Thread) -> bool {
    // SAFETY: by the contract.
    unsafe { (*thread).seen.words_at != 0 && (*thread).polls.is_idle() }
}

/// The thread leaves its CPU: notes what it was doing. The name of the poll that it is in, `None` outside any.
///
/// # Safety
/// `thread` is a map value, the account of the thread that this program runs on.
#[inline(always)]
pub unsafe fn leave(thread: *mut Thread, now_ns: u64) -> Option<u64> {
    // SAFETY: by the contract; while polls are seen like this no program at a site uses the scratch.
    let (seen, clock, scratch) =
        unsafe { (&mut (*thread).seen, &(*thread).clock, &mut (*thread).scratch) };
    seen.left_at_ns = now_ns;
    seen.off_cpu_ns = clock.off_cpu_ns;
    seen.run_queue_ns = clock.run_queue_ns;
    let Some(Words { context, version }) = WorkerMemory.read(seen.words_at) else {
        seen.is_known = 0;
        loss::count(Loss::TagUnreadable);
        return None;
    };
    let is_new = seen.is_known == 0 || seen.version != version;
    if is_new {
        seen.version = version;
        seen.at_ns = now_ns;
        seen.is_known = 1;
    }
    seen.context = 0;
    seen.slot = UNTAGGED;
    if context == 0 || context == seen.bases[0] || context == seen.bases[1] {
        return None;
    }
    let (Some(settings), Some(head)) = (settings(), tag::context(context)) else {
        seen.is_known = 0;
        loss::count(Loss::TagUnreadable);
        return None;
    };
    // The thread's own, which nobody has entered.
    if !head.is_entered {
        return None;
    }
    seen.context = context;
    seen.slot = tag::of_context(scratch, settings, &head, context);
    if let Some(session) = session(seen.slot) {
        // SAFETY: a map value; of concurrent writers any may win, their times are equal in effect.
        unsafe { (*session).counters.last_at_ns = now_ns };
    }
    Some(seen.at_ns)
}

/// The thread has its CPU again: what it has waited for it goes to the session that it was in.
#[inline(always)]
pub fn come_back(seen: &Seen, clock: &Clock) {
    if seen.is_known == 0 || seen.context == 0 {
        return;
    }
    let Some(session) = session(seen.slot) else { return };
    // SAFETY: fields of a map value; the sums are atomic.
    unsafe {
        let off_cpu_ns = clock.off_cpu_ns.saturating_sub(seen.off_cpu_ns);
        let run_queue_ns = clock.run_queue_ns.saturating_sub(seen.run_queue_ns);
        loss::add(&raw mut (*session).counters.loop_off_cpu_ns, off_cpu_ns);
        loss::add(&raw mut (*session).counters.loop_run_queue_ns, run_queue_ns);
    }
}

/// Wakes whoever sleeps until a thread of the worker runs.
#[inline(always)]
pub fn wake_sampler() {
    let Some(board) = BOARD.get_ptr_mut(0) else { return };
    // SAFETY: a map value. Two CPUs may both find it set: one wakeup too many does no harm.
    unsafe {
        let wanted = &raw mut (*board).wants_wake;
        if wanted.read_volatile() == 0 {
            return;
        }
        wanted.write_volatile(0);
    }
    // Full: then there is one already.
    let _ = WAKES.output::<u64>(&0, BPF_RB_FORCE_WAKEUP.into());
}
