//! A child process that prints lines, each stamped when it was read.
//!
//! Nothing waits without a limit, and a child that is still there at the end is asked to go, then
//! killed.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock;

/// Lines of standard error that an error message quotes.
const LAST_WORDS: usize = 8;
/// How long a child has to go when asked to.
const GRACE: Duration = Duration::from_secs(3);
/// How long the end of a stream may take to follow the end of the process.
const LAST_LINES: Duration = Duration::from_secs(5);

/// One line of a child's output.
#[derive(Debug)]
pub struct Line {
    /// Without its end.
    pub text: String,
    /// `CLOCK_REALTIME` when it was read.
    pub read_at_real_ns: i64,
}

/// All that a child said to its end, from where nobody had read on.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// Lines of standard output.
    pub stdout: Vec<String>,
    /// All lines of standard error.
    pub stderr: Vec<String>,
}

/// A running child.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Line>,
    errors: Receiver<Line>,
    /// What was read of standard error so far.
    said: Vec<String>,
}

impl Program {
    /// Starts it with all three streams connected.
    pub fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {name}: {command:?}"))?;
        let lines = read_on_a_thread(child.stdout.take());
        let errors = read_on_a_thread(child.stderr.take());
        let stdin = child.stdin.take();
        Ok(Self { name, child, stdin, lines, errors, said: Vec::new() })
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// The next line.
    pub fn next(&mut self, limit: Duration) -> Result<Line> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                let last_words = self.last_words();
                bail!("{} said nothing for {:.1} s: {last_words}", self.name, limit.as_secs_f64());
            }
            Err(RecvTimeoutError::Disconnected) => {
                let (status, last_words) = (self.wait(LAST_LINES)?, self.last_words());
                bail!("{} ended with {status}: {last_words}", self.name);
            }
        }
    }

    /// Reads on until `wanted` finds what it looks for.
    pub fn find<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut wanted: impl FnMut(&Line) -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.next(left).with_context(|| format!("waiting for {what}"))?;
            if let Some(found) = wanted(&line)? {
                return Ok(found);
            }
        }
    }

    /// Reads standard error on until a line begins like this, and returns the line.
    pub fn find_error(&mut self, start: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.errors.recv_timeout(left) {
                Ok(line) => {
                    self.said.push(line.text.clone());
                    if line.text.starts_with(start) {
                        return Ok(line.text);
                    }
                }
                Err(why) => bail!("no {start:?} on {}'s stderr ({why})", self.name),
            }
        }
    }

    /// Writes to its stdin.
    pub fn say(&mut self, text: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its stdin is closed")?;
        stdin.write_all(text.as_bytes()).with_context(|| format!("speaking to {}", self.name))?;
        stdin.flush().with_context(|| format!("speaking to {}", self.name))
    }

    /// Closes its stdin, which ends a fixture worker.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal to it.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid()), signal)
            .with_context(|| format!("sending {signal} to {}", self.name))
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> Result<bool> {
        let status = self.child.try_wait();
        Ok(status.with_context(|| format!("looking at {}", self.name))?.is_none())
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            let status =
                self.child.try_wait().with_context(|| format!("waiting for {}", self.name))?;
            if let Some(status) = status {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} does not end", self.name);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for its end, and reads all that it still has to say.
    pub fn finish(mut self, limit: Duration) -> Result<Ended> {
        let status = self.wait(limit).with_context(|| self.last_words())?;
        let stdout = rest(&self.lines).with_context(|| format!("reading {}", self.name))?;
        let stderr = rest(&self.errors).with_context(|| format!("reading {}", self.name))?;
        self.said.extend(stderr);
        Ok(Ended { status, stdout, stderr: std::mem::take(&mut self.said) })
    }

    /// The last lines of its stderr, in one.
    pub fn last_words(&mut self) -> String {
        self.said.extend(self.errors.try_iter().map(|line| line.text));
        let from = self.said.len().saturating_sub(LAST_WORDS);
        self.said.get(from..).unwrap_or_default().join(" | ")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.close_stdin();
        if let Ok(None) = self.child.try_wait() {
            // Each of these fails only when it has ended in the meantime.
            let _ = self.signal(Signal::SIGTERM);
            if self.wait(GRACE).is_err() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
    }
}

fn read_on_a_thread(stream: Option<impl Read + Send + 'static>) -> Receiver<Line> {
    let (sender, lines) = channel();
    if let Some(stream) = stream {
        std::thread::spawn(move || read_lines(stream, &sender));
    }
    lines
}

fn read_lines(stream: impl Read, sender: &Sender<Line>) {
    for text in BufReader::new(stream).lines().map_while(std::io::Result::ok) {
        if sender.send(Line { text, read_at_real_ns: clock::now_real_ns() }).is_err() {
            return;
        }
    }
}

/// The lines up to the end of a stream.
fn rest(lines: &Receiver<Line>) -> Result<Vec<String>> {
    let mut rest = Vec::new();
    loop {
        match lines.recv_timeout(LAST_LINES) {
            Ok(line) => rest.push(line.text),
            Err(RecvTimeoutError::Disconnected) => return Ok(rest),
            Err(RecvTimeoutError::Timeout) => bail!("a stream stays open after the end"),
        }
    }
}

/// The only child of a process.
pub fn only_child(parent: i32) -> Result<i32> {
    let parent = parent.to_string();
    let pids = fs::read_dir("/proc")?.flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // `pid (name) state ppid`: the name may hold anything.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        fields.split_whitespace().nth(1) == Some(&parent)
    };
    pids.find(is_child).with_context(|| format!("process {parent} has no child"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program::start("sh", Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn lines_are_found_and_the_rest_is_kept() {
        let mut program = shell("echo a; echo b; echo x >&2; echo y >&2; read z; echo $z; exit 3");
        let second = |line: &Line| Ok((line.text == "b").then_some(7));
        assert_eq!(program.find("b", GRACE, second).unwrap(), 7);
        assert_eq!(program.find_error("y", GRACE).unwrap(), "y");
        program.say("c\n").unwrap();
        let ended = program.finish(GRACE).unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!((ended.stdout, ended.stderr), (vec!["c".into()], vec!["x".into(), "y".into()]));
    }

    #[test]
    fn silence_and_an_early_end_are_errors_that_quote_the_last_words() {
        let mut silent = shell("echo oh >&2; exec sleep 60");
        silent.find_error("oh", GRACE).unwrap();
        let error = silent.next(Duration::from_millis(10)).unwrap_err().to_string();
        assert!(error.contains("said nothing") && error.contains("oh"), "{error}");
        let error = shell("echo no >&2; exit 4").next(GRACE).unwrap_err().to_string();
        assert!(error.contains("exit status: 4"), "{error}");
    }
}
