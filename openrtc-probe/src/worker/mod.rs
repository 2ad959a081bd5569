//! A process seen from outside: what `/proc` and its mapped files tell.
//!
//! [`Worker::open`] says whether the id names a process that can be looked at;
//! [`Worker::interpreter`] finds CPython in it and the instructions to probe. Invariants: nothing is
//! written to the worker, and it is never signalled, stopped or traced.

mod asleep;
mod binary;
mod callers;
mod container;
mod descriptor;
mod family;
mod flow;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod image;
mod interpreter;
mod maps;
mod reach;
mod register;
mod site;
mod task_step;

use std::{collections::BTreeMap, fs::File, io::Read as _, path::PathBuf, time::Duration};

use anyhow::Context as _;
use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::{Pid, Uid, User, geteuid},
};
use openrtc_common::thread::MAX_THREADS;
use procfs::{
    FromRead as _, ProcError, ProcResult,
    process::{Process, StatFlags, Status},
};

use crate::{
    blocker::Blocker,
    cpython::{NsTid, Python, Tids, memory::LiveMemory},
};

use self::image::Image;

pub use self::{
    binary::{ElfAddr, FileId, FileOffset, Mapping},
    descriptor::process_name,
    family::{descendants, is_listed, python_below},
    interpreter::{Identity, Interpreter, Loops, Readable},
    maps::code as code_of,
    register::Register,
    site::{Site, SiteKind},
    task_step::TaskStepSite,
};

/// One of the worker's threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerThread {
    /// Its id in our pid namespace.
    pub tid: u32,
    /// Its id in its own.
    pub ns_tid: NsTid,
    /// CPU time it has used, in nanoseconds, from `schedstat`.
    pub on_cpu_ns: u64,
    /// Time it has waited for a CPU, in nanoseconds, from `schedstat`.
    pub run_queue_ns: u64,
}

/// A process that was there when it was opened.
#[derive(Debug)]
pub struct Worker {
    pid: i32,
    /// Holds the process's directory open, so a reused id is never taken for it.
    process: Process,
    exe: PathBuf,
    uid: u32,
    /// Its ids from our pid namespace inwards.
    ns_pids: Vec<i32>,
    /// When it began, in clock ticks since boot.
    start_ticks: u64,
    /// What it was running; `None` where that cannot be read.
    image: Option<Image>,
}

impl Worker {
    /// Looks at the process `pid`.
    ///
    /// # Errors
    /// A [`Blocker`] that says why the id names no process that can be looked at.
    pub fn open(pid: i32) -> Result<Self, Blocker> {
        let process = Process::new(pid).map_err(|why| match why {
            ProcError::NotFound(_) => container::nobody_or_inside(pid),
            why => unreadable(pid, "", &why),
        })?;
        let status = status(&process, "status").map_err(|why| gone_or(pid, "status", &why))?;
        if status.tgid != pid {
            return Err(Blocker::ThreadId { tid: pid, pid: status.tgid });
        }
        let stat = process.stat().map_err(|why| gone_or(pid, "stat", &why))?;
        let flags = StatFlags::from_bits_truncate(stat.flags);
        if flags.contains(StatFlags::PF_KTHREAD) {
            return Err(Blocker::KernelThread { pid, name: stat.comm });
        }
        if matches!(stat.state, 'Z' | 'X') {
            return Err(Blocker::Exited { pid });
        }
        let exe = process.exe().map_err(|why| denied_or(pid, status.euid, "exe", &why))?;
        let ns_pids = status.nspid.clone().unwrap_or_else(|| vec![pid]);
        Ok(Self {
            pid,
            process,
            exe,
            uid: status.euid,
            ns_pids,
            start_ticks: stat.starttime,
            image: Image::of(pid),
        })
    }

    /// Its id in our pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its executable, as its own mount namespace names it.
    pub fn exe(&self) -> &std::path::Path {
        &self.exe
    }

    /// Its effective user.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The name of that user, or its number where it has none here.
    pub fn user(&self) -> String {
        user_name(Uid::from_raw(self.uid))
    }

    /// Its ids, from our pid namespace inwards.
    pub fn ns_pids(&self) -> &[i32] {
        &self.ns_pids
    }

    /// Its state as `/proc` writes it: `R`, `S`, `D`, ...; `None` where it is gone.
    pub fn state(&self) -> Option<char> {
        self.process.stat().ok().map(|stat| stat.state)
    }

    /// When it began: nanoseconds of `CLOCK_BOOTTIME`, which is what `/proc` counts in.
    pub fn started_at_boottime_ns(&self) -> u64 {
        let ticks_per_second = procfs::ticks_per_second().max(1);
        (u128::from(self.start_ticks) * 1_000_000_000 / u128::from(ticks_per_second)) as u64
    }

    /// How long it has run by `now`, a reading of `CLOCK_BOOTTIME` in nanoseconds.
    pub fn uptime(&self, now_boottime_ns: u64) -> Duration {
        Duration::from_nanos(now_boottime_ns.saturating_sub(self.started_at_boottime_ns()))
    }

    /// Whether it still runs: neither gone, nor a zombie, nor replaced under the same id.
    pub fn is_alive(&self) -> bool {
        self.process.stat().is_ok_and(|stat| {
            stat.starttime == self.start_ticks && !matches!(stat.state, 'Z' | 'X')
        })
    }

    /// Whether it runs another program than when it was opened (`execve`): the id is the same, all else
    /// is not. One that is gone is not replaced, whoever has its id by now.
    pub fn is_replaced(&self) -> bool {
        let is_another = match self.image {
            Some(image) => image.is_replaced_in(self.pid),
            // It was about to begin, or may not be read at all.
            None => Image::of(self.pid).is_some(),
        };
        // Looked at last: what was read by the id was of this process.
        is_another && self.is_alive()
    }

    /// CPU time of the process, also that of threads that have ended, in nanoseconds.
    pub fn cpu_ns(&self) -> anyhow::Result<u64> {
        let clock = clock_getcpuclockid(Pid::from_raw(self.pid))
            .and_then(clock_gettime)
            .with_context(|| format!("read the CPU clock of process {}", self.pid))?;
        // The clock is found by the id, which somebody else may have by now.
        self.process.stat().context("the worker is gone")?;
        Ok(Duration::from(clock).as_nanos() as u64)
    }

    /// Resident set, in bytes.
    pub fn rss_bytes(&self) -> anyhow::Result<u64> {
        let pages = self.process.statm()?.resident;
        Ok(pages * procfs::page_size())
    }

    /// Its share of the resident set, in bytes: a page that others have too counts in parts. `None`
    /// where the kernel does not tell.
    pub fn pss_bytes(&self) -> Option<u64> {
        let mut text = String::new();
        self.process.open_relative("smaps_rollup").ok()?.read_to_string(&mut text).ok()?;
        pss_bytes(&text)
    }

    /// How many threads it has.
    pub fn thread_count(&self) -> anyhow::Result<u32> {
        Ok(u32::try_from(self.process.stat()?.num_threads)?)
    }

    /// Its threads, at most [`MAX_THREADS`]; those that end meanwhile are left out.
    pub fn threads(&self) -> anyhow::Result<Vec<WorkerThread>> {
        let tasks = self.process.tasks().context("list the worker's threads")?;
        let threads = tasks.flatten().take(MAX_THREADS as usize).filter_map(|task| {
            let times = task.schedstat().ok()?;
            Some(WorkerThread {
                tid: u32::try_from(task.tid).ok()?,
                ns_tid: self.ns_tid(&task)?,
                on_cpu_ns: times.sum_exec_runtime,
                run_queue_ns: times.run_delay,
            })
        });
        Ok(threads.collect())
    }

    /// What this thread is doing, by the letter of `/proc`; `None` once it has ended.
    pub fn thread_state(&self, tid: u32) -> Option<char> {
        let task = self.process.task_from_tid(i32::try_from(tid).ok()?).ok()?;
        Some(task.stat().ok()?.state)
    }

    /// The ids of its threads in our pid namespace, by those in its own.
    pub fn tids(&self) -> anyhow::Result<Tids> {
        let tasks = self.process.tasks().context("list the worker's threads")?;
        let tids = tasks
            .flatten()
            .take(MAX_THREADS as usize)
            .filter_map(|task| Some((self.ns_tid(&task)?, u32::try_from(task.tid).ok()?)));
        Ok(tids.collect::<BTreeMap<_, _>>())
    }

    /// Finds the interpreter: its file, version, objects and the instructions to probe.
    ///
    /// # Errors
    /// A [`Blocker`] that says why there is none, or why it is not one that we can probe.
    pub fn interpreter(&self) -> Result<Interpreter, Blocker> {
        interpreter::find(self)
    }

    /// Finds the instruction at which every step of a task begins, which is in `asyncio`'s accelerator.
    ///
    /// # Errors
    /// [`Blocker::SiteRefused`] where it cannot be told for sure, [`Blocker::NoTasks`] before `asyncio` is
    /// imported.
    pub fn task_step(&self, interpreter: &Interpreter) -> Result<TaskStepSite, Blocker> {
        task_step::find(self, interpreter)
    }

    /// What is in the memory of its interpreter, which must be laid out as `found` says; `tids` are its
    /// threads.
    ///
    /// # Errors
    /// [`Blocker::LayoutMismatch`].
    pub fn python(&self, found: &Interpreter, tids: &Tids) -> Result<Python, Blocker> {
        let Interpreter { version, layout, addresses, .. } = found;
        Python::open(LiveMemory::new(self.pid), *version, layout.clone(), addresses, tids)
    }

    /// Finds what it takes to read the memory of its interpreter, also where it is none that we can probe.
    ///
    /// # Errors
    /// A [`Blocker`] that says why there is none, or why its memory is not understood.
    pub fn readable(&self) -> Result<Readable, Blocker> {
        interpreter::readable(self)
    }

    /// What is in the memory of its interpreter, which must be laid out as `found` says; `tids` are its
    /// threads.
    ///
    /// # Errors
    /// [`Blocker::LayoutMismatch`].
    pub fn python_of(&self, found: Readable, tids: &Tids) -> Result<Python, Blocker> {
        let Readable { version, layout, addresses, .. } = found;
        Python::open(LiveMemory::new(self.pid), version, layout, &addresses, tids)
    }

    /// Says which interpreter it is, also where it is none that we can probe.
    ///
    /// # Errors
    /// A [`Blocker`] that says why there is none, or why it cannot be told.
    pub fn identify(&self) -> Result<Identity, Blocker> {
        interpreter::identify(self)
    }

    /// Where it has code: every executable mapping, by ascending addresses.
    ///
    /// # Errors
    /// A [`Blocker`] that says why `/proc/PID/maps` cannot be read.
    pub fn code(&self) -> Result<Vec<Mapping>, Blocker> {
        binary::code(self)
    }

    /// Opens the very file of a mapping, also one that was deleted or lives in a container.
    ///
    /// # Errors
    /// [`Blocker::BinaryUnreadable`].
    pub fn open_mapped(&self, mapping: &Mapping) -> Result<File, Blocker> {
        binary::open_exact(self, mapping).map(|(_, file)| file)
    }

    /// A thread's id in its own pid namespace: the same as ours unless it lives in an inner one.
    fn ns_tid(&self, task: &procfs::process::Task) -> Option<NsTid> {
        let inner = if self.ns_pids.len() > 1 {
            let file = format!("task/{}/status", task.tid);
            status(&self.process, &file).ok()?.nspid?.last().copied()?
        } else {
            task.tid
        };
        u32::try_from(inner).ok().map(NsTid)
    }

    /// All of a file of the process: names in it may be no text.
    fn read(&self, file: &str) -> Result<Vec<u8>, Blocker> {
        bytes_of(&self.process, file).map_err(|why| self.blocked(file, &why))
    }

    /// The blocker for a file of the process that cannot be read.
    fn blocked(&self, file: &str, why: &ProcError) -> Blocker {
        denied_or(self.pid, self.uid, file, why)
    }
}

fn bytes_of(process: &Process, file: &str) -> ProcResult<Vec<u8>> {
    let mut bytes = Vec::new();
    process.open_relative(file)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a `status` file says. A thread's name, which is in it, is cut to 15 bytes, whatever that leaves of a letter.
fn status(process: &Process, file: &str) -> ProcResult<Status> {
    let bytes = bytes_of(process, file)?;
    Status::from_read(String::from_utf8_lossy(&bytes).as_bytes())
}

/// `Pss:  1234 kB`, where a kB is 1,024 bytes.
fn pss_bytes(smaps: &str) -> Option<u64> {
    let kilobytes =
        smaps.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next());
    kilobytes?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

fn unreadable(pid: i32, file: &str, why: &ProcError) -> Blocker {
    Blocker::Unreadable { what: format!("/proc/{pid}/{file}"), why: why.to_string() }
}

fn gone_or(pid: i32, file: &str, why: &ProcError) -> Blocker {
    match why {
        ProcError::NotFound(_) => Blocker::Exited { pid },
        why => unreadable(pid, file, why),
    }
}

fn denied_or(pid: i32, uid: u32, file: &str, why: &ProcError) -> Blocker {
    match why {
        ProcError::PermissionDenied(_) => denied(pid, uid),
        why => gone_or(pid, file, why),
    }
}

/// Who may not look into a process is either somebody else, or lacks the capability to look into
/// one that protects itself.
fn denied(pid: i32, uid: u32) -> Blocker {
    let uid = Uid::from_raw(uid);
    if uid == geteuid() {
        let needed_for = "read the memory of the worker";
        return Blocker::MissingCapability { name: "CAP_SYS_PTRACE", needed_for };
    }
    Blocker::OtherUser { pid, user: user_name(uid) }
}

fn user_name(uid: Uid) -> String {
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    name.unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_is_described() {
        let pid = std::process::id() as i32;
        let worker = Worker::open(pid).unwrap();
        assert!(worker.is_alive() && worker.rss_bytes().unwrap() > 0);
        assert!((1..1 << 40).contains(&worker.pss_bytes().unwrap()));
        let threads = worker.threads().unwrap();
        assert!(threads.iter().any(|thread| thread.tid == pid as u32));
        let tids = worker.tids().unwrap();
        assert!(threads.iter().all(|t| tids.get(&t.ns_tid) == Some(&t.tid)));
    }

    #[test]
    fn the_cpu_clock_agrees_with_the_scheduler() {
        let worker = Worker::open(std::process::id() as i32).unwrap();
        let sum = || worker.threads().unwrap().iter().map(|t| t.on_cpu_ns).sum::<u64>();
        let (before, clock, after) = (sum(), worker.cpu_ns().unwrap(), sum());
        // Other tests' threads end meanwhile, which only lowers the sums; running ones are behind
        // by up to a tick.
        assert!(clock + 20_000_000 > before, "{before} {clock} {after}");
    }

    #[test]
    fn what_is_no_process_is_named() {
        assert_eq!(Worker::open(i32::MAX).unwrap_err(), Blocker::NoSuchProcess { pid: i32::MAX });
        let stop = std::sync::mpsc::channel::<()>();
        let (send, receive) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            send.send(nix::unistd::gettid().as_raw()).unwrap();
            stop.1.recv().unwrap_err();
        });
        let tid = receive.recv().unwrap();
        let pid = std::process::id() as i32;
        assert_eq!(Worker::open(tid).unwrap_err(), Blocker::ThreadId { tid, pid });
        drop(stop.0);
        thread.join().unwrap();
    }
}
