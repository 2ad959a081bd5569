//! `cargo xtask screenshot`: the pictures in `docs/`, of a real run: the demo's worker, the daemon in a
//! terminal, and what stands on it.

use std::{fs, thread, time::Duration};

use anstyle_svg::{Term, WIN10_CONSOLE};
use anyhow::{Context, Result, ensure};

use crate::{
    daemon,
    demo::{EventLoop, Worker},
    root, setup_python,
    step::{self, say},
    tmux::Tmux,
    workspace::Workspace,
};

/// Columns and lines of the terminal.
const SIZE: (u16, u16) = (120, 36);

/// The charts show the last minute.
const FULL_CHARTS: Duration = Duration::from_secs(63);

/// How long a screen may take to show what it must.
const LIMIT: Duration = Duration::from_secs(30);

/// One picture.
struct Shot {
    /// Where it goes.
    file: &'static str,
    /// What is pressed before, by tmux's names.
    keys: &'static [&'static str],
    /// What must be on the screen.
    wanted: &'static [&'static str],
}

/// The pictures, in the order in which they are taken, in one run. The worker blocks in the fixture's
/// `sessions.py`.
const SHOTS: &[Shot] = &[
    Shot {
        file: "docs/top.svg",
        keys: &[],
        wanted: &["AJ_", "slow", " ago", "sessions.py:", "q quit"],
    },
    // By off-CPU, so that the one that blocks comes first.
    Shot {
        file: "docs/top-details.svg",
        keys: &["s", "s", "s", "s", "g", "Enter"],
        wanted: &["time in polls since attach", "stalls since attach", "Esc back"],
    },
];

/// Takes all of them.
pub fn run(workspace: &Workspace) -> Result<()> {
    root::check()?;
    Tmux::check()?;
    let built = daemon::build(workspace, &[])?;
    let probe = daemon::executable(&built, "openrtc-probe")?;
    let python = setup_python::any(workspace)?;
    let worker = Worker::start(workspace, &python, EventLoop::Uvloop)?;
    let mut command = root::command(probe);
    command.args(["--pid", &worker.pid().to_string()]);
    let taken = take_all(workspace, &Tmux::start(SIZE, &command)?);
    worker.end()?;
    taken
}

fn take_all(workspace: &Workspace, tmux: &Tmux) -> Result<()> {
    tmux.wait_for(&["q quit"], LIMIT).context("wait for the table")?;
    step::timed("the charts fill", || {
        thread::sleep(FULL_CHARTS);
        Ok(())
    })?;
    for shot in SHOTS {
        take(workspace, tmux, shot).with_context(|| format!("take {}", shot.file))?;
    }
    tmux.press("q")
}

fn take(workspace: &Workspace, tmux: &Tmux, shot: &Shot) -> Result<()> {
    shot.keys.iter().try_for_each(|key| tmux.press(key))?;
    tmux.wait_for(shot.wanted, LIMIT)?;
    let svg = svg(&tmux.picture()?);
    let place = workspace.root().to_string_lossy();
    ensure!(!svg.contains(&*place), "it names {place}, which is this machine's");
    fs::write(workspace.path(shot.file), svg).context("write it")?;
    say(&format!("{} is new", shot.file));
    Ok(())
}

/// Where the text begins, and how wide a character is, as the crate has it.
const LEFT: f64 = 10.0;
const ADVANCE: f64 = 8.4;

/// The screen as an SVG. Each character is put into its column: a reader's font may have other widths,
/// and its bars come from another font.
fn svg(screen: &str) -> String {
    let term = Term::new().palette(WIN10_CONSOLE).min_width_px(0);
    let svg = term.render_svg(screen.trim_end_matches('\n'));
    let columns = (0..SIZE.0).map(|column| format!("{:.1}", LEFT + ADVANCE * f64::from(column)));
    let columns = columns.collect::<Vec<_>>().join(" ");
    svg.replace("<tspan x=\"10px\"", &format!("<tspan x=\"{columns}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_has_its_column() {
        let svg = svg("a\u{1b}[1;31mb\u{1b}[0m█c\n\u{1b}[7mkeys   \u{1b}[0m\n");
        assert!(!svg.contains("x=\"10px\""), "{svg}");
        let lines = svg.matches("<tspan x=\"10.0 18.4 26.8 ").count();
        // The reversed line has one more, for what is behind it.
        assert_eq!(lines, 3, "{svg}");
        assert!(svg.contains(&format!(" {:.1}\" y=", LEFT + ADVANCE * 119.0)), "{svg}");
        for part in ["fg-red", "bold", "█", "keys   "] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }

    #[test]
    fn the_pictures_are_those_of_the_document() {
        let workspace = Workspace::find().unwrap();
        let document = fs::read_to_string(workspace.path("docs/top.md")).unwrap();
        for shot in SHOTS {
            let name = shot.file.trim_start_matches("docs/");
            assert!(document.contains(&format!("]({name})")), "{name} is not in docs/top.md");
            let svg = fs::read_to_string(workspace.path(shot.file)).unwrap();
            assert!(svg.starts_with("<svg "), "{}", shot.file);
        }
    }
}
