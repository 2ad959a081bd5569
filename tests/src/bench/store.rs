//! What was measured before: a run of some contenders stands beside the last run of all others.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    Line, Table,
    contenders::CONTENDERS,
    paired::Paired,
    report,
    score::Score,
    step::{NAMES, Stretch},
};
use crate::{field, setting::Loop};

/// The tables in the file, none where there is no file.
pub fn read(file: &Path) -> Result<Vec<Table>> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    let shown = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("reading {shown}"))?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("reading {shown}"))?;
    let tables = value.as_array().into_iter().flatten();
    tables.map(table).collect::<Result<_>>().with_context(|| format!("reading {shown}"))
}

/// Writes them.
pub fn write(file: &Path, tables: &[Table]) -> Result<()> {
    let text = serde_json::to_string_pretty(&report::json(tables))?;
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

/// Puts what is new in the place of what was measured of the same before.
pub fn merge(tables: &mut Vec<Table>, new: Vec<Table>) {
    for table in new {
        let is_same =
            |it: &&mut Table| (&it.interpreter, it.kind) == (&table.interpreter, table.kind);
        let Some(known) = tables.iter_mut().find(is_same) else {
            tables.push(table);
            continue;
        };
        if table.step.is_some() {
            known.step = table.step;
        }
        if !table.scores.is_empty() {
            known.scores = table.scores;
        }
        for line in table.lines {
            let is_its =
                |it: &Line| (it.rate, it.contender.name) == (line.rate, line.contender.name);
            match known.lines.iter_mut().find(|it| is_its(it)) {
                Some(before) => *before = line,
                None => known.lines.push(line),
            }
        }
    }
}

fn table(value: &Value) -> Result<Table> {
    let lines = value["lines"].as_array().context("no lines")?;
    let scores = value["scores"].as_array().into_iter().flatten();
    Ok(Table {
        interpreter: field::text(value, "interpreter")?,
        kind: Loop::parse(&field::text(value, "loop")?)?,
        lines: lines.iter().map(line).collect::<Result<_>>()?,
        step: value["step"].as_object().map(|step| NAMES.map(|name| stretch(&step[name]))),
        scores: scores.map(score).collect::<Result<_>>()?,
    })
}

fn stretch(value: &Value) -> Stretch {
    let halves = value["halves"].as_array().into_iter().flatten().map(paired);
    Stretch { whole: paired(&value["whole"]), halves: halves.collect() }
}

fn score(value: &Value) -> Result<Score> {
    let count = |name| Ok::<_, anyhow::Error>(usize::try_from(field::int(value, name)?)?);
    Ok(Score {
        who: field::text(value, "who")?,
        cpu_s: [field::float(value, "true_cpu_s")?, field::float(value, "cpu_s")?],
        worst_ratio: field::float(value, "worst_ratio")?,
        stalls: [count("stalls")?, count("found")?, count("right")?, count("invented")?],
        duration_off_ms: field::float(value, "duration_off_ms")?,
    })
}

fn line(value: &Value) -> Result<Line> {
    let name = field::text(value, "contender")?;
    let contender = CONTENDERS.iter().find(|it| it.name == name);
    let rate = u32::try_from(field::int(value, "rate")?)?;
    let mut line = Line::new(rate, contender.with_context(|| format!("no contender {name}"))?);
    line.why_not = field::maybe_text(value, "why_not");
    line.polls_per_s = field::float(value, "polls_per_s")?;
    line.added = paired(&value["added_cpu_ratio"]);
    line.ratio = paired(&value["poll_ratio"]);
    line.late_us = [paired(&value["late_p50_us"]), paired(&value["late_p99_us"])];
    Ok(line)
}

fn paired(value: &Value) -> Paired {
    let mut paired = Paired::default();
    value.as_array().into_iter().flatten().filter_map(Value::as_f64).for_each(|it| paired.push(it));
    paired
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::step::Step;

    fn tables(name: &str, added: f64) -> Vec<Table> {
        let contender = CONTENDERS.iter().find(|it| it.name == name).unwrap();
        let mut line = Line::new(1000, contender);
        line.added.push(added);
        vec![Table::new("py", Loop::Asyncio, vec![line])]
    }

    #[test]
    fn what_is_new_replaces_what_was_measured_of_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("performance.json");
        assert!(read(&file).unwrap().is_empty());
        let mut all = tables("exact", 0.25);
        merge(&mut all, tables("auto", 0.125));
        let mut scored = tables("auto", 0.125);
        scored[0].step = Some(Step::default());
        scored[0].scores = vec![Score {
            who: "auto".into(),
            cpu_s: [2.0, 1.5],
            worst_ratio: 0.5,
            stalls: [4, 3, 2, 1],
            duration_off_ms: 0.25,
        }];
        merge(&mut all, scored);
        write(&file, &all).unwrap();
        let mut again = read(&file).unwrap();
        merge(&mut again, tables("auto", 0.5));
        let added: Vec<_> = again[0].lines.iter().map(|it| it.added.median()).collect();
        assert_eq!((again.len(), added), (1, vec![Some(0.25), Some(0.5)]));
        assert_eq!(again[0].scores, all[0].scores, "what was not measured again stays");
        assert_eq!(again[0].step, all[0].step);
    }
}
