//! How polls are accounted now, and how one way follows the other.
//!
//! Sessions' counters are one book, written by the programs at the sites, or by samples. From exact to sampled:
//! the programs are told to stop, what was open is charged, the threads' polls go on being followed from outside,
//! and the probes are taken off. From sampled to exact: the probes are put on, told to account, and each thread's
//! next poll is theirs; the one that it is in is followed to its end by samples. So no time is counted twice,
//! none is left out but what samples cannot tell, and a stall that goes on over a change goes on.

use std::{
    collections::HashMap,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use openrtc_common::{
    account::Reading,
    config::Settings,
    poll::Charge,
    thread::{SiteHits, Thread, role},
};

use super::{
    Now, Profiler,
    governor::{Count, Governor},
    pairing::AtAttach,
    sampled::{Carried, Found, News, Sampled, Subject},
};
use crate::{
    bpf::{Busiest, Kernel, Onlooker, Place, Programs, SitePoint},
    cpython::{Around, PyThread, memory::RemoteAddr},
    model::{Fact, Mode, ModeChange, Reason, Sampling},
    worker::Interpreter,
};

/// A poll that has gone on for longer is let end before the mode changes to exact.
const SHORT_POLL_NS: u64 = 5_000_000;
/// A program at a site that has begun is over after this.
const PROGRAM: Duration = Duration::from_millis(1);

/// What one run of a program at a site takes, until that was measured: nanoseconds.
const RUN_NS: f64 = 350.0;

/// The probes at the sites.
enum Probes {
    /// None is there.
    Off,
    /// They are being put on.
    Attaching(JoinHandle<Result<()>>),
    /// All are there; unless they account, a moment without a long poll is waited for.
    On,
    /// They are being taken off.
    Detaching(JoinHandle<()>),
}

/// How polls are accounted.
pub(super) struct Modes {
    pub(super) mode: Mode,
    governor: Governor,
    /// Why it is what it is, or is to be.
    reason: Reason,
    /// Changes that nobody has asked for yet.
    untold: Vec<ModeChange>,
    sampled: Option<Sampled>,
    /// A sampler that has been told to end.
    ending: Option<JoinHandle<Onlooker>>,
    probes: Probes,
    /// Traps that probes have cost while they did not account.
    idle_traps: u64,
    /// Where the probes go.
    points: Vec<SitePoint>,
    now: fn() -> Now,
    /// Since when it is as it is.
    since_ns: u64,
    /// Of times before.
    before: Sampling,
    /// Squared standard errors by slot, with what tells this use of the slot from others.
    variances: HashMap<u32, (u64, f64)>,
    carried: Carried,
}

/// Has the programs at the sites account, or not.
pub(super) fn account(settings: &mut Settings, accounts: bool, interpreter: &Interpreter) {
    settings.accounts = u64::from(accounts);
    // Without a probe at it nobody knows of a variable that is set.
    settings.remembers = u64::from(accounts && interpreter.changes_are_seen);
}

/// What a poll costs with probes: two traps, and two runs of what stands there.
pub(super) fn poll_ns(trap_ns: u64, run_ns: Option<f64>) -> f64 {
    2.0 * (trap_ns as f64 + run_ns.unwrap_or(RUN_NS))
}

impl Modes {
    /// As the governor has it, with probes at these places, if it has any.
    pub(super) fn new(
        governor: Governor,
        reason: Reason,
        points: Vec<SitePoint>,
        now: fn() -> Now,
    ) -> Modes {
        let mode = governor.mode();
        Modes {
            mode,
            governor,
            reason,
            untold: Vec::new(),
            sampled: None,
            ending: None,
            probes: if mode == Mode::Exact { Probes::On } else { Probes::Off },
            idle_traps: 0,
            points,
            now,
            since_ns: 0,
            before: Sampling::default(),
            variances: HashMap::new(),
            carried: Carried::default(),
        }
    }

    /// What samples have brought by now.
    pub(super) fn sampling(&self, now_ns: u64) -> Sampling {
        let mut all = self.before.clone();
        if self.mode == Mode::Sampled {
            all.sampled_ns += now_ns.saturating_sub(self.since_ns);
        }
        if let Some(sampled) = &self.sampled {
            all.samples += sampled.samples;
            all.polls += sampled.polls();
        }
        all.variances =
            self.variances.iter().map(|(slot, (_, variance))| (*slot, *variance)).collect();
        all
    }

    /// Makes of a thread's account what it would be if probes had been at its polls all the time.
    pub(super) fn complete(&self, slot: u32, thread: &mut Thread) {
        if let Some(sampled) = &self.sampled {
            sampled.complete(slot, thread);
        }
        thread.polls.on_cpu_ns += self.carried.of(slot);
    }

    /// The thread in this slot is gone.
    pub(super) fn forget(&mut self, slot: u32) {
        if let Some(sampled) = &mut self.sampled {
            sampled.forget(slot);
        }
        self.carried.forget(slot);
    }

    /// The longest poll that has ended since the last time, of those that were sampled.
    pub(super) fn take_longest_ns(&mut self) -> u64 {
        self.sampled.as_mut().map_or(0, Sampled::take_longest_ns)
    }

    /// Whether polls are sampled, now or to their end.
    pub(super) fn samples(&self) -> bool {
        self.sampled.is_some()
    }

    fn add_variances(&mut self, variances: Vec<(u32, f64)>, kernel: &Kernel) {
        for (slot, variance) in variances {
            let first_at_ns = kernel.session(slot).map_or(0, |it| it.counters.first_at_ns);
            let known = self.variances.entry(slot).or_default();
            if known.0 != first_at_ns {
                *known = (first_at_ns, 0.0);
            }
            known.1 += variance;
        }
    }
}

impl Profiler {
    /// Takes in what samples have brought; whether a stall has ended.
    pub(super) fn take_sampled(&mut self, now: Now) -> bool {
        let Some(sampled) = &mut self.modes.sampled else { return false };
        let before = sampled.polls();
        let News { ends, lost, late, unreadable, around } = sampled.take(
            &mut self.kernel,
            &mut self.modes.carried,
            self.settings.stall_threshold_ns,
        );
        if !matches!(self.modes.probes, Probes::Off) && self.modes.mode == Mode::Sampled {
            self.modes.idle_traps += 2 * (sampled.polls() - before);
        }
        let missed =
            [("samples", lost), ("samples_late", late), ("samples_unreadable", unreadable)];
        for (cause, count) in missed {
            if count > 0 {
                self.ledger.take(Fact::Lost(cause, count));
            }
        }
        for (slot, at) in around {
            self.tell_base(slot, at);
        }
        for end in &ends {
            self.end_stall(end, Mode::Sampled, now);
        }
        if self.modes.mode == Mode::Exact
            && let Some(sampled) = &mut self.modes.sampled
        {
            sampled.wind_up(&self.kernel, self.modes.since_ns);
            if sampled.is_over() {
                self.stop_sampler();
            }
        }
        !ends.is_empty()
    }

    /// Shares out what has been used by now.
    pub(super) fn share_out(&mut self, now: Now) {
        let Some(sampled) = &mut self.modes.sampled else { return };
        let variances = sampled.share_out(&self.kernel, &mut self.modes.carried, now.monotonic_ns);
        self.modes.add_variances(variances, &self.kernel);
    }

    /// A context in which others are entered is the loop's own if it holds no tag.
    fn tell_base(&mut self, slot: u32, at: RemoteAddr) {
        let Some(var) = self.vars.tag else { return };
        if self.python.value(at, var) == Ok(None)
            && let Some(sampled) = &mut self.modes.sampled
        {
            sampled.add_base(slot, at, &self.kernel);
        }
    }

    /// Samples follow these threads from now on, if polls are sampled.
    pub(super) fn follow_threads(&mut self, threads: &[PyThread]) {
        if self.modes.mode != Mode::Sampled {
            return;
        }
        let slots: HashMap<u32, (u32, bool)> = self
            .kernel
            .threads()
            .map(|(slot, thread)| (thread.tid, (slot, thread.role == role::LOOP)))
            .collect();
        let found = threads.iter().filter_map(|thread| {
            let (slot, is_loop) = *slots.get(&thread.tid)?;
            let is_loop = is_loop || thread.runs_loop();
            let is_uvloop = thread.running_loop.as_ref().is_some_and(|it| it.package() == "uvloop");
            let of_thread = if is_loop { self.context_of_thread(thread) } else { 0 };
            let subject = Subject { slot, state: thread.state, is_loop, bases: [of_thread, 0] };
            let words_at = self.python.context_words_at(thread.state);
            Some(Found { tid: thread.tid, subject, words_at, has_bases: is_uvloop })
        });
        let found = found.collect();
        let Some(sampled) = &mut self.modes.sampled else { return };
        sampled.follow(&self.kernel, found, self.vars.tag);
    }

    /// The context that a whole thread runs in, from 3.14 on: its outermost; 0 where there is none.
    fn context_of_thread(&self, thread: &PyThread) -> u64 {
        let is_first = thread.tid == self.pid();
        if is_first || self.python.kernel_layout().threads_in_context == 0 {
            return 0;
        }
        let entered = self.python.entered(thread);
        entered.and_then(|entered| entered.contexts.first().copied()).unwrap_or(0)
    }

    /// Begins to sample.
    fn start_sampler(&mut self) -> Result<()> {
        // What goes on to its end from the time before ends here.
        self.stop_sampler();
        if let Some(looks) = self.modes.ending.take() {
            let onlooker = looks.join().map_err(|_| anyhow!("the sampler's thread has failed"))?;
            self.kernel.keep(onlooker);
        }
        let onlooker = self.kernel.onlooker().context("somebody samples already")?;
        let now = self.modes.now;
        let rate_hz = self.target.accounting.sample_rate_hz;
        let sampled = Sampled::start(onlooker, self.python.clone(), rate_hz, now)?;
        self.modes.sampled = Some(sampled);
        self.modes.mode = Mode::Sampled;
        self.modes.since_ns = now().monotonic_ns;
        Ok(())
    }

    fn stop_sampler(&mut self) {
        let Some(sampled) = self.modes.sampled.take() else { return };
        self.modes.before.samples += sampled.samples;
        self.modes.before.polls += sampled.polls();
        self.modes.ending = sampled.end(&self.kernel);
    }

    /// Begins to account, by what is there.
    pub(super) fn start_accounting(&mut self) -> Result<()> {
        if self.modes.mode == Mode::Sampled {
            self.start_sampler()?;
        }
        self.tell_mode();
        Ok(())
    }

    /// Tells how polls are accounted from now on.
    fn tell_mode(&mut self) {
        let Modes { mode, reason, .. } = self.modes;
        let at_unix_ns = (self.modes.now)().unix_ns;
        let change = ModeChange { at_unix_ns, mode, reason };
        self.modes.untold.push(change);
        self.ledger.take(Fact::Mode(change));
    }

    /// Changes of the mode since the last time, the attach included.
    pub fn take_mode_changes(&mut self) -> Vec<ModeChange> {
        std::mem::take(&mut self.modes.untold)
    }

    /// Keeps the budget: to be called after each [`Self::drain`], [`Self::watch`] and [`Self::survey`].
    ///
    /// # Errors
    /// Where a thread cannot be started that is needed for a change: then polls are not accounted any more.
    pub fn govern(&mut self, now: Now) -> Result<()> {
        self.tend_probes();
        if self.modes.governor.is_auto() {
            let poll_ns = self.poll_ns();
            let hits: Vec<_> =
                self.kernel.threads().map(|(slot, thread)| (slot, thread.hits)).collect();
            let count = self.count(&hits, now);
            if let Some((_, reason)) = self.modes.governor.tick(count, poll_ns) {
                self.modes.reason = reason;
            }
            self.want_calls(&hits, poll_ns);
        }
        match (self.modes.governor.mode(), self.modes.mode, &self.modes.probes) {
            (Mode::Sampled, Mode::Exact, _) => self.change_to_sampled()?,
            (Mode::Sampled, Mode::Sampled, Probes::Attaching(_)) => self.kernel.sites().give_up(),
            (Mode::Sampled, Mode::Sampled, Probes::On) => self.detach_sites()?,
            (Mode::Exact, Mode::Sampled, Probes::Off) => self.attach_sites()?,
            (Mode::Exact, Mode::Sampled, Probes::On) => self.change_when_quiet(now),
            _ => {}
        }
        Ok(())
    }

    /// Takes in what has become of the work at the sites.
    fn tend_probes(&mut self) {
        let probes = std::mem::replace(&mut self.modes.probes, Probes::Off);
        self.modes.probes = match probes {
            Probes::Attaching(work) if work.is_finished() => match work.join() {
                Ok(Ok(())) => Probes::On,
                _ if self.modes.governor.mode() == Mode::Sampled => Probes::Off,
                _ => {
                    self.modes.governor.refused((self.modes.now)().monotonic_ns);
                    self.modes.reason = Reason::Refused;
                    self.tell_mode();
                    Probes::Off
                }
            },
            Probes::Detaching(work) if work.is_finished() => Probes::Off,
            other => other,
        };
    }

    /// What a poll costs with probes.
    fn poll_ns(&self) -> f64 {
        poll_ns(self.settings.trap_ns, self.costs.run_ns().site)
    }

    fn count(&self, hits: &[(u32, SiteHits)], now: Now) -> Count {
        let pair_ns = self.poll_ns();
        let enters = hits.iter().map(|(_, at)| at.enters()).sum::<u64>();
        let exits = hits.iter().map(|(_, at)| at.run_exits + at.context_exits).sum::<u64>();
        let hits = self.kernel.var_changes() + enters + exits;
        let sampled =
            self.modes.before.polls + self.modes.sampled.as_ref().map_or(0, Sampled::polls);
        let idle_ns = self.modes.idle_traps as f64 * self.settings.trap_ns as f64;
        Count {
            at_ns: now.monotonic_ns,
            polls: enters + sampled,
            spent_ns: hits as f64 * pair_ns / 2.0 + idle_ns,
        }
    }

    /// Wants to be called before the polls of any thread have cost what may be spent.
    fn want_calls(&self, hits: &[(u32, SiteHits)], poll_ns: f64) {
        let Some(left) = self.modes.governor.polls_left(poll_ns) else { return };
        for (slot, at) in hits {
            self.kernel.call_at(*slot, at.enters() + left + 1);
        }
    }

    fn set_accounting(&mut self, accounts: bool) {
        account(&mut self.settings, accounts, &self.interpreter);
        self.settings.forgotten += 1;
        self.kernel.set(&self.settings);
    }

    /// From probes to samples.
    fn change_to_sampled(&mut self) -> Result<()> {
        self.set_accounting(false);
        thread::sleep(PROGRAM);
        let closed = self.close_polls();
        self.start_sampler()?;
        self.find_loops();
        for (slot, thread, reading) in &closed {
            self.resume_poll(*slot, thread, *reading);
        }
        self.tell_mode();
        self.detach_sites()
    }

    fn detach_sites(&mut self) -> Result<()> {
        let sites = self.kernel.sites().clone();
        let hits = self.kernel.threads().map(|(_, thread)| thread.hits);
        let (run, context) = hits.fold((0, 0), |(run, context), hits| {
            (run + hits.run_enters, context + hits.context_enters)
        });
        let busiest = if context > run { Busiest::Context } else { Busiest::Run };
        let work = thread::Builder::new().spawn(move || sites.detach(busiest));
        self.modes.probes = Probes::Detaching(work.context("cannot start a thread")?);
        Ok(())
    }

    /// Begins to put on the probes: the change itself comes later.
    fn attach_sites(&mut self) -> Result<()> {
        let (sites, points) = (self.kernel.sites().clone(), self.modes.points.clone());
        let work = thread::Builder::new().spawn(move || sites.attach(Programs::Exact, &points));
        self.modes.probes = Probes::Attaching(work.context("cannot start a thread")?);
        Ok(())
    }

    /// The probes are on. A poll that has gone on for long is let end first.
    fn change_when_quiet(&mut self, now: Now) {
        let oldest_ns =
            self.modes.sampled.as_ref().map_or(0, |it| it.oldest_poll_ns(now.monotonic_ns));
        if oldest_ns < SHORT_POLL_NS {
            self.change_to_exact();
        }
    }

    /// From samples to probes, which are on.
    fn change_to_exact(&mut self) {
        let now = (self.modes.now)();
        self.take_sampled(now);
        self.share_out(now);
        self.kernel.find_threads();
        let threads: Vec<_> = self.kernel.threads().collect();
        for (slot, thread) in threads {
            self.kernel.close_polls(slot, thread.polls.on_cpu_ns);
        }
        self.at_attach = AtAttach::of(self.kernel.threads());
        self.set_accounting(true);
        let now = (self.modes.now)();
        self.modes.mode = Mode::Exact;
        self.modes.before.sampled_ns += now.monotonic_ns.saturating_sub(self.modes.since_ns);
        self.modes.since_ns = now.monotonic_ns;
        self.tell_mode();
    }

    /// Charges what is open on each thread, and forgets that it is; the threads as they were, and their clocks.
    fn close_polls(&mut self) -> Vec<(u32, Thread, Reading)> {
        self.kernel.find_threads();
        let now_ns = (self.modes.now)().monotonic_ns;
        let threads = self.kernel.threads().map(|(slot, thread)| {
            let reading = thread.clock.read(now_ns);
            (slot, thread, reading)
        });
        let threads: Vec<_> = threads.collect();
        for (slot, thread, reading) in &threads {
            let polls = &thread.polls;
            let open = polls.open_span(reading);
            if let Some(Charge { slot: session, split }) = &open {
                if thread.role == role::LOOP {
                    self.kernel.credit_cpu(*session, Place::Loop, split.on_cpu_ns, now_ns);
                    self.kernel.credit_waits(*session, split);
                } else {
                    self.kernel.credit_cpu(*session, Place::Offloaded, split.on_cpu_ns, now_ns);
                }
            }
            let open_ns = open.map_or(0, |open| open.split.on_cpu_ns);
            self.kernel.close_polls(*slot, polls.on_cpu_ns + open_ns);
        }
        threads
    }

    /// A poll that probes have followed goes on.
    fn resume_poll(&mut self, slot: u32, before: &Thread, reading: Reading) {
        let Some(state) = self.state_of(before.tid) else { return };
        let Ok(running) = self.python.running(state, None, &Around::default()) else { return };
        if let Some(sampled) = &mut self.modes.sampled
            && !before.polls.is_idle()
        {
            sampled.resume(slot, &before.polls, &running, reading, &self.kernel);
        }
    }
}
