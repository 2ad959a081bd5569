//! A thread's entered contexts, and to which tag each stretch of its time goes.
//!
//! The stack follows `Context.run` nesting; the top frame's tag owns the time. Each change of the
//! top (enter, exit, a tag set) closes one span, which is charged to the tag that held it. From the
//! outermost enter to its exit is one poll.
//!
//! uvloop is different: it runs its whole queue of callbacks inside the context of its idle handle,
//! and enters each callback's context within that one (measured on 0.23: 12,000 enters for 10,000
//! callbacks in 2,000 iterations). So an untagged outermost frame in which another context is
//! entered by `PyContext_Enter` is the loop itself: what is entered in it are the polls, and the
//! time between them is loop overhead.
//!
//! From 3.14 on a `threading.Thread` runs within a `Context.run` of its own, from its first moment to its
//! last. That is no poll either: in a thread that runs a loop it lies below whatever the loop has.
//!
//! Invariants: the spans of a poll are disjoint and sum to its wall time; a frame is left by the
//! context it was entered with, never by position, so greenlets that leave contexts in another
//! order cannot shift time to a stranger for longer than the poll they do it in.

use bytemuck::{Pod, Zeroable};

use crate::{
    account::{Reading, Split},
    loss::Loss,
    session::UNTAGGED,
};

/// Nested `Context.run`s that are followed on one thread; a power of two.
pub const MAX_DEPTH: usize = 16;

/// How a context was entered.
pub mod via {
    /// By `Context.run`: the stdlib loop's callbacks, `to_thread`, nested runs.
    pub const RUN: u32 = 0;
    /// By `PyContext_Enter`: uvloop, and the first steps of eager tasks.
    pub const CONTEXT: u32 = 1;
    /// By `PyContext_Enter`, and it turned out to be the loop's own.
    pub const LOOP: u32 = 2;
    /// By `Context.run`, and it is what the whole thread runs in.
    pub const THREAD: u32 = 3;
}

/// Frames at the bottom that can be no poll: a thread's own and a loop's.
const MAX_BASE: usize = 2;

/// One entered context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Frame {
    /// Address of the `Context`.
    pub context: u64,
    /// The session slot of its tag.
    pub slot: u32,
    /// One of [`via`].
    pub via: u32,
}

/// The stack, the open span and the open poll of one thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Polls {
    /// Changes times two; odd while one is being written.
    pub turns: u32,
    /// Frames in use.
    pub depth: u32,
    /// When the top frame's span began.
    pub span: Reading,
    /// When the outermost frame was entered.
    pub poll: Reading,
    /// The slot that holds the majority of the open poll's wall time, if one does.
    pub holder: u32,
    /// Whether the poll already ran when we attached: its times are lower bounds.
    pub seeded: u32,
    /// The holder's lead over all others.
    pub lead_ns: u64,
    /// On-CPU in closed spans.
    pub on_cpu_ns: u64,
    /// The entered contexts, outermost first.
    pub frames: [Frame; MAX_DEPTH],
}

/// A closed span: whom to charge, and with what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// The session slot.
    pub slot: u32,
    /// Where the span's time went.
    pub split: Split,
}

/// A poll that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The slot that held it for the most part.
    pub slot: u32,
    /// Whether it already ran when we attached.
    pub seeded: bool,
    /// When it began.
    pub started_at_ns: u64,
    /// Where its time went.
    pub split: Split,
}

/// An [`Option`] whose value is there in any case: before Linux 6.3 the verifier refuses programs that load what was
/// not stored, and the compiler has them load an option's value before they look whether there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maybe<T> {
    is_there: bool,
    value: T,
}

impl<T: Default> Maybe<T> {
    /// The same as an option.
    #[inline(always)]
    pub fn get(self) -> Option<T> {
        self.is_there.then_some(self.value)
    }
}

impl<T: Default> From<Option<T>> for Maybe<T> {
    #[inline(always)]
    fn from(option: Option<T>) -> Maybe<T> {
        match option {
            Some(value) => Maybe { is_there: true, value },
            None => Maybe::default(),
        }
    }
}

/// What an enter brought about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enter {
    /// The span that it closed.
    pub charge: Maybe<Charge>,
    /// What had looked like a poll until now, and is the loop itself.
    pub was_loop: Maybe<Ended>,
}

/// What an exit brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The span that it closed.
    pub charge: Maybe<Charge>,
    /// The poll that it ended, if it left the outermost frame.
    pub ended: Maybe<Ended>,
    /// Frames above that were dropped with it.
    pub unwound: u32,
}

/// Keeps the compiler from moving stores across it; `x86-64` does not reorder them itself.
#[inline(always)]
fn barrier() {
    // LLVM's BPF backend knows no fence, but an empty assembly block is one for the compiler.
    #[cfg(target_arch = "bpf")]
    // SAFETY: it holds no instruction.
    unsafe {
        core::arch::asm!("");
    }
    #[cfg(not(target_arch = "bpf"))]
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
}

/// The holder after a span of `wall_ns` by `slot`: a majority vote weighted by time, which finds
/// whoever held more than half of the poll in constant space.
#[inline(always)]
pub fn vote(holder: u32, lead_ns: u64, slot: u32, wall_ns: u64) -> (u32, u64) {
    if holder == slot {
        (holder, lead_ns + wall_ns)
    } else if wall_ns <= lead_ns {
        (holder, lead_ns - wall_ns)
    } else {
        (slot, wall_ns - lead_ns)
    }
}

impl Polls {
    /// The context that runs now and its tag; `None` outside any poll.
    #[inline(always)]
    pub fn top(&self) -> Option<&Frame> {
        let depth = self.depth as usize;
        if depth == 0 {
            return None;
        }
        self.frames.get((depth - 1) & (MAX_DEPTH - 1))
    }

    /// Frames at the bottom that are the thread's own or the loop's: polls are what lies on them.
    #[inline(always)]
    fn base(&self) -> usize {
        if self.frames[0].via < via::LOOP {
            return 0;
        }
        1 + usize::from(self.frames[1].via >= via::LOOP)
    }

    /// Whether no poll is open.
    #[inline(always)]
    pub fn is_idle(&self) -> bool {
        self.depth as usize <= self.base()
    }

    /// What the open span has come to by `now`; `None` outside any poll.
    #[inline(always)]
    pub fn open_span(&self, now: &Reading) -> Option<Charge> {
        if self.is_idle() {
            return None;
        }
        self.top().map(|top| Charge { slot: top.slot, split: now.since(&self.span) })
    }

    /// What the open poll has come to by `now`.
    #[inline(always)]
    pub fn open_poll(&self, now: &Reading) -> Option<Ended> {
        let span = self.open_span(now)?;
        let (slot, _) = vote(self.holder, self.lead_ns, span.slot, span.split.wall_ns);
        Some(Ended {
            slot,
            seeded: self.seeded != 0,
            started_at_ns: self.poll.at_ns,
            split: now.since(&self.poll),
        })
    }

    /// A context with the tag `slot` is entered, by one of [`via`].
    ///
    /// # Errors
    /// [`Loss::NestedTooDeep`]: the frame is not followed, its time goes to the one below.
    #[inline(always)]
    pub fn enter(
        &mut self,
        now: &Reading,
        context: u64,
        slot: u32,
        via: u32,
    ) -> Result<Enter, Loss> {
        let depth = self.depth as usize;
        if depth >= MAX_DEPTH {
            return Err(Loss::NestedTooDeep);
        }
        let base = self.base();
        let below = self.frames[base & (MAX_BASE - 1)];
        let is_in_loop = base < MAX_BASE
            && depth == base + 1
            && via == via::CONTEXT
            && below.via == via::CONTEXT
            && below.slot == UNTAGGED;
        let mut enter = Enter::default();
        self.begin_change();
        if is_in_loop {
            enter.was_loop = self.open_poll(now).into();
            self.frames[base & (MAX_BASE - 1)].via = via::LOOP;
        }
        enter.charge = self.close_span(now);
        if depth == self.base() {
            self.poll = *now;
            self.holder = slot;
            self.lead_ns = 0;
            self.seeded = 0;
        }
        if let Some(frame) = self.frames.get_mut(depth & (MAX_DEPTH - 1)) {
            *frame = Frame { context, slot, via };
        }
        self.depth = depth as u32 + 1;
        self.end_change();
        Ok(enter)
    }

    /// The context `context` is left; `None` where it was not seen to be entered.
    #[inline(always)]
    pub fn exit(&mut self, now: &Reading, context: u64) -> Option<Exit> {
        let depth = self.depth as usize;
        let below = self.find(depth, context)?;
        let base = self.base();
        self.begin_change();
        let charge = self.close_span(now);
        let ended = (below <= base && depth > base).then(|| Ended {
            slot: self.holder,
            seeded: self.seeded != 0,
            started_at_ns: self.poll.at_ns,
            split: now.since(&self.poll),
        });
        self.depth = below as u32;
        for (index, frame) in self.frames.iter_mut().take(MAX_BASE).enumerate() {
            if index >= below {
                frame.via = via::RUN;
            }
        }
        self.end_change();
        let ended = ended.into();
        Some(Exit { charge, ended, unwound: (depth - below) as u32 - 1 })
    }

    /// The tag of the context that runs now becomes `slot`: the span is split here.
    #[inline(always)]
    pub fn retag(&mut self, now: &Reading, slot: u32) -> Maybe<Charge> {
        let depth = self.depth as usize;
        if depth <= self.base() {
            return Maybe::default();
        }
        self.begin_change();
        let closed = self.close_span(now);
        if let Some(frame) = self.frames.get_mut((depth - 1) & (MAX_DEPTH - 1)) {
            frame.slot = slot;
        }
        self.end_change();
        closed
    }

    /// The poll that a thread is found in on attach: `frames` are its contexts, outermost first.
    pub fn seed(now: &Reading, frames: &[Frame]) -> Polls {
        let mut polls = Polls { span: *now, poll: *now, ..Polls::default() };
        for (into, from) in polls.frames.iter_mut().zip(frames) {
            *into = *from;
        }
        polls.depth = frames.len().min(MAX_DEPTH) as u32;
        polls.seeded = u32::from(polls.depth > 0);
        polls.holder = polls.top().map_or(UNTAGGED, |top| top.slot);
        polls
    }

    /// The index of the frame that `context` was entered with: the top one, unless greenlets left
    /// contexts out of order.
    #[inline(always)]
    fn find(&self, depth: usize, context: u64) -> Option<usize> {
        for down in 1..=MAX_DEPTH {
            if down > depth {
                break;
            }
            let index = (depth - down) & (MAX_DEPTH - 1);
            if self.frames.get(index)?.context == context {
                return Some(index);
            }
        }
        None
    }

    #[inline(always)]
    fn close_span(&mut self, now: &Reading) -> Maybe<Charge> {
        let closed = Maybe::from(self.open_span(now));
        if let Some(Charge { slot, split }) = closed.get() {
            (self.holder, self.lead_ns) = vote(self.holder, self.lead_ns, slot, split.wall_ns);
            self.on_cpu_ns += split.on_cpu_ns;
        }
        self.span = *now;
        closed
    }

    #[inline(always)]
    fn begin_change(&mut self) {
        self.count_turn();
        barrier();
    }

    #[inline(always)]
    fn end_change(&mut self) {
        barrier();
        self.count_turn();
    }

    #[inline(always)]
    fn count_turn(&mut self) {
        // SAFETY: a reference to our own field; volatile so that readers on other CPUs see it move
        // before and after what it guards.
        unsafe { (&raw mut self.turns).write_volatile(self.turns.wrapping_add(1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Reading {
        Reading { at_ns: us * 1000, on_cpu_ns: us * 1000, ..Reading::default() }
    }

    fn charged(charge: Maybe<Charge>) -> Option<(u32, u64)> {
        charge.get().map(|c| (c.slot, c.split.wall_ns / 1000))
    }

    #[test]
    fn a_poll_is_charged_from_enter_to_exit() {
        let mut polls = Polls::default();
        assert_eq!(polls.enter(&at(5), 0xa, 1, via::RUN), Ok(Enter::default()));
        let exit = polls.exit(&at(9), 0xa).unwrap();
        assert_eq!(charged(exit.charge), Some((1, 4)));
        let ended = exit.ended.get().unwrap();
        assert_eq!((ended.slot, ended.split.wall_ns, ended.started_at_ns), (1, 4000, 5000));
        assert_eq!(polls.open_span(&at(20)), None);
    }

    #[test]
    fn nested_runs_split_the_poll_between_their_tags() {
        let mut polls = Polls::default();
        polls.enter(&at(0), 0xa, 1, via::RUN).unwrap();
        assert_eq!(charged(polls.enter(&at(3), 0xb, 2, via::RUN).unwrap().charge), Some((1, 3)));
        let inner = polls.exit(&at(10), 0xb).unwrap();
        assert_eq!(charged(inner.charge), Some((2, 7)));
        assert_eq!(inner.ended.get(), None);
        let outer = polls.exit(&at(12), 0xa).unwrap();
        assert_eq!(charged(outer.charge), Some((1, 2)));
        assert_eq!(outer.ended.get().unwrap().slot, 2, "who held it longest is named");
        assert_eq!(polls.on_cpu_ns, 12_000);
    }

    #[test]
    fn a_tag_set_inside_a_poll_splits_it_there() {
        let mut polls = Polls::default();
        polls.enter(&at(0), 0xa, UNTAGGED, via::RUN).unwrap();
        assert_eq!(charged(polls.retag(&at(2), 7)), Some((UNTAGGED, 2)));
        let exit = polls.exit(&at(9), 0xa).unwrap();
        assert_eq!(charged(exit.charge), Some((7, 7)));
        assert_eq!(exit.ended.get().unwrap().slot, 7);
        assert_eq!(polls.retag(&at(10), 8).get(), None, "outside a poll there is nothing to split");
    }

    #[test]
    fn the_majority_wins_against_a_longer_single_span() {
        let mut polls = Polls::default();
        polls.enter(&at(0), 0xa, 1, via::RUN).unwrap();
        for i in 0..100 {
            polls.enter(&at(i * 10), 0xb, 2, via::RUN).unwrap();
            polls.exit(&at(i * 10 + 9), 0xb).unwrap();
        }
        let now = at(1100);
        assert_eq!(polls.open_poll(&now).unwrap().slot, 2);
        assert_eq!(polls.exit(&now, 0xa).unwrap().ended.get().unwrap().slot, 2);
    }

    #[test]
    fn contexts_left_out_of_order_drop_what_lies_above() {
        let mut polls = Polls::default();
        polls.enter(&at(0), 0xa, 1, via::RUN).unwrap();
        polls.enter(&at(1), 0xb, 2, via::RUN).unwrap();
        polls.enter(&at(2), 0xc, 3, via::RUN).unwrap();
        let exit = polls.exit(&at(3), 0xa).unwrap();
        assert_eq!((exit.unwound, exit.ended.get().is_some(), polls.depth), (2, true, 0));
        assert_eq!(polls.exit(&at(4), 0xb), None, "its frame is gone");
    }

    #[test]
    fn in_uvloop_the_outermost_frame_is_the_loop() {
        let mut polls = Polls::default();
        polls.enter(&at(0), 0x1, UNTAGGED, via::CONTEXT).unwrap();
        let first = polls.enter(&at(2), 0xa, 1, via::CONTEXT).unwrap();
        assert_eq!(first.charge.get(), None, "the loop's own time is nobody's");
        assert_eq!(first.was_loop.get().unwrap().split.wall_ns, 2000);
        let exit = polls.exit(&at(60), 0xa).unwrap();
        assert_eq!((charged(exit.charge), exit.ended.get().unwrap().slot), (Some((1, 58)), 1));
        assert_eq!(polls.open_poll(&at(61)), None, "between two polls");
        let second = polls.enter(&at(63), 0xb, 2, via::CONTEXT).unwrap();
        assert_eq!(second, Enter::default());
        polls.enter(&at(64), 0xc, 3, via::CONTEXT).unwrap();
        assert_eq!(
            polls.exit(&at(65), 0xc).unwrap().ended.get(),
            None,
            "an eager task inside a poll"
        );
        let ended = polls.exit(&at(66), 0xb).unwrap().ended.get().unwrap();
        assert_eq!((ended.slot, ended.started_at_ns), (2, 63_000));
        let last = polls.exit(&at(70), 0x1).unwrap();
        assert_eq!((last.charge.get(), last.ended.get(), polls.depth), (None, None, 0));
        assert_eq!(polls.on_cpu_ns, 61_000, "58 and 3, of which the eager task had 1");
        polls.enter(&at(80), 0x2, UNTAGGED, via::CONTEXT).unwrap();
        let alone = polls.exit(&at(85), 0x2).unwrap();
        assert_eq!(charged(alone.charge), Some((UNTAGGED, 5)), "an untagged callback of its own");
        assert!(alone.ended.get().is_some());
    }

    #[test]
    fn what_a_thread_runs_in_is_no_poll() {
        let mut polls = Polls::default();
        polls.enter(&at(0), 0x7, UNTAGGED, via::THREAD).unwrap();
        assert_eq!(polls.open_poll(&at(900)), None, "the loop waits");
        assert_eq!(polls.enter(&at(1000), 0xa, 1, via::RUN), Ok(Enter::default()));
        polls.enter(&at(1001), 0xb, 2, via::RUN).unwrap();
        assert_eq!(polls.exit(&at(1003), 0xb).unwrap().ended.get(), None, "nested in a poll");
        let ended = polls.exit(&at(1004), 0xa).unwrap().ended.get().unwrap();
        assert_eq!((ended.slot, ended.started_at_ns, ended.split.wall_ns), (2, 1_000_000, 4000));
        assert_eq!((polls.open_span(&at(2000)), polls.retag(&at(2000), 5).get()), (None, None));
        let last = polls.exit(&at(3000), 0x7).unwrap();
        assert_eq!((last.charge.get(), last.ended.get(), polls.depth), (None, None, 0));
        polls.enter(&at(4000), 0xc, 3, via::RUN).unwrap();
        assert!(
            polls.exit(&at(4001), 0xc).unwrap().ended.get().is_some(),
            "nothing lies below any more"
        );
    }

    #[test]
    fn a_uvloop_in_a_thread_of_its_own_lies_on_two_frames() {
        let mut polls = Polls::default();
        polls.enter(&at(0), 0x7, UNTAGGED, via::THREAD).unwrap();
        polls.enter(&at(10), 0x1, UNTAGGED, via::CONTEXT).unwrap();
        let first = polls.enter(&at(12), 0xa, 1, via::CONTEXT).unwrap();
        assert_eq!((first.charge.get(), first.was_loop.get().unwrap().split.wall_ns), (None, 2000));
        assert_eq!(polls.exit(&at(20), 0xa).unwrap().ended.get().unwrap().slot, 1);
        polls.enter(&at(21), 0xb, 2, via::CONTEXT).unwrap();
        assert_eq!(polls.exit(&at(22), 0xb).unwrap().ended.get().unwrap().started_at_ns, 21_000);
        assert_eq!(polls.exit(&at(23), 0x1).unwrap().ended.get(), None, "the loop waits again");
        polls.enter(&at(30), 0xc, 3, via::CONTEXT).unwrap();
        assert_eq!(
            polls.exit(&at(31), 0xc).unwrap().ended.get().unwrap().slot,
            3,
            "a tagged one alone"
        );
    }

    #[test]
    fn a_tagged_outermost_frame_is_a_poll_also_in_uvloop() {
        let mut polls = Polls::default();
        polls.enter(&at(0), 0xa, 1, via::CONTEXT).unwrap();
        let eager = polls.enter(&at(2), 0xb, 1, via::CONTEXT).unwrap();
        assert_eq!((charged(eager.charge), eager.was_loop.get()), (Some((1, 2)), None));
        assert_eq!(polls.exit(&at(4), 0xb).unwrap().ended.get(), None);
        assert_eq!(polls.exit(&at(9), 0xa).unwrap().ended.get().unwrap().split.wall_ns, 9000);
    }

    #[test]
    fn too_deep_nesting_is_refused_and_harmless() {
        let mut polls = Polls::default();
        for i in 0..MAX_DEPTH as u64 {
            polls.enter(&at(i), i, 1, via::RUN).unwrap();
        }
        assert_eq!(polls.enter(&at(20), 99, 2, via::RUN), Err(Loss::NestedTooDeep));
        assert_eq!(polls.exit(&at(21), 99), None);
        assert_eq!(charged(polls.open_span(&at(22)).into()), Some((1, 7)));
        for i in (0..MAX_DEPTH as u64).rev() {
            assert!(polls.exit(&at(30), i).is_some());
        }
        assert_eq!(polls.depth, 0);
    }

    #[test]
    fn a_seeded_poll_is_marked_until_the_next_one() {
        let frame = Frame { context: 0xa, slot: 4, via: via::RUN };
        let mut polls = Polls::seed(&at(10), &[frame]);
        assert!(polls.open_poll(&at(15)).unwrap().seeded);
        let ended = polls.exit(&at(20), 0xa).unwrap().ended.get().unwrap();
        assert!(ended.seeded && ended.slot == 4 && ended.split.wall_ns == 10_000);
        polls.enter(&at(30), 0xa, 4, via::RUN).unwrap();
        assert!(!polls.open_poll(&at(31)).unwrap().seeded);
    }

    #[test]
    fn turns_are_even_between_changes() {
        let mut polls = Polls::default();
        polls.enter(&at(0), 0xa, 1, via::RUN).unwrap();
        polls.retag(&at(1), 2);
        polls.exit(&at(2), 0xa).unwrap();
        assert_eq!(polls.turns, 6);
    }
}
