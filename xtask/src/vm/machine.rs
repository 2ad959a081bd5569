//! The emulated machine, and what it says.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{Verdicts, kernel::Found};
use crate::{hint::Hinted, workspace::Workspace};

const QEMU: &str = "qemu-system-x86_64";
/// An emulated kernel that hangs is ended after this.
const LIMIT: Duration = Duration::from_mins(5);
const LOOK: Duration = Duration::from_millis(100);
const LAST_LINES: usize = 15;

/// Whether there is one.
pub fn check() -> Result<()> {
    if Command::new(QEMU).arg("--version").stdout(Stdio::null()).status().is_ok() {
        return Ok(());
    }
    let hint = "on Debian type: apt-get install qemu-system-x86";
    Err(Hinted::new(format!("{QEMU} is not here, which boots other kernels"), hint).into())
}

/// Boots, and reads what the guest says of these groups of its tests, of all if none is named.
pub fn boot(
    workspace: &Workspace,
    kernel: &Found,
    initrd: &Path,
    groups: &str,
) -> Result<Verdicts> {
    let log = workspace.path("target/vm").join(format!("{}.log", kernel.release));
    let out = fs::File::create(&log).with_context(|| format!("make {}", log.display()))?;
    let mut qemu = Command::new(QEMU);
    // One thread for both CPUs: with one each, QEMU 7.2 loses its way where code is patched that runs.
    qemu.args(["-M", "q35", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2"]);
    qemu.args(["-m", "768", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
    let words = format!("console=ttyS0 quiet panic=-1 groups={groups}");
    qemu.args(["-serial", "stdio", "-append", &words]);
    qemu.arg("-kernel").arg(&kernel.file).arg("-initrd").arg(initrd);
    let mut qemu =
        qemu.stdin(Stdio::null()).stdout(out).spawn().with_context(|| format!("start {QEMU}"))?;
    let began = Instant::now();
    let read = || {
        let said = fs::read(&log).context("read what the guest said")?;
        Ok::<_, anyhow::Error>(String::from_utf8_lossy(&said).into_owned())
    };
    let has_ended = |said: &str| said.lines().any(|line| is_last(line.trim()));
    while qemu.try_wait().context("wait for the guest")?.is_none() {
        // A kernel that was asleep does not always find the way to power off.
        if began.elapsed() > LIMIT || has_ended(&read()?) {
            qemu.kill().context("end the guest")?;
            qemu.wait().context("wait for the guest's end")?;
            break;
        }
        thread::sleep(LOOK);
    }
    let said = read()?;
    let verdicts = verdicts(&said);
    // It ends well after a panic too: the last word is the guest's own.
    if verdicts.is_empty() || !has_ended(&said) {
        let last: Vec<&str> = said.lines().rev().take(LAST_LINES).collect();
        let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
        bail!("the guest of {} did not come to its end:\n{last}", kernel.release);
    }
    Ok(verdicts)
}

const MARK: &str = "VMTEST ";

fn is_last(line: &str) -> bool {
    line.strip_prefix(MARK).is_some_and(|rest| rest.starts_with("result "))
}

/// `VMTEST GROUP ok ...`, `VMTEST GROUP FAIL ...`.
fn verdicts(said: &str) -> Verdicts {
    let lines = said.lines().map(str::trim).filter(|line| !is_last(line));
    let verdict = |line: &str| {
        let (group, verdict) = line.strip_prefix(MARK)?.split_once(' ')?;
        Some((group.to_owned(), verdict.to_owned()))
    };
    lines.filter_map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_guest_s_tests_say_counts() {
        let said =
            "noise\r\nVMTEST exact ok (9 s)\r\nVMTEST killed FAIL why\r\nVMTEST result 1\r\n";
        let found = verdicts(said);
        let found: Vec<_> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(found, [("exact", "ok (9 s)"), ("killed", "FAIL why")]);
        assert!(is_last("VMTEST result 0") && !is_last("VMTEST exact ok"));
    }
}
