//! How the daemon says that it cannot: an error and a hint, and nothing else.

use std::process::Output;

use anyhow::{Context as _, Result, ensure};

/// Two lines on standard error, the error with these words and a hint with that one, nothing on standard output,
/// this exit code.
pub fn check(output: &Output, code: i32, words: &[&str], hint: &str) -> Result<()> {
    said(output, code, words, hint).with_context(|| format!("{output:?}"))
}

fn said(output: &Output, code: i32, words: &[&str], hint: &str) -> Result<()> {
    ensure!(output.stdout.is_empty(), "it printed something on stdout");
    let text = String::from_utf8(output.stderr.clone()).context("not UTF-8")?;
    let lines: Vec<_> = text.lines().collect();
    ensure!(lines.len() == 2, "these are {} lines, not two", lines.len());
    ensure!(lines[0].starts_with("error: "), "the first line is no error");
    for word in words {
        ensure!(lines[0].contains(word), "{word:?} is not in the error");
    }
    let told = lines[1].strip_prefix("hint: ").context("the second line is no hint")?;
    ensure!(told.contains(hint), "{hint:?} is not in the hint");
    ensure!(output.status.code() == Some(code), "the exit code is not {code}");
    Ok(())
}
