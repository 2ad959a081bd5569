//! Loading and attaching.

use std::{
    mem::{offset_of, take},
    os::fd::OwnedFd,
    panic::resume_unwind,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Btf, BtfError, Ebpf, EbpfError, EbpfLoader,
    maps::{HashMap, Map, MapData, Queue, RingBuf},
    programs::{BtfTracePoint, Program},
};
use aya_log::{EbpfLogger, Level};
use log::{Log, Metadata, Record};
use openrtc_common::{
    board::Board,
    config::{Config, Settings},
    loss::Loss,
    session::{MAX_SESSIONS, Slot, UNTAGGED},
    tag::TagKey,
    thread::{MAX_THREADS, Thread},
};

use crate::host::limits;

use super::{
    calibrate::EMPTY,
    multi::Multi,
    shared::Shared,
    sites::{Loaded, SiteLink, SitePoint, Sites, program},
    wire::Wire,
};

/// The kernel side, built by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("OPENRTC_EBPF_OBJECT"));

pub(super) const SCHEDULER: [&str; 3] = ["sched_switch", "sched_wakeup", "sched_wakeup_new"];

/// What one program has cost, by the kernel's own statistics (`kernel.bpf_stats_enabled`).
#[derive(Clone, Debug)]
pub struct ProgramCost {
    /// Name of the program.
    pub name: String,
    /// Whether it is one at the scheduler's tracepoints, which runs for all threads of the machine.
    pub is_schedulers: bool,
    /// Time spent in it.
    pub run_time: Duration,
    /// How often it ran.
    pub runs: u64,
}

/// While this lives, the kernel accounts what each program costs; see [`Kernel::costs`].
pub struct CostAccounting(#[expect(dead_code, reason = "held for its drop")] OwnedFd);

impl CostAccounting {
    /// Switches the accounting on. It costs some nanoseconds a run itself.
    pub fn start() -> Result<CostAccounting> {
        let held = aya::sys::enable_stats(aya::sys::Stats::RunTime)
            .context("the kernel does not account the cost of programs")?;
        Ok(CostAccounting(held))
    }
}

/// The kernel's own types, as aya wants them: reading them takes long, and is done while the worker is looked at.
pub struct Preparing {
    loader: JoinHandle<EbpfLoader<'static>>,
    types: JoinHandle<Result<Btf, BtfError>>,
}

impl Preparing {
    /// Begins.
    pub fn start() -> Preparing {
        // A loader reads them when it is made, and does not lend them to anybody.
        let loader = thread::spawn(EbpfLoader::new);
        Preparing { loader, types: thread::spawn(Btf::from_sys_fs) }
    }
}

/// The programs and maps in the kernel, and the mapped counters.
pub struct Kernel {
    pub(super) sites: Sites,
    /// Of the probe on ourselves: closing it takes the kernel as long as any other.
    pub(super) calibration: Vec<SiteLink>,
    types: Option<JoinHandle<Result<Btf, BtfError>>>,
    pub(super) threads: Arc<Shared<Thread>>,
    /// The slots of threads that are known to be in use, in ascending order.
    pub(super) known_threads: Vec<u32>,
    pub(super) sessions: Shared<Slot>,
    pub(super) losses: Shared<u64>,
    pub(super) var_changes: Shared<u64>,
    pub(super) board: Arc<Shared<Board>>,
    pub(super) thread_slots: HashMap<MapData, u32, u32>,
    pub(super) session_slots: HashMap<MapData, Wire<TagKey>, u32>,
    pub(super) free_threads: Queue<MapData, u32>,
    pub(super) free_sessions: Queue<MapData, u32>,
    pub(super) events: RingBuf<MapData>,
    /// `None` while an onlooker has it.
    pub(super) wakes: Option<RingBuf<MapData>>,
    log: Option<EbpfLogger<StandardError>>,
}

/// Where the programs' own log goes.
struct StandardError;

impl Log for StandardError {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        eprintln!("kernel: {}", record.args());
    }

    fn flush(&self) {}
}

/// How much is followed in one worker; what is beyond is counted as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    threads: u32,
    sessions: u32,
}

impl Default for Capacity {
    fn default() -> Capacity {
        Capacity::FULL
    }
}

impl Capacity {
    /// For any worker: 12 MB of the kernel's memory.
    pub const FULL: Capacity = Capacity { threads: MAX_THREADS, sessions: MAX_SESSIONS };
    /// For one of many processes with few sessions each: 1.5 MB.
    pub const SMALL: Capacity = Capacity { threads: MAX_THREADS / 8, sessions: MAX_SESSIONS / 8 };
}

/// By which links programs stand at sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Links {
    /// One for all sites of a program where the kernel has such links, else as below.
    #[default]
    Best,
    /// One for each site, through a perf event: every kernel has them.
    Each,
}

/// How the programs are loaded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loading {
    /// How much they follow.
    pub capacity: Capacity,
    /// By which links they will stand at sites.
    pub links: Links,
    /// Whether they tell what they do on standard error.
    pub is_logged: bool,
}

impl Kernel {
    /// Loads the maps for the worker that `config` describes. Nothing is attached yet.
    pub fn load(
        preparing: Preparing,
        config: &Config,
        settings: &Settings,
        loading: Loading,
    ) -> Result<Kernel> {
        let Loading { capacity, links, is_logged } = loading;
        let config_value = Wire(*config);
        let level = if is_logged { Level::Debug as u8 } else { 0 };
        let mut ebpf = joined(preparing.loader)
            .override_global("CONFIG", &config_value, true)
            .override_global(aya_log::LEVEL, &level, true)
            .map_max_entries("THREADS", capacity.threads)
            .map_max_entries("THREAD_SLOTS", capacity.threads)
            .map_max_entries("FREE_THREADS", capacity.threads)
            .map_max_entries("SESSIONS", capacity.sessions)
            .map_max_entries("SESSION_SLOTS", capacity.sessions)
            .map_max_entries("FREE_SESSIONS", capacity.sessions)
            .load(OBJECT)
            .map_err(refused)?;
        let log = is_logged.then(|| EbpfLogger::init_with_logger(&mut ebpf, StandardError));
        let log = log.transpose().context("cannot read the programs' log")?;
        let multi = match links {
            Links::Best => Multi::read(OBJECT, &ebpf)?,
            Links::Each => None,
        };
        let mut kernel = Kernel {
            threads: Arc::new(mapped(&ebpf, "THREADS", capacity.threads)?),
            known_threads: Vec::new(),
            sessions: mapped(&ebpf, "SESSIONS", capacity.sessions)?,
            losses: mapped(&ebpf, "LOSSES", Loss::COUNT as u32)?,
            var_changes: mapped(&ebpf, "VAR_CHANGES", 1)?,
            board: Arc::new(mapped(&ebpf, "BOARD", 1)?),
            thread_slots: taken(&mut ebpf, "THREAD_SLOTS")?,
            session_slots: taken(&mut ebpf, "SESSION_SLOTS")?,
            free_threads: taken(&mut ebpf, "FREE_THREADS")?,
            free_sessions: taken(&mut ebpf, "FREE_SESSIONS")?,
            events: taken(&mut ebpf, "EVENTS")?,
            wakes: Some(taken(&mut ebpf, "WAKES")?),
            log,
            sites: Sites::new(ebpf, multi, config.tgid),
            calibration: Vec::new(),
            types: Some(preparing.types),
        };
        kernel.set(settings);
        for slot in 0..capacity.threads {
            kernel.free_threads.push(slot, 0).context("cannot fill the queue of thread slots")?;
        }
        for slot in UNTAGGED + 1..capacity.sessions {
            kernel.free_sessions.push(slot, 0).context("cannot fill the queue of session slots")?;
        }
        Ok(kernel)
    }

    /// Prints what the programs have logged.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Loads the programs for these sites, the scheduler's, and, where there are sites, the one for
    /// [`Kernel::measure_trap`]: that takes long, and is done before anything is attached.
    pub fn load_programs_for(&mut self, points: &[SitePoint]) -> Result<()> {
        let at_sites = points.iter().map(|point| point.program);
        let empty = points.first().map(|_| EMPTY);
        let names: Vec<_> = at_sites.chain(SCHEDULER).chain(empty).collect();
        self.load_programs(&names)
    }

    /// Loads these programs, each in a thread: the kernel proves them one by one, and none waits for another.
    pub(super) fn load_programs(&mut self, names: &[&str]) -> Result<()> {
        let is_schedulers = |name: &&str| SCHEDULER.contains(name);
        let types = if names.iter().any(is_schedulers) { Some(self.types()?) } else { None };
        let Loaded { ebpf, multi, .. } = &mut *self.sites.loaded();
        let (of_multi, of_aya): (Vec<&str>, Vec<&str>) =
            names.iter().partition(|name| multi.is_some() && !is_schedulers(name));
        let wanted = ebpf.programs_mut().filter(|(name, _)| of_aya.contains(name));
        let types = types.as_ref();
        thread::scope(|scope| {
            // All are begun before the first is waited for.
            let loads: Vec<_> = wanted
                .map(|(name, program)| scope.spawn(move || load(name, program, types)))
                .collect();
            if let Some(multi) = multi {
                multi.load_all(&of_multi)?;
            }
            loads
                .into_iter()
                .try_for_each(|load| load.join().unwrap_or_else(|why| resume_unwind(why)))
        })
    }

    fn types(&mut self) -> Result<Btf> {
        let types = self.types.take().map_or_else(Btf::from_sys_fs, joined);
        types.context("cannot read the kernel's type information")
    }

    /// Attaches to the scheduler's tracepoints.
    pub fn attach_scheduler(&mut self) -> Result<()> {
        let Loaded { ebpf, .. } = &mut *self.sites.loaded();
        for name in SCHEDULER {
            let program: &mut BtfTracePoint = program(ebpf, name)?;
            program.attach().with_context(|| format!("cannot attach to tracepoint {name}"))?;
        }
        // All is attached: who closes a probe makes everybody wait who attaches one.
        let calibration = take(&mut self.calibration);
        thread::spawn(move || drop(calibration));
        Ok(())
    }

    /// The programs at the worker's sites.
    pub fn sites(&self) -> &Sites {
        &self.sites
    }

    /// Changes the settings while the programs run.
    pub fn set(&mut self, settings: &Settings) {
        self.board.write_field(0, offset_of!(Board, settings), *settings);
    }

    /// What each program has cost so far.
    ///
    /// # Errors
    /// While somebody attaches or detaches.
    pub fn costs(&self) -> Result<Vec<ProgramCost>> {
        let mut costs = Vec::new();
        let loaded = self.sites.loaded_now().context("the programs are being attached")?;
        costs.extend(loaded.multi.iter().flat_map(Multi::costs));
        for (name, program) in loaded.ebpf.programs() {
            // A program that was not loaded has cost nothing.
            let Ok(info) = program.info() else { continue };
            costs.push(ProgramCost {
                name: name.to_owned(),
                is_schedulers: SCHEDULER.contains(&name),
                run_time: info.run_time(),
                runs: info.run_count(),
            });
        }
        costs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(costs)
    }
}

fn load(name: &str, program: &mut Program, types: Option<&Btf>) -> Result<()> {
    let loaded = match (program, types) {
        (Program::UProbe(program), _) => program.load(),
        (Program::BtfTracePoint(program), Some(types)) => program.load(name, types),
        _ => bail!("program {name} of the kernel object is of no kind that is known"),
    };
    loaded.with_context(|| format!("the kernel refused program {name}"))
}

/// What came of a thread.
fn joined<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|why| resume_unwind(why))
}

fn mapped<T: bytemuck::Pod>(ebpf: &Ebpf, name: &str, len: u32) -> Result<Shared<T>> {
    let map = ebpf.map(name).ok_or_else(|| anyhow!("the kernel object has no map {name}"))?;
    match map {
        Map::Array(data) => Shared::map(data.fd(), len).with_context(|| format!("map {name}")),
        _ => Err(anyhow!("map {name} of the kernel object is no array")),
    }
}

/// Why nothing could be loaded.
fn refused(why: EbpfError) -> anyhow::Error {
    match limits::locked_memory() {
        Some(blocker) => blocker.into(),
        None => anyhow::Error::new(why)
            .context("the kernel refused the maps or the object of openrtc-probe"),
    }
}

fn taken<M: TryFrom<Map, Error = aya::maps::MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<M> {
    let map = ebpf.take_map(name).ok_or_else(|| anyhow!("the kernel object has no map {name}"))?;
    M::try_from(map).with_context(|| format!("map {name} of the kernel object"))
}
