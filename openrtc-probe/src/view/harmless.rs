//! Untrusted text made harmless: what a session calls itself must not move the cursor, reorder the
//! line, hide, or break a column.
//!
//! - Controls (C0, DEL, C1), format characters (bidi, zero-width, tags, variation selectors), line
//!   and paragraph separators and spaces other than U+0020 become visible escapes (`\n`, `\u{202e}`).
//! - What is left has one width, whether a terminal counts by character or by grapheme; clusters on
//!   which they would differ, and piles of combining marks, are escaped after their first character.
//! - A space at either end or after another space becomes `␣`: two spaces always end a column.

use std::borrow::Cow;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Zero-width characters (combining marks) kept on one base; no living script needs more.
const MAX_MARKS: usize = 3;
/// Characters kept in one grapheme cluster.
const MAX_CLUSTER: usize = 8;

/// Characters never shown as they are, besides controls and U+xFFFE, U+xFFFF. Sorted.
const HARMFUL: &[(char, char)] = &[
    ('\u{a0}', '\u{a0}'),       // no-break space
    ('\u{ad}', '\u{ad}'),       // soft hyphen
    ('\u{34f}', '\u{34f}'),     // grapheme joiner
    ('\u{600}', '\u{605}'),     // Arabic number signs: join what follows
    ('\u{61c}', '\u{61c}'),     // Arabic letter mark
    ('\u{6dd}', '\u{6dd}'),     // the same family
    ('\u{70f}', '\u{70f}'),     // Syriac abbreviation
    ('\u{890}', '\u{891}'),     // Arabic pound and piastre marks
    ('\u{8e2}', '\u{8e2}'),     // Arabic disputed end of ayah
    ('\u{115f}', '\u{1160}'),   // Hangul fillers: blank
    ('\u{1680}', '\u{1680}'),   // Ogham space
    ('\u{17b4}', '\u{17b5}'),   // Khmer inherent vowels: invisible
    ('\u{180b}', '\u{180f}'),   // Mongolian selectors
    ('\u{2000}', '\u{200f}'),   // spaces, zero-width space and joiners, LRM, RLM
    ('\u{2028}', '\u{202f}'),   // separators, bidi embeddings and overrides, narrow space
    ('\u{205f}', '\u{206f}'),   // math space, word joiner, bidi isolates
    ('\u{2800}', '\u{2800}'),   // Braille blank
    ('\u{3000}', '\u{3000}'),   // ideographic space
    ('\u{3164}', '\u{3164}'),   // Hangul filler
    ('\u{fdd0}', '\u{fdef}'),   // not characters
    ('\u{fe00}', '\u{fe0f}'),   // variation selectors: change widths
    ('\u{feff}', '\u{feff}'),   // byte order mark
    ('\u{ff9e}', '\u{ffa0}'), // halfwidth sound marks (libraries differ on their width) and filler
    ('\u{fff0}', '\u{fffb}'), // interlinear annotation
    ('\u{110bd}', '\u{110bd}'), // Kaithi number signs
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1345f}'), // Egyptian format controls
    ('\u{1bca0}', '\u{1bca3}'), // shorthand format controls
    ('\u{1d173}', '\u{1d17a}'), // musical format controls
    ('\u{e0000}', '\u{e0fff}'), // tags, variation selectors
];

/// Whether a character must never reach a terminal as it is.
pub fn is_harmful(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    c.is_control()
        || u32::from(c) & 0xfffe == 0xfffe
        || HARMFUL
            .binary_search_by(|&(first, last)| {
                if last < c {
                    std::cmp::Ordering::Less
                } else if first > c {
                    std::cmp::Ordering::Greater
                } else {
                    std::cmp::Ordering::Equal
                }
            })
            .is_ok()
}

/// The text as it may stand in a cell.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut after_space = true;
    let last = text.len();
    for (at, cluster) in text.grapheme_indices(true) {
        if cluster == " " {
            out.push(if after_space || at + 1 == last { '␣' } else { ' ' });
            after_space = true;
        } else {
            push_cluster(&mut out, cluster);
            after_space = false;
        }
    }
    Cow::Owned(out)
}

/// The text as the value of `key=value`: in double quotes, with `"` and `\` escaped, where it has a
/// space, `=`, `"`, `\` or anything that must be escaped, and where it is empty or a bare word that
/// `is_reserved`. Without quotes it is exactly what the worker holds.
pub fn value(text: &str, is_reserved: impl Fn(&str) -> bool) -> Cow<'_, str> {
    let bare = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\');
    if !text.is_empty() && !is_reserved(text) && text.bytes().all(bare) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    out.push('"');
    for cluster in text.graphemes(true) {
        match cluster {
            "\"" => out.push_str("\\\""),
            "\\" => out.push_str("\\\\"),
            other => push_cluster(&mut out, other),
        }
    }
    out.push('"');
    Cow::Owned(out)
}

/// The columns that a text takes on a terminal.
pub fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.graphemes(true).map(cluster_width).sum() }
}

/// The text in at most `columns` columns, with `…` in the last where something was cut.
pub fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if text.len() <= columns || width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let Some(room) = columns.checked_sub(1) else { return Cow::Borrowed("") };
    let mut taken = 0;
    let mut out: String = text
        .graphemes(true)
        .take_while(|cluster| {
            taken += cluster_width(cluster);
            taken <= room
        })
        .collect();
    out.push('…');
    Cow::Owned(out)
}

/// Printable ASCII with single spaces inside: nearly every id there is.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().all(|b| matches!(b, b' '..=b'~'))
        && !text.starts_with(' ')
        && !text.ends_with(' ')
        && !text.contains("  ")
}

fn push_cluster(out: &mut String, cluster: &str) {
    if is_sound(cluster) {
        out.push_str(cluster);
        return;
    }
    for (i, c) in cluster.chars().enumerate() {
        if i == 0 && !is_harmful(c) && char_width(c) > 0 {
            out.push(c);
        } else {
            push_escaped(out, c);
        }
    }
}

/// Whether all terminals agree on how wide a cluster is, and nothing in it is harmful.
fn is_sound(cluster: &str) -> bool {
    let (mut chars, mut marks, mut columns) = (0, 0, 0);
    for c in cluster.chars() {
        let wide = char_width(c);
        chars += 1;
        columns += wide;
        marks += usize::from(wide == 0);
        if is_harmful(c) {
            return false;
        }
    }
    let base = cluster.chars().next().map_or(0, char_width);
    base > 0 && marks <= MAX_MARKS && chars <= MAX_CLUSTER && cluster_width(cluster) == columns
}

fn char_width(c: char) -> usize {
    c.width().unwrap_or(0)
}

fn cluster_width(cluster: &str) -> usize {
    if cluster.len() == 1 { 1 } else { cluster.width() }
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        other => out.extend(other.escape_unicode()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_untouched() {
        for text in ["AJ_1f3c", "Booking Agent", "a=b \\ \"c\"", "naïve", "日本語", "çédille", ""]
        {
            assert_eq!(harmless(text), text);
        }
    }

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(harmless("a\x1b[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(harmless("a\r\nb\tc"), "a\\r\\nb\\tc");
        assert_eq!(harmless("\u{9b}31m\u{7f}"), "\\u{9b}31m\\u{7f}");
        assert_eq!(harmless("a\u{2028}b"), "a\\u{2028}b");
    }

    #[test]
    fn nothing_reorders_or_hides() {
        assert_eq!(harmless("x\u{202e}y\u{2066}z"), "x\\u{202e}y\\u{2066}z");
        assert_eq!(harmless("a\u{200b}b\u{feff}c"), "a\\u{200b}b\\u{feff}c");
        assert_eq!(harmless("a\u{e0041}\u{fe0f}"), "a\\u{e0041}\\u{fe0f}");
        assert_eq!(harmless("\u{3164}\u{2800}"), "\\u{3164}\\u{2800}");
        assert_eq!(harmless("\u{fffe}\u{1ffff}"), "\\u{fffe}\\u{1ffff}");
    }

    #[test]
    fn combining_marks_need_a_base_and_do_not_pile_up() {
        assert_eq!(harmless("\u{301}a"), "\\u{301}a");
        assert_eq!(harmless("e\u{301}"), "e\u{301}");
        let pile = format!("e{}", "\u{301}".repeat(4));
        assert_eq!(harmless(&pile), format!("e{}", "\\u{301}".repeat(4)));
    }

    #[test]
    fn clusters_that_terminals_draw_in_different_widths_are_taken_apart() {
        assert_eq!(harmless("👨\u{200d}👩\u{200d}👧"), "👨\\u{200d}\\u{1f469}\\u{200d}\\u{1f467}");
        assert_eq!(harmless("👍\u{1f3fd}"), "👍\\u{1f3fd}");
        assert_eq!(harmless("👍"), "👍");
    }

    #[test]
    fn two_spaces_never_stand_together_in_a_cell() {
        assert_eq!(harmless(" a  b   c "), "␣a ␣b ␣␣c␣");
        assert_eq!(harmless(" "), "␣");
        assert_eq!(harmless("a\u{a0}\u{3000}"), "a\\u{a0}\\u{3000}");
    }

    #[test]
    fn whatever_comes_in_comes_out_harmless_and_of_one_width() {
        // Every 7th scalar value alone, doubled, and after a letter: all blocks are met.
        for c in (0..=u32::from(char::MAX)).step_by(7).filter_map(char::from_u32) {
            for text in [format!("{c}"), format!("{c}{c}"), format!("a{c}b")] {
                let shown = harmless(&text);
                assert!(!shown.chars().any(is_harmful), "{text:?} -> {shown:?}");
                assert!(!shown.contains("  "), "{text:?} -> {shown:?}");
                let by_char: usize = shown.chars().map(char_width).sum();
                assert_eq!(width(&shown), by_char, "{text:?} -> {shown:?}");
            }
        }
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(HARMFUL.windows(2).all(|pair| pair[0].1 < pair[1].0));
        assert!(HARMFUL.iter().all(|(first, last)| first <= last));
    }

    #[test]
    fn widths_are_counted_by_grapheme() {
        assert_eq!(width("abc"), 3);
        assert_eq!(width("日本"), 4);
        assert_eq!(width("e\u{301}"), 1);
        assert_eq!(width(&harmless("ｶ\u{ff9e}")), "ｶ\\u{ff9e}".len() - 2);
    }

    #[test]
    fn what_does_not_fit_is_cut_with_an_ellipsis() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 5), "abcd…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("abc", 1), "…");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(cut("e\u{301}e\u{301}", 2), "e\u{301}e\u{301}");
    }

    #[test]
    fn values_of_a_log_line_stay_one_word_or_one_quoted_string() {
        let (none, untagged) = (|_: &str| false, |text: &str| text == "untagged");
        assert_eq!(value("AJ_1f3c", untagged), "AJ_1f3c");
        assert_eq!(value("Booking Agent", none), "\"Booking Agent\"");
        assert_eq!(value("a=b", none), "\"a=b\"");
        assert_eq!(value("a\"b\\c", none), "\"a\\\"b\\\\c\"");
        assert_eq!(value("a\n[slow-session]", none), "\"a\\n[slow-session]\"");
        assert_eq!(value("", untagged), "\"\"");
        assert_eq!(value("untagged", untagged), "\"untagged\"");
        assert_eq!(value("日本", none), "\"日本\"");
    }
}
