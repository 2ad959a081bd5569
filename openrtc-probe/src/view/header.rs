//! What stands above and below the tables, as facts that wrap at any width.

mod facts;

use crate::model::{Snapshot, Worker};
use crate::view::harmless::{cut, harmless, width};
use crate::view::header::facts::Fact;
use crate::view::last_minute;
use crate::view::mode;
use crate::view::order::Order;
use crate::view::units::{Number, percent, seconds, with_unit};
use crate::view::verdict::words;

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
/// A line shorter than this holds a part of a verdict only, and no two charts.
pub const NARROW: usize = 60;

/// How a line asks to be seen. It says nothing that its words do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As all text.
    Normal,
    /// What is to be read first.
    Strong,
    /// Something is wrong.
    Alarm,
    /// What can be read last.
    Dim,
}

/// A line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it says.
    pub text: String,
    /// How.
    pub tone: Tone,
}

/// Lines of one tone.
pub fn in_tone(lines: Vec<String>, tone: Tone) -> impl Iterator<Item = Line> {
    lines.into_iter().map(move |text| Line { text, tone })
}

/// What stands above the table on a screen of this size: a quarter of it.
pub fn of_screen(snapshot: &Snapshot, columns: usize, lines: usize) -> Vec<Line> {
    let charts = last_minute::lines(snapshot, columns, last_minute::share(columns, lines));
    let left = (lines / 4).saturating_sub(charts.len()).max(1);
    let mut header = worker(snapshot, columns, left);
    header.extend(charts);
    header
}

/// Lines of facts on a screen, besides the first.
const FACTS: usize = 2;
/// Before the verdict where a line has no style.
const VERDICT: &str = "verdict: ";

/// The worker: who it is, the verdict, and what it does, on at most `most` lines. Of several what they do
/// together, then a line for each, the busiest first. Where there are few lines the least needed facts
/// are left out, and of the verdict what is behind its second line, or its third where they are narrow.
pub fn worker(snapshot: &Snapshot, columns: usize, most: usize) -> Vec<Line> {
    let (first, then) = facts(snapshot);
    let mut lines: Vec<Line> =
        in_tone(facts::lines(&first, columns, most.min(1)), Tone::Normal).collect();
    let most_said = if columns < NARROW { 3 } else { 2 };
    lines.extend(verdict_lines(snapshot, columns, most_said.min(most - lines.len())));
    let left = most - lines.len();
    lines.extend(in_tone(facts::lines(&then, columns, left.min(FACTS)), Tone::Normal));
    if let Some(workers) = &snapshot.fleet {
        let left = most - lines.len();
        lines.extend(in_tone(each(workers, columns, left), Tone::Normal));
    }
    lines
}

/// The same in full, as plain text.
pub fn in_full(snapshot: &Snapshot, columns: usize) -> Vec<String> {
    let (first, then) = facts(snapshot);
    let mut lines = facts::lines(&first, columns, usize::MAX);
    let sentence = format!("{VERDICT}{}", words(snapshot).sentence());
    lines.extend(wrap_words(&sentence, columns));
    lines.extend(facts::lines(&then, columns, usize::MAX));
    let each = snapshot.fleet.as_ref().map(|workers| each(workers, columns, usize::MAX));
    lines.extend(each.unwrap_or_default());
    lines
}

/// What stands above the verdict, and below it.
fn facts(snapshot: &Snapshot) -> (Vec<Fact>, Vec<Fact>) {
    let does = facts::activity(snapshot);
    match &snapshot.fleet {
        None => (facts::identity(snapshot), does),
        Some(workers) => {
            let mut together = facts::together(snapshot, workers.len());
            together.extend(does);
            (together, vec![])
        }
    }
}

/// The verdict on at most `most` lines.
pub fn verdict_lines(snapshot: &Snapshot, columns: usize, most: usize) -> Vec<Line> {
    let words = words(snapshot);
    let mut lines = wrap_words(&words.sentence(), columns);
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = cut(&format!("{last}…"), columns).into_owned();
        }
    }
    let tone = if words.is_trouble { Tone::Alarm } else { Tone::Strong };
    in_tone(lines, tone).collect()
}

fn each(workers: &[Snapshot], columns: usize, left: usize) -> Vec<String> {
    let mut busiest: Vec<&Snapshot> = workers.iter().collect();
    busiest.sort_by(|a, b| {
        let cpu = |one: &Snapshot| one.worker.cpu_ratio.unwrap_or(0.0);
        cpu(b).total_cmp(&cpu(a)).then(a.worker.pid.cmp(&b.worker.pid))
    });
    // The words for those that are left over take a line too.
    let room = left.min(LISTED + 1);
    let listed = if busiest.len() <= room { busiest.len() } else { room.saturating_sub(1) };
    let line = |one: &&Snapshot| facts::lines(&facts::in_one_line(one), columns, 1);
    let mut lines: Vec<_> = busiest.iter().take(listed).flat_map(line).collect();
    if busiest.len() > listed && listed > 0 {
        lines.push(cut(&format!("and {} more workers", busiest.len() - listed), columns).into());
    }
    lines
}

/// What else is to be said.
pub fn notes(snapshot: &Snapshot, columns: usize) -> Vec<String> {
    let mode = mode::notice(snapshot);
    let notes = snapshot.notes.iter().chain(&mode);
    notes.flat_map(|note| wrap_words(&harmless(note), columns)).collect()
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
    let total = order.count_of(snapshot);
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
    if !order.filter.is_empty() {
        facts.push(format!("filter {}", harmless(&order.filter)));
    }
    facts
}

/// Why a table has no session in it, on lines of at most `columns` columns; nothing where
/// [`tag_notice`] says it.
pub fn why_empty(snapshot: &Snapshot, order: &Order, columns: usize) -> Vec<String> {
    let status = order.status.name();
    if !snapshot.worker.tag_found {
        vec![]
    } else if snapshot.sessions.is_empty() && snapshot.ended.is_empty() {
        wrap_words("no session seen yet", columns)
    } else if order.status.is_visible_from_outside() {
        wrap_words("no session matches the filter", columns)
    } else {
        let why = format!("no session is {status}: that cannot be seen from outside the worker");
        wrap_words(&why, columns)
    }
}

/// Facts on lines of at most `columns` columns, two spaces between.
pub fn wrap(facts: &[String], columns: usize) -> Vec<String> {
    join(facts.iter().map(String::as_str), columns, "  ")
}

/// What stays with the number before it.
const UNITS: &[&str] = &["%", "ms", "s", "min", "h", "MB", "MB/min"];

/// A sentence on lines of at most `columns` columns; a number and its unit stay together.
pub fn wrap_words(sentence: &str, columns: usize) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for word in sentence.split(' ') {
        let is_unit = UNITS.contains(&word.trim_end_matches([',', ';', ')', '…']));
        match parts.last_mut() {
            Some(number) if is_unit && number.ends_with(|c: char| c.is_ascii_digit()) => {
                number.push(' ');
                number.push_str(word);
            }
            _ => parts.push(word.to_owned()),
        }
    }
    join(parts.iter().map(String::as_str), columns, " ")
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
    use crate::model::{Health, Session};
    use crate::view::order::StatusFilter;
    use crate::view::samples;

    fn texts(lines: Vec<Line>) -> Vec<String> {
        lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn nothing_known_is_not_zero() {
        assert_eq!(
            texts(worker(&Snapshot::default(), 80, 9)),
            [
                "pid 0  python –  loop –  threads 0  attached 0:00:00  up –",
                "no verdict: no event loop seen yet",
                "cpu –  rss –  polls/s –  sessions 0  stalls 0  load –  delay –  runq –  cost –",
                "untagged –",
            ]
        );
        assert_eq!(check(&Snapshot::default()), "accounted – of 0.0 s CPU");
        assert_eq!(losses(&Snapshot::default()), "lost: nothing");
    }

    #[test]
    fn few_lines_have_the_most_needed() {
        for (columns, most) in [(80, 6), (40, 5), (40, 3), (20, 2), (80, 1), (80, 0), (0, 4)] {
            let lines = worker(&samples::three(), columns, most);
            assert!(lines.len() <= most, "{columns}x{most}: {lines:#?}");
        }
        let lines = worker(&samples::three(), 40, 5);
        assert_eq!(lines[1].tone, Tone::Alarm);
        assert_eq!(
            texts(lines),
            [
                "pid 4242  loop uvloop  attached 0:00:41",
                "AJ_7Zp0aLmW4dRt blocks the loop:",
                "sleep(clock_nanosleep) at booking.py:42",
                "in fetch_slots (3 stalls/min, worst…",
                "sessions 2 (1 slow)  stalls 4 (1 now)",
            ]
        );
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
        let order = Order { filter: "b\u{1b}".into(), show_ended: false, ..Order::default() };
        assert!(selection(&snapshot, &order, 0).contains(&"filter b\\u{1b}".into()));
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
        assert_eq!(wrap_words("p99 is 0.1 ms, or s", 10), ["p99 is", "0.1 ms, or", "s"]);
    }
}
