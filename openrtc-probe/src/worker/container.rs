//! Who has an id inside a container: what `docker exec` or a log line gives is no id of the host's.

use procfs::process::all_processes;

use crate::blocker::Blocker;

/// Processes that are looked at: `PID_MAX_LIMIT` is more, but no host that can be worked on has so
/// many.
const MAX_PROCESSES: usize = 65_536;

/// The blocker for an id that no process has here: some may have it in a pid namespace of their own.
pub fn nobody_or_inside(pid: i32) -> Blocker {
    let statuses = all_processes().into_iter().flatten().take(MAX_PROCESSES);
    // What cannot be read has ended meanwhile.
    let ids = statuses.filter_map(|process| process.ok()?.status().ok()?.nspid);
    let here = named(pid, ids);
    if here.is_empty() {
        Blocker::NoSuchProcess { pid }
    } else {
        Blocker::ContainerPid { pid, here }
    }
}

/// The outermost ids of those whose innermost is `pid`; each has its ids from ours inwards.
fn named(pid: i32, processes: impl Iterator<Item = Vec<i32>>) -> Vec<i32> {
    processes
        .filter(|ids| ids.len() > 1 && ids.last() == Some(&pid))
        .filter_map(|ids| ids.first().copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_innermost_id_counts_and_only_in_a_container() {
        let processes = [vec![7], vec![900, 7], vec![901, 7, 1], vec![902, 30, 7], vec![]];
        assert_eq!(named(7, processes.iter().cloned()), [900, 902]);
        assert_eq!(named(1, processes.iter().cloned()), [901]);
        assert_eq!(named(900, processes.into_iter()), [0; 0]);
    }
}
