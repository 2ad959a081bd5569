//! Looks at one session's tasks, again and again while somebody wants to see them.
//!
//! - **One look at a time**, on a thread of its own; what nobody wants any more is dropped when it ends.
//! - **It takes one part in [`SHARE`] of a core at most**, also where another session is chosen with every
//!   key: after each look it rests so many times as long as that took.

use std::{
    future::pending,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::sleep_until,
};

use crate::{
    blocker::Blocker,
    dump::{Dump, Wanted},
    view::top::Tasks,
};

/// In between, looks take one part in so many of a core.
const SHARE: u32 = 50;
/// From one look at a session to the next at the same: nobody reads faster.
const LEAST_REST: Duration = Duration::from_secs(1);

/// What a look has found.
#[derive(Debug)]
pub struct Inspected {
    /// What was looked for.
    pub wanted: Wanted,
    /// What was there.
    pub found: Result<Dump, Blocker>,
}

impl Inspected {
    /// For the pane that shows it.
    pub fn tasks(self) -> Tasks {
        let Inspected { wanted, found } = self;
        let at_unix_ns = found.as_ref().ok().map(|dump| dump.at_unix_ns);
        let unread = found.as_ref().map_or(0, |dump| dump.unread);
        let found = match found {
            Ok(dump) => Ok(dump.sessions),
            // It has none: it has ended, or runs callbacks alone.
            Err(Blocker::NoSuchSession { .. }) => Ok(Vec::new()),
            Err(why) => Err(why.to_string()),
        };
        let session_id = wanted.session.unwrap_or_default();
        Tasks { pid: wanted.pid.cast_unsigned(), session_id, found, unread, at_unix_ns }
    }
}

/// How one looks.
type LookAt = fn(&Wanted) -> Result<Dump, Blocker>;

/// Who looks at what is wanted.
pub struct Inspector {
    look: LookAt,
    wanted: Option<Wanted>,
    /// Whether a look has found what is wanted now.
    is_shown: bool,
    looks: Option<Looking>,
    last: Option<Looked>,
}

/// A look that goes on, and how long it takes.
struct Looking {
    at: Wanted,
    found: JoinHandle<(Result<Dump, Blocker>, Duration)>,
}

/// A look that is over.
#[derive(Clone, Copy)]
struct Looked {
    ended: Instant,
    took: Duration,
}

impl Looked {
    /// When the next may begin.
    fn next_at(self, is_shown: bool) -> Instant {
        let least = if is_shown { LEAST_REST } else { Duration::ZERO };
        self.ended + self.took.saturating_mul(SHARE).max(least)
    }
}

impl Inspector {
    /// One that looks so.
    pub fn new(look: LookAt) -> Self {
        Self { look, wanted: None, is_shown: false, looks: None, last: None }
    }

    /// Sets what is wanted from now on; `None` to look no more.
    pub fn want(&mut self, wanted: Option<Wanted>) {
        if self.wanted != wanted {
            self.wanted = wanted;
            self.is_shown = false;
        }
    }

    /// Waits for the end of the next look at what is wanted.
    ///
    /// # Errors
    /// Where a look has failed in a way that says nothing of the worker.
    pub async fn next(&mut self) -> Result<Inspected> {
        loop {
            if self.looks.is_none() {
                let Some(wanted) = self.wanted.clone() else { return pending().await };
                if let Some(last) = self.last {
                    sleep_until(last.next_at(self.is_shown).into()).await;
                }
                self.looks = Some(begin(self.look, wanted));
            }
            // It stays where it is while it is awaited: this may be asked for anew in the middle.
            if let Some(looking) = &mut self.looks {
                let ended = (&mut looking.found).await;
                let looking = self.looks.take();
                let (found, took) = ended.context("looking at tasks has failed")?;
                self.last = Some(Looked { ended: Instant::now(), took });
                if let Some(Looking { at, .. }) = looking
                    && self.wanted.as_ref() == Some(&at)
                {
                    self.is_shown = true;
                    return Ok(Inspected { wanted: at, found });
                }
            }
        }
    }
}

fn begin(look: LookAt, at: Wanted) -> Looking {
    let wanted = at.clone();
    let found = spawn_blocking(move || {
        let began = Instant::now();
        let found = look(&wanted);
        (found, began.elapsed())
    });
    Looking { at, found }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        sync::{
            Condvar, Mutex,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Poll, Waker},
    };

    use super::*;
    use crate::{dump::Session, profiler::Tag};

    fn wanted(session: &str) -> Wanted {
        let session = Some(session.into());
        Wanted { pid: 42, tag: Tag::Variable, vars: Default::default(), session }
    }

    #[expect(clippy::unnecessary_wraps, reason = "it looks as dump does")]
    fn found(wanted: &Wanted) -> Result<Dump, Blocker> {
        let session_id = wanted.session.clone().unwrap_or_default();
        let sessions = vec![Session { session_id, ..Session::default() }];
        Ok(Dump { at_unix_ns: 7, sessions, ..Dump::default() })
    }

    fn in_runtime(of: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(of);
    }

    /// Asks once, as the loop does that is woken by something else.
    fn ask(inspector: &mut Inspector) -> Poll<Result<Inspected>> {
        let mut context = std::task::Context::from_waker(Waker::noop());
        pin!(inspector.next()).poll(&mut context)
    }

    #[test]
    fn the_rest_keeps_looks_below_their_share_of_a_core() {
        let ended = Instant::now();
        let rest = |took_ms, is_shown| {
            let looked = Looked { ended, took: Duration::from_millis(took_ms) };
            looked.next_at(is_shown) - ended
        };
        assert_eq!(rest(10, true), Duration::from_secs(1), "nobody reads faster");
        assert_eq!(rest(10, false), Duration::from_millis(500), "another one is chosen");
        assert_eq!(rest(200, true), Duration::from_secs(10));
        assert_eq!(rest(200, false), Duration::from_secs(10), "with every key");
    }

    #[test]
    fn nothing_is_looked_at_while_nothing_is_wanted() {
        in_runtime(async {
            let mut inspector = Inspector::new(found);
            assert!(ask(&mut inspector).is_pending() && inspector.looks.is_none());
            inspector.want(Some(wanted("AJ_1")));
            let first = inspector.next().await.unwrap();
            assert_eq!(first.wanted, wanted("AJ_1"));
            assert!(ask(&mut inspector).is_pending() && inspector.looks.is_none(), "it rests");
            inspector.want(None);
            assert!(ask(&mut inspector).is_pending() && inspector.looks.is_none());
        });
    }

    /// Looks that go on now and at most, and whether they may end.
    static LOOKING: AtomicUsize = AtomicUsize::new(0);
    static AT_MOST: AtomicUsize = AtomicUsize::new(0);
    static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    fn slow(wanted: &Wanted) -> Result<Dump, Blocker> {
        AT_MOST.fetch_max(LOOKING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let open = GATE.0.lock().unwrap();
        drop(GATE.1.wait_while(open, |open| !*open).unwrap());
        LOOKING.fetch_sub(1, Ordering::SeqCst);
        found(wanted)
    }

    #[test]
    fn one_look_at_a_time_and_what_is_not_wanted_any_more_is_dropped() {
        in_runtime(async {
            let mut inspector = Inspector::new(slow);
            for session in ["AJ_1", "AJ_2", "AJ_3"] {
                inspector.want(Some(wanted(session)));
                assert!(ask(&mut inspector).is_pending());
            }
            let looks = inspector.looks.as_ref().map(|looking| looking.at.clone());
            assert_eq!(looks, Some(wanted("AJ_1")), "the first goes on");
            *GATE.0.lock().unwrap() = true;
            GATE.1.notify_all();
            // How long the first took, it rests for: that is none of the test's business.
            while inspector.last.is_none() {
                tokio::task::yield_now().await;
                let _ = ask(&mut inspector);
            }
            inspector.last = None;
            let next = inspector.next().await.unwrap();
            assert_eq!(next.wanted, wanted("AJ_3"));
            assert_eq!(AT_MOST.load(Ordering::SeqCst), 1);
        });
    }

    #[test]
    fn what_was_found_goes_to_the_pane() {
        let of = |found| Inspected { wanted: wanted("AJ_1"), found }.tasks();
        let tasks = of(found(&wanted("AJ_1")));
        assert_eq!((tasks.pid, &*tasks.session_id, tasks.at_unix_ns), (42, "AJ_1", Some(7)));
        assert_eq!(tasks.found.map(|found| found.len()), Ok(1));
        let none = Blocker::NoSuchSession { pid: 42, session: "AJ_1".into() };
        assert_eq!(of(Err(none)).found, Ok(vec![]));
        let gone = of(Err(Blocker::Exited { pid: 42 }));
        assert_eq!(gone.found, Err("process 42 has exited".into()));
        assert_eq!(gone.at_unix_ns, None);
    }
}
