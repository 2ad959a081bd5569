//! The programs at a worker's sites: they come and go while everything else stays, and attaching them takes
//! the kernel long, so that a thread of its own may do it.

use std::{
    num::NonZeroU32,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::{
    Ebpf,
    programs::{
        Program, UProbe,
        uprobe::{UProbeAttachLocation, UProbeLink, UProbeScope},
    },
};

use super::multi::Multi;

/// A place in a file of the worker, and the program for it.
#[derive(Clone, Debug)]
pub struct SitePoint {
    /// Name of the program.
    pub program: &'static str,
    /// The mapped file, by a path that leads to that very inode.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
}

/// Which programs to put on the sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    /// The ones that account.
    Exact,
    /// An empty pair at the polls' sites, to measure what a probe costs by itself.
    Empty,
}

/// The loaded object, and the links of its programs to sites.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    /// The programs at sites once more; `None` where the kernel has no links of several sites.
    pub(super) multi: Option<Multi>,
    links: Vec<(&'static str, SiteLink)>,
}

/// Whoever drops it detaches a program.
#[expect(dead_code, reason = "held for their drop")]
pub(super) enum SiteLink {
    /// From one site.
    Perf(UProbeLink),
    /// From all its sites in a file.
    Multi(OwnedFd),
}

/// Which probes go first: the ones that every poll runs over. Where each site has a link of its own the kernel closes
/// one after the other, whoever asks, and waits for all its CPUs each time.
const FIRST_OUT: [[&str; 2]; 2] = [["run_enter", "run_exit"], ["context_enter", "context_exit"]];

/// By which way most polls are entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Busiest {
    /// `Context.run`: the stdlib loop.
    #[default]
    Run,
    /// `PyContext_Enter`: uvloop.
    Context,
}

impl Loaded {
    /// Puts a program at these offsets of a file, for this process.
    pub(super) fn link(
        &mut self,
        name: &str,
        path: &Path,
        offsets: &[u64],
        pid: NonZeroU32,
    ) -> Result<Vec<SiteLink>> {
        if let Some(multi) = &mut self.multi {
            return Ok(vec![SiteLink::Multi(multi.link(name, path, offsets, pid.get())?)]);
        }
        let program: &mut UProbe = program(&mut self.ebpf, name)?;
        // One program serves several sites in the empty pair, and all come again.
        if program.fd().is_err() {
            program.load().with_context(|| format!("the kernel refused program {name}"))?;
        }
        let each = offsets.iter().map(|offset| {
            let location = UProbeAttachLocation::AbsoluteOffset(*offset);
            let attached = program.attach(location, path, UProbeScope::OneProcess(pid));
            let link = attached.and_then(|id| program.take_link(id)).with_context(|| {
                format!("cannot attach {name} at {}+{offset:#x}", path.display())
            })?;
            Ok(SiteLink::Perf(link))
        });
        each.collect()
    }

    fn detach(&mut self, busiest: Busiest) {
        if self.multi.is_some() {
            return self.close_at_once();
        }
        let [run, context] = FIRST_OUT;
        let order = match busiest {
            Busiest::Run => [run, context],
            Busiest::Context => [context, run],
        };
        let rank = |program| order.iter().flatten().position(|first| *first == program);
        self.links.sort_by_key(|(program, _)| rank(*program).unwrap_or(usize::MAX));
        self.links.clear();
    }

    /// Each link waits for a grace period, and all of them may wait for one.
    fn close_at_once(&mut self) {
        thread::scope(|scope| {
            for link in self.links.drain(..) {
                // Where there is no thread for it, it is closed here.
                let _ = thread::Builder::new().spawn_scoped(scope, move || drop(link));
            }
        });
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.detach(Busiest::default());
    }
}

/// The loaded object, shared with whoever attaches.
#[derive(Clone)]
pub struct Sites {
    loaded: Arc<Mutex<Loaded>>,
    /// Whoever attaches goes on only as long as this is so.
    is_wanted: Arc<AtomicBool>,
    tgid: u32,
}

impl Sites {
    pub(super) fn new(ebpf: Ebpf, multi: Option<Multi>, tgid: u32) -> Sites {
        let loaded = Arc::new(Mutex::new(Loaded { ebpf, multi, links: Vec::new() }));
        Sites { loaded, is_wanted: Arc::new(AtomicBool::new(false)), tgid }
    }

    /// The object; waits while somebody attaches or detaches.
    pub(super) fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object; `None` while somebody attaches or detaches.
    pub(super) fn loaded_now(&self) -> Option<MutexGuard<'_, Loaded>> {
        match self.loaded.try_lock() {
            Ok(held) => Some(held),
            Err(TryLockError::Poisoned(held)) => Some(held.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Attaches to all of `points`, in their order, or to none.
    pub fn attach(&self, programs: Programs, points: &[SitePoint]) -> Result<()> {
        self.is_wanted.store(true, Ordering::Relaxed);
        let attached = self.attach_each(programs, points);
        if attached.is_err() {
            self.detach(Busiest::default());
        }
        attached
    }

    fn attach_each(&self, programs: Programs, points: &[SitePoint]) -> Result<()> {
        let pid = NonZeroU32::new(self.tgid).ok_or_else(|| anyhow!("process 0 has no sites"))?;
        let loaded = &mut *self.loaded();
        let is_together =
            |a: &SitePoint, b: &SitePoint| (a.program, &a.path) == (b.program, &b.path);
        for together in points.chunk_by(is_together) {
            let [SitePoint { program, path, .. }, ..] = together else { continue };
            let name = match (programs, *program) {
                (Programs::Exact, name) => name,
                (Programs::Empty, "run_enter" | "context_enter") => "empty_enter",
                (Programs::Empty, "run_exit" | "context_exit") => "empty_exit",
                (Programs::Empty, _) => continue,
            };
            ensure!(self.is_wanted.load(Ordering::Relaxed), "the probes are not wanted any more");
            let offsets: Vec<u64> = together.iter().map(|point| point.offset).collect();
            let links = loaded.link(name, path, &offsets, pid)?;
            loaded.links.extend(links.into_iter().map(|link| (*program, link)));
        }
        Ok(())
    }

    /// Whoever attaches now is to give up.
    pub fn give_up(&self) {
        self.is_wanted.store(false, Ordering::Relaxed);
    }

    /// Detaches from all sites, those at polls first.
    pub fn detach(&self, busiest: Busiest) {
        self.is_wanted.store(false, Ordering::Relaxed);
        self.loaded().detach(busiest);
    }
}

/// A program of the object.
pub(super) fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P>
where
    &'a mut P: TryFrom<&'a mut Program, Error = aya::programs::ProgramError>,
{
    let program =
        ebpf.program_mut(name).ok_or_else(|| anyhow!("the kernel object has no program {name}"))?;
    Ok(program.try_into()?)
}
