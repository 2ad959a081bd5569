//! A session's tag: the text of the tag variable, bounded, and identified by its content.
//!
//! A tag is never identified by the address of its object: addresses are reused as soon as a
//! session ends, contents are not. A value that is no exact `str` (an `int`, a `UUID`, an instance of
//! a subclass of `str`) is laid out as its type pleases, so its content is not guessed: all values of
//! one type are one tag, identified by the address of the type, which lives as long as any of them.

use bytemuck::{Pod, Zeroable};

use crate::{config::PyLayout, loss::Loss, memory::Memory};

/// Bytes of a tag's text that are kept; longer ones are cut, and marked by [`TagText::is_cut`].
pub const TAG_BYTES: usize = 128;

const STATE_COMPACT: u32 = 0x20;
const STATE_ASCII: u32 = 0x40;

/// The [`TagText::unit`] of a tag that is no text: its bytes are one word, the address of a type.
const TYPE_UNIT: u32 = 8;
/// The [`TagText::chars`] of such a word that is the number of a task instead: a type's is 1.
const NUMBER: u32 = 2;

/// The text of a `str` as CPython stores it: `unit` bytes for each code point. Or, where the value is
/// no text, its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct TagText {
    /// Bytes per code point: 1 (Latin-1), 2 (UCS-2) or 4 (UCS-4); 0 where there is no tag, 8 where it
    /// is a type.
    pub unit: u32,
    /// Code points in the whole `str`, also those that were cut.
    pub chars: u32,
    /// The first bytes of the text; zero beyond its end.
    pub bytes: [u8; TAG_BYTES],
}

/// Identifies a tag by its content: width, length and two independent hashes of the bytes kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct TagKey {
    /// First hash.
    pub lo: u64,
    /// Second hash.
    pub hi: u64,
}

/// The head of a compact `str` (`PyASCIIObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct StrHead {
    refcount: u64,
    ty: u64,
    chars: u64,
    hash: u64,
    state: u32,
    pad: u32,
}

/// Words behind the head that are read along with it: enough for most ids, and a second read is
/// what a lookup spends most of its time on.
const NEAR_WORDS: usize = 8;

/// A head and what follows it: room for a reading to work in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct StrNear {
    head: StrHead,
    words: [u64; NEAR_WORDS],
}

impl TagText {
    /// No text.
    pub const EMPTY: TagText = TagText { unit: 0, chars: 0, bytes: [0; TAG_BYTES] };

    /// Makes the text at `at` empty, word by word: the BPF target's `memset` goes byte by byte,
    /// which costs more than the whole lookup.
    ///
    /// # Safety
    /// `at` must be valid for writes.
    #[inline(always)]
    pub unsafe fn clear(at: *mut TagText) {
        let words = at.cast::<u64>();
        let mut word = 0;
        while word < size_of::<TagText>() / 8 {
            // SAFETY: inside the struct, which is aligned to words; volatile so that the compiler
            // does not make a `memset` of it.
            unsafe { words.add(word).write_volatile(0) };
            word += 1;
        }
    }

    /// Bytes of [`TagText::bytes`] in use.
    #[inline(always)]
    pub fn stored(&self) -> usize {
        stored_bytes(self.chars, self.unit)
    }

    /// Whether the `str` was longer than what is kept.
    pub fn is_cut(&self) -> bool {
        u64::from(self.chars) * u64::from(self.unit) > TAG_BYTES as u64
    }

    /// The address of the value's type, where the value is no text.
    pub fn type_addr(&self) -> Option<u64> {
        let (word, _) = self.bytes.split_first_chunk()?;
        let is_type = self.unit == TYPE_UNIT && self.chars != NUMBER;
        is_type.then(|| u64::from_ne_bytes(*word))
    }

    /// The number of a task without a name of its own, where it is that.
    pub fn task_number(&self) -> Option<u64> {
        let (word, _) = self.bytes.split_first_chunk()?;
        (self.unit == TYPE_UNIT && self.chars == NUMBER).then(|| u64::from_ne_bytes(*word))
    }

    /// Makes it the tag of the task that is called by its number.
    #[inline(always)]
    fn set_number(&mut self, number: u64) {
        (self.unit, self.chars) = (TYPE_UNIT, NUMBER);
        self.bytes[..8].copy_from_slice(&number.to_ne_bytes());
    }

    /// Makes it the tag of all values of the type at `ty`. What it held before must be no longer than
    /// a word.
    #[inline(always)]
    fn set_type(&mut self, ty: u64) {
        (self.unit, self.chars) = (TYPE_UNIT, 1);
        self.bytes[..8].copy_from_slice(&ty.to_ne_bytes());
    }

    /// The text, as far as it was kept; nothing where it is a type or a number. A code point cut in the
    /// middle, or one that is none, becomes U+FFFD.
    pub fn chars(&self) -> impl Iterator<Item = char> + '_ {
        let unit = self.unit.max(1) as usize;
        let len = if self.unit == TYPE_UNIT { 0 } else { self.stored() };
        let stored = self.bytes.get(..len).unwrap_or_default();
        stored.chunks(unit).map(move |chunk| {
            let code = chunk.iter().rev().fold(0u32, |code, byte| code << 8 | u32::from(*byte));
            let whole = chunk.len() == unit;
            char::from_u32(code).filter(|_| whole).unwrap_or(char::REPLACEMENT_CHARACTER)
        })
    }

    /// The key of this content.
    #[inline(always)]
    pub fn key(&self) -> TagKey {
        const K1: u64 = 0x9e37_79b9_7f4a_7c15;
        const K2: u64 = 0xc2b2_ae3d_27d4_eb4f;
        let start = u64::from(self.chars) << 4 | u64::from(self.unit);
        let (mut lo, mut hi) = (start.wrapping_mul(K1), !start);
        let stored = self.stored();
        let mut at = 0;
        while at < TAG_BYTES {
            if at >= stored {
                break;
            }
            let mut word = [0; 8];
            word.copy_from_slice(&self.bytes[at..at + 8]);
            let word = u64::from_ne_bytes(word);
            lo = (lo.rotate_left(29) ^ word).wrapping_mul(K1);
            hi = (hi.rotate_left(23) ^ word).wrapping_mul(K2);
            at += 8;
        }
        TagKey { lo: lo ^ (lo >> 32), hi: hi ^ (hi >> 29) }
    }
}

#[inline(always)]
fn stored_bytes(chars: u32, unit: u32) -> usize {
    let bytes = u64::from(chars) * u64::from(unit);
    if bytes > TAG_BYTES as u64 { TAG_BYTES } else { bytes as usize }
}

/// Reads the object at `addr` into `out`; says `false` where it is `None` or the empty `str`, which
/// both mean untagged. `out` must be [`TagText::EMPTY`].
///
/// # Errors
/// [`Loss::TagUnreadable`] where memory cannot be read.
#[inline(always)]
pub fn read<M: Memory>(
    memory: &M,
    near: &mut StrNear,
    layout: &PyLayout,
    addr: u64,
    out: &mut TagText,
) -> Result<bool, Loss> {
    if addr == layout.none {
        return Ok(false);
    }
    // An object at the very end of a mapping has nothing behind it to read along.
    let has_near = memory.read_into(addr, near);
    if !has_near && !memory.read_into(addr, &mut near.head) {
        return Err(Loss::TagUnreadable);
    }
    let head = near.head;
    let unit = (head.state >> 2) & 7;
    let known = unit == 1 || unit == 2 || unit == 4;
    if head.ty != layout.str_type || head.state & STATE_COMPACT == 0 || !known {
        // Also a `str` in one of the old forms whose text stands elsewhere (up to 3.11): rare, and of
        // unknown content like the others.
        out.set_type(head.ty);
        return Ok(true);
    }
    let data =
        if head.state & STATE_ASCII == 0 { layout.str_wide_data } else { layout.str_ascii_data };
    // A length beyond 32 bits is cut like any other long one.
    out.chars = if head.chars > u64::from(u32::MAX) { u32::MAX } else { head.chars as u32 };
    out.unit = unit;
    let stored = stored_bytes(out.chars, unit);
    let skip = (data as usize).saturating_sub(size_of::<StrHead>()) / 8;
    if has_near && skip * 8 + stored <= NEAR_WORDS * 8 {
        copy_words(&near.words, skip, stored, &mut out.bytes);
    } else {
        memory
            .read_text(addr.wrapping_add(u64::from(data)), stored, &mut out.bytes)
            .ok_or(Loss::TagUnreadable)?;
    }
    Ok(stored > 0)
}

/// Reads the name of a task into `out`, as [`read`] does any value: a `str` or, from CPython 3.12 on, the
/// number of a task that was given no name, which `asyncio` shows as `Task-1`. `out` must be
/// [`TagText::EMPTY`].
///
/// # Errors
/// [`Loss::TagUnreadable`] where memory cannot be read.
#[inline(always)]
pub fn read_name<M: Memory>(
    memory: &M,
    near: &mut StrNear,
    layout: &PyLayout,
    addr: u64,
    out: &mut TagText,
) -> Result<bool, Loss> {
    if !read(memory, near, layout, addr, out)? {
        // Of `None` not even the head was read.
        return Ok(false);
    }
    // `PyLongObject` from 3.12 on: how many digits of 30 bits, times eight, and then these.
    let StrHead { ty, chars: digits, hash: digit, .. } = near.head;
    if ty == layout.int_type && digits >> 3 == 1 {
        out.set_number(digit & 0x3fff_ffff);
    }
    Ok(true)
}

/// Copies `stored` bytes of `words`, from word `skip` on, and leaves the rest of `out` as it is.
#[inline(always)]
fn copy_words(words: &[u64; NEAR_WORDS], skip: usize, stored: usize, out: &mut [u8; TAG_BYTES]) {
    for index in 0..NEAR_WORDS {
        let at = index * 8;
        if at >= stored {
            break;
        }
        let Some(mut word) = words.get(index + skip).copied() else { break };
        let left = stored - at;
        if left < 8 {
            // What follows the text is not part of it.
            word &= (1 << (8 * left)) - 1;
        }
        out[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(s: &[u8]) -> TagText {
        let mut bytes = [0; TAG_BYTES];
        bytes[..s.len()].copy_from_slice(s);
        TagText { unit: 1, chars: s.len() as u32, bytes }
    }

    #[test]
    fn the_key_depends_on_content_width_and_length() {
        assert_eq!(text(b"AJ_1f3c").key(), text(b"AJ_1f3c").key());
        assert_ne!(text(b"AJ_1f3c").key(), text(b"AJ_1f3d").key());
        let wide = TagText { unit: 2, ..text(b"AJ") };
        assert_ne!(text(b"AJ").key(), wide.key());
        let longer = TagText { chars: 3, ..text(b"AJ") };
        assert_ne!(text(b"AJ").key(), longer.key());
    }

    #[test]
    fn many_like_ids_have_keys_of_their_own() {
        let mut seen = std::collections::BTreeSet::new();
        for i in 0..200_000 {
            let key = text(std::format!("AJ_{i:012x}").as_bytes()).key();
            assert!(seen.insert(key.lo) && seen.insert(!key.hi), "collision at {i}");
        }
    }

    #[test]
    fn every_width_is_decoded() {
        let wide = |unit, chars, bytes: &[u8]| -> std::string::String {
            TagText { unit, chars, ..text(bytes) }.chars().collect()
        };
        assert_eq!(wide(1, 3, b"AJ\xe9"), "AJé");
        assert_eq!(wide(2, 2, &[0x60, 0x4f, 0x7d, 0x59]), "你好");
        assert_eq!(wide(4, 1, &[0x1f, 0xf6, 0x01, 0x00]), "\u{1f61f}");
        assert_eq!(wide(4, 1, &[0, 0, 0x11, 0]), "\u{fffd}", "beyond Unicode");
        assert_eq!(TagText::EMPTY.chars().count(), 0);
    }

    #[test]
    fn a_type_is_a_tag_without_text() {
        let of = |ty: u64| {
            let mut tag = TagText::EMPTY;
            tag.set_type(ty);
            tag
        };
        let int = of(0x7f00_1230);
        assert_eq!((int.type_addr(), int.chars().count()), (Some(0x7f00_1230), 0));
        assert!(!int.is_cut());
        assert_eq!(int.key(), of(0x7f00_1230).key());
        assert_ne!(int.key(), of(0x7f00_1270).key());
        let like = text(&0x7f00_1230_u64.to_ne_bytes());
        assert_eq!(like.type_addr(), None);
        assert_ne!(int.key(), like.key(), "a text of the same bytes");
    }

    #[test]
    fn a_number_is_no_type_and_has_a_key_of_its_own() {
        let (mut number, mut ty) = (TagText::EMPTY, TagText::EMPTY);
        number.set_number(42);
        ty.set_type(42);
        assert_eq!((number.task_number(), number.type_addr()), (Some(42), None));
        assert_eq!((ty.task_number(), ty.type_addr()), (None, Some(42)));
        assert_ne!(number.key(), ty.key());
        assert_eq!((text(b"x").task_number(), number.chars().count()), (None, 0));
    }

    #[test]
    fn clearing_leaves_nothing() {
        let mut used = text(b"AJ_1f3c");
        // SAFETY: a reference.
        unsafe { TagText::clear(&raw mut used) };
        assert_eq!(used, TagText::EMPTY);
    }

    #[test]
    fn long_texts_are_cut_and_marked() {
        let cut = TagText { chars: 300, ..text(b"x") };
        assert!(cut.is_cut());
        assert_eq!(cut.stored(), TAG_BYTES);
        assert!(!text(b"x").is_cut());
    }
}
