//! What was to be shown, and whether a run shows it.

use super::{
    Line, Table,
    paired::Paired,
    report::{micros, percent, rate, ratio},
    step::{NAMES, STRETCH},
};

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

/// What was to be shown, as far as it was measured.
pub fn goals(table: &Table) -> Vec<Goal> {
    let kinds = [of_rates, of_steps, of_timers, of_pairs, of_in_process];
    kinds.into_iter().flat_map(|goals| goals(table)).collect()
}

fn of<'t>(table: &'t Table, name: &'t str) -> impl Iterator<Item = &'t Line> {
    table.lines.iter().filter(move |it| it.contender.name == name && it.why_not.is_none())
}

/// What a mode may add, at each rate.
fn of_rates(table: &Table) -> Vec<Goal> {
    let most = [("sampled", SAMPLED_GOAL), ("auto", BUDGET)];
    let lines = most
        .into_iter()
        .flat_map(|(name, most)| of(table, name).map(move |line| (name, most, line)));
    let goal = |(name, most, line): (&str, f64, &Line)| {
        let slower = slower(line);
        let (most_pct, at, found) = (most * 100.0, rate(line.rate), percent(&slower));
        Goal {
            text: format!("{name} adds at most {most_pct} % at {at}: {found}"),
            verdict: Verdict::at_most(&slower, most),
        }
    };
    lines.map(goal).collect()
}

/// What the budget allows after a step.
fn of_steps(table: &Table) -> Vec<Goal> {
    let steps = table.step.iter().flatten().zip(NAMES);
    let goal = |(stretch, name): (&super::step::Stretch, &str)| {
        let (budget, span, found) = (BUDGET * 100.0, STRETCH.as_secs(), percent(&stretch.whole));
        Goal {
            text: format!(
                "auto adds at most {budget} % in the {span} s after a step {name}: {found}"
            ),
            verdict: Verdict::at_most(&stretch.whole, BUDGET),
        }
    };
    steps.map(goal).collect()
}

/// What sampling may add to how late timers are.
fn of_timers(table: &Table) -> Vec<Goal> {
    let goal = |line: &Line| {
        let [_, p99] = &line.late_us;
        let (at, found) = (rate(line.rate), micros(p99));
        Goal {
            text: format!(
                "sampled adds nothing that can be told to how late timers are, p99, at {at}: \
                 {found}"
            ),
            verdict: Verdict::none_told(p99),
        }
    };
    of(table, "sampled").map(goal).collect()
}

/// What a poll may cost beside an empty pair of probes.
fn of_pairs(table: &Table) -> Vec<Goal> {
    let goal = |exact: &Line| {
        let empty = of(table, "empty").find(|it| it.rate == exact.rate)?;
        let pairs = in_pairs(exact, empty);
        let (at, found) = (rate(exact.rate), ratio(&pairs));
        Some(Goal {
            text: format!("exact costs at most {PAIRS_GOAL} empty pairs at {at}: {found}"),
            verdict: Verdict::at_most(&pairs, PAIRS_GOAL),
        })
    };
    of(table, "exact").filter_map(goal).collect()
}

/// Each mode beside OpenRTC's own introspection, where polls are not many.
fn of_in_process(table: &Table) -> Vec<Goal> {
    let theirs = of(table, "in-process").filter(|it| (1..=SLOW_RATE).contains(&it.rate));
    let goals_of = |theirs: &'_ Line| {
        let ours = ["exact", "sampled", "auto"].into_iter().flat_map(|name| of(table, name));
        let goal = |ours: &Line| Goal {
            text: format!(
                "{} is cheaper than in-process at {}: {} against {}",
                ours.contender.name,
                rate(ours.rate),
                percent(&ours.added),
                percent(&theirs.added)
            ),
            verdict: Verdict::below(&ours.added, &theirs.added),
        };
        ours.filter(|ours| ours.rate == theirs.rate).map(goal).collect::<Vec<_>>()
    };
    theirs.flat_map(goals_of).collect()
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
        Table::new("py", Loop::Asyncio, lines)
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
}
