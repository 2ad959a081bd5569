//! Whether all of it works together: a small worker of our own, observed by the real profiler.
//!
//! One session burns CPU and keeps an account of it, another one blocks the loop once. What is told
//! of them must be so.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::{
    blocker::Blocker,
    host::stolen::{between, stolen_ns},
    model::{Choice, ModeWish, Snapshot, Stall, StallIds},
    profiler::{self, Now, Tag, Target},
};

use super::{
    Check,
    fixture::{Fixture, find_python},
    one_line,
};

/// The exit code.
const SELF_TEST_FAILED: u8 = 1;
const REPORT_IT: &str = "report it with all of this";
const BURNS: &str = "doctor-burns";
const BLOCKS: &str = "doctor-blocks";
/// OpenRTC's own.
const STALL_THRESHOLD_NS: u64 = 50_000_000;
/// How long the fixture sleeps, a little less: clocks differ.
const LEAST_BLOCK_NS: u64 = 79_000_000;
/// Its account misses the resumption of each burn; see `fixture.py`.
const TOLERATED_RATIO: f64 = 0.05;
/// How long it may take to import asyncio, and to work, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How it went.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It could not be tried, because of this.
    NotRun(String),
    /// It went wrong before there was anything to compare.
    Broken {
        /// What.
        why: String,
        /// What to type.
        hint: String,
    },
    /// There is something to compare.
    Ran(Told),
}

/// What was told of the fixture, and its own account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// Path and version of the interpreter.
    pub python: String,
    /// Ids of the sessions that were found, sorted.
    pub sessions: Vec<String>,
    /// CPU time of the session that burns, as told, nanoseconds.
    pub cpu_ns: u64,
    /// The same by its own account.
    pub true_cpu_ns: u64,
    /// What a hypervisor took from the machine meanwhile, at most; inside a poll it counts as used.
    pub stolen_ns: u64,
    /// Every stall that ended.
    pub stalls: Vec<Stall>,
}

/// Runs it.
pub fn run(now: fn() -> Now) -> Outcome {
    let Some(python) = find_python() else {
        return Outcome::NotRun("no python3 found in PATH".into());
    };
    let broken = |why: &anyhow::Error, hint: String| {
        let why = format!("{}: {}", python.display(), one_line(why));
        Outcome::Broken { why, hint }
    };
    let (mut fixture, version) = match start(&python) {
        Ok(started) => started,
        Err(why) => {
            return broken(&why, "see whether `python3 -I -c 'import asyncio'` works".into());
        }
    };
    let name = format!("{} ({version})", python.display());
    match observe(&mut fixture, name, now) {
        Ok(told) => Outcome::Ran(told),
        Err(why) => match why.downcast_ref::<Blocker>() {
            Some(unsupported @ Blocker::PythonUnsupported { .. }) => {
                Outcome::NotRun(unsupported.to_string())
            }
            Some(blocker) => broken(&why, blocker.hint()),
            None => broken(&why, REPORT_IT.into()),
        },
    }
}

fn start(python: &std::path::PathBuf) -> Result<(Fixture, String)> {
    let mut fixture = Fixture::start(python)?;
    let words = fixture.hear("ready", PATIENCE)?;
    let [pid, version] = words.as_slice() else { anyhow::bail!("it did not say who it is") };
    // A wrapper that starts another process: what it starts is not ours to look at.
    ensure!(pid.parse() == Ok(fixture.pid()), "it is a wrapper around another process");
    Ok((fixture, version.clone()))
}

fn observe(fixture: &mut Fixture, python: String, now: fn() -> Now) -> Result<Told> {
    let target = Target {
        pid: fixture.pid(),
        tag: Tag::Variable,
        session_var: "openrtc_session_id".into(),
        agent_var: "openrtc_agent_name".into(),
        tenant_var: "openrtc_tenant_id".into(),
        accounting: ModeWish { choice: Choice::Exact, ..ModeWish::default() },
        stall_threshold_ns: STALL_THRESHOLD_NS,
        is_kernel_logged: false,
        is_job: false,
        stall_ids: StallIds::default(),
    };
    let mut profiler = profiler::attach(target, now)?;
    let before_ns = stolen_ns();
    fixture.go()?;
    let done = fixture.hear("done", PATIENCE)?;
    let true_cpu_ns = done.first().and_then(|ns| ns.parse().ok()).context("it did not count")?;
    let stalls = profiler.last_stalls(now());
    let picture = profiler.picture(now, true);
    let stolen_ns = between(before_ns, stolen_ns());
    Ok(Told { python, true_cpu_ns, stolen_ns, ..told(&stalls, &picture) })
}

/// What the profiler said.
fn told(stalls: &[Stall], picture: &Snapshot) -> Told {
    let of = |id: &str| picture.sessions.iter().find(|session| &*session.session_id == id);
    let mut sessions: Vec<_> =
        picture.sessions.iter().map(|it| it.session_id.to_string()).collect();
    sessions.sort_unstable();
    Told {
        sessions,
        cpu_ns: of(BURNS).map_or(0, |session| session.usage.cpu_ns()),
        stalls: stalls.to_vec(),
        ..Told::default()
    }
}

/// What to think of it. Pure.
pub fn checks(outcome: &Outcome) -> Vec<Check> {
    const IDS: [&str; 4] = ["self_test", "self_test_sessions", "self_test_cpu", "self_test_stall"];
    match outcome {
        Outcome::NotRun(why) => IDS.map(|id| Check::not_run(id, why.as_str())).into(),
        Outcome::Broken { why, hint } => {
            let [first, rest @ ..] = IDS;
            let rest = rest.map(|id| Check::not_run(id, format!("see {first}")));
            let broken = Check::fail(first, SELF_TEST_FAILED, why.as_str()).hint(hint.as_str());
            std::iter::once(broken).chain(rest).collect()
        }
        Outcome::Ran(told) => compare(told).into(),
    }
}

fn compare(told: &Told) -> [Check; 4] {
    let judge = |id, is_right: bool, found: String| {
        let wrong = |found| Check::fail(id, SELF_TEST_FAILED, found).hint(REPORT_IT);
        if is_right { Check::ok(id, found) } else { wrong(found) }
    };
    [
        Check::ok("self_test", format!("attached to {}", told.python)),
        judge(
            "self_test_sessions",
            told.sessions == [BLOCKS, BURNS],
            format!("found {}", told.sessions.join(", ")),
        ),
        cpu(told),
        stall(told),
    ]
}

fn stall(told: &Told) -> Check {
    const ID: &str = "self_test_stall";
    let wrong = |found| Check::fail(ID, SELF_TEST_FAILED, found).hint(REPORT_IT);
    let blocked = told.stalls.iter().find(|it| it.session_id.as_deref() == Some(BLOCKS));
    let Some(stall) = blocked else {
        return wrong(format!("{BLOCKS} is not among the {} that were told", told.stalls.len()));
    };
    let [wall, on, off, queue, stolen] =
        [stall.duration_ns, stall.on_cpu_ns, stall.off_cpu_ns, stall.run_queue_ns, told.stolen_ns]
            .map(Duration::from_nanos);
    let found = format!("{BLOCKS} blocked the loop for {wall:.1?}, off-CPU {off:.1?}");
    if stall.off_cpu_ns >= LEAST_BLOCK_NS {
        return Check::ok(ID, found);
    }
    let found = format!("{found}, on-CPU {on:.1?}, run-queue wait {queue:.1?}");
    // A sleep knows when it ends before it begins: what is taken from the thread in between makes it
    // shorter.
    let taken_ns = stall.run_queue_ns.saturating_add(told.stolen_ns);
    if stall.off_cpu_ns.saturating_add(taken_ns) >= LEAST_BLOCK_NS {
        let because = format!("up to {stolen:.0?} were taken by the hypervisor");
        return Check::note(ID, format!("{found}; {because}"));
    }
    wrong(found)
}

fn cpu(told: &Told) -> Check {
    const ID: &str = "self_test_cpu";
    let Told { cpu_ns, true_cpu_ns, stolen_ns, .. } = *told;
    let tolerated_ns = (TOLERATED_RATIO * true_cpu_ns as f64) as u64;
    let exact = true_cpu_ns.saturating_sub(tolerated_ns)..=true_cpu_ns.saturating_add(tolerated_ns);
    let [told, its_own, stolen] = [cpu_ns, true_cpu_ns, stolen_ns].map(Duration::from_nanos);
    let found = format!("{BURNS} used {told:.1?}, by its own account {its_own:.1?}");
    if exact.contains(&cpu_ns) {
        Check::ok(ID, found)
    } else if (*exact.start()..=exact.end().saturating_add(stolen_ns)).contains(&cpu_ns) {
        let because = format!("up to {stolen:.0?} were taken by the hypervisor, and count as used");
        Check::note(ID, format!("{found}; {because}"))
    } else {
        Check::fail(ID, SELF_TEST_FAILED, found).hint(REPORT_IT)
    }
}
