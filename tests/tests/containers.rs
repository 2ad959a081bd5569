//! Workers in containers, workers whose interpreter is no longer the file of that name, and the probe
//! in a container itself: each is attached to by its id on the host, and accounted rightly.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use openrtc_tests::{
    accuracy::{
        compare::{self, Demands, Matter},
        measure, table,
    },
    container::Walls,
    probe::Probe,
    setting::{Interpreter, Loop, Setting},
    worker::Worker,
};

const SPAN: Duration = Duration::from_secs(4);

/// One hot session, one that blocks, and others; every callback measured at its boundary.
const WORDS: &str = "sessions.py --sessions 12 --tasks 2 --hot 1 --block 1 --block-ms 120 \
                     --block-every-s 0.7 --burn-us 300 --hot-burn-us 1000";

/// Wider than the bench's: the tests run on machines that do other things too.
const DEMANDS: Demands =
    Demands { session_ratio: 0.03, total_ratio: 0.03, duration_ms: 5.0, ..Demands::BENCH };

fn options() -> String {
    format!("--duration {}", SPAN.as_secs())
}

/// Watches to the end of both, and compares.
fn accounts_rightly(interpreter: &Interpreter, worker: Worker, probe: Probe) -> Result<()> {
    let accounts = measure(worker, probe, SPAN)?;
    let demands = Demands { stolen_s: accounts.stolen_s, ..DEMANDS };
    let outcome = compare::compare(&accounts, &demands);
    let table = table::render(interpreter, Loop::Asyncio, &accounts, &outcome);
    // How exact durations are does not depend on where a worker lives: `ledger.rs` asks for that.
    let is_right = outcome.meets(Matter::Cpu) && outcome.meets(Matter::Stalls);
    ensure!(is_right, "{demands:?}\n{table}");
    let lost = &accounts.last_snapshot.lost;
    ensure!(lost.is_empty(), "lost: {lost:?}");
    Ok(())
}

#[test]
fn a_worker_in_another_root_is_known_by_its_id_on_the_host() -> Result<()> {
    let setting = Setting::from_environment()?;
    let Some(interpreter) = setting.contained()? else { return Ok(()) };
    for walls in [Walls::Root, Walls::Pids] {
        let worker = Worker::start_with(&mut setting.fixture_behind(walls, interpreter, WORDS))?;
        let is_first = worker.ready["pid"] == 1;
        ensure!(is_first == (walls == Walls::Pids), "{walls:?}: {:?}", worker.ready["pid"]);
        let probe = Probe::start(&setting, worker.pid, &options())?;
        accounts_rightly(interpreter, worker, probe).with_context(|| format!("{walls:?}"))?;
    }
    Ok(())
}

/// Its own files are another Debian's; process ids, `/proc` and `/sys` are the host's.
#[test]
fn the_probe_works_in_a_container_that_shares_process_ids() -> Result<()> {
    let setting = Setting::from_environment()?;
    let Some(contained) = setting.contained()? else { return Ok(()) };
    let interpreter = setting.usual();
    let worker = Worker::start(&setting, interpreter, WORDS)?;
    let words = format!("{} --json", options());
    let probe = Probe::start_with(&mut setting.probe_in(contained, worker.pid, &words)?)?;
    accounts_rightly(interpreter, worker, probe)
}

/// A copy of an interpreter of the host, in a folder that goes with it.
struct Scratch {
    dir: PathBuf,
    python: PathBuf,
    /// What the worker has mapped, and what it is a copy of: the executable, or its libpython.
    image: PathBuf,
    original: PathBuf,
    home: PathBuf,
    library: Option<PathBuf>,
}

impl Scratch {
    fn make(setting: &Setting, interpreter: &Interpreter, name: &str) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("openrtc-probe-{name}-{}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        let executable = setting.python(interpreter)?.canonicalize()?;
        let home = executable.ancestors().nth(2).context("an interpreter at the top")?.to_owned();
        let library = home.join(format!("lib/libpython3.{}.so.1.0", interpreter.minor()));
        let python = dir.join("python3");
        // From here on, whatever goes wrong, the folder goes too.
        let mut scratch =
            Self { image: python.clone(), original: executable, dir, python, home, library: None };
        fs::copy(&scratch.original, &scratch.python)?;
        if library.is_file() {
            scratch.image = scratch.dir.join(library.file_name().unwrap_or_default());
            scratch.original = library;
            fs::copy(&scratch.original, &scratch.image)?;
            scratch.library = Some(scratch.image.clone());
        }
        Ok(scratch)
    }

    /// A library of the same name as one that is loaded already is not loaded again.
    fn fixture(&self, setting: &Setting, words: &str) -> Command {
        let mut command = setting.fixture_with(&self.python, words);
        command.env("PYTHONHOME", &self.home);
        if let Some(library) = &self.library {
            command.env("LD_PRELOAD", library);
        }
        command
    }

    fn delete(&self) -> Result<()> {
        fs::remove_file(&self.image).context("deleting the interpreter")
    }

    /// As an upgrade does it: another file is moved to its name.
    fn replace(&self) -> Result<()> {
        let new = self.dir.join("new");
        fs::copy(&self.original, &new)?;
        fs::rename(&new, &self.image).context("replacing the interpreter")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing to be done where it fails.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Both where the executable has the code and where a libpython has it.
fn after(what: &str, change: fn(&Scratch) -> Result<()>) -> Result<()> {
    let setting = Setting::from_environment()?;
    for interpreter in [setting.usual(), setting.newest()] {
        let scratch =
            Scratch::make(&setting, interpreter, &format!("{what}-{}", interpreter.name))?;
        let worker = Worker::start_with(&mut scratch.fixture(&setting, WORDS))?;
        change(&scratch)?;
        is_gone(worker.pid, &scratch.image)?;
        let probe = Probe::start(&setting, worker.pid, &options())?;
        accounts_rightly(interpreter, worker, probe).with_context(|| interpreter.name.clone())?;
    }
    Ok(())
}

/// The worker still has the file, but not under its name.
fn is_gone(pid: i32, image: &Path) -> Result<()> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let gone = format!("{} (deleted)", image.display());
    ensure!(maps.contains(&gone), "no {gone:?} in\n{maps}");
    Ok(())
}

#[test]
fn an_interpreter_that_was_deleted_is_attached_to() -> Result<()> {
    after("deleted", Scratch::delete)
}

#[test]
fn an_interpreter_that_was_replaced_is_attached_to() -> Result<()> {
    after("replaced", Scratch::replace)
}
