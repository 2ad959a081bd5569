//! How much CPU a process's control group lets it use (cgroup v2).

use std::{fmt::Display, fs, path::Path};

const MOUNT: &str = "/sys/fs/cgroup";
/// Groups from a process's own up to the root that are looked at.
const MAX_DEPTH: usize = 32;

/// The least number of CPUs that its group, or one around it, lets a process use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CpuLimit {
    /// So many, on average over a period.
    Cpus(f64),
    /// No group limits it.
    None,
    /// The groups cannot be read, or are those of version 1.
    Unknown,
}

/// The limit of a process: a number, or `self`.
pub fn cpu_limit(process: impl Display) -> CpuLimit {
    let Ok(text) = fs::read_to_string(format!("/proc/{process}/cgroup")) else {
        return CpuLimit::Unknown;
    };
    let Some(group) = group(&text) else { return CpuLimit::Unknown };
    if !Path::new(MOUNT).join("cgroup.controllers").exists() {
        return CpuLimit::Unknown;
    }
    // Where the CPU controller is not in use, the file is not there: then it limits nobody.
    let maxima = Path::new(group)
        .ancestors()
        .take(MAX_DEPTH)
        .filter_map(|group| {
            let below = group.strip_prefix("/").unwrap_or(group);
            fs::read_to_string(Path::new(MOUNT).join(below).join("cpu.max")).ok()
        })
        .filter_map(|text| cpus(&text));
    maxima.reduce(f64::min).map_or(CpuLimit::None, CpuLimit::Cpus)
}

/// The group in version 2's line of `/proc/<pid>/cgroup`.
fn group(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The CPUs in a `cpu.max`: `<quota> <period>` in microseconds, or `max <period>`.
fn cpus(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then_some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_over_a_period_is_so_many_cpus() {
        assert_eq!(cpus("50000 100000\n"), Some(0.5));
        assert_eq!(cpus("max 100000\n"), None);
        assert_eq!(cpus("1 0"), None);
        assert_eq!(cpus(""), None);
    }

    #[test]
    fn the_group_of_version_2_is_found() {
        assert_eq!(
            group("1:cpu:/old\n0::/system.slice/worker.service\n"),
            Some("/system.slice/worker.service")
        );
        assert_eq!(group("1:cpu:/old\n"), None);
    }
}
