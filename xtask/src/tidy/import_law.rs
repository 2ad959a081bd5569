//! The import law: every path that a file of `openrtc-probe/src` names is one that its room may
//! name.
//!
//! Test code is free, and what is for fuzzing. Relative paths are read from the file's place; a module that is written
//! inside a file counts as the file.

use std::{collections::BTreeSet, path::Path};

use super::{
    Violation,
    law_table::{CLOCKS, ROOMS, Room},
    paths::{self, NamedPath},
    source,
};

const SOURCES: &str = "openrtc-probe/src";
/// Where its crates are listed.
pub const MANIFEST: &str = "openrtc-probe/Cargo.toml";
const TABLE: &str = "xtask/src/tidy/law_table.rs";

/// The binary names the library so.
const LIBRARY: &str = "openrtc_probe";

/// The places in one file that break the law.
pub fn check(file: &Path, text: &str) -> Vec<Violation> {
    let Some(module) = module_path(file) else { return Vec::new() };
    let Some(room) = room_of(&module) else {
        let what = format!("no room is named for this file (rooms: {TABLE})");
        return vec![Violation::new(file, 1, what)];
    };
    let words = source::without_tests(&source::words(text));
    let broken: BTreeSet<_> = paths::named(&words)
        .iter()
        .filter_map(|path| Some((path.line, breach(room, &module, path)?)))
        .collect();
    broken.into_iter().map(|(line, what)| Violation::new(file, line, what)).collect()
}

/// Each crate that the manifest lists is in the table, so that a new one is given a room.
pub fn check_manifest(text: &str) -> Vec<Violation> {
    let lines = text.lines().enumerate();
    let dependencies = lines
        .skip_while(|(_, line)| *line != "[dependencies]")
        .skip(1)
        .take_while(|(_, line)| !line.starts_with('['));
    dependencies
        .filter_map(|(index, line)| Some((index + 1, line.split(['.', '=', ' ']).next()?)))
        .filter(|(_, name)| !name.is_empty() && !name.starts_with('#'))
        .filter(|(_, name)| !is_crate(&name.replace('-', "_")))
        .map(|(line, name)| {
            let what = format!("no room may import {name} (rooms: {TABLE})");
            Violation::new(Path::new(MANIFEST), line, what)
        })
        .collect()
}

/// The module that a file is; `None` if the law does not reach it.
fn module_path(file: &Path) -> Option<Vec<String>> {
    let below = file.strip_prefix(SOURCES).ok()?.to_str()?.strip_suffix(".rs")?;
    let mut segments: Vec<String> = below.split('/').map(str::to_owned).collect();
    if segments.iter().any(|segment| segment == "tests" || segment == "fuzz") {
        return None;
    }
    if segments.last().is_some_and(|last| last == "mod") || segments == ["lib"] {
        segments.pop();
    }
    Some(segments)
}

/// The room with the longest path that begins the module's. The library's root is nobody else's
/// room.
fn room_of(module: &[String]) -> Option<&'static Room> {
    let fits = |room: &&Room| {
        let mut path = room.path.split('/').filter(|segment| !segment.is_empty());
        let mut module = module.iter();
        path.all(|segment| module.next().is_some_and(|given| given == segment))
    };
    let room = ROOMS.iter().filter(fits).max_by_key(|room| room.path.len())?;
    (module.is_empty() == room.path.is_empty()).then_some(room)
}

/// What is wrong with a path in a room.
fn breach(room: &Room, module: &[String], path: &NamedPath<'_>) -> Option<String> {
    let name = if room.path.is_empty() { "lib" } else { room.path };
    if let Some(clock) = clock(path).filter(|_| !room.has_clock) {
        return Some(format!("room {name} may not ask for the time ({clock}): it is an argument"));
    }
    let import = forbidden(room, module, &path.segments)?;
    Some(format!("room {name} may not import {import} (allowed: {})", allowed(room)))
}

fn clock(path: &NamedPath<'_>) -> Option<String> {
    let [.., before, last] = path.segments[..] else { return None };
    CLOCKS.contains(&(before, last)).then(|| format!("{before}::{last}"))
}

/// What the path imports that the room may not.
fn forbidden(room: &Room, module: &[String], segments: &[&str]) -> Option<String> {
    let (first, rest) = segments.split_first()?;
    match *first {
        "std" | "core" | "alloc" => {
            let part = rest.first()?;
            room.without.contains(part).then(|| format!("std::{part}"))
        }
        "crate" | LIBRARY => {
            let other = rest.first().copied().unwrap_or("*");
            (!may_enter(room, other)).then(|| format!("crate::{other}"))
        }
        "self" | "super" => {
            let other = relative(module, segments)?;
            let is_known = ROOMS.iter().any(|room| room.path == other);
            (is_known && !may_enter(room, &other)).then(|| format!("crate::{other}"))
        }
        name => (is_crate(name) && !room.crates.contains(&name)).then(|| name.to_owned()),
    }
}

/// Its own room or one that it may import, by its first segment.
fn may_enter(room: &Room, other: &str) -> bool {
    let own = room.path.split('/').next();
    own == Some(other) || room.rooms.contains(&other)
}

/// The first segment, from the library's root, of a path that begins with `self` or `super`.
fn relative(module: &[String], segments: &[&str]) -> Option<String> {
    let levels = segments.iter().filter(|segment| **segment == "super").count();
    let rest = segments.iter().find(|segment| !matches!(**segment, "self" | "super"));
    match module.len().checked_sub(levels)? {
        0 => rest.map(|segment| (*segment).to_owned()),
        _ => module.first().cloned(),
    }
}

/// A crate that the table knows. Any other first segment is a name of the file's own.
fn is_crate(name: &str) -> bool {
    ROOMS.iter().any(|room| room.crates.contains(&name))
}

fn allowed(room: &Room) -> String {
    let crates = room.crates.iter().map(|name| (*name).to_owned());
    let rooms = room.rooms.iter().map(|name| format!("crate::{name}"));
    let names: Vec<_> = crates.chain(rooms).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first breach in a file, as it is printed.
    fn first(file: &str, text: &str) -> Option<String> {
        let file = Path::new(SOURCES).join(file);
        check(&file, text).first().map(ToString::to_string)
    }

    #[track_caller]
    fn breaks(file: &str, text: &str, import: &str) {
        let said = first(file, text).unwrap_or_default();
        assert!(said.contains(&format!("may not import {import} ")), "{file}: {text}: {said}");
    }

    #[track_caller]
    fn keeps(file: &str, text: &str) {
        assert_eq!(first(file, text), None, "{file}: {text}");
    }

    #[test]
    fn a_breach_says_where_who_what_and_what_is_allowed() {
        let said = first("model/ledger.rs", "//! Ledger.\n\nuse aya::maps::Array;\n").unwrap();
        let (place, what) = said.split_once(": ").unwrap();
        assert_eq!(place, "openrtc-probe/src/model/ledger.rs:3");
        assert_eq!(
            what,
            "room model may not import aya (allowed: openrtc_common, smol_str, syscalls)"
        );
    }

    #[test]
    fn crates_stay_in_their_rooms() {
        for (file, crate_name) in [
            ("bpf/load.rs", "aya"),
            ("bpf.rs", "aya_log"),
            ("cli.rs", "clap"),
            ("view/top/draw.rs", "ratatui"),
            ("view/top.rs", "crossterm"),
            ("view/json.rs", "serde_json"),
            ("view/openrtc/row.rs", "serde"),
            ("worker/site.rs", "iced_x86"),
            ("worker/mod.rs", "object"),
            ("run/wake.rs", "tokio"),
            ("serve/socket.rs", "tokio"),
            ("cpython/read.rs", "nix"),
        ] {
            let text = format!("use {crate_name}::a::B;");
            keeps(file, &text);
            breaks("model/session.rs", &text, crate_name);
        }
        breaks("view/table.rs", "use ratatui::Frame;", "ratatui");
        breaks("view/top/draw.rs", "tokio::select! {}", "tokio");
        breaks("run.rs", "use aya::Ebpf;", "aya");
        breaks("cpython/dict.rs", "fn x(y: object::File) {}", "object");
        breaks("plan.rs", "#[derive(clap::Args)] struct A;", "clap");
    }

    #[test]
    fn rooms_know_what_is_below_them_only() {
        keeps("view/once.rs", "use crate::{model::Snapshot, view::units};");
        breaks("view/once.rs", "use crate::{model::Snapshot, worker::Tid};", "crate::worker");
        breaks("cpython/walk.rs", "crate::bpf::drain()", "crate::bpf");
        breaks("model/window.rs", "use crate::view::units;", "crate::view");
        keeps("run.rs", "use crate::{bpf, cpython, model, serve, view, worker};");
        keeps("main.rs", "use openrtc_probe::{cli::Cli, run};");
        breaks("main.rs", "use openrtc_probe::bpf;", "crate::bpf");
        breaks("model/window.rs", "use crate::*;", "crate::*");
    }

    #[test]
    fn relative_paths_are_followed() {
        keeps("model/window.rs", "use super::session::Session;");
        keeps("model.rs", "use self::window::Window;");
        breaks("model/window.rs", "use super::super::view::units;", "crate::view");
        breaks("model.rs", "use super::view::units;", "crate::view");
        keeps("view/top/draw.rs", "use super::super::units;");
        keeps("view/top/draw.rs", "use super::super::super::model::Snapshot;");
        breaks("view/top/draw.rs", "use super::super::super::worker::Tid;", "crate::worker");
    }

    #[test]
    fn the_model_has_no_clock_and_does_no_io() {
        breaks("model/window.rs", "use std::{fs, time::Duration};", "std::fs");
        keeps("model/window.rs", "use std::{collections::BTreeMap, time::Duration};");
        let said = first("model/window.rs", "let at = std::time::Instant::now();").unwrap();
        assert!(said.contains("may not ask for the time (Instant::now)"), "{said}");
        keeps("run.rs", "let at = Instant::now();");
    }

    #[test]
    fn tests_comments_and_texts_are_free() {
        keeps(
            "model/window.rs",
            "#[cfg(test)] mod tests { use serde_json::Value; use crate::view; }",
        );
        keeps("model/window.rs", "// use aya::Ebpf;\nconst A: &str = \"aya::Ebpf\";");
        keeps("model/tests.rs", "use aya::Ebpf;");
        keeps("view/tests/narrow.rs", "use crate::worker;");
    }

    #[test]
    fn the_law_ends_at_the_sources() {
        assert!(check(Path::new("tests/src/lib.rs"), "use aya::Ebpf;").is_empty());
        assert!(check(Path::new("openrtc-probe/build.rs"), "use std::fs;").is_empty());
    }

    #[test]
    fn a_file_without_a_room_is_a_breach() {
        let said = first("helpers.rs", "").unwrap();
        assert!(said.contains("no room is named for this file"), "{said}");
        keeps("lib.rs", "pub mod model;");
        breaks("lib.rs", "pub use crate::model::Fact;", "crate::model");
    }

    #[test]
    fn a_crate_without_a_room_is_a_breach() {
        let manifest = [
            "[dependencies]",
            "aya-log.workspace = true",
            "# why",
            "left-pad = \"1\"",
            "",
            "[dev-dependencies]",
            "insta = \"1\"",
        ];
        let found = check_manifest(&manifest.join("\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        let said = found[0].to_string();
        assert!(
            said.starts_with("openrtc-probe/Cargo.toml:4: no room may import left-pad"),
            "{said}"
        );
    }

    #[test]
    fn the_table_names_its_own_rooms_only() {
        let top: BTreeSet<_> = ROOMS.iter().map(|room| room.path).collect();
        assert_eq!(top.len(), ROOMS.len(), "a room is named twice");
        for room in ROOMS {
            for other in room.rooms {
                assert!(top.contains(other), "{} may import {other}, which is no room", room.path);
            }
        }
    }
}
