//! The self-test's worker: a Python child of ours that cannot outlive us.
//!
//! It dies with us in whatever way we end: on drop it is killed and reaped; if we are killed, the
//! kernel kills it, and its standard input, which only we hold, ends.

use std::{
    env,
    io::{BufRead as _, BufReader, Read, Write as _},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::process::{Signal, set_parent_process_death_signal};

const SCRIPT: &str = include_str!("fixture.py");
/// Bytes of what it says that are read; it says two short lines.
const MAX_SAID: u64 = 4096;

/// The first `python3` in the folders of `PATH`; relative ones do not count.
pub fn find_python() -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    let mut files = env::split_paths(&folders).map(|folder| folder.join("python3"));
    files.find(|file| {
        let runs =
            |meta: std::fs::Metadata| meta.is_file() && meta.permissions().mode() & 0o111 != 0;
        file.is_absolute() && file.metadata().is_ok_and(runs)
    })
}

/// The running child.
pub struct Fixture {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Fixture {
    /// Starts it on `python`. To be called on a thread that lives as long as the fixture.
    pub fn start(python: &PathBuf) -> Result<Self> {
        let mut command = Command::new(python);
        // Isolated: neither its surroundings nor a folder of somebody's decides what it imports.
        command.args(["-I", "-c", SCRIPT]).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // SAFETY: between fork and exec only one system call is made, which allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", python.display()))?;
        let (stdin, lines) = (child.stdin.take(), read_lines(child.stdout.take()));
        Ok(Self { child, stdin, lines })
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// The words of its next line behind `word`, which the line must begin with.
    pub fn hear(&mut self, word: &str, limit: Duration) -> Result<Vec<String>> {
        let line = self.lines.recv_timeout(limit).map_err(|why| match why {
            RecvTimeoutError::Timeout => anyhow!("it did not say `{word}` within {limit:?}"),
            RecvTimeoutError::Disconnected => anyhow!("it ended before it said `{word}`"),
        })?;
        let mut words = line.split_whitespace().map(str::to_owned);
        ensure!(words.next().as_deref() == Some(word), "it said something else than `{word}`");
        Ok(words.collect())
    }

    /// Lets it begin.
    pub fn go(&mut self) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its standard input is closed")?;
        stdin.write_all(b"go\n").context("cannot speak to it")
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a stream says, line by line, on a thread that ends with the stream.
fn read_lines(stream: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, lines) = channel();
    if let Some(stream) = stream {
        thread::spawn(move || {
            let said = BufReader::new(stream.take(MAX_SAID)).lines().map_while(Result::ok);
            // Nobody listens any more: enough was heard.
            said.map(|line| sender.send(line)).take_while(Result::is_ok).for_each(drop);
        });
    }
    lines
}
