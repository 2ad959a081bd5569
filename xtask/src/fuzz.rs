//! `cargo xtask fuzz`: feeds what reads hostile bytes with libFuzzer, by cargo-fuzz, which is installed below
//! `target/`. Targets and their corpus are in `tests/fuzz`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build_ebpf, cargo,
    hint::Hinted,
    step::{self, say},
    toolchain::Toolchain,
    workspace::Workspace,
};

const VERSION: &str = "0.13.1";
const FOLDER: &str = "tests/fuzz";
/// What reaches something new is kept here, beside the corpus in the repository.
const FOUND: &str = "target/fuzz/found";
/// An input that takes longer, or more memory, is a fault: each has a few thousand bytes.
const LIMITS: [&str; 4] =
    ["-timeout=10", "-rss_limit_mb=1024", "-max_len=65536", "-print_final_stats=1"];
/// What libFuzzer says at last, before a number.
const RUNS: &str = "stat::number_of_executed_units:";
/// Of what it says where it fails, which has the input in full.
const LAST_LINES: usize = 30;
const COLUMNS: usize = 160;

/// What to feed, and for how long.
#[derive(clap::Args)]
pub struct Args {
    /// Only these; all if none is named
    targets: Vec<String>,
    /// Seconds for each
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Feeds each, and prints how often it was run.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let targets = chosen(&known(workspace)?, &args.targets)?;
    build_ebpf::run(workspace)?;
    let host = Toolchain::ask(workspace)?.host;
    let cargo_fuzz = install(workspace)?;
    let mut table = Vec::new();
    for target in targets {
        let (found, corpus) = (Path::new(FOUND).join(&target), corpus(&target));
        fs::create_dir_all(workspace.root().join(&found))
            .context("make a folder for what is found")?;
        let mut fuzz = cargo::program(workspace, &cargo_fuzz.display().to_string());
        fuzz.args(["fuzz", "run", "--fuzz-dir", FOLDER, "--target-dir", "target/fuzz"]);
        fuzz.args(["--target", &host, &target]).args([&found, &corpus]);
        fuzz.arg("--").arg(format!("-max_total_time={}", args.seconds)).args(LIMITS);
        // The sanitizer is unstable; the pinned compiler has it all the same.
        fuzz.env("RUSTC_BOOTSTRAP", "1");
        let log = workspace.path("target/fuzz").join(format!("{target}.log"));
        let runs = step::timed(&format!("fuzz {target}"), || feed(&mut fuzz, &log))?;
        let files =
            fs::read_dir(workspace.root().join(&corpus)).context("list the corpus")?.count();
        table.push((target, runs, files));
    }
    for (target, runs, files) in table {
        say(&format!("{target:<8} {runs:>12} runs, {files:>3} files of corpus"));
    }
    Ok(())
}

fn corpus(target: &str) -> PathBuf {
    Path::new(FOLDER).join("corpus").join(target)
}

/// The targets that there are.
fn known(workspace: &Workspace) -> Result<Vec<String>> {
    let programs = workspace.path(FOLDER).join("fuzz_targets");
    let entries =
        fs::read_dir(&programs).with_context(|| format!("list {}", programs.display()))?;
    let name = |path: PathBuf| Some(path.file_stem()?.to_string_lossy().into_owned());
    let mut known: Vec<_> = entries.flatten().filter_map(|entry| name(entry.path())).collect();
    known.sort();
    Ok(known)
}

fn chosen(known: &[String], named: &[String]) -> Result<Vec<String>> {
    if let Some(odd) = named.iter().find(|name| !known.contains(name)) {
        let hint = format!("one of {}", known.join(", "));
        bail!(Hinted::new(format!("there is no target {odd}"), hint));
    }
    Ok(if named.is_empty() { known } else { named }.to_vec())
}

/// Installs cargo-fuzz, if it is not there; its program.
fn install(workspace: &Workspace) -> Result<PathBuf> {
    let dir = workspace.path("target/cargo-fuzz");
    let program = dir.join("bin/cargo-fuzz");
    if program.is_file() {
        return Ok(program);
    }
    let mut cargo = cargo::isolated(workspace);
    cargo.args(["install", "cargo-fuzz", "--version", VERSION, "--locked", "--root"]).arg(&dir);
    cargo.arg("--target-dir").arg(dir.join("build"));
    step::run(&format!("install cargo-fuzz {VERSION}"), &mut cargo).context(Hinted::new(
        "install cargo-fuzz",
        "it needs the crate registry; libFuzzer itself a C++ compiler: apt-get install g++",
    ))?;
    Ok(program)
}

/// Runs it with what it says in a file; how many inputs it has run.
fn feed(fuzz: &mut Command, log: &Path) -> Result<u64> {
    let file = File::create(log).with_context(|| format!("make {}", log.display()))?;
    fuzz.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    let status = step::status(fuzz)?;
    let said = fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
    if status.success() {
        return runs(&said).with_context(|| format!("{} tells no runs", log.display()));
    }
    let cut = |line: &'_ str| {
        line.get(..line.floor_char_boundary(COLUMNS)).unwrap_or_default().to_owned()
    };
    let lines: Vec<String> = said.lines().map(cut).collect();
    let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
    bail!("{}\n{status}; all of it is in {}", last.join("\n"), log.display())
}

fn runs(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.strip_prefix(RUNS))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_is_not_there_is_refused_with_those_that_are() {
        let known = ["elf", "maps"].map(str::to_owned);
        assert_eq!(chosen(&known, &[]).unwrap(), known);
        assert_eq!(chosen(&known, &known[1..]).unwrap(), known[1..]);
        let error = chosen(&known, &["else".to_owned()]).unwrap_err();
        assert_eq!(error.downcast_ref::<Hinted>().unwrap().hint(), "one of elf, maps");
    }

    #[test]
    fn runs_are_in_what_it_says_at_last() {
        assert_eq!(runs("Done\nstat::number_of_executed_units: 1234\nstat::x: 1"), Some(1234));
        assert_eq!(runs("Done"), None);
    }
}
