//! Looks for workers among some processes and all that they start.
//!
//! - **A worker is a process with a thread that runs an event loop**: fork servers, trackers of
//!   resources and shells are none, and are not attached to.
//! - A process that was just started imports for a while: it is looked at often while it is young, and
//!   seldom later. What can never be attached to is told once.
//! - All of it takes long: it is done on a thread of its own, while the followed ones are watched.

use std::collections::{BTreeMap, btree_map::Entry};

use super::Member;
use crate::{
    blocker::Blocker,
    profiler::{Candidate, Now, Target},
    worker::{descendants, is_listed},
};

/// For so long a process is young.
const YOUNG_NS: u64 = 10_000_000_000;
/// From one look at an old one to the next.
const OLD_LOOK_NS: u64 = 1_000_000_000;

/// What came of a look.
pub enum Found {
    /// A new worker.
    Worker(Box<Member>),
    /// A worker that cannot be followed, and why; told once.
    Refused(u32, anyhow::Error),
    /// A worker that is not followed because there are too many; told once.
    TooMany(u32),
}

/// Looks for workers.
pub struct Scout {
    target: Target,
    /// The processes that were named.
    roots: Vec<i32>,
    most: usize,
    known: BTreeMap<i32, Known>,
}

/// A process that was met.
struct Known {
    candidate: Candidate,
    since_ns: u64,
    next_ns: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It runs no event loop, as far as we know.
    NoLoop,
    /// It does, but there is no room for it.
    Waits,
    /// It has been attached to, or never can be.
    Settled,
}

impl Scout {
    /// For the processes `roots` and below. `target` says what workers are looked at for; at most `most`
    /// are followed at once.
    ///
    /// # Errors
    /// Where the kernel does not list children, or one of `roots` is no process that can be looked at.
    pub fn new(target: Target, roots: Vec<i32>, most: usize) -> Result<Scout, Blocker> {
        if !is_listed() {
            return Err(Blocker::NoChildren);
        }
        for root in &roots {
            Candidate::open(*root)?;
        }
        Ok(Scout { target, roots, most, known: BTreeMap::new() })
    }

    /// Looks for workers besides the `followed` ones, and attaches to them.
    pub fn look(&mut self, followed: usize, now: fn() -> Now) -> Vec<Found> {
        let mut family = self.roots.clone();
        family.extend(self.roots.iter().flat_map(|root| descendants(*root)));
        self.known.retain(|pid, known| family.contains(pid) && known.candidate.is_the_same());
        let (mut found, mut followed) = (Vec::new(), followed);
        for pid in family {
            let now_ns = now().monotonic_ns;
            if self.known.get(&pid).is_some_and(|known| !known.is_due(now_ns)) {
                continue;
            }
            let has_room = followed < self.most;
            if let Some(news) = self.look_at(pid, has_room, now) {
                followed += usize::from(matches!(news, Found::Worker(_)));
                found.push(news);
            }
        }
        found
    }

    fn look_at(&mut self, pid: i32, has_room: bool, now: fn() -> Now) -> Option<Found> {
        let now_ns = now().monotonic_ns;
        let known = match self.known.entry(pid) {
            Entry::Occupied(known) => known.into_mut(),
            // One that has ended meanwhile is none.
            Entry::Vacant(new) => new.insert(Known::new(Candidate::open(pid).ok()?, now_ns)),
        };
        known.next_ns = known.next_look_ns(now_ns);
        match known.candidate.runs_loop() {
            Ok(false) => None,
            Ok(true) if !has_room => {
                let is_new = known.state != State::Waits;
                known.state = State::Waits;
                is_new.then(|| Found::TooMany(pid.cast_unsigned()))
            }
            Ok(true) => {
                known.state = State::Settled;
                let target = Target { pid, ..self.target.clone() };
                match Member::attach(target, now) {
                    Ok(member) => Some(Found::Worker(Box::new(member))),
                    Err(why) => known.refuse(pid, why),
                }
            }
            Err(why) => known.doubt(pid, why, now_ns),
        }
    }
}

impl Known {
    fn new(candidate: Candidate, now_ns: u64) -> Known {
        Known { candidate, since_ns: now_ns, next_ns: now_ns, state: State::NoLoop }
    }

    fn is_due(&self, now_ns: u64) -> bool {
        self.state != State::Settled && now_ns >= self.next_ns
    }

    fn is_young(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.since_ns) < YOUNG_NS
    }

    fn next_look_ns(&self, now_ns: u64) -> u64 {
        if self.is_young(now_ns) { now_ns } else { now_ns + OLD_LOOK_NS }
    }

    /// Its interpreter could not be read: it may not be up yet.
    fn doubt(&mut self, pid: i32, why: Blocker, now_ns: u64) -> Option<Found> {
        let may_pass = match why {
            // It may load one later.
            Blocker::NotPython { .. } => return None,
            Blocker::PythonUnsupported { .. } => false,
            _ => true,
        };
        if may_pass && self.is_young(now_ns) { None } else { self.refuse(pid, why.into()) }
    }

    /// It is not looked at again; nothing is told of one that has ended.
    fn refuse(&mut self, pid: i32, why: anyhow::Error) -> Option<Found> {
        self.state = State::Settled;
        self.candidate.is_the_same().then(|| Found::Refused(pid.cast_unsigned(), why))
    }
}
