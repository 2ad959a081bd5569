//! What a bug report will hold first: this machine, a worker, and whether all of it works together.
//!
//! - Facts are looked up first, decided on by pure functions, and rendered by `view/doctor`.
//! - **Every check is always there**, by the ids of its section; one that needs what another did not
//!   find is [`Verdict::NotRun`], never silently left out.
//! - Nothing is left in the kernel, and the self-test's worker is our own child, dead at the end.

mod fixture;
mod host;
mod look;
mod self_test;
mod worker;

use crate::{
    blocker::Blocker,
    bpf,
    host::{HostFacts, settings::Settings},
    profiler::Now,
};

/// Who is to be examined, and which variables to look for in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// A worker's process id.
    pub pid: Option<i32>,
    /// Names of the context variables: session, agent, tenant.
    pub vars: [String; 3],
}

/// All that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Our own version.
    pub version: &'static str,
    /// The worker's process id, where one was asked for.
    pub pid: Option<i32>,
    /// Of this machine.
    pub host: Vec<Check>,
    /// Of the worker; empty where none was asked for.
    pub worker: Vec<Check>,
    /// Of a small worker of our own.
    pub self_test: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name, which never changes: for scripts, and for those who compare two reports.
    pub id: &'static str,
    /// What to think of it.
    pub verdict: Verdict,
    /// What was found; may hold text of the worker's, which is hostile.
    pub found: String,
    /// What to type, where there is something to do.
    pub hint: Option<String>,
}

/// What to think of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Nothing that keeps the probe from its work, but worth knowing.
    Note,
    /// It keeps the probe from its work.
    Fail {
        /// Of the whole command, if it is the first one.
        exit_code: u8,
    },
    /// It could not be looked at.
    NotRun,
}

impl Verdict {
    /// The word for it, in text and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Fail { .. } => "FAIL",
            Self::NotRun => "not run",
        }
    }
}

impl Check {
    fn new(id: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { id, verdict, found: found.into(), hint: None }
    }

    fn ok(id: &'static str, found: impl Into<String>) -> Self {
        Self::new(id, Verdict::Ok, found)
    }

    fn note(id: &'static str, found: impl Into<String>) -> Self {
        Self::new(id, Verdict::Note, found)
    }

    fn not_run(id: &'static str, why: impl Into<String>) -> Self {
        Self::new(id, Verdict::NotRun, why)
    }

    fn fail(id: &'static str, exit_code: u8, found: impl Into<String>) -> Self {
        Self::new(id, Verdict::Fail { exit_code }, found)
    }

    fn blocked(id: &'static str, blocker: &Blocker) -> Self {
        Self::fail(id, blocker.exit_code(), blocker.to_string()).hint(blocker.hint())
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Whether it keeps the probe from its work.
    pub fn is_failed(&self) -> bool {
        matches!(self.verdict, Verdict::Fail { .. })
    }
}

impl Report {
    /// Every check, in order.
    pub fn checks(&self) -> impl Iterator<Item = &Check> {
        self.host.iter().chain(&self.worker).chain(&self.self_test)
    }

    /// That of the first failure, or 0. This machine's come first: what it cannot, no worker can.
    pub fn exit_code(&self) -> u8 {
        let codes = self.checks().filter_map(|check| match check.verdict {
            Verdict::Fail { exit_code } => Some(exit_code),
            _ => None,
        });
        codes.into_iter().next().unwrap_or(0)
    }
}

/// Looks at everything.
///
/// # Errors
/// [`Blocker::Unreadable`] where `/proc` does not tell what we may do.
pub fn examine(wanted: &Wanted, now: fn() -> Now) -> Result<Report, Blocker> {
    let facts = HostFacts::read()?;
    let tried = match crate::host::blockers(&facts).first() {
        Some(blocker) => host::Tried::not(blocker),
        None => host::Tried::from(bpf::trial(|| now().monotonic_ns)),
    };
    let host = host::checks(&facts, &Settings::read(), &tried);
    let worker = wanted.pid.map(|pid| {
        let seen = look::at(pid, &wanted.vars);
        worker::checks(&seen, &facts.namespaces, &wanted.vars)
    });
    let self_test = match host.iter().find(|check| check.is_failed()) {
        Some(check) => self_test::Outcome::NotRun(format!("this host cannot: see {}", check.id)),
        None => self_test::run(now),
    };
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        pid: wanted.pid,
        host,
        worker: worker.unwrap_or_default(),
        self_test: self_test::checks(&self_test),
    })
}

/// An error and its causes on one line that is not too long for a report: the kernel's own words may
/// be a whole log.
fn one_line(error: &anyhow::Error) -> String {
    const MAX_CHARS: usize = 300;
    let text = format!("{error:#}");
    let mut line: String =
        text.lines().next().unwrap_or_default().chars().take(MAX_CHARS).collect();
    if line.len() < text.trim_end().len() {
        line.push_str(" ...");
    }
    line
}

#[cfg(test)]
mod tests;
