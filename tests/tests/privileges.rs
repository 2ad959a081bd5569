//! What the daemon may do, what it gives up, and what it cannot do without.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use openrtc_tests::{
    code_pages,
    nobody::{self, Copy},
    probe::{PATIENCE, Probe},
    refusal,
    setting::{Loop, Setting},
    terminal::Terminal,
    worker::Worker,
};

const FAILED_HOST: i32 = 3;
const DAC_OVERRIDE: u64 = 1 << 1;
const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;
const SYS_NICE: u64 = 1 << 23;
const SYS_RESOURCE: u64 = 1 << 24;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;
const CHECKPOINT_RESTORE: u64 = 1 << 40;

const READS: u64 = SYS_PTRACE | CHECKPOINT_RESTORE | DAC_READ_SEARCH;
const WATCHES: u64 = READS | PERFMON | BPF | SYS_NICE;
const ATTACHES: u64 = WATCHES | SYS_RESOURCE | SYS_ADMIN;

/// What is always needed: as `setpriv` takes it, and as it is named.
const NEEDED: [(&str, &str); 3] =
    [("+bpf", "CAP_BPF"), ("+perfmon", "CAP_PERFMON"), ("+sys_ptrace", "CAP_SYS_PTRACE")];

/// A thread of the daemon, by `/proc`.
#[derive(Debug)]
struct Rights {
    permitted: u64,
    effective: u64,
    inheritable: u64,
    gains_none: bool,
    /// Whether system calls that harm others are refused to it.
    is_filtered: bool,
}

fn rights(pid: i32) -> Result<Vec<Rights>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
    let of_thread = |thread: std::io::Result<fs::DirEntry>| {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).with_context(|| format!("no {name} in {status}"))
        };
        let set = |name| Ok::<_, anyhow::Error>(u64::from_str_radix(value(name)?, 16)?);
        Ok(Rights {
            permitted: set("CapPrm:")?,
            effective: set("CapEff:")?,
            inheritable: set("CapInh:")?,
            gains_none: value("NoNewPrivs:")? == "1",
            is_filtered: value("Seccomp:")? == "2",
        })
    };
    threads.map(of_thread).collect()
}

/// Of root it keeps what it needs while it runs, in each of its threads.
#[test]
fn what_is_not_needed_is_given_up() -> Result<()> {
    let setting = Setting::from_environment()?;
    let worker = Worker::start(&setting, setting.usual(), "rates.py --rate 100 --sessions 3")?;
    let cases = [
        ("--mode exact", WATCHES, &[][..]),
        ("--mode sampled", WATCHES, &[READS]),
        ("--mode auto --children", ATTACHES, &[]),
    ];
    // A container's root has not all of root's.
    let own = rights(std::process::id().cast_signed())?;
    let held = own.first().context("we have a thread")?.permitted;
    for (words, most, also) in cases {
        let mut probe = Probe::start(&setting, worker.pid, words)?;
        probe.snapshot_where("with polls", PATIENCE, |it| it.worker.polls > 0)?;
        let all = rights(probe.program.pid())?;
        for thread in &all {
            ensure!(thread.permitted & !most == 0, "{words}: too much in {thread:x?}");
            ensure!(thread.effective == thread.permitted, "{words}: {thread:x?}");
            ensure!(thread.inheritable == 0 && thread.gains_none, "{words}: {thread:x?}");
            ensure!(thread.is_filtered, "{words}: {thread:x?}");
        }
        for wanted in [most].iter().chain(also) {
            let has = all.iter().any(|thread| thread.effective == *wanted & held);
            ensure!(has, "{words}: nobody holds {wanted:x}: {all:x?}");
        }
        probe.stop(Signal::SIGTERM)?;
    }
    Ok(())
}

/// The live table also keeps what it saves pictures by.
#[test]
fn a_table_may_save_a_picture() -> Result<()> {
    let setting = Setting::from_environment()?;
    let worker = Worker::start(&setting, setting.usual(), "rates.py --rate 100 --sessions 3")?;
    let probe = setting.probe_file().display();
    let script = format!("exec '{probe}' --pid {} --mode exact", worker.pid);
    let terminal = Terminal::start(120, 30, &script)?;
    terminal.wait_for("table", PATIENCE, |screen| screen.contains("mode exact"))?;
    let all = rights(terminal.fact("pane_pid")?.parse()?)?;
    let saves = |thread: &Rights| thread.effective == WATCHES | DAC_OVERRIDE;
    ensure!(all.iter().any(saves), "{all:x?}");
    Ok(())
}

/// Who is not root, with exactly what the documents list, watches a worker of root's; with one less he is told
/// which.
#[test]
fn exactly_the_list_is_enough_and_each_of_it_is_needed() -> Result<()> {
    let setting = Setting::from_environment()?;
    let probe = Copy::for_everybody(&setting)?;
    for kind in Loop::ALL {
        let words = format!("rates.py --rate 100 --sessions 3 --loop {kind}");
        let worker = Worker::start(&setting, setting.usual(), &words)?;
        let run = |capabilities: &str, mode: &str| {
            probe.look_once(capabilities, worker.pid, &["--mode", mode])
        };
        let all = NEEDED.map(|(name, _)| name).join(",");
        for mode in ["exact", "sampled", "auto"] {
            let output = run(&all, mode)?;
            ensure!(output.status.success() && !output.stdout.is_empty(), "{mode}: {output:?}");
        }
        for (without, missing) in NEEDED {
            let others = NEEDED.iter().map(|(name, _)| *name).filter(|name| *name != without);
            let output = run(&others.collect::<Vec<_>>().join(","), "exact")?;
            refusal::check(&output, FAILED_HOST, &["missing capability", missing], "setcap")?;
        }
    }
    Ok(())
}

/// Who may do nothing does nothing: not to a worker of somebody else's, and leaves nothing in it.
#[test]
fn nobody_can_do_nothing_to_another_s_worker() -> Result<()> {
    let setting = Setting::from_environment()?;
    let probe = Copy::for_everybody(&setting)?;
    let worker = Worker::start(&setting, setting.usual(), "rates.py --rate 100 --sessions 3")?;
    let pid = worker.pid.to_string();
    let cases = [
        (&["--pid", &pid][..], "missing capability", "setcap"),
        (&["--mode", "sampled", "--pid", &pid], "missing capability", "setcap"),
        (&["dump", "--pid", &pid], "its memory cannot be read", "sudo"),
    ];
    for (words, why, hint) in cases {
        let mut command = nobody::command(&probe.file(), "-all");
        refusal::check(&command.args(words).output()?, FAILED_HOST, &[why], hint)?;
    }
    ensure!(code_pages::differences(worker.pid)?.is_empty(), "something is left in the worker");
    Ok(())
}

/// A copy that would give its user root's rights refuses to run.
#[test]
fn a_setuid_copy_refuses() -> Result<()> {
    let setting = Setting::from_environment()?;
    let probe = Copy::for_everybody(&setting)?;
    for mode in [0o4755, 0o2755] {
        probe.set_mode(mode)?;
        let mut command = nobody::command(&probe.file(), "-all");
        let output = command.args(["--pid", "1"]).output()?;
        refusal::check(&output, FAILED_HOST, &["does not run setuid or setgid"], "chmod u-s,g-s")?;
    }
    Ok(())
}
