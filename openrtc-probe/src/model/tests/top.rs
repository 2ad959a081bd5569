//! What the top view needs besides.

use openrtc_common::{
    histogram::{FINE, FINE_LEN, Lengths},
    session::UNTAGGED,
};

use super::*;

const S: u64 = 1_000_000;

/// A look at one session in slot 1 that has used so much, has made so many polls and last ran then.
fn of_one(at_us: u64, cpu_us: u64, polls: u64, last_us: u64) -> Look {
    let mut session = counters("AJ_1", cpu_us, last_us);
    session.counters.polls = polls;
    look(at_us, vec![], vec![(1, session)])
}

#[test]
fn a_session_has_its_rate_its_rest_and_its_minute() {
    let mut ledger = ledger();
    let mut shown = Vec::new();
    for at_s in 1..=3 {
        // A quarter of a core, and then nothing.
        let cpu_us = at_s.min(2) * S / 4;
        let picture = ledger.picture(&of_one(at_s * S, cpu_us, at_s * 50, at_s.min(2) * S), false);
        let row = &picture.sessions[0];
        shown.push((row.polls_per_s, row.idle_ns / US / S));
        assert_eq!(picture.worker.sessions_seen, 1);
    }
    assert_eq!(shown, [(Some(50.0), 0), (Some(50.0), 0), (Some(50.0), 1)]);
    let slow = ledger.picture(&of_one(5 * S, S / 2 + S / 5, 150, 4 * S), false);
    let cpu: Vec<_> = slow.sessions[0].cpu_history.ratios().collect();
    assert_eq!(cpu, [0.25, 0.25, 0.0, 0.1, 0.1], "a picture after two seconds fills both");
    let quick = ledger.picture(&of_one(5 * S + 100_000, S, 150, 4 * S), false);
    assert_eq!(quick.sessions[0].cpu_history.ratios().len(), 5, "a second goes on");
    assert_eq!(quick.history.seconds.len(), 5);
}

#[test]
fn a_session_that_runs_is_not_idle_and_was_not_when_its_poll_is_over() {
    let mut ledger = ledger();
    let runs = look(S, vec![loop_thread(S, 0, Some((1, 10)))], vec![(1, counters("AJ_1", 0, 10))]);
    assert_eq!(ledger.picture(&runs, false).sessions[0].idle_ns, 0);
    let over = look(S + 5, vec![loop_thread(S + 5, S, None)], vec![(1, counters("AJ_1", S, 10))]);
    assert_eq!(ledger.picture(&over, false).sessions[0].idle_ns, 5 * US);
}

#[test]
fn ended_sessions_stay_for_a_minute_unless_they_come_back() {
    let mut ledger = ledger();
    let both = |at_us| {
        look(at_us, vec![], vec![(1, counters("AJ_1", 500, 1000)), (2, counters("AJ_2", 7, 2000))])
    };
    ledger.take(census(&["AJ_1", "AJ_2"], 3000));
    assert!(ledger.picture(&both(4000), false).ended.is_empty());
    ledger.take(census(&[], S));
    let last = ledger.picture(&both(2 * S), false);
    assert_eq!((last.sessions.len(), last.ended.len()), (2, 0), "they are shown as ended first");
    let later = ledger.picture(&both(3 * S), false);
    assert!(later.sessions.is_empty());
    let ids = |picture: &Snapshot| {
        picture.ended.iter().map(|it| it.session_id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&later), ["AJ_2", "AJ_1"], "the last to end first");
    let row = &later.ended[1];
    assert_eq!((row.status, row.cpu_ratio, row.usage.loop_cpu_ns), (Status::Ended, None, 500 * US));
    assert_eq!(row.idle_ns, (3 * S - 1000) * US);
    // One comes back, in another slot; the other's slot is given up.
    for key in ledger.take_forgettable() {
        assert!(key == tag("AJ_1").key() || key == tag("AJ_2").key());
    }
    ledger.take(Fact::SessionGone(Box::new(counters("AJ_2", 7, 2000))));
    ledger.take(census(&["AJ_1"], 4 * S));
    let back = |at_us, last_us| look(at_us, vec![], vec![(9, counters("AJ_1", 1, last_us))]);
    let picture = ledger.picture(&back(5 * S, 4 * S), false);
    assert_eq!((ids(&picture), picture.sessions.len()), (vec!["AJ_2".to_owned()], 1));
    assert_eq!(picture.worker.sessions_seen, 2);
    let picture = ledger.picture(&back(62 * S, 62 * S), false);
    assert_eq!(ids(&picture), ["AJ_2"], "a minute after it was shown as ended");
    assert!(ledger.picture(&back(62 * S + 1, 62 * S), false).ended.is_empty());
}

#[test]
fn no_more_ended_sessions_are_kept_than_are_promised() {
    let mut ledger = ledger();
    let all = |at_us| {
        let slot = |n: u32| (n + 1, counters(&format!("AJ_{n}"), 5, u64::from(n)));
        look(at_us, vec![], (0..MAX_ENDED as u32 + 50).map(slot).collect())
    };
    ledger.picture(&all(1000), false);
    ledger.take(census(&[], S));
    ledger.picture(&all(2 * S), false);
    let ended = ledger.picture(&all(3 * S), false).ended;
    assert_eq!((ended.len(), &*ended[0].session_id), (MAX_ENDED, "AJ_549"));
}

#[test]
fn the_worker_s_loop_has_its_load() {
    let mut ledger = ledger();
    let at = |us: u64, in_polls_us: u64, queued_us: u64| {
        let mut thread = loop_thread(us, in_polls_us, None);
        thread.thread.clock.run_queue_ns = queued_us * US;
        look(us, vec![thread], vec![(UNTAGGED, counters("", in_polls_us, us))])
    };
    ledger.picture(&at(1000, 0, 0), false);
    let worker = ledger.picture(&at(2000, 300, 200), false).worker;
    assert_eq!((worker.poll_cpu_ratio, worker.loop_run_queue_ratio), (Some(0.3), Some(0.2)));
}

/// Brings the ledger up to a moment at which its loop thread is in this poll.
fn watch(ledger: &mut Ledger, now_us: u64, poll: Option<(u32, u64)>) -> usize {
    let threads = [loop_thread(now_us, 0, poll)];
    let passed = ledger.stalls.watch(now_us * US, &threads, |_| tag("AJ_1"));
    ledger.note(0, &threads, None);
    passed.len()
}

#[test]
fn stalls_of_the_last_minute_are_counted_by_session() {
    let mut ledger = ledger();
    let counted = |ledger: &mut Ledger, at_us| {
        let picture = ledger.picture(&of_one(at_us, 1, 1, at_us), false);
        let by_second = picture.history.seconds.iter().map(|second| second.stalls);
        (picture.sessions[0].stalls_last_minute, by_second.collect::<Vec<_>>())
    };
    for from_us in [S / 2, S - 20_000] {
        watch(&mut ledger, from_us + 51_000, Some((1, from_us)));
        ledger.stalls.end(
            &stall_end(from_us, 52_000, &Waits::default()),
            &tag("AJ_1"),
            Mode::Exact,
        );
    }
    // Over before anybody looked.
    ledger.stalls.end(
        &stall_end(S + 500_000, 52_000, &Waits::default()),
        &tag("AJ_1"),
        Mode::Exact,
    );
    assert_eq!(counted(&mut ledger, 2 * S), (3, vec![2, 1]));
    let (count, by_second) = counted(&mut ledger, 61 * S);
    assert_eq!((count, by_second.len(), by_second[0]), (0, 60, 1), "the first second has left");
}

#[test]
fn a_lower_threshold_tells_what_runs_already() {
    let mut ledger = ledger();
    assert_eq!(watch(&mut ledger, 30_000, Some((1, 0))), 0);
    ledger.set_threshold(20_000 * US);
    assert_eq!(watch(&mut ledger, 30_001, Some((1, 0))), 1);
    let picture = ledger.picture(&of_one(40_000, 1, 1, 0), false);
    assert_eq!((picture.threshold_ns, picture.worker.stalls), (20_000 * US, 1));
}

#[test]
fn a_stall_stays_one_when_the_threshold_is_raised_over_it() {
    let mut ledger = ledger();
    assert_eq!(watch(&mut ledger, 60_000, Some((1, 0))), 1);
    ledger.set_threshold(100_000 * US);
    let stalls = |picture: &Snapshot| (picture.sessions[0].usage.stalls, picture.worker.stalls);
    let open = |at_us| {
        let threads = vec![loop_thread(at_us, 0, Some((1, 0)))];
        look(at_us, threads, vec![(1, counters("AJ_1", 0, 0))])
    };
    assert_eq!(stalls(&ledger.picture(&open(70_000), false)), (1, 1));
    // It ends at 80 ms: the kernel says nothing.
    watch(&mut ledger, 75_000, Some((1, 0)));
    watch(&mut ledger, 81_000, None);
    watch(&mut ledger, 1_100_000, None);
    let settled = ledger.stalls.settle(2_200_000 * US, &[], false).remove(0);
    assert!(!settled.stall.ongoing && settled.stall.is_lower_bound);
    assert_eq!(settled.stall.duration_ns, 75_000 * US, "so long it was seen");
    let picture = ledger.picture(&of_one(2_300_000, 1, 1, 0), false);
    assert_eq!((stalls(&picture), picture.health.lost), ((1, 1), vec![]), "neither lost nor less");
    // The next one is counted by the kernel, and is the second.
    let mut session = counters("AJ_1", 1, 0);
    session.counters.stalls = 1;
    let next = ledger.picture(&look(2_400_000, vec![], vec![(1, session)]), false);
    assert_eq!(next.sessions[0].usage.stalls, 2);
}

#[test]
fn a_close_look_adds_up_what_all_slots_of_the_session_counted() {
    let lengths = |polls: u32, off_cpu: u32| {
        let mut lengths = Lengths::default();
        (lengths.polls[4], lengths.off_cpu[9]) = (polls, off_cpu);
        lengths
    };
    let mut ledger = ledger();
    let slots = || vec![(1, counters("AJ_1", 500, 10)), (9, counters("AJ_1", 70, 20))];
    let mut at = look(100, vec![], slots());
    assert!(ledger.focus_slots(&at).is_empty() && ledger.picture(&at, false).focus.is_none());
    ledger.focus(Some("AJ_1".into()));
    assert_eq!(ledger.focus_slots(&at), [1, 9]);
    at.focus = vec![lengths(5, 0), lengths(7, 2)];
    let counted =
        |picture: Snapshot| picture.focus.map(|focus| (focus.polls.count(), focus.off_cpu.count()));
    assert_eq!(counted(ledger.picture(&at, false)), Some((12, 2)));
    // One slot is freed while the tag lives on in the other; some were there before the first look.
    let key = tag("AJ_1").key();
    ledger.take(Fact::LengthsGone(key, Box::new(lengths(5, 0))));
    ledger.take(Fact::SessionGone(Box::new(counters("AJ_1", 500, 10))));
    ledger.take(Fact::LengthsBefore(key, Box::new(lengths(3, 1))));
    let mut at = look(200, vec![], slots().split_off(1));
    assert_eq!(ledger.focus_slots(&at), [9]);
    at.focus = vec![lengths(8, 2)];
    assert_eq!(counted(ledger.picture(&at, false)), Some((10, 1)));
    ledger.focus(Some("AJ_2".into()));
    assert!(ledger.focus_slots(&at).is_empty() && ledger.picture(&at, false).focus.is_none());
}

#[test]
fn the_loop_s_delay_is_that_of_its_polls() {
    let mut ledger = ledger();
    let at = |us: u64, polls: u64, open: Option<u64>| {
        let mut loop_polls = vec![0; FINE_LEN];
        loop_polls[FINE.class(10_000 * US) as usize] = polls;
        let poll = open.map(|since_us| (1, since_us));
        Look { loop_polls, ..look(us, vec![loop_thread(us, 0, poll)], vec![]) }
    };
    let mut ledger_of_loop = Ledger::new(About::default(), THRESHOLD_NS, 0);
    assert_eq!(ledger_of_loop.picture(&at(0, 0, None), false).worker.loop_delay, None);
    ledger_of_loop.note(10_000 * US, &[], None);
    let half = ledger_of_loop.picture(&at(S, 90, None), false).worker.loop_delay.unwrap();
    assert_eq!(
        (half.p50_ns.unwrap() / US / 1000, half.max_ns),
        (4, 10_000 * US),
        "90 % of the time"
    );
    let open = ledger_of_loop.picture(&at(2 * S, 90, Some(S)), false).worker.loop_delay.unwrap();
    assert_eq!(open.max_ns, S * US, "so long it has run");
    assert!(open.p99_ns.unwrap() > 900 * 1000 * US, "{open:?}");
    assert_eq!(ledger.picture(&look(S, vec![], vec![]), false).worker.loop_delay, None);
}
