//! What is wrong with the worker, if anything: the one answer to begin with.
//!
//! It walks OpenRTC's runbook in order of urgency, and the first that applies is the answer.
//!
//! - **What is seen counts, whatever else is not known**: a stall is a fact also where no session is known.
//! - **Healthy is said only where everything that would speak against it is known.**
//! - The figures are those of the picture: of its interval, or of the last minute.

mod blame;
#[cfg(test)]
mod tests;

pub use blame::{Blame, Culprit, Times};

use super::snapshot::{Session, Snapshot, Status};

/// A session that takes so much of a core is hot: two of them fill it.
pub const HOT_RATIO: f64 = 0.40;
/// A loop that is busy for so much of the time answers late: from there on, by queueing theory, a callback
/// waits for four others of its length on average, and the wait grows without bound.
pub const BUSY_RATIO: f64 = 0.80;
/// Loop threads that wait for a CPU for so much of the time are starved: usually it is a thousandth.
pub const STARVED_RATIO: f64 = 0.10;
/// A resident set that grows less in a minute is a worker at work.
pub const CLIMB_BYTES: i64 = 5 << 20;
/// The same as a part of the resident set: a large worker breathes more.
pub const CLIMB_RATIO: f64 = 0.01;
/// Each third of the minute must add so much of all that was added: one large allocation is a step, no climb.
const CLIMB_STEADY: f64 = 0.25;
/// A call has audio fifty times a second: one that has run nothing for so long waits for what does not come.
pub const WEDGED_NS: u64 = 120_000_000_000;
/// So many losses for each poll touch every figure.
pub const LOSSY_RATIO: f64 = 0.01;
/// What is accounted of the CPU may be off by so much; more, and something is not seen.
pub const UNACCOUNTED_RATIO: f64 = 0.10;
/// Of less CPU the kernel's two accounts of it differ by ticks.
const LEAST_CPU_NS: u64 = 1_000_000_000;

/// What is wrong, of which worker, and what speaks against believing it.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict<'a> {
    /// The worker: of several the one in the worst state.
    pub worker: &'a Snapshot,
    /// What is wrong with it.
    pub finding: Finding<'a>,
    /// Where several are followed: how they are.
    pub fleet: Option<Fleet>,
    /// Events and reads of it that were missed.
    pub lost: u64,
    /// What of its CPU has a place, where that is far from all of it.
    pub accounted_ratio: Option<f64>,
}

/// Several workers, by what is found of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// All of them.
    pub workers: usize,
    /// Those of which something is wrong.
    pub troubled: usize,
    /// Those of which nothing can be said.
    pub unknown: usize,
}

/// What is wrong, in order of urgency.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding<'a> {
    /// Somebody blocks the loop.
    Blocks(Blame<'a>),
    /// The loop waits for a CPU, or is stopped: no session is to blame. The stalls that tell it, or none where
    /// only the time that it waits does.
    Starved(Option<Blame<'a>>),
    /// A session takes a large part of a core, of one, without blocking.
    Hot(&'a Session, f64),
    /// The loop has too much to do: who does it, and how much of a core it is.
    Overloaded(Load, f64),
    /// The resident set climbs, by so much in a minute.
    Climbs(i64),
    /// A live session has not run for long.
    Wedged(Wedged<'a>),
    /// Nothing can be said.
    Unknown(Unknown),
    /// Nothing is wrong.
    Healthy,
    /// There is no session.
    Idle,
}

/// What keeps a core busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Sessions, of which none stands out.
    Sessions,
    /// Polls without a tag.
    Untagged,
    /// The loop itself.
    Overhead,
    /// Threads outside of any session.
    OtherThreads,
}

/// Who has not run for long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wedged<'a> {
    /// The one that waits the longest.
    pub session: &'a Session,
    /// Live sessions that wait so long, this one included.
    pub count: usize,
    /// Live sessions in all.
    pub of: usize,
}

/// Why nothing can be said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unknown {
    /// No worker is there.
    NoWorker,
    /// No thread was seen that runs a loop.
    NoLoop,
    /// Which poll is of which session cannot be told.
    TagNotFound,
    /// So many tasks hold their tag where it is not seen.
    TaggedElsewhere(usize),
    /// The first picture has no rates, the next one has.
    NoRates,
    /// No poll was seen.
    NoPolls,
    /// So much was missed.
    Lossy(u64),
    /// So much only of the CPU has a place.
    Unaccounted(f64),
}

impl Finding<'_> {
    /// Its name: stable, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Finding::Blocks(_) => "blocked",
            Finding::Starved(_) => "starved",
            Finding::Hot(..) => "hot",
            Finding::Overloaded(..) => "overloaded",
            Finding::Climbs(_) => "memory",
            Finding::Wedged(_) => "wedged",
            Finding::Unknown(_) => "unknown",
            Finding::Healthy => "healthy",
            Finding::Idle => "idle",
        }
    }

    /// Whether something is wrong.
    pub fn is_trouble(&self) -> bool {
        !matches!(self, Finding::Unknown(_) | Finding::Healthy | Finding::Idle)
    }

    /// The lowest is told first, of several workers.
    fn urgency(&self) -> u8 {
        match self {
            Finding::Blocks(blame) if blame.is_urgent() => 0,
            Finding::Starved(_) => 1,
            Finding::Hot(..) => 2,
            Finding::Overloaded(..) => 3,
            Finding::Climbs(_) => 4,
            Finding::Wedged(_) => 5,
            Finding::Blocks(_) => 6,
            // A process for each call is unknown for its first second: that must not hide the others.
            Finding::Healthy => 7,
            Finding::Unknown(_) => 8,
            Finding::Idle => 9,
        }
    }
}

/// A step of the walk.
type Step = for<'a> fn(&'a Snapshot) -> Option<Finding<'a>>;

/// The runbook. A single short stall comes last: it explains no bad call that something else explains.
static WALK: &[Step] = &[
    |it| blame::urgent(it).map(of_blame),
    starved,
    hot,
    overloaded,
    climbs,
    wedged,
    |it| blame::rare(it).map(of_blame),
    unknown,
    idle,
];

/// What is wrong with the worker; of several, with the one that is worst off.
pub fn verdict(snapshot: &Snapshot) -> Verdict<'_> {
    let Some(workers) = &snapshot.fleet else { return of_one(snapshot, None) };
    let mut fleet = Fleet { workers: workers.len(), ..Fleet::default() };
    let mut worst: Option<Verdict<'_>> = None;
    for worker in workers {
        let one = of_one(worker, None);
        fleet.troubled += usize::from(one.finding.is_trouble());
        fleet.unknown += usize::from(matches!(one.finding, Finding::Unknown(_)));
        if worst.as_ref().is_none_or(|worst| one.finding.urgency() < worst.finding.urgency()) {
            worst = Some(one);
        }
    }
    let nobody = || of_one(snapshot, Some(Finding::Unknown(Unknown::NoWorker)));
    Verdict { fleet: Some(fleet), ..worst.unwrap_or_else(nobody) }
}

fn of_one<'a>(worker: &'a Snapshot, known: Option<Finding<'a>>) -> Verdict<'a> {
    let walk = || WALK.iter().find_map(|step| step(worker));
    Verdict {
        worker,
        finding: known.or_else(walk).unwrap_or(Finding::Healthy),
        fleet: None,
        lost: lost(worker),
        accounted_ratio: unaccounted(worker),
    }
}

fn of_blame(blame: Blame<'_>) -> Finding<'_> {
    if blame.culprit == Culprit::Machine {
        Finding::Starved(Some(blame))
    } else {
        Finding::Blocks(blame)
    }
}

fn starved(it: &Snapshot) -> Option<Finding<'_>> {
    let ratio = it.worker.loop_run_queue_ratio?;
    (ratio >= STARVED_RATIO).then_some(Finding::Starved(None))
}

fn live(it: &Snapshot) -> impl Iterator<Item = &Session> {
    it.sessions.iter().filter(|session| session.status != Status::Ended)
}

fn hot(it: &Snapshot) -> Option<Finding<'_>> {
    let ratios = live(it).filter_map(|session| Some((session, session.cpu_ratio?)));
    let (session, ratio) = ratios.max_by(|a, b| a.1.total_cmp(&b.1))?;
    (ratio.is_finite() && ratio >= HOT_RATIO).then_some(Finding::Hot(session, ratio))
}

/// The part of a core that the loop is busy for.
pub fn loop_load(it: &Snapshot) -> Option<f64> {
    Some(it.worker.poll_cpu_ratio? + it.worker.loop_overhead_cpu_ratio?)
}

fn overloaded(it: &Snapshot) -> Option<Finding<'_>> {
    let untagged = it.untagged.cpu_ratio.unwrap_or(0.0);
    if let Some(load) = loop_load(it).filter(|load| *load >= BUSY_RATIO) {
        let is_most = |part: f64| part >= load / 2.0;
        let by = if is_most(untagged) {
            Load::Untagged
        } else if is_most(it.worker.loop_overhead_cpu_ratio.unwrap_or(0.0)) {
            Load::Overhead
        } else {
            Load::Sessions
        };
        return Some(Finding::Overloaded(by, load));
    }
    let others = it.worker.other_threads_cpu_ratio.unwrap_or(0.0);
    if untagged >= HOT_RATIO {
        return Some(Finding::Overloaded(Load::Untagged, untagged));
    }
    (others >= BUSY_RATIO).then_some(Finding::Overloaded(Load::OtherThreads, others))
}

fn climbs(it: &Snapshot) -> Option<Finding<'_>> {
    let growth = it.worker.rss_growth_bytes?;
    let rss = it.worker.rss_bytes? as f64;
    let is_much = growth >= CLIMB_BYTES && growth as f64 >= CLIMB_RATIO * rss;
    (is_much && is_steady(it)).then_some(Finding::Climbs(growth))
}

/// Whether each third of the last minute is well above the one before, by its median: neither a step nor a
/// wave is a climb.
fn is_steady(it: &Snapshot) -> bool {
    let sizes: Vec<u64> = it.history.seconds.iter().filter_map(|second| second.rss_bytes).collect();
    let thirds = sizes.chunks_exact((sizes.len() / 3).max(1)).take(3).map(|third| {
        let mut third = third.to_vec();
        third.sort_unstable();
        third.get(third.len() / 2).copied().unwrap_or_default() as f64
    });
    let [first, middle, last] = thirds.collect::<Vec<_>>()[..] else { return false };
    let least = (last - first) * CLIMB_STEADY;
    least > 0.0 && middle - first >= least && last - middle >= least
}

fn wedged(it: &Snapshot) -> Option<Finding<'_>> {
    // Of one that was sampled it is not known that it has not run.
    let waits = |session: &&Session| session.idle_ns >= WEDGED_NS && session.cpu_se_ns.is_none();
    let session = live(it).filter(waits).max_by_key(|session| session.idle_ns)?;
    let (count, of) = (live(it).filter(waits).count(), live(it).count());
    Some(Finding::Wedged(Wedged { session, count, of }))
}

fn unknown(it: &Snapshot) -> Option<Finding<'_>> {
    let worker = &it.worker;
    let has_rates = [worker.cpu_ratio, worker.loop_run_queue_ratio, loop_load(it)];
    let why = if worker.event_loop.is_empty() {
        Unknown::NoLoop
    } else if !worker.tag_found {
        Unknown::TagNotFound
    } else if worker.tasks_tagged_elsewhere > 0 {
        Unknown::TaggedElsewhere(worker.tasks_tagged_elsewhere)
    } else if has_rates.iter().any(Option::is_none) {
        Unknown::NoRates
    } else if worker.loop_delay.is_none() {
        Unknown::NoPolls
    } else if lost(it) as f64 > LOSSY_RATIO * worker.polls as f64 {
        Unknown::Lossy(lost(it))
    } else {
        Unknown::Unaccounted(unaccounted(it)?)
    };
    Some(Finding::Unknown(why))
}

fn idle(it: &Snapshot) -> Option<Finding<'_>> {
    live(it).next().is_none().then_some(Finding::Idle)
}

fn lost(it: &Snapshot) -> u64 {
    it.health.lost.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

fn unaccounted(it: &Snapshot) -> Option<f64> {
    let is_off = |ratio: &f64| (1.0 - ratio).abs() > UNACCOUNTED_RATIO;
    it.worker.accounted_ratio.filter(is_off).filter(|_| it.worker.cpu_ns >= LEAST_CPU_NS)
}
