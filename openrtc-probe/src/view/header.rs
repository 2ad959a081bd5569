//! What stands above and below the tables, as facts that wrap at any width.

use crate::model::{Snapshot, Status, Worker};
use crate::view::harmless::{cut, harmless, width};
use crate::view::order::Order;
use crate::view::units::{Number, UNKNOWN, clock, megabytes, percent, seconds, with_unit};

/// Shown while the tag variable is not found.
const TAG_NOT_FOUND: &str =
    "session variable not found yet: every poll is untagged (see --session-var)";

/// What is to be known of the tag variable before the sessions are believed; nothing where all is well.
pub fn tag_notice(worker: &Worker) -> Option<String> {
    if !worker.tag_found {
        return Some(TAG_NOT_FOUND.into());
    }
    let tasks = worker.tasks_tagged_elsewhere;
    (tasks > 0).then(|| {
        let vars = worker.tag_vars;
        format!(
            "{vars} session variables have this name and one is followed: {tasks} tasks hold an id in \
             another, which is not seen here"
        )
    })
}

/// Workers that have a line of their own.
const LISTED: usize = 4;

/// The worker: who it is and what it does, each on lines of its own. Of several what they do together,
/// then a line for each, the busiest first. On at most `most` lines.
pub fn worker(snapshot: &Snapshot, columns: usize, most: usize) -> Vec<String> {
    if let Some(workers) = &snapshot.fleet {
        return fleet(snapshot, workers, columns, most);
    }
    let mut lines = wrap(&identity(snapshot), columns);
    lines.append(&mut wrap(&activity(snapshot), columns));
    lines.truncate(most);
    lines
}

fn fleet(all: &Snapshot, workers: &[Snapshot], columns: usize, most: usize) -> Vec<String> {
    let count = format!("workers {}", workers.len());
    let mut facts = vec![count, format!("attached {}", clock(all.elapsed_ns))];
    // What they share is in the resident set of each of them: a sum would be wrong.
    facts.splice(1..1, activity(all).into_iter().filter(|fact| !fact.starts_with("rss ")));
    let mut lines = wrap(&facts, columns);
    let mut busiest: Vec<&Snapshot> = workers.iter().collect();
    busiest.sort_by(|a, b| {
        let cpu = |one: &Snapshot| one.worker.cpu_ratio.unwrap_or(0.0);
        cpu(b).total_cmp(&cpu(a)).then(a.worker.pid.cmp(&b.worker.pid))
    });
    // The words for those that are left over take a line too.
    let room = most.saturating_sub(lines.len()).min(LISTED + 1);
    let listed = if busiest.len() <= room { busiest.len() } else { room.saturating_sub(1) };
    for one in busiest.iter().take(listed) {
        lines.extend(wrap(&in_one_line(one), columns).into_iter().next());
    }
    if busiest.len() > listed {
        lines.push(cut(&format!("and {} more workers", busiest.len() - listed), columns).into());
    }
    lines.truncate(most);
    lines
}

fn in_one_line(one: &Snapshot) -> Vec<String> {
    let [pid, who @ ..] = identity(one);
    let mut facts = vec![pid];
    if !one.worker.tag_found {
        facts.push("no session variable yet".into());
    }
    facts.extend(activity(one));
    facts.extend(who);
    facts
}

/// What else is to be said.
pub fn notes(snapshot: &Snapshot, columns: usize) -> Vec<String> {
    snapshot.notes.iter().flat_map(|note| wrap_words(&harmless(note), columns)).collect()
}

fn identity(snapshot: &Snapshot) -> [String; 5] {
    let worker = &snapshot.worker;
    [
        format!("pid {}", worker.pid),
        format!("python {}", known(&worker.python)),
        format!("loop {}", known(&worker.event_loop)),
        format!("threads {}", worker.threads),
        format!("attached {}", clock(snapshot.elapsed_ns)),
    ]
}

fn activity(snapshot: &Snapshot) -> [String; 5] {
    let worker = &snapshot.worker;
    let cpu = worker.cpu_ratio.map(|ratio| Number::new(percent(ratio), 1));
    let rss = worker.rss_bytes.map(|bytes| Number::new(megabytes(bytes), 0));
    let polls = worker.polls_per_s.map(|polls| Number::new(polls, 0));
    [
        format!("cpu {}", with_unit(cpu, "%")),
        format!("rss {}", with_unit(rss, "MB")),
        format!("polls/s {}", polls.map_or(UNKNOWN.into(), Number::full)),
        session_count(snapshot),
        stall_count(snapshot),
    ]
}

/// Live sessions. The slow ones among them may be further down in the list than it is shown.
fn session_count(snapshot: &Snapshot) -> String {
    let count = |is: fn(Status) -> bool| snapshot.sessions.iter().filter(|s| is(s.status)).count();
    let live = count(|status| status != Status::Ended);
    match count(|status| status == Status::Slow) {
        0 => format!("sessions {live}"),
        slow => format!("sessions {live} ({slow} slow)"),
    }
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

/// The check line: how much of the process's CPU time is in the table.
pub fn check(snapshot: &Snapshot) -> String {
    let accounted = snapshot.worker.accounted_ratio;
    let accounted = accounted.map(|ratio| Number::new(percent(ratio), 1));
    let cpu = Number::new(seconds(snapshot.worker.cpu_ns), 1);
    format!("accounted {} of {} CPU", with_unit(accounted, "%"), with_unit(Some(cpu), "s"))
}

/// What we know that we missed, and what of it was found out in another way.
pub fn losses(snapshot: &Snapshot) -> String {
    let list = |counts: &[(&str, u64)]| {
        let causes: Vec<_> =
            counts.iter().map(|(cause, count)| format!("{cause} {count}")).collect();
        causes.join(", ")
    };
    let health = &snapshot.health;
    let lost = if health.lost.is_empty() { "nothing".into() } else { list(&health.lost) };
    if health.mended.is_empty() {
        return format!("lost: {lost}");
    }
    format!("lost: {lost}  mended: {}", list(&health.mended))
}

/// What the table shows of the sessions.
pub fn selection(snapshot: &Snapshot, order: &Order, shown: usize) -> Vec<String> {
    let total = snapshot.sessions.len();
    let arrow = if order.is_descending() { '↓' } else { '↑' };
    let mut facts = vec![
        if shown == total {
            format!("{total} listed")
        } else {
            format!("{shown} of {total} listed")
        },
        format!("sort {} {arrow}", order.sort.name()),
        format!("status {}", order.status.name()),
    ];
    for (name, filter) in [("agent", &order.agent), ("tenant", &order.tenant)] {
        facts.extend(filter.as_deref().map(|filter| format!("{name} {}", harmless(filter))));
    }
    facts
}

/// Why a table has no session in it, on lines of at most `columns` columns; nothing where
/// [`tag_notice`] says it.
pub fn why_empty(snapshot: &Snapshot, order: &Order, columns: usize) -> Vec<String> {
    let status = order.status.name();
    if !snapshot.worker.tag_found {
        vec![]
    } else if snapshot.sessions.is_empty() {
        wrap_words("no session seen yet", columns)
    } else if order.status.is_visible_from_outside() {
        wrap_words("no session matches the filter", columns)
    } else {
        let why = format!("no session is {status}: that cannot be seen from outside the worker");
        wrap_words(&why, columns)
    }
}

/// A text that is untrusted, and may not be known.
pub fn known(text: &str) -> String {
    if text.is_empty() { UNKNOWN.into() } else { harmless(text).into_owned() }
}

/// Facts on lines of at most `columns` columns, two spaces between.
pub fn wrap(facts: &[String], columns: usize) -> Vec<String> {
    join(facts.iter().map(String::as_str), columns, "  ")
}

/// A sentence on lines of at most `columns` columns.
pub fn wrap_words(sentence: &str, columns: usize) -> Vec<String> {
    join(sentence.split(' '), columns, " ")
}

fn join<'a>(items: impl Iterator<Item = &'a str>, columns: usize, between: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        match lines.last_mut() {
            Some(line) if width(line) + between.len() + width(item) <= columns => {
                line.push_str(between);
                line.push_str(item);
            }
            _ => lines.push(cut(item, columns).into_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Health, Session, Stall};
    use crate::view::order::StatusFilter;

    #[test]
    fn nothing_known_is_not_zero() {
        assert_eq!(
            worker(&Snapshot::default(), 80, 9),
            [
                "pid 0  python –  loop –  threads 0  attached 0:00:00",
                "cpu –  rss –  polls/s –  sessions 0  stalls 0",
            ]
        );
        assert_eq!(check(&Snapshot::default()), "accounted – of 0.0 s CPU");
        assert_eq!(losses(&Snapshot::default()), "lost: nothing");
    }

    #[test]
    fn a_second_variable_of_the_name_is_told_once_it_is_in_use() {
        let notice = |tag_vars, tasks_tagged_elsewhere| {
            let worker =
                Worker { tag_found: true, tag_vars, tasks_tagged_elsewhere, ..Worker::default() };
            tag_notice(&worker)
        };
        assert_eq!(tag_notice(&Worker::default()).as_deref(), Some(TAG_NOT_FOUND));
        assert_eq!(notice(1, 0), None);
        assert_eq!(notice(2, 0), None, "nobody uses it");
        assert_eq!(
            notice(2, 3).as_deref(),
            Some(
                "2 session variables have this name and one is followed: 3 tasks hold an id in another, \
                 which is not seen here"
            )
        );
    }

    #[test]
    fn live_sessions_are_counted_and_slow_ones_among_them() {
        let with = |statuses: &[Status]| {
            let session = |status: &Status| Session { status: *status, ..Session::default() };
            let sessions = statuses.iter().map(session).collect();
            session_count(&Snapshot { sessions, ..Snapshot::default() })
        };
        assert_eq!(with(&[Status::Active, Status::Ended, Status::Active]), "sessions 2");
        assert_eq!(with(&[Status::Active, Status::Slow]), "sessions 2 (1 slow)");
    }

    #[test]
    fn check_line_and_losses() {
        let mut snapshot = Snapshot::default();
        snapshot.worker.accounted_ratio = Some(0.998);
        snapshot.worker.cpu_ns = 41_234_567_890;
        snapshot.health =
            Health { lost: vec![("ring_full", 3), ("read_failed", 1)], ..Health::default() };
        assert_eq!(check(&snapshot), "accounted 99.8 % of 41.2 s CPU");
        assert_eq!(losses(&snapshot), "lost: ring_full 3, read_failed 1");
        snapshot.health = Health { mended: vec![("switch_unheard", 2)], ..Health::default() };
        assert_eq!(losses(&snapshot), "lost: nothing  mended: switch_unheard 2");
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

    #[test]
    fn what_is_selected_and_why_nothing_is() {
        let mut snapshot = Snapshot { sessions: vec![Session::default()], ..Snapshot::default() };
        snapshot.worker.tag_found = true;
        let order = Order { agent: Some("a\nb".into()), ..Order::default() };
        assert_eq!(
            selection(&snapshot, &order, 0).join("  "),
            "0 of 1 listed  sort cpu_pct ↓  status all  agent a\\nb"
        );
        let why = |snapshot: &Snapshot, order| why_empty(snapshot, order, 80).concat();
        assert_eq!(why(&snapshot, &order), "no session matches the filter");
        let order = Order { status: StatusFilter::Errored, ..Order::default() };
        assert!(why(&snapshot, &order).contains("errored"));
        snapshot.sessions.clear();
        assert_eq!(why(&snapshot, &order), "no session seen yet");
        snapshot.worker.tag_found = false;
        assert_eq!(why(&snapshot, &order), "", "the notice says it");
    }

    #[test]
    fn facts_wrap_whole_and_long_ones_are_cut() {
        let facts = ["one two", "three", "sixteen letters!"].map(String::from);
        assert_eq!(wrap(&facts, 14), ["one two  three", "sixteen lette…"]);
        assert_eq!(wrap(&facts, 13), ["one two", "three", "sixteen lett…"]);
        assert_eq!(wrap_words("a bc def", 4), ["a bc", "def"]);
    }
}
