//! A run as text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    Line, Table,
    goals::goals,
    paired::Paired,
    score::Score,
    step::{NAMES, Step, Stretch},
};

/// A rate in words.
pub fn rate(rate: u32) -> String {
    match rate {
        0 => "back to back".to_owned(),
        rate => format!("{rate} polls/s"),
    }
}

/// Of one core, in per cent, with its interval.
pub fn percent(paired: &Paired) -> String {
    let Some((median, (low, high))) = paired.median().zip(paired.interval()) else {
        return "–".to_owned();
    };
    format!("{:+.2} % ({:+.2} to {:+.2})", median * 100.0, low * 100.0, high * 100.0)
}

/// A ratio with its interval.
pub fn ratio(paired: &Paired) -> String {
    let Some((median, (low, high))) = paired.median().zip(paired.interval()) else {
        return "–".to_owned();
    };
    format!("{median:.3} ({low:.3} to {high:.3})")
}

/// Microseconds with their interval.
pub fn micros(paired: &Paired) -> String {
    let Some((median, (low, high))) = paired.median().zip(paired.interval()) else {
        return "–".to_owned();
    };
    format!("{median:+.0} us ({low:+.0} to {high:+.0})")
}

/// The table as text.
pub fn text(table: &Table) -> String {
    let mut text = format!("{} on {}\n", table.interpreter, table.kind);
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{:<14} {:<15} {:>28} {:>26} {:>26} {:>26}",
        "rate", "contender", "added, of a core", "a poll, with/without", "timer late, p50", "p99"
    );
    for line in &table.lines {
        let head = format!("{:<14} {:<15}", rate(line.rate), line.contender.name);
        let _ = match &line.why_not {
            Some(why) => writeln!(text, "{head} {why}"),
            None => writeln!(
                text,
                "{head} {:>28} {:>26} {:>26} {:>26}",
                percent(&line.added),
                ratio(&line.ratio),
                micros(&line.late_us[0]),
                micros(&line.late_us[1]),
            ),
        };
    }
    for (stretch, name) in table.step.iter().flatten().zip(NAMES) {
        let _ = writeln!(text, "a step {name}, each half second: {} %", after_step(stretch));
    }
    for score in &table.scores {
        let _ = writeln!(text, "{}", score_cells(score).join("  "));
    }
    for goal in goals(table) {
        let _ = writeln!(text, "{:<8}  {}", goal.verdict.word(), goal.text);
    }
    text
}

/// Every round of every line.
pub fn json(tables: &[Table]) -> Value {
    let line = |line: &Line| {
        json!({
            "rate": line.rate,
            "contender": line.contender.name,
            "why_not": line.why_not,
            "polls_per_s": line.polls_per_s,
            "added_cpu_ratio": line.added.rounds(),
            "poll_ratio": line.ratio.rounds(),
            "late_p50_us": line.late_us[0].rounds(),
            "late_p99_us": line.late_us[1].rounds(),
        })
    };
    let table = |table: &Table| {
        json!({
            "interpreter": table.interpreter,
            "loop": table.kind.name(),
            "lines": table.lines.iter().map(line).collect::<Vec<_>>(),
            "step": table.step.as_ref().map(step),
            "scores": table.scores.iter().map(score).collect::<Vec<_>>(),
        })
    };
    Value::Array(tables.iter().map(table).collect())
}

fn step(step: &Step) -> Value {
    let stretch = |it: &Stretch| {
        let halves: Vec<_> = it.halves.iter().map(Paired::rounds).collect();
        json!({ "whole": it.whole.rounds(), "halves": halves })
    };
    NAMES.into_iter().map(str::to_owned).zip(step.iter().map(stretch)).collect()
}

fn score(score: &Score) -> Value {
    let [truth_s, cpu_s] = score.cpu_s;
    let [stalls, found, right, invented] = score.stalls;
    json!({
        "who": score.who,
        "true_cpu_s": truth_s,
        "cpu_s": cpu_s,
        "worst_ratio": score.worst_ratio,
        "stalls": stalls,
        "found": found,
        "right": right,
        "invented": invented,
        "duration_off_ms": score.duration_off_ms,
    })
}

/// A step in words: the half seconds after it.
pub fn after_step(stretch: &Stretch) -> String {
    let halves = stretch.halves.iter().filter_map(Paired::median);
    halves.map(|half| format!("{:+.1}", half * 100.0)).collect::<Vec<_>>().join(", ")
}

/// What one sees, in the columns of [`SCORE_TITLES`].
pub fn score_cells(score: &Score) -> [String; 5] {
    let [truth_s, cpu_s] = score.cpu_s;
    let [real, found, right, invented] = score.stalls;
    [
        score.who.clone(),
        format!("{cpu_s:.2} s of {truth_s:.2} ({:+.2} %)", (cpu_s / truth_s - 1.0) * 100.0),
        format!("{:+.1} %", score.worst_ratio * 100.0),
        format!("{found} of {real}, {right} right, {invented} invented"),
        format!("{:.2} ms", score.duration_off_ms),
    ]
}

/// Their titles.
pub const SCORE_TITLES: [&str; 5] =
    ["who looks", "CPU of all sessions", "worst session", "stalls", "duration off by"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bench::contenders::CONTENDERS, setting::Loop};

    fn table(lines: Vec<Line>) -> Table {
        Table::new("py", Loop::Asyncio, lines)
    }

    #[test]
    fn what_was_not_measured_says_why() {
        let bpftrace = CONTENDERS.iter().find(|it| it.name == "bpftrace").unwrap();
        let mut one = Line::new(1000, bpftrace);
        one.why_not = Some("bpftrace is not installed".into());
        let text = text(&table(vec![one.clone()]));
        assert!(text.contains("bpftrace is not installed"), "{text}");
        let json = json(&[table(vec![one])]);
        assert_eq!(json[0]["lines"][0]["why_not"], "bpftrace is not installed");
    }
}
