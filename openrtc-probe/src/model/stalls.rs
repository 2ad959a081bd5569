//! Which polls stall: found while they run, settled when they end.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use openrtc_common::{
    account::state,
    event::StallEnd,
    poll::Ended,
    session::UNTAGGED,
    tag::{TagKey, TagText},
    wait::{Key, Registers, Waits},
};

use super::{
    anatomy::{Anatomy, Capture, Late},
    cause::{Causes, Class, GilPlaces},
    fold::Folded,
    look::ThreadLook,
    mode::Mode,
    snapshot::Stall,
};

/// A check may come this much after a poll passed the threshold. The promise is 20 ms; what is
/// left is for the daemon to be scheduled.
const SLACK_NS: u64 = 5_000_000;
/// An ongoing stall whose poll is over but whose end was not delivered is given up after this.
const PATIENCE_NS: u64 = 1_000_000_000;
/// A loop that has not caught up after this is not waited for.
const CATCH_UP_NS: u64 = 1_000_000_000;
/// The second look at a stall comes when it has lasted so many thresholds.
const SECOND_LOOK: u64 = 10;
/// Later looks, each so much after the one before.
const LOOK_EVERY_NS: u64 = 5_000_000_000;

/// A stall with what identifies it.
#[derive(Clone, Debug)]
pub struct Known {
    /// The culprit's tag, `None` if untagged.
    pub key: Option<TagKey>,
    /// That tag; empty if untagged.
    pub tag: TagText,
    /// The stall, without the culprit's id and names.
    pub stall: Stall,
    tid: u32,
    started_at_ns: u64,
    /// What the thread slept for when we came.
    asleep: Option<Key>,
    /// When the next look at its thread is due.
    look_at_ns: u64,
    gone_since_ns: Option<u64>,
}

impl Known {
    /// When its poll began.
    pub fn started_at_ns(&self) -> u64 {
        self.started_at_ns
    }

    /// A sleep that began before we came is one of which the programs have not seen the begin: what they
    /// cannot explain of the poll is that.
    fn explain(&mut self, gil: &GilPlaces) {
        if let Some(key) = &self.asleep {
            self.stall.anatomy.causes.explain(key, gil);
        }
    }
}

/// A look at a stalling thread that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The stall.
    pub stall_id: u64,
    /// Its thread.
    pub tid: u32,
    /// When its poll began.
    pub started_at_ns: u64,
    /// What the thread waits for, if it does not run.
    pub wait: Option<Key>,
    /// What it waited for longest so far of files and sockets.
    pub io: Option<Key>,
    /// The wait for the interpreter's lock that was longest so far.
    pub gil: Option<Key>,
    /// Where in user space it left the CPU, if it does not run.
    pub registers: Option<Registers>,
    /// Changes of its clock so far: as long as they stay so, it does what it did.
    pub turns: u32,
}

/// Numbers for stalls: every worker of a run draws from the same ones.
#[derive(Clone, Debug, Default)]
pub struct StallIds(Arc<AtomicU64>);

impl StallIds {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// A stall that is over and waits for its loop to catch up.
#[derive(Debug)]
struct Settling {
    known: Known,
    ended_at_ns: u64,
    /// Who was polled late behind it, so far; `None` where nobody can tell, because polls are sampled.
    late: Option<u32>,
}

/// All stalls of a worker.
#[derive(Debug)]
pub struct Stalls {
    pid: u32,
    threshold_ns: u64,
    /// Wall clock minus monotonic clock.
    unix_offset_ns: i128,
    ids: StallIds,
    /// Where the interpreter's locks are.
    gil: Vec<std::ops::Range<u64>>,
    ongoing: Vec<Known>,
    settling: Vec<Settling>,
    ended: Folded,
    /// Whose they are that were met since somebody asked, and when they began.
    begun: Vec<(Option<TagKey>, u64)>,
    /// Told, and over without the kernel's word, since somebody asked.
    unheard: Vec<Option<TagKey>>,
    /// How many there were.
    pub count: u64,
    /// Ends that were never delivered.
    pub lost_ends: u64,
}

impl Stalls {
    /// No stalls yet.
    pub fn new(pid: u32, ids: StallIds, threshold_ns: u64, unix_offset_ns: i128) -> Stalls {
        Stalls {
            pid,
            threshold_ns,
            unix_offset_ns,
            ids,
            gil: Vec::new(),
            ongoing: Vec::new(),
            settling: Vec::new(),
            ended: Folded::default(),
            begun: Vec::new(),
            unheard: Vec::new(),
            count: 0,
            lost_ends: 0,
        }
    }

    /// Waits in these places are waits for the interpreter's lock.
    pub fn set_gil(&mut self, places: &GilPlaces) {
        self.gil = places.to_vec();
    }

    /// From now on a poll of so long is a stall. What was told as one stays one to its end.
    pub fn set_threshold(&mut self, threshold_ns: u64) {
        self.threshold_ns = threshold_ns;
    }

    /// The stalls that were met since the last time: whose they are, and when they began.
    pub(super) fn take_begun(&mut self) -> Vec<(Option<TagKey>, u64)> {
        std::mem::take(&mut self.begun)
    }

    /// Whose stalls have ended, since the last time, that the kernel did not count: the threshold was
    /// raised over them while they went on.
    pub(super) fn take_unheard(&mut self) -> Vec<Option<TagKey>> {
        std::mem::take(&mut self.unheard)
    }

    /// Whether the poll of this thread that began then was told as a stall, and goes on.
    pub(super) fn is_told(&self, tid: u32, started_at_ns: u64) -> bool {
        self.find(tid, started_at_ns).is_some()
    }

    /// Looks at the loop threads: the stalls that have passed the threshold since the last time, by
    /// their numbers. Those that still go on are brought up to date.
    pub fn watch(
        &mut self,
        now_ns: u64,
        threads: &[ThreadLook],
        tag_of: impl Fn(u32) -> TagText,
    ) -> Vec<u64> {
        let mut passed = Vec::new();
        let mut running = Vec::new();
        for look in threads.iter().filter(|look| look.is_loop()) {
            let Some(poll) = look.thread.polls.open_poll(&look.reading(now_ns)) else { continue };
            let tid = look.thread.tid;
            running.push((tid, poll.started_at_ns));
            let known_at = self.find(tid, poll.started_at_ns);
            if poll.split.wall_ns < self.threshold_ns && known_at.is_none() {
                continue;
            }
            let tag = tag_of(poll.slot);
            let waits = look.waits(poll.started_at_ns, now_ns);
            let before = known_at.map(|at| self.ongoing.swap_remove(at));
            let is_new = before.is_none();
            let mut known = self.known(before, tid, &poll, &tag, &waits);
            known.asleep = look.asleep.map(|(key, _)| key).or(known.asleep);
            known.explain(&self.gil);
            known.stall.ongoing = true;
            if is_new {
                passed.push(known.stall.stall_id);
            }
            self.ongoing.push(known);
        }
        // In the order in which they were met, whatever was taken out to be brought up to date.
        self.ongoing.sort_by_key(|known| known.stall.stall_id);
        self.give_up(now_ns, &running);
        passed
    }

    /// The looks at stalling threads that are due; each is due once.
    pub fn take_wanted(&mut self, now_ns: u64, threads: &[ThreadLook]) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for known in self.ongoing.iter_mut().filter(|known| known.look_at_ns <= now_ns) {
            let second_ns = known.started_at_ns + SECOND_LOOK * self.threshold_ns;
            let later_ns = now_ns + LOOK_EVERY_NS;
            known.look_at_ns = if now_ns < second_ns { second_ns } else { later_ns };
            // One that is gone is not looked for again and again.
            let Some(look) = threads.iter().find(|look| look.thread.tid == known.tid) else {
                continue;
            };
            let waits_for = look.waits_for(known.started_at_ns);
            wanted.push(Wanted {
                stall_id: known.stall.stall_id,
                tid: known.tid,
                started_at_ns: known.started_at_ns,
                wait: waits_for.map(|(wait, _)| wait),
                io: known.stall.anatomy.causes.longest(Class::Io).map(|wait| wait.key),
                gil: known.stall.anatomy.causes.longest(Class::Gil).map(|wait| wait.key),
                registers: waits_for.map(|(_, registers)| registers),
                turns: look.thread.clock.turns,
            });
        }
        wanted
    }

    /// Takes in a look at an ongoing stall.
    pub fn captured(&mut self, stall_id: u64, capture: Capture) {
        let known = self.ongoing.iter_mut().find(|known| known.stall.stall_id == stall_id);
        if let Some(known) = known {
            known.stall.anatomy.add(capture);
        }
    }

    /// The kernel says that a stall has ended, or samples do. It is kept until its loop has caught up, which probes
    /// can tell.
    pub fn end(&mut self, end: &StallEnd, tag: &TagText, seen_by: Mode) -> u64 {
        let event = &end.event;
        let before =
            self.find(event.tid, event.started_at_ns).map(|index| self.ongoing.swap_remove(index));
        let ended = Ended {
            slot: event.slot,
            seeded: event.seeded != 0,
            started_at_ns: event.started_at_ns,
            split: event.split,
        };
        let ended_at_ns = event.started_at_ns + event.split.wall_ns;
        let waits = end.waits.of(event.started_at_ns, state::ON_CPU, ended_at_ns, ended_at_ns);
        let mut known = self.known(before, event.tid, &ended, tag, &waits);
        known.explain(&self.gil);
        let stall_id = known.stall.stall_id;
        let late = (seen_by == Mode::Exact).then_some(0);
        self.settling.push(Settling { known, ended_at_ns, late });
        stall_id
    }

    /// Takes the stalls that are over and whose loops have caught up, or are not waited for any longer:
    /// with `all` none is. They go to [`Self::list`].
    pub fn settle(&mut self, now_ns: u64, threads: &[ThreadLook], all: bool) -> Vec<Known> {
        let mut settled = Vec::new();
        let mut waiting = Vec::new();
        for mut it in std::mem::take(&mut self.settling) {
            let look = threads.iter().find(|look| look.thread.tid == it.known.tid);
            let backlog = look.map(|look| look.thread.backlog).unwrap_or_default();
            let is_its = backlog.stall_at_ns == it.known.started_at_ns && it.late.is_some();
            if is_its {
                it.late = Some(backlog.count);
            }
            let has_slept = look.is_some_and(|look| look.thread.waits.idle_at_ns > it.ended_at_ns);
            let is_over = !is_its || backlog.ended_at_ns == 0 || has_slept;
            if !is_over && !all && now_ns < it.ended_at_ns + CATCH_UP_NS {
                waiting.push(it);
                continue;
            }
            let each_ns = it.known.stall.duration_ns;
            let late = |count| Late { count, each_ns, session_ids: Vec::new() };
            it.known.stall.anatomy.late = it.late.map(late);
            settled.push(it.known);
        }
        self.settling = waiting;
        settled
    }

    /// Lists a stall that is over, and of which nothing more is to be found out.
    pub fn list(&mut self, known: Known) {
        self.ended.add(known);
    }

    fn next_id(&mut self) -> u64 {
        self.count += 1;
        self.ids.next()
    }

    /// When to look again, so that no stall is reported later than promised.
    pub fn next_watch_ns(&self, now_ns: u64, threads: &[ThreadLook]) -> u64 {
        let passes = threads
            .iter()
            .filter(|look| look.is_loop() && look.thread.polls.depth > 0)
            .map(|look| look.thread.polls.poll.at_ns + self.threshold_ns)
            // One that has passed is reported already.
            .filter(|passes_ns| *passes_ns > now_ns)
            .map(|passes_ns| passes_ns + SLACK_NS);
        let looks = self.ongoing.iter().map(|known| known.look_at_ns);
        let settling = self.settling.iter().map(|_| now_ns + SLACK_NS);
        let earliest = passes.chain(looks).chain(settling).min();
        earliest.unwrap_or(now_ns + self.threshold_ns + SLACK_NS)
    }

    /// Ongoing stalls, then ended ones, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Known> {
        let settling = self.settling.iter().rev().map(|it| &it.known);
        self.ongoing.iter().rev().chain(settling).chain(self.ended.iter())
    }

    /// Ongoing ones.
    pub fn ongoing(&self) -> impl Iterator<Item = &Known> {
        self.ongoing.iter()
    }

    /// The stall of this number, while it is known.
    pub fn get(&self, stall_id: u64) -> Option<&Known> {
        self.iter().find(|known| known.stall.stall_id == stall_id)
    }

    /// The same, to add what is found out of it.
    pub fn get_mut(&mut self, stall_id: u64) -> Option<&mut Stall> {
        let settling = self.settling.iter_mut().map(|it| &mut it.known);
        let mut all = self.ongoing.iter_mut().chain(settling).chain(self.ended.iter_mut());
        all.find(|known| known.stall.stall_id == stall_id).map(|known| &mut known.stall)
    }

    fn find(&self, tid: u32, started_at_ns: u64) -> Option<usize> {
        self.ongoing
            .iter()
            .position(|known| known.tid == tid && known.started_at_ns == started_at_ns)
    }

    /// A stall as it is now; `before` is what was known of it.
    fn known(
        &mut self,
        before: Option<Known>,
        tid: u32,
        poll: &Ended,
        tag: &TagText,
        waits: &Waits,
    ) -> Known {
        let asleep = before.as_ref().and_then(|before| before.asleep);
        let tagged = poll.slot != UNTAGGED;
        if before.is_none() {
            self.begun.push((tagged.then(|| tag.key()), poll.started_at_ns));
        }
        let (stall_id, anatomy, look_at_ns) = match before {
            Some(before) => (before.stall.stall_id, before.stall.anatomy, before.look_at_ns),
            None => (self.next_id(), Anatomy::default(), 0),
        };
        let causes = Causes::of(&poll.split, waits, &self.gil);
        Known {
            key: tagged.then(|| tag.key()),
            tag: if tagged { *tag } else { TagText::EMPTY },
            stall: Stall {
                stall_id,
                pid: self.pid,
                started_at_unix_ns: i128::from(poll.started_at_ns) + self.unix_offset_ns,
                is_lower_bound: poll.seeded,
                duration_ns: poll.split.wall_ns,
                on_cpu_ns: poll.split.on_cpu_ns,
                off_cpu_ns: poll.split.off_cpu_ns,
                run_queue_ns: poll.split.run_queue_ns,
                anatomy: Anatomy { causes, ..anatomy },
                ..Stall::default()
            },
            tid,
            started_at_ns: poll.started_at_ns,
            asleep,
            look_at_ns,
            gone_since_ns: None,
        }
    }

    /// Drops ongoing stalls whose polls are over and whose ends do not arrive. That of one which the
    /// threshold was raised over is not lost: there is none, and what it took at least is known.
    fn give_up(&mut self, now_ns: u64, running: &[(u32, u64)]) {
        for mut known in std::mem::take(&mut self.ongoing) {
            if running.contains(&(known.tid, known.started_at_ns)) {
                self.ongoing.push(known);
                continue;
            }
            let since_ns = *known.gone_since_ns.get_or_insert(now_ns);
            if now_ns.saturating_sub(since_ns) < PATIENCE_NS {
                self.ongoing.push(known);
            } else if known.stall.duration_ns < self.threshold_ns {
                self.unheard.push(known.key);
                (known.stall.ongoing, known.stall.is_lower_bound) = (false, true);
                let ended_at_ns = known.started_at_ns + known.stall.duration_ns;
                self.settling.push(Settling { known, ended_at_ns, late: Some(0) });
            } else {
                self.lost_ends += 1;
            }
        }
    }
}
