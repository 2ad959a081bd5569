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
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval keeps it.
    Met,
    /// The whole interval is beyond it.
    Missed,
    /// It lies within the interval: the rounds do not tell.
    Open,
}

impl Verdict {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::Missed => "MISSED",
            Verdict::Open => "not told",
        }
    }

    /// Of a figure that is to be at most this.
    fn at_most(paired: &Paired, most: f64) -> Verdict {
        match paired.interval() {
            Some((_, high)) if high <= most => Verdict::Met,
            Some((low, _)) if low > most => Verdict::Missed,
            _ => Verdict::Open,
        }
    }

    /// Of a figure that is to be none that can be told.
    fn none_told(paired: &Paired) -> Verdict {
        match paired.interval() {
            Some((low, _)) if low > 0.0 => Verdict::Missed,
            Some(_) => Verdict::Met,
            None => Verdict::Open,
        }
    }

    /// Of one that is to be less than another.
    fn below(mine: &Paired, his: &Paired) -> Verdict {
        match mine.interval().zip(his.interval()) {
            Some(((_, high), (low, _))) if high < low => Verdict::Met,
            Some(((low, _), (_, high))) if low > high => Verdict::Missed,
            _ => Verdict::Open,
        }
    }
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
        })
    };
    Value::Array(tables.iter().map(table).collect())
}

/// What was to be shown, as far as it was measured.
pub fn goals(table: &Table) -> Vec<Goal> {
    let of = |name: &'static str| {
        table.lines.iter().filter(move |it| it.contender.name == name && it.why_not.is_none())
    };
    let mut goals = Vec::new();
    for (name, most) in [("sampled", SAMPLED_GOAL), ("auto", BUDGET)] {
        for line in of(name) {
            let slower = slower(line);
            goals.push(Goal {
                text: format!(
                    "{name} adds at most {} % at {}: {}",
                    most * 100.0,
                    rate(line.rate),
                    percent(&slower)
                ),
                verdict: Verdict::at_most(&slower, most),
            });
        }
    }
    for line in of("sampled") {
        let [_, p99] = &line.late_us;
        goals.push(Goal {
            text: format!(
                "sampled adds nothing that can be told to how late timers are, p99, at {}: {}",
                rate(line.rate),
                micros(p99)
            ),
            verdict: Verdict::none_told(p99),
        });
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
            verdict: Verdict::at_most(&pairs, PAIRS_GOAL),
        });
    }
    for theirs in of("in-process").filter(|it| (1..=SLOW_RATE).contains(&it.rate)) {
        for ours in ["exact", "sampled", "auto"].into_iter().flat_map(of) {
            if ours.rate == theirs.rate {
                goals.push(Goal {
                    text: format!(
                        "{} is cheaper than in-process at {}: {} against {}",
                        ours.contender.name,
                        rate(ours.rate),
                        percent(&ours.added),
                        percent(&theirs.added)
                    ),
                    verdict: Verdict::below(&ours.added, &theirs.added),
                });
            }
        }
    }
    goals
}

/// How much slower a worker is: added CPU of one core. Back to back the core is full either way: there by how much
/// longer a poll takes.
fn slower(line: &Line) -> Paired {
    let mut slower = Paired::default();
    match line.rate {
        0 => line.ratio.rounds().iter().for_each(|ratio| slower.push(ratio - 1.0)),
        _ => slower.clone_from(&line.added),
    }
    slower
}

/// What exact accounting adds in a round, in what an empty pair adds; nothing where that is not told from none.
fn in_pairs(exact: &Line, empty: &Line) -> Paired {
    let (exact, empty) = (slower(exact), slower(empty));
    let mut pairs = Paired::default();
    if empty.rounds().iter().all(|added| *added > 0.0) {
        for (exact, empty) in exact.rounds().iter().zip(empty.rounds()) {
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
        use Verdict::{Met, Missed, Open};
        let told = |lines| goals(&table(lines)).iter().map(|it| it.verdict).collect::<Vec<_>>();
        let sampled = |added, late_us| {
            let mut sampled = line("sampled", 1000, added);
            sampled.late_us[1].push(late_us);
            told(vec![sampled])
        };
        assert_eq!(sampled(&[0.001, 0.004, 0.002], -1.0), [Open, Met]);
        assert_eq!(sampled(&[0.001, 0.002], 0.0), [Met, Met]);
        assert_eq!(sampled(&[0.005, 0.004, 0.006], 1.0), [Missed, Missed]);
        let mut full = line("auto", 0, &[0.0, 0.0]);
        for ratio in [1.02, 1.03] {
            full.ratio.push(ratio);
        }
        assert_eq!(told(vec![full]), [Missed], "by what a poll takes");
        let pair = |exact: f64, empty: f64| {
            vec![line("exact", 1000, &[exact]), line("empty", 1000, &[empty])]
        };
        assert_eq!(told(pair(0.0119, 0.01)), [Met]);
        assert_eq!(told(pair(0.0125, 0.01)), [Missed]);
        assert_eq!(told(pair(0.0125, -0.01)), [Open], "of nothing there is no ratio");
        let against = vec![line("auto", 1000, &[0.004]), line("in-process", 1000, &[0.003])];
        assert_eq!(told(against), [Met, Missed]);
        assert_eq!(told(vec![line("in-process", 50_000, &[0.1])]), []);
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
