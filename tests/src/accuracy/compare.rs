//! Both accounts beside the truth, and the demands on ours. No I/O, no clock.

use std::collections::BTreeSet;

use super::stalls::{self, Tally};
use crate::said::{Snapshot, Stall};
use crate::truth::{Session, Truth};

/// How near a session's off-CPU time and run-queue wait must come: what lies between the clocks that the worker
/// reads, and what waits are cut at the two instants.
const WAIT_S: f64 = 0.02;
/// The same for each second of them.
const WAIT_RATIO: f64 = 0.01;
/// The same for each poll: the worker's two clocks are read one after the other, and an interrupt is in its wall time
/// alone.
const WAIT_A_POLL_S: f64 = 4e-6;
/// Sessions with less CPU than this are counted in the total only.
pub const COUNTED_S: f64 = 0.2;

/// How near the probe must come to the truth.
#[derive(Debug, Clone, Copy)]
pub struct Demands {
    /// CPU of each counted session, as a ratio of the truth.
    pub session_ratio: f64,
    /// CPU of all sessions, as a ratio of the truth.
    pub total_ratio: f64,
    /// Duration of each stall.
    pub duration_ms: f64,
    /// What the probe may have seen on top, in all ([`crate::stolen`]).
    pub stolen_s: f64,
    /// What the truth of one session may be off by, either way: a burst that spans one of the two instants
    /// is divided by its wall time, which is wrong where it waited for a CPU.
    pub edge_s: f64,
    /// Where polls were sampled: what the share of each session may be off by, as a ratio of all, if that is more
    /// than two standard errors; then `session_ratio` is not asked for.
    pub share: Option<f64>,
}

impl Demands {
    /// Those of the bench where polls are sampled.
    pub const SAMPLED: Self = Self { duration_ms: 3.0, share: Some(0.03), ..Self::BENCH };

    /// Those of the bench.
    pub const BENCH: Self = Self {
        session_ratio: 0.02,
        total_ratio: 0.01,
        duration_ms: 2.0,
        stolen_s: 0.0,
        edge_s: 0.0,
        share: None,
    };
}

/// Everything that was collected in one run.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    /// The probe's first snapshot.
    pub first_snapshot: Snapshot,
    /// The probe's last snapshot.
    pub last_snapshot: Snapshot,
    /// The worker's account at the first snapshot's instant.
    pub first: Truth,
    /// The worker's account at the last snapshot's instant.
    pub last: Truth,
    /// The worker's account at its end.
    pub whole: Truth,
    /// The probe's reports.
    pub stalls: Vec<Stall>,
    /// What was stolen from the whole machine meanwhile ([`crate::stolen`]).
    pub stolen_s: f64,
}

/// One session's CPU between the two instants.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its id.
    pub session: String,
    /// Measured by the worker.
    pub truth_s: f64,
    /// By the probe.
    pub ours_s: f64,
    /// By the introspection: its share of all samples, as time.
    pub theirs_s: f64,
    /// Callbacks that the worker measured.
    pub polls: i64,
    /// The standard error that the probe tells of its own.
    pub our_se_s: f64,
    /// What it waited for, asleep or for a CPU: measured by the worker.
    pub true_wait_s: f64,
    /// The same by the probe.
    pub our_wait_s: f64,
}

impl Row {
    /// The probe's error, as a ratio of the truth.
    pub fn our_error(&self) -> f64 {
        ratio_off(self.ours_s, self.truth_s)
    }

    /// The introspection's error, as a ratio of the truth.
    pub fn their_error(&self) -> f64 {
        ratio_off(self.theirs_s, self.truth_s)
    }
}

/// `(found - truth) / truth`; a truth of nothing is met only by nothing.
pub fn ratio_off(found: f64, truth: f64) -> f64 {
    if truth > 0.0 {
        (found - truth) / truth
    } else if found == 0.0 {
        0.0
    } else {
        f64::INFINITY
    }
}

/// Errors over the counted sessions.
#[derive(Debug, Clone, Default)]
pub struct Errors {
    /// Mean of the absolute ratios.
    pub mean: f64,
    /// The greatest, with its sign.
    pub worst: f64,
    /// Whose that is.
    pub worst_of: String,
}

impl Errors {
    fn over<'a>(rows: impl Iterator<Item = &'a Row>, error: impl Fn(&Row) -> f64) -> Self {
        let mut errors = Self::default();
        let mut count = 0_usize;
        for row in rows {
            let off = error(row);
            count += 1;
            errors.mean += off.abs();
            if off.abs() >= errors.worst.abs() {
                errors.worst = off;
                errors.worst_of.clone_from(&row.session);
            }
        }
        errors.mean /= count.max(1) as f64;
        errors
    }
}

/// What a demand is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matter {
    /// CPU seconds.
    Cpu,
    /// Which stalls there were, and whose.
    Stalls,
    /// How long they lasted.
    Durations,
}

/// One demand and whether it was met.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// What it is about.
    pub matter: Matter,
    /// In words.
    pub demand: String,
    /// Whether it was met.
    pub pass: bool,
}

/// The comparison of one run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// By session, the most CPU first.
    pub rows: Vec<Row>,
    /// How many of them are counted one by one.
    pub counted: usize,
    /// Time between the two instants.
    pub span_s: f64,
    /// Sums over all rows.
    pub truth_s: f64,
    /// By the probe.
    pub ours_s: f64,
    /// By the introspection.
    pub theirs_s: f64,
    /// The probe's errors.
    pub our_errors: Errors,
    /// The introspection's errors.
    pub their_errors: Errors,
    /// The probe's stalls.
    pub our_stalls: Tally,
    /// The introspection's stalls.
    pub their_stalls: Option<Tally>,
    /// Every demand.
    pub verdicts: Vec<Verdict>,
}

impl Outcome {
    /// Whether all demands were met.
    pub fn passed(&self) -> bool {
        self.failures().is_empty()
    }

    /// Whether all demands of this kind were met.
    pub fn meets(&self, matter: Matter) -> bool {
        self.verdicts.iter().all(|verdict| verdict.pass || verdict.matter != matter)
    }

    /// The demands that were not met.
    pub fn failures(&self) -> Vec<&str> {
        let failed = self.verdicts.iter().filter(|verdict| !verdict.pass);
        failed.map(|verdict| verdict.demand.as_str()).collect()
    }

    /// What the probe is off by for each callback, in ns.
    pub fn our_error_per_poll_ns(&self) -> f64 {
        let polls: i64 = self.rows.iter().map(|row| row.polls).sum();
        (self.ours_s - self.truth_s) * 1e9 / polls.max(1) as f64
    }
}

/// Compares.
pub fn compare(accounts: &Accounts, demands: &Demands) -> Outcome {
    let span_s = (accounts.last.at_ns - accounts.first.at_ns) as f64 / 1e9;
    let mut rows = rows(accounts, span_s);
    rows.sort_by(|a, b| b.truth_s.total_cmp(&a.truth_s));
    let counted = || rows.iter().filter(|row| row.truth_s > COUNTED_S);
    let sum = |value: fn(&Row) -> f64| rows.iter().map(value).sum::<f64>();
    let mut outcome = Outcome {
        counted: counted().count(),
        span_s,
        truth_s: sum(|row| row.truth_s),
        ours_s: sum(|row| row.ours_s),
        theirs_s: sum(|row| row.theirs_s),
        our_errors: Errors::over(counted(), Row::our_error),
        their_errors: Errors::over(counted(), Row::their_error),
        our_stalls: stalls::ours(accounts),
        their_stalls: stalls::theirs(accounts),
        verdicts: Vec::new(),
        rows,
    };
    outcome.verdicts = verdicts(&outcome, demands);
    outcome
}

fn rows(accounts: &Accounts, span_s: f64) -> Vec<Row> {
    let Accounts { first_snapshot, last_snapshot, first, last, .. } = accounts;
    let listed = last_snapshot.sessions.iter().map(|session| &session.id);
    let sessions: BTreeSet<&String> = last.sessions.keys().chain(listed).collect();
    let samples = |session: &String| -> f64 {
        let at = |truth: &Truth| {
            let counts = truth.introspection.as_ref()?;
            Some((counts.samples.get(session).copied().unwrap_or(0), counts.samples_total))
        };
        let ((before, all_before), (after, all_after)) =
            (at(first).unwrap_or_default(), at(last).unwrap_or_default());
        (after - before) as f64 / (all_after - all_before).max(1) as f64
    };
    let row = |session: &String| {
        let before = first.sessions.get(session).copied().unwrap_or_default();
        let after = last.sessions.get(session).copied().unwrap_or(before);
        Row {
            session: session.clone(),
            truth_s: (after.cpu_ns - before.cpu_ns) as f64 / 1e9,
            ours_s: last_snapshot.cpu_s(session) - first_snapshot.cpu_s(session),
            theirs_s: samples(session) * span_s,
            polls: after.polls - before.polls,
            our_se_s: se_s(last_snapshot, session).hypot(-se_s(first_snapshot, session)),
            true_wait_s: waited_s(&after) - waited_s(&before),
            our_wait_s: our_wait_s(last_snapshot, session) - our_wait_s(first_snapshot, session),
        }
    };
    sessions.into_iter().map(row).collect()
}

/// The standard error that the probe tells of a session's CPU time.
fn se_s(snapshot: &Snapshot, session: &str) -> f64 {
    snapshot.session(session).and_then(|session| session.cpu_error_s).unwrap_or(0.0)
}

/// What was measured and did not run.
fn waited_s(session: &Session) -> f64 {
    (session.wall_ns - session.cpu_ns) as f64 / 1e9
}

fn our_wait_s(snapshot: &Snapshot, session: &str) -> f64 {
    let usage = snapshot.session(session).map(|session| session.usage);
    usage.map_or(0.0, |usage| usage.off_cpu_s + usage.run_queue_s)
}

/// The demands on what was sampled.
fn sampled_verdicts(outcome: &Outcome, share: f64, stolen_s: f64) -> Vec<Verdict> {
    let part = |s: f64, all_s: f64| s / all_s.max(f64::MIN_POSITIVE);
    let is_near = |row: &Row| {
        let off = part(row.ours_s, outcome.ours_s) - part(row.truth_s, outcome.truth_s);
        off.abs() <= f64::max(share, 2.0 * part(row.our_se_s, outcome.ours_s))
    };
    let waits = |row: &Row| {
        let slack_s =
            WAIT_S + WAIT_RATIO * row.true_wait_s + WAIT_A_POLL_S * row.polls as f64 + stolen_s;
        (row.our_wait_s - row.true_wait_s).abs() <= slack_s
    };
    let verdict = |demand: String, pass| Verdict { matter: Matter::Cpu, demand, pass };
    vec![
        verdict(
            format!("CPU share of each session within {} or two of its errors", percent(share)),
            outcome.rows.iter().all(is_near),
        ),
        verdict(
            format!(
                "off-CPU and run queue of each session within {:.0} ms and {:.0} us a poll",
                WAIT_S * 1e3,
                WAIT_A_POLL_S * 1e6
            ),
            outcome.rows.iter().all(waits),
        ),
    ]
}

fn verdicts(outcome: &Outcome, demands: &Demands) -> Vec<Verdict> {
    let Demands { session_ratio, total_ratio, duration_ms, stolen_s, edge_s, share } = *demands;
    let stalls = &outcome.our_stalls;
    let within = |ours_s: f64, truth_s: f64, ratio: f64, edge_s: f64| {
        let slack_s = truth_s * ratio + edge_s;
        (truth_s - slack_s..=truth_s + slack_s + stolen_s).contains(&ours_s)
    };
    let mut counted = outcome.rows.iter().filter(|row| row.truth_s > COUNTED_S);
    let verdict = |matter, demand: String, pass| Verdict { matter, demand, pass };
    let of_sessions = match share {
        Some(share) => sampled_verdicts(outcome, share, stolen_s),
        None => vec![verdict(
            Matter::Cpu,
            format!(
                "CPU of each session with over {COUNTED_S} s within {}",
                percent(session_ratio)
            ),
            outcome.counted > 0
                && counted.all(|row| within(row.ours_s, row.truth_s, session_ratio, edge_s)),
        )],
    };
    let of_all = vec![
        verdict(
            Matter::Cpu,
            format!("CPU of all sessions within {}", percent(total_ratio)),
            outcome.truth_s > 0.0 && within(outcome.ours_s, outcome.truth_s, total_ratio, 0.0),
        ),
        verdict(
            Matter::Stalls,
            "all stalls found".to_owned(),
            stalls.real > 0 && stalls.found == stalls.real,
        ),
        verdict(
            Matter::Stalls,
            "all with the right session".to_owned(),
            stalls.right == stalls.found,
        ),
        verdict(
            Matter::Durations,
            format!("their durations within {duration_ms} ms"),
            stalls.found > 0 && stalls.worst_error_ms <= duration_ms,
        ),
        verdict(Matter::Stalls, "no stall invented".to_owned(), stalls.invented == 0),
    ];
    of_sessions.into_iter().chain(of_all).collect()
}

fn percent(ratio: f64) -> String {
    format!("{:.0} %", ratio * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::said;
    use crate::truth::{Introspection, Session};

    fn truth(at_s: i64, cpu_ms: &[(&str, i64)], samples: &[(&str, i64)], total: i64) -> Truth {
        let session = |ms: i64| Session { cpu_ns: ms * 1_000_000, polls: ms, ..Session::default() };
        Truth {
            at_ns: at_s * 1_000_000_000,
            threshold_ms: 50.0,
            sessions: cpu_ms.iter().map(|(id, ms)| ((*id).to_owned(), session(*ms))).collect(),
            introspection: Some(Introspection {
                samples: samples.iter().map(|(id, n)| ((*id).to_owned(), *n)).collect(),
                samples_total: total,
                blocks: Vec::new(),
            }),
            ..Truth::default()
        }
    }

    fn snapshot(cpu_s: &[(&str, f64)]) -> Snapshot {
        let sessions = cpu_s.iter().map(|(id, cpu_s)| said::Session {
            id: (*id).to_owned(),
            usage: said::Usage { cpu_s: *cpu_s, ..said::Usage::default() },
            ..said::Session::default()
        });
        Snapshot { sessions: sessions.collect(), ..Snapshot::default() }
    }

    fn accounts() -> Accounts {
        Accounts {
            first_snapshot: snapshot(&[("AJ_1", 0.5)]),
            last_snapshot: snapshot(&[("AJ_1", 1.49), ("AJ_2", 0.503), ("AJ_3", 0.02)]),
            first: truth(10, &[("AJ_1", 2000), ("AJ_2", 100)], &[("AJ_1", 10)], 100),
            last: truth(20, &[("AJ_1", 3000), ("AJ_2", 600), ("AJ_3", 10)], &[("AJ_1", 20)], 200),
            ..Accounts::default()
        }
    }

    #[test]
    fn differences_are_compared_not_totals() {
        let outcome = compare(&accounts(), &Demands::BENCH);
        let row = &outcome.rows[0];
        assert_eq!(row.session, "AJ_1");
        assert!((row.truth_s - 1.0).abs() < 1e-9 && (row.our_error() + 0.01).abs() < 1e-9);
        assert!((row.theirs_s - 1.0).abs() < 1e-9, "10 of 100 samples over 10 s");
        assert!((outcome.rows[1].our_error() - 0.006).abs() < 1e-9);
        assert_eq!(outcome.counted, 2, "AJ_3 has too little to be counted alone");
        assert_eq!(outcome.our_errors.worst_of, "AJ_1");
    }

    #[test]
    fn demands_are_judged_one_by_one() {
        let pass: Vec<bool> =
            compare(&accounts(), &Demands::BENCH).verdicts.iter().map(|v| v.pass).collect();
        // No stall happened, so none can have been found: that is a failure of the run.
        assert_eq!(pass, [true, true, false, true, false, true]);
        let outcome = compare(&accounts(), &Demands::BENCH);
        assert!(outcome.meets(Matter::Cpu) && !outcome.meets(Matter::Stalls));
        let mut off = accounts();
        off.last_snapshot = snapshot(&[("AJ_1", 1.49), ("AJ_2", 0.6)]);
        let outcome = compare(&off, &Demands::BENCH);
        assert!(!outcome.verdicts[0].pass && !outcome.verdicts[1].pass);
        assert!(!outcome.passed());
    }

    #[test]
    fn a_session_that_only_the_probe_knows_is_seen_in_the_total() {
        let mut off = accounts();
        off.last_snapshot = snapshot(&[("AJ_1", 1.49), ("AJ_2", 0.5), ("AJ_ghost", 0.3)]);
        let outcome = compare(&off, &Demands::BENCH);
        assert!(outcome.rows.iter().any(|row| row.session == "AJ_ghost"));
        assert!(!outcome.verdicts[1].pass);
    }
}
