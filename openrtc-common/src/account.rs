//! Where a thread's time goes: the pure state machine behind every number.
//!
//! A [`Clock`] is moved by scheduler events alone, a [`Reading`] is a look at it, and the
//! difference of two readings is a [`Split`] of the wall time between them. Invariant: on-CPU,
//! off-CPU and run-queue wait of a split sum to its wall time, once the clock has seen an event.
//!
//! Two programs touch a thread's state: the scheduler's writes the clock, the polls' only reads
//! it. They may interrupt each other (a uprobe's program can be preempted), which is why they share
//! no field that both write.

use bytemuck::{Pod, Zeroable};

/// What a thread is doing, as the scheduler told last.
pub mod state {
    /// Nothing heard yet: the next event tells what the thread was doing until then.
    pub const UNKNOWN: u32 = 0;
    /// Running.
    pub const ON_CPU: u32 = 1;
    /// Runnable without a CPU.
    pub const RUNNABLE: u32 = 2;
    /// Asleep in the kernel.
    pub const OFF_CPU: u32 = 3;
    /// Gone.
    pub const EXITED: u32 = 4;
    /// A program at a site has met it running, but of the scheduler nothing was heard yet: it may
    /// have gone to sleep since, unseen.
    pub const MET_RUNNING: u32 = 5;

    /// Whether the scheduler has told nothing yet: what the thread does now has to be asked for.
    #[inline(always)]
    pub fn is_unheard(state: u32) -> bool {
        state == UNKNOWN || state == MET_RUNNING
    }
}

/// How a thread leaves the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It could have gone on: preempted.
    Runnable,
    /// It waits for something.
    Asleep,
    /// It ended.
    Exited,
}

/// The scheduler's account of one thread since it was first seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Clock {
    /// Changes of state, times two; odd while one is being written. Readers compare it before and
    /// after.
    pub turns: u32,
    /// One of [`state`].
    pub state: u32,
    /// When that state began.
    pub since_at_ns: u64,
    /// Closed stretches on-CPU.
    pub on_cpu_ns: u64,
    /// Closed stretches off-CPU.
    pub off_cpu_ns: u64,
    /// Closed stretches of run-queue wait.
    pub run_queue_ns: u64,
    /// The kernel's own account of the thread's CPU time (`sum_exec_runtime`) when it was first
    /// seen.
    pub charged_first_ns: u64,
    /// The same when it last left its CPU. It includes what a switch itself costs, which a
    /// tracepoint cannot see.
    pub charged_last_ns: u64,
}

/// A look at a clock: cumulative times at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Reading {
    /// When.
    pub at_ns: u64,
    /// On-CPU until then.
    pub on_cpu_ns: u64,
    /// Off-CPU until then.
    pub off_cpu_ns: u64,
    /// Run-queue wait until then.
    pub run_queue_ns: u64,
}

/// Where the wall time between two readings went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Split {
    /// Wall time.
    pub wall_ns: u64,
    /// Running.
    pub on_cpu_ns: u64,
    /// Asleep in the kernel.
    pub off_cpu_ns: u64,
    /// Runnable without a CPU.
    pub run_queue_ns: u64,
}

impl Clock {
    /// A clock that starts now; `charged_ns` is the kernel's account of the thread so far.
    #[inline(always)]
    pub fn starting(now_ns: u64, state: u32, charged_ns: u64) -> Clock {
        Clock {
            state,
            since_at_ns: now_ns,
            charged_first_ns: charged_ns,
            charged_last_ns: charged_ns,
            ..Clock::default()
        }
    }

    /// A program runs on the thread before any event was heard of it: its time counts from now on.
    /// What it did until then stays unknown; it may have slept before we could see it. So each poll that
    /// begins in this time begins anew: a sleep before it is not taken for one in it.
    #[inline(always)]
    pub fn met_running(&mut self, now_ns: u64) {
        self.turn(now_ns, state::UNKNOWN, state::MET_RUNNING);
    }

    /// A program runs on the thread, and the scheduler said last that it does not: the switch that gave it
    /// its CPU was not heard, maybe the wakeup before it neither. How long it has run is what the kernel
    /// has charged it with since; `charged_ns` may be behind by up to a tick. Says how long it had been as
    /// the scheduler said last, if that is so.
    #[inline(always)]
    pub fn found_running(&mut self, now_ns: u64, charged_ns: u64) -> Option<u64> {
        if self.state != state::OFF_CPU && self.state != state::RUNNABLE {
            return None;
        }
        let ran_ns = charged_ns.saturating_sub(self.charged_last_ns);
        let in_at_ns = now_ns.saturating_sub(ran_ns);
        let in_at_ns = if in_at_ns < self.since_at_ns { self.since_at_ns } else { in_at_ns };
        let before_ns = in_at_ns - self.since_at_ns;
        self.turn(in_at_ns, self.state, state::ON_CPU);
        Some(before_ns)
    }

    /// The thread gets a CPU, and the scheduler said last that it has one: the switch that took it away was
    /// not heard. When that was tells what the kernel has charged it with until then. Says whether it is so.
    #[inline(always)]
    pub fn found_away(&mut self, now_ns: u64, charged_ns: u64) -> bool {
        if self.state != state::ON_CPU {
            return false;
        }
        let ran_ns = charged_ns.saturating_sub(self.charged_last_ns);
        let out_at_ns = self.since_at_ns + ran_ns;
        let out_at_ns = if out_at_ns > now_ns { now_ns } else { out_at_ns };
        self.charged_last_ns = charged_ns;
        self.turn(out_at_ns, state::ON_CPU, state::OFF_CPU);
        true
    }

    /// The thread gets a CPU.
    #[inline(always)]
    pub fn switch_in(&mut self, now_ns: u64) {
        // Whatever was unknown before, the thread did not run; that it was not woken in our sight
        // says that it slept.
        let was = match self.state {
            state::RUNNABLE => state::RUNNABLE,
            _ => state::OFF_CPU,
        };
        self.turn(now_ns, was, state::ON_CPU);
    }

    /// The thread leaves its CPU; `charged_ns` is the kernel's account of it.
    #[inline(always)]
    pub fn switch_out(&mut self, now_ns: u64, leave: Leave, charged_ns: u64) {
        let next = match leave {
            Leave::Runnable => state::RUNNABLE,
            Leave::Asleep => state::OFF_CPU,
            Leave::Exited => state::EXITED,
        };
        self.charged_last_ns = charged_ns;
        self.turn(now_ns, state::ON_CPU, next);
    }

    /// The thread becomes runnable. Of a running thread this says nothing: the wakeup came before
    /// it had left its CPU.
    #[inline(always)]
    pub fn wake(&mut self, now_ns: u64) {
        if self.state == state::OFF_CPU || self.state == state::UNKNOWN {
            self.turn(now_ns, state::OFF_CPU, state::RUNNABLE);
        }
    }

    /// The thread's times up to `now_ns`, by the state that the scheduler told last.
    #[inline(always)]
    pub fn read(&self, now_ns: u64) -> Reading {
        self.read_as(now_ns, self.state)
    }

    /// The same where the reader knows better what the thread has been doing since the last event:
    /// a program that runs on it knows that it is on-CPU.
    #[inline(always)]
    pub fn read_as(&self, now_ns: u64, doing: u32) -> Reading {
        // An event may have come after the reader took the time: then the event is the moment, so
        // that the parts still sum up.
        let at_ns = if self.since_at_ns > now_ns { self.since_at_ns } else { now_ns };
        let open_ns = at_ns - self.since_at_ns;
        let mut reading = Reading {
            at_ns,
            on_cpu_ns: self.on_cpu_ns,
            off_cpu_ns: self.off_cpu_ns,
            run_queue_ns: self.run_queue_ns,
        };
        match doing {
            state::ON_CPU => reading.on_cpu_ns += open_ns,
            state::OFF_CPU => reading.off_cpu_ns += open_ns,
            state::RUNNABLE => reading.run_queue_ns += open_ns,
            _ => {}
        }
        reading
    }

    /// CPU time by the kernel's own account since the thread was first seen, up to `now_ns`.
    #[inline(always)]
    pub fn charged_ns(&self, now_ns: u64, doing: u32) -> u64 {
        let closed_ns = self.charged_last_ns.saturating_sub(self.charged_first_ns);
        if doing == state::ON_CPU {
            closed_ns + now_ns.saturating_sub(self.since_at_ns)
        } else {
            closed_ns
        }
    }

    #[inline(always)]
    fn turn(&mut self, now_ns: u64, was: u32, next: u32) {
        let closed = self.read_as(now_ns, was);
        // Volatile, so that a reader on another CPU finds `turns` odd while the rest is changing.
        // SAFETY: references to our own field; nothing but the order of stores is at stake.
        unsafe {
            (&raw mut self.turns).write_volatile(self.turns.wrapping_add(1));
            (&raw mut self.state).write_volatile(next);
            (&raw mut self.since_at_ns).write_volatile(now_ns);
            (&raw mut self.on_cpu_ns).write_volatile(closed.on_cpu_ns);
            (&raw mut self.off_cpu_ns).write_volatile(closed.off_cpu_ns);
            (&raw mut self.run_queue_ns).write_volatile(closed.run_queue_ns);
            (&raw mut self.turns).write_volatile(self.turns.wrapping_add(1));
        }
    }
}

impl Reading {
    /// The reading of `span_ns` before, on the same CPU.
    #[inline(always)]
    #[must_use]
    pub fn before(&self, span_ns: u64) -> Reading {
        Reading {
            at_ns: self.at_ns.saturating_sub(span_ns),
            on_cpu_ns: self.on_cpu_ns.saturating_sub(span_ns),
            ..*self
        }
    }

    /// What happened between `earlier` and this.
    #[inline(always)]
    pub fn since(&self, earlier: &Reading) -> Split {
        Split {
            wall_ns: self.at_ns.saturating_sub(earlier.at_ns),
            on_cpu_ns: self.on_cpu_ns.saturating_sub(earlier.on_cpu_ns),
            off_cpu_ns: self.off_cpu_ns.saturating_sub(earlier.off_cpu_ns),
            run_queue_ns: self.run_queue_ns.saturating_sub(earlier.run_queue_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// Plays a timeline, one character a microsecond: `#` running, `r` runnable, `.` asleep, `?`
    /// running before the first event is heard.
    fn play(timeline: &str) -> Clock {
        let mut clock = Clock::starting(0, state::UNKNOWN, 0);
        let mut before = timeline.chars().next().unwrap();
        for (us, c) in timeline.chars().enumerate() {
            let now = us as u64 * 1000;
            match (before, c) {
                ('#' | '?', '.') => clock.switch_out(now, Leave::Asleep, 0),
                ('#' | '?', 'r') => clock.switch_out(now, Leave::Runnable, 0),
                ('.', 'r') => clock.wake(now),
                ('.', '#') => {
                    clock.wake(now);
                    clock.switch_in(now);
                }
                ('r', '#') => clock.switch_in(now),
                _ => {}
            }
            before = c;
        }
        clock
    }

    fn split(timeline: &str) -> (u64, u64, u64) {
        let end = timeline.chars().count() as u64 * 1000;
        let split = play(timeline).read(end).since(&Reading::default());
        let sum = split.on_cpu_ns + split.off_cpu_ns + split.run_queue_ns;
        assert_eq!(sum, split.wall_ns, "the split sums to the wall time of {timeline}");
        (split.on_cpu_ns / 1000, split.off_cpu_ns / 1000, split.run_queue_ns / 1000)
    }

    #[test]
    fn timelines_split_into_running_asleep_and_waiting() {
        assert_eq!(split("####....rr##"), (6, 4, 2));
        assert_eq!(split("??..##"), (4, 2, 0));
        assert_eq!(split("....rrr###"), (3, 4, 3));
        assert_eq!(split("##rrrr##rr"), (4, 0, 6), "a stretch that still runs counts up to now");
        assert_eq!(split("#...."), (1, 4, 0));
    }

    #[test]
    fn random_timelines_always_sum_up() {
        let mut seed = 7u64;
        for _ in 0..2000 {
            let mut timeline = Vec::new();
            let mut doing = '#';
            for _ in 0..40 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                doing = match (doing, (seed >> 33) % 4) {
                    ('#', 0) => '.',
                    ('#', 1) | ('.', 0) => 'r',
                    ('r', 0 | 1) | ('.', 1) => '#',
                    (same, _) => same,
                };
                timeline.push(doing);
            }
            // Only a timeline that has had an event has a known state at its end.
            if timeline.iter().any(|c| *c != '#') {
                split(&timeline.iter().collect::<std::string::String>());
            }
        }
    }

    #[test]
    fn a_time_taken_before_the_last_event_still_sums_up() {
        let clock = play("##..##");
        let late = clock.read(3000).since(&Reading::default());
        assert_eq!(late.on_cpu_ns + late.off_cpu_ns + late.run_queue_ns, late.wall_ns);
    }

    #[test]
    fn nothing_is_claimed_of_a_thread_not_heard_of() {
        let clock = Clock::starting(0, state::UNKNOWN, 0);
        let split = clock.read(5000).since(&Reading::default());
        assert_eq!((split.on_cpu_ns, split.off_cpu_ns, split.run_queue_ns), (0, 0, 0));
        let known = clock.read_as(5000, state::ON_CPU).since(&Reading::default());
        assert_eq!(known.on_cpu_ns, 5000);
    }

    #[test]
    fn a_sleep_that_began_unseen_still_sums_up() {
        let mut clock = Clock::starting(0, state::UNKNOWN, 0);
        clock.met_running(2000);
        let enter = clock.read(2000);
        // It went to sleep at 3000, before the scheduler's programs were attached.
        clock.switch_in(9000);
        let split = clock.read(10_000).since(&enter);
        assert_eq!((split.on_cpu_ns, split.off_cpu_ns, split.wall_ns), (1000, 7000, 8000));
    }

    #[test]
    fn a_poll_met_later_has_nothing_of_what_was_unseen_before() {
        let mut clock = Clock::starting(0, state::UNKNOWN, 0);
        clock.met_running(2000);
        // Another poll, after a sleep that nobody saw.
        clock.met_running(50_000);
        let enter = clock.read(50_000);
        clock.switch_in(53_000);
        let split = clock.read(54_000).since(&enter);
        assert_eq!((split.on_cpu_ns, split.off_cpu_ns, split.wall_ns), (1000, 3000, 4000));
    }

    #[test]
    fn a_sleep_that_began_unseen_is_never_taken_for_running() {
        let mut clock = Clock::starting(0, state::UNKNOWN, 700);
        clock.met_running(2000);
        // A program that runs on the thread knows better; anybody else has to ask.
        assert!(state::is_unheard(clock.state));
        assert_eq!(clock.read_as(2500, state::ON_CPU).on_cpu_ns, 500);
        // It went to sleep at 3000, and has not been woken yet.
        assert_eq!(clock.read(90_000).on_cpu_ns, 0);
        assert_eq!(clock.charged_ns(90_000, clock.state), 0);
        clock.switch_in(100_000);
        assert!(!state::is_unheard(clock.state));
        assert_eq!((clock.on_cpu_ns, clock.off_cpu_ns), (0, 98_000));
    }

    #[test]
    fn a_wakeup_of_a_running_thread_changes_nothing() {
        let mut clock = play("..##");
        let before = clock;
        clock.wake(9000);
        assert_eq!(clock, before);
    }

    #[test]
    fn a_late_stamp_never_makes_time() {
        let mut clock = play("..##");
        clock.switch_out(1, Leave::Asleep, 0);
        assert_eq!(clock.read(1).on_cpu_ns, 0);
    }

    #[test]
    fn the_kernels_own_account_runs_along() {
        let mut clock = Clock::starting(1000, state::UNKNOWN, 500);
        assert_eq!(clock.charged_ns(1000, state::OFF_CPU), 0);
        clock.switch_in(2000);
        assert_eq!(clock.charged_ns(2300, clock.state), 300, "running: up to now");
        clock.switch_out(3000, Leave::Asleep, 1520);
        assert_eq!(clock.charged_ns(9000, clock.state), 1020);
    }

    #[test]
    fn a_switch_that_was_not_heard_is_made_up_for() {
        let mut clock = Clock::starting(0, state::UNKNOWN, 100);
        clock.switch_in(0);
        clock.switch_out(1_000, Leave::Asleep, 1_100);
        assert!(!clock.found_away(1_000, 1_100), "it was heard");
        // It slept until 81,000 and runs since then, and nobody said so.
        assert_eq!(clock.found_running(81_300, 1_400), Some(80_000));
        assert_eq!(clock.found_running(81_400, 1_400), None, "once");
        let split = clock.read(81_300).since(&Reading { at_ns: 0, ..Reading::default() });
        assert_eq!((split.on_cpu_ns, split.off_cpu_ns), (1_300, 80_000));
        // It sleeps from 82,000 on, unheard, and gets its CPU at 90,000.
        assert!(clock.found_away(90_000, 2_100));
        clock.switch_in(90_000);
        let split = clock.read(90_000).since(&Reading { at_ns: 0, ..Reading::default() });
        assert_eq!((split.on_cpu_ns, split.off_cpu_ns), (2_000, 88_000));
        assert_eq!(split.wall_ns, split.on_cpu_ns + split.off_cpu_ns);
    }

    #[test]
    fn an_account_that_says_too_much_moves_no_time_before_the_last_event() {
        let mut clock = Clock::starting(0, state::UNKNOWN, 0);
        clock.switch_in(0);
        clock.switch_out(1_000, Leave::Runnable, 1_000);
        assert_eq!(clock.found_running(1_500, 9_000), Some(0));
        assert!(clock.found_away(2_000, 99_000));
        assert_eq!(clock.read(2_000).on_cpu_ns, 2_000);
    }

    #[test]
    fn turns_are_even_between_changes() {
        assert_eq!(play("##..##r##").turns % 2, 0);
    }
}
