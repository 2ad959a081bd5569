//! Where a task's step begins is found in every interpreter, and where its file still has its symbols
//! these say the same.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use openrtc_probe::worker::{self, TaskStepSite};
use openrtc_tests::{say, setting::Setting, worker::Worker};

/// Bytes of a landing pad, a frame and its check, which may come before an instruction that can be
/// probed.
const MAX_BEFORE: u64 = 64;

#[test]
fn a_task_s_step_is_found_in_every_interpreter() -> Result<()> {
    let setting = Setting::from_environment()?;
    let mut wrong = Vec::new();
    let mut named = 0;
    for interpreter in setting.interpreters() {
        let fixture = Worker::start(&setting, interpreter, "layout.py")?;
        let open = worker::Worker::open(fixture.pid)?;
        let site = open
            .task_step(&open.interpreter()?)
            .with_context(|| format!("{}: finding a task's step", interpreter.name))?;
        let TaskStepSite { function, address, instruction, register, .. } = &site;
        let name = &interpreter.name;
        say::note(&format!("{name}: {function}, {instruction} at {address}, task in {register}"));
        let expected = if interpreter.minor() < 12 { "rdi" } else { "rsi" };
        if register.to_string() != expected || address.0 - function.0 > MAX_BEFORE {
            wrong.push(format!("{name}: {site:?}"));
        }
        if !interpreter.stripped {
            named += 1;
            let symbol = symbol(&site)?;
            if symbol != function.0 {
                wrong.push(format!("{name}: {function} is taken for {symbol:#x}"));
            }
        }
        fixture.end_with_words()?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(named > 0, "no interpreter has symbols to compare with");
    Ok(())
}

/// Where `task_step_impl` is, as the file's own symbols say.
fn symbol(site: &TaskStepSite) -> Result<u64> {
    let told = Command::new("nm").arg(&site.attach_path).output().context("run nm")?;
    let told = String::from_utf8(told.stdout)?;
    let line = told.lines().find(|line| line.ends_with(" t task_step_impl"));
    let address = line.and_then(|line| line.split(' ').next()).context("no such symbol")?;
    Ok(u64::from_str_radix(address, 16)?)
}
