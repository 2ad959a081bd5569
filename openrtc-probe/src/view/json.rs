//! Schema 1 of `--json`, as `docs/output.md` documents it: one object a line.
//!
//! - Fields are only ever added, at the end of an object; a change of meaning is a new schema.
//! - Unknown is `null`; every field is always there, but `final`, which only the last snapshot has.
//! - What a terminal must not get (`harmless::is_harmful`) is written as `\uXXXX`, so the text means
//!   the same to a parser and is harmless to a reader.

mod stall;
#[cfg(test)]
mod tests;

use std::io;

use serde::{Serialize, Serializer};
use serde_json::ser::{CompactFormatter, Formatter};

pub use stall::stall;

use crate::model::{
    Accounting, Cost, IdType, LoopDelay, Mode, Session, Snapshot, Untagged, Usage, Worker,
};
use crate::view::harmless::is_harmful;
use crate::view::mode;
use crate::view::order::Order;
use crate::view::units::{megabytes, millis, percent, rfc3339, seconds, thousandths};
use crate::view::verdict::{Words, words};

/// What one session takes, about; saves growing the buffer.
const SESSION_BYTES: usize = 512;

/// One snapshot, without a newline. `order` selects and orders the sessions; what is about the whole
/// worker stays whole.
pub fn snapshot(snapshot: &Snapshot, order: &Order) -> String {
    let sessions = order.apply(&snapshot.sessions);
    line(
        &SnapshotLine {
            r#type: "snapshot",
            schema: 1,
            at: rfc3339(snapshot.at_unix_ns),
            elapsed_s: seconds(snapshot.elapsed_ns),
            worker: WorkerObject::of(&snapshot.worker, snapshot.threshold_ns),
            untagged: Numbers::of_untagged(&snapshot.untagged),
            sessions: &sessions,
            health: Health { lost: &snapshot.health.lost, mended: &snapshot.health.mended },
            cost: CostObject::of(&snapshot.cost),
            verdict: VerdictObject::of(words(snapshot)),
            accounting: AccountingObject::of(&snapshot.accounting),
            r#final: snapshot.is_final.then_some(true),
        },
        1024 + sessions.len() * SESSION_BYTES,
    )
}

#[derive(Serialize)]
struct SnapshotLine<'a> {
    r#type: &'static str,
    schema: u32,
    at: Option<String>,
    elapsed_s: f64,
    worker: WorkerObject<'a>,
    untagged: Numbers,
    #[serde(serialize_with = "as_objects")]
    sessions: &'a [&'a Session],
    health: Health<'a>,
    cost: CostObject,
    verdict: VerdictObject,
    accounting: AccountingObject,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#final: Option<bool>,
}

#[derive(Serialize)]
struct VerdictObject {
    kind: &'static str,
    text: String,
    evidence: String,
}

impl VerdictObject {
    fn of(words: Words) -> Self {
        Self { kind: words.kind, text: words.headline, evidence: words.evidence }
    }
}

/// How polls are accounted.
#[derive(Serialize)]
struct AccountingObject {
    mode: Option<&'static str>,
    wish: &'static str,
    budget_pct: Option<f64>,
    sample_hz: u32,
    sampled_s: f64,
    samples: u64,
    change_count: u64,
    changes: Vec<ChangeObject>,
}

/// A change of the mode.
#[derive(Serialize)]
struct ChangeObject {
    at: Option<String>,
    mode: &'static str,
    reason: &'static str,
    polls_per_s: Option<f64>,
    overhead_pct: Option<f64>,
}

impl AccountingObject {
    fn of(accounting: &Accounting) -> Self {
        let Accounting { mode, wish, sampled_ns, samples, change_count, .. } = accounting;
        let changes = accounting.changes.iter().map(|change| {
            let load = mode::load(change);
            ChangeObject {
                at: rfc3339(change.at_unix_ns),
                mode: change.mode.as_str(),
                reason: mode::word(change),
                polls_per_s: load.map(|load| thousandths(load.polls_per_s)),
                overhead_pct: rounded_percent(load.map(|load| load.overhead_ratio)),
            }
        });
        Self {
            mode: mode.map(Mode::as_str),
            wish: mode::wish(wish.choice),
            budget_pct: rounded_percent(mode::budget_ratio(accounting)),
            sample_hz: wish.sample_rate_hz,
            sampled_s: seconds(*sampled_ns),
            samples: *samples,
            change_count: *change_count,
            changes: changes.collect(),
        }
    }
}

#[derive(Serialize)]
struct WorkerObject<'a> {
    pid: u32,
    python: &'a str,
    r#loop: &'a str,
    cpu_pct: Option<f64>,
    cpu_seconds: f64,
    rss_mb: Option<f64>,
    threads: u32,
    polls: u64,
    polls_per_s: Option<f64>,
    loop_overhead_cpu_seconds: f64,
    other_threads_cpu_seconds: f64,
    accounted_pct: Option<f64>,
    session_var_found: bool,
    loop_overhead_cpu_pct: Option<f64>,
    other_threads_cpu_pct: Option<f64>,
    ended_sessions_cpu_seconds: f64,
    session_vars: usize,
    tasks_tagged_elsewhere: usize,
    uptime_s: Option<f64>,
    sessions_seen: u64,
    poll_cpu_pct: Option<f64>,
    loop_run_queue_pct: Option<f64>,
    loop_delay_ms: Option<DelayObject>,
    rss_growth_mb_per_min: Option<f64>,
    stall_threshold_ms: f64,
}

/// How long the loops did not answer.
#[derive(Serialize)]
struct DelayObject {
    p50: Option<f64>,
    p99: Option<f64>,
    max: f64,
}

impl DelayObject {
    fn of(delay: LoopDelay) -> Self {
        let LoopDelay { p50_ns, p99_ns, max_ns } = delay;
        Self { p50: p50_ns.map(millis), p99: p99_ns.map(millis), max: millis(max_ns) }
    }
}

/// What we cost.
#[derive(Serialize)]
struct CostObject {
    daemon_cpu_pct: Option<f64>,
    daemon_rss_mb: Option<f64>,
    worker_cpu_pct: Option<f64>,
}

impl CostObject {
    fn of(cost: &Cost) -> Self {
        Self {
            daemon_cpu_pct: rounded_percent(cost.daemon_cpu_ratio),
            daemon_rss_mb: rounded_megabytes(cost.daemon_rss_bytes),
            worker_cpu_pct: rounded_percent(cost.worker_cpu_ratio),
        }
    }
}

impl<'a> WorkerObject<'a> {
    fn of(worker: &'a Worker, threshold_ns: u64) -> Self {
        Self {
            pid: worker.pid,
            python: &worker.python,
            r#loop: &worker.event_loop,
            cpu_pct: rounded_percent(worker.cpu_ratio),
            cpu_seconds: seconds(worker.cpu_ns),
            rss_mb: rounded_megabytes(worker.rss_bytes),
            threads: worker.threads,
            polls: worker.polls,
            polls_per_s: worker.polls_per_s.map(thousandths),
            loop_overhead_cpu_seconds: seconds(worker.loop_overhead_cpu_ns),
            other_threads_cpu_seconds: seconds(worker.other_threads_cpu_ns),
            accounted_pct: rounded_percent(worker.accounted_ratio),
            session_var_found: worker.tag_found,
            loop_overhead_cpu_pct: rounded_percent(worker.loop_overhead_cpu_ratio),
            other_threads_cpu_pct: rounded_percent(worker.other_threads_cpu_ratio),
            ended_sessions_cpu_seconds: seconds(worker.ended_cpu_ns),
            session_vars: worker.tag_vars,
            tasks_tagged_elsewhere: worker.tasks_tagged_elsewhere,
            uptime_s: worker.uptime_ns.map(seconds),
            sessions_seen: worker.sessions_seen,
            poll_cpu_pct: rounded_percent(worker.poll_cpu_ratio),
            loop_run_queue_pct: rounded_percent(worker.loop_run_queue_ratio),
            loop_delay_ms: worker.loop_delay.map(DelayObject::of),
            rss_growth_mb_per_min: worker.rss_growth_bytes.map(grown_megabytes),
            stall_threshold_ms: millis(threshold_ns),
        }
    }
}

/// What a session and the untagged polls have in common.
#[derive(Serialize)]
struct Numbers {
    cpu_pct: Option<f64>,
    cpu_seconds: f64,
    loop_cpu_seconds: f64,
    offloaded_cpu_seconds: f64,
    off_cpu_seconds: f64,
    run_queue_seconds: f64,
    polls: u64,
    longest_poll_ms: f64,
    stalls: u64,
}

impl Numbers {
    fn of_untagged(untagged: &Untagged) -> Self {
        Self::of(&untagged.usage, untagged.cpu_ratio)
    }

    fn of(usage: &Usage, cpu_ratio: Option<f64>) -> Self {
        Self {
            cpu_pct: rounded_percent(cpu_ratio),
            cpu_seconds: seconds(usage.cpu_ns()),
            loop_cpu_seconds: seconds(usage.loop_cpu_ns),
            offloaded_cpu_seconds: seconds(usage.offloaded_cpu_ns),
            off_cpu_seconds: seconds(usage.off_cpu_ns),
            run_queue_seconds: seconds(usage.run_queue_ns),
            polls: usage.polls,
            longest_poll_ms: millis(usage.longest_poll_ns),
            stalls: usage.stalls,
        }
    }
}

#[derive(Serialize)]
struct SessionObject<'a> {
    session_id: &'a str,
    agent_name: Option<&'a str>,
    tenant: Option<&'a str>,
    duration_s: f64,
    duration_is_lower_bound: bool,
    #[serde(flatten)]
    numbers: Numbers,
    mem_mb: Option<f64>,
    peak_mb: Option<f64>,
    status: &'static str,
    session_id_is_cut: bool,
    session_id_type: Option<&'a str>,
    mem_is_own: bool,
    polls_per_s: Option<f64>,
    idle_s: f64,
    stalls_last_minute: u64,
    cpu_error_seconds: Option<f64>,
}

impl<'a> SessionObject<'a> {
    fn of(session: &'a Session) -> Self {
        Self {
            session_id: &session.session_id,
            agent_name: session.agent_name.as_deref(),
            tenant: session.tenant.as_deref(),
            duration_s: seconds(session.duration_ns),
            duration_is_lower_bound: session.duration_is_lower_bound,
            numbers: Numbers::of(&session.usage, session.cpu_ratio),
            mem_mb: rounded_megabytes(session.mem_bytes),
            peak_mb: rounded_megabytes(session.peak_bytes),
            status: session.status.as_str(),
            session_id_is_cut: session.id_is_cut,
            session_id_type: type_name(&session.id_type),
            mem_is_own: session.mem_is_own,
            polls_per_s: session.polls_per_s.map(thousandths),
            idle_s: seconds(session.idle_ns),
            stalls_last_minute: session.stalls_last_minute,
            cpu_error_seconds: session.cpu_se_ns.map(seconds),
        }
    }
}

/// The type's name as Python has it.
fn type_name(id_type: &IdType) -> Option<&str> {
    match id_type {
        IdType::Text => Some("str"),
        IdType::Other(name) => name.as_deref(),
    }
}

#[derive(Serialize)]
struct Health<'a> {
    #[serde(serialize_with = "as_object")]
    lost: &'a [(&'static str, u64)],
    #[serde(serialize_with = "as_object")]
    mended: &'a [(&'static str, u64)],
}

/// One after the other: there may be thousands.
fn as_objects<S: Serializer>(sessions: &&[&Session], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(sessions.iter().map(|session| SessionObject::of(session)))
}

fn as_object<S: Serializer>(lost: &&[(&'static str, u64)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(lost.iter().copied())
}

fn rounded_percent(ratio: Option<f64>) -> Option<f64> {
    ratio.map(|ratio| thousandths(percent(ratio)))
}

fn rounded_megabytes(bytes: Option<u64>) -> Option<f64> {
    bytes.map(|bytes| thousandths(megabytes(bytes)))
}

/// What shrinks grows by less than nothing.
fn grown_megabytes(bytes: i64) -> f64 {
    thousandths(megabytes(bytes.unsigned_abs())) * f64::from(bytes.signum() as i32)
}

/// The value on one line.
pub(super) fn line<T: Serialize>(value: &T, capacity: usize) -> String {
    let mut out = Vec::with_capacity(capacity);
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Escaping));
    // Memory takes every write and all keys are strings: there is nothing left that could fail.
    debug_assert!(written.is_ok());
    String::from_utf8(out).unwrap_or_default()
}

/// Compact JSON in which what a terminal must not get is escaped.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        // Most is plain, and there is much of it.
        if fragment.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return CompactFormatter.write_string_fragment(writer, fragment);
        }
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| is_harmful(c)) {
            CompactFormatter.write_string_fragment(writer, &rest[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}
