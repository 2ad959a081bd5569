//! Limits of this process on what it needs of the kernel: maps, programs and links are files to it, and memory.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::settings::Settings;
use crate::blocker::Blocker;

/// Files: our own, and what attaching takes for a moment.
const OURS: u64 = 32;
/// Files for each worker: its maps, programs and links, each site's own where the kernel has no link of several.
const EACH: u64 = 64;
/// Bytes of maps and programs of one worker.
const LOCKED_BYTES: u64 = 16 << 20;
/// From this version on the kernel counts maps as the control group's memory, before it as locked.
const COUNTED_BY_GROUP: (u32, u32) = (5, 11);

/// Raises the limit of open files to what may be asked for, and says whether that is enough for so many workers. Jobs
/// that come later are not in it: each that cannot be attached to is told of by itself.
///
/// # Errors
/// [`Blocker::FewFiles`]
pub fn raise_files(workers: usize) -> Result<(), Blocker> {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    check_files(limit, workers)
}

fn check_files(limit: u64, workers: usize) -> Result<(), Blocker> {
    let needed = OURS.saturating_add(EACH.saturating_mul(workers as u64));
    if limit < needed { Err(Blocker::FewFiles { limit, needed }) } else { Ok(()) }
}

/// Why the kernel has refused maps, if it was for want of memory that we may lock: the limit is raised before they are
/// made, by those who may.
pub fn locked_memory() -> Option<Blocker> {
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK).ok()?;
    little_memory(limit, Settings::read().version()?)
}

fn little_memory(limit: u64, kernel: (u32, u32)) -> Option<Blocker> {
    let is_little = limit != RLIM_INFINITY && limit < LOCKED_BYTES;
    (is_little && kernel < COUNTED_BY_GROUP).then_some(Blocker::LittleMemory { limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_needs_its_own_files() {
        assert_eq!(check_files(96, 1), Ok(()));
        assert_eq!(check_files(96, 2), Err(Blocker::FewFiles { limit: 96, needed: 160 }));
        assert_eq!(check_files(u64::MAX, usize::MAX), Ok(()));
    }

    #[test]
    fn locked_memory_matters_to_old_kernels_only() {
        let little = Some(Blocker::LittleMemory { limit: 65_536 });
        assert_eq!(little_memory(65_536, (5, 10)), little);
        assert_eq!(little_memory(65_536, (5, 11)), None);
        assert_eq!(little_memory(65_536, (6, 1)), None);
        assert_eq!(little_memory(RLIM_INFINITY, (5, 10)), None);
    }
}
