//! One run, judged by three demands. No I/O, no clock.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::accuracy::compare::{self, Accounts, COUNTED_S, Demands, Matter};
use crate::accuracy::stalls::Tally;
use crate::said::Snapshot;

/// How near to the truth the CPU seconds of all sessions, and of each with enough of them, must be.
pub const RATIO: f64 = 0.02;

/// The sessions that the worker had before the probe came.
#[derive(Debug, Clone, Default)]
pub struct There {
    /// All of them.
    pub ids: Vec<String>,
    /// Those that only wait: nothing but the worker's memory tells of them.
    pub idle: Vec<String>,
    /// Those that burn.
    pub hot: Vec<String>,
}

impl There {
    /// Reads the worker's `ready` object.
    pub fn parse(ready: &Value) -> Result<Self> {
        let list = |name: &str| -> Result<Vec<String>> {
            let ids =
                ready[name].as_array().with_context(|| format!("\"{name}\" is not a list"))?;
            Ok(ids.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect())
        };
        Ok(Self { ids: list("ids")?, idle: list("idle")?, hot: list("hot")? })
    }
}

/// Whether the CPU seconds of all sessions, and of each counted one, are near enough.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Accuracy {
    /// They are.
    Near,
    /// They are but for what was stolen from the machine meanwhile ([`crate::stolen`]).
    NearButForStolen,
    /// They are not.
    #[default]
    Off,
}

/// What a run has shown.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Of the CPU seconds of all sessions, as a ratio of the truth.
    pub total_error: f64,
    /// The greatest of a session that has enough of them.
    pub worst_error: f64,
    /// How many were compared one by one.
    pub counted: usize,
    /// What was stolen from the machine, which may be in what the probe saw.
    pub stolen_s: f64,
    /// The probe's reports beside the real stalls.
    pub stalls: Tally,
    /// Sessions of the first picture that were there.
    pub found: usize,
    /// Sessions that were there.
    pub there: usize,
    /// Of these, those that only wait.
    pub idle: usize,
    /// Whether the errors are small enough.
    pub accuracy: Accuracy,
    /// All stalls were reported, with their sessions, and no others.
    pub is_named: bool,
    /// The first picture has the sessions that were there, and no others.
    pub is_complete: bool,
}

impl Figures {
    /// Whether all three demands were met.
    pub fn passed(&self) -> bool {
        self.accuracy != Accuracy::Off && self.is_named && self.is_complete
    }
}

/// Judges; `edge_s` is what the truth of one session may be off by ([`Demands::edge_s`]).
pub fn judge(accounts: &Accounts, there: &There, edge_s: f64) -> Figures {
    let demands = Demands { session_ratio: RATIO, total_ratio: RATIO, edge_s, ..Demands::BENCH };
    let outcome = compare::compare(accounts, &demands);
    let stolen = Demands { stolen_s: accounts.stolen_s, ..demands };
    let is_counted =
        |id: &String| outcome.rows.iter().any(|row| row.session == *id && row.truth_s > COUNTED_S);
    let first = &accounts.first_snapshot;
    let found = there.ids.iter().filter(|id| first.session(id).is_some()).count();
    Figures {
        total_error: compare::ratio_off(outcome.ours_s, outcome.truth_s),
        worst_error: outcome.our_errors.worst,
        counted: outcome.counted,
        stolen_s: accounts.stolen_s,
        stalls: outcome.our_stalls,
        found,
        there: there.ids.len(),
        idle: there.idle.len(),
        accuracy: if there.hot.is_empty() || !there.hot.iter().all(is_counted) {
            Accuracy::Off
        } else if outcome.meets(Matter::Cpu) {
            Accuracy::Near
        } else if compare::compare(accounts, &stolen).meets(Matter::Cpu) {
            Accuracy::NearButForStolen
        } else {
            Accuracy::Off
        },
        is_named: outcome.meets(Matter::Stalls),
        is_complete: found == there.ids.len()
            && first.sessions.len() == found
            && is_quiet(&accounts.last_snapshot, &there.idle),
    }
}

/// Those that only wait are still listed at the end, without a poll: it was not polls that told.
fn is_quiet(last: &Snapshot, idle: &[String]) -> bool {
    let is_quiet = |id: &String| last.session(id).is_some_and(|found| found.usage.polls == 0);
    !idle.is_empty() && idle.iter().all(is_quiet)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::said::{self, Usage};
    use crate::truth::{self, Truth};

    const BEGIN_NS: i64 = 1_000_000_000;
    const END_NS: i64 = 8_000_000_000;

    /// One session that burns and blocks once, one that waits.
    fn there() -> There {
        There {
            ids: vec!["AJ_hot".to_owned(), "AJ_idle".to_owned()],
            idle: vec!["AJ_idle".to_owned()],
            hot: vec!["AJ_hot".to_owned()],
        }
    }

    fn accounts(cpu_s: f64, stalls_of: &[&str]) -> Accounts {
        let session = |id: &str, cpu_s: f64, polls: i64| said::Session {
            id: id.to_owned(),
            usage: Usage { cpu_s, polls, ..Usage::default() },
            ..said::Session::default()
        };
        let snapshot = |cpu_s: f64, polls: i64| Snapshot {
            sessions: vec![session("AJ_hot", cpu_s, polls), session("AJ_idle", 0.0, 0)],
            ..Snapshot::default()
        };
        let truth = |at_ns: i64, cpu_ns: i64| {
            let hot = truth::Session { cpu_ns, ..truth::Session::default() };
            let sessions = [("AJ_hot".to_owned(), hot)].into();
            Truth { at_ns, threshold_ms: 50.0, sessions, ..Truth::default() }
        };
        let (start_ns, end_ns) = (2_000_000_000, 2_120_000_000);
        let real = truth::Stall { session: Some("AJ_hot".to_owned()), start_ns, end_ns, cpu_ns: 0 };
        let report = |id: &&str| said::Stall {
            session: Some((*id).to_owned()),
            started_real_ns: start_ns,
            duration_ms: 120.0,
            ..said::Stall::default()
        };
        Accounts {
            first_snapshot: snapshot(0.0, 0),
            last_snapshot: snapshot(cpu_s, 9),
            first: truth(BEGIN_NS, 0),
            last: truth(END_NS, 1_000_000_000),
            whole: Truth { stalls: vec![real], ..truth(END_NS, 1_000_000_000) },
            stalls: stalls_of.iter().map(report).collect(),
            stolen_s: 0.0,
        }
    }

    #[test]
    fn a_good_run_passes_and_each_fault_fails_its_own_demand() {
        let judged = |accounts: &Accounts| {
            let figures = judge(accounts, &there(), 0.0);
            (figures.accuracy == Accuracy::Near, figures.is_named, figures.is_complete)
        };
        assert_eq!(judged(&accounts(1.019, &["AJ_hot"])), (true, true, true));
        assert_eq!(judged(&accounts(1.021, &["AJ_hot"])), (false, true, true));
        assert_eq!(judged(&accounts(0.979, &["AJ_hot"])), (false, true, true));
        assert_eq!(judged(&accounts(1.0, &["AJ_idle"])), (true, false, true), "the wrong one");
        assert_eq!(judged(&accounts(1.0, &[])), (true, false, true), "none");
        assert_eq!(judged(&accounts(1.0, &["AJ_hot", "AJ_hot"])), (true, false, true), "twice");
    }

    #[test]
    fn stolen_time_excuses_what_is_too_much_and_is_told() {
        let with = |cpu_s: f64, stolen_s: f64| {
            let accounts = Accounts { stolen_s, ..accounts(cpu_s, &["AJ_hot"]) };
            judge(&accounts, &there(), 0.0).accuracy
        };
        assert_eq!(with(1.05, 0.1), Accuracy::NearButForStolen);
        assert_eq!(with(1.01, 0.1), Accuracy::Near);
        assert_eq!(with(1.15, 0.1), Accuracy::Off);
        assert_eq!(with(0.97, 0.1), Accuracy::Off, "nothing is stolen from the probe");
    }

    #[test]
    fn a_session_that_is_missing_or_too_many_is_not_complete() {
        let is_complete = |accounts: &Accounts| judge(accounts, &there(), 0.0).is_complete;
        let mut missing = accounts(1.0, &["AJ_hot"]);
        missing.first_snapshot.sessions.pop();
        assert!(!is_complete(&missing));
        let mut more = accounts(1.0, &["AJ_hot"]);
        more.first_snapshot.sessions.push(said::Session::default());
        assert!(!is_complete(&more));
        let mut polled = accounts(1.0, &["AJ_hot"]);
        polled.last_snapshot.sessions[1].usage.polls = 1;
        assert!(!is_complete(&polled));
    }

    #[test]
    fn nothing_to_compare_is_no_success() {
        let none = There { hot: Vec::new(), ..there() };
        assert_eq!(judge(&accounts(1.0, &["AJ_hot"]), &none, 0.0).accuracy, Accuracy::Off);
        let none = There { idle: Vec::new(), ..there() };
        assert!(!judge(&accounts(1.0, &["AJ_hot"]), &none, 0.0).is_complete);
    }
}
