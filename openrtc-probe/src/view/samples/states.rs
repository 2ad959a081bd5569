//! The states that the verdict tells apart, and lists of many lengths.

use super::{AT, MS, S, anatomy, cpu_history, empty, history, session, usage};
use crate::model::{Accounting, Mode, ModeChange, ModeWish, ProbeLoad, Reason};
use crate::model::{
    Causes, Class, LoopDelay, Process, Repeats, Second, Session, Snapshot, Stall, Status,
};

/// So many sessions that talk, none of which uses much.
fn talking(count: usize) -> Snapshot {
    let mut it = empty();
    it.sessions = (0..count)
        .map(|i| {
            let agent = ["booking", "support", "sales"][i % 3];
            let ratio = 0.003 + 0.001 * (i % 5) as f64;
            Session {
                pid: 4242,
                cpu_ratio: Some(ratio),
                duration_ns: (30 + 37 * i as u64) * S,
                usage: usage(120 + 7 * i as u64, 0, 3, 2_000 + i as u64, 4, 0),
                polls_per_s: Some(100.0 + i as f64),
                idle_ns: 3 * MS,
                cpu_history: cpu_history(ratio),
                ..session(&format!("AJ_{i:012x}"), agent, Some("acme"))
            }
        })
        .collect();
    it.elapsed_ns = 600 * S;
    it.worker.cpu_ns = 30 * S;
    it.worker.cpu_ratio = Some(0.006 * count as f64);
    it.worker.poll_cpu_ratio = Some(0.005 * count as f64);
    it.worker.loop_overhead_cpu_ratio = Some(0.02);
    it.worker.polls = 1_000_000;
    it.worker.polls_per_s = Some(100.0 * count as f64);
    it.worker.sessions_seen = 31 + count as u64;
    it.worker.loop_delay =
        Some(LoopDelay { p50_ns: Some(0), p99_ns: Some(2_100_000), max_ns: 4 * MS });
    it.history = history(60, |second| Second {
        cpu_ratio: Some(0.006 * count as f64 + 0.01 * (second % 4) as f64),
        longest_poll_ns: (2 + second % 3) * MS,
        stalls: 0,
        rss_bytes: Some(432_345_678 + second % 4 * 4096),
    });
    it
}

/// Twelve sessions of a healthy worker.
pub fn twelve() -> Snapshot {
    talking(12)
}

/// So many that the loop cannot keep up.
fn too_many(count: usize) -> Snapshot {
    let mut it = talking(count);
    let each = 0.87 / count as f64;
    for session in &mut it.sessions {
        session.cpu_ratio = Some(each);
        session.cpu_history = cpu_history(each);
    }
    it.worker.poll_cpu_ratio = Some(0.87);
    it.worker.cpu_ratio = Some(0.9);
    it.worker.loop_delay =
        Some(LoopDelay { p50_ns: Some(MS), p99_ns: Some(21 * MS), max_ns: 38 * MS });
    for (second, of) in (0_u32..).zip(&mut it.history.seconds) {
        of.cpu_ratio = Some(0.3 + 0.01 * f64::from(second));
        of.longest_poll_ns = (5 + u64::from(second) / 2) * MS;
    }
    it
}

/// Five hundred.
pub fn five_hundred() -> Snapshot {
    too_many(500)
}

/// And less of them.
pub fn overloaded() -> Snapshot {
    too_many(160)
}

/// One session uses a core for most of the time, without ever blocking for long.
pub fn hot() -> Snapshot {
    let mut it = twelve();
    it.worker.cpu_ratio = Some(0.71);
    it.worker.poll_cpu_ratio = Some(0.67);
    it.history.seconds.iter_mut().for_each(|second| second.cpu_ratio = Some(0.71));
    it.sessions[7].cpu_ratio = Some(0.61);
    it.sessions[7].usage.loop_cpu_ns = 60 * S;
    it.sessions[7].cpu_history = cpu_history(0.6);
    it
}

/// One session waits for what does not come.
pub fn wedged() -> Snapshot {
    let mut it = twelve();
    it.elapsed_ns = 3_000 * S;
    it.sessions[2].idle_ns = 2_460 * S;
    it.sessions[2].cpu_ratio = Some(0.0);
    it.sessions[2].polls_per_s = Some(0.0);
    it.sessions[2].cpu_history = cpu_history(0.0);
    it
}

/// The loop gets no CPU: a compiler has it.
pub fn starved() -> Snapshot {
    let mut it = twelve();
    it.worker.loop_run_queue_ratio = Some(0.34);
    it.worker.loop_delay =
        Some(LoopDelay { p50_ns: Some(0), p99_ns: Some(41 * MS), max_ns: 63 * MS });
    for second in it.history.seconds.iter_mut().skip(20).step_by(5) {
        second.longest_poll_ns = 63 * MS;
        second.stalls = 1;
    }
    let mut why = anatomy(3 * MS, 0, 60 * MS);
    why.causes = Causes::of_parts(&[(Class::Cpu, 3 * MS), (Class::RunQueue, 60 * MS)], None);
    why.cpu_holder = Some(Process { pid: 777, name: Some("rustc".into()) });
    it.stalls = vec![Stall {
        stall_id: 9,
        pid: 4242,
        session_id: Some("AJ_000000000003".into()),
        started_at_unix_ns: AT - i128::from(8 * S),
        duration_ns: 63 * MS,
        on_cpu_ns: 3 * MS,
        run_queue_ns: 60 * MS,
        anatomy: why,
        repeats: Repeats {
            count: 8,
            total_ns: 450 * MS,
            first_unix_ns: AT - i128::from(40 * S),
            last_unix_ns: AT - i128::from(2 * S),
        },
        ..Stall::default()
    }];
    it.worker.stalls = 8;
    it
}

/// The resident set climbs.
pub fn memory() -> Snapshot {
    let mut it = twelve();
    let at = |second: u64| 432_345_678 + second * 245_000;
    it.worker.rss_growth_bytes = Some(60 * 245_000);
    it.worker.rss_bytes = Some(at(60));
    for (second, of) in (0..).zip(&mut it.history.seconds) {
        of.rss_bytes = Some(at(second) + second % 3 * 100_000);
    }
    it
}

/// Two of the sessions have ended in the last minute.
pub fn ended() -> Snapshot {
    let mut it = twelve();
    it.sessions.truncate(4);
    it.ended = ["AJ_ffff00000001", "AJ_ffff00000002"]
        .map(|id| Session {
            status: Status::Ended,
            cpu_ratio: None,
            mem_bytes: None,
            duration_ns: 321 * S,
            usage: usage(900, 0, 2, 20_000, 5, 0),
            cpu_history: cpu_history(0.01),
            ..session(id, "booking", Some("acme"))
        })
        .into();
    it.worker.ended_cpu_ns = 1_800 * MS;
    it
}

/// Polls are sampled, since a moment ago, because they would cost too much with probes.
pub fn sampled() -> Snapshot {
    let mut it = twelve();
    let dear = ProbeLoad { polls_per_s: 48_300.0, overhead_ratio: 0.118 };
    let fits = ProbeLoad { polls_per_s: 900.0, overhead_ratio: 0.0024 };
    let change = |ago: u64, mode, reason| ModeChange {
        at_unix_ns: it.at_unix_ns - i128::from(ago * S),
        mode,
        reason,
    };
    it.accounting = Accounting {
        mode: Some(Mode::Sampled),
        wish: ModeWish::default(),
        changes: vec![
            change(600, Mode::Exact, Reason::Fits(fits)),
            change(12, Mode::Sampled, Reason::TooDear(dear)),
        ],
        change_count: 1,
        sampled_ns: 12 * S,
        samples: 4_321,
    };
    it.worker.loop_delay = Some(LoopDelay { p50_ns: None, p99_ns: None, max_ns: 4 * MS });
    it.untagged.cpu_se_ns = Some(0);
    for (at, session) in it.sessions.iter_mut().enumerate() {
        session.cpu_se_ns = Some(10 * MS);
        session.polls_per_s = None;
        // One that came when nobody counted its polls.
        if at == 3 {
            session.usage.polls = 0;
        }
    }
    it
}
