//! `cargo xtask test vm`: boots Debian's own kernels in an emulated machine, and runs `tests/vm/guest.py` on each.
//!
//! Emulated, because a machine that itself is virtual often has no other way; so times in there mean nothing.

mod image;
mod kernel;
mod machine;

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, bail, ensure};

use self::kernel::{KERNELS, Kernel};
use crate::{
    daemon,
    hint::Hinted,
    step::{self, say},
    workspace::Workspace,
};

/// What a guest said of each group of tests.
type Verdicts = BTreeMap<String, String>;

/// The group that is run on every kernel in CI: whether it takes our programs.
const LOAD: &str = "load";
/// The kernel on which CI runs all groups: the oldest has least.
const OLDEST: &str = "5.10";

/// Runs the guest's tests on these kernels, on all if none is named; with `load` among the words only the group of
/// that name.
pub fn run(workspace: &Workspace, words: &[String]) -> Result<()> {
    let (load, versions): (Vec<_>, Vec<_>) = words.iter().cloned().partition(|word| word == LOAD);
    let groups = if load.is_empty() { "" } else { LOAD };
    let kernels = chosen(&versions)?;
    check()?;
    run_on(workspace, kernels.into_iter().map(|kernel| (kernel, groups)))
}

/// All groups on the oldest kernel, and on the others whether they take our programs: beside all other tests. Nothing,
/// and a line that says so, where no machine can be emulated; in CI that is an error.
pub fn run_beside(workspace: &Workspace) -> Result<()> {
    match check() {
        Err(why) if !step::in_ci() => {
            say(&format!("NOT RUN: other kernels: {why:#}"));
            return Ok(());
        }
        is_here => is_here?,
    }
    let groups = |kernel: &Kernel| if kernel.version == OLDEST { "" } else { LOAD };
    run_on(workspace, KERNELS.iter().map(|kernel| (kernel, groups(kernel))))
}

/// Whether there is what a guest takes.
fn check() -> Result<()> {
    machine::check()?;
    image::check()
}

fn run_on<'k>(
    workspace: &Workspace,
    kernels: impl Iterator<Item = (&'k Kernel, &'k str)>,
) -> Result<()> {
    let built = daemon::build(workspace, &[])?;
    let probe = daemon::executable(&built, "openrtc-probe")?;
    let initrd = step::timed("make the guest's files", || image::make(workspace, probe))?;
    let mut table = Vec::new();
    for (kernel, groups) in kernels {
        let found = kernel.fetch(workspace)?;
        let what = format!("boot {}", found.release);
        let verdicts = step::timed(&what, || machine::boot(workspace, &found, &initrd, groups))?;
        table.push((found.release, verdicts));
    }
    print(&table);
    let is_well = |(_, verdicts): &(String, Verdicts)| {
        !verdicts.is_empty() && verdicts.values().all(|verdict| verdict.starts_with("ok"))
    };
    ensure!(table.iter().all(is_well), "not all groups passed on all kernels");
    Ok(())
}

fn chosen(versions: &[String]) -> Result<Vec<&'static Kernel>> {
    if versions.is_empty() {
        return Ok(KERNELS.iter().collect());
    }
    let find = |version: &String| {
        let found = KERNELS.iter().find(|kernel| kernel.version == version);
        found.ok_or_else(|| {
            let known = KERNELS.map(|kernel| kernel.version).join(", ");
            Hinted::new(format!("there is no kernel {version}"), format!("one of {known}")).into()
        })
    };
    versions.iter().map(find).collect()
}

/// Kernel by group.
fn print(table: &[(String, Verdicts)]) {
    for (release, verdicts) in table {
        for (group, verdict) in verdicts {
            say(&format!("{release:<28} {group:<10} {verdict}"));
        }
    }
}

/// A file that must be there, or what to type.
fn need(file: &Path, hint: &str) -> Result<()> {
    if file.is_file() {
        return Ok(());
    }
    bail!(Hinted::new(format!("{} is not here", file.display()), hint))
}
