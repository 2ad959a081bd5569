//! A terminal to run something in: `tmux`, with a server of its own.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// Between two looks at the screen.
const LOOK: Duration = Duration::from_millis(50);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A terminal with a program in it.
#[derive(Debug)]
pub struct Terminal {
    socket: String,
}

/// Whether this machine has what it takes.
pub fn is_available() -> bool {
    Command::new("tmux").arg("-V").output().is_ok_and(|output| output.status.success())
}

impl Terminal {
    /// Runs a script of `sh` in a terminal of this size.
    pub fn start(columns: u16, lines: u16, script: &str) -> Result<Self> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let socket = format!("openrtc-tests-{}-{number}", std::process::id());
        let terminal = Self { socket };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let size = ["-x", &columns, "-y", &lines];
        // Of the user's settings none is read; the screen stays after the end.
        let new = ["-u", "-f", "/dev/null", "new-session", "-d"];
        terminal.tmux(&[&new[..], &size, &["sh", "-c", script]].concat())?;
        terminal.tmux(&["set-option", "-g", "remain-on-exit", "on"])?;
        terminal.tmux(&["set-option", "-g", "set-clipboard", "on"])?;
        Ok(terminal)
    }

    fn tmux(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.socket]).args(words).env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        let output = command.output().with_context(|| format!("starting {command:?}"))?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {error}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What is on the screen.
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is as wanted, and returns it.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let screen = self.screen()?;
            if wanted(&screen) {
                return Ok(screen);
            }
            if Instant::now() > deadline {
                bail!("no {what} within {limit:?}; the screen:\n{screen}");
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Presses a key, by the name that tmux has for it.
    pub fn press(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", key]).map(drop)
    }

    /// Sends these bytes as if a terminal had: what no key stands for.
    pub fn send(&self, text: &str) -> Result<()> {
        let bytes: Vec<String> = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut words = vec!["send-keys", "-H"];
        words.extend(bytes.iter().map(String::as_str));
        self.tmux(&words).map(drop)
    }

    /// What is on the screen, with the sequences that set its styles.
    pub fn screen_with_styles(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-e", "-p"])
    }

    /// What a program in it copied last (OSC 52).
    pub fn copied(&self) -> Result<String> {
        self.tmux(&["show-buffer"])
    }

    /// Gives it another size.
    pub fn resize(&self, columns: u16, lines: u16) -> Result<()> {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &lines]).map(drop)
    }

    /// A fact of the terminal, such as `alternate_on` or `cursor_flag`.
    pub fn fact(&self, name: &str) -> Result<String> {
        let told = self.tmux(&["display-message", "-p", &format!("#{{{name}}}")])?;
        Ok(told.trim().to_owned())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Its own server only; it fails where there is none any more.
        let _ = self.tmux(&["kill-server"]);
    }
}
