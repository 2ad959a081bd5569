//! Each finding, what is told first, and that nothing unknown is called healthy.

use super::*;
use crate::model::{
    Anatomy, Capture, Causes, Class, GilHolder, History, LoopDelay, Repeats, Second, Stall,
    Untagged, Worker,
};

const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;
const AT: i128 = 1_000_000_000_000_000_000;

/// A change to a healthy worker.
type Change = fn(&mut Snapshot);

fn session(id: &str) -> Session {
    Session { session_id: id.into(), cpu_ratio: Some(0.01), idle_ns: MS, ..Session::default() }
}

fn healthy() -> Snapshot {
    Snapshot {
        at_unix_ns: AT,
        worker: Worker {
            event_loop: "uvloop".into(),
            tag_found: true,
            cpu_ratio: Some(0.1),
            cpu_ns: 10 * S,
            accounted_ratio: Some(0.99),
            polls: 10_000,
            poll_cpu_ratio: Some(0.05),
            loop_overhead_cpu_ratio: Some(0.02),
            other_threads_cpu_ratio: Some(0.0),
            loop_run_queue_ratio: Some(0.001),
            loop_delay: Some(LoopDelay::default()),
            rss_bytes: Some(400 << 20),
            rss_growth_bytes: Some(0),
            ..Worker::default()
        },
        untagged: Untagged { cpu_ratio: Some(0.0), ..Untagged::default() },
        sessions: vec![session("AJ_1"), session("AJ_2"), session("AJ_3")],
        ..Snapshot::default()
    }
}

fn stall(id: &str, ms: u64, class: Class) -> Stall {
    Stall {
        session_id: Some(id.into()),
        started_at_unix_ns: AT - i128::from(20 * S),
        duration_ns: ms * MS,
        anatomy: Anatomy {
            causes: Causes::of_parts(&[(class, ms * MS)], None),
            ..Anatomy::default()
        },
        ..Stall::default()
    }
}

fn now(id: &str, ms: u64, class: Class) -> Stall {
    Stall { ongoing: true, started_at_unix_ns: AT - i128::from(ms * MS), ..stall(id, ms, class) }
}

fn climb(it: &mut Snapshot, size: impl Fn(u64) -> u64) {
    it.worker.rss_growth_bytes = Some(14 << 20);
    let second = |at| Second { rss_bytes: Some(size(at)), ..Second::default() };
    it.history = History { seconds: (0..60).map(second).collect() };
}

/// In order of urgency: each is found where all that follow it are there too.
const TROUBLES: &[(&str, Change)] = &[
    ("blocked", |it| it.stalls.push(now("AJ_1", 2_300, Class::Sleep))),
    ("starved", |it| it.worker.loop_run_queue_ratio = Some(0.2)),
    ("hot", |it| it.sessions[1].cpu_ratio = Some(0.61)),
    ("overloaded", |it| it.worker.poll_cpu_ratio = Some(0.79)),
    ("memory", |it| climb(it, |second| (400 << 20) + second * (14 << 20) / 60)),
    ("wedged", |it| it.sessions[2].idle_ns = 2_460 * S),
    ("blocked", |it| it.stalls.push(stall("AJ_1", 60, Class::Sleep))),
    ("unknown", |it| it.worker.cpu_ratio = None),
];

#[test]
fn the_most_urgent_is_told() {
    assert_eq!(verdict(&healthy()).finding, Finding::Healthy);
    let mut all = healthy();
    for (kind, change) in TROUBLES.iter().rev() {
        let mut alone = healthy();
        change(&mut alone);
        assert_eq!(verdict(&alone).finding.kind(), *kind);
        change(&mut all);
        assert_eq!(verdict(&all).finding.kind(), *kind);
    }
}

#[test]
fn nothing_unknown_is_healthy() {
    let unknown: &[(Unknown, Change)] = &[
        (Unknown::NoLoop, |it| it.worker.event_loop.clear()),
        (Unknown::TagNotFound, |it| it.worker.tag_found = false),
        (Unknown::TaggedElsewhere(3), |it| it.worker.tasks_tagged_elsewhere = 3),
        (Unknown::NoRates, |it| it.worker.cpu_ratio = None),
        (Unknown::NoRates, |it| it.worker.poll_cpu_ratio = None),
        (Unknown::NoRates, |it| it.worker.loop_overhead_cpu_ratio = None),
        (Unknown::NoRates, |it| it.worker.loop_run_queue_ratio = None),
        (Unknown::NoPolls, |it| it.worker.loop_delay = None),
        (Unknown::Lossy(101), |it| it.health.lost = vec![("ring_full", 100), ("x", 1)]),
        (Unknown::Unaccounted(0.7), |it| it.worker.accounted_ratio = Some(0.7)),
    ];
    for (why, change) in unknown {
        let mut it = healthy();
        change(&mut it);
        assert_eq!(verdict(&it).finding, Finding::Unknown(*why));
        it.stalls.push(now("AJ_1", 2_300, Class::Sleep));
        assert_eq!(verdict(&it).finding.kind(), "blocked", "a stall is a fact all the same");
    }
    let nothing = Snapshot::default();
    assert_eq!(verdict(&nothing).finding, Finding::Unknown(Unknown::NoLoop));
}

#[test]
fn a_doubt_goes_with_whatever_is_said() {
    let mut it = healthy();
    it.health.lost = vec![("ring_full", 3)];
    let said = verdict(&it);
    assert_eq!((said.finding, said.lost, said.accounted_ratio), (Finding::Healthy, 3, None));
    it.sessions[0].cpu_ratio = Some(0.9);
    it.worker.accounted_ratio = Some(1.3);
    let said = verdict(&it);
    assert_eq!((said.finding.kind(), said.accounted_ratio), ("hot", Some(1.3)));
    it.worker.cpu_ns = MS;
    assert_eq!(verdict(&it).accounted_ratio, None, "a tick more or less");
}

#[test]
fn what_is_below_a_threshold_is_no_trouble() {
    let fine: &[Change] = &[
        |it| it.worker.loop_run_queue_ratio = Some(0.09),
        |it| it.sessions[0].cpu_ratio = Some(0.39),
        |it| it.worker.poll_cpu_ratio = Some(0.77),
        |it| it.sessions[0].idle_ns = WEDGED_NS - 1,
        |it| {
            it.sessions[0].idle_ns = 10 * WEDGED_NS;
            it.sessions[0].status = Status::Ended;
        },
        |it| {
            it.stalls.push(Stall {
                started_at_unix_ns: AT - i128::from(62 * S),
                ..stall("AJ_1", 999, Class::Cpu)
            });
        },
        // A model is loaded: one step.
        |it| climb(it, |second| if second < 30 { 400 << 20 } else { 500 << 20 }),
        // Garbage comes and goes.
        |it| climb(it, |second| (400 << 20) + second % 20 * (1 << 20)),
        |it| {
            climb(it, |second| (4_000 << 20) + second * (14 << 20) / 60);
            it.worker.rss_bytes = Some(4_000 << 20);
        },
        |it| it.worker.rss_growth_bytes = Some(14 << 20),
    ];
    for (at, change) in fine.iter().enumerate() {
        let mut it = healthy();
        change(&mut it);
        assert_eq!(verdict(&it).finding, Finding::Healthy, "{at}");
    }
}

#[test]
fn who_keeps_the_core_busy() {
    let loads: &[(Load, Change)] = &[
        (Load::Sessions, |it| it.worker.poll_cpu_ratio = Some(0.9)),
        (Load::Overhead, |it| it.worker.loop_overhead_cpu_ratio = Some(0.85)),
        (Load::OtherThreads, |it| it.worker.other_threads_cpu_ratio = Some(1.7)),
        (Load::Untagged, |it| it.untagged.cpu_ratio = Some(0.5)),
        (Load::Untagged, |it| {
            it.worker.poll_cpu_ratio = Some(0.9);
            it.untagged.cpu_ratio = Some(0.6);
        }),
    ];
    for (load, change) in loads {
        let mut it = healthy();
        change(&mut it);
        let Finding::Overloaded(found, _) = verdict(&it).finding else { panic!("{load:?}") };
        assert_eq!(found, *load);
    }
}

#[test]
fn without_sessions_there_is_nothing_to_judge() {
    let mut it = healthy();
    it.sessions.iter_mut().for_each(|session| session.status = Status::Ended);
    assert_eq!(verdict(&it).finding, Finding::Idle);
    it.worker.cpu_ratio = None;
    assert_eq!(verdict(&it).finding.kind(), "unknown");
}

fn blame(it: &Snapshot) -> Blame<'_> {
    match verdict(it).finding {
        Finding::Blocks(blame) | Finding::Starved(Some(blame)) => blame,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_most_stalled_time_is_to_blame_and_a_long_stall_that_goes_on_before_it() {
    let mut it = healthy();
    it.stalls = vec![
        stall("AJ_1", 300, Class::Cpu),
        stall("AJ_2", 200, Class::Io),
        stall("AJ_2", 150, Class::Io),
        now("AJ_3", 70, Class::Sleep),
    ];
    let who = |it: &Snapshot| match blame(it).culprit {
        Culprit::Session(id, _) => id.to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(who(&it), "AJ_2");
    assert_eq!((blame(&it).times, blame(&it).stall.duration_ns), (Times::Exactly(2), 200 * MS));
    it.sessions[1].stalls_last_minute = 7;
    assert_eq!(blame(&it).times, Times::Exactly(7), "by its own count");
    it.stalls.push(now("AJ_3", 1_000, Class::Sleep));
    assert_eq!(who(&it), "AJ_3");
    assert!(blame(&it).is_now());
}

#[test]
fn the_place_is_that_of_what_took_most_and_not_of_the_worst() {
    let mut it = healthy();
    let again = Repeats {
        count: 4,
        total_ns: 480 * MS,
        first_unix_ns: AT - i128::from(20 * S),
        last_unix_ns: AT - i128::from(9 * S),
    };
    it.stalls = vec![
        stall("AJ_1", 196, Class::Cpu),
        Stall { repeats: again, ..stall("AJ_1", 125, Class::Sleep) },
    ];
    let blame = blame(&it);
    assert_eq!(blame.stall.anatomy.causes.first(), Some(Class::Sleep));
    assert_eq!(blame.worst.duration_ns, 196 * MS);
    assert_eq!((blame.times, blame.total_ns), (Times::Exactly(5), 676 * MS));
}

#[test]
fn of_stalls_that_came_again_those_of_the_last_minute_count() {
    let mut it = healthy();
    let repeats = |first_s: u64, last_s: u64| Repeats {
        count: 10,
        total_ns: 1_000 * MS,
        first_unix_ns: AT - i128::from(first_s * S),
        last_unix_ns: AT - i128::from(last_s * S),
    };
    it.stalls = vec![Stall { repeats: repeats(50, 10), ..stall("AJ_1", 120, Class::Cpu) }];
    assert_eq!((blame(&it).times, blame(&it).total_ns), (Times::Exactly(10), 1_000 * MS));
    let older = stall("AJ_1", 120, Class::Cpu);
    let started_at_unix_ns = AT - i128::from(70 * S);
    it.stalls = vec![Stall { repeats: repeats(80, 40), started_at_unix_ns, ..older }];
    assert_eq!((blame(&it).times, blame(&it).total_ns), (Times::About(5), 500 * MS));
}

#[test]
fn who_holds_the_lock_is_to_blame_and_the_machine_for_what_it_does() {
    let waits = |holder: Option<&str>| {
        let mut it = stall("AJ_1", 300, Class::Gil);
        let holder = GilHolder { tid: 77, session_id: holder.map(Into::into) };
        it.anatomy.captures = vec![Capture { gil_holder: Some(holder), ..Capture::default() }];
        it
    };
    let culprit = |stall: Stall| {
        let mut it = healthy();
        it.stalls = vec![stall];
        format!("{:?}", blame(&it).culprit)
    };
    assert_eq!(culprit(waits(Some("AJ_9"))), "Session(\"AJ_9\", 0)");
    assert_eq!(culprit(waits(None)), "Thread(77)");
    assert_eq!(culprit(stall("AJ_1", 300, Class::Gil)), "Session(\"AJ_1\", 0)", "not known who");
    for class in [Class::RunQueue, Class::Throttled, Class::Stopped] {
        assert_eq!(culprit(stall("AJ_1", 300, class)), "Machine");
    }
    assert_eq!(culprit(Stall { session_id: None, ..stall("", 300, Class::Cpu) }), "Untagged(0)");
}

#[test]
fn of_several_workers_the_worst_is_told() {
    let worker = |pid, change: Change| {
        let mut it = healthy();
        it.worker.pid = pid;
        change(&mut it);
        it
    };
    let hot: Change = |it| it.sessions[0].cpu_ratio = Some(0.9);
    let blocked: Change = |it| it.stalls.push(now("AJ_1", 2_300, Class::Sleep));
    let unknown: Change = |it| it.worker.cpu_ratio = None;
    let told = |workers: Vec<Snapshot>| {
        let all = Snapshot { fleet: Some(workers), ..Snapshot::default() };
        let said = verdict(&all);
        let fleet = said.fleet.unwrap();
        (said.worker.worker.pid, said.finding.kind(), fleet.troubled, fleet.unknown)
    };
    let all = vec![worker(1, |_| ()), worker(2, hot), worker(3, blocked), worker(4, unknown)];
    assert_eq!(told(all), (3, "blocked", 2, 1));
    assert_eq!(told(vec![worker(4, unknown), worker(1, |_| ())]), (1, "healthy", 0, 1));
    assert_eq!(told(vec![worker(4, unknown)]), (4, "unknown", 0, 1));
    assert_eq!(told(vec![]), (0, "unknown", 0, 0));
}
