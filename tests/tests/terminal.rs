//! The live table in a terminal: it appears, obeys its keys, and gives the terminal back.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{
    Signal::{self, SIGHUP, SIGSTOP, SIGTERM, SIGTSTP},
    kill,
};
use nix::unistd::Pid;
use openrtc_probe::view::top::Live;
use openrtc_tests::{
    live::{
        COLUMNS, LINES, SOON, in_a_terminal, is_given_back, is_given_back_with, is_the_shells,
        probe, script, session, start, start_job, start_script,
    },
    process::only_child,
    say,
    terminal::{self, Terminal},
    worker::Worker,
};

#[test]
fn the_table_shows_who_is_hot_and_who_blocks() -> Result<()> {
    in_a_terminal(|setting, worker| {
        let terminal = start(setting, worker)?;
        ensure!(terminal.fact("alternate_on")? == "1", "it draws over the user's screen");
        let (hot, blocks) = (session(worker, "hot")?, session(worker, "block")?);
        let has = |line: &str, words: &[&str]| words.iter().all(|word| line.contains(word));
        terminal.wait_for("slow session and its stall", SOON, |screen| {
            screen.lines().any(|line| has(line, &[&blocks, "slow"]))
                && screen.lines().any(|line| has(line, &[&blocks, " ago"]))
                && screen.lines().any(|line| has(line, &[&hot, "active"]))
        })?;
        let screen = terminal.wait_for("footer", SOON, |screen| screen.contains("accounted "))?;
        for part in ["pid ", "python 3.", "(untagged)", "lost: nothing", "q quit"] {
            ensure!(screen.contains(part), "no {part:?} on\n{screen}");
        }
        // It is refreshed in place.
        let attached = |screen: &str| {
            screen.find("attached ").map(|at| screen[at..].chars().take(20).collect::<String>())
        };
        let before = attached(&screen);
        terminal.wait_for("next refresh", SOON, |screen| attached(screen) != before)?;
        terminal.press("q")?;
        is_given_back(&terminal)
    })
}

#[test]
fn keys_sort_filter_and_help() -> Result<()> {
    in_a_terminal(|setting, worker| {
        let terminal = start(setting, worker)?;
        let (hot, blocks) = (session(worker, "hot")?, session(worker, "block")?);
        terminal.wait_for("hot session on top", SOON, |screen| {
            // The verdict above the table names a session too.
            let is_row = |line: &&str| line.trim_start_matches(['!', ' ']).starts_with("1 AJ_");
            let first = screen.lines().find(is_row);
            screen.contains("sort cpu_pct") && first.is_some_and(|line| line.contains(&hot))
        })?;
        terminal.press("s")?;
        terminal.wait_for("next order", SOON, |screen| screen.contains("sort duration_s"))?;
        terminal.press("f")?;
        terminal.wait_for("active ones", SOON, |screen| screen.contains("status active"))?;
        terminal.press("f")?;
        terminal.wait_for("slow one alone", SOON, |screen| {
            screen.contains("status slow") && screen.contains(&blocks) && !screen.contains(&hot)
        })?;
        terminal.press("?")?;
        let is_help = |screen: &str| screen.contains("keys and columns");
        terminal.wait_for("help", SOON, is_help)?;
        terminal.press("Escape")?;
        terminal.wait_for("table again", SOON, |screen| !is_help(screen))?;
        terminal.press("q")?;
        is_given_back(&terminal)
    })
}

#[test]
fn it_fits_any_size() -> Result<()> {
    in_a_terminal(|setting, worker| {
        let terminal = start(setting, worker)?;
        for (columns, lines) in [(80, 24), (40, 20), (20, 6), (200, 50)] {
            terminal.resize(columns, lines)?;
            let what = format!("table of {columns} by {lines}");
            terminal.wait_for(&what, SOON, |screen| {
                let widest = screen.lines().map(|line| line.chars().count()).max();
                let drawn = screen.lines().filter(|line| !line.trim().is_empty()).count();
                // A screen of the new size, drawn to its last line.
                let is_full = screen.lines().count() >= usize::from(lines) && drawn > 3;
                is_full && widest <= Some(columns.into()) && screen.contains("pid ")
            })?;
        }
        // A narrow one had no room for all columns; they are back.
        terminal.wait_for("wide table", SOON, |screen| screen.contains("longest(ms)"))?;
        terminal.press("q")?;
        // The lines that tmux itself puts back into a larger terminal are its own affair.
        let is_over =
            |screen: &str| screen.contains("BEFORE") && screen.contains("code=0 same=yes");
        terminal.wait_for("end", SOON, is_over).map(drop)
    })
}

#[test]
fn control_c_and_signals_give_the_terminal_back() -> Result<()> {
    in_a_terminal(|setting, worker| {
        let terminal = start(setting, worker)?;
        ensure!(terminal.fact("mouse_standard_flag")? == "1", "the mouse is not heard");
        terminal.press("C-c")?;
        is_given_back(&terminal).context("Ctrl-C")?;
        for signal in [SIGTERM, SIGHUP] {
            let terminal = start(setting, worker)?;
            send(&terminal, signal)?;
            is_given_back(&terminal).context(signal)?;
        }
        Ok(())
    })
}

/// Sends a signal to the only child of the terminal's shell.
fn send(terminal: &Terminal, signal: Signal) -> Result<()> {
    let shell: i32 = terminal.fact("pane_pid")?.parse()?;
    Ok(kill(Pid::from_raw(only_child(shell)?), signal)?)
}

/// The table is whole again, and hears keys one by one.
fn goes_on(terminal: &Terminal, worker: &Worker) -> Result<()> {
    terminal.press("Enter")?;
    let hot = session(worker, "hot")?;
    let is_table = |screen: &str| {
        let is_all = screen.contains(&hot) && screen.contains("q quit");
        // Of what a shell wrote nothing is left.
        is_all && !screen.contains("stopped=")
    };
    terminal.wait_for("table again", SOON, is_table)?;
    ensure!(terminal.fact("mouse_standard_flag")? == "1", "the mouse is not heard any more");
    terminal.press("?")?;
    terminal.wait_for("help", SOON, |screen| screen.contains("keys and columns"))?;
    terminal.press("Escape")?;
    terminal.wait_for("table without help", SOON, is_table)?;
    Ok(())
}

#[test]
fn it_stops_like_any_job_and_goes_on() -> Result<()> {
    in_a_terminal(|setting, worker| {
        for signal in [None, Some(SIGTSTP)] {
            let terminal = start_job(setting, worker)?;
            match signal {
                None => terminal.press("C-z")?,
                Some(signal) => send(&terminal, signal)?,
            }
            let screen = terminal.wait_for("shell", SOON, |screen| screen.contains("stopped="))?;
            ensure!(screen.contains("alike=yes"), "the settings are the table's:\n{screen}");
            is_the_shells(&terminal, &screen)?;
            goes_on(&terminal, worker)?;
            terminal.press("q")?;
            is_given_back(&terminal)?;
        }
        Ok(())
    })
}

/// SIGSTOP is not told: all that can be done is to draw all of it afterwards.
#[test]
fn it_goes_on_after_it_was_stopped_without_a_word() -> Result<()> {
    in_a_terminal(|setting, worker| {
        let terminal = start_job(setting, worker)?;
        send(&terminal, SIGSTOP)?;
        terminal.wait_for("shell", SOON, |screen| screen.contains("stopped="))?;
        goes_on(&terminal, worker)?;
        terminal.press("q")?;
        is_given_back(&terminal)
    })
}

/// A job that nobody could let go on does not stop: its shell ignores Ctrl-Z, so the kernel does.
#[test]
fn without_a_shell_that_can_continue_it_control_z_only_draws() -> Result<()> {
    in_a_terminal(|setting, worker| {
        let terminal = start_script(worker, &format!("exec {}", probe(setting, worker)))?;
        terminal.press("C-z")?;
        goes_on(&terminal, worker)?;
        terminal.press("q")?;
        terminal.wait_for("end", SOON, |screen| !screen.contains("q quit")).map(drop)
    })
}

/// Runs one of the ignored tests of this file in a terminal, once a key is pressed.
fn start_test(name: &str) -> Result<Option<Terminal>> {
    if !terminal::is_available() {
        ensure!(!say::in_ci(), "CI=true, and there is no tmux");
        say::not_run(name, "there is no tmux");
        return Ok(None);
    }
    let this = std::env::current_exe()?;
    // What it prints is to stay on the screen.
    let command = format!(
        "read go; RUST_BACKTRACE=0 '{}' --exact {name} --ignored --nocapture",
        this.display()
    );
    let terminal = Terminal::start(COLUMNS, LINES, &script(&command))?;
    terminal.press("Enter")?;
    Ok(Some(terminal))
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_read() -> Result<()> {
    let Some(terminal) = start_test("takes_the_terminal_and_panics")? else { return Ok(()) };
    let screen = is_given_back_with(&terminal, 101)?;
    ensure!(screen.contains("while the table is shown"), "the panic was not printed:\n{screen}");
    Ok(())
}

#[test]
#[ignore = "run in a terminal of its own by a_panic_gives_the_terminal_back_and_is_read"]
fn takes_the_terminal_and_panics() {
    let _live = Live::enter(true).unwrap();
    panic!("while the table is shown");
}

#[test]
fn what_is_copied_can_be_pasted_and_does_nothing() -> Result<()> {
    let Some(terminal) = start_test("takes_the_terminal_and_copies")? else { return Ok(()) };
    is_given_back(&terminal)?;
    ensure!(terminal.copied()? == "AJ_1\\n\\u{1b}é", "copied: {:?}", terminal.copied());
    Ok(())
}

#[test]
#[ignore = "run in a terminal of its own by what_is_copied_can_be_pasted_and_does_nothing"]
fn takes_the_terminal_and_copies() {
    let mut live = Live::enter(true).unwrap();
    assert!(live.copy("AJ_1\n\u{1b}é").unwrap());
    assert!(!live.copy(&"a".repeat(60_000)).unwrap(), "too long for some terminals");
}

#[test]
fn in_a_locale_that_is_not_utf8_there_is_only_ascii() -> Result<()> {
    in_a_terminal(|setting, worker| {
        let probe = format!("LC_ALL=C {}", probe(setting, worker));
        let terminal = start_script(worker, &script(&probe))?;
        // A bar with something in it.
        let is_table = |screen: &str| screen.contains(":....") && screen.contains("q quit");
        let screen = terminal.wait_for("table in ASCII", SOON, is_table)?;
        ensure!(screen.is_ascii(), "not all is ASCII:\n{screen}");
        terminal.press("?")?;
        let is_help = |screen: &str| screen.contains("keys and columns");
        let screen = terminal.wait_for("help", SOON, is_help)?;
        ensure!(screen.is_ascii(), "not all is ASCII:\n{screen}");
        terminal.press("q")?;
        is_given_back(&terminal)
    })
}

/// The worker's end is the table's.
#[test]
fn the_end_of_the_worker_gives_the_terminal_back() -> Result<()> {
    in_a_terminal(|setting, _| {
        let worker = Worker::start(setting, setting.usual(), "sessions.py --sessions 3 --hot 1")?;
        let terminal = start(setting, &worker)?;
        worker.end()?;
        is_given_back(&terminal)
    })
}
