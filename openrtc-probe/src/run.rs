//! The loop: one `select!` over everything that can wake us. No arithmetic on what was measured, no
//! formatting of it.

mod inspect;
mod job;
mod wakes;

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::Instant;

use self::{
    job::Whom,
    wakes::{Wake, Wakes},
};
use crate::{
    blocker::Blocker,
    cli::{Doctor, DumpOf, TagSource, VarNames},
    clock, doctor,
    dump::{self, Dump},
    fleet::{self, Fleet, Found, Member, Scout},
    host::privilege::{self, Work},
    model::{Stall, StallIds},
    output::{Output, Wish, print_line, print_text},
    plan::{MAX_WORKERS, Plan, Vars, View},
    profiler::{self, Tag, Target, Verdict},
    view::{self, top::Chosen},
};

/// In between, walks of memory take one part in so many of a core.
const SURVEY_SHARE: u32 = 200;

/// Attaches and runs until the last worker is gone, the duration is over, or somebody ends it.
///
/// # Errors
/// A [`Blocker`] inside where the user can do something about it.
pub async fn run(plan: &Plan) -> Result<()> {
    let began = Instant::now();
    let target = target(plan);
    let pids = plan.pids.iter().map(|pid| pid.cast_signed());
    let (fleet, scout, found) = if plan.children {
        profiler::check_host()?;
        let mut scout = Scout::new(target, pids.collect(), MAX_WORKERS)?;
        let found = scout.look(0, clock::now);
        (Fleet::default(), Some(scout), found)
    } else {
        let targets: Vec<Target> = pids.map(|pid| Target { pid, ..target.clone() }).collect();
        (Fleet::attach(&targets, clock::now)?, None, Vec::new())
    };
    let (attaches, saves) = (plan.children, plan.view == View::Table);
    privilege::keep(Work::Watch { attaches, saves }).context("cannot give up capabilities")?;
    if plan.verbosity > 0 {
        eprintln!("attached in {} ms", began.elapsed().as_millis());
    }
    fleet.members().iter().for_each(|member| announce(plan, member));
    let wakes = Wakes::new(plan, &fleet, scout)?;
    let mut run = Run {
        fleet,
        wakes,
        output: Output::open(plan)?,
        verbosity: plan.verbosity,
        seen_through: inspection(plan),
        focus: None,
    };
    run.point_below();
    run.welcome(found)?;
    if plan.children && run.fleet.is_empty() {
        run.output.say(&nobody_yet(&plan.pids));
    }
    let ended = run.follow().await;
    if plan.verbosity > 0 {
        run.output.say(&run.pairings());
    }
    ended
}

/// Examines this host, and the worker if one was named, and prints the report; its exit code.
pub fn examine(typed: &Doctor, is_utf8: bool) -> Result<u8> {
    let VarNames { session_var, agent_var, tenant_var } = typed.vars.clone();
    let vars = [session_var, agent_var, tenant_var];
    let wanted = doctor::Wanted { pid: typed.pid.map(u32::cast_signed), vars };
    let report = doctor::examine(&wanted, clock::now)?;
    if typed.json {
        print_line(view::doctor::json(&report).trim_end())?;
    } else {
        print_text(view::doctor::text(&report).trim_end(), is_utf8)?;
    }
    Ok(report.exit_code())
}

/// Looks at what every session of a worker does, and prints it.
///
/// # Errors
/// A [`Blocker`] inside where the user can do something about it.
pub fn dump(typed: &DumpOf, is_utf8: bool) -> Result<()> {
    privilege::keep(Work::Read).context("cannot give up capabilities")?;
    let VarNames { session_var, agent_var, tenant_var } = typed.vars.clone();
    let wanted = dump::Wanted {
        pid: typed.pid.cast_signed(),
        tag: tag(typed.tag),
        vars: [session_var, agent_var, tenant_var],
        session: typed.session.clone(),
    };
    let dump = dump::look(&wanted, clock::now)?;
    for why in missing(&wanted, &dump) {
        eprintln!("{why}\nhint: {}", why.hint());
    }
    if typed.json {
        return print_line(view::dump::json(&dump).trim_end());
    }
    print_text(view::dump::text(&dump).trim_end(), is_utf8)
}

/// Why a dump has less in it than was asked for.
fn missing(wanted: &dump::Wanted, dump: &Dump) -> Vec<Blocker> {
    let [var, ..] = wanted.vars.clone();
    let no_var = (!dump.tag_found).then_some(Blocker::NoSessionVar { var });
    let has_loop = dump.tasks() > 0 || !dump.event_loop.is_empty();
    let workers = if has_loop { Vec::new() } else { fleet::workers_below(wanted.pid) };
    if workers.is_empty() {
        return no_var.into_iter().collect();
    }
    vec![Blocker::OnlyParent { pid: wanted.pid, workers }]
}

/// How the tasks of a session of these workers are looked at.
fn inspection(plan: &Plan) -> dump::Wanted {
    let Vars { session, agent, tenant } = plan.vars.clone();
    dump::Wanted { pid: 0, tag: tag(plan.tag), vars: [session, agent, tenant], session: None }
}

fn nobody_yet(pids: &[u32]) -> String {
    let pids: Vec<_> = pids.iter().map(ToString::to_string).collect();
    format!("waiting: neither {} nor a process below runs an event loop yet", pids.join(", "))
}

fn tag(source: TagSource) -> Tag {
    match source {
        TagSource::Contextvar => Tag::Variable,
        TagSource::TaskName => Tag::TaskName,
    }
}

/// What all workers are looked at for.
fn target(plan: &Plan) -> Target {
    Target {
        pid: 0,
        tag: tag(plan.tag),
        session_var: plan.vars.session.clone(),
        agent_var: plan.vars.agent.clone(),
        tenant_var: plan.vars.tenant.clone(),
        accounting: plan.accounting,
        stall_threshold_ns: plan.stall_threshold_ns,
        // The live table has the terminal for itself.
        is_kernel_logged: plan.verbosity > 1 && plan.view != View::Table,
        is_job: plan.children,
        stall_ids: StallIds::default(),
    }
}

/// A run that goes on.
struct Run {
    fleet: Fleet,
    wakes: Wakes,
    output: Output,
    verbosity: u8,
    /// How a session's tasks are looked at.
    seen_through: dump::Wanted,
    /// The session whose details are open.
    focus: Option<Chosen>,
}

impl Run {
    async fn follow(&mut self) -> Result<()> {
        while !self.fleet.is_empty() || self.wakes.has_roots() {
            match self.wakes.next().await? {
                Wake::Events(pid) => {
                    let has_ended = self.fleet.drain(pid, clock::now());
                    self.govern()?;
                    if has_ended {
                        self.watch()?;
                    }
                }
                Wake::Ended(pid) => {
                    self.leave(pid)?;
                    self.tell(&format!("process {pid} has ended"));
                }
                Wake::RootEnded(pid) => self.wakes.forget_root(pid),
                Wake::Scouted(found) => self.welcome(found)?,
                // Nobody has asked.
                Wake::Inspected(inspected) => self.output.tell_tasks(inspected.tasks())?,
                Wake::Watch => self.watch()?,
                Wake::Survey => {
                    let began = Instant::now();
                    self.let_go_of_replaced()?;
                    self.fleet.survey(clock::now());
                    self.govern()?;
                    self.fleet.members().iter().try_for_each(check_pairing)?;
                    self.wakes.survey_in(began.elapsed() * SURVEY_SHARE);
                }
                Wake::Picture => self.picture()?,
                Wake::Typed(press) => match self.output.press(press)? {
                    Wish::Nothing => self.refocus()?,
                    Wish::Picture => self.picture()?,
                    Wish::Rate(hz) => self.wakes.picture_every(Duration::from_secs_f64(1.0 / hz)),
                    Wish::Threshold(ns) => {
                        self.fleet.set_stall_threshold(ns);
                        self.watch()?;
                    }
                    Wish::Suspend => self.output.suspend(|| job::stop(Whom::Job))?,
                    Wish::End => break,
                },
                Wake::Suspend => self.output.suspend(|| job::stop(Whom::Us))?,
                Wake::Resumed => self.output.resume()?,
                Wake::End => break,
            }
        }
        self.finish()
    }

    /// The last picture of those that are still there.
    fn finish(&mut self) -> Result<()> {
        self.tell_last()?;
        self.watch()?;
        self.fleet.survey(clock::now());
        self.let_go_of_replaced()?;
        let pictures = self.fleet.pictures(clock::now, true);
        // Stalls that ended while all that was read: they lie before the pictures.
        self.tell_last()?;
        self.output.pictures(pictures, true)
    }

    /// Tells of all stalls that have ended.
    fn tell_last(&mut self) -> Result<()> {
        let stalls = self.fleet.last_stalls(clock::now());
        self.report(&stalls)
    }

    fn report(&mut self, stalls: &[Stall]) -> Result<()> {
        stalls.iter().try_for_each(|stall| self.output.stall(stall))
    }

    /// Reports what has passed the threshold, and plans the next look.
    fn watch(&mut self) -> Result<()> {
        self.let_go_of_replaced()?;
        let now = clock::now();
        let (stalls, next_ns) = self.fleet.watch(now);
        self.report(&stalls)?;
        self.govern()?;
        self.wakes.watch_at(next_ns.map(|next_ns| {
            Instant::now() + Duration::from_nanos(next_ns.saturating_sub(now.monotonic_ns))
        }));
        Ok(())
    }

    /// Keeps the budget, and tells of changes.
    fn govern(&mut self) -> Result<()> {
        self.fleet.govern(clock::now())?;
        for (pid, change) in self.fleet.take_mode_changes() {
            self.output.mode(pid, &change)?;
        }
        Ok(())
    }

    fn picture(&mut self) -> Result<()> {
        self.let_go_of_replaced()?;
        let pictures = self.fleet.pictures(clock::now, false);
        self.output.pictures(pictures, false)
    }

    /// Looks more closely at the session whose details were opened, and no more at one that was left.
    fn refocus(&mut self) -> Result<()> {
        let focus = self.output.focus();
        if focus == self.focus.as_ref() {
            return Ok(());
        }
        self.focus = focus.cloned();
        let session = focus.map(|chosen| (chosen.pid, chosen.session_id.clone()));
        self.fleet.focus(session.as_ref());
        self.wakes.inspect(self.focus.as_ref().map(|chosen| dump::Wanted {
            pid: chosen.pid.cast_signed(),
            session: Some(chosen.session_id.to_string()),
            ..self.seen_through.clone()
        }));
        // With what only a close look shows.
        self.picture()
    }

    /// A worker's run is over: its last stalls and its last picture.
    fn leave(&mut self, pid: u32) -> Result<()> {
        self.wakes.forget(pid);
        let Some((stalls, last)) = self.fleet.leave(pid, clock::now) else { return Ok(()) };
        self.report(&stalls)?;
        self.output.last_picture(last)
    }

    /// Takes in new workers.
    fn welcome(&mut self, found: Vec<Found>) -> Result<()> {
        for found in found {
            match found {
                Found::Worker(member) => {
                    self.tell(&format!("process {} is followed", member.pid()));
                    self.wakes.watch(&member)?;
                    self.fleet.join(*member);
                }
                Found::Refused(pid, why) => {
                    self.output.say(&format!("process {pid} is not followed: {why:#}"));
                }
                Found::TooMany(pid) => {
                    let most = format!("{MAX_WORKERS} workers are followed already");
                    let what = format!("process {pid} is not followed: {most}");
                    self.output.note(&what, &format!("openrtc-probe --pid {pid}"));
                }
            }
        }
        Ok(())
    }

    /// Says what else to look at where a named process is only the parent of the workers.
    fn point_below(&mut self) {
        for member in self.fleet.members().iter().filter(|member| !member.profiler().has_loop()) {
            let pid = member.pid().cast_signed();
            let workers = fleet::workers_below(pid);
            if !workers.is_empty() {
                let blocker = Blocker::OnlyParent { pid, workers };
                self.output.note(&blocker.to_string(), &blocker.hint());
            }
        }
    }

    /// Says what only those want to know who have asked for it.
    fn tell(&mut self, text: &str) {
        if self.verbosity > 0 {
            self.output.say(text);
        }
    }

    /// What they run now is not what was attached to.
    fn let_go_of_replaced(&mut self) -> Result<()> {
        for pid in self.fleet.replaced() {
            self.leave(pid)?;
            let why = Blocker::Replaced { pid: pid.cast_signed() };
            self.output.say(&format!("{why}\nhint: {}", why.hint()));
        }
        Ok(())
    }

    fn pairings(&self) -> String {
        let one = |member: &Member| format!("pairing: {}", member.profiler().pairing());
        self.fleet.members().iter().map(one).collect::<Vec<_>>().join("\n")
    }
}

/// Sites that do not pair up would charge time to the wrong session: better none than wrong.
fn check_pairing(member: &Member) -> Result<()> {
    let pairing = member.profiler().pairing();
    if pairing.verdicts().contains(&Verdict::Broken) {
        let what = format!("the interpreter of process {}", member.pid());
        let why = format!("entries and exits do not pair up: {pairing}");
        return Err(Blocker::SiteRefused { what, why }.into());
    }
    Ok(())
}

/// Says on standard error what is attached where, and what is missing.
fn announce(plan: &Plan, member: &Member) {
    let profiler = member.profiler();
    if plan.verbosity > 0 {
        let interpreter = profiler.interpreter();
        eprintln!(
            "process {}: CPython {} in {}",
            member.pid(),
            interpreter.version,
            interpreter.path.display()
        );
        match profiler.trap_ns() {
            0 => eprintln!("no probe is placed"),
            trap_ns => eprintln!("a trap takes {trap_ns} ns on this machine"),
        }
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
