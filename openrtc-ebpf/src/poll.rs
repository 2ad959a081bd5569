//! Programs at the boundary of polls: contexts entered and left, and the tag variable set.

use core::ptr::copy_nonoverlapping;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::uprobe,
    programs::ProbeContext,
};
use openrtc_common::{
    account::Clock,
    event::{Event, StallEnd, kind},
    histogram::{COARSE, FINE, coarse_of},
    loss::Loss,
    memory::Memory as _,
    poll::{Charge, Ended, Polls, via},
    session::{Slot, UNTAGGED},
    thread::{Backlog, Scratch, SiteHits, Thread, role},
    wait::Waits,
};

use crate::{
    loss,
    maps::{BOARD, EVENTS, SESSIONS, config, session, settings},
    memory::{WorkerMemory, element, register},
    tag,
    task::Task,
    thread,
};

/// `Context.run` is about to enter a context: the stdlib loop's polls, `to_thread`, nested runs.
#[uprobe]
pub fn run_enter(ctx: ProbeContext) -> u32 {
    let context = register(&ctx, config().registers.run_enter);
    enter(context, via::RUN);
    0
}

/// `Context.run` is about to leave its context.
#[uprobe]
pub fn run_exit(ctx: ProbeContext) -> u32 {
    let context = register(&ctx, config().registers.run_exit);
    exit(context, via::RUN);
    0
}

/// `PyContext_Enter`: uvloop's polls, and eager tasks' first steps.
#[uprobe]
pub fn context_enter(ctx: ProbeContext) -> u32 {
    let context = register(&ctx, config().registers.context_enter);
    enter(context, via::CONTEXT);
    0
}

/// `PyContext_Exit`.
#[uprobe]
pub fn context_exit(ctx: ProbeContext) -> u32 {
    let context = register(&ctx, config().registers.context_exit);
    exit(context, via::CONTEXT);
    0
}

/// `PyContextVar_Set`, before the value is set.
#[uprobe]
pub fn var_set(ctx: ProbeContext) -> u32 {
    let registers = &config().registers;
    let var = register(&ctx, registers.set_var);
    let value = register(&ctx, registers.set_value);
    retag(var, || Some(value));
    0
}

/// `PyContextVar_Reset`, before the variable gets its old value back.
#[uprobe]
pub fn var_reset(ctx: ProbeContext) -> u32 {
    let registers = &config().registers;
    let var = register(&ctx, registers.reset_var);
    let token = register(&ctx, registers.reset_token);
    let old_value = token.wrapping_add(u64::from(config().python.token_old_value));
    retag(var, || WorkerMemory.read(old_value));
    0
}

/// A task is about to run its next step: with `--tag task-name` its name is the tag of the context that
/// was just entered for it.
#[uprobe]
pub fn task_step(ctx: ProbeContext) -> u32 {
    let task = register(&ctx, config().registers.step_task);
    begin_step(task);
    0
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_ktime_get_ns() }
}

/// The thread that hit the probe.
#[inline(always)]
fn current_tid() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

#[inline(always)]
fn enter(context: u64, via: u32) {
    let start_ns = now_ns();
    let Some(settings) = settings() else { return };
    if settings.accounts == 0 {
        return;
    }
    let Some(head) = tag::context(context) else {
        return loss::count(Loss::TagUnreadable);
    };
    // An entered context cannot be entered again: Python raises, and never leaves it.
    if head.is_entered {
        return;
    }
    let tid = current_tid();
    let Some(thread) = thread::find_own_or_start(tid) else { return };
    // SAFETY: a map value, on whose thread we run.
    let Parts { polls, hits, scratch, clock, on_loop, backlog, waits, call_at } =
        unsafe { parts(thread) };
    // The first thing that a thread runs, unless it is the process's first, is itself.
    let is_thread = config().python.threads_in_context != 0
        && via == via::RUN
        && hits.run_enters | u64::from(polls.depth) == 0
        && tid != config().tgid;
    let via = if is_thread { via::THREAD } else { via };
    let slot = if config().by_task == 0 {
        tag::of_context(scratch, settings, &head, context)
    } else {
        // The task whose step this is within, if any; its own step will say who it is.
        polls.top().map_or(UNTAGGED, |top| top.slot)
    };
    if hits.enters() == 0 {
        tag::send(&Event { kind: kind::THREAD, tid, ..Event::default() });
    }
    if via == via::CONTEXT {
        hits.context_enters += 1;
    } else {
        hits.run_enters += 1;
    }
    if hits.enters() == call_at {
        tag::send(&Event { kind: kind::CALL, tid, ..Event::default() });
    }
    if polls.is_idle() {
        thread::begin_poll(clock, start_ns);
        if backlog.ended_at_ns != 0 {
            // SAFETY: the waits of the thread that we run on, which is not being switched now.
            let idle_at_ns = unsafe { (&raw const (*waits).idle_at_ns).read_volatile() };
            add_to_backlog(backlog, start_ns, idle_at_ns, slot);
        }
    }
    let now = thread::read_clock(clock, start_ns).before(settings.trap_ns);
    match polls.enter(&now, context, slot, via) {
        Ok(entered) => {
            settle(on_loop, entered.charge.get(), slot, now.at_ns);
            if let Some(was_loop) = entered.was_loop.get()
                && on_loop
            {
                end_stall(tid, &was_loop, now.at_ns, backlog, waits);
            }
        }
        Err(cause) => loss::count(cause),
    }
}

#[inline(always)]
fn exit(context: u64, via: u32) {
    if settings().is_none_or(|settings| settings.accounts == 0) {
        return;
    }
    // A thread without an account has not entered a context since we attached.
    let tid = current_tid();
    let Some(thread) = thread::find_own(tid) else { return };
    // SAFETY: as in `enter`.
    let Parts { polls, hits, clock, on_loop, backlog, waits, .. } = unsafe { parts(thread) };
    if via == via::RUN {
        hits.run_exits += 1;
    } else {
        hits.context_exits += 1;
    }
    let now = thread::read_clock(clock, now_ns());
    let Some(exit) = polls.exit(&now, context) else {
        hits.unmatched_exits += 1;
        return;
    };
    if exit.unwound > 0 {
        loss::count(Loss::FramesUnwound);
    }
    if let Some(closed) = exit.charge.get() {
        charge(on_loop, &closed);
    }
    if let Some(ended) = exit.ended.get()
        && on_loop
    {
        end_poll(&ended);
        end_stall(tid, &ended, now.at_ns, backlog, waits);
    }
}

/// The parts of a thread's account that the programs here use.
struct Parts<'t> {
    polls: &'t mut Polls,
    hits: &'t mut SiteHits,
    scratch: &'t mut Scratch,
    /// Not borrowed: the scheduler's programs write it, also while one of ours is preempted.
    clock: *mut Clock,
    /// As the clock.
    waits: *const Waits,
    backlog: &'t mut Backlog,
    on_loop: bool,
    call_at: u64,
}

/// # Safety
/// `thread` is a map value, and the account of the thread that this program runs on: of the
/// programs at the sites, one at a time uses it.
#[inline(always)]
unsafe fn parts<'t>(thread: *mut Thread) -> Parts<'t> {
    // SAFETY: by the contract.
    unsafe {
        thread::mend(thread, || (now_ns(), Task::current().charged_ns()));
        Parts {
            polls: &mut (*thread).polls,
            hits: &mut (*thread).hits,
            scratch: &mut (*thread).scratch,
            clock: &raw mut (*thread).clock,
            waits: &raw const (*thread).waits,
            backlog: &mut (*thread).backlog,
            on_loop: (*thread).role == role::LOOP,
            call_at: (*thread).call_at,
        }
    }
}

#[inline(always)]
fn retag(var: u64, value: impl FnOnce() -> Option<u64>) {
    // Whatever the variable: a map is about to be made, maybe where another was.
    tag::forget();
    let Some(settings) = settings() else { return };
    if settings.accounts == 0 {
        return;
    }
    let Some(thread) = thread::find_own(current_tid()) else { return };
    // SAFETY: as in `enter`.
    let Parts { polls, scratch, clock, on_loop, .. } = unsafe { parts(thread) };
    scratch.has_set = 1;
    if settings.tag_var == 0 || var != settings.tag_var {
        return;
    }
    let now = thread::read_clock(clock, now_ns());
    let Some(context) = polls.top().map(|top| top.context) else { return };
    let slot = match value() {
        // A token that holds no value: the variable was unset before.
        Some(0) => UNTAGGED,
        Some(value) => tag::of_value(scratch, value, context),
        None => {
            loss::count(Loss::TagUnreadable);
            UNTAGGED
        }
    };
    let closed = polls.retag(&now, slot);
    settle(on_loop, closed.get(), slot, now.at_ns);
}

#[inline(always)]
fn begin_step(task: u64) {
    let start_ns = now_ns();
    if settings().is_none_or(|settings| settings.accounts == 0) {
        return;
    }
    let Some(thread) = thread::find_own(current_tid()) else { return };
    // SAFETY: as in `enter`.
    let Parts { polls, scratch, clock, on_loop, .. } = unsafe { parts(thread) };
    let Some(top) = polls.top().copied() else { return };
    let slot = tag::of_task(scratch, task, top.context);
    if slot == top.slot {
        return;
    }
    let now = thread::read_clock(clock, start_ns);
    let closed = polls.retag(&now, slot);
    settle(on_loop, closed.get(), slot, now.at_ns);
}

/// After the top frame changed to `slot`: charges the span that was closed, and marks the new
/// holder as alive.
#[inline(always)]
fn settle(on_loop: bool, closed: Option<Charge>, slot: u32, now_ns: u64) {
    if let Some(closed) = closed {
        charge(on_loop, &closed);
    }
    if let Some(session) = session(slot) {
        // SAFETY: a map value; of concurrent writers any may win, their times are equal in effect.
        unsafe { (*session).counters.last_at_ns = now_ns };
    }
}

#[inline(always)]
fn charge(on_loop: bool, charge: &Charge) {
    let Some(session) = session(charge.slot) else { return };
    let split = &charge.split;
    // SAFETY: fields of a map value; `add` is atomic.
    unsafe {
        if !on_loop {
            return loss::add(&raw mut (*session).counters.offloaded_on_cpu_ns, split.on_cpu_ns);
        }
        loss::add(&raw mut (*session).counters.loop_on_cpu_ns, split.on_cpu_ns);
        // Most spans never leave the CPU: spare them two locked additions.
        if split.off_cpu_ns | split.run_queue_ns != 0 {
            loss::add(&raw mut (*session).counters.loop_off_cpu_ns, split.off_cpu_ns);
            loss::add(&raw mut (*session).counters.loop_run_queue_ns, split.run_queue_ns);
        }
    }
}

#[inline(always)]
fn end_poll(ended: &Ended) {
    let Some(slot) = SESSIONS.get_ptr_mut(ended.slot) else { return };
    let wall_ns = ended.split.wall_ns;
    // SAFETY: fields of a map value. Two loops that run one session at once may lose a maximum to
    // each other; the sums are atomic.
    unsafe {
        loss::add(&raw mut (*slot).session.counters.polls, 1);
        if wall_ns > (*slot).session.counters.longest_poll_ns {
            (*slot).session.counters.longest_poll_ns = wall_ns;
        }
    }
    count_lengths(slot, wall_ns, ended.split.off_cpu_ns);
}

/// Counts a poll in the histograms: its session's, and that of all.
#[inline(always)]
fn count_lengths(slot: *mut Slot, wall_ns: u64, off_cpu_ns: u64) {
    let class = FINE.class(wall_ns);
    // SAFETY: fields of map values, indexed within their bounds; the sums are atomic. The daemon may take the
    // longest in between.
    unsafe {
        loss::add_short(element(&raw mut (*slot).lengths.polls, coarse_of(class)));
        if off_cpu_ns != 0 {
            let off_cpu = COARSE.class(off_cpu_ns);
            loss::add_short(element(&raw mut (*slot).lengths.off_cpu, off_cpu));
        }
        let Some(board) = BOARD.get_ptr_mut(0) else { return };
        loss::add(element(&raw mut (*board).loop_polls, class), 1);
        let longest = &raw mut (*board).longest_poll_ns;
        if wall_ns > longest.read_volatile() {
            longest.write_volatile(wall_ns);
        }
    }
}

/// Counts and tells a stall, if it is one: from now on those are late that are polled until the loop has
/// nothing more to do.
#[inline(always)]
fn end_stall(tid: u32, ended: &Ended, now_ns: u64, backlog: &mut Backlog, waits: *const Waits) {
    let Some(settings) = settings() else { return };
    if ended.split.wall_ns < settings.stall_threshold_ns {
        return;
    }
    let Some(session) = session(ended.slot) else { return };
    // SAFETY: a field of a map value; the sum is atomic.
    unsafe { loss::add(&raw mut (*session).counters.stalls, 1) };
    *backlog = Backlog {
        stall_at_ns: ended.started_at_ns,
        ended_at_ns: now_ns,
        culprit: ended.slot,
        count: 0,
    };
    send_stall(&Event::stall_end(tid, ended), waits);
}

#[inline(always)]
fn send_stall(event: &Event, waits: *const Waits) {
    let Some(mut room) = EVENTS.reserve::<StallEnd>(0) else {
        return loss::count(Loss::RingFull);
    };
    let record = room.as_mut_ptr();
    // SAFETY: the record is ours until it is submitted, and written as a whole; the waits are a map
    // value's, of the thread that we run on.
    unsafe {
        (&raw mut (*record).event).write(*event);
        // Word by word into the record: there is no room for it on the stack.
        copy_nonoverlapping(waits, &raw mut (*record).waits, 1);
    }
    room.submit(0);
}

/// A poll of `slot` begins behind a stall. Once the loop has slept it has caught up; one that never
/// sleeps is given as long as the stall took.
#[inline(always)]
fn add_to_backlog(backlog: &mut Backlog, now_ns: u64, idle_at_ns: u64, slot: u32) {
    let Backlog { stall_at_ns, ended_at_ns, .. } = *backlog;
    if idle_at_ns > ended_at_ns || now_ns > ended_at_ns + (ended_at_ns - stall_at_ns) {
        backlog.ended_at_ns = 0;
        return;
    }
    if slot == UNTAGGED || slot == backlog.culprit {
        return;
    }
    let Some(session) = session(slot) else { return };
    // SAFETY: fields of a map value, written by programs on its own loop's thread.
    unsafe {
        // One that is new did not wait, and each counts once.
        let is_late = (*session).counters.first_at_ns < backlog.ended_at_ns
            && (*session).late_behind_at_ns != backlog.stall_at_ns;
        if is_late {
            (*session).late_behind_at_ns = backlog.stall_at_ns;
            backlog.count += 1;
        }
    }
}
