//! The live view in a terminal: [`Terminal`] with the probe in it, and whether it was given back.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::{
    say,
    setting::Setting,
    terminal::{self, Terminal},
    worker::Worker,
};

/// The table appears when the probe is attached, and changes at the next refresh.
pub const SOON: Duration = Duration::from_secs(20);
/// Its size where a test does not mind.
pub const COLUMNS: u16 = 120;
/// The same.
pub const LINES: u16 = 30;

/// A hot session, one that blocks the loop, and three others.
pub const WORKER: &str =
    "sessions.py --sessions 5 --hot 1 --hot-burn-us 2000 --block 1 --block-every-s 1";

/// Runs a test in a terminal where there is one.
pub fn in_a_terminal(test: impl Fn(&Setting, &Worker) -> Result<()>) -> Result<()> {
    if !terminal::is_available() {
        ensure!(!say::in_ci(), "CI=true, and there is no tmux");
        say::not_run("the live table", "there is no tmux");
        return Ok(());
    }
    let setting = Setting::from_environment()?;
    let worker = Worker::start(&setting, setting.usual(), WORKER)?;
    test(&setting, &worker)
}

/// A script that runs a command and says afterwards how it ended, and whether the terminal's settings
/// are what they were.
pub fn script(command: &str) -> String {
    format!(
        "echo BEFORE; before=$(stty -g); {command}; code=$?; \
         after=$(stty -g); [ \"$before\" = \"$after\" ] && same=yes || same=no; \
         echo code=$code same=$same; read wait"
    )
}

/// The command that shows the live view of a worker, five times a second, with each poll accounted.
pub fn probe(setting: &Setting, worker: &Worker) -> String {
    let file = setting.probe_file().display();
    format!("'{file}' --pid {} --mode exact --refresh-rate 5", worker.pid)
}

/// Starts a script that runs the probe, and waits for its table.
pub fn start_script(worker: &Worker, script: &str) -> Result<Terminal> {
    let terminal = Terminal::start(COLUMNS, LINES, script)?;
    let hot = session(worker, "hot")?;
    terminal.wait_for("live table", SOON, |screen| screen.contains(&hot))?;
    Ok(terminal)
}

/// Starts the probe.
pub fn start(setting: &Setting, worker: &Worker) -> Result<Terminal> {
    start_script(worker, &script(&probe(setting, worker)))
}

/// Starts the probe as a job of a shell. When the job has stopped, the shell sets the terminal as it
/// wants it, as those do that people type into, and continues the job at a key.
pub fn start_job(setting: &Setting, worker: &Worker) -> Result<Terminal> {
    let probe = probe(setting, worker);
    let again = "echo stopped=$? alike=$([ $before = $(stty -g) ] && echo yes || echo no); \
                 stty $before; read go; fg";
    start_script(worker, &format!("set -m; {}", script(&format!("{probe}; {again}"))))
}

/// A session of this kind, as the worker said.
pub fn session(worker: &Worker, kind: &str) -> Result<String> {
    let id = worker.ready[kind][0].as_str();
    Ok(id.with_context(|| format!("no session is {kind}"))?.to_owned())
}

/// The shell is there again, as it was: exit code 0, the same settings, its own screen, its cursor.
pub fn is_given_back(terminal: &Terminal) -> Result<()> {
    is_given_back_with(terminal, 0).map(drop)
}

/// The same with another exit code; what is on the screen.
pub fn is_given_back_with(terminal: &Terminal, code: i32) -> Result<String> {
    let screen = terminal.wait_for("end", SOON, |screen| screen.contains("code="))?;
    let expected = format!("code={code} same=yes");
    ensure!(screen.contains(&expected), "it ended otherwise:\n{screen}");
    is_the_shells(terminal, &screen)?;
    Ok(screen)
}

/// Its own screen, its cursor, its mouse.
pub fn is_the_shells(terminal: &Terminal, screen: &str) -> Result<()> {
    ensure!(screen.starts_with("BEFORE"), "the screen is not what it was:\n{screen}");
    for (fact, value) in [
        ("alternate_on", "0"),
        ("cursor_flag", "1"),
        ("mouse_any_flag", "0"),
        ("mouse_sgr_flag", "0"),
    ] {
        let found = terminal.fact(fact)?;
        ensure!(found == value, "{fact} is {found}");
    }
    Ok(())
}
