//! What a picture tells of polls that were sampled.

use openrtc_common::session::UNTAGGED;

use super::*;
use crate::model::{ModeChange, Reason, Sampling};

const S: u64 = 1_000_000;

fn change(mode: Mode) -> Fact {
    Fact::Mode(ModeChange { at_unix_ns: 0, mode, reason: Reason::Asked })
}

/// A look at one session that has made so many polls, of a worker that was sampled for so long.
fn of_one(at_us: u64, polls: u64, sampled_us: u64) -> Look {
    let mut session = counters("AJ_1", at_us / 10, at_us);
    session.counters.polls = polls;
    let sampling = Sampling {
        sampled_ns: sampled_us * US,
        samples: sampled_us / 2_000,
        polls: sampled_us / 1_000,
        variances: if sampled_us > 0 { vec![(1, 9e12), (UNTAGGED, 1e12)] } else { Vec::new() },
    };
    Look { sampling, ..look(at_us, vec![], vec![(1, session)]) }
}

#[test]
fn what_was_sampled_has_an_error_and_its_polls_are_not_known() {
    let mut ledger = ledger();
    ledger.take(change(Mode::Exact));
    let exact = ledger.picture(&of_one(S, 100, 0), false);
    assert_eq!((exact.sessions[0].cpu_se_ns, exact.sessions[0].polls_per_s), (None, Some(100.0)));
    assert_eq!(exact.accounting.mode, Some(Mode::Exact));

    ledger.take(change(Mode::Sampled));
    let sampled = ledger.picture(&of_one(2 * S, 100, S), false);
    let row = &sampled.sessions[0];
    assert_eq!((row.cpu_se_ns, row.polls_per_s), (Some(3_000_000), None));
    assert_eq!(sampled.untagged.cpu_se_ns, Some(1_000_000));
    assert_eq!((sampled.worker.polls, sampled.worker.polls_per_s), (1_100, Some(1_000.0)));
    assert_eq!((sampled.accounting.change_count, sampled.accounting.changes.len()), (1, 2));
    assert!(sampled.accounting.was_sampled());

    ledger.take(change(Mode::Exact));
    let again = ledger.picture(&of_one(3 * S, 200, S), false);
    let row = &again.sessions[0];
    assert_eq!((row.cpu_se_ns, row.polls_per_s), (Some(3_000_000), Some(100.0)), "the error stays");
    assert_eq!(again.worker.polls, 1_200, "nothing goes back");
}

#[test]
fn percentiles_of_the_delay_are_told_once_a_minute_has_passed_without_samples() {
    let mut ledger = ledger();
    let delay = |ledger: &mut Ledger, at_us, sampled_us| {
        let loop_polls = vec![at_us; openrtc_common::histogram::FINE_LEN];
        let look = Look { loop_polls, ..of_one(at_us, 1, sampled_us) };
        ledger.picture(&Look { threads: vec![loop_thread()], ..look }, false).worker.loop_delay
    };
    let known = |delay: Option<LoopDelay>| delay.map(|delay| delay.p99_ns.is_some());
    assert_eq!(known(delay(&mut ledger, S, 0)), Some(true));
    assert_eq!(known(delay(&mut ledger, 2 * S, S)), Some(false));
    assert_eq!(known(delay(&mut ledger, 30 * S, S)), Some(false));
    assert_eq!(known(delay(&mut ledger, 63 * S, S)), Some(true));
}

fn loop_thread() -> ThreadLook {
    let thread = Thread { tid: 7, role: role::LOOP, ..Thread::default() };
    ThreadLook::new(thread)
}

#[test]
fn only_the_last_changes_are_kept_and_all_are_counted() {
    let mut ledger = ledger();
    for at in 0..40 {
        ledger.take(change(if at % 2 == 0 { Mode::Exact } else { Mode::Sampled }));
    }
    let accounting = ledger.picture(&look(S, vec![], vec![]), false).accounting;
    assert_eq!((accounting.changes.len(), accounting.change_count), (16, 39));
}

#[test]
fn who_waited_for_a_stall_that_samples_tell_of_is_not_known() {
    for (seen_by, late) in [(Mode::Exact, Some(0)), (Mode::Sampled, None)] {
        let mut ledger = ledger();
        ledger.stalls.end(&stall_end(1_000, 70_000, &Waits::default()), &tag("AJ_1"), seen_by);
        let settled = ledger.stalls.settle(71_000 * US, &[], true);
        assert_eq!(settled[0].stall.anatomy.late.as_ref().map(|late| late.count), late);
    }
}
