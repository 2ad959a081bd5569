//! Lines that the test runner does not swallow, also when the test passes.

use std::io::Write as _;

/// Says something worth knowing of this run.
pub fn note(what: &str) {
    // Straight to the stream: what goes through `println!` is shown for failed tests only. If nobody
    // listens, nobody is missing it.
    let _ = writeln!(std::io::stderr(), "    {what}");
}

/// Says what this machine cannot run.
pub fn not_run(what: &str, why: &str) {
    note(&format!("NOT RUN: {what}: {why}"));
}

/// Whether nothing may be missing.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}
