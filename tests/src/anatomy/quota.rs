//! A control group that lets the worker have little of a CPU, where the kernel has such.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// What its processes may use of each period, and the period, in us.
const QUOTA_US: u32 = 10_000;
const PERIOD_US: u32 = 100_000;

/// How a version of control groups says it: files, and what is in them.
struct Version {
    /// The mount's type and an option that it has.
    kind: &'static str,
    option: &'static str,
    /// The file that limits.
    limit: &'static str,
    /// What of `cpu.stat` counts the time that was taken, and its unit.
    taken: &'static str,
    unit_ms: f64,
}

const VERSIONS: &[Version] = &[
    Version {
        kind: "cgroup",
        option: "cpu",
        limit: "cpu.cfs_quota_us",
        taken: "throttled_time",
        unit_ms: 1e-6,
    },
    Version {
        kind: "cgroup2",
        option: "",
        limit: "cpu.max",
        taken: "throttled_usec",
        unit_ms: 1e-3,
    },
];

/// A group with a small quota. Whoever is in it goes back when this is gone.
pub struct Quota {
    folder: PathBuf,
    back: PathBuf,
    version: &'static Version,
}

impl Quota {
    /// Makes a group and moves a process into it; none where this kernel has no such groups.
    pub fn put_on(pid: i32) -> Result<Option<Self>> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("reading the mounts")?;
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))
            .with_context(|| format!("reading the control groups of {pid}"))?;
        for version in VERSIONS {
            let Some(mount) = mount_of(&mounts, version) else { continue };
            let own = group_of(&groups, version).unwrap_or("/").trim_start_matches('/');
            let folder = mount.join(format!("openrtc-stalls-{}", std::process::id()));
            if fs::create_dir(&folder).is_err() {
                continue;
            }
            // From here on it is removed, whatever happens.
            let quota = Self { folder, back: mount.join(own), version };
            if quota.folder.join(version.limit).exists() {
                quota.limit(pid)?;
                return Ok(Some(quota));
            }
        }
        Ok(None)
    }

    fn limit(&self, pid: i32) -> Result<()> {
        if self.version.kind == "cgroup" {
            self.write("cpu.cfs_period_us", &PERIOD_US.to_string())?;
            self.write(self.version.limit, &QUOTA_US.to_string())?;
        } else {
            self.write(self.version.limit, &format!("{QUOTA_US} {PERIOD_US}"))?;
        }
        self.write("cgroup.procs", &pid.to_string())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {text} to {}", path.display()))
    }

    /// How long its processes were kept from running, so far.
    pub fn kept_ms(&self) -> Result<f64> {
        let path = self.folder.join("cpu.stat");
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let taken = self.version.taken;
        let value = text.lines().find_map(|line| line.strip_prefix(taken)?.trim().parse().ok());
        let Some(value): Option<f64> = value else { bail!("no {taken} in {}", path.display()) };
        Ok(value * self.version.unit_ms)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let procs = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines() {
            // It may have ended.
            let _ = fs::write(self.back.join("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

fn mount_of(mounts: &str, version: &Version) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (point, kind, options) = (words.get(1)?, words.get(2)?, words.get(3)?);
        let has_option =
            version.option.is_empty() || options.split(',').any(|o| o == version.option);
        (*kind == version.kind && has_option).then(|| Path::new(point).to_path_buf())
    })
}

/// The path of a process's group below the mount.
fn group_of<'a>(groups: &'a str, version: &Version) -> Option<&'a str> {
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        controllers.split(',').any(|name| name == version.option).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found() {
        let mounts =
            "x /sys/fs/cgroup tmpfs rw 0 0\ncgroup /c/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0
            cgroup2 /c/unified cgroup2 rw 0 0";
        let found: Vec<_> = VERSIONS.iter().filter_map(|one| mount_of(mounts, one)).collect();
        assert_eq!(found, [Path::new("/c/cpu,cpuacct"), Path::new("/c/unified")]);
        let groups = "4:memory:/m\n2:cpu,cpuacct:/a/b\n0::/user.slice";
        let found: Vec<_> = VERSIONS.iter().filter_map(|one| group_of(groups, one)).collect();
        assert_eq!(found, ["/a/b", "/user.slice"]);
    }
}
