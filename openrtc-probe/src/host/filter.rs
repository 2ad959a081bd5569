//! System calls by which a process stops, changes or writes to another: the kernel refuses them to us from the start, so
//! that not even a bug, or somebody who makes use of one, does to a worker what we say we never do.
//!
//! A list of what is refused, not of what is allowed: it keeps workers from harm, and is no sandbox.

use std::collections::BTreeMap;

use anyhow::Context as _;
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

/// Of which calls.
enum When {
    /// Of each.
    Always,
    /// Where the argument at this place is no process or thread of ours: neither 0, which is who calls, nor our own id.
    NotOurs(u8),
    /// Where the first argument is not our own id; our process group may be stopped (Ctrl-Z), nothing else be done to it.
    Signal,
}

/// Numbers, and what each would do.
const REFUSED: &[(libc::c_long, When)] = &[
    // Stop, look and change it as a debugger does.
    (libc::SYS_ptrace, When::Always),
    // Write to its memory, or drop it.
    (libc::SYS_process_vm_writev, When::Always),
    (libc::SYS_process_madvise, When::Always),
    (libc::SYS_process_mrelease, When::Always),
    (libc::SYS_move_pages, When::NotOurs(0)),
    (libc::SYS_migrate_pages, When::NotOurs(0)),
    // Signal it.
    (libc::SYS_kill, When::Signal),
    (libc::SYS_tgkill, When::NotOurs(0)),
    (libc::SYS_tkill, When::Always),
    (libc::SYS_rt_sigqueueinfo, When::Always),
    (libc::SYS_rt_tgsigqueueinfo, When::Always),
    (libc::SYS_pidfd_send_signal, When::Always),
    // Take its files.
    (libc::SYS_pidfd_getfd, When::Always),
    // Change when and where it runs, and what it may use.
    (libc::SYS_setpriority, When::NotOurs(1)),
    (libc::SYS_sched_setaffinity, When::NotOurs(0)),
    (libc::SYS_sched_setscheduler, When::NotOurs(0)),
    (libc::SYS_sched_setparam, When::NotOurs(0)),
    (libc::SYS_sched_setattr, When::NotOurs(0)),
    (libc::SYS_ioprio_set, When::NotOurs(1)),
    (libc::SYS_prlimit64, When::NotOurs(0)),
    // Become another program, which could do all of these.
    (libc::SYS_execve, When::Always),
    (libc::SYS_execveat, When::Always),
    // Change the machine.
    (libc::SYS_init_module, When::Always),
    (libc::SYS_finit_module, When::Always),
    (libc::SYS_kexec_load, When::Always),
    (libc::SYS_kexec_file_load, When::Always),
    (libc::SYS_reboot, When::Always),
    (libc::SYS_mount, When::Always),
    (libc::SYS_umount2, When::Always),
    (libc::SYS_setns, When::Always),
];

/// Has the kernel refuse them to this process, in all threads that it has and will have, until it ends. `no_new_privs`
/// must be set. On a kernel without such filters nothing happens.
///
/// # Errors
/// The system's.
pub fn refuse() -> anyhow::Result<()> {
    let program = program(std::process::id())?;
    match seccompiler::apply_filter_all_threads(&program) {
        Err(seccompiler::Error::Seccomp(why) | seccompiler::Error::Prctl(why))
            if matches!(why.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) =>
        {
            log::debug!("this kernel filters no system calls");
            Ok(())
        }
        other => other.context("cannot have system calls refused"),
    }
}

/// The filter of a process with this id.
fn program(pid: u32) -> anyhow::Result<BpfProgram> {
    let rules: Result<BTreeMap<i64, _>, seccompiler::BackendError> =
        REFUSED.iter().map(|(number, when)| Ok((*number, when.rules(u64::from(pid))?))).collect();
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = rules.and_then(|rules| {
        SeccompFilter::new(rules, SeccompAction::Allow, refused, TargetArch::x86_64)?.try_into()
    });
    filter.context("cannot make a filter of system calls")
}

impl When {
    /// Any of them is enough; none is each call.
    fn rules(&self, pid: u64) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
        use SeccompCmpOp::{Eq, Ne};
        const STOP: u64 = libc::SIGTSTP.cast_unsigned() as u64;
        let is =
            |argument, operator, value| SeccompCondition::new(argument, Dword, operator, value);
        match *self {
            Self::Always => Ok(Vec::new()),
            Self::NotOurs(argument) => {
                Ok(vec![SeccompRule::new(vec![is(argument, Ne, pid)?, is(argument, Ne, 0)?])?])
            }
            Self::Signal => Ok(vec![
                SeccompRule::new(vec![is(0, Ne, pid)?, is(0, Ne, 0)?])?,
                SeccompRule::new(vec![is(0, Eq, 0)?, is(1, Ne, STOP)?])?,
            ]),
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::{
        errno::Errno,
        sys::signal::kill,
        unistd::{Pid, getppid},
    };

    use super::*;

    /// On a thread of its own: it stays refused until that ends.
    #[test]
    fn what_harms_others_is_refused_and_what_we_need_is_not() {
        let other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(other.id().cast_signed());
        let filtered = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            seccompiler::apply_filter(&program(std::process::id()).unwrap()).unwrap();
            let refused = Err(Errno::EPERM);
            assert_eq!(kill(pid, None), refused);
            assert_eq!(kill(getppid(), None), refused);
            assert_eq!(kill(Pid::from_raw(-1), None), refused);
            assert_eq!(kill(Pid::from_raw(0), None), refused, "our group");
            assert_eq!(kill(Pid::this(), None), Ok(()));
            // SAFETY: it gives no memory of ours away.
            let traced = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid.as_raw(), 0, 0) };
            assert_eq!((traced, Errno::last()), (-1, Errno::EPERM));
            let limit = rustix::process::Rlimit { current: Some(9), maximum: Some(9) };
            let other = rustix::process::Pid::from_raw(pid.as_raw());
            let limited = rustix::process::prlimit(other, rustix::process::Resource::Nofile, limit);
            assert_eq!(limited.unwrap_err(), rustix::io::Errno::PERM);
            assert!(rustix::process::setpriority_process(other, 5).is_err());
            assert!(rustix::process::setpriority_process(None, 5).is_ok());
            let program = std::process::Command::new("true").status();
            assert_eq!(program.unwrap_err().raw_os_error(), Some(libc::EPERM));
        });
        filtered.join().unwrap();
        let mut other = other;
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn each_call_is_listed_once() {
        let mut numbers: Vec<_> = REFUSED.iter().map(|(number, _)| number).collect();
        numbers.sort();
        assert!(numbers.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
