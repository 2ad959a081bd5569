//! Settings of the kernel and limits of this process that decide what works, or how well: for a bug
//! report. Each is `None` where this kernel has no such thing, or does not tell.

use std::{fs, str::FromStr, thread::available_parallelism};

use super::{
    UPROBES,
    cgroup::{CpuLimit, cpu_limit},
};

/// What we looked up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `uname -r`.
    pub kernel_release: Option<String>,
    /// Bytes of the kernel's type information.
    pub btf_bytes: Option<u64>,
    /// The type of performance event that is a user-space probe.
    pub uprobe_type: Option<u32>,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Option<i32>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<u32>,
    /// `kernel.bpf_stats_enabled`.
    pub bpf_stats_enabled: Option<u32>,
    /// What the kernel keeps even root from: `none`, `integrity` or `confidentiality`.
    pub lockdown: Option<String>,
    /// `kernel.yama.ptrace_scope`.
    pub ptrace_scope: Option<u32>,
    /// Of this process: 0 none, 1 strict, 2 filter.
    pub seccomp: Option<u32>,
    /// Memory that this process may lock: `unlimited`, or a number of bytes.
    pub memlock: Option<String>,
    /// CPUs that are online, as the kernel lists them: `0-3`.
    pub cpus_online: Option<String>,
    /// How many of them this process may run on.
    pub cpus_usable: Option<usize>,
    /// What its control group lets it use.
    pub cpu_limit: Option<CpuLimit>,
}

impl Settings {
    /// Looks.
    pub fn read() -> Self {
        let sysctl = |name: &str| text(&format!("/proc/sys/kernel/{name}"));
        let status = text("/proc/self/status").unwrap_or_default();
        let limits = text("/proc/self/limits").unwrap_or_default();
        Self {
            kernel_release: sysctl("osrelease"),
            btf_bytes: fs::metadata(super::BTF).ok().map(|meta| meta.len()),
            uprobe_type: number(text(&format!("{UPROBES}/type"))),
            perf_event_paranoid: number(sysctl("perf_event_paranoid")),
            unprivileged_bpf_disabled: number(sysctl("unprivileged_bpf_disabled")),
            bpf_stats_enabled: number(sysctl("bpf_stats_enabled")),
            lockdown: text("/sys/kernel/security/lockdown").and_then(|text| chosen(&text)),
            ptrace_scope: number(sysctl("yama/ptrace_scope")),
            seccomp: number(field(&status, "Seccomp:")),
            memlock: field(&limits, "Max locked memory"),
            cpus_online: text("/sys/devices/system/cpu/online"),
            cpus_usable: available_parallelism().ok().map(usize::from),
            cpu_limit: Some(cpu_limit("self")),
        }
    }

    /// The kernel's major and minor version.
    pub fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.kernel_release.as_deref()?.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number<T: FromStr>(text: Option<String>) -> Option<T> {
    text?.parse().ok()
}

/// The first word behind a name at the start of a line.
fn field(text: &str, name: &str) -> Option<String> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next().map(str::to_owned)
}

/// The word in brackets: `none [integrity] confidentiality`.
fn chosen(text: &str) -> Option<String> {
    let (word, _) = text.split_once('[')?.1.split_once(']')?;
    Some(word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_ways_of_writing_are_read() {
        assert_eq!(chosen("none [integrity] confidentiality").as_deref(), Some("integrity"));
        assert_eq!(chosen("none"), None);
        let limits =
            "Limit  Soft Limit\nMax locked memory         8388608              8388608     bytes\n";
        assert_eq!(field(limits, "Max locked memory").as_deref(), Some("8388608"));
        assert_eq!(number::<u32>(field("Seccomp:\t2\n", "Seccomp:")), Some(2));
    }

    #[test]
    fn releases_have_a_version() {
        let of = |release: &str| {
            Settings { kernel_release: Some(release.into()), ..Settings::default() }.version()
        };
        assert_eq!(of("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(of("5.10"), Some((5, 10)));
        assert_eq!(of("5"), None);
    }

    #[test]
    fn this_machine_tells() {
        let found = Settings::read();
        assert!(found.kernel_release.is_some_and(|release| release.contains('.')));
        assert!(found.seccomp.is_some() && found.cpus_usable.is_some_and(|cpus| cpus > 0));
    }
}
