//! Who is to blame for the stalls of the last minute.

use crate::model::{
    cause::Class,
    snapshot::{Session, Snapshot, Stall},
};

/// Stalls that ended longer ago count no more.
const MINUTE_NS: i128 = 60_000_000_000;
/// A stall that goes on for so long is told before all others: callers hear it.
const LONG_NS: u64 = 1_000_000_000;
/// Who stalled once, and for less than this, is told after all else: a caller's buffer bridges that.
const SHORT_NS: u64 = 200_000_000;
/// Causes that no session can do anything about.
const OF_THE_MACHINE: [Class; 3] = [Class::RunQueue, Class::Throttled, Class::Stopped];

/// Who made the loop wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Culprit<'a> {
    /// The session, of that process.
    Session(&'a str, u32),
    /// Polls without a tag.
    Untagged(u32),
    /// A thread that held the interpreter's lock, and ran for no session.
    Thread(u32),
    /// The machine: there was no CPU, or it was stopped.
    Machine,
}

/// A culprit, and what it did in the last minute.
#[derive(Clone, Debug, PartialEq)]
pub struct Blame<'a> {
    /// Who.
    pub culprit: Culprit<'a>,
    /// One that goes on for so long that it alone is to be told; else the one that, with its repeats, took
    /// most of the minute.
    pub stall: &'a Stall,
    /// The longest.
    pub worst: &'a Stall,
    /// How often.
    pub times: Times,
    /// How long together, about.
    pub total_ns: u64,
}

/// How often within a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// So often.
    Exactly(u64),
    /// Some of those that are listed as one may be older.
    About(u64),
}

impl Times {
    /// The number.
    pub fn count(self) -> u64 {
        match self {
            Times::Exactly(count) | Times::About(count) => count,
        }
    }
}

impl Blame<'_> {
    /// Whether it goes on, and is long.
    pub fn is_now(&self) -> bool {
        is_now(self.stall)
    }

    /// Whether it is more than one short stall.
    pub fn is_urgent(&self) -> bool {
        self.times.count() > 1 || self.total_ns >= SHORT_NS
    }
}

/// Of a stall that goes on, or whoever stalled for the longest time; unless it was one short stall.
pub(super) fn urgent(it: &Snapshot) -> Option<Blame<'_>> {
    let long = it.stalls.iter().filter(|stall| is_now(stall)).max_by_key(|it| it.duration_ns);
    let mut blames = blames(it).into_iter().filter(Blame::is_urgent);
    let chosen = match long {
        Some(long) => blames
            .find(|blame| blame.culprit == culprit(long))
            .map(|blame| Blame { stall: long, ..blame }),
        None => blames.max_by_key(|blame| blame.total_ns),
    };
    chosen.map(|blame| counted(blame, it))
}

/// Whoever stalled at all.
pub(super) fn rare(it: &Snapshot) -> Option<Blame<'_>> {
    blames(it).into_iter().max_by_key(|blame| blame.total_ns).map(|blame| counted(blame, it))
}

fn is_now(stall: &Stall) -> bool {
    stall.ongoing && stall.duration_ns >= LONG_NS
}

/// All culprits of the last minute.
fn blames(it: &Snapshot) -> Vec<Blame<'_>> {
    // Each with what its stall took.
    let mut blames: Vec<(Blame<'_>, u64)> = Vec::new();
    for stall in &it.stalls {
        let Some((times, total_ns)) = share(stall, it.at_unix_ns) else { continue };
        let culprit = culprit(stall);
        let known = blames.iter_mut().find(|(blame, _)| blame.culprit == culprit);
        let Some((blame, most_ns)) = known else {
            let blame = Blame { culprit, stall, worst: stall, times, total_ns };
            blames.push((blame, total_ns));
            continue;
        };
        blame.times = plus(blame.times, times);
        blame.total_ns = blame.total_ns.saturating_add(total_ns);
        if stall.duration_ns > blame.worst.duration_ns {
            blame.worst = stall;
        }
        if total_ns > *most_ns {
            (blame.stall, *most_ns) = (stall, total_ns);
        }
    }
    blames.into_iter().map(|(blame, _)| blame).collect()
}

fn plus(one: Times, other: Times) -> Times {
    let sum = one.count().saturating_add(other.count());
    if matches!((one, other), (Times::Exactly(_), Times::Exactly(_))) {
        Times::Exactly(sum)
    } else {
        Times::About(sum)
    }
}

/// The session's own count is exact, where all of them are its own stalls.
fn counted<'a>(blame: Blame<'a>, it: &Snapshot) -> Blame<'a> {
    let Culprit::Session(id, pid) = blame.culprit else { return blame };
    let is_its = |session: &&Session| session.pid == pid && &*session.session_id == id;
    let own = it.sessions.iter().chain(&it.ended).find(is_its);
    let own = own.map_or(0, |session| session.stalls_last_minute);
    let mut its = it.stalls.iter().filter(|stall| culprit(stall) == blame.culprit);
    let are_own = its.all(|stall| stall.session_id.as_deref() == Some(id));
    if own > 0 && are_own { Blame { times: Times::Exactly(own), ..blame } } else { blame }
}

/// How often within the last minute, and for how long; `None` if not at all.
fn share(stall: &Stall, now_unix_ns: i128) -> Option<(Times, u64)> {
    let since = now_unix_ns - MINUTE_NS;
    let repeats = &stall.repeats;
    let last = stall.started_at_unix_ns.max(repeats.last_unix_ns);
    let is_in = stall.ongoing || last + i128::from(stall.duration_ns) >= since;
    if !is_in {
        return None;
    }
    if stall.ongoing || repeats.count <= 1 {
        let end = last + i128::from(stall.duration_ns);
        let within = u64::try_from(end - since).unwrap_or(0);
        return Some((Times::Exactly(1), stall.duration_ns.min(within)));
    }
    if repeats.first_unix_ns >= since {
        return Some((Times::Exactly(repeats.count.into()), repeats.total_ns));
    }
    // As if they had come evenly; the last is within.
    let span = (last - repeats.first_unix_ns).max(1) as f64;
    let part = ((last - since) as f64 / span).clamp(1.0 / f64::from(repeats.count), 1.0);
    let count = (f64::from(repeats.count) * part).round() as u64;
    Some((Times::About(count), (repeats.total_ns as f64 * part) as u64))
}

fn culprit(stall: &Stall) -> Culprit<'_> {
    let first = stall.anatomy.causes.first();
    if first.is_some_and(|class| OF_THE_MACHINE.contains(&class)) {
        return Culprit::Machine;
    }
    if first == Some(Class::Gil)
        && let Some(holder) = stall.anatomy.gil_holder()
    {
        return match &holder.session_id {
            Some(id) => Culprit::Session(id, stall.pid),
            None => Culprit::Thread(holder.tid),
        };
    }
    match &stall.session_id {
        Some(id) => Culprit::Session(id, stall.pid),
        None => Culprit::Untagged(stall.pid),
    }
}
