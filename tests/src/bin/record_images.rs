//! Records what the walks read of the memory of `quiet.py`, on every interpreter that is there, into
//! `tests/images`: for the host tests of the walks, which need no interpreter.

use std::{
    fs::{self, File},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use flate2::{Compression, write::GzEncoder};
use openrtc_probe::{
    cpython::{
        CodeCache, Python, layout,
        memory::{LiveMemory, ReadMemory},
        recording::{Facts, Recorder, Recording},
        unexported_version,
    },
    worker,
};
use openrtc_tests::{
    setting::{Interpreter, Setting},
    worker::Worker,
};
use serde_json::Value;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("record-images: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let setting = Setting::from_environment()?;
    fs::create_dir_all(setting.images())
        .with_context(|| format!("making {}", setting.images().display()))?;
    for interpreter in setting.interpreters() {
        let recording = record(&setting, interpreter)
            .with_context(|| format!("{}: recording its memory", interpreter.name))?;
        let file = setting.images().join(format!("{}.gz", interpreter.name));
        let bytes = write(&recording, &file)?;
        println!("{}: {} bytes of memory, {bytes} compressed", interpreter.name, recording.len());
    }
    Ok(())
}

fn record(setting: &Setting, interpreter: &Interpreter) -> Result<Recording> {
    let quiet = Worker::start(setting, interpreter, "quiet.py")?;
    let worker = worker::Worker::open(quiet.pid)?;
    let found = worker.interpreter()?;
    let facts = Facts {
        version: found.version,
        addresses: found.addresses,
        published: found.published,
        tids: worker.tids()?,
        truth: quiet.ready.to_string(),
    };
    let recorder = Recorder::new(LiveMemory::new(quiet.pid));
    walk(&recorder, quiet.pid, &facts)?;
    let paths = quiet.ready["paths"].as_array().cloned().unwrap_or_default();
    quiet.end_with_words()?;
    let mut recording = recorder.finish(facts);
    for (path, name) in paths.iter().filter_map(Value::as_str).zip(["/fixtures", "/python"]) {
        recording.blot(path, name);
    }
    Ok(recording)
}

/// Every walk that the daemon does.
fn walk(memory: &impl ReadMemory, pid: i32, facts: &Facts) -> Result<()> {
    if facts.version.minor() < (3, 11) {
        unexported_version(memory, &facts.addresses).context("finding the version")?;
    }
    let layout = layout::choose(pid, facts.version, memory, facts.published)?;
    let python = Python::open(memory, facts.version, layout, &facts.addresses, &facts.tids)?;
    let mut cache = CodeCache::default();
    for thread in python.threads(&facts.tids)? {
        python.entered(&thread).context("reading a thread's contexts")?;
        let stack = python.stack(&thread, &mut cache, None).context("reading a thread's stack")?;
        ensure!(stack.is_complete, "a stack is not complete: {stack:?}");
    }
    for gil in python.gils()? {
        python.gil_holder(&gil)?;
    }
    let tasks = python.tasks()?;
    let contexts: Vec<_> = tasks.iter().map(|task| task.context).collect();
    let vars = python.find_vars(&["openrtc_session_id", "openrtc_agent_name"])?;
    for var in vars.into_iter().flatten() {
        python.values(&contexts, var, |_, _| false);
        python.look(&tasks, Some(var), &mut CodeCache::default())?;
    }
    Ok(())
}

fn write(recording: &Recording, path: &Path) -> Result<u64> {
    let create = || format!("writing {}", path.display());
    let mut gzip = GzEncoder::new(File::create(path).with_context(create)?, Compression::best());
    recording.write(&mut gzip).with_context(create)?;
    Ok(gzip.finish().with_context(create)?.metadata()?.len())
}
