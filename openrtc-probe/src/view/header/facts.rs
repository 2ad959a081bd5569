//! What is known of a worker in short, as data: each fact with its rank. Where room is short the highest rank
//! leaves first.

use crate::model::{Accounting, Mode, Snapshot, Status, loop_load};
use crate::view::harmless::harmless;
use crate::view::header::wrap;
use crate::view::mode::budget;
use crate::view::units::{Number, UNKNOWN, clock, megabytes, millis, percent, with_unit};

/// A few words, in full and in shorter forms.
pub(super) struct Fact {
    /// Each with its rank: where the room is for ranks below it only, the next form takes its place, or none.
    forms: Vec<(u8, String)>,
}

fn fact(rank: u8, text: String) -> Fact {
    Fact { forms: vec![(rank, text)] }
}

impl Fact {
    fn at(&self, most: u8) -> Option<&str> {
        let form = self.forms.iter().find(|(rank, _)| *rank <= most);
        form.map(|(_, text)| text.as_str())
    }

    /// In full.
    fn full(&self) -> &str {
        self.at(u8::MAX).unwrap_or_default()
    }
}

/// As many of them as there is room for on so many lines.
pub(super) fn lines(facts: &[Fact], columns: usize, most: usize) -> Vec<String> {
    let forms = facts.iter().flat_map(|fact| &fact.forms);
    let mut ranks: Vec<u8> = forms.map(|(rank, _)| *rank).collect();
    ranks.sort_unstable_by(|a, b| b.cmp(a));
    let mut lines = Vec::new();
    for rank in ranks {
        let kept = facts.iter().filter_map(|fact| fact.at(rank).map(str::to_owned));
        lines = wrap(&kept.collect::<Vec<_>>(), columns);
        if lines.len() <= most {
            break;
        }
    }
    lines.truncate(most);
    lines
}

/// Who a worker is.
pub(super) fn identity(snapshot: &Snapshot) -> Vec<Fact> {
    let worker = &snapshot.worker;
    let known =
        |text: &str| if text.is_empty() { UNKNOWN.into() } else { harmless(text).into_owned() };
    let mut facts = vec![
        fact(0, format!("pid {}", worker.pid)),
        fact(3, format!("python {}", known(&worker.python))),
        fact(2, format!("loop {}", known(&worker.event_loop))),
        fact(5, format!("threads {}", worker.threads)),
        fact(1, format!("attached {}", clock(snapshot.elapsed_ns))),
        fact(4, format!("up {}", worker.uptime_ns.map_or(UNKNOWN.into(), clock))),
    ];
    facts.extend(mode(&snapshot.accounting));
    facts
}

/// How polls are accounted, and within which budget. That they are probed goes without saying where room is short.
fn mode(accounting: &Accounting) -> Option<Fact> {
    let rate = accounting.wish.sample_rate_hz;
    let (rank, short, full) = match accounting.mode? {
        Mode::Exact => (6, "mode exact", "mode exact".to_owned()),
        Mode::Sampled => (2, "mode sampled", format!("mode sampled {rate} Hz")),
    };
    let budget = budget(accounting).map(|budget| format!(" (budget {budget})"));
    let longest = format!("{full}{}", budget.unwrap_or_default());
    Some(Fact { forms: vec![(7, longest), (rank, short.to_owned())] })
}

/// Who several are.
pub(super) fn together(all: &Snapshot, workers: usize) -> Vec<Fact> {
    let mut facts = vec![
        fact(0, format!("workers {workers}")),
        fact(1, format!("attached {}", clock(all.elapsed_ns))),
    ];
    facts.extend(mode(&all.accounting));
    facts
}

/// What a worker does, or several together.
pub(super) fn activity(snapshot: &Snapshot) -> Vec<Fact> {
    let worker = &snapshot.worker;
    let cpu = worker.cpu_ratio.map(|ratio| Number::new(percent(ratio), 1));
    let polls = worker.polls_per_s.map(|polls| Number::new(polls, 0));
    let mut facts = vec![
        fact(6, format!("cpu {}", with_unit(cpu, "%"))),
        resident(snapshot),
        fact(19, format!("polls/s {}", polls.map_or(UNKNOWN.into(), Number::full))),
        session_count(snapshot),
        fact(1, stall_count(snapshot)),
        load(snapshot),
        delay(snapshot),
        fact(8, format!("runq {}", share(worker.loop_run_queue_ratio))),
        cost(snapshot),
        fact(20, format!("untagged {}", share(snapshot.untagged.cpu_ratio))),
    ];
    if snapshot.threshold_ns > 0 {
        let threshold = Number::new(millis(snapshot.threshold_ns), 0).full();
        facts.push(fact(18, format!("threshold {threshold} ms")));
    }
    let lost: u64 = snapshot.health.lost.iter().map(|(_, count)| count).sum();
    if lost > 0 {
        facts.push(fact(7, format!("lost {lost}")));
    }
    if snapshot.fleet.is_some() {
        // Pages that they share are in each one's resident set, and a delay is of one loop: sums would be
        // wrong.
        facts.retain(|fact| !["rss ", "delay "].iter().any(|name| fact.full().starts_with(name)));
    }
    facts
}

/// One of several on a line of its own.
pub(super) fn in_one_line(one: &Snapshot) -> Vec<Fact> {
    let mut facts: Vec<Fact> = vec![fact(0, format!("pid {}", one.worker.pid))];
    if !one.worker.tag_found {
        facts.push(fact(0, "no session variable yet".into()));
    }
    facts.extend(mode(&one.accounting));
    facts.extend(activity(one));
    facts
}

fn share(ratio: Option<f64>) -> String {
    with_unit(ratio.map(|ratio| Number::new(percent(ratio), 1)), "%")
}

/// The resident set, and by how much it grows in a minute.
fn resident(snapshot: &Snapshot) -> Fact {
    let worker = &snapshot.worker;
    let size = worker.rss_bytes.map(|bytes| Number::new(megabytes(bytes), 0));
    let short = format!("rss {}", with_unit(size, "MB"));
    let trend = worker.rss_growth_bytes.map(|bytes| {
        let sign = if bytes < 0 { '-' } else { '+' };
        match Number::new(megabytes(bytes.unsigned_abs()), 1).full().as_str() {
            "0.0" => " (steady)".into(),
            growth => format!(" ({sign}{growth}/min)"),
        }
    });
    let full = format!("{short}{}", trend.unwrap_or_default());
    Fact { forms: vec![(11, full), (5, short)] }
}

/// Live sessions, and of how many in all. The slow ones among them may be further down in the list than
/// it is shown.
fn session_count(snapshot: &Snapshot) -> Fact {
    let count = |is: fn(Status) -> bool| snapshot.sessions.iter().filter(|s| is(s.status)).count();
    let live = count(|status| status != Status::Ended);
    let slow = match count(|status| status == Status::Slow) {
        0 => String::new(),
        slow => format!(" ({slow} slow)"),
    };
    let seen = snapshot.worker.sessions_seen;
    let mut forms = vec![(0, format!("sessions {live}{slow}"))];
    if seen > 0 {
        forms.splice(
            0..0,
            [(14, " seen"), (12, "")]
                .map(|(rank, word)| (rank, format!("sessions {live} of {seen}{word}{slow}"))),
        );
    }
    Fact { forms }
}

/// Stalls since attach: their ids count up from 1, and the newest is always in the snapshot, while a
/// sum over sessions would forget those that ended.
fn stall_count(snapshot: &Snapshot) -> String {
    let total = snapshot.worker.stalls;
    match snapshot.stalls.iter().filter(|stall| stall.ongoing).count() {
        0 => format!("stalls {total}"),
        ongoing => format!("stalls {total} ({ongoing} now)"),
    }
}

/// What of a core the loop is busy for, and what of that is not for polls.
fn load(snapshot: &Snapshot) -> Fact {
    let short = format!("load {}", share(loop_load(snapshot)));
    let overhead =
        snapshot.worker.loop_overhead_cpu_ratio.filter(|_| loop_load(snapshot).is_some());
    let overhead = overhead.map(|ratio| Number::new(percent(ratio), 1).full());
    let overhead = overhead.map(|percent| format!(" ({percent} overhead)"));
    let full = format!("{short}{}", overhead.unwrap_or_default());
    Fact { forms: vec![(13, full), (2, short)] }
}

/// How late the loop answers.
fn delay(snapshot: &Snapshot) -> Fact {
    let Some(delay) = snapshot.worker.loop_delay else { return fact(3, "delay –".into()) };
    let ms = |ns| Number::new(millis(ns), usize::from(ns < 10_000_000)).full();
    let max = ms(delay.max_ns);
    let Some((p50, p99)) = delay.p50_ns.zip(delay.p99_ns) else {
        return fact(3, format!("delay max ~{max} ms"));
    };
    let (p50, p99) = (ms(p50), ms(p99));
    let full = format!("delay p50 {p50} p99 {p99} max {max} ms");
    Fact { forms: vec![(10, full), (3, format!("delay p99 {p99} ms"))] }
}

/// What we cost: our own process, and what is added to the worker.
fn cost(snapshot: &Snapshot) -> Fact {
    let number = |ratio: Option<f64>| ratio.map(|ratio| Number::new(percent(ratio), 1).full());
    let own = number(snapshot.cost.daemon_cpu_ratio);
    let added = number(snapshot.cost.worker_cpu_ratio);
    match (own, added) {
        (Some(own), Some(added)) => Fact {
            forms: vec![
                (15, format!("cost {own} % (worker +{added} %)")),
                (9, format!("cost {own}+{added} %")),
            ],
        },
        (Some(own), None) => fact(9, format!("cost {own} %")),
        (None, Some(added)) => fact(9, format!("cost {UNKNOWN} (worker +{added} %)")),
        (None, None) => fact(9, format!("cost {UNKNOWN}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Session, Stall};

    #[test]
    fn the_highest_rank_leaves_first_or_has_a_shorter_form() {
        let facts = [
            Fact { forms: vec![(3, "first, in full".into()), (0, "first".into())] },
            fact(2, "third".into()),
            fact(4, "fourth".into()),
            fact(1, "second".into()),
        ];
        assert_eq!(lines(&facts, 40, 1), ["first, in full  third  fourth  second"]);
        assert_eq!(lines(&facts, 20, 2), ["first, in full", "third  second"]);
        assert_eq!(lines(&facts, 20, 1), ["first  third  second"]);
        assert_eq!(lines(&facts, 14, 1), ["first  second"]);
        assert_eq!(lines(&facts, 8, 1), ["first"]);
        assert_eq!(lines(&facts, 8, 0), [] as [&str; 0]);
    }

    #[test]
    fn live_sessions_are_counted_and_slow_ones_among_them() {
        let with = |statuses: &[Status]| {
            let session = |status: &Status| Session { status: *status, ..Session::default() };
            let sessions = statuses.iter().map(session).collect();
            session_count(&Snapshot { sessions, ..Snapshot::default() }).full().to_owned()
        };
        assert_eq!(with(&[Status::Active, Status::Ended, Status::Active]), "sessions 2");
        assert_eq!(with(&[Status::Active, Status::Slow]), "sessions 2 (1 slow)");
    }

    #[test]
    fn stalls_are_counted_also_where_only_the_last_are_kept() {
        let stall = |stall_id, ongoing| Stall { stall_id, ongoing, ..Stall::default() };
        let mut snapshot =
            Snapshot { stalls: vec![stall(7, false), stall(4, false)], ..Snapshot::default() };
        snapshot.worker.stalls = 9;
        assert_eq!(stall_count(&snapshot), "stalls 9");
        snapshot.stalls.push(stall(2, true));
        assert_eq!(stall_count(&snapshot), "stalls 9 (1 now)");
    }
}
