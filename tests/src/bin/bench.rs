//! What each way of looking costs a worker, and how well it sees: `openrtc_tests::bench`. Ends with 1 when a goal is
//! missed.

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result};
use openrtc_tests::{
    bench::{
        self,
        goals::{Verdict, goals},
        options::{self, Asked, Options},
        performance, store,
    },
    setting::Setting,
};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let options = match Options::from_command_line(std::env::args().skip(1))? {
        Asked::Help => {
            print!("{}", options::USAGE);
            return Ok(true);
        }
        Asked::Bench(options) => options,
    };
    let setting = Setting::from_environment()?;
    let new = bench::run(&setting, &options)?;
    let is_met = new.iter().flat_map(goals).all(|goal| goal.verdict != Verdict::Missed);
    let folder = setting.workspace().join("target/bench");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let file = folder.join("performance.json");
    let mut tables = store::read(&file)?;
    store::merge(&mut tables, new);
    store::write(&file, &tables)?;
    if options.updates_docs {
        performance::update(&setting.workspace().join("docs/performance.md"), &tables)?;
    }
    Ok(is_met)
}
