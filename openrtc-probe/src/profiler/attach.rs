//! Attaching, all or nothing.
//!
//! In this order: what can be refused without touching anything; the programs; exits, tag changes
//! and enters; the threads and polls that are there already; the scheduler. On any error all that
//! was attached is detached, because whoever holds it is dropped.

use std::{collections::HashMap, io, thread, time::Duration};

use anyhow::{Context as _, Result};
use openrtc_common::{
    account::state,
    config::{Config, Settings, SiteRegisters},
    poll::{Frame, MAX_DEPTH, via},
    session::UNTAGGED,
};

use super::{
    Now, Profiler, Vars,
    capture::Lookout,
    costs::Costs,
    governor::Governor,
    modes::{self, Modes},
    pace::Pace,
    pairing::AtAttach,
};
use crate::{
    blocker::Blocker,
    bpf::{self, Capacity, Kernel, Loading, Preparing, Programs, Reaper, SitePoint},
    cpython::{PyThread, Python, memory::RemoteAddr},
    host,
    model::{About, Choice, Fact, Ledger, Mode, ModeWish, StallIds},
    worker::{Interpreter, SiteKind, TaskStepSite, Worker, WorkerThread},
};

/// How often a thread's entered contexts are read anew because it moved on.
const SEED_TRIES: usize = 16;

/// How often, and after how long, it is looked whether a thread has been heard of. One that has a CPU
/// for itself and never sleeps is not.
const HEAR_TRIES: usize = 20;
const HEAR_EVERY: Duration = Duration::from_millis(2);

/// What to look at, and for what.
#[derive(Clone, Debug)]
pub struct Target {
    /// The worker's process id.
    pub pid: i32,
    /// What says who a poll is for.
    pub tag: Tag,
    /// Name of the context variable that holds the session's id; not looked for with
    /// [`Tag::TaskName`].
    pub session_var: String,
    /// Name of the one that holds the agent's name.
    pub agent_var: String,
    /// Name of the one that holds the tenant's id.
    pub tenant_var: String,
    /// How polls are accounted.
    pub accounting: ModeWish,
    /// Wall time from which a poll on a loop thread is a stall.
    pub stall_threshold_ns: u64,
    /// Whether the programs in the kernel tell what they do on standard error.
    pub is_kernel_logged: bool,
    /// Whether it may be a process that runs one session alone, as OpenRTC's `isolation="process"` has
    /// it: then its memory is its share of what it has in common with others.
    pub is_job: bool,
    /// Where stalls get their numbers.
    pub stall_ids: StallIds,
}

/// What says who a poll is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tag {
    /// A context variable.
    #[default]
    Variable,
    /// The name of the task whose step runs.
    TaskName,
}

/// Which program stands at which site, and in which order they are attached.
const PROGRAMS: [(SiteKind, &str); 6] = [
    (SiteKind::RunExit, "run_exit"),
    (SiteKind::ContextExit, "context_exit"),
    (SiteKind::VarSet, "var_set"),
    (SiteKind::VarReset, "var_reset"),
    (SiteKind::RunEnter, "run_enter"),
    (SiteKind::ContextEnter, "context_enter"),
];

/// Attaches to the worker. The returned profiler has taken its first picture.
///
/// # Errors
/// A [`Blocker`] inside where the user can do something about it.
pub fn attach(target: Target, now: fn() -> Now) -> Result<Profiler> {
    check_host()?;
    let mut profiler = load(target, now)?;
    let start = now();
    if profiler.target.tag == Tag::TaskName {
        // There is no variable to look for first.
        profiler.ledger.take(Fact::TagFound);
    }
    profiler.find_gils();
    profiler.find_vars(start);
    profiler.start_accounting()?;
    profiler.seed(&now)?;
    profiler.kernel.attach_scheduler()?;
    profiler.let_it_be_heard();
    profiler.find_loops();
    profiler.find_sessions(now());
    // The origin: everything shown is since now.
    profiler.first_picture(now);
    // All of this was read by the process's id: was it the same process, and the same program?
    profiler.whereabouts()?;
    profiler.measure_programs(start);
    Ok(profiler)
}

/// Opens the worker, loads the programs, and attaches those at the sites, if polls are to be accounted by them.
fn load(target: Target, now: fn() -> Now) -> Result<Profiler> {
    let preparing = Preparing::start();
    let worker = Worker::open(target.pid)?;
    let interpreter = worker.interpreter()?;
    let python = worker.python(&interpreter, &worker.tids()?)?;
    let began = Pace::of(&worker, &python, now);
    let step = match target.tag {
        Tag::Variable => None,
        Tag::TaskName => Some(worker.task_step(&interpreter)?),
    };
    let mut config = config(&target, &interpreter, &python)?;
    config.registers.step_task = step.as_ref().map_or(0, |step| step.register.pt_regs_offset());
    let mut settings =
        Settings { stall_threshold_ns: target.stall_threshold_ns, ..Settings::default() };
    let capacity = if target.is_job { Capacity::SMALL } else { Capacity::FULL };
    let loading = Loading { capacity, is_logged: target.is_kernel_logged, ..Loading::default() };
    let mut kernel = Kernel::load(preparing, &config, &settings, loading)?;
    let points = points(step, &interpreter);
    let is_by_name = target.tag == Tag::TaskName;
    if is_by_name || target.accounting.may_probe() {
        kernel.load_programs_for(&points)?;
        settings.trap_ns = kernel.measure_trap(|| now().monotonic_ns).map_err(name_refusal)?;
    } else {
        // Also where nobody may place a probe.
        kernel.load_programs_for(&[])?;
    }
    let rate = match target.accounting.choice {
        Choice::Auto => began.polls_per_s(&worker, &python, now),
        Choice::Exact | Choice::Sampled => None,
    };
    let (governor, reason) = Governor::start(
        &target.accounting,
        is_by_name,
        now().monotonic_ns,
        rate,
        modes::poll_ns(settings.trap_ns, None),
    );
    if governor.mode() == Mode::Exact {
        modes::account(&mut settings, true, &interpreter);
        kernel.set(&settings);
        kernel.sites().attach(Programs::Exact, &points)?;
        kernel.find_threads();
    }
    Ok(Profiler {
        at_attach: AtAttach::of(kernel.threads()),
        ledger: ledger(&target, &interpreter, now()),
        lookout: Lookout::new(interpreter.path.clone()),
        modes: Modes::new(governor, reason, points, now),
        worker,
        python,
        interpreter,
        kernel,
        reaper: Reaper::default(),
        settings,
        target,
        vars: Vars::default(),
        seen: HashMap::new(),
        in_use_since: Vec::new(),
        unnamed: Vec::new(),
        costs: Costs::default(),
    })
}

fn ledger(target: &Target, interpreter: &Interpreter, start: Now) -> Ledger {
    let about = About {
        pid: target.pid as u32,
        python: interpreter.version.to_string(),
        stall_ids: target.stall_ids.clone(),
        accounting: target.accounting,
    };
    let unix_offset_ns = start.unix_ns - i128::from(start.monotonic_ns);
    Ledger::new(about, target.stall_threshold_ns, unix_offset_ns)
}

/// Refuses a machine that cannot be probed at all.
///
/// # Errors
/// The first [`Blocker`].
pub fn check_host() -> Result<()> {
    host::blockers(&host::HostFacts::read()?).into_iter().next().map_or(Ok(()), |b| Err(b.into()))
}

/// Since 6.16 the kernel asks for more than `CAP_PERFMON` before it lets anybody place a uprobe by a perf event, which
/// matters where there is no other way. That is found out by trying, on ourselves, before the worker is touched.
fn name_refusal(error: anyhow::Error) -> anyhow::Error {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    if io.is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied) {
        let needed_for = "attach probes to user space on this kernel";
        return Blocker::MissingCapability { name: "CAP_SYS_ADMIN", needed_for }.into();
    }
    error
}

/// The constants that the programs are loaded with.
pub fn config(target: &Target, interpreter: &Interpreter, python: &Python) -> Result<Config> {
    Ok(Config {
        tgid: u32::try_from(target.pid).map_err(|_| Blocker::NoSuchProcess { pid: target.pid })?,
        by_task: u32::from(target.tag == Tag::TaskName),
        python: python.kernel_layout(),
        kernel: bpf::kernel_layout()?,
        registers: registers(interpreter),
    })
}

fn registers(interpreter: &Interpreter) -> SiteRegisters {
    let at = |kind: SiteKind, index: usize| {
        let site = interpreter.sites.iter().find(|site| site.kind == kind);
        site.and_then(|site| site.registers.get(index)).map_or(0, |r| r.pt_regs_offset())
    };
    SiteRegisters {
        run_enter: at(SiteKind::RunEnter, 0),
        run_exit: at(SiteKind::RunExit, 0),
        context_enter: at(SiteKind::ContextEnter, 0),
        context_exit: at(SiteKind::ContextExit, 0),
        set_var: at(SiteKind::VarSet, 0),
        set_value: at(SiteKind::VarSet, 1),
        reset_var: at(SiteKind::VarReset, 0),
        reset_token: at(SiteKind::VarReset, 1),
        ..SiteRegisters::default()
    }
}

/// All sites in the order in which they are attached.
fn points(step: Option<TaskStepSite>, interpreter: &Interpreter) -> Vec<SitePoint> {
    // Before the enters, as all that says whose the entered context is.
    step.map(step_point).into_iter().chain(site_points(interpreter)).collect()
}

fn step_point(step: TaskStepSite) -> SitePoint {
    SitePoint { program: "task_step", path: step.attach_path, offset: step.offset.0 }
}

/// The sites in the order in which they are attached.
pub fn site_points(interpreter: &Interpreter) -> Vec<SitePoint> {
    let points = PROGRAMS.iter().flat_map(|(kind, program)| {
        let sites = interpreter.sites.iter().filter(|site| site.kind == *kind);
        sites.map(|site| SitePoint {
            program,
            path: interpreter.attach_path.clone(),
            offset: site.offset.0,
        })
    });
    points.collect()
}

impl Profiler {
    /// A thread that can run, and of which the scheduler has told nothing, either runs or waits for a
    /// CPU: the first look could not tell. It is heard of as soon as it leaves its CPU, or gets one.
    fn let_it_be_heard(&self) {
        for _ in 0..HEAR_TRIES {
            let mut looks = self.thread_looks().into_iter();
            if !looks.any(|look| look.is_unheard() && look.doing == state::ON_CPU) {
                return;
            }
            thread::sleep(HEAR_EVERY);
        }
    }

    /// Gives every thread an account, with the contexts that it is in now.
    fn seed(&mut self, now: &impl Fn() -> Now) -> Result<()> {
        let threads = self.worker.threads().context("cannot list the worker's threads")?;
        let tids = threads.iter().map(|thread| (thread.ns_tid, thread.tid)).collect();
        let known = self.python.threads(&tids).unwrap_or_default();
        for WorkerThread { tid, on_cpu_ns, .. } in threads {
            match known.iter().find(|thread| thread.tid == tid) {
                Some(thread) if self.modes.mode == Mode::Exact => {
                    self.seed_python_thread(thread, on_cpu_ns, now);
                }
                _ => {
                    self.kernel.seed_thread(tid, now().monotonic_ns, on_cpu_ns, &[]);
                }
            }
        }
        Ok(())
    }

    /// A thread that runs Python may enter and leave contexts while we look: its seed stands only
    /// if it was in the same poll before and after.
    fn seed_python_thread(&mut self, thread: &PyThread, charged_ns: u64, now: &impl Fn() -> Now) {
        for _ in 0..SEED_TRIES {
            let Some(entered) = self.python.entered(thread) else { continue };
            let now_ns = now().monotonic_ns;
            let frames = self.frames(thread, &entered.contexts, now_ns);
            // Met by the programs already: they know better.
            if !self.kernel.seed_thread(thread.tid, now_ns, charged_ns, &frames) {
                return;
            }
            if self.python.entered(thread).is_some_and(|again| again.version == entered.version) {
                return;
            }
            self.kernel.unseed_thread(thread.tid);
        }
    }

    /// The contexts that a thread is in, as the programs would have seen them entered.
    fn frames(&mut self, thread: &PyThread, contexts: &[u64], now_ns: u64) -> Vec<Frame> {
        let mut frames: Vec<Frame> = contexts
            .iter()
            .take(MAX_DEPTH)
            .map(|context| Frame {
                context: *context,
                slot: self.slot_of(RemoteAddr(*context), now_ns),
                via: via::RUN,
            })
            .collect();
        // What lies below the polls; see `openrtc_common::poll`.
        let mut rest = &mut frames[..];
        let is_first = u32::try_from(self.worker.pid()) == Ok(thread.tid);
        if self.python.kernel_layout().threads_in_context != 0
            && !is_first
            && let [of_thread, above @ ..] = rest
        {
            of_thread.via = via::THREAD;
            rest = above;
        }
        let is_uvloop = thread.running_loop.as_ref().is_some_and(|l| l.package() == "uvloop");
        if let [outermost, _, ..] = rest
            && is_uvloop
            && outermost.slot == UNTAGGED
        {
            outermost.via = via::LOOP;
        }
        frames
    }

    fn slot_of(&mut self, context: RemoteAddr, now_ns: u64) -> u32 {
        let tag = match self.target.tag {
            Tag::Variable => self.vars.tag.and_then(|var| self.python.value(context, var).ok()?),
            Tag::TaskName => self.name_of_task_in(context),
        };
        tag.and_then(|tag| self.kernel.open_session(&tag, context.0, now_ns)).unwrap_or(UNTAGGED)
    }
}
