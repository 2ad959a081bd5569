//! The processes below a process.
//!
//! Each thread's `children` file lists what it has forked; a process whose parent has ended hangs below
//! another one, and is no longer found. Depth and number are bounded: a worker may fork without end.

use std::{collections::HashSet, fs, path::Path};

use super::{Worker, binary};

/// Generations that are looked at: a fork server's jobs are its parent's grandchildren.
const MAX_DEPTH: usize = 8;
/// Processes that are looked at.
const MAX_FAMILY: usize = 512;
/// Threads of one process that are asked for their children.
const MAX_PARENTS: usize = 512;

/// Whether the kernel lists what a process has started.
pub fn is_listed() -> bool {
    Path::new("/proc/thread-self/children").exists()
}

/// The processes below `pid`, nearest first, at most 512.
pub fn descendants(pid: i32) -> Vec<i32> {
    let (mut known, mut found) = (HashSet::from([pid]), Vec::new());
    let mut parents = vec![pid];
    for _ in 0..MAX_DEPTH {
        let born = parents.iter().flat_map(|parent| children(*parent));
        let born: Vec<i32> =
            born.filter(|child| known.insert(*child)).take(MAX_FAMILY - found.len()).collect();
        found.extend(&born);
        if born.is_empty() || found.len() == MAX_FAMILY {
            break;
        }
        parents = born;
    }
    found
}

/// Those below `pid` that have a CPython mapped: the ones with `asyncio` where there are any, for
/// `multiprocessing` has helpers that are no workers.
pub fn python_below(pid: i32) -> Vec<i32> {
    let has = |child: i32, names: &[&str]| {
        let mapped = Worker::open(child).and_then(|worker| binary::executables(&worker));
        mapped.is_ok_and(|mappings| {
            let mut files = mappings.iter().map(binary::Mapping::file_name);
            files.any(|file| names.iter().any(|name| file.starts_with(name)))
        })
    };
    let mut found = descendants(pid);
    found.retain(|child| has(*child, &["python3", "libpython3"]));
    let workers: Vec<i32> =
        found.iter().copied().filter(|child| has(*child, &["_asyncio."])).collect();
    if workers.is_empty() { found } else { workers }
}

fn children(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.take(MAX_PARENTS).map(|thread| {
        // A thread that has just ended has no file.
        fs::read_to_string(thread.path().join("children")).unwrap_or_default()
    });
    lists.flat_map(|list| parse(&list)).collect()
}

fn parse(list: &str) -> Vec<i32> {
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_childs_children_are_found() {
        assert!(is_listed());
        let own = std::process::id().cast_signed();
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = shell.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        let sleep: i32 = line.trim().parse().unwrap();
        let found = descendants(own);
        let place = |pid: i32| found.iter().position(|found| *found == pid);
        let (parent, child) = (place(shell.id().cast_signed()), place(sleep));
        assert!(parent.is_some() && child > parent, "{found:?}");
        assert!(python_below(shell.id().cast_signed()).is_empty());
        let _ =
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(sleep), nix::sys::signal::SIGKILL);
        shell.wait().unwrap();
        assert!(descendants(i32::MAX).is_empty());
    }

    #[test]
    fn a_list_of_children() {
        assert_eq!(parse("12 34 \n"), [12, 34]);
        assert!(parse("").is_empty());
    }
}
