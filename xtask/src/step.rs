//! One thing done, with a line before it (what) and a line after it (how long it took).

use std::{
    env,
    ffi::OsStr,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode, ExitStatus},
    time::Instant,
};

use anyhow::{Context, Result, bail};

/// Says one line about what xtask itself is doing.
pub fn say(line: &str) {
    eprintln!("xtask: {line}");
}

/// Whether nothing may be missing.
pub fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| value == "true")
}

/// Does one step and says how long it took.
pub fn timed<T>(what: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    say(&format!("{what} ..."));
    let started = Instant::now();
    let done = act()?;
    say(&format!("{what}: {:.1} s", started.elapsed().as_secs_f64()));
    Ok(done)
}

/// Runs a command as a step; its output passes through.
pub fn run(what: &str, command: &mut Command) -> Result<()> {
    timed(what, || {
        let status = status(command)?;
        if !status.success() {
            bail!("{what} failed ({status})");
        }
        Ok(())
    })
}

/// Runs a command to its end, whatever that is.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().with_context(|| format!("start {}", command.get_program().display()))
}

/// Runs a command and returns what it wrote to its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let name = || {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    };
    let name = name();
    let output = command.output().with_context(|| format!("start {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}): {}", output.status, said.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("read the output of {name}"))
}

/// The exit code to pass on, a signal's in the way that shells count it.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
