//! The capabilities that the probe uses, as data.

use crate::blocker::Blocker;

// Numbers are those of
// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/capability.h>.
const CAP_DAC_READ_SEARCH: u32 = 2;
pub(super) const CAP_SYS_PTRACE: u32 = 19;
pub(super) const CAP_SYS_ADMIN: u32 = 21;
pub(super) const CAP_PERFMON: u32 = 38;
pub(super) const CAP_BPF: u32 = 39;
const CAP_CHECKPOINT_RESTORE: u32 = 40;

/// When a capability is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Always.
    Always,
    /// On some kernels, which is found out by trying.
    ByKernel,
    /// For some workers.
    ByWorker,
}

/// A capability, and what it is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Its number: a bit of the sets in `/proc/self/status`.
    pub number: u32,
    /// Such as `CAP_BPF`.
    pub name: &'static str,
    /// The same in lower case.
    pub id: &'static str,
    /// What it lets us do, such as `load programs into the kernel`.
    pub needed_for: &'static str,
    /// When.
    pub need: Need,
    /// Another one that includes it.
    pub included_in: Option<u32>,
}

impl Capability {
    /// That it is missing.
    pub fn blocker(&self) -> Blocker {
        Blocker::MissingCapability { name: self.name, needed_for: self.needed_for }
    }
}

/// All that are used, those that are always needed first.
pub const CAPABILITIES: [Capability; 6] = [
    Capability {
        number: CAP_BPF,
        name: "CAP_BPF",
        id: "cap_bpf",
        needed_for: "load programs into the kernel",
        need: Need::Always,
        included_in: Some(CAP_SYS_ADMIN),
    },
    Capability {
        number: CAP_PERFMON,
        name: "CAP_PERFMON",
        id: "cap_perfmon",
        needed_for: "attach them to the worker and the scheduler",
        need: Need::Always,
        included_in: Some(CAP_SYS_ADMIN),
    },
    Capability {
        number: CAP_SYS_PTRACE,
        name: "CAP_SYS_PTRACE",
        id: "cap_sys_ptrace",
        needed_for: "read the memory of the worker",
        need: Need::Always,
        included_in: None,
    },
    // Where a kernel from 6.16 on has no links of several sites, by its commit "perf: Revert to requiring
    // CAP_SYS_ADMIN for uprobes".
    Capability {
        number: CAP_SYS_ADMIN,
        name: "CAP_SYS_ADMIN",
        id: "cap_sys_admin",
        needed_for: "attach probes to user space on this kernel",
        need: Need::ByKernel,
        included_in: None,
    },
    // proc_map_files_get_link() asks for it:
    // <https://github.com/torvalds/linux/blob/v6.12/fs/proc/base.c>.
    Capability {
        number: CAP_CHECKPOINT_RESTORE,
        name: "CAP_CHECKPOINT_RESTORE",
        id: "cap_checkpoint_restore",
        needed_for: "open an interpreter whose file was deleted or replaced",
        need: Need::ByWorker,
        included_in: Some(CAP_SYS_ADMIN),
    },
    Capability {
        number: CAP_DAC_READ_SEARCH,
        name: "CAP_DAC_READ_SEARCH",
        id: "cap_dac_read_search",
        needed_for: "open an interpreter in a folder closed to us",
        need: Need::ByWorker,
        included_in: None,
    },
];
