//! A doctor's report, for a reader at 80 columns and for scripts (schema 1 of `docs/output.md`).
//!
//! Nothing is cut: what a report holds is read by somebody who cannot look again. So a path without a
//! space may be wider than the page.

use serde::Serialize;

use crate::doctor::{Check, Report, Verdict};
use crate::view::harmless::{harmless, width};
use crate::view::json::line;

/// As wide as a mail, an issue or a terminal at night.
const WIDTH: usize = 80;
/// Where what was found begins.
const FOUND_AT: usize = 34;
/// What a check takes, about.
const CHECK_BYTES: usize = 160;

/// The report as text, each line with its newline.
pub fn text(report: &Report) -> String {
    let of_worker = report.pid.map_or(String::new(), |pid| format!("worker {pid}"));
    let sections = [
        ("host", &report.host),
        (of_worker.as_str(), &report.worker),
        ("self-test, on a worker of our own", &report.self_test),
    ];
    let mut lines = vec![format!("openrtc-probe {} doctor", report.version)];
    for (title, checks) in sections.into_iter().filter(|(_, checks)| !checks.is_empty()) {
        lines.extend([String::new(), title.to_owned()]);
        let checks = checks.iter().enumerate();
        lines.extend(checks.clone().flat_map(|(at, check)| {
            let earlier = checks.clone().take(at).map(|(_, check)| check);
            said(check, earlier)
        }));
    }
    lines.push(String::new());
    lines.extend(wrap(&summary(report), WIDTH));
    lines.push(String::new());
    lines.join("\n")
}

/// The lines of one check. One cause has several symptoms: a hint that an `earlier` check of the section
/// has given is not repeated.
fn said<'a>(check: &Check, mut earlier: impl Iterator<Item = &'a Check>) -> Vec<String> {
    let room = WIDTH - FOUND_AT;
    let mut said = wrap(&harmless(&check.found), room);
    if let Some(hint) = &check.hint {
        let hint = match earlier.find(|earlier| earlier.hint.as_ref() == Some(hint)) {
            Some(earlier) => format!("hint: as for {}", earlier.id),
            None => format!("hint: {}", harmless(hint)),
        };
        said.extend(wrap(&hint, room));
    }
    let head = format!("  {:<8} {:<22} ", check.verdict.word(), check.id);
    let heads = std::iter::once(head.as_str()).chain(std::iter::repeat(""));
    let lines = heads.zip(said).map(|(head, said)| format!("{head:<FOUND_AT$}{said}"));
    lines.map(|line| line.trim_end().to_owned()).collect()
}

/// A sentence on lines of at most `columns`, longer words on lines of their own; never none.
fn wrap(sentence: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in sentence.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if width(line) + 1 + width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The verdict of the whole, and the names of what failed.
fn summary(report: &Report) -> String {
    let failed: Vec<&str> =
        report.checks().filter(|check| check.is_failed()).map(|check| check.id).collect();
    let not_run = report.checks().filter(|check| check.verdict == Verdict::NotRun).count();
    let rest = if not_run > 0 { format!(" ({not_run} not run)") } else { String::new() };
    match (failed.as_slice(), report.exit_code()) {
        ([], _) => format!("nothing keeps openrtc-probe from its work{rest}"),
        (failed, code) => {
            let whose = match code {
                2 => "this is no process to look at",
                3 => "this host cannot",
                4 => "this worker cannot",
                _ => "something failed",
            };
            format!("{whose}: {}{rest}", failed.join(", "))
        }
    }
}

/// The report as one JSON object, without a newline.
pub fn json(report: &Report) -> String {
    let checks: Vec<_> = report.checks().map(CheckObject::of).collect();
    let capacity = 128 + checks.len() * CHECK_BYTES;
    let (version, pid, exit_code) = (report.version, report.pid, report.exit_code());
    line(&ReportLine { r#type: "doctor", schema: 1, version, pid, exit_code, checks }, capacity)
}

#[derive(Serialize)]
struct ReportLine<'a> {
    r#type: &'static str,
    schema: u32,
    version: &'a str,
    pid: Option<i32>,
    exit_code: u8,
    checks: Vec<CheckObject<'a>>,
}

#[derive(Serialize)]
struct CheckObject<'a> {
    id: &'a str,
    status: &'a str,
    found: &'a str,
    hint: Option<&'a str>,
}

impl<'a> CheckObject<'a> {
    fn of(check: &'a Check) -> Self {
        let status = check.verdict.word();
        Self { id: check.id, status, found: &check.found, hint: check.hint.as_deref() }
    }
}
