//! All workers of a run: who is followed, whose run is over and why.
//!
//! - Each has a [`Profiler`] of its own: programs, maps and ledger share nothing but the numbers of
//!   their stalls.
//! - **All or nothing**: where one of the named workers cannot be attached to, none stays attached.
//! - A worker that ends, or replaces itself, leaves one last picture; after that nothing is read of its
//!   id, which another process may have by then.

mod scout;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

pub use self::scout::{Found, Scout};
use crate::{
    blocker::Blocker,
    model::{ModeChange, SmolStr, Snapshot, Stall},
    profiler::{self, Candidate, Now, Profiler, Target},
    worker::{Worker, descendants},
};

/// A worker that is followed.
pub struct Member {
    profiler: Profiler,
    /// Opened before anything was read: what was read by the id is this process's.
    pidfd: OwnedFd,
}

impl Member {
    /// Attaches to one worker.
    ///
    /// # Errors
    /// A [`Blocker`] inside where the user can do something about it.
    pub fn attach(target: Target, now: fn() -> Now) -> Result<Member> {
        let pid = target.pid;
        // Of what is no process at all, or a thread, attaching says more than this does.
        let pidfd = open_pidfd(pid);
        let profiler = profiler::attach(target, now).map_err(|error| {
            // It may have ended meanwhile: then that is the reason, whatever failed.
            match Worker::open(pid) {
                Err(gone @ (Blocker::Exited { .. } | Blocker::NoSuchProcess { .. })) => gone.into(),
                _ => error,
            }
        })?;
        let pidfd = pidfd.with_context(|| format!("cannot watch process {pid} for its end"))?;
        Ok(Member { profiler, pidfd })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.profiler.pid()
    }

    /// Its profiler.
    pub fn profiler(&self) -> &Profiler {
        &self.profiler
    }

    /// Readable once the process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// A descriptor that becomes readable when the process ends.
///
/// # Errors
/// Where there is no such process.
pub fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
    Ok(pidfd_open(pid, PidfdFlags::NONBLOCK)?)
}

/// The processes below `pid` that run an event loop.
pub fn workers_below(pid: i32) -> Vec<i32> {
    let runs_loop = |pid: &i32| {
        Candidate::open(*pid).is_ok_and(|mut candidate| candidate.runs_loop().is_ok_and(|yes| yes))
    };
    descendants(pid).into_iter().filter(runs_loop).collect()
}

/// The followed workers, in the order in which they came.
#[derive(Default)]
pub struct Fleet {
    members: Vec<Member>,
    /// What was set since: who joins later gets it too.
    threshold_ns: Option<u64>,
}

impl Fleet {
    /// Attaches to all of `targets` or to none.
    ///
    /// # Errors
    /// What keeps it from the first that cannot be attached to, a [`Blocker`] inside where the user can
    /// do something about it.
    pub fn attach(targets: &[Target], now: fn() -> Now) -> Result<Fleet> {
        let mut fleet = Fleet::default();
        for target in targets {
            let member = Member::attach(target.clone(), now).map_err(|error| match targets {
                [_] => error,
                // Not every reason has the process's name in it.
                _ => error.context(format!("cannot attach to process {}", target.pid)),
            });
            fleet.members.push(member?);
        }
        Ok(fleet)
    }

    /// Takes in another worker.
    pub fn join(&mut self, mut member: Member) {
        if let Some(threshold_ns) = self.threshold_ns {
            member.profiler.set_stall_threshold(threshold_ns);
        }
        self.members.push(member);
    }

    /// The workers.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Takes in the events that wait for one worker; says whether a stall has ended.
    pub fn drain(&mut self, pid: u32, now: Now) -> bool {
        let member = self.members.iter_mut().find(|member| member.pid() == pid);
        member.is_some_and(|member| member.profiler.drain(now))
    }

    /// What is still to be told of stalls that have ended.
    pub fn last_stalls(&mut self, now: Now) -> Vec<Stall> {
        self.members.iter_mut().flat_map(|member| member.profiler.last_stalls(now)).collect()
    }

    /// Looks for polls that have passed the threshold; says when to look next.
    pub fn watch(&mut self, now: Now) -> (Vec<Stall>, Option<u64>) {
        let mut passed = Vec::new();
        let mut next_ns: Option<u64> = None;
        for member in &mut self.members {
            let (stalls, at_ns) = member.profiler.watch(now);
            passed.extend(stalls);
            next_ns = Some(next_ns.map_or(at_ns, |next_ns| next_ns.min(at_ns)));
        }
        (passed, next_ns)
    }

    /// Keeps the budget of each worker.
    ///
    /// # Errors
    /// Those of [`Profiler::govern`].
    pub fn govern(&mut self, now: Now) -> Result<()> {
        self.members.iter_mut().try_for_each(|member| member.profiler.govern(now))
    }

    /// Changes of workers' modes since the last time, with their process ids.
    pub fn take_mode_changes(&mut self) -> Vec<(u32, ModeChange)> {
        let of = |member: &mut Member| {
            let pid = member.pid();
            member.profiler.take_mode_changes().into_iter().map(move |change| (pid, change))
        };
        self.members.iter_mut().flat_map(of).collect()
    }

    /// From now on a poll that lasts so long is a stall. The next [`Self::watch`] should come at once.
    pub fn set_stall_threshold(&mut self, threshold_ns: u64) {
        self.threshold_ns = Some(threshold_ns);
        for member in &mut self.members {
            member.profiler.set_stall_threshold(threshold_ns);
        }
    }

    /// Pictures show more of this session from now on, by its process and its id, or of none.
    pub fn focus(&mut self, session: Option<&(u32, SmolStr)>) {
        for member in &mut self.members {
            let its = session.filter(|(pid, _)| *pid == member.pid());
            member.profiler.focus(its.map(|(_, session_id)| session_id.clone()));
        }
    }

    /// Looks around in all workers' memory.
    pub fn survey(&mut self, now: Now) {
        for member in &mut self.members {
            member.profiler.survey(now);
        }
    }

    /// The pictures now.
    pub fn pictures(&mut self, now: fn() -> Now, is_final: bool) -> Vec<Snapshot> {
        self.members.iter_mut().map(|member| member.profiler.picture(now, is_final)).collect()
    }

    /// Workers that run another program now: nothing more may be read of them.
    pub fn replaced(&self) -> Vec<u32> {
        let replaced = self.members.iter().filter(|member| member.profiler.is_replaced());
        replaced.map(Member::pid).collect()
    }

    /// Takes a worker out, with its last stalls and its last picture.
    pub fn leave(&mut self, pid: u32, now: fn() -> Now) -> Option<(Vec<Stall>, Snapshot)> {
        let at = self.members.iter().position(|member| member.pid() == pid)?;
        let mut member = self.members.remove(at);
        let mut stalls = member.profiler.last_stalls(now());
        stalls.extend(member.profiler.watch(now()).0);
        let mut last = member.profiler.picture(now, true);
        last.end_sessions();
        // Detaching takes the kernel long, and the others must be watched: a thread does it. Where there
        // can be none it is done here.
        let detached = thread::Builder::new().spawn(move || drop(member));
        drop(detached);
        Some((stalls, last))
    }
}
