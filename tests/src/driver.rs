//! The daemon's library without its loop: for what no view prints.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use openrtc_common::config::Settings;
use openrtc_probe::{
    bpf::{Kernel, Links, Loading, Preparing, SitePoint},
    clock,
    fleet::Fleet,
    model::{Choice, ModeWish},
    model::{Session, Snapshot, Stall, StallIds},
    profiler::{self, Tag, Target},
    worker::Worker as Process,
};

use crate::worker::Worker;

/// From one look to the next: less than any threshold.
const EVERY: Duration = Duration::from_millis(10);
/// From one walk over the worker's memory to the next.
const SURVEY_EVERY: Duration = Duration::from_secs(1);
/// From one picture to the next.
const PICTURE_EVERY: Duration = Duration::from_millis(100);

/// What fixtures are looked at for, with the daemon's usual threshold.
pub fn target(pid: i32) -> Target {
    Target {
        pid,
        tag: Tag::Variable,
        session_var: "openrtc_session_id".into(),
        agent_var: "openrtc_agent_name".into(),
        tenant_var: "openrtc_tenant_id".into(),
        accounting: ModeWish { choice: Choice::Exact, ..ModeWish::default() },
        stall_threshold_ns: 50_000_000,
        is_kernel_logged: false,
        is_job: false,
        stall_ids: StallIds::default(),
    }
}

/// The programs of the kernel for a worker, and the sites for them. None is at a site.
pub fn kernel(pid: i32, settings: &Settings, links: Links) -> Result<(Kernel, Vec<SitePoint>)> {
    let worker = Process::open(pid)?;
    let interpreter = worker.interpreter()?;
    let python = worker.python(&interpreter, &worker.tids()?)?;
    let config = profiler::config(&target(pid), &interpreter, &python)?;
    let loading = Loading { links, ..Loading::default() };
    let kernel = Kernel::load(Preparing::start(), &config, settings, loading)?;
    Ok((kernel, profiler::site_points(&interpreter)))
}

/// A fleet of one worker, looked at as the daemon does.
pub struct Driver {
    /// The fleet.
    pub fleet: Fleet,
    pid: u32,
    /// Every report of a stall.
    pub stalls: Vec<Stall>,
    surveyed: Instant,
}

impl Driver {
    /// Attaches to a worker.
    pub fn attach(worker: &Worker) -> Result<Self> {
        let fleet = Fleet::attach(&[target(worker.pid)], clock::now)?;
        let pid = worker.pid.unsigned_abs();
        Ok(Self { fleet, pid, stalls: Vec::new(), surveyed: Instant::now() })
    }

    /// The worker's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Looks on until a picture is as wanted.
    pub fn until(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Snapshot) -> bool,
    ) -> Result<Snapshot> {
        let end = Instant::now() + limit;
        let mut last = None;
        while Instant::now() < end {
            let picture = self.picture()?;
            if wanted(&picture) {
                return Ok(picture);
            }
            last = Some(picture);
            self.look_on(PICTURE_EVERY);
        }
        bail!("no picture {what} within {limit:?}; the last: {last:?}")
    }

    /// Looks on for so long.
    pub fn look_on(&mut self, span: Duration) {
        let end = Instant::now() + span;
        while Instant::now() < end {
            self.fleet.drain(self.pid, clock::now());
            self.stalls.extend(self.fleet.watch(clock::now()).0);
            if self.surveyed.elapsed() >= SURVEY_EVERY {
                self.fleet.survey(clock::now());
                self.surveyed = Instant::now();
            }
            sleep(EVERY);
        }
    }

    /// The picture now.
    pub fn picture(&mut self) -> Result<Snapshot> {
        self.fleet.drain(self.pid, clock::now());
        self.fleet.pictures(clock::now, false).pop().context("nobody is followed")
    }
}

/// The session of this id among some.
pub fn of<'a>(sessions: &'a [Session], id: &str) -> Option<&'a Session> {
    sessions.iter().find(|session| &*session.session_id == id)
}

/// The session of this id, which must be there.
pub fn demand<'a>(sessions: &'a [Session], id: &str) -> Result<&'a Session> {
    of(sessions, id).with_context(|| format!("no session {id:?} among {sessions:?}"))
}
