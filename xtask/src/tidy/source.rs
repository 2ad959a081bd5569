//! A Rust file as words with their lines: without comments, without text in quotes, and without
//! test code if so asked.

/// An identifier, a number, `::`, or one character of punctuation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Word<'a> {
    pub text: &'a str,
    pub line: usize,
}

impl Word<'_> {
    /// An identifier or a keyword.
    pub fn is_name(&self) -> bool {
        self.text.starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
}

/// The words of a file. What is no Rust gives odd words, never an error: the compiler says what is
/// wrong with it.
pub fn words(text: &str) -> Vec<Word<'_>> {
    let mut reader = Reader { rest: text, line: 1 };
    let mut words = Vec::new();
    while !reader.rest.is_empty() {
        let line = reader.line;
        words.extend(reader.step().map(|text| Word { text, line }));
    }
    words
}

/// The words without the items that are compiled for tests only.
pub fn without_tests<'a>(words: &[Word<'a>]) -> Vec<Word<'a>> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < words.len() {
        match attribute(words, at) {
            Some(end) if is_for_tests(&words[at..end]) => at = item_end(words, end),
            Some(end) => {
                kept.extend_from_slice(&words[at..end]);
                at = end;
            }
            None => {
                kept.push(words[at]);
                at += 1;
            }
        }
    }
    kept
}

/// Where the attribute that begins here ends.
fn attribute(words: &[Word<'_>], at: usize) -> Option<usize> {
    let is = |at: usize, text: &str| words.get(at).is_some_and(|word| word.text == text);
    let opening = if is(at + 1, "!") { at + 2 } else { at + 1 };
    (is(at, "#") && is(opening, "[")).then(|| group_end(words, opening))
}

/// `#[test]`, `#[tokio::test]`, or a `cfg` that asks for tests.
fn is_for_tests(attribute: &[Word<'_>]) -> bool {
    let has = |text: &str| attribute.iter().any(|word| word.text == text);
    let first = attribute.iter().find(|word| word.is_name()).map_or("", |word| word.text);
    match first {
        "cfg" => has("test") && !has("not"),
        "cfg_attr" | "doc" => false,
        _ => attribute.iter().rfind(|word| word.is_name()).is_some_and(|word| word.text == "test"),
    }
}

/// Where the item that begins here ends: after its block, or after the semicolon if it has none.
fn item_end(words: &[Word<'_>], mut at: usize) -> usize {
    while let Some(word) = words.get(at) {
        match word.text {
            "#" => at = attribute(words, at).unwrap_or(at + 1),
            "(" | "[" => at = group_end(words, at),
            "{" => return group_end(words, at),
            ";" => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// Where the group that opens here is closed.
fn group_end(words: &[Word<'_>], opening: usize) -> usize {
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate().skip(opening) {
        match word.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    words.len()
}

/// What is not read yet.
struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    /// Reads one word, or passes over something that is none.
    fn step(&mut self) -> Option<&'a str> {
        let first = self.rest.chars().next()?;
        if self.rest.starts_with("//") {
            self.take(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.take(block_comment(self.rest));
        } else if let Some(length) = quoted(self.rest).or_else(|| tick(self.rest)) {
            self.take(length);
        } else if self.rest.starts_with("::") {
            return Some(self.take(2));
        } else if first.is_alphanumeric() || first == '_' {
            if self.rest.starts_with("r#") {
                self.take(2);
            }
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            return Some(self.take(self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len())));
        } else {
            let character = self.take(first.len_utf8());
            return (!first.is_whitespace()).then_some(character);
        }
        None
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }
}

/// The length of a block comment, with those inside it.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth.saturating_sub(1), at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// The length of a text in quotes, of any kind: `"a"`, `b"a"`, `c"a"`, `r"a"`, `br#"a"#`.
fn quoted(text: &str) -> Option<usize> {
    let after_kind = text.strip_prefix(['b', 'c']).unwrap_or(text);
    let after_raw = after_kind.strip_prefix('r');
    let before_hashes = after_raw.unwrap_or(after_kind);
    let inside = before_hashes.trim_start_matches('#');
    let hashes = &before_hashes[..before_hashes.len() - inside.len()];
    let inside = inside.strip_prefix('"')?;
    let start = text.len() - inside.len();
    if after_raw.is_some() {
        let closing = format!("\"{hashes}");
        return Some(inside.find(&closing).map_or(text.len(), |at| start + at + closing.len()));
    }
    hashes.is_empty().then(|| start + until_unescaped(inside, b'"'))
}

/// The length of a character in ticks, or of a lifetime.
fn tick(text: &str) -> Option<usize> {
    let inside = text.strip_prefix("b'").or_else(|| text.strip_prefix('\''))?;
    let start = text.len() - inside.len();
    let mut characters = inside.chars();
    let first = characters.next()?;
    if first == '\\' || characters.next() == Some('\'') {
        return Some(start + until_unescaped(inside, b'\''));
    }
    let name_end = inside.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    Some(start + name_end.unwrap_or(inside.len()))
}

/// The length up to and with the first `end` that no backslash precedes.
fn until_unescaped(text: &str, end: u8) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == end => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        words(text).into_iter().map(|word| word.text).collect()
    }

    fn kept(text: &str) -> String {
        let kept = without_tests(&words(text));
        kept.into_iter().map(|word| word.text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_quotes_are_no_words() {
        assert_eq!(texts("a // b\n/* c /* d */ e */ f"), ["a", "f"]);
        assert_eq!(texts(r##"a("b \" c", r#"d " e"#, b"f", br"\", c"g") h"##), texts("a(,,,,) h"));
        assert_eq!(texts(r"a('b', '\'', '\u{1}', b'\\', '(') c"), texts("a(,,,,) c"));
        assert_eq!(texts("&'a str, 'outer: loop"), texts("& str, : loop"));
        assert_eq!(texts("r#use::x"), ["use", "::", "x"]);
        assert_eq!(texts("break_b\"x\""), ["break_b"]);
    }

    #[test]
    fn lines_are_counted_through_all_of_them() {
        let words = words("a\n/* \n\n */ b\n\"x\ny\" c\n// d\ne");
        let lines: Vec<_> = words.iter().map(|word| (word.text, word.line)).collect();
        assert_eq!(lines, [("a", 1), ("b", 4), ("c", 6), ("e", 8)]);
    }

    #[test]
    fn what_ends_too_early_is_read_to_its_end() {
        for text in
            ["\"a", "r#\"a", "/* a", "'", "'\\", "b'", "#[cfg(test)", "#[cfg(test)] mod x {"]
        {
            without_tests(&words(text));
        }
    }

    #[test]
    fn test_code_is_left_out_and_what_follows_is_kept() {
        assert_eq!(kept("a; #[cfg(test)] mod tests { fn x() { b } } c"), "a ; c");
        assert_eq!(kept("#[cfg(test)] mod tests; c"), "c");
        assert_eq!(kept("#[cfg(all(test, unix))] #[doc(hidden)] fn x(a: [u8; 2]) {} c"), "c");
        assert_eq!(kept("#[tokio::test] async fn x() {} c"), "c");
        assert_eq!(kept("#[test] fn x() {} c"), "c");
    }

    #[test]
    fn other_attributes_are_kept() {
        assert_eq!(kept("#[cfg(not(test))] fn x() {}"), "# [ cfg ( not ( test ) ) ] fn x ( ) { }");
        assert_eq!(kept("#![cfg_attr(not(test), no_std)] a").split(' ').next_back(), Some("a"));
        assert_eq!(kept("#[derive(Debug)] struct A;"), "# [ derive ( Debug ) ] struct A ;");
    }
}
