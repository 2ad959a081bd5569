//! What a `str` or a `bytes` holds, by its content and longer than a tag: names, paths, tables.
//!
//! Of what is longer than its limit only the end is kept: that of a path says more than its beginning.

use bytemuck::AnyBitPattern;

use super::{
    layout::common,
    memory::{ReadMemory, RemoteAddr},
    object::Objects,
};

/// `PyUnicodeObject.state`: the text stands right behind the head.
const STATE_COMPACT: u32 = 0x20;
/// `PyUnicodeObject.state`: the head is a short one.
const STATE_ASCII: u32 = 0x40;
/// Bytes of the heads of both.
const HEAD_BYTES: usize = size_of::<Head>();
/// What is written before a text whose beginning is missing.
const CUT: char = '…';

/// `PyASCIIObject` and `PyBytesObject`, as far as both are alike; of `bytes`, text begins where the state
/// is, <https://github.com/python/cpython/blob/v3.13.0/Include/cpython/unicodeobject.h>.
#[derive(Clone, Copy, AnyBitPattern)]
#[repr(C)]
struct Head {
    _refcount: u64,
    ty: u64,
    units: u64,
    _hash: u64,
    state: u32,
    _pad: u32,
}

/// Which of the two it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An exact `str`.
    Text,
    /// A `bytes`, whose type is not checked: it has to be the member of an object that was.
    Bytes,
}

/// The content of one. Two are equal only where everything is that tells it from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    ty: u64,
    /// Bytes of a code point.
    unit: usize,
    /// Bytes of all of it, also where it was cut.
    bytes: u64,
    /// Where it begins, from the object's start.
    at: u64,
    /// As much of its end as was to be kept.
    kept: Vec<u8>,
}

impl Content {
    /// Reads the object at `at`, of which at most `limit` bytes are kept. What it was `before`, if that is
    /// known, spares a reading.
    pub fn read<M: ReadMemory>(
        objects: &Objects<'_, M>,
        at: RemoteAddr,
        kind: Kind,
        limit: usize,
        before: Option<&Self>,
    ) -> Option<Self> {
        let near = before.and_then(Self::span).unwrap_or(0);
        let mut bytes = vec![0; near.max(HEAD_BYTES)];
        if objects.memory.read_exact(at, &mut bytes).is_err() {
            // Something shorter stands there now, at the end of what is mapped.
            bytes.truncate(HEAD_BYTES);
            objects.memory.read_exact(at, &mut bytes).ok()?;
        }
        let head: Head = bytemuck::pod_read_unaligned(bytes.get(..HEAD_BYTES)?);
        let mut content = Self::of_head(objects, head, kind)?;
        let kept = content.bytes.min(limit as u64) as usize / content.unit * content.unit;
        let begin = content.at + (content.bytes - kept as u64);
        let end = usize::try_from(begin).ok()?.checked_add(kept)?;
        if let Some(text) = bytes.get(begin as usize..end) {
            content.kept = text.to_vec();
        } else {
            bytes.resize(kept, 0);
            objects.memory.read_exact(at.plus(begin), &mut bytes).ok()?;
            content.kept = bytes;
        }
        Some(content)
    }

    /// Bytes of the whole object, `None` where not all of it is kept.
    pub fn span(&self) -> Option<usize> {
        // Both are bounded: what is whole is no longer than its limit.
        (!self.is_cut()).then(|| self.at as usize + self.kept.len())
    }

    /// Whether an object of the same content stands in `bytes`, which are as many as its own.
    pub fn is_in<M>(&self, objects: &Objects<'_, M>, bytes: &[u8], kind: Kind) -> bool {
        let head = bytes.get(..HEAD_BYTES).map(bytemuck::pod_read_unaligned);
        let other = head.and_then(|head| Self::of_head(objects, head, kind));
        let is_alike = other.is_some_and(|other| {
            (other.ty, other.unit, other.bytes, other.at)
                == (self.ty, self.unit, self.bytes, self.at)
        });
        is_alike && bytes.get(self.at as usize..) == Some(&self.kept[..])
    }

    fn of_head<M>(objects: &Objects<'_, M>, head: Head, kind: Kind) -> Option<Self> {
        let (unit, at) = match kind {
            Kind::Bytes => (1, common::BYTES_DATA),
            Kind::Text => {
                let is_exact = RemoteAddr(head.ty) == objects.addresses.str_type;
                if !is_exact || head.state & STATE_COMPACT == 0 {
                    return None;
                }
                let at = if head.state & STATE_ASCII == 0 {
                    objects.layout.str_wide_data
                } else {
                    objects.layout.str_ascii_data
                };
                (head.state >> 2 & 7, u64::from(at))
            }
        };
        if !matches!(unit, 1 | 2 | 4) {
            return None;
        }
        let bytes = head.units.checked_mul(u64::from(unit))?;
        Some(Self { ty: head.ty, unit: unit as usize, bytes, at, kept: Vec::new() })
    }

    /// Whether its beginning is missing.
    pub fn is_cut(&self) -> bool {
        self.kept.len() as u64 != self.bytes
    }

    /// What is kept of it.
    pub fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// As text; what is no code point becomes U+FFFD.
    pub fn text(&self) -> String {
        let chars = self.kept.chunks_exact(self.unit).map(|unit| {
            let code = unit.iter().rev().fold(0, |code, byte| code << 8 | u32::from(*byte));
            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
        });
        self.is_cut().then_some(CUT).into_iter().chain(chars).collect()
    }
}
