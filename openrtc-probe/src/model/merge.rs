//! Several workers' pictures as one: what adds up is added, and sessions and stalls are put together.

use super::{
    history::{History, Second},
    mode::Accounting,
    snapshot::{Cost, Health, LoopDelay, MAX_ENDED, Snapshot, Worker},
};

/// One picture of all `workers`. What does not add up, as resident sets that share pages, is unknown.
pub fn merge(workers: Vec<Snapshot>) -> Snapshot {
    let mut all = Snapshot { is_final: true, ..Snapshot::default() };
    all.worker.tag_found = workers.is_empty();
    for (at, one) in workers.iter().enumerate() {
        all.at_unix_ns = all.at_unix_ns.max(one.at_unix_ns);
        all.elapsed_ns = all.elapsed_ns.max(one.elapsed_ns);
        all.interval_ns = all.interval_ns.max(one.interval_ns);
        all.is_final &= one.is_final;
        all.untagged.usage.add(&one.untagged.usage);
        all.untagged.cpu_ratio = plus(all.untagged.cpu_ratio, one.untagged.cpu_ratio);
        all.untagged.cpu_se_ns = together(all.untagged.cpu_se_ns, one.untagged.cpu_se_ns);
        all.sessions.extend(one.sessions.iter().cloned());
        all.stalls.extend(one.stalls.iter().cloned());
        add_worker(&mut all.worker, &one.worker);
        add_health(&mut all.health, &one.health);
        all.threshold_ns = all.threshold_ns.max(one.threshold_ns);
        all.ended.extend(one.ended.iter().cloned());
        add_history(&mut all.history, &one.history);
        add_cost(&mut all.cost, &one.cost, at == 0);
        add_accounting(&mut all.accounting, &one.accounting, at == 0);
        all.focus = all.focus.or_else(|| one.focus.clone());
    }
    all.ended.sort_by_key(|session| session.idle_ns);
    all.ended.truncate(MAX_ENDED);
    // As the ledgers list them.
    all.sessions.sort_by(|a, b| (&a.session_id, a.pid).cmp(&(&b.session_id, b.pid)));
    all.stalls.sort_by_key(|stall| std::cmp::Reverse((stall.ongoing, stall.stall_id)));
    all.worker.accounted_ratio = accounted(&workers);
    all.fleet = Some(workers);
    all
}

/// The sum of what is known; unknown only where nothing is.
fn plus(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.zip(other).map(|(one, other)| one + other).or(one).or(other)
}

/// The standard error of a sum.
fn together(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    let both = one.zip(other).map(|(one, other)| (one as f64).hypot(other as f64) as u64);
    both.or(one).or(other)
}

fn add_worker(all: &mut Worker, one: &Worker) {
    all.cpu_ratio = plus(all.cpu_ratio, one.cpu_ratio);
    all.cpu_ns += one.cpu_ns;
    all.threads += one.threads;
    all.polls += one.polls;
    all.stalls += one.stalls;
    all.polls_per_s = plus(all.polls_per_s, one.polls_per_s);
    all.loop_overhead_cpu_ns += one.loop_overhead_cpu_ns;
    all.other_threads_cpu_ns += one.other_threads_cpu_ns;
    all.tag_found |= one.tag_found;
    all.loop_overhead_cpu_ratio = plus(all.loop_overhead_cpu_ratio, one.loop_overhead_cpu_ratio);
    all.other_threads_cpu_ratio = plus(all.other_threads_cpu_ratio, one.other_threads_cpu_ratio);
    all.ended_cpu_ns += one.ended_cpu_ns;
    all.uptime_ns = all.uptime_ns.max(one.uptime_ns);
    all.sessions_seen += one.sessions_seen;
    all.poll_cpu_ratio = plus(all.poll_cpu_ratio, one.poll_cpu_ratio);
    all.loop_run_queue_ratio = plus(all.loop_run_queue_ratio, one.loop_run_queue_ratio);
    all.loop_delay = match (all.loop_delay, one.loop_delay) {
        (Some(all), Some(one)) => Some(worse(all, one)),
        (known, None) | (None, known) => known,
    };
    all.tag_vars = all.tag_vars.max(one.tag_vars);
    all.tasks_tagged_elsewhere += one.tasks_tagged_elsewhere;
}

/// The worst of each: a session is in one worker, and waits for that one's loop.
fn worse(one: LoopDelay, other: LoopDelay) -> LoopDelay {
    LoopDelay {
        p50_ns: one.p50_ns.zip(other.p50_ns).map(|(one, other)| one.max(other)),
        p99_ns: one.p99_ns.zip(other.p99_ns).map(|(one, other)| one.max(other)),
        max_ns: one.max_ns.max(other.max_ns),
    }
}

/// Second by second from the last one back: workers were not all there for the whole minute, and their
/// seconds begin at different moments.
fn add_history(all: &mut History, one: &History) {
    let missing = one.seconds.len().saturating_sub(all.seconds.len());
    all.seconds.splice(..0, std::iter::repeat_n(Second::default(), missing));
    for (sum, second) in all.seconds.iter_mut().rev().zip(one.seconds.iter().rev()) {
        sum.cpu_ratio = plus(sum.cpu_ratio, second.cpu_ratio);
        sum.longest_poll_ns = sum.longest_poll_ns.max(second.longest_poll_ns);
        sum.stalls += second.stalls;
        // Resident sets share pages: the sum stays unknown.
    }
}

/// We are one process, whose use each picture has; what is added to the workers adds up, and is known
/// only where it is of each.
fn add_cost(all: &mut Cost, one: &Cost, is_first: bool) {
    let ours = (all.daemon_cpu_ratio, one.daemon_cpu_ratio);
    all.daemon_cpu_ratio = ours.0.zip(ours.1).map(|(a, b)| a.max(b)).or(ours.0).or(ours.1);
    all.daemon_rss_bytes = all.daemon_rss_bytes.max(one.daemon_rss_bytes);
    let added = all.worker_cpu_ratio.zip(one.worker_cpu_ratio).map(|(a, b)| a + b);
    all.worker_cpu_ratio = if is_first { one.worker_cpu_ratio } else { added };
}

/// Each worker has a mode of its own.
fn add_accounting(all: &mut Accounting, one: &Accounting, is_first: bool) {
    all.mode = if is_first { one.mode } else { all.mode.filter(|mode| one.mode == Some(*mode)) };
    all.wish = one.wish;
    all.changes.extend(&one.changes);
    all.changes.sort_by_key(|change| change.at_unix_ns);
    all.change_count += one.change_count;
    all.sampled_ns = all.sampled_ns.max(one.sampled_ns);
    all.samples += one.samples;
}

fn add_health(all: &mut Health, one: &Health) {
    add_counts(&mut all.lost, &one.lost);
    add_counts(&mut all.mended, &one.mended);
}

fn add_counts(all: &mut Vec<(&'static str, u64)>, one: &[(&'static str, u64)]) {
    for (cause, count) in one {
        match all.iter_mut().find(|(known, _)| known == cause) {
            Some((_, total)) => *total += count,
            None => all.push((cause, *count)),
        }
    }
}

/// What has a place of the CPU time of all, over that of all.
fn accounted(workers: &[Snapshot]) -> Option<f64> {
    let known = workers.iter().filter_map(|one| {
        Some((one.worker.accounted_ratio? * one.worker.cpu_ns as f64, one.worker.cpu_ns))
    });
    let (placed_ns, cpu_ns) =
        known.fold((0.0, 0), |(placed, cpu), (one, of)| (placed + one, cpu + of));
    (cpu_ns > 0).then(|| placed_ns / cpu_ns as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Session, Stall, Untagged, Usage};

    fn one(pid: u32, cpu_ns: u64, accounted: Option<f64>) -> Snapshot {
        let usage = Usage { loop_cpu_ns: 10, longest_poll_ns: cpu_ns, ..Usage::default() };
        Snapshot {
            worker: Worker {
                pid,
                cpu_ns,
                stalls: 2,
                cpu_ratio: accounted,
                accounted_ratio: accounted,
                ..Worker::default()
            },
            untagged: Untagged { usage, ..Untagged::default() },
            sessions: vec![Session { session_id: "AJ_1".into(), pid, ..Session::default() }],
            stalls: vec![Stall { stall_id: u64::from(pid), pid, ..Stall::default() }],
            health: Health { lost: vec![("ring_full", 2)], mended: vec![("switch_unheard", 1)] },
            ..Snapshot::default()
        }
    }

    #[test]
    fn what_adds_up_is_added_and_equal_ids_stay_two() {
        let all = merge(vec![one(7, 100, Some(1.0)), one(3, 300, Some(0.5)), one(9, 50, None)]);
        assert_eq!((all.worker.cpu_ns, all.worker.stalls), (450, 6));
        assert_eq!(all.worker.cpu_ratio, Some(1.5));
        assert_eq!(all.worker.accounted_ratio, Some(250.0 / 400.0), "of what is known");
        assert_eq!((all.untagged.usage.loop_cpu_ns, all.untagged.usage.longest_poll_ns), (30, 300));
        assert_eq!(all.untagged.cpu_ratio, None, "unknown everywhere");
        let pids: Vec<_> = all.sessions.iter().map(|session| session.pid).collect();
        assert_eq!(pids, [3, 7, 9]);
        let stalls: Vec<_> = all.stalls.iter().map(|stall| stall.stall_id).collect();
        assert_eq!(stalls, [9, 7, 3], "the newest first");
        assert_eq!(all.health.lost, [("ring_full", 6)]);
        assert_eq!(all.health.mended, [("switch_unheard", 3)]);
        assert_eq!(all.worker.rss_bytes, None, "shared pages do not add up");
        assert_eq!(all.fleet.map(|fleet| fleet.len()), Some(3));
    }

    #[test]
    fn a_minute_is_put_together_from_its_end() {
        let second = |cpu_ratio, longest_poll_ns, stalls| Second {
            cpu_ratio,
            longest_poll_ns,
            stalls,
            rss_bytes: Some(1),
        };
        let mut old = one(3, 1, None);
        old.history.seconds = vec![second(Some(0.5), 9, 1), second(None, 5, 1)];
        old.worker.loop_delay = Some(LoopDelay { p50_ns: Some(1), p99_ns: Some(9), max_ns: 10 });
        (old.worker.uptime_ns, old.worker.sessions_seen) = (Some(50), 4);
        old.cost = Cost { daemon_cpu_ratio: Some(0.02), worker_cpu_ratio: Some(0.5), ..old.cost };
        old.threshold_ns = 7;
        old.ended = vec![Session { idle_ns: 9, ..Session::default() }];
        let mut new = one(7, 1, None);
        new.history.seconds = vec![second(Some(0.25), 7, 0)];
        new.worker.loop_delay = Some(LoopDelay { p50_ns: Some(2), p99_ns: Some(3), max_ns: 4 });
        (new.worker.uptime_ns, new.worker.sessions_seen) = (Some(5), 3);
        new.cost = Cost { daemon_cpu_ratio: Some(0.03), worker_cpu_ratio: Some(0.5), ..new.cost };
        new.ended = vec![Session { idle_ns: 2, ..Session::default() }];
        for workers in [vec![old.clone(), new.clone()], vec![new.clone(), old.clone()]] {
            let all = merge(workers);
            let seconds: Vec<_> =
                all.history.seconds.iter().map(|s| (s.cpu_ratio, s.stalls)).collect();
            assert_eq!(seconds, [(Some(0.5), 1), (Some(0.25), 1)]);
            assert_eq!(all.history.seconds[1].longest_poll_ns, 7);
            assert_eq!(all.history.seconds[1].rss_bytes, None, "they share pages");
            let worst = LoopDelay { p50_ns: Some(2), p99_ns: Some(9), max_ns: 10 };
            assert_eq!(all.worker.loop_delay, Some(worst));
            assert_eq!((all.worker.uptime_ns, all.worker.sessions_seen), (Some(50), 7));
            assert_eq!(all.cost.daemon_cpu_ratio, Some(0.03), "we are one");
            assert_eq!(all.cost.worker_cpu_ratio, Some(1.0));
            assert_eq!(all.threshold_ns, 7);
            let idle: Vec<_> = all.ended.iter().map(|session| session.idle_ns).collect();
            assert_eq!(idle, [2, 9], "the last to end first");
        }
        old.cost.worker_cpu_ratio = None;
        assert_eq!(merge(vec![new, old]).cost.worker_cpu_ratio, None, "not known of each");
    }

    #[test]
    fn of_nobody_nothing_is_known() {
        let none = merge(vec![]);
        assert_eq!(none.worker.cpu_ratio, None);
        assert_eq!(none.worker.accounted_ratio, None);
        assert!(none.worker.tag_found, "nobody lacks it");
        assert_eq!(none.fleet, Some(vec![]));
    }
}
