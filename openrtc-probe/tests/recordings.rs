//! The walks over an interpreter's memory, on recordings of live ones: one for each layout at least.
//!
//! No interpreter is needed. `cargo xtask record-images` makes the recordings of `quiet.py`, whose own
//! words, kept in each, say what has to be found.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, fs, path::PathBuf};

use flate2::read::GzDecoder;
use openrtc_common::tag::TagText;
use openrtc_probe::cpython::{
    CodeCache, Frame, Origin, Python, VarAt,
    layout::{self, LAYOUTS},
    memory::{ReadMemory, RemoteAddr},
    recording::Recording,
    unexported_version,
};
use serde_json::{Value, json};

/// Every recording, by name.
fn recordings() -> Vec<(String, Recording)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/images");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |file: PathBuf| {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let mut gzip = GzDecoder::new(fs::File::open(file).unwrap());
        (name, Recording::read(&mut gzip).unwrap())
    };
    files.into_iter().map(read).collect()
}

fn open<M: ReadMemory>(recording: &Recording, memory: M) -> Option<Python<M>> {
    let facts = &recording.facts;
    let layout = layout::choose(1, facts.version, &memory, facts.published).ok()?;
    Python::open(memory, facts.version, layout, &facts.addresses, &facts.tids).ok()
}

fn text(tag: &TagText) -> String {
    tag.chars().collect()
}

/// How many tasks each session has, by its id.
fn sessions<M: ReadMemory>(python: &Python<M>, var: VarAt) -> BTreeMap<String, u64> {
    let tasks = python.tasks().unwrap();
    let contexts: Vec<RemoteAddr> = tasks.iter().map(|task| task.context).collect();
    let mut found = BTreeMap::new();
    for tag in python.values(&contexts, var, |_, _| false) {
        if let Some(tag) = tag.unwrap() {
            *found.entry(text(&tag)).or_default() += 1;
        }
    }
    found
}

#[test]
fn there_is_a_recording_of_each_layout() {
    let known: Vec<_> = recordings().iter().map(|(_, r)| r.facts.version.minor()).collect();
    for row in LAYOUTS {
        assert!(known.contains(&row.version), "no recording of {:?}", row.version);
    }
}

#[test]
fn every_session_is_found_with_its_tasks_and_names() {
    for (name, recording) in recordings() {
        let truth: Value = serde_json::from_str(&recording.facts.truth).unwrap();
        let python = open(&recording, &recording).unwrap_or_else(|| panic!("{name}: no layout"));
        let var = |called| {
            let found = python.find_vars(&[called]).unwrap().remove(0);
            assert_eq!(found.len(), 1, "{name}: {called}");
            found[0]
        };
        let there: BTreeMap<String, u64> =
            serde_json::from_value(truth["sessions"].clone()).unwrap();
        assert_eq!(sessions(&python, var("openrtc_session_id")), there, "{name}");
        let agents = sessions(&python, var("openrtc_agent_name"));
        let tasks: u64 = there.values().sum();
        assert_eq!(agents, [("quiet".to_owned(), tasks)].into(), "{name}");
    }
}

#[test]
fn threads_and_their_loops_are_found() {
    for (name, recording) in recordings() {
        let truth: Value = serde_json::from_str(&recording.facts.truth).unwrap();
        let python = open(&recording, &recording).unwrap();
        let threads = python.threads(&recording.facts.tids).unwrap();
        let first = truth["pid"].as_u64().unwrap() as u32;
        let loops: Vec<_> =
            threads.iter().filter_map(|thread| thread.running_loop.as_ref()).collect();
        assert_eq!(Some(loops.len() as u64), truth["loops"].as_u64(), "{name}: {threads:?}");
        assert!(loops.iter().all(|one| one.package() == "asyncio"), "{name}: {loops:?}");
        for thread in &threads {
            // All wait outside of any poll, the second loop's thread in its own run from 3.14 on.
            let entered = python.entered(thread).unwrap().contexts.len();
            let is_first = thread.ns_tid.0 == first;
            let of_thread = python.kernel_layout().threads_in_context as usize;
            assert_eq!(entered, if is_first { 0 } else { of_thread }, "{name}: {thread:?}");
        }
    }
}

#[test]
fn every_stack_is_the_one_that_the_worker_says() {
    for (name, recording) in recordings() {
        let truth: Value = serde_json::from_str(&recording.facts.truth).unwrap();
        let python = open(&recording, &recording).unwrap();
        let threads = python.threads(&recording.facts.tids).unwrap();
        let cache = &mut CodeCache::default();
        let mut known = 0;
        for thread in &threads {
            let stack = python.stack(thread, cache, Some(thread.context_version)).unwrap();
            assert!(stack.is_complete, "{name}: {stack:?}");
            let there = &truth["stacks"][thread.ns_tid.0.to_string()];
            // The third thread is the one that has told of the others.
            let Some(there) = there.as_array() else { continue };
            let place = |frame: &Frame| json!([frame.function(), frame.file(), frame.line]);
            let found: Vec<Value> = stack.frames.iter().map(place).collect();
            assert_eq!(&found, there, "{name}");
            assert_eq!(stack.frames[0].origin(), Origin::Standard, "{name}");
            known += 1;
        }
        assert_eq!((known, threads.len()), (2, 3), "{name}");
    }
}

#[test]
fn the_gil_is_found() {
    for (name, recording) in recordings() {
        let python = open(&recording, &recording).unwrap();
        let gils = python.gils().unwrap();
        assert_eq!(gils.len(), 1, "{name}");
        assert_eq!(python.gil_holder(&gils[0]), Ok(None), "{name}: all wait");
    }
}

#[test]
fn a_version_that_is_not_exported_is_found() {
    for (name, recording) in recordings() {
        let version = recording.facts.version;
        if version.minor() < (3, 11) {
            let found = unexported_version(&recording, &recording.facts.addresses);
            assert_eq!(found, Some(version), "{name}");
        }
    }
}
