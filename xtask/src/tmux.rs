//! A terminal to run something in: `tmux`, with a server of its own.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{hint::Hinted, step};

/// Between two looks at the screen.
const LOOK: Duration = Duration::from_millis(100);

/// A terminal with a program in it. It ends with the program, or when this is dropped.
pub struct Tmux {
    socket: String,
}

impl Tmux {
    /// An error now, before anything is built, if there is no tmux.
    pub fn check() -> Result<()> {
        if Command::new("tmux").arg("-V").output().is_ok_and(|output| output.status.success()) {
            return Ok(());
        }
        Err(Hinted::new("there is no tmux to run the table in", "apt-get install tmux").into())
    }

    /// Runs a command in a terminal of this size, in a locale with UTF-8.
    pub fn start((columns, lines): (u16, u16), command: &Command) -> Result<Self> {
        let tmux = Self { socket: format!("openrtc-xtask-{}", std::process::id()) };
        let size = [columns.to_string(), lines.to_string()];
        let mut new = tmux.command();
        // Of the user's settings none is read.
        new.args(["-u", "-f", "/dev/null", "new-session", "-d", "-x", &size[0], "-y", &size[1]]);
        new.arg("--").arg(command.get_program()).args(command.get_args());
        step::output(&mut new)?;
        Ok(tmux)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.socket]).env_remove("TMUX").env_remove("NO_COLOR");
        command.env("LC_ALL", "C.UTF-8");
        command
    }

    fn run(&self, words: &[&str]) -> Result<String> {
        step::output(self.command().args(words))
    }

    /// What is on the screen, as text.
    fn text(&self) -> Result<String> {
        self.run(&["capture-pane", "-p"])
    }

    /// What is on the screen, with its colours as escape sequences, and spaces at the ends of lines.
    pub fn picture(&self) -> Result<String> {
        self.run(&["capture-pane", "-p", "-e", "-N"])
    }

    /// Waits until all of these words are on the screen at once.
    pub fn wait_for(&self, words: &[&str], limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let text = self.text()?;
            let missing: Vec<_> = words.iter().filter(|word| !text.contains(**word)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("after {limit:?} there is no {missing:?} on the screen:\n{text}");
            }
            thread::sleep(LOOK);
        }
    }

    /// Presses a key, by the name that tmux has for it.
    pub fn press(&self, key: &str) -> Result<()> {
        self.run(&["send-keys", key]).map(drop)
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // Its own server only; it fails where there is none any more.
        self.command().arg("kill-server").output().ok();
    }
}
