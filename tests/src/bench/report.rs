//! A run as text and as JSON, and whether the goals are met.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Line, Table, paired::Paired};

/// What sampling may add, of one core.
const SAMPLED_GOAL: f64 = 0.003;
/// The budget of `--mode auto`, of one core.
const BUDGET: f64 = 0.01;
/// What exact accounting may cost, in empty pairs.
const PAIRS_GOAL: f64 = 1.2;
/// Up to this rate every mode is to be cheaper than OpenRTC's own introspection.
const SLOW_RATE: u32 = 10_000;

/// One goal, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// In words, with its figures.
    pub text: String,
    /// Whether it is met.
    pub is_met: bool,
}

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
    for goal in goals(table) {
        let _ = writeln!(text, "{}  {}", if goal.is_met { "PASS" } else { "FAIL" }, goal.text);
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
        })
    };
    Value::Array(tables.iter().map(table).collect())
}

/// What was to be shown, as far as it was measured. A goal counts as missed only where the whole interval is beyond
/// it; what the interval is stands beside.
pub fn goals(table: &Table) -> Vec<Goal> {
    let of = |name: &'static str| {
        table.lines.iter().filter(move |it| it.contender.name == name && it.why_not.is_none())
    };
    let mut goals = Vec::new();
    for (name, most) in [("sampled", SAMPLED_GOAL), ("auto", BUDGET)] {
        for line in of(name) {
            goals.push(Goal {
                text: format!(
                    "{name} adds at most {} % at {}: {}",
                    most * 100.0,
                    rate(line.rate),
                    percent(&line.added)
                ),
                is_met: line.added.interval().is_some_and(|(low, _)| low <= most),
            });
        }
    }
    for exact in of("exact") {
        let Some(empty) = of("empty").find(|it| it.rate == exact.rate) else { continue };
        let pairs = in_pairs(exact, empty);
        goals.push(Goal {
            text: format!(
                "exact costs at most {PAIRS_GOAL} empty pairs at {}: {}",
                rate(exact.rate),
                ratio(&pairs)
            ),
            is_met: pairs.interval().is_some_and(|(low, _)| low <= PAIRS_GOAL),
        });
    }
    for theirs in of("in-process").filter(|it| (1..=SLOW_RATE).contains(&it.rate)) {
        for ours in ["exact", "sampled", "auto"].into_iter().flat_map(of) {
            if ours.rate == theirs.rate {
                let (mine, his) = (ours.added.median(), theirs.added.median());
                goals.push(Goal {
                    text: format!(
                        "{} is cheaper than in-process at {}: {} against {}",
                        ours.contender.name,
                        rate(ours.rate),
                        percent(&ours.added),
                        percent(&theirs.added)
                    ),
                    is_met: mine.zip(his).is_some_and(|(mine, his)| mine < his),
                });
            }
        }
    }
    goals
}

/// What exact accounting adds in a round, in what an empty pair adds.
fn in_pairs(exact: &Line, empty: &Line) -> Paired {
    // Back to back more cost makes fewer polls: there it is the time of a poll that tells.
    let added = |line: &Line| -> Vec<f64> {
        match line.rate {
            0 => line.ratio.rounds().iter().map(|ratio| ratio - 1.0).collect(),
            _ => line.added.rounds().to_vec(),
        }
    };
    let mut pairs = Paired::default();
    for (exact, empty) in added(exact).into_iter().zip(added(empty)) {
        if empty > 0.0 {
            pairs.push(exact / empty);
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bench::contenders::CONTENDERS, setting::Loop};

    fn line(name: &str, rate: u32, added: &[f64]) -> Line {
        let contender = CONTENDERS.iter().find(|it| it.name == name).unwrap();
        let mut line = Line::new(rate, contender);
        for it in added {
            line.added.push(*it);
        }
        line
    }

    fn table(lines: Vec<Line>) -> Table {
        Table { interpreter: "py".into(), kind: Loop::Asyncio, lines }
    }

    #[test]
    fn goals_are_judged_by_their_intervals() {
        let met = |lines| goals(&table(lines)).iter().map(|goal| goal.is_met).collect::<Vec<_>>();
        assert_eq!(met(vec![line("sampled", 1000, &[0.001, 0.004, 0.002])]), [true]);
        assert_eq!(met(vec![line("sampled", 1000, &[0.005, 0.004, 0.006])]), [false]);
        assert_eq!(met(vec![line("auto", 0, &[0.02, 0.03])]), [false]);
        let pair = |exact: f64| vec![line("exact", 1000, &[exact]), line("empty", 1000, &[0.01])];
        assert_eq!(met(pair(0.0119)), [true]);
        assert_eq!(met(pair(0.0125)), [false]);
        let against = vec![line("auto", 1000, &[0.004]), line("in-process", 1000, &[0.003])];
        assert_eq!(met(against), [true, false]);
        assert_eq!(met(vec![line("in-process", 50_000, &[0.1])]), [] as [bool; 0]);
    }

    #[test]
    fn what_was_not_measured_says_why() {
        let mut one = line("bpftrace", 1000, &[]);
        one.why_not = Some("bpftrace is not installed".into());
        let text = text(&table(vec![one.clone()]));
        assert!(text.contains("bpftrace is not installed"), "{text}");
        let json = json(&[table(vec![one])]);
        assert_eq!(json[0]["lines"][0]["why_not"], "bpftrace is not installed");
    }
}
