//! Which polls stall: found while they run, settled when they end.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use openrtc_common::{
    event::Event,
    poll::Ended,
    session::UNTAGGED,
    tag::{TagKey, TagText},
};

use super::{look::ThreadLook, snapshot::Stall};

/// Ended stalls that are kept for display.
const KEPT: usize = 50;
/// A check may come this much after a poll passed the threshold. The promise is 20 ms; what is
/// left is for the daemon to be scheduled.
const SLACK_NS: u64 = 5_000_000;
/// An ongoing stall whose poll is over but whose end was not delivered is given up after this.
const PATIENCE_NS: u64 = 1_000_000_000;

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
    gone_since_ns: Option<u64>,
}

/// Numbers for stalls: every worker of a run draws from the same ones.
#[derive(Clone, Debug, Default)]
pub struct StallIds(Arc<AtomicU64>);

impl StallIds {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// All stalls of a worker.
#[derive(Debug)]
pub struct Stalls {
    pid: u32,
    threshold_ns: u64,
    /// Wall clock minus monotonic clock.
    unix_offset_ns: i128,
    ids: StallIds,
    ongoing: Vec<Known>,
    ended: VecDeque<Known>,
    /// How many there were: of those that ended only the last are kept.
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
            ongoing: Vec::new(),
            ended: VecDeque::new(),
            count: 0,
            lost_ends: 0,
        }
    }

    /// Looks at the loop threads: the stalls that have passed the threshold since the last time.
    /// Those that still go on are brought up to date.
    pub fn watch(
        &mut self,
        now_ns: u64,
        threads: &[ThreadLook],
        tag_of: impl Fn(u32) -> TagText,
    ) -> Vec<Known> {
        let mut passed = Vec::new();
        let mut running = Vec::new();
        for look in threads.iter().filter(|look| look.is_loop()) {
            let Some(poll) = look.thread.polls.open_poll(&look.reading(now_ns)) else { continue };
            let tid = look.thread.tid;
            running.push((tid, poll.started_at_ns));
            if poll.split.wall_ns < self.threshold_ns {
                continue;
            }
            let tag = tag_of(poll.slot);
            if let Some(index) = self.find(tid, poll.started_at_ns) {
                self.fill(index, &poll, &tag);
                continue;
            }
            let id = self.next_id();
            let mut known = self.known(id, tid, &poll, &tag);
            known.stall.ongoing = true;
            passed.push(known.clone());
            self.ongoing.push(known);
        }
        self.give_up(now_ns, &running);
        passed
    }

    /// The kernel says that a stall has ended.
    pub fn end(&mut self, event: &Event, tag: &TagText) -> Known {
        let id = if let Some(index) = self.find(event.tid, event.started_at_ns) {
            self.ongoing.swap_remove(index).stall.stall_id
        } else {
            self.next_id()
        };
        let ended = Ended {
            slot: event.slot,
            seeded: event.seeded != 0,
            started_at_ns: event.started_at_ns,
            split: event.split,
        };
        let known = self.known(id, event.tid, &ended, tag);
        self.ended.push_front(known.clone());
        self.ended.truncate(KEPT);
        known
    }

    fn next_id(&mut self) -> u64 {
        self.count += 1;
        self.ids.next()
    }

    /// When to look again, so that no stall is reported later than promised.
    pub fn next_watch_ns(&self, now_ns: u64, threads: &[ThreadLook]) -> u64 {
        let earliest = threads
            .iter()
            .filter(|look| look.is_loop() && look.thread.polls.depth > 0)
            .map(|look| look.thread.polls.poll.at_ns + self.threshold_ns)
            // One that has passed is reported already.
            .filter(|passes_ns| *passes_ns > now_ns)
            .min();
        earliest.unwrap_or(now_ns + self.threshold_ns) + SLACK_NS
    }

    /// Ongoing stalls, then ended ones, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Known> {
        self.ongoing.iter().rev().chain(&self.ended)
    }

    /// Ongoing ones.
    pub fn ongoing(&self) -> impl Iterator<Item = &Known> {
        self.ongoing.iter()
    }

    fn find(&self, tid: u32, started_at_ns: u64) -> Option<usize> {
        self.ongoing
            .iter()
            .position(|known| known.tid == tid && known.started_at_ns == started_at_ns)
    }

    fn fill(&mut self, index: usize, poll: &Ended, tag: &TagText) {
        let (id, tid) = (self.ongoing[index].stall.stall_id, self.ongoing[index].tid);
        let mut known = self.known(id, tid, poll, tag);
        known.stall.ongoing = true;
        self.ongoing[index] = known;
    }

    fn known(&self, stall_id: u64, tid: u32, poll: &Ended, tag: &TagText) -> Known {
        let tagged = poll.slot != UNTAGGED;
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
                ..Stall::default()
            },
            tid,
            started_at_ns: poll.started_at_ns,
            gone_since_ns: None,
        }
    }

    /// Drops ongoing stalls whose polls are over and whose ends do not arrive.
    fn give_up(&mut self, now_ns: u64, running: &[(u32, u64)]) {
        let before = self.ongoing.len();
        self.ongoing.retain_mut(|known| {
            if running.contains(&(known.tid, known.started_at_ns)) {
                return true;
            }
            let since_ns = *known.gone_since_ns.get_or_insert(now_ns);
            now_ns.saturating_sub(since_ns) < PATIENCE_NS
        });
        self.lost_ends += (before - self.ongoing.len()) as u64;
    }
}
