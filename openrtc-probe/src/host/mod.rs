//! Facts about this machine, and the pure decision whether the probe can work on it.

use std::{env, fs, path::Path};

use crate::blocker::Blocker;

const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Capabilities that are needed, what for, and which other one includes them: numbers are those of
/// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/capability.h>.
const NEEDED: [(u32, &str, &str, Option<u32>); 3] = [
    (CAP_BPF, "CAP_BPF", "load programs into the kernel", Some(CAP_SYS_ADMIN)),
    (
        CAP_PERFMON,
        "CAP_PERFMON",
        "attach them to the worker and the scheduler",
        Some(CAP_SYS_ADMIN),
    ),
    (CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "read the memory of the worker", None),
];

/// What we looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// The machine, such as `x86_64`.
    pub arch: &'static str,
    /// The effective capabilities of this process, one bit each.
    pub capabilities: u64,
    /// Whether the kernel publishes its types.
    pub has_btf: bool,
    /// Whether the kernel can place user-space probes.
    pub has_uprobes: bool,
}

impl HostFacts {
    /// Looks.
    ///
    /// # Errors
    /// [`Blocker::Unreadable`] where `/proc` does not tell our own capabilities.
    pub fn read() -> Result<Self, Blocker> {
        const STATUS: &str = "/proc/self/status";
        let unreadable = |why: String| Blocker::Unreadable { what: STATUS.into(), why };
        let status = fs::read_to_string(STATUS).map_err(|why| unreadable(why.to_string()))?;
        Ok(Self {
            arch: env::consts::ARCH,
            capabilities: effective(&status)
                .ok_or_else(|| unreadable("it has no line CapEff".into()))?,
            has_btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            has_uprobes: Path::new("/sys/bus/event_source/devices/uprobe").exists(),
        })
    }

    /// Whether this process has a capability, or one that includes it.
    fn has(&self, capability: u32, or: Option<u32>) -> bool {
        let bit = |number: u32| self.capabilities & (1 << number) != 0;
        bit(capability) || or.is_some_and(bit)
    }
}

/// The effective capabilities in the text of a `status` file.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Everything about this machine that keeps the probe from working, the hardest to change first.
pub fn blockers(facts: &HostFacts) -> Vec<Blocker> {
    let mut found = Vec::new();
    if facts.arch != "x86_64" {
        found.push(Blocker::NotX86_64 { arch: facts.arch.into() });
    }
    if !facts.has_btf {
        found.push(Blocker::NoBtf);
    }
    if !facts.has_uprobes {
        found.push(Blocker::NoUprobes);
    }
    let missing = NEEDED.iter().filter(|(number, .., or)| !facts.has(*number, *or));
    found.extend(
        missing.map(|&(_, name, needed_for, _)| Blocker::MissingCapability { name, needed_for }),
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(capabilities: u64) -> HostFacts {
        HostFacts { arch: "x86_64", capabilities, has_btf: true, has_uprobes: true }
    }

    fn missing(facts: &HostFacts) -> Vec<String> {
        let name = |blocker: Blocker| match blocker {
            Blocker::MissingCapability { name, .. } => name.to_owned(),
            other => other.to_string(),
        };
        blockers(facts).into_iter().map(name).collect()
    }

    #[test]
    fn root_may_do_everything() {
        assert_eq!(missing(&facts(0x1ff_ffff_ffff)), [""; 0]);
    }

    #[test]
    fn each_capability_is_named() {
        assert_eq!(missing(&facts(0)), ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"]);
        assert_eq!(missing(&facts(1 << CAP_SYS_ADMIN)), ["CAP_SYS_PTRACE"]);
        let exact = 1 << CAP_BPF | 1 << CAP_PERFMON | 1 << CAP_SYS_PTRACE;
        assert_eq!(missing(&facts(exact)), [""; 0]);
        assert_eq!(missing(&facts(exact ^ 1 << CAP_PERFMON)), ["CAP_PERFMON"]);
    }

    #[test]
    fn the_kernel_and_the_machine_are_checked() {
        let bare = HostFacts { arch: "aarch64", has_btf: false, has_uprobes: false, ..facts(!0) };
        let arch = "aarch64".into();
        assert_eq!(
            blockers(&bare),
            [Blocker::NotX86_64 { arch }, Blocker::NoBtf, Blocker::NoUprobes]
        );
    }

    #[test]
    fn the_effective_set_is_read() {
        let status = "Name:\tx\nCapPrm:\t0000000000000001\nCapEff:\t000001ffffffffff\n";
        assert_eq!(effective(status), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("Name:\tx\n"), None);
    }
}
