//! The live table in a terminal: it appears, obeys its keys, and gives the terminal back.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal::SIGTERM, kill};
use nix::unistd::Pid;
use openrtc_tests::{
    say,
    setting::Setting,
    terminal::{self, Terminal},
    worker::Worker,
};

/// The table appears when the probe is attached, and changes at the next refresh.
const SOON: Duration = Duration::from_secs(20);
const COLUMNS: u16 = 120;
const LINES: u16 = 30;

/// Runs a test in a terminal where there is one.
fn in_a_terminal(test: impl Fn(&Setting, &Worker) -> Result<()>) -> Result<()> {
    if !terminal::is_available() {
        ensure!(!say::in_ci(), "CI=true, and there is no tmux");
        say::not_run("the live table", "there is no tmux");
        return Ok(());
    }
    let setting = Setting::from_environment()?;
    let words = "sessions.py --sessions 5 --hot 1 --hot-burn-us 2000 --block 1 --block-every-s 1";
    let worker = Worker::start(&setting, setting.usual(), words)?;
    test(&setting, &worker)
}

/// Starts the probe from a shell that says afterwards how it ended, and whether the terminal's
/// settings are what they were.
fn start(setting: &Setting, worker: &Worker) -> Result<Terminal> {
    let probe = setting.probe_file().display();
    let script = format!(
        "echo BEFORE; before=$(stty -g); '{probe}' --pid {} --refresh-rate 5; code=$?; \
         after=$(stty -g); [ \"$before\" = \"$after\" ] && same=yes || same=no; \
         echo code=$code same=$same; read wait",
        worker.pid
    );
    let terminal = Terminal::start(COLUMNS, LINES, &script)?;
    let hot = session(worker, "hot")?;
    terminal.wait_for("live table", SOON, |screen| screen.contains(&hot))?;
    Ok(terminal)
}

fn session(worker: &Worker, kind: &str) -> Result<String> {
    let id = worker.ready[kind][0].as_str();
    Ok(id.with_context(|| format!("no session is {kind}"))?.to_owned())
}

/// The shell is there again, as it was: exit code 0, the same settings, its own screen, its cursor.
fn is_given_back(terminal: &Terminal) -> Result<()> {
    let screen = terminal.wait_for("end", SOON, |screen| screen.contains("code="))?;
    ensure!(screen.contains("code=0 same=yes"), "it ended otherwise:\n{screen}");
    ensure!(screen.starts_with("BEFORE"), "the screen is not what it was:\n{screen}");
    for (fact, value) in [("alternate_on", "0"), ("cursor_flag", "1")] {
        let found = terminal.fact(fact)?;
        ensure!(found == value, "{fact} is {found}");
    }
    Ok(())
}

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
            let first = screen.lines().find(|line| line.contains("AJ_"));
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
        is_given_back(&terminal)
    })
}

#[test]
fn control_c_and_sigterm_give_the_terminal_back() -> Result<()> {
    in_a_terminal(|setting, worker| {
        let terminal = start(setting, worker)?;
        terminal.press("C-c")?;
        is_given_back(&terminal).context("Ctrl-C")?;

        let terminal = start(setting, worker)?;
        let shell: i32 = terminal.fact("pane_pid")?.parse()?;
        kill(Pid::from_raw(child_of(shell)?), SIGTERM)?;
        is_given_back(&terminal).context("SIGTERM")
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

/// The only child of a process.
fn child_of(parent: i32) -> Result<i32> {
    let parent = parent.to_string();
    let pids = fs::read_dir("/proc")?.flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // `pid (name) state ppid`: the name may hold anything.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        fields.split_whitespace().nth(1) == Some(&parent)
    };
    pids.find(is_child).context("the shell has no child")
}
