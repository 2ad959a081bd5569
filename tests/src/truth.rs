//! The worker's own account, as its `mark` and `truth` lines carry it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::field;

/// One session's own numbers, cumulative.
#[derive(Debug, Clone, Copy, Default)]
pub struct Session {
    /// Thread CPU time.
    pub cpu_ns: i64,
    /// Of that: on threads that run no loop.
    pub offloaded_cpu_ns: i64,
    /// Wall time of all that was measured.
    pub wall_ns: i64,
    /// Callbacks, or pieces of work, that were measured.
    pub polls: i64,
}

/// A poll that lasted at least about as long as the threshold.
#[derive(Debug, Clone, Default)]
pub struct Stall {
    /// Whose; none for untagged.
    pub session: Option<String>,
    /// `CLOCK_MONOTONIC`.
    pub start_ns: i64,
    /// `CLOCK_MONOTONIC`.
    pub end_ns: i64,
    /// Thread CPU time of it.
    pub cpu_ns: i64,
}

impl Stall {
    /// How long it lasted.
    pub fn wall_ms(&self) -> f64 {
        (self.end_ns - self.start_ns) as f64 / 1e6
    }
}

/// A `[slow-session]` report of the in-process introspection.
#[derive(Debug, Clone)]
pub struct Block {
    /// The session it names, if any.
    pub session: Option<String>,
    /// How long it says.
    pub ms: f64,
    /// When it said so, `CLOCK_MONOTONIC`.
    pub at_ns: i64,
}

/// What the in-process introspection has counted.
#[derive(Debug, Clone, Default)]
pub struct Introspection {
    /// Samples that found the session running.
    pub samples: BTreeMap<String, i64>,
    /// All samples.
    pub samples_total: i64,
    /// Its reports.
    pub blocks: Vec<Block>,
}

/// The account at one instant.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    /// The instant, `CLOCK_MONOTONIC`.
    pub at_ns: i64,
    /// When it was really taken.
    pub taken_ns: i64,
    /// Whether the worker's history reached back to the instant.
    pub exact: bool,
    /// `CLOCK_REALTIME` less `CLOCK_MONOTONIC`, measured by the worker at its start.
    pub realtime_offset_ns: i64,
    /// Of the whole process, when taken.
    pub process_cpu_ns: i64,
    /// Of the loop's thread, when taken.
    pub loop_thread_cpu_ns: i64,
    /// The stall threshold.
    pub threshold_ms: f64,
    /// By id.
    pub sessions: BTreeMap<String, Session>,
    /// What was measured without a session.
    pub untagged: Session,
    /// Of threads without any context of their own.
    pub plain_threads_cpu_ns: i64,
    /// All since the worker's start, from a little below the threshold on.
    pub stalls: Vec<Stall>,
    /// When it runs in the worker.
    pub introspection: Option<Introspection>,
    /// The whole object: a worker may say more.
    pub object: Value,
}

impl Truth {
    /// Reads a `mark` or `truth` object.
    pub fn parse(object: Value) -> Result<Self> {
        let sessions = object["sessions"].as_object().context("\"sessions\" is not an object")?;
        let stalls = object["stalls"].as_array().context("\"stalls\" is not a list")?;
        let introspection = &object["introspection"];
        Ok(Self {
            at_ns: field::int(&object, "at_ns")?,
            taken_ns: field::int(&object, "taken_ns")?,
            exact: field::flag(&object, "exact"),
            realtime_offset_ns: field::int(&object, "realtime_offset_ns")?,
            process_cpu_ns: field::int(&object, "process_cpu_ns")?,
            loop_thread_cpu_ns: field::int(&object, "loop_thread_cpu_ns")?,
            threshold_ms: field::float(&object, "threshold_ms")?,
            sessions: sessions
                .iter()
                .map(|(id, row)| Ok((id.clone(), session(row)?)))
                .collect::<Result<_>>()?,
            untagged: session(&object["untagged"]).context("untagged")?,
            plain_threads_cpu_ns: field::int(&object, "plain_threads_cpu_ns")?,
            stalls: stalls.iter().map(stall).collect::<Result<_>>()?,
            introspection: introspection
                .is_object()
                .then(|| parse_introspection(introspection))
                .transpose()?,
            object,
        })
    }

    /// CPU of all sessions.
    pub fn sessions_cpu_ns(&self) -> i64 {
        self.sessions.values().map(|session| session.cpu_ns).sum()
    }

    /// Polls of all sessions, and of none.
    pub fn polls(&self) -> i64 {
        self.untagged.polls + self.sessions.values().map(|session| session.polls).sum::<i64>()
    }

    /// The session of this id; zeros where it did nothing yet.
    pub fn session(&self, id: &str) -> Session {
        self.sessions.get(id).copied().unwrap_or_default()
    }
}

fn session(row: &Value) -> Result<Session> {
    Ok(Session {
        cpu_ns: field::int(row, "cpu_ns")?,
        offloaded_cpu_ns: field::int(row, "offloaded_cpu_ns")?,
        wall_ns: field::int(row, "wall_ns")?,
        polls: field::int(row, "polls")?,
    })
}

fn stall(entry: &Value) -> Result<Stall> {
    Ok(Stall {
        session: field::maybe_text(entry, "session_id"),
        start_ns: field::int(entry, "start_ns")?,
        end_ns: field::int(entry, "end_ns")?,
        cpu_ns: field::int(entry, "cpu_ns")?,
    })
}

fn parse_introspection(object: &Value) -> Result<Introspection> {
    let samples = object["samples"].as_object().context("\"samples\" is not an object")?;
    let blocks = object["blocks"].as_array().context("\"blocks\" is not a list")?;
    let block = |entry: &Value| -> Result<Block> {
        Ok(Block {
            session: field::maybe_text(entry, "session_id"),
            ms: field::float(entry, "ms")?,
            at_ns: field::int(entry, "at_ns")?,
        })
    };
    Ok(Introspection {
        samples: samples.iter().filter_map(|(id, n)| Some((id.clone(), n.as_i64()?))).collect(),
        samples_total: field::int(object, "samples_total")?,
        blocks: blocks.iter().map(block).collect::<Result<_>>()?,
    })
}
