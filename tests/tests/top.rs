//! The live view as somebody uses it who looks for a session that blocks: each key, in a terminal, against
//! a worker that runs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use openrtc_tests::{
    live::{SOON, in_a_terminal, is_given_back, probe, script, session, start, start_script},
    said::{self, Said},
    setting::Setting,
    terminal::Terminal,
    worker::Worker,
};

/// Waits until all of these are on the screen.
fn see(terminal: &Terminal, what: &str, parts: &[&str]) -> Result<String> {
    terminal.wait_for(what, SOON, |screen| parts.iter().all(|part| screen.contains(part)))
}

fn press(terminal: &Terminal, keys: &[&str]) -> Result<()> {
    keys.iter().try_for_each(|key| terminal.press(key))
}

/// Lines of the table that are about this session.
fn rows<'a>(screen: &'a str, id: &str) -> Vec<&'a str> {
    let is_row = |line: &&str| line.contains(id) && line.contains("active");
    screen.lines().filter(is_row).collect()
}

#[test]
fn a_session_is_filtered_opened_copied_and_left() -> Result<()> {
    in_a_terminal(|setting, worker| {
        let terminal = start(setting, worker)?;
        let (hot, blocks) = (session(worker, "hot")?, session(worker, "block")?);
        // A part of its id, in whatever case; what is typed works at once.
        terminal.press("/")?;
        see(&terminal, "prompt", &["filter (session, agent, tenant): _"])?;
        press(&terminal, &[&blocks.to_lowercase()[3..9]])?;
        let is_alone =
            |screen: &str| screen.contains("1 of 5 listed") && rows(screen, &hot).is_empty();
        terminal.wait_for("filtered table", SOON, is_alone)?;
        press(&terminal, &["Enter"])?;
        see(&terminal, "kept filter", &["filter ", "q quit"])?;

        press(&terminal, &["Enter"])?;
        // Who it is, what it used, what its tasks wait for at which line, how long its polls take.
        let parts = [
            "SESSION  lines 1-",
            blocks.as_str(),
            "time in polls since attach",
            "CPU, last minute",
            "stalls since attach",
            "Esc back",
        ];
        see(&terminal, "details", &parts)?;
        // With room for all of it.
        terminal.resize(120, 100)?;
        see(&terminal, "their end", &["polls by how long they took", "logarithm of the count"])?;
        see(&terminal, "its tasks", &["4 tasks", "waiting", "sessions.py:", "tick"])?;
        press(&terminal, &["y"])?;
        see(&terminal, "message", &["sent to the terminal's clipboard"])?;
        ensure!(terminal.copied()? == blocks, "copied: {:?}", terminal.copied()?);

        press(&terminal, &["Escape"])?;
        see(&terminal, "filtered table", &["1 of 5 listed"])?;
        press(&terminal, &["Escape"])?;
        see(&terminal, "all sessions", &["5 listed", &hot])?;
        press(&terminal, &["q"])?;
        is_given_back(&terminal)
    })
}

#[test]
fn every_stall_has_its_line_and_the_selected_one_its_stack() -> Result<()> {
    in_a_terminal(|setting, worker| {
        let terminal = start(setting, worker)?;
        let blocks = session(worker, "block")?;
        press(&terminal, &["Tab"])?;
        // A stall that went on when we attached may be nobody's; the next is on top, and has its owner.
        let is_its = |line: &str| line.contains(" ago") && line.contains(&blocks);
        let is_first = |screen: &str| {
            let mut below = screen.lines().skip_while(|line| !line.contains("total(ms)")).skip(1);
            below.next().is_some_and(is_its)
        };
        terminal.wait_for("stall of the one that blocks", SOON, is_first)?;
        press(&terminal, &["g"])?;
        let parts = ["total(ms)", "blocked the loop for", "worker_of.<locals>.block", "Esc back"];
        let screen = see(&terminal, "stalls with one in full", &parts)?;
        ensure!(screen.contains(&blocks), "not whose it is:\n{screen}");
        press(&terminal, &["Enter"])?;
        see(&terminal, "its session", &["SESSION  lines", &blocks])?;
        press(&terminal, &["Escape"])?;
        see(&terminal, "stalls again", &["total(ms)"])?;
        press(&terminal, &["Tab"])?;
        see(&terminal, "sessions again", &["(loop overhead)"])?;
        press(&terminal, &["q"])?;
        is_given_back(&terminal)
    })
}

/// How long it has been attached, as the screen says.
fn attached(screen: &str) -> Option<String> {
    let at = screen.find("attached ")?;
    Some(screen[at..].chars().take("attached 0:00:00".len()).collect())
}

#[test]
fn the_picture_is_held_and_the_rate_and_the_threshold_are_set() -> Result<()> {
    in_a_terminal(|setting, worker| {
        let terminal = start(setting, worker)?;
        press(&terminal, &["Space"])?;
        let held = attached(&see(&terminal, "held picture", &["PAUSED"])?);
        // Keys go on; the picture does not, for longer than it takes to change the second.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        press(&terminal, &["s"])?;
        let screen = see(&terminal, "other order", &["sort duration_s", "PAUSED"])?;
        ensure!(attached(&screen) == held, "the picture goes on:\n{screen}");
        press(&terminal, &["r"])?;
        let is_new = |screen: &str| screen.contains("PAUSED") && attached(screen) != held;
        let held = attached(&terminal.wait_for("one new picture", SOON, is_new)?);
        press(&terminal, &["Space"])?;
        let goes_on = |screen: &str| !screen.contains("PAUSED") && attached(screen) != held;
        terminal.wait_for("picture that goes on", SOON, goes_on)?;

        press(&terminal, &["+"])?;
        see(&terminal, "faster", &["10 pictures a second"])?;
        press(&terminal, &["-", "-"])?;
        see(&terminal, "slower", &["2 pictures a second"])?;

        press(&terminal, &["t", "0", "Enter"])?;
        see(&terminal, "refusal", &["\"0\" ms is no threshold: type 1 to 3600000"])?;
        press(&terminal, &["t", "4", "0", "0", "Enter"])?;
        see(&terminal, "new threshold", &["threshold 400 ms"])?;
        press(&terminal, &["e"])?;
        see(&terminal, "no ended ones", &["ended sessions are hidden"])?;
        press(&terminal, &["q"])?;
        is_given_back(&terminal)
    })
}

#[test]
fn a_picture_is_written_to_a_file_that_only_its_owner_reads() -> Result<()> {
    in_a_terminal(|setting, worker| {
        let folder = tempfile::tempdir()?;
        let command = format!("cd '{}'; {}", folder.path().display(), probe(setting, worker));
        let terminal = start_script(worker, &script(&command))?;
        see(&terminal, "stall", &[" ago"])?;
        press(&terminal, &["w"])?;
        see(&terminal, "message", &["written: "])?;
        press(&terminal, &["q"])?;
        // It is said again where it can be copied from.
        see(&terminal, "end", &["written: ", "code=0"])?;
        let mut files = fs::read_dir(folder.path())?;
        let file = files.next().context("no file was written")??.path();
        ensure!(files.next().is_none(), "there is more than one file");
        let mode = fs::metadata(&file)?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "its mode is {mode:o}");
        let text = fs::read_to_string(&file)?;
        let said: Vec<Said> =
            text.lines().map(|line| said::parse(line, 0)).collect::<Result<_>>()?;
        let [Said::Snapshot(snapshot), stalls @ ..] = &said[..] else {
            anyhow::bail!("it does not begin with a snapshot: {text:.200}");
        };
        ensure!(snapshot.sessions.len() == 5, "{} sessions", snapshot.sessions.len());
        ensure!(matches!(stalls, [Said::Stall(_), ..]), "without its stalls");
        Ok(())
    })
}

/// A button of the mouse, as a terminal tells it: counted from 1.
fn click(terminal: &Terminal, column: usize, line: usize) -> Result<()> {
    terminal.send(&format!("\x1b[<0;{column};{line}M\x1b[<0;{column};{line}m"))
}

#[test]
fn the_mouse_selects_opens_and_sorts() -> Result<()> {
    in_a_terminal(|setting, worker| {
        let terminal = start(setting, worker)?;
        let hot = session(worker, "hot")?;
        let screen = terminal.wait_for("hot row", SOON, |it| !rows(it, &hot).is_empty())?;
        let line = |text: &str| {
            let at = screen.lines().position(|line| line.contains(text));
            at.with_context(|| format!("no {text:?} on\n{screen}"))
        };
        let titles = line("CPU%")?;
        let title = screen.lines().nth(titles).and_then(|line| line.find("agent"));
        click(&terminal, title.context("no agents")? + 1, titles + 1)?;
        see(&terminal, "other order", &["sort agent_name ↑"])?;
        click(&terminal, title.context("no agents")? + 1, titles + 1)?;
        see(&terminal, "reverse order", &["sort agent_name ↓"])?;
        // Whoever stands in the first row now.
        click(&terminal, 10, titles + 2)?;
        click(&terminal, 10, titles + 2)?;
        see(&terminal, "details", &["SESSION  lines", "time in polls since attach"])?;
        press(&terminal, &["q"])?;
        is_given_back(&terminal)
    })
}

/// What a terminal would do that got the names of this worker as they are: nothing of it is done.
#[test]
fn names_that_are_escape_sequences_do_nothing() -> Result<()> {
    in_a_terminal(|setting, _| {
        let worker = Worker::start(setting, setting.usual(), "hostile.py")?;
        let terminal = start_hostile(setting, &worker)?;
        let before = ["pane_title", "window_name"].map(|fact| terminal.fact(fact));
        // All of its names are shown somewhere: rows, the verdict, stalls, details, tasks.
        see(&terminal, "stall", &["owned", "agent.py:2"])?;
        press(&terminal, &["Tab", "j"])?;
        see(&terminal, "its stack", &["blocked the loop for", "agent.py:2"])?;
        press(&terminal, &["Enter"])?;
        see(&terminal, "details", &["time in polls since attach"])?;
        see(&terminal, "tasks", &["1 task"])?;
        press(&terminal, &["Escape", "Escape", "/", "\u{1b}"])?;
        see(&terminal, "table", &["12 listed", "q quit"])?;
        press(&terminal, &["y", "j", "y"])?;
        see(&terminal, "clipboard", &["sent to the terminal's clipboard"])?;
        ensure!(!terminal.copied()?.contains('\u{1b}'), "an escape is in the clipboard");
        let screen = terminal.screen_with_styles()?;
        let bare = without_styles(&screen);
        let odd: Vec<char> = bare.chars().filter(|c| c.is_control() && *c != '\n').collect();
        ensure!(odd.is_empty(), "{odd:?} on\n{bare}");
        let after = ["pane_title", "window_name"].map(|fact| terminal.fact(fact));
        for (before, after) in before.into_iter().zip(after) {
            let (before, after) = (before?, after?);
            ensure!(before == after, "{before} has become {after}");
        }
        ensure!(terminal.fact("alternate_on")? == "1" && terminal.fact("cursor_flag")? == "0");
        press(&terminal, &["q"])?;
        is_given_back(&terminal)
    })
}

fn start_hostile(setting: &Setting, worker: &Worker) -> Result<Terminal> {
    let terminal = Terminal::start(200, 100, &script(&probe(setting, worker)))?;
    see(&terminal, "live table", &["12 listed"])?;
    Ok(terminal)
}

/// What is left of a screen without the sequences that set its styles.
fn without_styles(screen: &str) -> String {
    let mut parts = screen.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    let behind = |part: &str| part.split_once('m').map_or(String::new(), |(_, text)| text.into());
    first + &parts.map(behind).collect::<String>()
}
