//! For a reader whose locale is not UTF-8: the same picture in ASCII.
//!
//! - **A column stays a column**: what stands in one is replaced by one character, a wide character by
//!   two, so a line is as wide as before.
//! - Levels keep their order: more ink is more.
//! - What has no likeness, such as letters of a worker's text, becomes `?`.

use unicode_segmentation::UnicodeSegmentation as _;

use crate::view::harmless::width;

/// What has no likeness.
const UNLIKE: char = '?';

/// The text, of any number of lines, with nothing but ASCII in it.
pub fn ascii(text: &str) -> String {
    if text.is_ascii() {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for cluster in text.graphemes(true) {
        if cluster.is_ascii() {
            out.push_str(cluster);
        } else {
            let mut chars = cluster.chars();
            let likeness = match (chars.next(), chars.next()) {
                (Some(only), None) => likeness(only),
                _ => None,
            };
            out.extend(std::iter::repeat_n(likeness.unwrap_or(UNLIKE), width(cluster)));
        }
    }
    out
}

/// The glyphs of our own pictures, each kind with what it looks like.
static LIKENESSES: &[(&str, char)] = &[
    // Bars, filled from the left: what is empty, eighths, what is full.
    ("░", '.'),
    ("▏▎", ':'),
    ("▍▌▐", '-'),
    ("▋▊", '='),
    ("▉", '+'),
    ("█■▮", '#'),
    // Other fills.
    ("▒", 'o'),
    ("▓", '%'),
    // Bars, filled from below.
    ("▁", '_'),
    ("▂", '.'),
    ("▃", ':'),
    ("▄", '-'),
    ("▅", '='),
    ("▆", '+'),
    ("▇", '*'),
    ("▀▔", '"'),
    // Marks.
    ("–—−‐‑", '-'),
    ("…", '~'),
    ("≥›»→▶▸▷►", '>'),
    ("≤‹«←◀◂◁◄↵⏎", '<'),
    ("↑▲△▴⬆", '^'),
    ("↓▼▽▾⬇", 'v'),
    ("×✕✗✘", 'x'),
    ("≈", '~'),
    ("±", '+'),
    ("µμ", 'u'),
    ("␣", '_'),
    ("·•∙", '.'),
    ("●◆", '*'),
    ("○◌◇°", 'o'),
    ("✓✔", 'v'),
    ("⏸", '='),
    ("‘’", '\''),
    ("“”", '"'),
    // Lines of boxes; their corners and crossings are ranges.
    ("─━┄┅┈┉╌╍╴╶╸╺╼╾", '-'),
    ("═", '='),
    ("│┃┆┇┊┋╎╏║╵╷╹╻╽╿", '|'),
    ("╱", '/'),
    ("╲", '\\'),
    ("╳", 'X'),
];

fn likeness(glyph: char) -> Option<char> {
    let kind = LIKENESSES.iter().find(|(glyphs, _)| glyphs.contains(glyph));
    let in_a_range = || match glyph {
        '\u{2500}'..='\u{257f}' => Some('+'),
        // Dots, by how many there are.
        '\u{2800}'..='\u{28ff}' => Some(match (u32::from(glyph) & 0xff).count_ones() {
            0 => ' ',
            1..=2 => '.',
            3..=5 => ':',
            _ => '#',
        }),
        _ => None,
    };
    kind.map(|(_, likeness)| *likeness).or_else(in_a_range)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Text of a worker, which may hold anything.
    const UNTRUSTED: &str = "hostile";

    /// The files below `folder`, with what is in them.
    fn files(folder: &Path) -> Vec<(String, String)> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let read = |path: &Path| {
            let name = path.display().to_string();
            // Where the sources lie is no part of it.
            let name = name.rsplit("/src/view/").next().unwrap_or_default().to_owned();
            (name, fs::read_to_string(path).unwrap())
        };
        entries
            .flat_map(|path| if path.is_dir() { files(&path) } else { vec![read(&path)] })
            .collect()
    }

    fn foreign(text: &str) -> BTreeSet<char> {
        text.chars().filter(|c| !c.is_ascii()).collect()
    }

    /// What the code of a file can write: without its comments, its tests and this table itself.
    fn code(name: &str, text: &str) -> String {
        let not_code = ["tests.rs", "samples.rs", "ascii.rs"];
        let is_code = !name.contains("/tests/") && !not_code.iter().any(|no| name.ends_with(no));
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let lines = text.lines().filter(|_| is_code).filter(|line| {
            // The characters that are never shown are named there, not written.
            !line.trim_start().starts_with("//")
        });
        lines.map(|line| line.split(" // ").next().unwrap_or_default()).collect()
    }

    #[test]
    fn every_glyph_of_the_pictures_has_a_likeness() {
        let view = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/view");
        let mut found = BTreeSet::new();
        for (name, text) in files(&view) {
            let shown = match name.rsplit('.').next() {
                Some("snap") if !name.contains(UNTRUSTED) => text.clone(),
                Some("rs") => code(&name, &text),
                _ => String::new(),
            };
            for glyph in foreign(&shown) {
                assert!(likeness(glyph).is_some(), "{glyph:?} of {name} has no likeness in ASCII");
                found.insert(glyph);
            }
            assert!(ascii(&text).is_ascii(), "{name}");
        }
        // Those that are there for sure: the search finds something.
        assert!(found.is_superset(&BTreeSet::from(['█', '░', '▏', '–', '…', '≥', '␣'])));
    }

    #[test]
    fn a_column_stays_a_column() {
        for (text, expected) in [
            ("", ""),
            ("AJ_1  –  ≥3", "AJ_1  -  >3"),
            ("██▎░ 55.0", "##:. 55.0"),
            ("▁▂▃▄▅▆▇█", "_.:-=+*#"),
            ("┌─┐\n│ │\n╰─╯\n", "+-+\n| |\n+-+\n"),
            ("3 × AJ_12…", "3 x AJ_12~"),
            // Text of a worker: narrow, wide, and several characters in one column.
            ("é", "?"),
            ("日本", "????"),
            ("e\u{301}t", "?t"),
        ] {
            let shown = ascii(text);
            assert_eq!(shown, expected);
            for (shown, text) in shown.lines().zip(text.lines()) {
                assert_eq!(shown.len(), width(text), "{text:?}");
            }
        }
    }

    #[test]
    fn no_character_gets_through() {
        for c in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
            assert!(likeness(c).is_none_or(|c| c.is_ascii() && !c.is_ascii_control()), "{c:?}");
            let text = c.to_string();
            let shown = ascii(&text);
            assert!(shown.is_ascii(), "{c:?}: {shown:?}");
            assert!(c.is_ascii() || shown.len() == width(&text), "{c:?}: {shown:?}");
        }
    }

    /// A bar that is longer has more ink, or at least another look.
    #[test]
    fn levels_stay_apart_from_nothing_and_from_all() {
        for levels in ["░▏▎▍▌▋▊▉█", " ▁▂▃▄▅▆▇█"] {
            let shown = ascii(levels);
            let (first, rest) = shown.split_at(1);
            assert!(!rest.contains(first), "{shown}");
            let (most, last) = shown.split_at(shown.len() - 1);
            assert!(!most.contains(last), "{shown}");
            let mut known: Vec<char> = shown.chars().collect();
            known.dedup();
            let distinct: BTreeSet<char> = known.iter().copied().collect();
            assert_eq!(known.len(), distinct.len(), "one look, one run of levels: {shown}");
        }
    }
}
