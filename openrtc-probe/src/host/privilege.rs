//! What this process may do: no more than what it is at needs.
//!
//! The kernel keeps capabilities by the thread, and a new one has those of the thread that makes it: so most are
//! given up before there is a second one, and a thread that needs less gives up the rest itself.

use std::io;

use rustix::{
    process::{getegid, geteuid, getgid, getuid},
    thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs},
};

use crate::blocker::Blocker;

/// What is done from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Anything: nothing has begun.
    Any,
    /// Workers are watched that all are attached to.
    Watch {
        /// Others may be attached to later.
        attaches: bool,
        /// Pictures may be saved, in whatever folder we were started in.
        saves: bool,
    },
    /// Memory of workers is read.
    Read,
}

/// To read a worker that is another user's, and the files that it has mapped.
const READS: CapabilitySet = CapabilitySet::SYS_PTRACE
    .union(CapabilitySet::CHECKPOINT_RESTORE)
    .union(CapabilitySet::DAC_READ_SEARCH);
/// To sample native code, to use maps where each use asks for it, and to have a sampler that is not kept waiting.
const WATCHES: CapabilitySet =
    READS.union(CapabilitySet::PERFMON).union(CapabilitySet::BPF).union(CapabilitySet::SYS_NICE);
/// To lock memory before Linux 5.11, and to have the kernel account what programs cost.
const ATTACHES: CapabilitySet =
    WATCHES.union(CapabilitySet::SYS_RESOURCE).union(CapabilitySet::SYS_ADMIN);
/// To save a picture where only others may write, as root.
const SAVES: CapabilitySet = CapabilitySet::DAC_OVERRIDE;

/// Refuses to run with another user's rights: whoever started us would do to processes of others what he may not.
///
/// # Errors
/// [`Blocker::SetUser`].
pub fn refuse_setuid() -> Result<(), Blocker> {
    let is_own = getuid() == geteuid() && getgid() == getegid();
    if is_own { Ok(()) } else { Err(Blocker::SetUser) }
}

/// Gives up what this work does not need, for this thread and those that it makes. No program that is started
/// from here gets more.
///
/// # Errors
/// The system's.
pub fn keep(work: Work) -> io::Result<()> {
    set_no_new_privs(true)?;
    let held = capabilities(None)?.permitted;
    let kept = kept(held, work);
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(set_capabilities(None, sets)?)
}

fn kept(held: CapabilitySet, work: Work) -> CapabilitySet {
    let wanted = match work {
        Work::Any => ATTACHES | SAVES,
        Work::Watch { attaches, saves } => {
            let mut wanted = if attaches { ATTACHES } else { WATCHES };
            // It stands in for those that it includes, where they are missing.
            let has_both = held.contains(CapabilitySet::BPF | CapabilitySet::PERFMON);
            wanted.set(CapabilitySet::SYS_ADMIN, attaches || !has_both);
            wanted.set(SAVES, saves);
            wanted
        }
        Work::Read => READS,
    };
    held & wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: CapabilitySet = CapabilitySet::all();

    #[test]
    fn each_work_keeps_what_it_needs() {
        let watch = |attaches, saves| Work::Watch { attaches, saves };
        assert_eq!(kept(ROOT, Work::Read), READS);
        assert_eq!(kept(ROOT, watch(false, false)), WATCHES);
        assert_eq!(kept(ROOT, watch(false, true)), WATCHES | SAVES);
        assert_eq!(kept(ROOT, watch(true, false)), ATTACHES);
        assert_eq!(kept(ROOT, Work::Any), ATTACHES | SAVES);
        for never in [CapabilitySet::SYS_MODULE, CapabilitySet::KILL, CapabilitySet::SETUID] {
            assert!(!kept(ROOT, Work::Any).contains(never));
        }
    }

    #[test]
    fn nothing_is_kept_that_was_not_held() {
        let held = CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::SYS_PTRACE;
        for work in [Work::Any, Work::Watch { attaches: true, saves: true }] {
            assert_eq!(kept(held, work), held);
        }
        assert_eq!(kept(CapabilitySet::empty(), Work::Any), CapabilitySet::empty());
    }

    #[test]
    fn what_includes_others_is_kept_for_them() {
        let held = CapabilitySet::SYS_ADMIN | CapabilitySet::SYS_PTRACE;
        assert_eq!(kept(held, Work::Watch { attaches: false, saves: false }), held);
        assert_eq!(kept(held, Work::Read), CapabilitySet::SYS_PTRACE);
    }
}
