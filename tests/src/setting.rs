//! Where the interpreters, the fixtures and the daemon are, and how each is started.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::container::{self, Walls};
use crate::interpreter::{Missing, Tier, parse_interpreters, parse_missing};

use crate::say;

pub use crate::interpreter::Interpreter;

/// What sets the environment.
const HINT: &str = "type: cargo xtask test kernel (or: cargo xtask bench ...)";

/// An event loop to run the worker on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loop {
    /// The standard library's.
    Asyncio,
    /// uvloop's.
    Uvloop,
}

impl Loop {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Asyncio, Self::Uvloop];

    /// As the worker's `--loop` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Asyncio => "asyncio",
            Self::Uvloop => "uvloop",
        }
    }

    /// By its name.
    pub fn parse(name: &str) -> Result<Self> {
        let named = Self::ALL.into_iter().find(|kind| kind.name() == name);
        named.with_context(|| format!("no such loop: {name} (asyncio, uvloop)"))
    }
}

impl fmt::Display for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The surroundings of tests and measurements.
#[derive(Debug)]
pub struct Setting {
    workspace: PathBuf,
    probe: PathBuf,
    interpreters: Vec<Interpreter>,
    missing: Vec<Missing>,
}

fn from_environment(name: &str) -> Result<PathBuf> {
    let value = std::env::var_os(name).map(PathBuf::from);
    value.with_context(|| format!("{name} is not set; {HINT}"))
}

/// The names in a list, split at its commas.
pub fn listed(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Whether all is asked for, however long it takes.
pub fn is_all() -> bool {
    std::env::var_os("OPENRTC_TESTS").is_some_and(|which| which == "all")
}

impl Setting {
    /// Reads what `cargo xtask` has set.
    pub fn from_environment() -> Result<Self> {
        let list = from_environment("OPENRTC_INTERPRETERS")?;
        let text = std::fs::read_to_string(&list)
            .with_context(|| format!("reading the interpreters in {}; {HINT}", list.display()))?;
        let interpreters = parse_interpreters(&text)
            .with_context(|| format!("reading the interpreters in {}", list.display()))?;
        let has_full = interpreters.iter().any(|found| found.tier == Tier::Full);
        ensure!(has_full, "{} lists no interpreter for all tests; {HINT}", list.display());
        let list = list.with_file_name("not-run.json");
        let text = std::fs::read_to_string(&list)
            .with_context(|| format!("reading what is missing in {}; {HINT}", list.display()))?;
        let missing = parse_missing(&text)
            .with_context(|| format!("reading what is missing in {}", list.display()))?;
        let workspace = from_environment("OPENRTC_WORKSPACE")?;
        let probe = from_environment("OPENRTC_PROBE_BIN")?;
        ensure!(probe.is_file(), "there is no {}; {HINT}", probe.display());
        Ok(Self { workspace, probe, interpreters, missing })
    }

    /// All interpreters: also those that are only in the matrix.
    pub fn interpreters(&self) -> &[Interpreter] {
        &self.interpreters
    }

    /// Those that should be there and are not.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// Those on which all kernel tests are run.
    fn full(&self) -> impl Iterator<Item = &Interpreter> {
        self.interpreters.iter().filter(|interpreter| interpreter.tier == Tier::Full)
    }

    /// The interpreters of these names, or all those of the kernel tests when there are none.
    pub fn chosen(&self, names: &[String]) -> Result<Vec<Interpreter>> {
        if names.is_empty() {
            return Ok(self.full().cloned().collect());
        }
        let known =
            || self.interpreters.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join(", ");
        names
            .iter()
            .map(|name| {
                let found = self.interpreters.iter().find(|i| i.name == *name);
                found
                    .cloned()
                    .with_context(|| format!("no interpreter {name} (there are: {})", known()))
            })
            .collect()
    }

    /// The interpreter for what does not depend on its version: the hardest one, stripped of its
    /// symbols, where there is such a one.
    pub fn usual(&self) -> &Interpreter {
        let stripped = self.full().find(|i| i.system && i.stripped);
        stripped.or_else(|| self.full().next()).unwrap_or(&self.interpreters[0])
    }

    /// The newest interpreter, which has what the older ones have not.
    pub fn newest(&self) -> &Interpreter {
        let newest = self.full().max_by_key(|i| i.minor());
        newest.unwrap_or(&self.interpreters[0])
    }

    /// One without symbols and one with them; with `OPENRTC_TESTS=all` every interpreter that is there.
    pub fn some_of_each(&self) -> Vec<&Interpreter> {
        if is_all() {
            return self.interpreters.iter().collect();
        }
        vec![self.usual(), self.newest()]
    }

    /// An interpreter in a root, for what is about containers and not about versions; said where there
    /// is none, and an error in CI.
    pub fn contained(&self) -> Result<Option<&Interpreter>> {
        let in_roots = self.interpreters.iter().filter(|found| found.root.is_some());
        // Those that are like the others: what is new of the newest has its line in the matrix.
        let found = in_roots.max_by_key(|found| (found.extras.openrtc, found.minor()));
        ensure!(found.is_some() || !say::in_ci(), "CI=true, and no interpreter is in a root");
        if found.is_none() {
            say::not_run("what needs a container", "no Debian root is made");
        }
        Ok(found)
    }

    /// Runs `test` on all interpreters of the kernel tests and both loops, and fails with all that went
    /// wrong.
    pub fn on_each(&self, mut test: impl FnMut(&Interpreter, Loop) -> Result<()>) -> Result<()> {
        let mut failed = Vec::new();
        for interpreter in self.full() {
            for kind in Loop::ALL {
                if let Err(error) = test(interpreter, kind) {
                    failed.push(format!("{} on {kind}: {error:#}", interpreter.name));
                }
            }
        }
        ensure!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
        Ok(())
    }

    /// The same on one loop for each interpreter, in turn: for what depends on both, and takes long.
    /// `OPENRTC_TESTS=all` runs it on both.
    pub fn in_turn(&self, mut test: impl FnMut(&Interpreter, Loop) -> Result<()>) -> Result<()> {
        let turns: Vec<_> = self
            .full()
            .zip(Loop::ALL.into_iter().cycle())
            .map(|(one, kind)| (&one.name, kind))
            .collect();
        self.on_each(|interpreter, kind| {
            if is_all() || turns.contains(&(&interpreter.name, kind)) {
                return test(interpreter, kind);
            }
            Ok(())
        })
    }

    /// Where an interpreter's executable is, from anywhere.
    pub fn python(&self, interpreter: &Interpreter) -> Result<PathBuf> {
        let python = self.workspace.join(&interpreter.python);
        std::path::absolute(&python).with_context(|| format!("where is {}?", python.display()))
    }

    /// A fixture worker, with its arguments split at spaces. An interpreter in a root runs it as in a
    /// container.
    pub fn fixture(&self, interpreter: &Interpreter, words: &str) -> Command {
        if interpreter.root.is_some() {
            return self.fixture_behind(Walls::Pids, interpreter, words);
        }
        self.fixture_with(&self.workspace.join(&interpreter.python), words)
    }

    /// A fixture worker, run by this Python of the host.
    pub fn fixture_with(&self, python: &Path, words: &str) -> Command {
        let mut words = words.split_whitespace();
        let mut command = Command::new(python);
        command.arg(self.fixtures().join(words.next().unwrap_or_default())).args(words);
        command
    }

    /// A fixture worker in the interpreter's root.
    pub fn fixture_behind(&self, walls: Walls, interpreter: &Interpreter, words: &str) -> Command {
        let root = interpreter.root.as_ref();
        let python_path = root.map(|root| root.python_path.as_str()).unwrap_or_default();
        let start = [
            format!("PYTHONPATH={python_path}"),
            interpreter.python.display().to_string(),
            format!("{}/{}", container::SHOWN, words.split_whitespace().next().unwrap_or_default()),
        ];
        let rest = words.split_whitespace().skip(1).map(str::to_owned);
        let words = start.into_iter().chain(rest);
        container::command(walls, &self.root_of(interpreter), &self.fixtures(), words)
    }

    fn root_of(&self, interpreter: &Interpreter) -> PathBuf {
        let dir = interpreter.root.as_ref().map_or(Path::new(""), |root| &root.dir);
        self.workspace.join(dir)
    }

    /// A fixture worker on each of the interpreters that are named, or on all when none is. One that is
    /// named by its path need not be listed.
    pub fn pythons(&self, named: &[String], fixture: &str) -> Result<Vec<(String, Command)>> {
        if named.is_empty() {
            let all = self.interpreters.iter();
            return Ok(all.map(|one| (one.name.clone(), self.fixture(one, fixture))).collect());
        }
        let command = |name: &String| {
            if name.contains('/') {
                return Ok((name.clone(), self.fixture_with(Path::new(name), fixture)));
            }
            let interpreter = self.chosen(std::slice::from_ref(name))?.remove(0);
            Ok((name.clone(), self.fixture(&interpreter, fixture)))
        };
        named.iter().map(command).collect()
    }

    /// Where recordings of memory are kept.
    pub fn images(&self) -> PathBuf {
        self.workspace.join("tests/images")
    }

    /// Where the fixtures are.
    pub fn fixtures(&self) -> PathBuf {
        self.workspace.join("tests/fixtures")
    }

    /// Where files may be made that have to be on a disk.
    pub fn scratch_folder(&self) -> PathBuf {
        self.workspace.join("target/tmp")
    }

    /// The project's folder.
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// Where xtask puts what measurements compare with.
    pub fn tools_folder(&self) -> PathBuf {
        self.workspace.join("target/python/tools")
    }

    /// The daemon's file.
    pub fn probe_file(&self) -> &Path {
        &self.probe
    }

    /// The daemon in the root of an interpreter, on a process of the host: as in a container that
    /// shares the host's process ids.
    pub fn probe_in(&self, interpreter: &Interpreter, pid: i32, words: &str) -> Result<Command> {
        let folder = self.probe.parent().context("the daemon's folder")?;
        let name = self.probe.file_name().unwrap_or_default().to_string_lossy();
        let start = [format!("{}/{name}", container::SHOWN), "--pid".to_owned(), pid.to_string()];
        let rest = words.split_whitespace().map(str::to_owned);
        let words = start.into_iter().chain(rest);
        Ok(container::command(Walls::Root, &self.root_of(interpreter), folder, words))
    }

    /// The daemon, on a process, with its other arguments split at spaces.
    pub fn probe(&self, pid: i32, words: &str) -> Command {
        let mut command = Command::new(&self.probe);
        // Whatever this machine's is: in another one what is no ASCII is replaced.
        command.env("LC_ALL", "C.UTF-8");
        command.args(["--pid", &pid.to_string()]).args(words.split_whitespace());
        // Most tests are of what each poll is accounted with.
        if !words.contains("--mode") {
            command.args(["--mode", "exact"]);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting() -> Setting {
        let text = r#"[{"name":"py312","version":"3.12.1","python":"target/py/bin/python",
            "system":false,"stripped":false,"tier":"full"},{"name":"deb","version":"3.11.2",
            "python":"x","system":true,"stripped":true,"tier":"full"},{"name":"sid",
            "version":"3.15.0","python":"/usr/bin/python3.15","system":true,"stripped":true,
            "tier":"matrix","root":"roots/sid","python_path":"/opt"}]"#;
        let interpreters = parse_interpreters(text).unwrap();
        Setting { workspace: "w".into(), probe: "p".into(), interpreters, missing: Vec::new() }
    }

    #[test]
    fn the_list_names_a_python_inside_the_workspace() {
        let setting = setting();
        assert_eq!((setting.usual().name.as_str(), setting.newest().minor()), ("deb", 12));
        assert_eq!(setting.chosen(&["deb".to_owned()]).unwrap().len(), 1);
        assert_eq!(setting.chosen(&[]).unwrap().len(), 2);
        assert!(setting.chosen(&["nope".to_owned()]).is_err());
        let command = setting.fixture(setting.usual(), "churn.py  --loop uvloop");
        assert_eq!(command.get_program(), "w/x");
        let arguments: Vec<_> = command.get_args().collect();
        assert_eq!(arguments, ["w/tests/fixtures/churn.py", "--loop", "uvloop"]);
    }

    #[test]
    fn an_interpreter_in_a_root_is_run_there_and_only_where_it_is_asked_for() {
        let setting = setting();
        let sid = setting.chosen(&["sid".to_owned()]).unwrap().remove(0);
        let command = setting.fixture(&sid, "churn.py --loop uvloop");
        assert_eq!(command.get_program(), "unshare");
        let arguments: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let rest = "w/roots/sid w/tests/fixtures PYTHONPATH=/opt /usr/bin/python3.15 \
                    /mnt/churn.py --loop uvloop";
        assert!(arguments.join(" ").ends_with(rest), "{arguments:?}");
    }

    #[test]
    fn every_combination_is_run_and_every_failure_is_told() {
        let mut runs = 0;
        let error = setting().on_each(|interpreter, kind| {
            runs += 1;
            ensure!(kind == Loop::Asyncio || interpreter.minor() == 11, "no good");
            Ok(())
        });
        assert_eq!(runs, 4);
        assert_eq!(error.unwrap_err().to_string(), "1 failed:\npy312 on uvloop: no good");
    }
}
