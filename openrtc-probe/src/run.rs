//! The loop: one `select!` over everything that can wake us. No arithmetic on what was measured, no
//! formatting of it.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use anyhow::{Context as _, Result};
use futures_util::{Stream, StreamExt as _, stream};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};

use crate::{
    blocker::Blocker,
    cli::Doctor,
    clock,
    doctor::{self, Wanted},
    model::Stall,
    output::{Output, Wish, print_line},
    plan::{Plan, View},
    profiler::{self, Profiler, Target, Verdict},
    view::{
        self,
        top::{Press, events},
    },
};

/// Memory is walked, and what ended is cleared away, at most this often.
const SURVEY_EVERY: Duration = Duration::from_secs(1);
/// An end that is further away than any run.
const NEVER: Duration = Duration::from_hours(365 * 24);

/// What woke us.
enum Wake {
    /// The kernel has events for us.
    Events,
    /// A poll may have passed the threshold.
    Watch,
    /// It is time to look around in the worker's memory.
    Survey,
    /// It is time for a picture.
    Picture,
    /// Somebody typed.
    Typed(Press),
    /// The worker is gone, the time is over, or we were asked to end.
    End,
}

/// Attaches and runs until the worker is gone, the duration is over, or somebody ends it.
///
/// # Errors
/// A [`Blocker`] inside where the user can do something about it.
pub async fn run(plan: &Plan) -> Result<()> {
    let mut profiler = profiler::attach(target(plan), clock::now)?;
    announce(plan, &profiler);
    let ended = follow(plan, &mut profiler).await;
    if plan.verbosity > 0 {
        eprintln!("pairing: {}", profiler.pairing());
    }
    ended
}

/// Examines this host, and the worker if one was named, and prints the report; its exit code.
pub fn examine(typed: &Doctor) -> Result<u8> {
    let wanted = Wanted {
        pid: typed.pid.map(u32::cast_signed),
        vars: [typed.session_var.clone(), typed.agent_var.clone(), typed.tenant_var.clone()],
    };
    let report = doctor::examine(&wanted, clock::now)?;
    let text = if typed.json { view::doctor::json(&report) } else { view::doctor::text(&report) };
    print_line(text.trim_end())?;
    Ok(report.exit_code())
}

fn target(plan: &Plan) -> Target {
    Target {
        pid: plan.pid.cast_signed(),
        session_var: plan.vars.session.clone(),
        agent_var: plan.vars.agent.clone(),
        tenant_var: plan.vars.tenant.clone(),
        stall_threshold_ns: plan.stall_threshold_ns,
        // The live table has the terminal for itself.
        is_kernel_logged: plan.verbosity > 1 && plan.view != View::Table,
    }
}

async fn follow(plan: &Plan, profiler: &mut Profiler) -> Result<()> {
    let mut wakes = Wakes::new(plan, profiler)?;
    let mut output = Output::open(plan)?;
    loop {
        match wakes.next().await? {
            Wake::Events => report(&mut output, &profiler.drain(clock::now()))?,
            Wake::Watch => wakes.next_watch = watch(&mut output, profiler)?,
            Wake::Survey => {
                profiler.survey(clock::now());
                check_pairing(profiler)?;
            }
            Wake::Picture => output.picture(profiler.picture(clock::now, false))?,
            Wake::Typed(press) => match output.press(press)? {
                Wish::Nothing => {}
                Wish::Picture => output.picture(profiler.picture(clock::now, false))?,
                Wish::End => break,
            },
            Wake::End => break,
        }
    }
    report(&mut output, &profiler.drain(clock::now()))?;
    watch(&mut output, profiler)?;
    profiler.survey(clock::now());
    output.picture(profiler.picture(clock::now, true))
}

fn report(output: &mut Output, stalls: &[Stall]) -> Result<()> {
    stalls.iter().try_for_each(|stall| output.stall(stall))
}

/// Reports what has passed the threshold; says when to look next.
fn watch(output: &mut Output, profiler: &mut Profiler) -> Result<Instant> {
    let now = clock::now();
    let (stalls, next_ns) = profiler.watch(now);
    report(output, &stalls)?;
    Ok(Instant::now() + Duration::from_nanos(next_ns.saturating_sub(now.monotonic_ns)))
}

/// Sites that do not pair up would charge time to the wrong session: better none than wrong.
fn check_pairing(profiler: &Profiler) -> Result<()> {
    let pairing = profiler.pairing();
    if pairing.verdicts().contains(&Verdict::Broken) {
        let why = format!("entries and exits do not pair up: {pairing}");
        return Err(Blocker::SiteRefused { what: "this interpreter".into(), why }.into());
    }
    Ok(())
}

/// Everything that can wake the loop.
struct Wakes {
    events: AsyncFd<OwnedFd>,
    worker: AsyncFd<OwnedFd>,
    signals: [Signal; 3],
    survey: Interval,
    picture: Interval,
    next_watch: Instant,
    end_at: Instant,
    typed: Box<dyn Stream<Item = io::Result<Press>> + Unpin>,
}

impl Wakes {
    fn new(plan: &Plan, profiler: &Profiler) -> Result<Wakes> {
        let worker = Pid::from_raw(plan.pid.cast_signed())
            .context("process 0 is no worker")
            .and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::NONBLOCK)?))
            .with_context(|| format!("cannot watch process {} for its end", plan.pid))?;
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let now = Instant::now();
        let lasts = match plan.view {
            View::Once | View::JsonOnce => plan.interval,
            _ => plan.duration.unwrap_or(NEVER),
        };
        let ring = profiler.kernel().as_fd().try_clone_to_owned();
        Ok(Wakes {
            events: ring.and_then(listen_on).context("cannot wait for the kernel's events")?,
            worker: listen_on(worker).context("cannot wait for the worker's end")?,
            signals: [
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
                listen(SignalKind::hangup())?,
            ],
            survey: every(SURVEY_EVERY, now),
            picture: every(plan.interval, now),
            next_watch: now,
            end_at: now + lasts,
            typed: match plan.view {
                View::Table => Box::new(events()),
                _ => Box::new(stream::pending()),
            },
        })
    }

    async fn next(&mut self) -> Result<Wake> {
        let [interrupt, terminate, hangup] = &mut self.signals;
        Ok(tokio::select! {
            biased;
            _ = interrupt.recv() => Wake::End,
            _ = terminate.recv() => Wake::End,
            _ = hangup.recv() => Wake::End,
            gone = self.worker.readable() => {
                gone.context("cannot wait for the worker's end")?.retain_ready();
                Wake::End
            }
            () = sleep_until(self.end_at) => Wake::End,
            () = sleep_until(self.next_watch) => Wake::Watch,
            ready = self.events.readable() => {
                ready.context("cannot wait for the kernel's events")?.clear_ready();
                Wake::Events
            }
            typed = self.typed.next() => match typed {
                Some(press) => Wake::Typed(press.context("cannot read the keyboard")?),
                None => Wake::End,
            },
            _ = self.survey.tick() => Wake::Survey,
            _ = self.picture.tick() => Wake::Picture,
        })
    }
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

/// Says on standard error what is attached where, and what is missing.
fn announce(plan: &Plan, profiler: &Profiler) {
    if plan.verbosity > 0 {
        let interpreter = profiler.interpreter();
        eprintln!("CPython {} in {}", interpreter.version, interpreter.path.display());
        eprintln!("a trap takes {} ns on this machine", profiler.trap_ns());
        for site in &interpreter.sites {
            let at = site.address.0;
            eprintln!("  {:<24} {at:#x}  {}", site.kind.name(), site.instruction);
        }
        let how = if profiler.remembers() { "until a variable is set" } else { "never" };
        eprintln!("what a map of variables holds is remembered: {how}");
    }
    if !profiler.tag_found() && plan.view != View::Table {
        let blocker = Blocker::NoSessionVar { var: plan.vars.session.clone() };
        eprintln!("waiting: {blocker}\nhint: {}", blocker.hint());
    }
}
