//! The files that a worker's code is in, each read when a frame is first found in it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use crate::{
    cpython::memory::{LiveMemory, ReadMemory, RemoteAddr},
    worker::{FileId, Mapping, Worker},
};

use super::{
    entry::Place,
    image::{Image, Source},
    symbols::Symbols,
    unwind::{Frame, Stack, Tables, Unwinder},
};

/// Bytes of tables that are kept of all files together; the least used go first.
const MAX_CACHED_BYTES: usize = 64 << 20;
/// Files that are kept.
const MAX_MODULES: usize = 128;
/// Bytes of the kernel's own code in a process: two pages today.
const MAX_VDSO_BYTES: u64 = 64 << 10;
/// Bytes of a file's name that are told.
const MAX_NAME: usize = 128;

/// A file with code.
pub struct Module {
    /// Its name, without folders.
    pub name: String,
    /// Whose it is.
    pub place: Place,
    path: PathBuf,
    image: Option<Image>,
    tables: Option<Tables>,
    symbols: Option<Symbols>,
    /// The look in which a frame was last found in it.
    used: u64,
}

impl Module {
    /// What it has at a mapping. Whatever cannot be read is unknown: no name, and no caller.
    fn open(worker: &Worker, mapping: &Mapping, interpreter: &Path) -> Self {
        let source = source(worker, mapping);
        let image = source.as_ref().and_then(Image::parse);
        let both = source.as_ref().zip(image.as_ref());
        let tables = both.and_then(|(source, image)| Tables::read(source, image));
        let symbols = both.and_then(|(source, _)| Symbols::read(source));
        let mut name = mapping.file_name();
        name.truncate(name.floor_char_boundary(MAX_NAME));
        let place = Place::of(&name, mapping.path == interpreter);
        Self { name, place, path: mapping.path.clone(), image, tables, symbols, used: 0 }
    }

    /// The name of the function at an address of the file.
    pub fn symbol(&self, addr: u64) -> Option<String> {
        self.symbols.as_ref()?.name(addr)
    }

    /// The caller of a function in it.
    pub fn unwind<M: ReadMemory>(
        &self,
        unwinder: &mut Unwinder,
        frame: &Frame,
        base: u64,
        stack: &Stack<'_, M>,
    ) -> Option<Frame> {
        self.tables.as_ref()?.caller(unwinder, frame, base, stack)
    }

    fn bytes(&self) -> usize {
        let tables = self.tables.as_ref().map_or(0, Tables::bytes);
        tables + self.symbols.as_ref().map_or(0, Symbols::bytes)
    }
}

fn source(worker: &Worker, mapping: &Mapping) -> Option<Source> {
    if !mapping.is_vdso() {
        return worker.open_mapped(mapping).ok().map(Source::File);
    }
    let (start, end) = mapping.range;
    let length = end.checked_sub(start).filter(|length| *length <= MAX_VDSO_BYTES)?;
    let mut bytes = vec![0; length as usize];
    LiveMemory::new(worker.pid()).read_exact(RemoteAddr(start), &mut bytes).ok()?;
    Some(Source::Bytes(bytes))
}

/// The files of one worker, by what is mapped now.
pub struct Modules {
    interpreter: PathBuf,
    /// By ascending addresses, which do not overlap.
    mappings: Vec<Mapping>,
    files: HashMap<FileId, Module>,
    looks: u64,
}

impl Modules {
    /// None yet.
    pub fn new(interpreter: PathBuf) -> Self {
        Self { interpreter, mappings: Vec::new(), files: HashMap::new(), looks: 0 }
    }

    /// Reads what is mapped, and forgets files that are no more: others may be where they were, so what was
    /// read once is not believed at the next look.
    pub fn refresh(&mut self, worker: &Worker) {
        self.looks += 1;
        self.mappings = worker.code().unwrap_or_default();
        let mappings = &self.mappings;
        self.files.retain(|id, module| {
            mappings.iter().any(|mapping| mapping.file == *id && mapping.path == module.path)
        });
    }

    /// The file with the code at `address`, and how far above its own addresses it is loaded.
    pub fn at(&mut self, worker: &Worker, address: u64) -> Option<(&Module, u64)> {
        let after = self.mappings.partition_point(|mapping| mapping.range.0 <= address);
        let mapping = self.mappings.get(after.checked_sub(1)?)?;
        let into = address.checked_sub(mapping.range.0).filter(|_| address < mapping.range.1)?;
        if !self.files.contains_key(&mapping.file) {
            let module = Module::open(worker, mapping, &self.interpreter);
            make_room(&mut self.files, module.bytes());
            self.files.insert(mapping.file, module);
        }
        let module = self.files.get_mut(&mapping.file)?;
        module.used = self.looks;
        let addr = module.image.as_ref()?.addr_of(mapping.offset.checked_add(into)?)?;
        Some((module, address.wrapping_sub(addr)))
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.files.values().map(Module::bytes).sum()
    }
}

/// Forgets files until one of so many bytes fits.
fn make_room(files: &mut HashMap<FileId, Module>, bytes: usize) {
    let mut kept: usize = files.values().map(Module::bytes).sum();
    while files.len() >= MAX_MODULES || (kept + bytes > MAX_CACHED_BYTES && !files.is_empty()) {
        let oldest = files.iter().min_by_key(|(_, module)| module.used).map(|(id, _)| *id);
        let Some(module) = oldest.and_then(|id| files.remove(&id)) else { return };
        kept -= module.bytes();
    }
}
