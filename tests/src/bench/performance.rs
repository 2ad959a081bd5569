//! The table in `docs/performance.md`, made by the harness.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};

use super::{Table, goals, report, score, step};

const BEGIN: &str = "<!-- made by cargo xtask bench: begin -->";
const END: &str = "<!-- made by cargo xtask bench: end -->";

/// Puts the tables in the place of those that are there.
pub fn update(file: &Path, tables: &[Table]) -> Result<()> {
    let shown = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("reading {shown}"))?;
    let text = put(&text, &markdown(tables))
        .with_context(|| format!("{shown} has no place for the table"))?;
    fs::write(file, text).with_context(|| format!("writing {shown}"))
}

fn put(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

/// One table for each loop, and its goals.
pub fn markdown(tables: &[Table]) -> String {
    let mut text = String::new();
    for table in tables {
        let rounds = table.lines.iter().map(|line| line.added.rounds().len()).max().unwrap_or(0);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} on {}, {rounds} rounds:\n", table.interpreter, table.kind);
        text.push_str("| rate | who looks | added, of one core | a poll, with / without | timer late, p50 | p99 |\n");
        text.push_str("|---|---|---|---|---|---|\n");
        for line in &table.lines {
            let (rate, name) = (report::rate(line.rate), line.contender.name);
            let _ = match &line.why_not {
                Some(why) => writeln!(text, "| {rate} | {name} | {why} | | | |"),
                None => writeln!(
                    text,
                    "| {rate} | {name} | {} | {} | {} | {} |",
                    report::percent(&line.added),
                    report::ratio(&line.ratio),
                    report::micros(&line.late_us[0]),
                    report::micros(&line.late_us[1]),
                ),
            };
        }
        text.push('\n');
        text.push_str(&of_step(table));
        text.push_str(&of_scores(table));
        for goal in goals::goals(table) {
            let _ = writeln!(text, "- {}: {}", goal.verdict.word(), goal.text);
        }
        text.push('\n');
    }
    text
}

/// A line for each step.
fn of_step(table: &Table) -> String {
    let Some(step) = &table.step else { return String::new() };
    let [slow, fast] = step::RATES;
    let mut text = format!(
        "A step from {slow} to {fast} polls/s and back, auto: added in each half second after it, %, \
         and over {} s:\n\n| step | each half second | over all |\n|---|---|---|\n",
        step::STRETCH.as_secs()
    );
    for (stretch, name) in step.iter().zip(step::NAMES) {
        let (halves, whole) = (report::after_step(stretch), report::percent(&stretch.whole));
        let _ = writeln!(text, "| {name} | {halves} | {whole} |");
    }
    text + "\n"
}

/// How well each sees.
fn of_scores(table: &Table) -> String {
    if table.scores.is_empty() {
        return String::new();
    }
    let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let titles = report::SCORE_TITLES.map(str::to_owned);
    let mut text = format!("What each sees in {} s:\n\n", score::SPAN.as_secs());
    text.push_str(&row(&titles));
    text.push_str(&row(&titles.map(|_| "---".to_owned())));
    table.scores.iter().for_each(|score| text.push_str(&row(&report::score_cells(score))));
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_between_the_marks_is_replaced() {
        let text = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let put_in = put(&text, "new").unwrap();
        assert_eq!(put_in, format!("before\n{BEGIN}\n\nnew\n{END}\nafter\n"));
        assert_eq!(put(&put_in, "new").unwrap(), put_in, "again and again");
        assert_eq!(put("no marks", "new"), None);
    }
}
