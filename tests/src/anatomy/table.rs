//! The stalls of one run as text: a line for each kind, what was expected and what was told.

use std::fmt::Write as _;

use super::judge::Seen;
use super::kinds::Expected;
use super::marks::Marks;
use crate::said::Anatomy;

/// Above the lines.
pub fn head() -> String {
    line(&["kind", "expected", "at lines", "told", "at line", "really ms", "split in ms", ""])
}

/// One that was made.
pub fn seen(expected: &Expected, seen: &Seen, marks: &Marks, faults: &[String]) -> String {
    let lines = lines(seen, marks);
    let cause = if expected.cause.is_empty() { "(its parts)" } else { expected.cause };
    let really = format!("{:.1} of {:.1}", seen.real_ms(expected), seen.truth.wall_ms);
    let mut text = if let Some(anatomy) = &seen.told.anatomy {
        line(&[
            expected.kind,
            cause,
            &lines,
            &told(anatomy),
            &at(anatomy),
            &really,
            &split(anatomy),
            if faults.is_empty() { "ok" } else { "WRONG" },
        ])
    } else {
        let told = &seen.told;
        let (on_ms, off_ms, wait_ms) = (told.on_cpu_ms, told.off_cpu_ms, told.run_queue_ms);
        let split = format!("on {on_ms:.1} off {off_ms:.1} run-queue {wait_ms:.1}");
        line(&[expected.kind, cause, &lines, "nothing", "", &really, &split, "WRONG"])
    };
    for fault in faults {
        let _ = writeln!(text, "    {fault}");
    }
    text
}

/// One that could not be.
pub fn other(expected: &Expected, what: &str) -> String {
    line(&[expected.kind, expected.cause, "", what, "", "", "", ""])
}

fn line(cells: &[&str; 8]) -> String {
    let [kind, expected, lines, told, at, really, split, verdict] = cells;
    let text = format!(
        "  {kind:<15}{expected:<12}{lines:<20}{told:<32}{at:<26}{really:<16}{split:<44}{verdict}"
    );
    format!("{}\n", text.trim_end())
}

/// The first and the last line of each part.
fn lines(seen: &Seen, marks: &Marks) -> String {
    let found = seen.truth.parts.iter().filter_map(|part| marks.demand(&part.mark).ok());
    let shown = found.filter_map(|mark| {
        let (first, last) = (mark.lines.first()?, mark.lines.last()?);
        Some(if first == last { first.to_string() } else { format!("{first}-{last}") })
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// The class, with its call and what that is about.
fn told(anatomy: &Anatomy) -> String {
    let cause = anatomy.cause.as_deref().unwrap_or("unknown");
    let call = match (&anatomy.syscall, &anatomy.descriptor) {
        (Some(call), Some(descriptor)) => format!("({call}: {descriptor})"),
        (Some(call), None) => format!("({call})"),
        (None, Some(descriptor)) => format!("(: {descriptor})"),
        (None, None) => String::new(),
    };
    format!("{cause}{call}")
}

fn at(anatomy: &Anatomy) -> String {
    let Some(frame) = anatomy.users() else { return "unknown".to_owned() };
    let file = frame.file.as_deref().and_then(|file| file.rsplit('/').next()).unwrap_or("?");
    let line = frame.line.map_or_else(|| "?".to_owned(), |line| line.to_string());
    format!("{file}:{line} {}", anatomy.native.as_deref().unwrap_or_default())
}

/// The classes, the longest first.
fn split(anatomy: &Anatomy) -> String {
    let mut classes: Vec<_> = anatomy.causes_ms.iter().collect();
    classes.sort_by(|a, b| b.1.total_cmp(a.1));
    let classes: Vec<_> = classes.iter().map(|(class, ms)| format!("{class} {ms:.1}")).collect();
    classes.join(" ")
}
