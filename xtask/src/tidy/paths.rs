//! The paths that a file names: those of `use` lines, and those with `::` in the code.

use super::source::Word;

/// One path, segment by segment; a glob ends with `*`.
#[derive(Debug, Eq, PartialEq)]
pub struct NamedPath<'a> {
    pub segments: Vec<&'a str>,
    pub line: usize,
}

/// All paths of more than one segment, and all that `use` and `extern crate` name.
pub fn named<'a>(words: &[Word<'a>]) -> Vec<NamedPath<'a>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        at = match words[at].text {
            "use" if !is(words, at + 1, "<") => use_tree(words, at + 1, &[], &mut found),
            "extern" if is(words, at + 1, "crate") => use_tree(words, at + 2, &[], &mut found),
            _ if begins_path(words, at) => path(words, at, &mut found),
            _ => at + 1,
        };
    }
    found
}

fn is(words: &[Word<'_>], at: usize, text: &str) -> bool {
    words.get(at).is_some_and(|word| word.text == text)
}

/// A name before `::` that is not itself in the middle of a path.
fn begins_path(words: &[Word<'_>], at: usize) -> bool {
    if !words[at].is_name() || !is(words, at + 1, "::") {
        return false;
    }
    match &words[..at] {
        // After an arrow, a path may begin with `::`.
        [.., stem, end, colons] if colons.text == "::" && end.text == ">" => {
            matches!(stem.text, "-" | "=")
        }
        [.., end, colons] if colons.text == "::" => !end.is_name(),
        _ => true,
    }
}

fn path<'a>(words: &[Word<'a>], mut at: usize, found: &mut Vec<NamedPath<'a>>) -> usize {
    let line = words[at].line;
    let mut segments = vec![words[at].text];
    at += 1;
    while is(words, at, "::") && words.get(at + 1).is_some_and(Word::is_name) {
        segments.push(words[at + 1].text);
        at += 2;
    }
    found.push(NamedPath { segments, line });
    at
}

/// Reads one branch of a `use` tree, up to the `,`, `}` or `;` that ends it.
fn use_tree<'a>(
    words: &[Word<'a>],
    mut at: usize,
    prefix: &[&'a str],
    found: &mut Vec<NamedPath<'a>>,
) -> usize {
    let mut segments = prefix.to_vec();
    let mut line = words.get(at).map_or(0, |word| word.line);
    while let Some(word) = words.get(at) {
        match word.text {
            "{" => return use_group(words, at + 1, &segments, found),
            "," | "}" | ";" => break,
            // The new name is nobody's room.
            "as" => at += 1,
            "*" => segments.push("*"),
            // `a::{self}` is `a`; `self::a` is not `a`.
            "self" if segments.len() > prefix.len() || !prefix.is_empty() => {}
            _ if word.is_name() => {
                segments.push(word.text);
                line = word.line;
            }
            _ => {}
        }
        at += 1;
    }
    found.push(NamedPath { segments, line });
    at
}

fn use_group<'a>(
    words: &[Word<'a>],
    mut at: usize,
    prefix: &[&'a str],
    found: &mut Vec<NamedPath<'a>>,
) -> usize {
    while let Some(word) = words.get(at) {
        match word.text {
            "}" => return at + 1,
            "," => at += 1,
            // A group that is never closed.
            ";" => return at,
            _ => at = use_tree(words, at, prefix, found),
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::source::words;

    fn paths(text: &str) -> Vec<String> {
        named(&words(text)).into_iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn a_use_tree_is_unfolded() {
        assert_eq!(paths("use a;"), ["a"]);
        assert_eq!(paths("pub(crate) use a::b as c;"), ["a::b"]);
        assert_eq!(
            paths("use a::{self, b::{c, d as _}, e::*,};"),
            ["a", "a::b::c", "a::b::d", "a::e::*"]
        );
        assert_eq!(paths("use {a::b, crate::c};"), ["a::b", "crate::c"]);
        assert_eq!(paths("use ::a::b;"), ["a::b"]);
        assert_eq!(paths("use self::a::b;"), ["self::a::b"]);
        assert_eq!(paths("extern crate a;"), ["a"]);
    }

    #[test]
    fn a_path_in_the_code_is_found() {
        assert_eq!(paths("fn x(y: a::b::C<d::E>) -> ::f::G {}"), ["a::b::C", "d::E", "f::G"]);
        assert_eq!(paths("<a::B as crate::c::D>::e()"), ["a::B", "crate::c::D"]);
        assert_eq!(paths("a::select! { b }"), ["a::select"]);
        assert_eq!(paths("a::b::<c::D>()"), ["a::b", "c::D"]);
        assert_eq!(paths("x.y().z"), [""; 0]);
    }

    #[test]
    fn captured_lifetimes_are_no_import() {
        assert_eq!(paths("fn x<'a>() -> impl Sized + use<'a> {} a::b()"), ["a::b"]);
    }

    #[test]
    fn each_path_has_its_own_line() {
        let words = words("use a::{\n    b,\n    c::d,\n};");
        let found: Vec<_> = named(&words).iter().map(|path| path.line).collect();
        assert_eq!(found, [2, 3]);
    }

    #[test]
    fn what_is_never_closed_ends() {
        for text in ["use", "use a::{", "use a::{b, ;", "a::", "use a::b as"] {
            named(&words(text));
        }
    }
}
