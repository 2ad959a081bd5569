//! How many files this process may have open: maps, programs and links of the kernel are all descriptors.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::blocker::Blocker;

/// Our own, and what attaching takes for a moment.
const OURS: u64 = 32;
/// For each worker: its maps, programs and links, each site's own where the kernel has no link of several.
const EACH: u64 = 64;

/// Raises the limit to what may be asked for, and says whether that is enough for so many workers. Jobs that come later
/// are not in it: each that cannot be attached to is told of by itself.
///
/// # Errors
/// [`Blocker::FewDescriptors`]
pub fn raise(workers: usize) -> Result<(), Blocker> {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    check(limit, workers)
}

fn check(limit: u64, workers: usize) -> Result<(), Blocker> {
    let needed = OURS.saturating_add(EACH.saturating_mul(workers as u64));
    if limit < needed { Err(Blocker::FewDescriptors { limit, needed }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_needs_its_own() {
        assert_eq!(check(96, 1), Ok(()));
        assert_eq!(check(96, 2), Err(Blocker::FewDescriptors { limit: 96, needed: 160 }));
        assert_eq!(check(u64::MAX, usize::MAX), Ok(()));
    }
}
