//! Facts about this machine, and the pure decision whether the probe can work on it.

mod capability;
pub mod cgroup;
pub mod filter;
pub mod limits;
mod namespaces;
pub mod own;
pub mod privilege;
pub mod settings;
pub mod stolen;

use std::{env, fs, path::Path};

use crate::blocker::Blocker;

pub use self::{
    capability::{CAPABILITIES, Capability, Need},
    namespaces::{FIRST_PID, FIRST_USER, Namespaces},
};

/// The kernel's own type information.
pub const BTF: &str = "/sys/kernel/btf/vmlinux";
/// The device that places user-space probes.
pub const UPROBES: &str = "/sys/bus/event_source/devices/uprobe";

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
    /// Those that this process is in.
    pub namespaces: Namespaces,
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
            has_btf: Path::new(BTF).exists(),
            has_uprobes: Path::new(UPROBES).exists(),
            namespaces: Namespaces::of("self"),
        })
    }

    /// Whether this process has a capability itself.
    pub fn holds(&self, number: u32) -> bool {
        self.capabilities & (1 << number) != 0
    }

    /// Whether this process has a capability, or one that includes it.
    pub fn has(&self, capability: &Capability) -> bool {
        self.holds(capability.number)
            || capability.included_in.is_some_and(|number| self.holds(number))
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
    found.extend(namespaces::blockers(&facts.namespaces));
    let needed = CAPABILITIES.iter().filter(|capability| capability.need == Need::Always);
    let missing = needed.filter(|capability| !facts.has(capability));
    found.extend(missing.map(Capability::blocker));
    found
}

#[cfg(test)]
mod tests {
    use super::{
        capability::{CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYS_PTRACE},
        *,
    };

    fn facts(capabilities: u64) -> HostFacts {
        let namespaces = Namespaces { pid: Some(FIRST_PID), user: Some(FIRST_USER), mount: None };
        HostFacts { arch: "x86_64", capabilities, has_btf: true, has_uprobes: true, namespaces }
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
