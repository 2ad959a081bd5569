//! Bounded walks over CPython's dicts, sets, strings and instances.
//!
//! The worker runs while we read, so any walk may meet a table that was just replaced or an object
//! that was just freed. Each object's type is checked before it is believed; a walk that meets
//! nonsense fails or skips, and never reads more than its limits.

use bytemuck::AnyBitPattern;
use openrtc_common::{
    config::PyLayout,
    loss::Loss,
    tag::{self, StrNear, TagText},
};

use crate::cpython::{
    Addresses,
    layout::{Keys, Layout, Values, common},
    memory::{ReadError, ReadMemory, RemoteAddr, Shared},
};

/// Entries of one dict that are looked at.
const MAX_DICT_ENTRIES: u64 = 1 << 16;
/// Slots of one set that are looked at; a set of 100,000 tasks has 2^18.
const MAX_SET_SLOTS: u64 = 1 << 20;
/// Bytes of bulk data read at once.
const CHUNK_BYTES: usize = 1 << 16;
/// Types from a type up to its base, both included, that are looked at.
const MAX_BASES: usize = 8;
/// Where in an instance its dict's pointer stands at most.
const MAX_DICTOFFSET: u64 = 1 << 16;
/// Bytes of a type's name that are read.
const MAX_TYPE_NAME: usize = 128;

/// Why a walk ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// Memory could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An object is not what stood there before, or never was.
    #[error("no {expected} at {addr} of the worker's memory")]
    Not {
        /// The type that was expected.
        expected: &'static str,
        /// Where.
        addr: RemoteAddr,
    },
    /// A container is larger than anything that we walk.
    #[error("the {what} at {addr} of the worker's memory has {size} places: too many to walk")]
    TooLarge {
        /// The container's type.
        what: &'static str,
        /// Where.
        addr: RemoteAddr,
        /// Its size.
        size: u64,
    },
}

/// A key of a dict with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: RemoteAddr,
    /// Its value.
    pub value: RemoteAddr,
}

/// The worker's objects, as one walk sees them.
pub struct Objects<'w, M> {
    /// The memory they stand in.
    pub memory: &'w M,
    /// This version's offsets.
    pub layout: &'w Layout,
    /// Where the interpreter's own objects stand.
    pub addresses: &'w Addresses,
    /// The shared walks' view of the same.
    pub shared: &'w PyLayout,
}

/// `PyDictObject`, from its type on.
#[derive(Clone, Copy, AnyBitPattern)]
#[repr(C)]
struct DictHead {
    _used: u64,
    _version: u64,
    keys: u64,
    values: u64,
}

/// `PyDictKeysObject` up to its indices, with [`Keys::Log2`].
#[derive(Clone, Copy, AnyBitPattern)]
#[repr(C)]
struct Log2Head {
    _refcount: u64,
    _log2_size: u8,
    log2_index_bytes: u8,
    kind: u8,
    _pad: u8,
    _version: u32,
    _usable: u64,
    entries: u64,
}

/// `PyDictKeysObject` up to its indices, with [`Keys::Sized`].
#[derive(Clone, Copy, AnyBitPattern)]
#[repr(C)]
struct SizedHead {
    _refcount: u64,
    size: u64,
    _lookup: u64,
    _usable: u64,
    entries: u64,
}

/// Where an instance keeps its attributes.
enum Attributes {
    /// In this dict.
    Dict(RemoteAddr),
    /// In this array, in the order of its type's keys.
    Values(RemoteAddr),
}

/// Where the entries of a table of keys stand, and how many words each has.
struct KeyTable {
    first: RemoteAddr,
    entries: u64,
    words: usize,
}

/// `DICT_KEYS_GENERAL`: entries that carry their hash; others hold only `str` keys and do not.
const KIND_GENERAL: u8 = 0;

/// `PySetObject`, from its `fill` on.
#[derive(Clone, Copy, AnyBitPattern)]
#[repr(C)]
struct SetHead {
    _fill: u64,
    _used: u64,
    mask: u64,
    table: u64,
}

/// How the object at an address is read as a tag.
type ReadTag<R> = fn(&R, &mut StrNear, &PyLayout, u64, &mut TagText) -> Result<bool, Loss>;

fn too_large(addr: RemoteAddr, size: u64) -> WalkError {
    WalkError::TooLarge { what: "dict", addr, size }
}

impl<'w, M> Objects<'w, M> {
    /// The same objects, read through `memory`.
    pub fn through<'n, N>(&self, memory: &'n N) -> Objects<'n, N>
    where
        'w: 'n,
    {
        let Self { layout, addresses, shared, .. } = *self;
        Objects { memory, layout, addresses, shared }
    }
}

impl<M: ReadMemory> Objects<'_, M> {
    /// An object's type.
    pub fn type_of(&self, object: RemoteAddr) -> Result<RemoteAddr, ReadError> {
        self.memory.read_ptr(object.plus(common::OB_TYPE))
    }

    /// Fails unless `object` is exactly of type `ty`.
    pub fn expect(
        &self,
        object: RemoteAddr,
        ty: RemoteAddr,
        expected: &'static str,
    ) -> Result<(), WalkError> {
        if object.0 != 0 && self.type_of(object)? == ty {
            return Ok(());
        }
        Err(WalkError::Not { expected, addr: object })
    }

    /// Whether the type `ty` is `base` or derived from it by single inheritance.
    pub fn is_subtype(&self, ty: RemoteAddr, base: RemoteAddr) -> bool {
        let mut at = ty;
        for _ in 0..MAX_BASES {
            if at == base {
                return true;
            }
            match self.memory.read_ptr(at.plus(common::TYPE_BASE)) {
                Ok(next) if next.0 != 0 => at = next,
                _ => return false,
            }
        }
        false
    }

    /// A type's `tp_name`.
    pub fn type_name(&self, ty: RemoteAddr) -> Result<String, ReadError> {
        let name = self.memory.read_ptr(ty.plus(common::TYPE_NAME))?;
        self.memory.read_c_str(name, MAX_TYPE_NAME)
    }

    /// The entries of a dict, in order of insertion.
    pub fn dict(&self, dict: RemoteAddr) -> Result<Vec<Entry>, WalkError> {
        self.expect(dict, self.addresses.dict_type, "dict")?;
        let head: DictHead = self.memory.read(dict.plus(16))?;
        let mut entries = self.keys(RemoteAddr(head.keys))?;
        if head.values != 0 {
            // A split table: the keys are shared between instances, the values are this one's.
            let first = RemoteAddr(head.values).plus(self.layout.first_value);
            for (index, entry) in (0..).zip(&mut entries) {
                entry.value = self.memory.read_ptr(first.plus(8 * index))?;
            }
        }
        entries.retain(|entry| entry.key.0 != 0 && entry.value.0 != 0);
        Ok(entries)
    }

    /// A dict's value under the `str` key `name`.
    pub fn dict_get(&self, dict: RemoteAddr, name: &str) -> Result<Option<RemoteAddr>, WalkError> {
        let found = self.dict(dict)?.into_iter().find(|entry| self.is_str(entry.key, name));
        Ok(found.map(|entry| entry.value))
    }

    /// All places of a key table, also those of deleted entries, as shared values count on them.
    fn keys(&self, keys: RemoteAddr) -> Result<Vec<Entry>, WalkError> {
        let table = match self.layout.keys {
            Keys::Sized => self.sized_keys(keys)?,
            Keys::Log2 => self.log2_keys(keys)?,
        };
        if table.entries > MAX_DICT_ENTRIES {
            return Err(too_large(keys, table.entries));
        }
        let mut entries = Vec::with_capacity(table.entries as usize);
        self.for_each_place(table.first, table.entries, table.words, |place| {
            let [.., key, value] = *place else { return };
            entries.push(Entry { key: RemoteAddr(key), value: RemoteAddr(value) });
        })?;
        Ok(entries)
    }

    fn log2_keys(&self, keys: RemoteAddr) -> Result<KeyTable, WalkError> {
        let head: Log2Head = self.memory.read(keys)?;
        if head.log2_index_bytes > 32 {
            return Err(too_large(keys, head.entries));
        }
        let first = keys.plus(size_of::<Log2Head>() as u64 + (1 << head.log2_index_bytes));
        let words = if head.kind == KIND_GENERAL { 3 } else { 2 };
        Ok(KeyTable { first, entries: head.entries, words })
    }

    fn sized_keys(&self, keys: RemoteAddr) -> Result<KeyTable, WalkError> {
        let head: SizedHead = self.memory.read(keys)?;
        // An index is as wide as it takes to number all places.
        let index_bytes = match head.size {
            0..=0xff => 1,
            0x100..=0xffff => 2,
            0x1_0000..=0xffff_ffff => 4,
            size => return Err(too_large(keys, size)),
        };
        let first = keys.plus(size_of::<SizedHead>() as u64 + head.size * index_bytes);
        Ok(KeyTable { first, entries: head.entries, words: 3 })
    }

    /// The members of a `set`.
    pub fn set(&self, set: RemoteAddr) -> Result<Vec<RemoteAddr>, WalkError> {
        self.expect(set, self.addresses.set_type, "set")?;
        let head: SetHead = self.memory.read(set.plus(16))?;
        let slots = head.mask.wrapping_add(1);
        if slots > MAX_SET_SLOTS {
            return Err(WalkError::TooLarge { what: "set", addr: set, size: slots });
        }
        let mut members = Vec::new();
        // A place is {key, hash}; that of a deleted member holds the dummy, whose hash is -1:
        // https://github.com/python/cpython/blob/v3.11.7/Objects/setobject.c.
        self.for_each_place(RemoteAddr(head.table), slots, 2, |place| {
            if let [key, hash] = *place
                && key != 0
                && hash != u64::MAX
            {
                members.push(RemoteAddr(key));
            }
        })?;
        Ok(members)
    }

    /// Calls `see` with each of `count` places of `words` words each.
    fn for_each_place(
        &self,
        first: RemoteAddr,
        count: u64,
        words: usize,
        mut see: impl FnMut(&[u64]),
    ) -> Result<(), ReadError> {
        let bytes = count * 8 * words as u64;
        let mut at = 0;
        let step = CHUNK_BYTES / (8 * words) * (8 * words);
        while at < bytes {
            let mut chunk = vec![0; ((bytes - at) as usize).min(step)];
            self.memory.read_exact(first.plus(at), &mut chunk)?;
            for place in chunk.chunks_exact(8 * words) {
                let mut values = [0_u64; 3];
                for (value, word) in values.iter_mut().zip(place.chunks_exact(8)) {
                    *value = bytemuck::pod_read_unaligned(word);
                }
                see(values.get(..words).unwrap_or_default());
            }
            at += chunk.len() as u64;
        }
        Ok(())
    }

    /// What a value of the tag variable is to us: its text or its type, `None` for `None` and the
    /// empty `str`.
    ///
    /// # Errors
    /// [`Loss::TagUnreadable`] where it cannot be read, or is no object at all.
    pub fn tag(&self, object: RemoteAddr) -> Result<Option<TagText>, Loss> {
        self.tag_as(object, tag::read)
    }

    fn tag_as<'m>(
        &'m self,
        object: RemoteAddr,
        read: ReadTag<Shared<'m, M>>,
    ) -> Result<Option<TagText>, Loss> {
        let (mut near, mut tag) = (StrNear::default(), TagText::EMPTY);
        let memory = Shared(self.memory);
        let is_tag = read(&memory, &mut near, self.shared, object.0, &mut tag)?;
        if tag.type_addr().is_some_and(|ty| !self.is_type(RemoteAddr(ty))) {
            return Err(Loss::TagUnreadable);
        }
        Ok(is_tag.then_some(tag))
    }

    /// What the name of a task is to us: its text, its number or its type.
    ///
    /// # Errors
    /// [`Loss::TagUnreadable`] where it cannot be read, or is no object at all.
    pub fn name(&self, object: RemoteAddr) -> Result<Option<TagText>, Loss> {
        self.tag_as(object, tag::read_name)
    }

    /// The text of a `str`, `None` for everything else.
    ///
    /// # Errors
    /// [`Loss::TagUnreadable`] where it cannot be read.
    pub fn text(&self, object: RemoteAddr) -> Result<Option<TagText>, Loss> {
        let tag = self.tag(object)?;
        Ok(tag.filter(|tag| tag.type_addr().is_none()))
    }

    /// Whether a type stands at `ty`: one whose own type is `type`, or derived from it.
    pub fn is_type(&self, ty: RemoteAddr) -> bool {
        let metatypes = (self.type_of(ty), self.type_of(self.addresses.str_type));
        matches!(metatypes, (Ok(own), Ok(metatype)) if self.is_subtype(own, metatype))
    }

    /// Whether `object` is the exact `str` `text`; of long ones the first [`tag::TAG_BYTES`] bytes
    /// and the length count.
    pub fn is_str(&self, object: RemoteAddr, text: &str) -> bool {
        let Ok(Some(found)) = self.text(object) else { return false };
        found.chars as usize == text.chars().count()
            && found.chars().zip(text.chars()).all(|(found, wanted)| found == wanted)
    }

    /// The attribute `name` of an instance of a Python class.
    pub fn attribute(&self, object: RemoteAddr, name: &str) -> Result<RemoteAddr, WalkError> {
        let missing = WalkError::Not { expected: "such attribute", addr: object };
        let ty = self.type_of(object)?;
        let attributes = self.attributes(object, ty)?.ok_or(missing)?;
        let values = match attributes {
            Attributes::Dict(dict) => return self.dict_get(dict, name)?.ok_or(missing),
            Attributes::Values(values) => values,
        };
        let keys = self.keys(self.memory.read_ptr(ty.plus(self.layout.type_cached_keys))?)?;
        let index = keys.iter().position(|entry| self.is_str(entry.key, name)).ok_or(missing)?;
        let value = values.plus(self.layout.first_value + 8 * index as u64);
        self.memory.read_ptr(value)?.non_null().ok_or(missing)
    }

    /// Where an instance of the type `ty` keeps its attributes, `None` where it can have none.
    fn attributes(
        &self,
        object: RemoteAddr,
        ty: RemoteAddr,
    ) -> Result<Option<Attributes>, ReadError> {
        if self.layout.values == Values::InDict {
            let at: u64 = self.memory.read(ty.plus(common::TYPE_DICTOFFSET))?;
            // A negative one counts from the end of an object of varying size.
            if at == 0 || at > MAX_DICTOFFSET {
                return Ok(None);
            }
            return Ok(self.memory.read_ptr(object.plus(at))?.non_null().map(Attributes::Dict));
        }
        let flags: u64 = self.memory.read(ty.plus(common::TYPE_FLAGS))?;
        if flags & common::FLAG_MANAGED_DICT == 0 {
            return Ok(None);
        }
        let dict = self.memory.read_ptr(object.offset(common::MANAGED_DICT))?;
        let values = match self.layout.values {
            Values::Pointed { at } => self.memory.read_ptr(object.offset(at))?.non_null(),
            Values::Tagged => (dict.0 & 1 != 0).then(|| dict.plus(1)),
            Values::Embedded if dict.0 == 0 => {
                Some(object.plus(self.memory.read(ty.plus(common::TYPE_BASICSIZE))?))
            }
            Values::Embedded | Values::InDict => None,
        };
        Ok(Some(values.map_or(Attributes::Dict(dict), Attributes::Values)))
    }
}

#[cfg(test)]
mod tests;
