//! What the probe prints with `--json` (schema 1), as far as it is tested.

pub mod anatomy;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{clock, field};

pub use anatomy::Anatomy;

/// What polls used since attach.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// All CPU time.
    pub cpu_s: f64,
    /// Of that: on loop threads.
    pub loop_cpu_s: f64,
    /// Of that: on other threads.
    pub offloaded_cpu_s: f64,
    /// Asleep.
    pub off_cpu_s: f64,
    /// Runnable without a CPU.
    pub run_queue_s: f64,
    /// Polls on loop threads.
    pub polls: i64,
    /// The longest of them.
    pub longest_poll_ms: f64,
    /// Those over the threshold.
    pub stalls: i64,
}

/// One session.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// Its agent.
    pub agent: Option<String>,
    /// Its tenant.
    pub tenant: Option<String>,
    /// How long it has lived.
    pub duration_s: f64,
    /// Whether it was there at attach.
    pub is_lower_bound: bool,
    /// What its polls used.
    pub usage: Usage,
    /// `active`, `slow` or `ended`.
    pub status: String,
    /// Whether the id was longer than what is kept.
    pub is_cut: bool,
    /// The type of the tag's value.
    pub id_type: Option<String>,
    /// Its memory, in MB.
    pub mem_mb: Option<f64>,
    /// Whether that is its own alone.
    pub mem_is_own: bool,
    /// The standard error of its CPU time; none where all of it was measured.
    pub cpu_error_s: Option<f64>,
}

/// The worker as a whole.
#[derive(Debug, Clone, Default)]
pub struct Worker {
    /// Its process id; 0 where the probe does not tell.
    pub pid: i64,
    /// Since attach, by the kernel's account.
    pub cpu_s: f64,
    /// The loops seen.
    pub loops: String,
    /// Interpreter version.
    pub python: String,
    /// Polls on loop threads.
    pub polls: i64,
    /// Loop threads outside any poll.
    pub loop_overhead_s: f64,
    /// Other threads outside any context.
    pub other_threads_s: f64,
    /// Sessions that have left the list; 0 where the probe does not tell.
    pub ended_sessions_s: f64,
    /// Share of the process's CPU that the ledger explains.
    pub accounted_pct: Option<f64>,
    /// Whether the session variable has been found.
    pub session_var_found: bool,
    /// Variables of its name.
    pub session_vars: i64,
    /// Tasks that hold an id in one that is not followed.
    pub tasks_tagged_elsewhere: i64,
}

/// One picture.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The instant it carries.
    pub at_real_ns: i64,
    /// When it was read.
    pub read_at_real_ns: i64,
    /// Since attach.
    pub elapsed_s: f64,
    /// Whether it is the last one.
    pub is_final: bool,
    /// The worker.
    pub worker: Worker,
    /// Polls without a session.
    pub untagged: Usage,
    /// In the order of the line.
    pub sessions: Vec<Session>,
    /// Whatever was lost, by cause, with its count.
    pub lost: BTreeMap<String, i64>,
    /// What was missed and made up for, by cause, with its count.
    pub mended: BTreeMap<String, i64>,
    /// How polls are accounted.
    pub accounting: Accounting,
}

/// How polls are accounted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Accounting {
    /// `exact` or `sampled`.
    pub mode: String,
    /// How long they were sampled.
    pub sampled_s: f64,
    /// Samples that met a thread running.
    pub samples: i64,
    /// Each change, with why; the first is the attach.
    pub changes: Vec<(String, String)>,
}

impl Snapshot {
    /// When the probe attached, `CLOCK_REALTIME`.
    pub fn attached_real_ns(&self) -> i64 {
        self.at_real_ns - (self.elapsed_s * 1e9) as i64
    }

    /// The session of this id.
    pub fn session(&self, id: &str) -> Option<&Session> {
        self.sessions.iter().find(|session| session.id == id)
    }

    /// The session of this id, which must be there.
    pub fn demand(&self, id: &str) -> Result<&Session> {
        let known = || self.sessions.iter().map(|s| s.id.as_str()).collect::<Vec<_>>().join(", ");
        self.session(id).with_context(|| format!("no session {id:?} among {}", known()))
    }

    /// CPU seconds of the session of this id; 0 where there is none.
    pub fn cpu_s(&self, id: &str) -> f64 {
        self.session(id).map_or(0.0, |session| session.usage.cpu_s)
    }
}

/// One report of a stall.
#[derive(Debug, Clone, Default)]
pub struct Stall {
    /// Which one; a stall has the same id in all its reports.
    pub id: String,
    /// In which process; 0 where the probe does not tell.
    pub pid: i64,
    /// Whose; none for untagged.
    pub session: Option<String>,
    /// Its agent.
    pub agent: Option<String>,
    /// Its tenant.
    pub tenant: Option<String>,
    /// When its poll began.
    pub started_real_ns: i64,
    /// So far, or in all.
    pub duration_ms: f64,
    /// Of that: running.
    pub on_cpu_ms: f64,
    /// Of that: asleep.
    pub off_cpu_ms: f64,
    /// Of that: runnable without a CPU.
    pub run_queue_ms: f64,
    /// Whether it still ran when it was reported.
    pub ongoing: bool,
    /// Whether it already ran at attach.
    pub is_lower_bound: bool,
    /// When the report was read.
    pub read_at_real_ns: i64,
    /// Why, where, and who had to wait; none where the probe tells nothing of it.
    pub anatomy: Option<Anatomy>,
}

impl Stall {
    /// Its anatomy, which must be told.
    pub fn demand_anatomy(&self) -> Result<&Anatomy> {
        self.anatomy.as_ref().context("the probe does not say why it stalled")
    }
}

/// One line.
#[derive(Debug)]
pub enum Said {
    /// A snapshot.
    Snapshot(Box<Snapshot>),
    /// A stall.
    Stall(Box<Stall>),
    /// Something that nobody has a use for.
    Other,
}

/// Reads one line of the probe's output.
pub fn parse(line: &str, read_at_real_ns: i64) -> Result<Said> {
    let shown = || format!("in what openrtc-probe printed: {line:.200}");
    let object: Value = serde_json::from_str(line).with_context(shown)?;
    match object["type"].as_str() {
        Some("snapshot") => {
            let snapshot = snapshot(&object, read_at_real_ns).with_context(shown)?;
            Ok(Said::Snapshot(Box::new(snapshot)))
        }
        Some("stall") => {
            let stall = stall(&object, read_at_real_ns).with_context(shown)?;
            Ok(Said::Stall(Box::new(stall)))
        }
        _ => Ok(Said::Other),
    }
}

fn snapshot(object: &Value, read_at_real_ns: i64) -> Result<Snapshot> {
    ensure!(field::int(object, "schema")? == 1, "schema 1 is what is known here");
    let sessions = object["sessions"].as_array().context("\"sessions\" is not a list")?;
    let counts = |name: &str| -> BTreeMap<String, i64> {
        let counts = object["health"][name].as_object().into_iter().flatten();
        counts.filter_map(|(cause, n)| Some((cause.clone(), n.as_i64()?))).collect()
    };
    let snapshot = Snapshot {
        at_real_ns: clock::parse_rfc3339(&field::text(object, "at")?)?,
        read_at_real_ns,
        elapsed_s: field::float(object, "elapsed_s")?,
        is_final: field::flag(object, "final"),
        worker: worker(&object["worker"]).context("worker")?,
        untagged: usage(&object["untagged"]).context("untagged")?,
        sessions: sessions.iter().map(session).collect::<Result<_>>()?,
        lost: counts("lost"),
        mended: counts("mended"),
        accounting: accounting(&object["accounting"]),
    };
    let mut ids: Vec<_> = snapshot.sessions.iter().map(|session| &session.id).collect();
    ids.sort();
    let twice = ids.windows(2).find(|two| two[0] == two[1]);
    ensure!(twice.is_none(), "a session is listed twice: {twice:?}");
    Ok(snapshot)
}

fn accounting(object: &Value) -> Accounting {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let changes = object["changes"].as_array().into_iter().flatten();
    Accounting {
        mode: text(&object["mode"]),
        sampled_s: object["sampled_s"].as_f64().unwrap_or(0.0),
        samples: object["samples"].as_i64().unwrap_or(0),
        changes: changes.map(|it| (text(&it["mode"]), text(&it["reason"]))).collect(),
    }
}

fn worker(object: &Value) -> Result<Worker> {
    Ok(Worker {
        pid: object["pid"].as_i64().unwrap_or(0),
        cpu_s: field::float(object, "cpu_seconds")?,
        loops: field::text(object, "loop")?,
        python: field::text(object, "python")?,
        polls: field::int(object, "polls")?,
        loop_overhead_s: field::float(object, "loop_overhead_cpu_seconds")?,
        other_threads_s: field::float(object, "other_threads_cpu_seconds")?,
        ended_sessions_s: object["ended_sessions_cpu_seconds"].as_f64().unwrap_or(0.0),
        accounted_pct: object["accounted_pct"].as_f64(),
        session_var_found: field::flag(object, "session_var_found"),
        session_vars: object["session_vars"].as_i64().unwrap_or(0),
        tasks_tagged_elsewhere: object["tasks_tagged_elsewhere"].as_i64().unwrap_or(0),
    })
}

fn session(object: &Value) -> Result<Session> {
    Ok(Session {
        id: field::text(object, "session_id")?,
        agent: field::maybe_text(object, "agent_name"),
        tenant: field::maybe_text(object, "tenant"),
        duration_s: field::float(object, "duration_s")?,
        is_lower_bound: field::flag(object, "duration_is_lower_bound"),
        usage: usage(object)?,
        status: field::text(object, "status")?,
        is_cut: field::flag(object, "session_id_is_cut"),
        id_type: field::maybe_text(object, "session_id_type"),
        mem_mb: object["mem_mb"].as_f64(),
        mem_is_own: field::flag(object, "mem_is_own"),
        cpu_error_s: object["cpu_error_seconds"].as_f64(),
    })
}

fn usage(object: &Value) -> Result<Usage> {
    Ok(Usage {
        cpu_s: field::float(object, "cpu_seconds")?,
        loop_cpu_s: field::float(object, "loop_cpu_seconds")?,
        offloaded_cpu_s: field::float(object, "offloaded_cpu_seconds")?,
        off_cpu_s: field::float(object, "off_cpu_seconds")?,
        run_queue_s: field::float(object, "run_queue_seconds")?,
        polls: field::int(object, "polls")?,
        longest_poll_ms: field::float(object, "longest_poll_ms")?,
        stalls: field::int(object, "stalls")?,
    })
}

fn stall(object: &Value, read_at_real_ns: i64) -> Result<Stall> {
    Ok(Stall {
        id: object["stall_id"].to_string(),
        pid: object["pid"].as_i64().unwrap_or(0),
        session: field::maybe_text(object, "session_id"),
        agent: field::maybe_text(object, "agent_name"),
        tenant: field::maybe_text(object, "tenant"),
        started_real_ns: clock::parse_rfc3339(&field::text(object, "started_at")?)?,
        duration_ms: field::float(object, "duration_ms")?,
        on_cpu_ms: field::float(object, "on_cpu_ms")?,
        off_cpu_ms: field::float(object, "off_cpu_ms")?,
        run_queue_ms: field::float(object, "run_queue_ms")?,
        ongoing: field::flag(object, "ongoing"),
        is_lower_bound: field::flag(object, "duration_is_lower_bound"),
        read_at_real_ns,
        anatomy: anatomy::parse(object)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: &str = r#""cpu_seconds":0.25,"loop_cpu_seconds":0.2,
        "offloaded_cpu_seconds":0.05,"off_cpu_seconds":1,"run_queue_seconds":0,"polls":3,
        "longest_poll_ms":7.5,"stalls":1"#;

    fn snapshot(sessions: &str) -> Result<Snapshot> {
        let line = format!(
            r#"{{"type":"snapshot","schema":1,"at":"1970-01-01T00:00:02.5Z","elapsed_s":1.5,
            "worker":{{"cpu_seconds":2,"loop":"asyncio","python":"3.11.2","polls":9,
            "loop_overhead_cpu_seconds":1,"other_threads_cpu_seconds":0,"accounted_pct":99.8}},
            "untagged":{{{NUMBERS}}},"sessions":[{sessions}],"health":{{"lost":{{"ring_full":3}}}},
            "final":true}}"#
        );
        match parse(&line, 9)? {
            Said::Snapshot(snapshot) => Ok(*snapshot),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_snapshot_is_read() {
        let session =
            format!(r#"{{"session_id":"AJ_1",{NUMBERS},"duration_s":3,"status":"slow"}}"#);
        let found = snapshot(&session).unwrap();
        assert_eq!((found.at_real_ns, found.read_at_real_ns), (2_500_000_000, 9));
        assert_eq!(found.cpu_s("AJ_1").to_bits(), 0.25_f64.to_bits());
        assert_eq!(found.lost["ring_full"], 3);
        assert!(found.is_final && found.demand("AJ_2").is_err());
        let error = format!("{:#}", snapshot(&format!("{session},{session}")).unwrap_err());
        assert!(error.contains("twice"), "{error}");
    }

    #[test]
    fn a_stall_is_read() {
        let line = r#"{"type":"stall","stall_id":7,"session_id":null,"started_at":
            "1970-01-01T00:00:01Z","ongoing":true,"duration_ms":51.5,"on_cpu_ms":51.5,
            "off_cpu_ms":0,"run_queue_ms":0}"#;
        let Said::Stall(stall) = parse(line, 9).unwrap() else { panic!("not a stall") };
        assert_eq!((stall.session, stall.started_real_ns), (None, 1_000_000_000));
        assert_eq!((stall.id.as_str(), stall.read_at_real_ns), ("7", 9));
    }

    #[test]
    fn other_lines_pass_and_broken_ones_are_shown() {
        assert!(matches!(parse(r#"{"type":"hello"}"#, 0).unwrap(), Said::Other));
        let error = format!("{:#}", parse(r#"{"type":"snapshot","schema":2}"#, 0).unwrap_err());
        assert!(error.contains("schema 1"), "{error}");
    }
}
