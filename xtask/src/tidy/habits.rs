//! The habits that can be seen in one file: how it begins, how long it is, what must not be in it.

use std::path::Path;

use super::{
    Violation,
    source::{self, Word},
};

/// The longest file; tables of data are exempt.
const LINES: usize = 600;

/// What runs at a user's: nothing there may panic.
const SHIPPED: &[&str] = &["openrtc-common", "openrtc-ebpf", "openrtc-probe"];

const PANICKING_MACROS: &[&str] = &["panic", "todo", "unimplemented"];

/// Spelt so that this file does not hold them.
const MARKERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];

/// The places in one file that break a habit.
pub fn check(file: &Path, text: &str) -> Vec<Violation> {
    let mut found = markers(file, text);
    if file.extension().is_some_and(|extension| extension == "rs") {
        found.extend(shape(file, text));
        let words = source::words(text);
        found.extend(allowances(file, &words));
        if is_shipped(file) {
            found.extend(panics(file, &source::without_tests(&words)));
        }
    }
    found
}

/// Unfinished work is written down where work is, not in the sources.
fn markers(file: &Path, text: &str) -> Vec<Violation> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let marker = |line: &str| {
        line.split(|c| !is_part(c)).find_map(|word| MARKERS.iter().find(|marker| **marker == word))
    };
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(index, line)| Some((index + 1, marker(line)?)))
        .map(|(line, marker)| Violation::new(file, line, format!("{marker} in the sources")))
        .collect()
}

fn shape(file: &Path, text: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    if !text.starts_with("//!") {
        found.push(Violation::new(file, 1, "a file begins with //! and what it is for"));
    }
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let lines = text.lines().count();
    if lines > LINES && !name.ends_with("table.rs") {
        let what =
            format!("{lines} lines, over {LINES}: split it, or name it *table.rs if it is one");
        found.push(Violation::new(file, LINES + 1, what));
    }
    found
}

/// `expect` says when it is no longer needed; `allow` stays for ever.
fn allowances(file: &Path, words: &[Word<'_>]) -> Vec<Violation> {
    let is_attribute = |before: &[Word<'_>]| {
        matches!(before, [.., a, b] if a.text == "#" && b.text == "[")
            || matches!(before, [.., a, b, c] if a.text == "#" && b.text == "!" && c.text == "[")
    };
    let allows = words
        .iter()
        .enumerate()
        .filter(|(at, word)| word.text == "allow" && is_attribute(&words[..*at]));
    allows
        .map(|(_, word)| {
            Violation::new(file, word.line, "write #[expect(.., reason = ..)], not allow")
        })
        .collect()
}

/// In a crate that ships, and not a test's.
fn is_shipped(file: &Path) -> bool {
    let is_test = file.iter().any(|part| part == "tests" || part == "tests.rs");
    SHIPPED.iter().any(|shipped| file.starts_with(shipped)) && !is_test
}

fn panics(file: &Path, words: &[Word<'_>]) -> Vec<Violation> {
    let mut found: Vec<_> = (0..words.len())
        .filter(|at| is_panicking_method(&words[*at..]))
        .map(|at| (words[at + 1], "()"))
        .collect();
    let macros = words
        .windows(2)
        .filter(|two| PANICKING_MACROS.contains(&two[0].text) && two[1].text == "!");
    found.extend(macros.map(|two| (two[0], "!")));
    found
        .into_iter()
        .map(|(word, sign)| {
            let what = format!("{}{sign} in code that ships: return an error", word.text);
            Violation::new(file, word.line, what)
        })
        .collect()
}

/// `unwrap` and `expect` of the standard library; our own `expect`s take more than one argument.
fn is_panicking_method(words: &[Word<'_>]) -> bool {
    match words {
        [dot, name, rest @ ..] if matches!(dot.text, "." | "::") => match name.text {
            "unwrap" => true,
            "expect" => !has_second_argument(rest),
            _ => false,
        },
        _ => false,
    }
}

/// Whether the call that begins here has a comma between two arguments. Text in quotes is no word,
/// so a comma right after the parenthesis ends the only argument.
fn has_second_argument(words: &[Word<'_>]) -> bool {
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate() {
        match word.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            "," if depth == 1 => return at > 1,
            _ => {}
        }
        if depth == 0 {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(file: &str, text: &str) -> Vec<String> {
        check(Path::new(file), text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_file_says_nothing() {
        let text = "//! A file.\nfn x() -> Option<u8> { Some(y.unwrap_or(1)) }\n";
        assert_eq!(said("openrtc-probe/src/run.rs", text), [""; 0]);
    }

    #[test]
    fn code_that_ships_does_not_panic() {
        for (code, name) in [
            ("a.unwrap()", "unwrap()"),
            ("a\n.expect(\"b\")", "expect()"),
            ("a.expect(\n\"b\",\n)", "expect()"),
            ("a.expect(&format!(\"b\", c))", "expect()"),
            ("a.map(Option::unwrap)", "unwrap()"),
            ("panic!(\"b\")", "panic!"),
            ("core::todo!()", "todo!"),
            ("unimplemented!()", "unimplemented!"),
        ] {
            let text = format!("//! A.\n{code};");
            let found = said("openrtc-ebpf/src/poll.rs", &text);
            assert_eq!(found.len(), 1, "{code}: {found:?}");
            assert!(found[0].contains(&format!("{name} in code that ships")), "{found:?}");
            assert_eq!(said("openrtc-common/src/tests.rs", &text), [""; 0]);
            assert_eq!(said("openrtc-probe/tests/cli.rs", &text), [""; 0]);
            assert_eq!(said("tests/src/lib.rs", &text), [""; 0]);
            let in_tests = format!("//! A.\n#[cfg(test)]\nmod tests {{ fn x() {{ {code}; }} }}");
            assert_eq!(said("openrtc-ebpf/src/poll.rs", &in_tests), [""; 0]);
        }
    }

    #[test]
    fn what_only_looks_like_it_is_free() {
        let text = r#"//! A.
            #[expect(dead_code, reason = "b")]
            #[panic_handler]
            fn panic(_: &core::panic::PanicInfo) -> ! { loop {} } // panic!
            const A: &str = ".unwrap()";
        "#;
        let text = format!("{text}\nfn b() {{ c.expect(d, \"e\"); f.expect(g(), h) }}");
        assert_eq!(said("openrtc-ebpf/src/main.rs", &text), [""; 0]);
    }

    #[test]
    fn marks_of_unfinished_work_are_found_in_any_file() {
        for marker in MARKERS {
            let text = format!("# {marker}: later");
            assert_eq!(said("tests/fixtures/a.py", &text).len(), 1, "{marker}");
        }
        assert_eq!(said("a.py", &format!("mktemp a.{}", "X".repeat(6))), [""; 0]);
    }

    #[test]
    fn a_file_has_a_purpose_and_an_end() {
        assert!(said("xtask/src/a.rs", "fn x() {}")[0].contains("begins with //!"));
        let long = format!("//! A.\n{}", "\n".repeat(LINES));
        assert!(said("xtask/src/a.rs", &long)[0].contains("601 lines"));
        assert_eq!(said("xtask/src/a_table.rs", &long), [""; 0]);
    }

    #[test]
    fn allow_is_not_expect() {
        assert_eq!(
            said("xtask/src/a.rs", "//! A.\n#[allow(dead_code)]\nfn x() { allow(); }").len(),
            1
        );
        assert_eq!(said("xtask/src/a.rs", "//! A.\n#![allow(dead_code)]").len(), 1);
    }
}
