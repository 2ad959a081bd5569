//! Everything that can wake the loop.

use std::{
    future::{pending, poll_fn},
    io,
    os::fd::{AsFd as _, OwnedFd},
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, Result};
use futures_util::{Stream, StreamExt as _, stream};
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{Signal, SignalKind, signal},
    task::{JoinHandle, spawn_blocking},
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};

use super::inspect::{Inspected, Inspector};
use super::job::Job;
use crate::{
    clock, dump,
    fleet::{self, Fleet, Found, Member, Scout},
    plan::{Plan, View},
    view::top::{Press, events},
};

/// Memory is walked, and what ended is cleared away, at most this often.
const SURVEY_EVERY: Duration = Duration::from_secs(1);
/// And at least this often, however long a walk takes.
const SURVEY_AT_LEAST_EVERY: Duration = Duration::from_secs(3);
/// From the end of one look for new workers to the next.
const SCOUT_EVERY: Duration = Duration::from_millis(200);
/// A time that is further away than the end of any run.
const NEVER: Duration = Duration::from_hours(365 * 24);

/// What woke us.
pub enum Wake {
    /// The kernel has events of this worker for us.
    Events(u32),
    /// This worker has ended.
    Ended(u32),
    /// A poll may have passed the threshold.
    Watch,
    /// It is time to look around in the workers' memory.
    Survey,
    /// New workers were looked for.
    Scouted(Vec<Found>),
    /// A process whose children are followed has ended.
    RootEnded(u32),
    /// The tasks of a session were looked at.
    Inspected(Box<Inspected>),
    /// It is time for a picture.
    Picture,
    /// Somebody typed.
    Typed(Press),
    /// We are to stop for a while.
    Suspend,
    /// We were stopped, and go on.
    Resumed,
    /// The time is over, or we were asked to end.
    End,
}

/// Everything that can wake the loop.
pub struct Wakes {
    workers: Vec<Watched>,
    /// Processes whose children are followed.
    roots: Vec<Root>,
    scouting: Scouting,
    inspector: Inspector,
    signals: [Signal; 3],
    job: Job,
    survey: Interval,
    picture: Interval,
    watch_at: Instant,
    end_at: Instant,
    typed: Box<dyn Stream<Item = io::Result<Press>> + Unpin>,
}

/// What a worker wakes us with.
struct Watched {
    pid: u32,
    events: AsyncFd<OwnedFd>,
    end: AsyncFd<OwnedFd>,
}

impl Watched {
    fn new(member: &Member) -> Result<Watched> {
        let events = member.profiler().kernel().as_fd().try_clone_to_owned();
        let end = member.pidfd().try_clone_to_owned();
        Ok(Watched {
            pid: member.pid(),
            events: events.and_then(listen_on).context("cannot wait for the kernel's events")?,
            end: end.and_then(listen_on).context("cannot wait for the worker's end")?,
        })
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<Wake>> {
        if let Poll::Ready(ready) = self.end.poll_read_ready(cx) {
            return Poll::Ready(ready.map(|mut ready| {
                ready.retain_ready();
                Wake::Ended(self.pid)
            }));
        }
        self.events.poll_read_ready(cx).map_ok(|mut ready| {
            ready.clear_ready();
            Wake::Events(self.pid)
        })
    }
}

/// A process whose children are followed.
struct Root {
    pid: u32,
    end: AsyncFd<OwnedFd>,
}

impl Root {
    fn new(pid: u32) -> Result<Root> {
        let end = fleet::open_pidfd(pid.cast_signed()).and_then(listen_on);
        let end = end.with_context(|| format!("cannot watch process {pid} for its end"))?;
        Ok(Root { pid, end })
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<Wake>> {
        self.end.poll_read_ready(cx).map_ok(|mut ready| {
            ready.retain_ready();
            Wake::RootEnded(self.pid)
        })
    }
}

/// The search for new workers.
enum Scouting {
    /// There is none.
    Off,
    /// Until the next look.
    Rests(Box<Scout>, Instant),
    /// On a thread of its own.
    Looks(JoinHandle<(Box<Scout>, Vec<Found>)>),
}

impl Scouting {
    /// Waits for the end of the next look.
    async fn next(&mut self, followed: usize) -> Result<Vec<Found>> {
        loop {
            if let Scouting::Rests(_, until) = self {
                sleep_until(*until).await;
            }
            // Nothing is awaited while it is taken out.
            *self = match std::mem::replace(self, Scouting::Off) {
                Scouting::Off => return pending().await,
                Scouting::Rests(mut scout, _) => Scouting::Looks(spawn_blocking(move || {
                    let found = scout.look(followed, clock::now);
                    (scout, found)
                })),
                looks @ Scouting::Looks(_) => looks,
            };
            if let Scouting::Looks(looks) = self {
                let (scout, found) = looks.await.context("looking for workers has failed")?;
                *self = Scouting::Rests(scout, Instant::now() + SCOUT_EVERY);
                return Ok(found);
            }
        }
    }
}

impl Wakes {
    /// For the workers of `fleet`, and for those that `scout` finds.
    pub fn new(plan: &Plan, fleet: &Fleet, scout: Option<Scout>) -> Result<Wakes> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let now = Instant::now();
        let lasts = match plan.view {
            View::Once | View::JsonOnce => plan.interval,
            _ => plan.duration.unwrap_or(NEVER),
        };
        Ok(Wakes {
            workers: fleet.members().iter().map(Watched::new).collect::<Result<_>>()?,
            roots: match scout {
                Some(_) => plan.pids.iter().map(|pid| Root::new(*pid)).collect::<Result<_>>()?,
                None => Vec::new(),
            },
            scouting: scout
                .map_or(Scouting::Off, |scout| Scouting::Rests(Box::new(scout), now + SCOUT_EVERY)),
            inspector: Inspector::new(|wanted| dump::look(wanted, clock::now)),
            signals: [
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
                listen(SignalKind::hangup())?,
            ],
            job: Job::new(plan)?,
            survey: every(SURVEY_EVERY, now),
            picture: every(plan.interval, now),
            watch_at: now,
            end_at: now + lasts,
            typed: match plan.view {
                View::Table => Box::new(events()),
                _ => Box::new(stream::pending()),
            },
        })
    }

    /// Sets when to watch next: never, where there is nobody to watch.
    pub fn watch_at(&mut self, at: Option<Instant>) {
        self.watch_at = at.unwrap_or_else(|| Instant::now() + NEVER);
    }

    /// Sets how often to take a picture.
    pub fn picture_every(&mut self, period: Duration) {
        self.picture = every(period, Instant::now());
    }

    /// Sets when to look around in memory next: after `rest`, within bounds.
    pub fn survey_in(&mut self, rest: Duration) {
        self.survey.reset_after(rest.clamp(SURVEY_EVERY, SURVEY_AT_LEAST_EVERY));
    }

    /// A worker's descriptors wake us too.
    pub fn watch(&mut self, member: &Member) -> Result<()> {
        self.workers.push(Watched::new(member)?);
        self.watch_at = Instant::now();
        Ok(())
    }

    /// A worker's descriptors wake us no more.
    pub fn forget(&mut self, pid: u32) {
        self.workers.retain(|worker| worker.pid != pid);
    }

    /// Nor does a process that has ended.
    pub fn forget_root(&mut self, pid: u32) {
        self.roots.retain(|root| root.pid != pid);
    }

    /// Sets the session whose tasks are looked at from now on; `None` to look at none.
    pub fn inspect(&mut self, wanted: Option<dump::Wanted>) {
        self.inspector.want(wanted);
    }

    /// Whether new workers may still come.
    pub fn has_roots(&self) -> bool {
        !self.roots.is_empty()
    }

    /// Waits for the next.
    pub async fn next(&mut self) -> Result<Wake> {
        let [interrupt, terminate, hangup] = &mut self.signals;
        let (workers, roots) = (&self.workers, &self.roots);
        Ok(tokio::select! {
            biased;
            _ = interrupt.recv() => Wake::End,
            _ = terminate.recv() => Wake::End,
            _ = hangup.recv() => Wake::End,
            wake = self.job.next() => wake,
            () = sleep_until(self.end_at) => Wake::End,
            () = sleep_until(self.watch_at) => Wake::Watch,
            wake = poll_fn(|cx| any(workers, roots, cx)) => {
                wake.context("cannot wait for a worker")?
            }
            typed = self.typed.next() => match typed {
                Some(press) => Wake::Typed(press.context("cannot read the keyboard")?),
                None => Wake::End,
            },
            found = self.scouting.next(workers.len()) => Wake::Scouted(found?),
            inspected = self.inspector.next() => Wake::Inspected(Box::new(inspected?)),
            _ = self.survey.tick() => Wake::Survey,
            _ = self.picture.tick() => Wake::Picture,
        })
    }
}

/// The first that has something for us.
fn any(workers: &[Watched], roots: &[Root], cx: &mut Context<'_>) -> Poll<io::Result<Wake>> {
    for worker in workers {
        if let ready @ Poll::Ready(_) = worker.poll(cx) {
            return ready;
        }
    }
    roots.iter().map(|root| root.poll(cx)).find(Poll::is_ready).unwrap_or(Poll::Pending)
}

/// Wakes when `fd` becomes readable.
fn listen_on(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by what is returned, which gives no way to close or replace
    // it while it is registered.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}

fn every(period: Duration, from: Instant) -> Interval {
    let mut interval = interval_at(from + period, period);
    // A picture that is late is worth one, not several.
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}
