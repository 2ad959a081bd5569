//! Who looks at the worker, as data, and how each is started and known to look.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use object::{Object as _, ObjectSegment as _};
use openrtc_common::config::Settings;
use openrtc_probe::bpf::{Kernel, Links, Programs, SitePoint};

use super::introspect;
use crate::{
    driver,
    process::{Line, Program},
    setting::Setting,
    worker::Worker,
};

/// How long one may take to begin.
const BEGIN: Duration = Duration::from_secs(20);
/// How long one may take to end.
const END: Duration = Duration::from_secs(20);

/// One way of looking.
#[derive(Debug)]
pub struct Contender {
    /// As it is typed and printed.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
}

/// What looks.
#[derive(Debug)]
pub enum Kind {
    /// The daemon, with these words.
    Probe(&'static str),
    /// An empty pair of probes on the same sites.
    Empty,
    /// OpenRTC's own, in the worker.
    InProcess,
    /// py-spy's recording, with these words.
    PySpy(&'static [&'static str]),
    /// A line of bpftrace on the same sites that counts.
    Bpftrace,
}

/// All of them.
pub static CONTENDERS: &[Contender] = &[
    Contender { name: "empty", kind: Kind::Empty },
    Contender { name: "exact", kind: Kind::Probe("--mode exact") },
    Contender { name: "sampled", kind: Kind::Probe("--mode sampled") },
    Contender { name: "auto", kind: Kind::Probe("--mode auto") },
    Contender { name: "in-process", kind: Kind::InProcess },
    Contender { name: "py-spy-100", kind: Kind::PySpy(&["--rate", "100"]) },
    Contender { name: "py-spy-100-nb", kind: Kind::PySpy(&["--rate", "100", "--nonblocking"]) },
    Contender { name: "py-spy-500", kind: Kind::PySpy(&["--rate", "500"]) },
    Contender { name: "py-spy-500-nb", kind: Kind::PySpy(&["--rate", "500", "--nonblocking"]) },
    Contender { name: "bpftrace", kind: Kind::Bpftrace },
];

/// One that looks.
pub enum Looking {
    /// A program of its own.
    Program(Box<Program>),
    /// Programs in the kernel.
    Empty(Box<Kernel>),
    /// Something in the worker.
    InProcess,
}

impl Contender {
    /// Starts it on the worker, and waits until it looks; or why that cannot be here.
    pub fn start(&self, setting: &Setting, worker: &mut Worker) -> Result<Result<Looking, String>> {
        match &self.kind {
            Kind::Probe(words) => {
                let words = format!("--json --refresh-rate 1 {words}");
                let mut program =
                    Program::start("openrtc-probe", &mut setting.probe(worker.pid, &words))?;
                // Its first snapshot says that it is attached.
                program.next(BEGIN)?;
                Ok(Ok(Looking::Program(Box::new(program))))
            }
            Kind::Empty => {
                let (kernel, points) = empty(worker.pid)?;
                kernel.sites().attach(Programs::Empty, &points)?;
                Ok(Ok(Looking::Empty(Box::new(kernel))))
            }
            Kind::InProcess => {
                introspect(worker, true)?;
                Ok(Ok(Looking::InProcess))
            }
            Kind::PySpy(words) => py_spy(setting, worker.pid, words),
            Kind::Bpftrace => bpftrace(worker),
        }
    }
}

impl Looking {
    /// Ends it.
    pub fn stop(self, worker: &mut Worker) -> Result<()> {
        match self {
            Looking::Program(program) => {
                program.signal(Signal::SIGINT)?;
                program.finish(END)?;
            }
            Looking::Empty(kernel) => drop(kernel),
            Looking::InProcess => introspect(worker, false)?,
        }
        Ok(())
    }
}

/// The programs that do nothing, and the sites for them.
fn empty(pid: i32) -> Result<(Kernel, Vec<SitePoint>)> {
    driver::kernel(pid, &Settings::default(), Links::Best)
}

/// py-spy, from the folder that xtask has put it in.
fn py_spy(setting: &Setting, pid: i32, words: &[&str]) -> Result<Result<Looking, String>> {
    let Some(file) = on_path("py-spy").or_else(|| in_folder(setting)) else {
        return Ok(Err("py-spy is not installed: python3 -m pip install py-spy".into()));
    };
    let out = setting.scratch_folder().join("py-spy.txt");
    fs::create_dir_all(setting.scratch_folder())?;
    let mut command = Command::new(file);
    command.args(["record", "--pid", &pid.to_string(), "--format", "raw", "--output"]).arg(&out);
    command.args(["--duration", "unlimited"]).args(words);
    let mut program = Program::start("py-spy", &mut command)?;
    let begun = |line: &Line| Ok(line.text.starts_with("py-spy> Sampling process").then_some(()));
    program.find("py-spy to sample", BEGIN, begun)?;
    Ok(Ok(Looking::Program(Box::new(program))))
}

fn in_folder(setting: &Setting) -> Option<PathBuf> {
    let file = setting.tools_folder().join("bin/py-spy");
    file.exists().then_some(file)
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.exists())
}

/// bpftrace, with one line that counts at the polls' sites.
fn bpftrace(worker: &Worker) -> Result<Result<Looking, String>> {
    let Some(file) = on_path("bpftrace") else {
        return Ok(Err("bpftrace is not installed".into()));
    };
    let (_, points) = empty(worker.pid)?;
    // Those that polls of this loop run over: builds of it may refuse an instruction within a named function.
    let polls = match worker.ready["loop"].as_str() {
        Some("uvloop") => ["context_enter", "context_exit"],
        _ => ["run_enter", "run_exit"],
    };
    let probes: Vec<String> = points
        .iter()
        .filter(|point| polls.contains(&point.program))
        .map(|point| Ok(format!("uprobe:{}:{:#x}", real(&point.path)?.display(), address(point)?)))
        .collect::<Result<_>>()?;
    let line =
        format!("BEGIN {{ printf(\"begun\\n\"); }} {} {{ @[tid] = count(); }}", probes.join(","));
    let mut command = Command::new(file);
    // Of a stripped file it cannot know that these are whole instructions: we do.
    command.args(["--unsafe", "-p", &worker.pid.to_string(), "-e", &line]).stdin(Stdio::null());
    let mut program = Program::start("bpftrace", &mut command)?;
    let begun = |line: &Line| Ok(line.text.starts_with("begun").then_some(()));
    match program.find("bpftrace to begin", BEGIN, begun) {
        Ok(()) => Ok(Ok(Looking::Program(Box::new(program)))),
        Err(why) => {
            // It warns of much before it says what is wrong.
            let said = format!("{why:#}");
            let last = said.rsplit("ERROR: ").next().unwrap_or_default();
            Ok(Err(format!("does not attach: {last}")))
        }
    }
}

fn real(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).with_context(|| format!("following {}", path.display()))
}

/// bpftrace wants the address that the file gives an instruction, and not where it stands in the file.
fn address(point: &SitePoint) -> Result<u64> {
    let shown = point.path.display();
    let bytes = fs::read(&point.path).with_context(|| format!("reading {shown}"))?;
    let file = object::File::parse(&*bytes).with_context(|| format!("reading {shown}"))?;
    let at = file.segments().find_map(|segment| {
        let (start, size) = segment.file_range();
        let into = point.offset.checked_sub(start).filter(|into| *into < size)?;
        Some(segment.address() + into)
    });
    at.with_context(|| format!("{shown} has no segment at {:#x}", point.offset))
}
