//! Snapshots to draw in tests.

mod states;

use crate::model::{
    Accounting, Anatomy, Capture, Causes, Choice, Class, Cost, CpuHistory, Frame, Health, History,
    IdType, Late, LoopDelay, Mode, ModeWish, Repeats, Second, Session, Snapshot, Stack, Stall,
    Status, Untagged, Usage, Worker, merge,
};
pub use states::{ended, five_hundred, hot, memory, overloaded, sampled, starved, twelve, wedged};

const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;
/// 2026-01-02T03:04:05.678901Z.
const AT: i128 = 1_767_323_045_678_901_234;

/// A worker without sessions.
pub fn empty() -> Snapshot {
    Snapshot {
        at_unix_ns: AT,
        elapsed_ns: 41 * S,
        interval_ns: S,
        worker: Worker {
            pid: 4242,
            python: "3.11.2".into(),
            event_loop: "uvloop".into(),
            cpu_ratio: Some(0.003),
            cpu_ns: 123 * MS,
            rss_bytes: Some(432_345_678),
            threads: 9,
            accounted_ratio: Some(1.0),
            tag_found: true,
            loop_overhead_cpu_ratio: Some(0.003),
            other_threads_cpu_ratio: Some(0.0),
            polls: 820,
            polls_per_s: Some(20.0),
            uptime_ns: Some(18_727 * S),
            poll_cpu_ratio: Some(0.0),
            loop_run_queue_ratio: Some(0.001),
            loop_delay: Some(LoopDelay { p50_ns: Some(0), p99_ns: Some(MS / 10), max_ns: 3 * MS }),
            rss_growth_bytes: Some(-12_345),
            ..Worker::default()
        },
        untagged: Untagged { cpu_ratio: Some(0.0), ..Untagged::default() },
        threshold_ns: 50 * MS,
        history: history(41, |_| Second {
            cpu_ratio: Some(0.003),
            longest_poll_ns: 300_000,
            rss_bytes: Some(432_345_678),
            ..Second::default()
        }),
        accounting: Accounting {
            mode: Some(Mode::Exact),
            wish: ModeWish { choice: Choice::Exact, ..ModeWish::default() },
            ..Accounting::default()
        },
        cost: Cost {
            daemon_cpu_ratio: Some(0.006),
            daemon_rss_bytes: Some(21 << 20),
            worker_cpu_ratio: Some(0.0),
        },
        ..Snapshot::default()
    }
}

/// So many seconds, each as `of` says.
fn history(seconds: u64, of: impl Fn(u64) -> Second) -> History {
    History { seconds: (0..seconds).map(of).collect() }
}

/// A minute of a session that uses so much of a core, more or less.
fn cpu_history(ratio: f64) -> CpuHistory {
    let mut history = CpuHistory::default();
    (0..60).for_each(|second| history.push(ratio * f64::from(second % 7 + 7) / 10.0));
    history
}

/// Three sessions: a hot one, one that blocks right now, one that just ended.
pub fn three() -> Snapshot {
    let mut it = empty();
    it.worker.cpu_ratio = Some(0.973);
    it.worker.cpu_ns = 41_234 * MS;
    it.worker.polls = 123_456;
    it.worker.polls_per_s = Some(3012.4);
    it.worker.loop_overhead_cpu_ns = 2_345 * MS;
    it.worker.other_threads_cpu_ns = 678 * MS;
    it.worker.loop_overhead_cpu_ratio = Some(0.061);
    it.worker.accounted_ratio = Some(0.998);
    it.untagged.usage = usage(123, 0, 0, 1, 789, 2);
    it.untagged.cpu_ratio = Some(0.004);
    it.sessions = vec![
        Session {
            cpu_ratio: Some(0.884),
            duration_ns: 754 * S,
            duration_is_lower_bound: true,
            usage: Usage { offloaded_cpu_ns: 1_500 * MS, ..usage(35_678, 12, 345, 38_012, 12, 0) },
            ..session("AJ_1f3cQ9vXbN2k", "booking", Some("t1"))
        },
        Session {
            cpu_ratio: Some(0.021),
            duration_ns: 41 * S,
            usage: usage(890, 4_812, 23, 4_100, 126, 3),
            status: Status::Slow,
            ..session("AJ_7Zp0aLmW4dRt", "support-tier-two", Some("acme"))
        },
        Session {
            cpu_ratio: None,
            duration_ns: 3 * S,
            usage: usage(20, 0, 0, 77, 1, 0),
            mem_bytes: None,
            status: Status::Ended,
            ..session("AJ_9", "booking", None)
        },
    ];
    for (session, ratio) in it.sessions.iter_mut().zip([0.9, 0.02]) {
        session.cpu_history = cpu_history(ratio);
        session.polls_per_s = Some(ratio * 1000.0);
    }
    it.sessions[1].stalls_last_minute = 3;
    it.stalls = stalls();
    it.worker.stalls = 4;
    it.worker.sessions_seen = 14;
    it.worker.poll_cpu_ratio = Some(0.909);
    it.worker.loop_run_queue_ratio = Some(0.012);
    it.worker.loop_delay =
        Some(LoopDelay { p50_ns: Some(0), p99_ns: Some(71 * MS), max_ns: 126 * MS });
    it.cost.worker_cpu_ratio = Some(0.012);
    it.history = history(41, |second| {
        let stalls = u32::from(matches!(second, 14 | 29 | 40));
        Second {
            cpu_ratio: Some(0.9 + 0.02 * (second % 5) as f64),
            longest_poll_ns: if stalls > 0 { 126 * MS } else { (3 + second % 9) * MS },
            stalls,
            rss_bytes: Some(432_345_678),
        }
    });
    it
}

/// Of a stall that sleeps for the most part, at a line that is known.
pub fn anatomy(cpu_ns: u64, sleep_ns: u64, run_queue_ns: u64) -> Anatomy {
    const CLOCK_NANOSLEEP: u32 = 230;
    let parts = [(Class::Cpu, cpu_ns), (Class::Sleep, sleep_ns), (Class::RunQueue, run_queue_ns)];
    let frame = |function: &str, file: &str, line, is_user| Frame {
        function: function.into(),
        file: file.into(),
        line: Some(line),
        is_user,
    };
    let frames = vec![
        frame("fetch_slots", "/srv/agents/booking.py", 42, true),
        frame("Handle._run", "/usr/lib/python3.11/asyncio/events.py", 80, false),
    ];
    let capture = Capture {
        at_ns: 55 * MS,
        stack: Some(Stack { frames, is_complete: true }),
        native: Some("clock_nanosleep (libc.so.6)".into()),
        gil_held: Some(false),
        ..Capture::default()
    };
    Anatomy {
        causes: Causes::of_parts(&parts, Some((Class::Sleep, CLOCK_NANOSLEEP))),
        captures: vec![capture],
        ..Anatomy::default()
    }
}

/// One that goes on, one that ended, and one untagged that was there before us.
fn stalls() -> Vec<Stall> {
    let ended = Stall {
        stall_id: 2,
        session_id: Some("AJ_7Zp0aLmW4dRt".into()),
        agent_name: Some("support-tier-two".into()),
        tenant: Some("acme".into()),
        started_at_unix_ns: AT - i128::from(12 * S),
        duration_ns: 126_100_000,
        on_cpu_ns: 2_300_000,
        off_cpu_ns: 122_600_000,
        run_queue_ns: 1_200_000,
        anatomy: Anatomy {
            late: Some(Late {
                count: 31,
                each_ns: 103_225_807,
                session_ids: vec!["AJ_1".into(), "AJ_2".into()],
            }),
            stolen_ns: Some(0),
            ..anatomy(2_300_000, 122_600_000, 1_200_000)
        },
        repeats: Repeats {
            count: 2,
            total_ns: 210 * MS,
            first_unix_ns: AT - i128::from(27 * S),
            last_unix_ns: AT - i128::from(12 * S),
        },
        ..Stall::default()
    };
    let ongoing = Stall {
        stall_id: 3,
        ongoing: true,
        started_at_unix_ns: AT - i128::from(71 * MS),
        duration_ns: 71 * MS,
        on_cpu_ns: MS,
        off_cpu_ns: 70 * MS,
        run_queue_ns: 0,
        anatomy: anatomy(MS, 70 * MS, 0),
        repeats: Repeats::default(),
        ..ended.clone()
    };
    let first = Stall {
        stall_id: 1,
        session_id: None,
        agent_name: None,
        tenant: None,
        is_lower_bound: true,
        anatomy: Anatomy::default(),
        repeats: Repeats::default(),
        started_at_unix_ns: AT - i128::from(41 * S),
        ..ended.clone()
    };
    vec![ongoing, ended, first]
}

/// Sessions that call themselves what would break a terminal, a table or a parser.
pub fn hostile() -> Snapshot {
    let mut it = three();
    let names = [
        ("\u{1b}[2J\u{1b}[31mowned", "a\nb\r\tc"),
        ("\u{202e}gnp.exe\u{2066}\u{200b}", "\u{9b}2J\u{7f}"),
        ("日本語のセッション名はとても長い", "e\u{301}e\u{301}"),
        ("  two  spaces ", ""),
        ("(untagged)", "👨\u{200d}👩\u{200d}👧"),
        ("x\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}", "ok"),
    ];
    it.sessions = names.map(|(id, agent)| session(id, agent, Some("t\u{0}"))).into();
    it.sessions.sort_by(|a, b| a.session_id.cmp(&b.session_id));
    it.stalls[0].session_id = Some(names[0].0.into());
    it.stalls[0].agent_name = Some(names[1].0.into());
    it.worker.python = "3.11\u{1b}]0;x\u{7}".into();
    it
}

/// Tags that are long, or no text; some are in a variable that is not followed.
pub fn odd_tags() -> Snapshot {
    let mut it = three();
    it.worker.tag_vars = 2;
    it.worker.tasks_tagged_elsewhere = 3;
    it.sessions[0].session_id = "k".repeat(128).into();
    it.sessions[0].id_is_cut = true;
    it.sessions[1].session_id = "<uuid.UUID>".into();
    it.sessions[1].id_type = IdType::Other(Some("uuid.UUID".into()));
    it.sessions[2].session_id = "<?>".into();
    it.sessions[2].id_type = IdType::Other(None);
    it.stalls[0].session_id = Some(it.sessions[1].session_id.clone());
    it.stalls[0].id_type = it.sessions[1].id_type.clone();
    it
}

/// Eight workers: two have a session of the same id, one has a single session, one has not found the
/// session variable.
pub fn fleet() -> Snapshot {
    let one = |at: u32, mut it: Snapshot| {
        it.worker.pid = 4242 + at;
        it.worker.cpu_ratio = it.worker.cpu_ratio.map(|ratio| ratio / f64::from(at + 1));
        it.sessions.iter_mut().for_each(|session| session.pid = it.worker.pid);
        it.stalls.iter_mut().for_each(|stall| stall.pid = it.worker.pid);
        it
    };
    let mut job = three();
    job.sessions.truncate(1);
    job.sessions[0].session_id = "AJ_alone".into();
    job.sessions[0].mem_is_own = true;
    let mut workers = vec![one(0, three()), one(1, lost()), one(2, tag_not_found())];
    workers.push(one(7, job));
    workers.extend((3..7).map(|at| one(at, empty())));
    merge(workers)
}

/// A snapshot that knows that it is not whole.
pub fn lost() -> Snapshot {
    let mut it = three();
    it.worker.accounted_ratio = Some(0.713);
    it.worker.ended_cpu_ns = 4_321 * MS;
    it.health = Health { lost: vec![("ring_full", 3), ("read_failed", 12)], ..Health::default() };
    it
}

/// A worker in which the session variable has not been found.
pub fn tag_not_found() -> Snapshot {
    let mut it = empty();
    it.worker.tag_found = false;
    it.worker.event_loop = String::new();
    it.worker.cpu_ratio = None;
    it.worker.loop_overhead_cpu_ratio = None;
    it.worker.other_threads_cpu_ratio = None;
    it.worker.accounted_ratio = None;
    it.worker.poll_cpu_ratio = None;
    it.worker.loop_run_queue_ratio = None;
    it.worker.loop_delay = None;
    it.worker.rss_growth_bytes = None;
    it.untagged.cpu_ratio = None;
    it.history = History::default();
    it
}

/// So many sessions, from hot to cold.
pub fn many(count: usize) -> Snapshot {
    let mut it = three();
    let one = |i: usize| Session {
        cpu_ratio: Some(1.0 / (i + 1) as f64),
        duration_ns: i as u64 * S,
        usage: usage(i as u64, i as u64 * 2, 3, 10_000 + i as u64, 4, 0),
        polls_per_s: Some(50.0),
        cpu_history: cpu_history(1.0 / (i + 1) as f64),
        ..session(&format!("AJ_{i:012}"), "booking", Some("t1"))
    };
    it.sessions = (0..count).map(one).collect();
    it.worker.ended_cpu_ns = 98_765 * MS;
    it
}

fn session(id: &str, agent: &str, tenant: Option<&str>) -> Session {
    Session {
        session_id: id.into(),
        agent_name: Some(agent.into()),
        tenant: tenant.map(Into::into),
        cpu_ratio: Some(0.0),
        mem_bytes: Some(216_172_839),
        peak_bytes: Some(312_345_678),
        ..Session::default()
    }
}

fn usage(cpu: u64, off: u64, queue: u64, polls: u64, longest: u64, stalls: u64) -> Usage {
    Usage {
        loop_cpu_ns: cpu * MS,
        offloaded_cpu_ns: 0,
        off_cpu_ns: off * MS,
        run_queue_ns: queue * MS,
        polls,
        longest_poll_ns: longest * MS,
        stalls,
    }
}
