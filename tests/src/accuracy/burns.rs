//! Whether each session has the CPU time of its burns, for workers that measure nothing else.

use anyhow::{Result, ensure};

use super::compare::Accounts;
use crate::truth::Session;

/// Of a burn, what may be missing: interrupts come between two clocks.
const MISSING_RATIO: f64 = 0.03;
/// For each burn, what the probe sees around the worker's measurement: the rest of the callback.
const AROUND_S: f64 = 0.000_5;
/// At each end, a burn: the daemon may have to wait for a CPU between its look and its clock.
const EDGES_S: f64 = 0.007;
/// What has to be burnt for its row to say anything.
const LEAST_S: f64 = 0.01;

/// The rows of the worker's account, untagged among them, that are not as they were burnt, in words. All
/// must be in the probe's last picture.
pub fn wrong_rows(accounts: &Accounts) -> Result<Vec<String>> {
    let Accounts { first, last, first_snapshot, last_snapshot, stolen_s, .. } = accounts;
    ensure!(!last.sessions.is_empty(), "the worker knows of no session");
    let mut wrong = Vec::new();
    for (id, real) in &last.sessions {
        let ours_s = last_snapshot.demand(id)?.usage.cpu_s - first_snapshot.cpu_s(id);
        wrong.extend(why_wrong(id, ours_s, real, &first.session(id), *stolen_s));
    }
    let ours_s = last_snapshot.untagged.cpu_s - first_snapshot.untagged.cpu_s;
    wrong.extend(why_wrong("untagged", ours_s, &last.untagged, &first.untagged, *stolen_s));
    Ok(wrong)
}

fn why_wrong(
    id: &str,
    ours_s: f64,
    real: &Session,
    before: &Session,
    stolen_s: f64,
) -> Option<String> {
    let real_s = (real.cpu_ns - before.cpu_ns) as f64 / 1e9;
    let burns = (real.polls - before.polls + 1) as f64;
    let least_s = real_s * (1.0 - MISSING_RATIO) - EDGES_S;
    let most_s = real_s + burns * AROUND_S + EDGES_S + stolen_s;
    let is_right = real_s > LEAST_S && (least_s..=most_s).contains(&ours_s);
    (!is_right).then(|| format!("{id:.40}: {ours_s:.4} s, really {real_s:.4} s in {burns} burns"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::said::{self, Snapshot, Usage};
    use crate::truth::Truth;

    fn usage(cpu_s: f64) -> Usage {
        Usage { cpu_s, ..Usage::default() }
    }

    fn accounts(ours_s: f64) -> Accounts {
        let burnt = Session { cpu_ns: 100_000_000, polls: 20, ..Session::default() };
        let session =
            said::Session { id: "a".to_owned(), usage: usage(ours_s), ..said::Session::default() };
        Accounts {
            last_snapshot: Snapshot {
                sessions: vec![session],
                untagged: usage(0.1),
                ..Snapshot::default()
            },
            last: Truth {
                sessions: [("a".to_owned(), burnt)].into(),
                untagged: burnt,
                ..Truth::default()
            },
            ..Accounts::default()
        }
    }

    #[test]
    fn a_row_may_be_off_by_what_is_around_its_burns_and_no_more() {
        for right_s in [0.091, 0.1, 0.117] {
            assert!(wrong_rows(&accounts(right_s)).unwrap().is_empty(), "{right_s}");
        }
        for wrong_s in [0.0, 0.089, 0.119] {
            assert_eq!(wrong_rows(&accounts(wrong_s)).unwrap().len(), 1, "{wrong_s}");
        }
    }

    #[test]
    fn a_row_that_is_absent_or_has_no_burns_is_an_error() {
        let mut absent = accounts(0.1);
        absent.last_snapshot.sessions.clear();
        assert!(wrong_rows(&absent).is_err());
        let mut idle = accounts(0.1);
        idle.first = idle.last.clone();
        assert_eq!(wrong_rows(&idle).unwrap().len(), 2);
        assert!(wrong_rows(&Accounts::default()).is_err());
    }
}
