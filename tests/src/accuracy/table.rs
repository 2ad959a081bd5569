//! One run as text: three columns, then the demands.

use std::fmt::Write as _;

use super::compare::{Accounts, COUNTED_S, Errors, Outcome, Row, ratio_off};
use super::stalls::Tally;
use crate::setting::{Interpreter, Loop};
use crate::truth::Truth;

/// The whole table.
pub fn render(
    interpreter: &Interpreter,
    kind: Loop,
    accounts: &Accounts,
    outcome: &Outcome,
) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", title(interpreter, kind, outcome));
    for [what, truth, ours, theirs] in lines(outcome) {
        let _ = writeln!(text, "  {what:<36}{truth:>9}  {ours:<32}{theirs}");
    }
    for note in notes(accounts, outcome) {
        let _ = writeln!(text, "  {note}");
    }
    for verdict in &outcome.verdicts {
        let word = if verdict.pass { "PASS" } else { "FAIL" };
        let _ = writeln!(text, "  {word}  {}", verdict.demand);
    }
    text.push('\n');
    text
}

fn title(interpreter: &Interpreter, kind: Loop, outcome: &Outcome) -> String {
    let boundary = match kind {
        Loop::Asyncio => "measured at the callback boundary",
        Loop::Uvloop => "measured just inside the callbacks",
    };
    let stripped = if interpreter.stripped { ", stripped" } else { "" };
    format!(
        "{} (Python {}{stripped}), {}, {:.1} s, {} sessions; truth {boundary}",
        interpreter.name,
        interpreter.version,
        kind.name(),
        outcome.span_s,
        outcome.rows.len(),
    )
}

fn lines(outcome: &Outcome) -> Vec<[String; 4]> {
    let of = |found: f64| format!("{found:.2} ({})", percent(ratio_off(found, outcome.truth_s)));
    let worst = |errors: &Errors| format!("{} {}", percent(errors.worst), errors.worst_of);
    let mean = |errors: &Errors| format!("{:.2} %", errors.mean * 100.0);
    let line = |what: &str, truth: String, ours: String, theirs: String| {
        [what.to_owned(), truth, ours, theirs]
    };
    let none = String::new;
    let (ours, theirs) = (&outcome.our_stalls, outcome.their_stalls);
    let their = |show: fn(&Tally) -> String| theirs.as_ref().map_or_else(none, show);
    vec![
        line("", "worker".to_owned(), "openrtc-probe".to_owned(), "OpenRTC in process".to_owned()),
        line(
            "CPU seconds, all sessions",
            format!("{:.2}", outcome.truth_s),
            of(outcome.ours_s),
            of(outcome.theirs_s),
        ),
        line(
            &format!("sessions with over {COUNTED_S} s"),
            outcome.counted.to_string(),
            none(),
            none(),
        ),
        line("  mean error", none(), mean(&outcome.our_errors), mean(&outcome.their_errors)),
        line("  worst error", none(), worst(&outcome.our_errors), worst(&outcome.their_errors)),
        line("worst error of off-CPU and run queue", none(), worst_wait(outcome), none()),
        line("stalls reported", ours.real.to_string(), ours.reported.to_string(), {
            their(|tally| tally.reported.to_string())
        }),
        line("  found", none(), found(ours), their(found)),
        line("  with the right session", none(), ours.right.to_string(), {
            their(|tally| tally.right.to_string())
        }),
        line("  of nothing", none(), ours.invented.to_string(), {
            their(|tally| tally.invented.to_string())
        }),
        line("  worst error of a duration", none(), worst_ms(ours), their(worst_ms)),
        line("  reported while it still ran", none(), ours.early.to_string(), none()),
    ]
}

/// Whose waits are told worst, and by how much.
fn worst_wait(outcome: &Outcome) -> String {
    let off = |row: &Row| (row.our_wait_s - row.true_wait_s).abs();
    let worst = outcome.rows.iter().max_by(|a, b| off(a).total_cmp(&off(b)));
    worst.map_or_else(String::new, |row| {
        let (ours, truth) = (row.our_wait_s * 1e3, row.true_wait_s * 1e3);
        format!("{ours:.1} ms of {truth:.1} ms {}", row.session)
    })
}

fn found(tally: &Tally) -> String {
    format!("{} of {}", tally.found, tally.real)
}

fn worst_ms(tally: &Tally) -> String {
    if tally.found == 0 { "–".to_owned() } else { format!("{:.2} ms", tally.worst_error_ms) }
}

fn percent(ratio: f64) -> String {
    format!("{:+.2} %", ratio * 100.0)
}

fn notes(accounts: &Accounts, outcome: &Outcome) -> Vec<String> {
    let (first, last) = (&accounts.first, &accounts.last);
    let seconds = |ns: i64| ns as f64 / 1e9;
    let span = |value: fn(&Truth) -> i64| seconds(value(last) - value(first));
    let delay_ms = |truth: &Truth| (truth.taken_ns - truth.at_ns) as f64 / 1e6;
    let mut notes = vec![
        format!(
            "worker: {:.2} s CPU, its loop's thread {:.2} s, of that in sessions {:.2} s; probe off by \
             {:+.0} ns per callback",
            span(|truth| truth.process_cpu_ns),
            span(|truth| truth.loop_thread_cpu_ns),
            span(Truth::sessions_cpu_ns),
            outcome.our_error_per_poll_ns(),
        ),
        format!(
            "truth taken back to the snapshots' instants, by {:.1} and {:.1} ms; spans {:.3} s and \
             {:.3} s",
            delay_ms(first),
            delay_ms(last),
            outcome.span_s,
            accounts.last_snapshot.elapsed_s - accounts.first_snapshot.elapsed_s,
        ),
    ];
    notes.push(format!(
        "up to {:.2} s were stolen from the machine: on-CPU to the probe, nothing to the worker's clock",
        accounts.stolen_s
    ));
    if let Some(accounted) = accounts.last_snapshot.worker.accounted_pct {
        notes.push(format!("probe accounts for {accounted:.1} % of the process's CPU"));
    }
    for (cause, count) in accounts.last_snapshot.lost.iter().filter(|(_, count)| **count != 0) {
        notes.push(format!("probe lost {count} ({cause})"));
    }
    notes
}

/// Every session, the most CPU first.
pub fn render_each(outcome: &Outcome) -> String {
    let mut text = String::new();
    for row in &outcome.rows {
        let _ = writeln!(
            text,
            "  {:<20}{:>9.4} s{:>9.4} s {:>10}{:>9.4} s {:>10}{:>8} polls",
            row.session,
            row.truth_s,
            row.ours_s,
            percent(row.our_error()),
            row.theirs_s,
            percent(row.their_error()),
            row.polls,
        );
    }
    text.push('\n');
    text
}
