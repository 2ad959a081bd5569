//! `docs/top.md` says of every column and key what the tables say. After a change of a table:
//! `UPDATE_DOCS=1 cargo test -p openrtc-probe --lib docs`.

use std::env;
use std::fs;
use std::path::PathBuf;

use crate::model::{Session, Snapshot, Stall};
use crate::view::columns::{Column, SESSIONS};
use crate::view::json;
use crate::view::order::{Order, Sort};
use crate::view::stalls_table::STALLS;
use crate::view::top::keys::BINDINGS;

fn place() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/top.md")
}

/// What writes it.
const HOW: &str = "UPDATE_DOCS=1 cargo test -p openrtc-probe --lib docs";

fn begin(name: &str) -> String {
    format!("<!-- {name}: written by {HOW} -->\n")
}

const END: &str = "<!-- end -->";

/// The parts that are made of tables, by name.
fn parts() -> [(&'static str, String); 3] {
    let snapshot = Snapshot { sessions: vec![Session::default()], ..Snapshot::default() };
    let session = json::snapshot(&snapshot, &Order::default());
    let stall = json::stall(&Stall::default());
    [
        ("sessions", columns(SESSIONS, &session)),
        ("stalls", columns(STALLS, &stall)),
        ("keys", keys()),
    ]
}

/// A cell of a table: a bar would end it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// A table's columns; those that are also in this JSON have their names there.
fn columns(table: &[Column], json: &str) -> String {
    let head =
        "| column | what it shows | unit | in JSON | `s` | leaves |\n|---|---|---|---|---|---|\n";
    let mut ranks: Vec<_> = table.iter().map(|column| column.rank).filter(|it| *it > 0).collect();
    ranks.sort_unstable_by(|a, b| b.cmp(a));
    let line = |column: &Column| {
        let leaves = ranks.iter().position(|rank| *rank == column.rank);
        let leaves = leaves.map_or("never".to_owned(), |at| (at + 1).to_string());
        let sort = Sort::ALL.iter().find(|(sort, _)| Some(*sort) == column.sort);
        let sort = sort.map_or(String::new(), |(_, name)| format!("`{name}`"));
        let (title, what, unit) = (cell(column.title), cell(column.what), column.unit);
        let known = json.contains(&format!("\"{}\":", column.key));
        let key = if known { format!("`{}`", column.key) } else { String::new() };
        format!("| `{title}` | {what} | {unit} | {key} | {sort} | {leaves} |\n")
    };
    head.to_owned() + &table.iter().map(line).collect::<String>()
}

fn keys() -> String {
    let named = BINDINGS.iter().filter(|binding| !binding.label.is_empty());
    let line = |label: &str, what: &str| format!("| `{}` | {} |\n", cell(label), cell(what));
    let lines = named.map(|binding| line(binding.label, binding.what));
    "| key | what it does |\n|---|---|\n".to_owned() + &lines.collect::<String>()
}

/// The document with this part as the table has it; `None` where it has no place for it.
fn with(document: &str, name: &str, part: &str) -> Option<String> {
    let (before, rest) = document.split_once(&begin(name))?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{}\n{part}\n{END}{after}", begin(name)))
}

#[test]
fn the_document_has_every_column_and_key() {
    let document = fs::read_to_string(place()).unwrap();
    let mut expected = document.clone();
    for (name, part) in parts() {
        let next = with(&expected, name, &part);
        expected = next.unwrap_or_else(|| panic!("no place for {name} in docs/top.md"));
    }
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(place(), &expected).unwrap();
    }
    let document = fs::read_to_string(place()).unwrap();
    assert!(document == expected, "docs/top.md is not what the tables say; type: {HOW}");
    told_in_words(&expected);
}

/// Keys that do more than their line says are told of in sentences too.
fn told_in_words(document: &str) {
    let prose =
        parts().iter().fold(document.to_owned(), |text, (name, _)| with(&text, name, "").unwrap());
    for binding in BINDINGS.iter().filter(|binding| !binding.label.is_empty()) {
        let mut keys = binding.label.split([' ', ',']).filter(|key| !key.is_empty());
        assert!(keys.any(|key| prose.contains(&format!("`{key}`"))), "{}", binding.label);
    }
}
