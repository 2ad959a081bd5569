//! Code objects: what a frame runs, and of which lines its instructions are.
//!
//! Invariants: an address says nothing, as code made at run time comes and goes; what is known of a code
//! object counts only where all of it is found there again, byte for byte. What is read for the first time
//! is read twice. Texts, tables and the cache itself are bounded.

use std::{collections::HashMap, sync::Arc};

use super::{
    layout::{LineTable, common},
    lines,
    memory::{ReadMemory, RemoteAddr},
    object::Objects,
    origin::Origin,
    text::{Content, Kind},
};

/// Bytes of the head of a code object at most, without its bytecode.
const MAX_HEAD_BYTES: usize = 512;
/// Bytes of a name or a path that are kept, from its end.
const MAX_TEXT_BYTES: usize = 512;
/// Bytes of a table of lines; a longer one is not read.
const MAX_TABLE_BYTES: usize = 1 << 16;
/// Bytes of known code objects that are read at once.
const MAX_AT_ONCE: usize = 1 << 18;
/// Code objects that are remembered.
const MAX_CODES: usize = 4096;
/// Bytes of texts and tables that are remembered (16 MiB).
const MAX_BYTES: usize = 1 << 24;

/// What is known of a code object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// The function's qualified name, up to 3.10 its name. Untrusted text.
    pub function: String,
    /// The path of its file, as the interpreter was told it. Untrusted text.
    pub file: String,
    /// Whose it is.
    pub origin: Origin,
    /// It may be the interpreter's own, made without a file: then its name and its file are one object.
    /// From 3.12 such code runs below an `__init__`, in a frame that is no shim,
    /// <https://github.com/python/cpython/blob/v3.12.1/Python/specialize.c>.
    pub(super) is_own: bool,
    first_line: i32,
    format: LineTable,
    /// `None` where it is too long.
    table: Option<Vec<u8>>,
}

impl Code {
    /// The line that it begins in: of a decorated function the first decorator's.
    pub fn first_line(&self) -> Option<u32> {
        u32::try_from(self.first_line).ok().filter(|line| *line > 0)
    }

    /// The line of the instruction `offset` bytes from the beginning of the bytecode, negative before the
    /// first one. `None` where there is none: of code that the compiler adds.
    pub fn line(&self, offset: i64) -> Option<u32> {
        lines::line(self.format, self.table.as_deref()?, self.first_line, offset)
    }
}

/// What is read of a code object itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    file: RemoteAddr,
    function: RemoteAddr,
    table: RemoteAddr,
    first_line: i32,
}

impl Head {
    fn read<M: ReadMemory>(objects: &Objects<'_, M>, at: RemoteAddr) -> Option<Self> {
        let mut bytes = [0; MAX_HEAD_BYTES];
        let bytes = bytes.get_mut(..objects.layout.code.bytes as usize)?;
        objects.memory.read_fresh(at, bytes).ok()?;
        Self::of(objects, bytes)
    }

    fn of<M>(objects: &Objects<'_, M>, bytes: &[u8]) -> Option<Self> {
        let layout = &objects.layout.code;
        let word = |at: u64| {
            let word = bytes.get(at as usize..).and_then(<[u8]>::first_chunk);
            word.map(|word| RemoteAddr(u64::from_le_bytes(*word)))
        };
        if word(common::OB_TYPE)? != objects.addresses.code_type {
            return None;
        }
        let (LineTable::Pairs { at } | LineTable::Ranges { at } | LineTable::Locations { at }) =
            layout.lines;
        let first_line = bytes.get(layout.first_line as usize..).and_then(<[u8]>::first_chunk)?;
        Some(Self {
            file: word(layout.filename)?,
            function: word(layout.qualname.unwrap_or(layout.name))?,
            table: word(at)?,
            first_line: i32::from_le_bytes(*first_line),
        })
    }
}

/// Where the parts of a code object stand, and in how many bytes.
type Places = [(RemoteAddr, usize); 4];

/// Everything that makes up a [`Code`], as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    head: Head,
    file: Content,
    function: Content,
    table: Option<Content>,
}

impl Parts {
    /// Reads all of them; those of `before` spare readings.
    fn read<M: ReadMemory>(
        objects: &Objects<'_, M>,
        at: RemoteAddr,
        before: Option<&Self>,
    ) -> Option<Self> {
        let head = Head::read(objects, at)?;
        let before = before.filter(|before| before.head == head);
        let text = |at, before| Content::read(objects, at, Kind::Text, MAX_TEXT_BYTES, before);
        let known = before.and_then(|known| known.table.as_ref());
        let table = Content::read(objects, head.table, Kind::Bytes, MAX_TABLE_BYTES, known)?;
        Some(Self {
            head,
            file: text(head.file, before.map(|known| &known.file))?,
            function: text(head.function, before.map(|known| &known.function))?,
            table: (!table.is_cut()).then_some(table),
        })
    }

    /// Where all of it stands, and in how many bytes: itself and its three members. `None` where not all
    /// of that is kept.
    fn places<M>(&self, objects: &Objects<'_, M>, at: RemoteAddr) -> Option<Places> {
        let Head { file, function, table, .. } = self.head;
        Some([
            (at, objects.layout.code.bytes as usize),
            (file, self.file.span()?),
            (function, self.function.span()?),
            (table, self.table.as_ref()?.span()?),
        ])
    }

    /// Whether the same stands in the bytes of its places.
    fn is_in<M>(&self, objects: &Objects<'_, M>, places: [&[u8]; 4]) -> bool {
        let [head, file, function, table] = places;
        let known = self.table.as_ref();
        Head::of(objects, head) == Some(self.head)
            && self.file.is_in(objects, file, Kind::Text)
            && self.function.is_in(objects, function, Kind::Text)
            && known.is_some_and(|known| known.is_in(objects, table, Kind::Bytes))
    }

    fn code(&self, format: LineTable) -> Code {
        let file = self.file.text();
        Code {
            function: self.function.text(),
            origin: Origin::of(&file),
            file,
            is_own: self.head.file == self.head.function,
            first_line: self.head.first_line,
            format,
            table: self.table.as_ref().map(|table| table.kept().to_vec()),
        }
    }

    fn bytes(&self) -> usize {
        let table = self.table.as_ref().map_or(0, |table| table.kept().len());
        // Each of them stands in the code as well.
        2 * (self.file.kept().len() + self.function.kept().len() + table)
    }
}

/// Code objects that were read before, by address: of one interpreter, for as long as it runs.
#[derive(Debug, Default)]
pub struct CodeCache {
    codes: HashMap<RemoteAddr, (Parts, Arc<Code>)>,
    bytes: usize,
}

impl CodeCache {
    /// The code object at `at`, `None` where none stands there, where it changes while it is read, or
    /// where its names are no plain texts.
    pub(super) fn read<M: ReadMemory>(
        &mut self,
        objects: &Objects<'_, M>,
        at: RemoteAddr,
    ) -> Option<Arc<Code>> {
        let known = self.codes.get(&at);
        let parts = Parts::read(objects, at, known.map(|(parts, _)| parts))?;
        if let Some((before, code)) = known
            && *before == parts
        {
            return Some(Arc::clone(code));
        }
        if Parts::read(objects, at, Some(&parts))? != parts {
            return None;
        }
        let code = Arc::new(parts.code(objects.layout.code.lines));
        self.remember(at, parts, Arc::clone(&code));
        Some(code)
    }

    /// The code objects at `wanted`, no two of which are the same, by address. Those that are known are
    /// read at once.
    pub(super) fn read_all<M: ReadMemory>(
        &mut self,
        objects: &Objects<'_, M>,
        wanted: &[RemoteAddr],
    ) -> HashMap<RemoteAddr, Option<Arc<Code>>> {
        let mut found = self.unchanged(objects, wanted);
        for at in wanted {
            found.entry(*at).or_insert_with(|| self.read(objects, *at));
        }
        found
    }

    /// Those of the known code objects that are as they were.
    fn unchanged<M: ReadMemory>(
        &self,
        objects: &Objects<'_, M>,
        wanted: &[RemoteAddr],
    ) -> HashMap<RemoteAddr, Option<Arc<Code>>> {
        let mut length = 0;
        let known = wanted.iter().filter_map(|at| {
            let (parts, code) = self.codes.get(at)?;
            let places = parts.places(objects, *at)?;
            length += places.iter().map(|(_, length)| length).sum::<usize>();
            (length <= MAX_AT_ONCE).then_some((*at, parts, code, places))
        });
        let known: Vec<_> = known.collect();
        let mut bytes = vec![0; length.min(MAX_AT_ONCE)];
        let mut rest = &mut bytes[..];
        let mut places = Vec::with_capacity(4 * known.len());
        for (at, length) in known.iter().flat_map(|(.., places)| places) {
            let (place, after) = rest.split_at_mut_checked(*length).unwrap_or_default();
            places.push((*at, place));
            rest = after;
        }
        let read = objects.memory.read_all(&mut places);
        let mut places = places.iter().take(read).map(|(_, place)| &place[..]);
        let mut found = HashMap::new();
        for (at, parts, code, _) in &known {
            let own = [(); 4].map(|()| places.next().unwrap_or_default());
            if parts.is_in(objects, own) {
                found.insert(*at, Some(Arc::clone(code)));
            }
        }
        found
    }

    fn remember(&mut self, at: RemoteAddr, parts: Parts, code: Arc<Code>) {
        let bytes = parts.bytes();
        if self.codes.len() >= MAX_CODES || self.bytes + bytes > MAX_BYTES {
            *self = Self::default();
        }
        self.bytes += bytes;
        if let Some((old, _)) = self.codes.insert(at, (parts, code)) {
            self.bytes -= old.bytes();
        }
    }
}

#[cfg(test)]
mod tests;
