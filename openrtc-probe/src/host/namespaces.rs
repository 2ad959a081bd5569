//! Which namespaces a process is in, and which of ours keep the probe from working.

use std::{fmt::Display, fs, os::unix::fs::MetadataExt as _};

use crate::blocker::Blocker;

/// The inode of the first pid namespace, the same on every kernel (`PROC_PID_INIT_INO`):
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/proc_ns.h>.
pub const FIRST_PID: u64 = 0xEFFF_FFFC;
/// The inode of the first user namespace (`PROC_USER_INIT_INO`).
pub const FIRST_USER: u64 = 0xEFFF_FFFD;

/// The namespaces of a process by their inodes; `None` where one cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// What its process ids mean.
    pub pid: Option<u64>,
    /// What its paths mean.
    pub mount: Option<u64>,
    /// What its capabilities mean.
    pub user: Option<u64>,
}

impl Namespaces {
    /// Those of a process: a number, or `self`.
    pub fn of(process: impl Display) -> Self {
        let inode = |name: &str| {
            fs::metadata(format!("/proc/{process}/ns/{name}")).ok().map(|meta| meta.ino())
        };
        Self { pid: inode("pid"), mount: inode("mnt"), user: inode("user") }
    }
}

/// What of ours keeps the probe from working. What is unknown is given the benefit of the doubt.
pub fn blockers(ours: &Namespaces) -> impl Iterator<Item = Blocker> + use<> {
    let own = |found: Option<u64>, first| found.is_some_and(|found| found != first);
    let pid = own(ours.pid, FIRST_PID).then_some(Blocker::OwnNamespace {
        kind: "pid",
        so: "the kernel knows processes by other ids than those seen here",
    });
    let user = own(ours.user, FIRST_USER).then_some(Blocker::OwnNamespace {
        kind: "user",
        so: "its capabilities count for nothing outside",
    });
    pid.into_iter().chain(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_namespaces_will_do() {
        let named = |pid, user| -> Vec<String> {
            let ours = Namespaces { pid, user, mount: Some(1) };
            blockers(&ours).map(|blocker| blocker.to_string()).collect()
        };
        assert_eq!(named(Some(FIRST_PID), Some(FIRST_USER)), [""; 0]);
        assert_eq!(named(None, None), [""; 0], "unknown");
        let both = named(Some(4_026_532_200), Some(4_026_532_201));
        assert!(both[0].contains("in a pid namespace of its own"), "{both:?}");
        assert!(both[1].contains("in a user namespace of its own"), "{both:?}");
    }

    #[test]
    fn our_own_are_readable() {
        let ours = Namespaces::of("self");
        assert!(ours.pid.is_some() && ours.mount.is_some() && ours.user.is_some());
        assert_eq!(ours, Namespaces::of(std::process::id()));
        assert_eq!(Namespaces::of(i32::MAX), Namespaces::default());
    }
}
