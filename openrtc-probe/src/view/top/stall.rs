//! Everything that is known of one stall.

use ratatui::text::Line;

use crate::model::{Anatomy, Capture, Class, Frame, Stall};
use crate::view::bars::{Part, stacked};
use crate::view::dump::{frames, known, partial};
use crate::view::harmless::harmless;
use crate::view::log_line::file_and_line;
use crate::view::top::palette::Palette;
use crate::view::top::text::Text;
use crate::view::units::{Number, UNKNOWN, percent, rfc3339, span};

/// What fills a bar where a thread ran, waited for a CPU, or slept.
pub(super) const FILLS: [(char, &str); 3] = [('█', "on-cpu"), ('▒', "run-queue"), ('·', "off-cpu")];
/// What fills the bar of a stall's time, for each class of [`Class::ALL`].
const FILL_OF: &[(Class, char)] = &[
    (Class::Cpu, '█'),
    (Class::Sleep, 'z'),
    (Class::Lock, 'L'),
    (Class::Gil, 'G'),
    (Class::Io, 'I'),
    (Class::Wait, 'W'),
    (Class::PageFault, 'P'),
    (Class::RunQueue, '▒'),
    (Class::Throttled, 'T'),
    (Class::Stopped, 'S'),
    (Class::Other, 'o'),
    (Class::Unknown, '?'),
];
/// The widest bar: wider ones tell no more.
pub(super) const WIDEST_BAR: usize = 72;
/// Bystanders that are named; the others are counted.
const NAMED: usize = 20;
/// Folders of a path that a capture's line tells.
const FOLDERS: usize = 1;
/// How far lines below the first stand in.
const INDENT: usize = 2;

/// A stall in full: why, for how long, at which line, and who had to wait.
pub(super) fn stall_details(stall: &Stall, palette: Palette, columns: u16) -> Vec<Line<'static>> {
    let mut text = Text::new(columns);
    let style = if stall.ongoing { palette.alarm() } else { Palette::HEADING };
    text.styled(&head(stall), style);
    text.facts(INDENT, &when(stall));
    split(&mut text, stall);
    text.facts(INDENT, &who_waited(stall));
    on_what(&mut text, &stall.anatomy);
    stack(&mut text, &stall.anatomy);
    captures(&mut text, &stall.anatomy);
    bystanders(&mut text, &stall.anatomy);
    text.into_lines()
}

/// A bar of parts and, below it, what each is; nothing of no time.
pub(super) fn bar_with_legend(text: &mut Text, parts: &[(char, &str, u64)]) {
    let fills: Vec<Part> = parts.iter().map(|(fill, _, ns)| (*fill, *ns)).collect();
    let sum: u64 = fills.iter().fold(0, |sum, (_, ns)| sum.saturating_add(*ns));
    if sum == 0 {
        return;
    }
    let width = text.columns().saturating_sub(2 * INDENT).min(WIDEST_BAR);
    text.say(&format!("{}{}", " ".repeat(INDENT), stacked(&fills, width)));
    let legend = parts.iter().filter(|(_, _, ns)| *ns > 0).map(|(fill, name, ns)| {
        let share = Number::new(percent(*ns as f64 / sum as f64), 1).full();
        format!("{fill} {name} {} {share} %", span(*ns))
    });
    text.facts(INDENT, &legend.collect::<Vec<_>>());
}

/// How long, why, and where.
fn head(stall: &Stall) -> String {
    let anatomy = &stall.anatomy;
    let bound = if stall.is_lower_bound { "≥" } else { "" };
    let verb = if stall.ongoing { "blocks the loop for" } else { "blocked the loop for" };
    let so_far = if stall.ongoing { " so far" } else { "" };
    let who = stall.session_id.as_deref().map_or("(untagged)".into(), harmless);
    let cut = if stall.id_is_cut { "…" } else { "" };
    let why = match (anatomy.causes.first().map(Class::name), anatomy.causes.syscall()) {
        (Some(class), Some(syscall)) => format!(": {class} ({syscall})"),
        (Some(class), None) => format!(": {class}"),
        (None, _) => String::new(),
    };
    let place = anatomy.stack().and_then(|stack| stack.place());
    let place = place.map_or_else(String::new, |frame| format!(" at {}", place_of(frame)));
    format!("{who}{cut} {verb} {bound}{}{so_far}{why}{place}", span(stall.duration_ns))
}

fn place_of(frame: &Frame) -> String {
    format!("{} in {}", file_and_line(frame, FOLDERS), known(&frame.function))
}

/// When it was, and how often.
fn when(stall: &Stall) -> Vec<String> {
    let began = rfc3339(stall.started_at_unix_ns).unwrap_or(UNKNOWN.into());
    let name = |what: &str, name: Option<&str>| name.map(|name| format!("{what} {}", known(name)));
    let repeats = &stall.repeats;
    let again = (repeats.count > 1).then(|| {
        let over = repeats.last_unix_ns.saturating_sub(repeats.first_unix_ns).max(0);
        let over = span(u64::try_from(over).unwrap_or(u64::MAX));
        let total = span(repeats.total_ns);
        format!("{} times within {over}, this is the worst, {total} in all", repeats.count)
    });
    let facts = [
        Some(format!("began {began}")),
        again,
        name("agent", stall.agent_name.as_deref()),
        name("tenant", stall.tenant.as_deref()),
        (stall.pid != 0).then(|| format!("pid {}", stall.pid)),
    ];
    facts.into_iter().flatten().collect()
}

/// Its time by cause; where no cause is known, by what the thread did.
fn split(text: &mut Text, stall: &Stall) {
    let name = |class: Class, ns| {
        let fill = FILL_OF.iter().find(|(of, _)| *of == class).map_or('?', |(_, fill)| *fill);
        (fill, class.name(), ns)
    };
    let mut parts: Vec<_> =
        stall.anatomy.causes.iter().map(|(class, ns)| name(class, ns)).collect();
    if parts.is_empty() {
        let ns = [stall.on_cpu_ns, stall.run_queue_ns, stall.off_cpu_ns];
        parts = FILLS.iter().zip(ns).map(|((fill, name), ns)| (*fill, *name, ns)).collect();
    }
    bar_with_legend(text, &parts);
}

/// Who had to wait, and what was taken from the machine.
fn who_waited(stall: &Stall) -> Vec<String> {
    let late = match &stall.anatomy.late {
        None if stall.ongoing => "who has to wait is known when it ends".into(),
        None => "bystanders –".into(),
        Some(late) if late.count == 0 => "no other session had to wait".into(),
        Some(late) => format!(
            "bystanders {}, each late by at most {}, {} of session time lost",
            late.count,
            span(late.each_ns),
            span(late.total_ns())
        ),
    };
    let stolen = match stall.anatomy.stolen_ns {
        None => "stolen by the hypervisor –".into(),
        Some(0) => "stolen by the hypervisor nothing".into(),
        Some(ns) => format!("stolen by the hypervisor ≤ {}", span(ns)),
    };
    vec![late, stolen]
}

fn bystanders(text: &mut Text, anatomy: &Anatomy) {
    let Some(late) = anatomy.late.as_ref().filter(|late| !late.session_ids.is_empty()) else {
        return;
    };
    let mut ids: Vec<String> =
        late.session_ids.iter().take(NAMED).map(|id| known(id).into_owned()).collect();
    let rest = (late.count as usize).saturating_sub(ids.len());
    if rest > 0 {
        ids.push(format!("and {rest} more"));
    }
    text.say("  who had to wait");
    text.facts(2 * INDENT, &ids);
}

/// What it waited for, and who had it.
fn on_what(text: &mut Text, anatomy: &Anatomy) {
    let holder = anatomy.gil_holder().map(|holder| {
        let session = holder.session_id.as_deref();
        let of = session.map_or(String::new(), |id| format!(" of {}", known(id)));
        format!("the interpreter's lock was held by thread {}{of}", holder.tid)
    });
    let held = anatomy.last().and_then(|capture| capture.gil_held).filter(|_| holder.is_none());
    let held = held.map(|held| {
        let verb = if held { "held" } else { "did not hold" };
        format!("it {verb} the interpreter's lock (GIL) at the last look")
    });
    let cpu = anatomy.cpu_holder.as_ref().map(|process| {
        let name = process.name.as_deref().map_or(UNKNOWN.into(), known);
        format!("the CPU was taken by {name} (pid {})", process.pid)
    });
    let facts = [
        anatomy.descriptor().map(|what| format!("waited for {}", known(what))),
        anatomy.native().map(|what| format!("in native code {}", known(what))),
        holder,
        held,
        cpu,
    ];
    text.facts(INDENT, &facts.into_iter().flatten().collect::<Vec<_>>());
}

/// The Python stack of the latest look that found one.
fn stack(text: &mut Text, anatomy: &Anatomy) {
    let found = |capture: &&Capture| capture.stack.is_some();
    let Some(capture) = anatomy.captures.iter().rev().find(found) else {
        text.styled("  no Python stack was read", Palette::PAST);
        return;
    };
    let Some(stack) = &capture.stack else { return };
    text.say(&format!("  stack after {}, innermost first", span(capture.at_ns)));
    if !stack.is_complete {
        text.say(&partial());
    }
    text.all(&frames(&stack.frames));
}

/// Where every look found it, where there are several.
fn captures(text: &mut Text, anatomy: &Anatomy) {
    if anatomy.captures.len() < 2 {
        return;
    }
    text.say("  where it was, look by look");
    for capture in &anatomy.captures {
        let place = capture.stack.as_ref().and_then(|stack| stack.place());
        let place = place.map_or(UNKNOWN.into(), place_of);
        let native = capture.native.as_deref().map(|native| format!("  {}", known(native)));
        let native = native.unwrap_or_default();
        let line = format!("    {:<7}  {place}{native}", span(capture.at_ns));
        text.say(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_fill_of_its_own() {
        for class in Class::ALL {
            assert_eq!(FILL_OF.iter().filter(|(of, _)| *of == class).count(), 1, "{class:?}");
        }
        let fills: std::collections::BTreeSet<_> = FILL_OF.iter().map(|(_, fill)| fill).collect();
        assert_eq!(fills.len(), Class::ALL.len());
    }
}
