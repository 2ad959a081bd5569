//! The kernel's own list of programs, maps and links: what is there, and what of it nobody holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aya::maps::loaded_maps;
use aya::programs::{loaded_links, loaded_programs};

/// How long the kernel may take to free what a process held.
const FREES: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Where programs and maps can be pinned.
const PINS: &str = "/sys/fs/bpf";

/// Names that the kernel object gives to its programs; the kernel keeps 15 bytes of each.
const PROGRAMS: &[&str] = &[
    "context_enter",
    "context_exit",
    "empty_enter",
    "empty_exit",
    "run_enter",
    "run_exit",
    "sched_switch",
    "sched_wakeup",
    "sched_wakeup_ne",
    "var_reset",
    "var_set",
];

/// And to its maps.
const MAPS: &[&str] = &[
    "EVENTS",
    "FREE_SESSIONS",
    "FREE_THREADS",
    "LOSSES",
    "SESSIONS",
    "SESSION_SLOTS",
    "SETTINGS",
    "THREADS",
    "THREAD_SLOTS",
];

/// A program, map or link by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// A program.
    Program(u32),
    /// A map.
    Map(u32),
    /// A link.
    Link(u32),
}

/// Those of the daemon that are in the kernel now, with their names: every program and map that is
/// called like one of ours, the maps that such a program uses, and the links of such a program.
pub fn ours() -> Result<BTreeMap<Object, String>> {
    let mut found = BTreeMap::new();
    let mut used = BTreeSet::new();
    // What goes while the list is read is an error of its own, and no longer there.
    for program in loaded_programs().flatten() {
        let name = String::from_utf8_lossy(program.name()).into_owned();
        if PROGRAMS.contains(&name.as_str()) {
            used.extend(program.map_ids().ok().flatten().unwrap_or_default());
            found.insert(Object::Program(program.id()), name);
        }
    }
    for map in loaded_maps().flatten() {
        let name = String::from_utf8_lossy(map.name()).into_owned();
        if MAPS.contains(&name.as_str()) || used.contains(&map.id()) {
            found.insert(Object::Map(map.id()), name);
        }
    }
    for link in loaded_links().flatten() {
        if let Some(name) = found.get(&Object::Program(link.program_id())) {
            let name = format!("link of {name}");
            found.insert(Object::Link(link.id()), name);
        }
    }
    Ok(found)
}

/// Fails where the kernel does not let its lists be read.
pub fn check_lists() -> Result<()> {
    // A program may go between its listing and its opening, but hardly each time.
    let is_listed = || loaded_programs().next().is_none_or(|program| program.is_ok());
    ensure!((0..10).any(|_| is_listed()), "the kernel does not list its BPF programs");
    Ok(())
}

/// Those that a process holds a descriptor of.
pub fn held_by(pid: i32) -> BTreeSet<Object> {
    let mut held = BTreeSet::new();
    let Ok(infos) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return held };
    for info in infos.flatten() {
        let Ok(text) = fs::read_to_string(info.path()) else { continue };
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let Ok(id) = value.trim().parse() else { continue };
            match key {
                "prog_id" => held.insert(Object::Program(id)),
                "map_id" => held.insert(Object::Map(id)),
                "link_id" => held.insert(Object::Link(id)),
                _ => continue,
            };
        }
    }
    held
}

/// Those of the daemon that were not there `before` and that no living process holds: what a dead one
/// has left behind. Others may run a daemon of their own meanwhile.
pub fn left_behind(before: &BTreeMap<Object, String>) -> Result<BTreeMap<Object, String>> {
    let mut left = ours()?;
    left.retain(|object, _| !before.contains_key(object));
    if left.is_empty() {
        return Ok(left);
    }
    for entry in fs::read_dir("/proc")?.flatten() {
        if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            let held = held_by(pid);
            left.retain(|object, _| !held.contains(object));
        }
    }
    Ok(left)
}

/// Waits until nothing is left behind. The kernel frees what a process held after its end, in grace
/// periods one after the other.
pub fn wait_until_nothing_is_left(before: &BTreeMap<Object, String>) -> Result<()> {
    let deadline = Instant::now() + FREES;
    loop {
        let left = left_behind(before)?;
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "left behind: {left:?}");
        std::thread::sleep(LOOK);
    }
}

/// Everything pinned, where pins can be.
pub fn pinned() -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new(PINS).to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder {
                folders.push(entry.path());
            }
            found.insert(entry.path());
        }
    }
    found
}
