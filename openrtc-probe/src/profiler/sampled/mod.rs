//! Accounting without a probe at polls: threads are looked at many times a second.
//!
//! What is exact stays exact: how long a thread ran, waited and slept the scheduler tells, and for whom it
//! waited or slept (`openrtc_common::seen`). How its on-CPU time is shared out is told by samples
//! ([`shares`]), and when polls began and ended that were seen at least once ([`track`]).

mod due;
mod sampler;
mod shares;
mod track;

use std::{collections::HashMap, thread::JoinHandle};

use anyhow::Result;
use openrtc_common::{
    account::{Reading, state},
    event::{Event, StallEnd},
    poll::Polls,
    seen::Seen,
    session::UNTAGGED,
    tag::TagText,
    thread::Thread,
};

pub(super) use self::sampler::Subject;
use self::{
    sampler::{Doing, Sample, Sampler},
    shares::{Met, Share, Shares},
    track::{Over, Sight, Track},
};
use super::Now;
use crate::{
    bpf::{Kernel, Onlooker, Place},
    cpython::{Inner, Python, Running, VarAt, memory::RemoteAddr},
};

/// Time that nobody has to charge: it is charged when it is over, or was already.
const CHARGED: Reading =
    Reading { at_ns: u64::MAX, on_cpu_ns: u64::MAX, off_cpu_ns: u64::MAX, run_queue_ns: u64::MAX };

/// A thread, and what can be said of it.
struct Followed {
    tid: u32,
    subject: Subject,
    /// Where its `PyThreadState.context` stands.
    words_at: u64,
    /// Contexts may be entered in one that is no poll.
    has_bases: bool,
    shares: Shares,
    track: Track,
    /// It is followed only to the end of the poll that it is in: the next is the probes'.
    is_last: bool,
}

/// What is new since the last time.
#[derive(Default)]
pub(super) struct News {
    /// Stalls that are over.
    pub(super) ends: Vec<StallEnd>,
    /// Samples that found no room.
    pub(super) lost: u64,
    /// Such as came late by a period or more.
    pub(super) late: u64,
    /// Tags that could not be read.
    pub(super) unreadable: u64,
    /// Contexts in which others were entered, and the slots of their threads: the loops' own, if they have no tag.
    pub(super) around: Vec<(u32, RemoteAddr)>,
}

/// All followed threads of a worker.
pub(super) struct Sampled {
    sampler: Sampler,
    threads: HashMap<u32, Followed>,
    /// Samples that met a thread running.
    pub(super) samples: u64,
    /// Polls that ended on threads that are gone, or not followed any more.
    polls_before: u64,
    longest_ns: u64,
    var: Option<VarAt>,
}

/// On-CPU time of threads that was shared out to sessions, by their slots.
#[derive(Default)]
pub(super) struct Carried(HashMap<u32, u64>);

impl Carried {
    /// What of the thread in this slot was shared out.
    pub(super) fn of(&self, slot: u32) -> u64 {
        self.0.get(&slot).copied().unwrap_or(0)
    }

    /// The thread in this slot is gone.
    pub(super) fn forget(&mut self, slot: u32) {
        self.0.remove(&slot);
    }

    /// Gives sessions their shares of a thread's time.
    fn credit(&mut self, slot: u32, place: Place, shares: &[Share], at_ns: u64, kernel: &Kernel) {
        for share in shares {
            kernel.credit_cpu(share.slot, place, share.on_cpu_ns, at_ns);
            *self.0.entry(slot).or_default() += share.on_cpu_ns;
        }
    }
}

/// Who is to be followed from now on.
pub(super) struct Found {
    /// Its id.
    pub(super) tid: u32,
    /// What to look at.
    pub(super) subject: Subject,
    /// Where its `PyThreadState.context` stands.
    pub(super) words_at: u64,
    /// Whether contexts may be entered in one that is no poll.
    pub(super) has_bases: bool,
}

impl Sampled {
    /// Starts to sample.
    pub(super) fn start(
        onlooker: Onlooker,
        python: Python,
        rate_hz: u32,
        now: fn() -> Now,
    ) -> Result<Sampled> {
        Ok(Sampled {
            sampler: Sampler::start(onlooker, python, rate_hz, now)?,
            threads: HashMap::new(),
            samples: 0,
            polls_before: 0,
            longest_ns: 0,
            var: None,
        })
    }

    /// Ends; its thread gives back what it looked with.
    pub(super) fn end(self, kernel: &Kernel) -> Option<JoinHandle<Onlooker>> {
        self.threads.keys().for_each(|slot| kernel.unwatch_words(*slot));
        self.sampler.end()
    }

    /// Follows these threads, those that it follows already as before, and no others.
    pub(super) fn follow(&mut self, kernel: &Kernel, found: Vec<Found>, var: Option<VarAt>) {
        let stays = |slot: &u32| found.iter().any(|it| it.subject.slot == *slot);
        let gone: Vec<u32> = self.threads.keys().filter(|slot| !stays(slot)).copied().collect();
        for slot in gone {
            self.forget(slot);
        }
        for Found { tid, mut subject, words_at, has_bases } in found {
            let known = self.threads.get_mut(&subject.slot);
            if let Some(known) =
                known.filter(|known| known.tid == tid && known.subject.is_loop == subject.is_loop)
            {
                subject.bases = known.subject.bases;
                known.subject = subject;
                continue;
            }
            if subject.is_loop {
                let unknown = Seen { bases: subject.bases, ..Seen::default() };
                kernel.watch_words(subject.slot, words_at, unknown);
            }
            let on_cpu_ns = kernel.thread(subject.slot).map_or(0, |thread| thread.clock.on_cpu_ns);
            let followed = Followed {
                tid,
                subject,
                words_at,
                has_bases,
                shares: Shares::new(on_cpu_ns),
                track: Track::default(),
                is_last: false,
            };
            self.forget(subject.slot);
            self.threads.insert(subject.slot, followed);
        }
        self.var = var;
        self.tell_sampler(var);
    }

    /// Contexts that are entered in this one are polls, and it is none.
    pub(super) fn add_base(&mut self, slot: u32, at: RemoteAddr, kernel: &Kernel) {
        let Some(followed) = self.threads.get_mut(&slot) else { return };
        let bases = &mut followed.subject.bases;
        if let Some(free) = bases.iter_mut().find(|base| **base == 0) {
            *free = at.0;
            kernel.set_bases(slot, *bases);
            self.tell_sampler(self.var);
        }
    }

    fn tell_sampler(&self, var: Option<VarAt>) {
        let subjects = self.threads.values().map(|followed| followed.subject).collect();
        self.sampler.look_at(subjects, var);
    }

    /// The thread in this slot is not followed any more.
    pub(super) fn forget(&mut self, slot: u32) {
        if let Some(gone) = self.threads.remove(&slot) {
            self.polls_before += gone.track.polls();
        }
    }

    /// A poll that probes have followed until now goes on, of the thread in this slot: at `reading` of its clock it
    /// was in `running`.
    pub(super) fn resume(
        &mut self,
        slot: u32,
        polls: &Polls,
        running: &Running,
        reading: Reading,
        kernel: &Kernel,
    ) {
        let Some(followed) = self.threads.get_mut(&slot) else { return };
        let Some(top) = polls.top().copied() else { return };
        if running.inner.as_ref().is_none_or(|inner| inner.at.0 != top.context) {
            return;
        }
        let (version, inside) = (running.version, Some((top.context, top.slot)));
        followed.track = Track::resume(polls, Sight { reading, version, inside, name: None });
        // So that its waits go on being noted as one poll's; what it waits for now is charged up to here.
        let seen = Seen {
            bases: followed.subject.bases,
            version,
            context: top.context,
            at_ns: polls.poll.at_ns,
            off_cpu_ns: reading.off_cpu_ns,
            run_queue_ns: reading.run_queue_ns,
            slot: top.slot,
            is_known: 1,
            ..Seen::default()
        };
        kernel.watch_words(slot, followed.words_at, seen);
    }

    /// Polls that have ended since the start.
    pub(super) fn polls(&self) -> u64 {
        self.polls_before + self.threads.values().map(|it| it.track.polls()).sum::<u64>()
    }

    /// The longest poll since the last time.
    pub(super) fn take_longest_ns(&mut self) -> u64 {
        std::mem::take(&mut self.longest_ns)
    }

    /// How long the oldest poll that goes on has gone on by now.
    pub(super) fn oldest_poll_ns(&self, now_ns: u64) -> u64 {
        let since = self.threads.values().filter_map(|it| it.track.open_since_ns());
        since.min().map_or(0, |since_ns| now_ns.saturating_sub(since_ns))
    }

    /// Takes in the samples that wait.
    pub(super) fn take(
        &mut self,
        kernel: &mut Kernel,
        carried: &mut Carried,
        threshold_ns: u64,
    ) -> News {
        let (lost, late) = self.sampler.take_missed();
        let mut news = News { lost, late, ..News::default() };
        for sample in self.sampler.take() {
            let Some(followed) = self.threads.get_mut(&sample.slot) else { continue };
            let met = followed.meet(&sample, kernel, &mut news);
            if let Some(met) = met.filter(|_| sample.met_it_running()) {
                self.samples += 1;
                followed.shares.meet(met);
            }
            for over in followed.see(&sample, met) {
                kernel.credit_length(over.ended.slot, over.length_ns());
                self.longest_ns = self.longest_ns.max(over.length_ns());
                if over.at_most_ns >= threshold_ns {
                    kernel.credit_stall(over.ended.slot);
                    let event = Event::stall_end(followed.tid, &over.ended);
                    news.ends.push(StallEnd { event, waits: over.waits });
                }
                if followed.is_last {
                    self.let_go(sample.slot, &over, kernel, carried);
                    break;
                }
            }
        }
        news
    }

    /// Since `flip_ns` probes follow all polls, but those that went on then: who is in none of those is let go.
    pub(super) fn wind_up(&mut self, kernel: &Kernel, flip_ns: u64) {
        let mut over = Vec::new();
        for (slot, followed) in &mut self.threads {
            let is_in_poll = followed.track.open_since_ns().is_some_and(|since| since <= flip_ns);
            let is_theirs = kernel.thread(*slot).is_none_or(|it| !it.polls.is_idle());
            let was_seen = followed.track.last_at_ns() > flip_ns;
            if !followed.subject.is_loop || is_theirs || (was_seen && !is_in_poll) {
                over.push(*slot);
            }
            followed.is_last = true;
        }
        for slot in &over {
            kernel.unwatch_words(*slot);
            self.forget(*slot);
        }
        if !over.is_empty() {
            self.tell_sampler(self.var);
        }
    }

    /// Whether there is nobody left to follow.
    pub(super) fn is_over(&self) -> bool {
        self.threads.is_empty()
    }

    /// The last poll that this thread was followed for is over.
    fn let_go(&mut self, slot: u32, over: &Over, kernel: &Kernel, carried: &mut Carried) {
        kernel.unwatch_words(slot);
        let Some(followed) = self.threads.get_mut(&slot) else { return };
        let shares = followed.shares.close(over.at.on_cpu_ns);
        carried.credit(slot, Place::Loop, &shares, over.at.at_ns, kernel);
        self.forget(slot);
        self.tell_sampler(self.var);
    }

    /// Shares out what has been used by now; the squared standard errors of what each session's slot got.
    pub(super) fn share_out(
        &mut self,
        kernel: &Kernel,
        carried: &mut Carried,
        now_ns: u64,
    ) -> Vec<(u32, f64)> {
        let mut variances = Vec::new();
        // Who is followed to the end of a poll gets what is its own when it is over.
        for (slot, followed) in self.threads.iter_mut().filter(|(_, it)| !it.is_last) {
            let Some(thread) = kernel.thread(*slot) else { continue };
            let place = if followed.subject.is_loop { Place::Loop } else { Place::Offloaded };
            let shares = followed.shares.close(thread.clock.read(now_ns).on_cpu_ns);
            carried.credit(*slot, place, &shares, now_ns, kernel);
            variances.extend(shares.iter().map(|share| (share.slot, share.variance)));
        }
        variances
    }

    /// Makes of a thread's account what it would be with probes at its polls.
    pub(super) fn complete(&self, slot: u32, thread: &mut Thread) {
        let Some(followed) = self.threads.get(&slot).filter(|it| it.tid == thread.tid) else {
            return;
        };
        if !followed.subject.is_loop || !thread.polls.is_idle() {
            return;
        }
        let seen = &thread.seen;
        let is_away = matches!(thread.clock.state, state::OFF_CPU | state::RUNNABLE);
        let span = if is_away && seen.is_known != 0 && seen.context != 0 {
            // What it waits for now is charged when it comes back.
            Reading {
                at_ns: seen.left_at_ns,
                off_cpu_ns: seen.off_cpu_ns,
                run_queue_ns: seen.run_queue_ns,
                ..CHARGED
            }
        } else {
            CHARGED
        };
        let on_cpu_ns = thread.polls.on_cpu_ns;
        thread.polls = Polls { on_cpu_ns, ..followed.track.polls_since(&span) };
        thread.waits = followed.track.waits(&thread.waits);
    }
}

impl Followed {
    /// What a sample met, if that was read, or is known of what it left. Of what cannot be read nothing is said:
    /// its share goes to all others.
    fn meet(&mut self, sample: &Sample, kernel: &mut Kernel, news: &mut News) -> Option<Met> {
        match &sample.doing {
            Doing::Runs(running) | Doing::Still(running) => match &running.inner {
                None => Some(Met::Outside),
                Some(inner) => self.session_in(inner, sample.at_ns, kernel, news),
            },
            Doing::HasLeft if sample.seen.is_known != 0 => Some(match sample.seen.context {
                0 => Met::Outside,
                _ => Met::Session(sample.seen.slot),
            }),
            Doing::HasLeft | Doing::Waits => None,
        }
    }

    fn session_in(
        &mut self,
        inner: &Inner,
        at_ns: u64,
        kernel: &mut Kernel,
        news: &mut News,
    ) -> Option<Met> {
        let is_within = inner.within.0 != 0 && !self.subject.bases.contains(&inner.within.0);
        if self.has_bases && is_within {
            news.around.push((self.subject.slot, inner.within));
        }
        match &inner.tag {
            Ok(Some(tag)) => Some(Met::Session(slot_of(kernel, tag, inner.at.0, at_ns))),
            Ok(None) => Some(Met::Session(UNTAGGED)),
            Err(_) => {
                news.unreadable += 1;
                None
            }
        }
    }

    /// The polls that are over by this sample.
    fn see(&mut self, sample: &Sample, met: Option<Met>) -> Vec<Over> {
        if !self.subject.is_loop {
            return Vec::new();
        }
        let mut all_over = Vec::new();
        for sight in sights(sample, met, self.track.last_at_ns()) {
            all_over.extend(self.track.see(sight));
            if let Some(waits) = &sample.waits {
                self.track.note(waits);
            }
        }
        all_over
    }
}

fn slot_of(kernel: &mut Kernel, tag: &TagText, context: u64, now_ns: u64) -> u32 {
    let known = kernel.slot_of(tag);
    known.or_else(|| kernel.open_session(tag, context, now_ns)).unwrap_or(UNTAGGED)
}

/// What a sample tells of a loop's thread since `last_ns`: as it left its CPU last, as it got one again, and as it
/// is.
fn sights(sample: &Sample, met: Option<Met>, last_ns: u64) -> Vec<Sight> {
    let Sample { at_ns, clock, seen, .. } = sample;
    let mut sights = Vec::new();
    // On a CPU since before it left it: that is being written.
    let is_whole = clock.state != state::ON_CPU || clock.since_at_ns >= seen.left_at_ns;
    if seen.is_known != 0 && is_whole {
        let inside = (seen.context != 0).then_some((seen.context, seen.slot));
        let sight =
            |reading| Sight { reading, version: seen.version, inside, name: Some(seen.at_ns) };
        let left = Reading {
            at_ns: seen.left_at_ns,
            on_cpu_ns: clock.on_cpu_ns,
            off_cpu_ns: seen.off_cpu_ns,
            run_queue_ns: seen.run_queue_ns,
        };
        let until = match clock.state {
            state::ON_CPU => clock.read_as(clock.since_at_ns, state::EXITED),
            _ => clock.read(*at_ns),
        };
        sights.extend([left, until].into_iter().filter(|it| it.at_ns > last_ns).map(sight));
    }
    if let Doing::Runs(running) | Doing::Still(running) = &sample.doing {
        let inside = match (&running.inner, met) {
            (Some(inner), Some(Met::Session(slot))) => Some((inner.at.0, slot)),
            _ => None,
        };
        let reading = clock.read(*at_ns);
        sights.push(Sight { reading, version: running.version, inside, name: None });
    }
    sights
}
