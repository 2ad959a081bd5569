//! `cargo xtask demo`: a worker with 12 sessions, one hot and one blocking, and the daemon attached
//! to it.
//!
//! Nothing is left running: the worker ends when its standard input does, so it ends with xtask,
//! whatever ends that. Ctrl-C reaches the daemon, which ends and prints its last table; xtask only
//! waits, and the worker, in a process group of its own, does not see it.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdout, Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::{
    daemon, root, setup_python,
    step::{self, say},
    workspace::Workspace,
};

/// How long a worker may take to start.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How long it may take to end once its input is closed; then it is killed.
const END_LIMIT: Duration = Duration::from_secs(5);

/// What to show.
#[derive(clap::Args)]
pub struct Args {
    /// End after so many seconds; else on `q` or Ctrl-C
    #[arg(long)]
    seconds: Option<u64>,
    /// The worker's event loop
    #[arg(long = "loop", value_enum, default_value_t = EventLoop::Uvloop)]
    event_loop: EventLoop,
    /// Passed to openrtc-probe
    #[arg(last = true)]
    passed_on: Vec<String>,
}

/// An event loop that a worker can run.
#[derive(Clone, Copy, ValueEnum)]
pub enum EventLoop {
    Asyncio,
    Uvloop,
}

impl EventLoop {
    fn name(self) -> &'static str {
        match self {
            Self::Asyncio => "asyncio",
            Self::Uvloop => "uvloop",
        }
    }
}

/// Builds everything and shows it; the exit code is the daemon's.
pub fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    root::check()?;
    let built = daemon::build(workspace, &[])?;
    let probe = daemon::executable(&built, "openrtc-probe")?;
    let python = setup_python::any(workspace)?;
    survive_interrupts()?;
    let worker = Worker::start(workspace, &python, args.event_loop)?;
    say(&format!("a worker runs as process {}; attach to it", worker.pid()));
    let mut command = root::command(probe);
    command.args(["--pid", &worker.pid().to_string()]);
    if let Some(seconds) = args.seconds {
        command.args(["--duration", &seconds.to_string()]);
    }
    let status = step::status(command.args(&args.passed_on));
    worker.end()?;
    Ok(step::exit_code(status?))
}

/// Takes SIGINT and does nothing. A signal that is caught, unlike one that is ignored, has its
/// usual meaning again in the programs that we start.
fn survive_interrupts() -> Result<()> {
    extern "C" fn nothing(_: nix::libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing at all, so it may interrupt anything.
    unsafe { sigaction(Signal::SIGINT, &action) }.context("take SIGINT")?;
    Ok(())
}

/// The fixture worker. It runs as long as its standard input is open.
pub struct Worker {
    child: Child,
}

impl Worker {
    /// Starts it, and waits until its sessions are there.
    pub fn start(workspace: &Workspace, python: &Path, event_loop: EventLoop) -> Result<Self> {
        let child = Command::new(python)
            .arg(workspace.path("tests/fixtures/sessions.py"))
            .args(["--sessions", "12", "--hot", "1", "--block", "1", "--duration", "0"])
            // The real package's variables; no account of its own, nobody compares.
            .args(["--real", "--truth", "none"])
            .args(["--loop", event_loop.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", python.display()))?;
        let mut worker = Self { child };
        let started =
            worker.child.stdout.take().context("read the worker's output").and_then(wait_ready);
        match started {
            Ok(()) => Ok(worker),
            Err(error) => {
                let ended = worker.end();
                Err(ended.err().unwrap_or(error).context("start the fixture worker"))
            }
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Closes its input and waits for it.
    pub fn end(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let started = Instant::now();
        while started.elapsed() < END_LIMIT {
            if self.child.try_wait().context("wait for the worker")?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        say("the worker did not end by itself; kill it");
        self.child.kill().context("kill the worker")?;
        self.child.wait().context("wait for the worker")?;
        Ok(())
    }
}

/// Waits for the line that says the worker is up. What it writes after that is read and forgotten,
/// so that it never waits for us.
fn wait_ready(stdout: ChildStdout) -> Result<()> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if line.starts_with("ready") {
                // Nobody listens after the first.
                sender.send(()).ok();
            }
        }
    });
    match receiver.recv_timeout(START_LIMIT) {
        Ok(()) => Ok(()),
        Err(mpsc::RecvTimeoutError::Timeout) => bail!("it was not ready after {START_LIMIT:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            bail!("it ended before it was ready (see above)")
        }
    }
}
