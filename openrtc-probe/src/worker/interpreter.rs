//! Finds CPython in a process, by what its files export and what its memory says.

use std::path::PathBuf;

use openrtc_common::hamt::NodeTypes;

use crate::{
    blocker::Blocker,
    cpython::{
        self, Addresses,
        layout::{self, Layout, Published, Version, common},
        memory::{LiveMemory, PageCache, ReadError, ReadMemory, RemoteAddr},
    },
};

use super::{
    Worker,
    binary::{self, Binary, ElfAddr, FileOffset, Mapping, Segment},
    family,
    flow::MachineCode,
    reach,
    site::{self, Functions, Site},
};

/// Methods of `Context` that are looked at.
const MAX_METHODS: u64 = 64;
/// `sizeof(PyMethodDef)`: name, function, flags, doc.
const METHOD_BYTES: u64 = 32;
/// Bytes of a method's or a type's name that are read.
const MAX_NAME: usize = 32;
/// Bytes of a data segment that are searched for types.
const MAX_DATA_BYTES: u64 = 16 << 20;

/// The interpreter in a worker.
#[derive(Clone, Debug)]
pub struct Interpreter {
    /// Its file, as the worker's mount namespace names it.
    pub path: PathBuf,
    /// The path that names that very file to the kernel: to attach to.
    pub attach_path: PathBuf,
    /// Its version.
    pub version: Version,
    /// Where the fields that we read stand: its version's row, and what it tells itself.
    pub layout: Layout,
    /// Where it publishes parts of its layout.
    pub published: Published,
    /// Where its own objects stand.
    pub addresses: Addresses,
    /// The instructions to probe, of each [`super::SiteKind`] one or more.
    pub sites: Vec<Site>,
    /// Whether `ContextVar.set` and `ContextVar.reset` are known to pass the sites at
    /// `PyContextVar_Set` and `PyContextVar_Reset`, which a compiler could have inlined.
    pub changes_are_seen: bool,
    /// The event loops that are loaded.
    pub loops: Loops,
}

/// What it takes to read an interpreter's memory, whether or not it can be probed.
#[derive(Clone, Debug, PartialEq)]
pub struct Readable {
    /// Its version.
    pub version: Version,
    /// Where the fields that we read stand.
    pub layout: Layout,
    /// Where it publishes parts of its layout.
    pub published: Published,
    /// Where its own objects stand.
    pub addresses: Addresses,
}

/// What an interpreter is, whether or not it can be probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its file, as the worker's mount namespace names it; ` (deleted)` may follow.
    pub path: PathBuf,
    /// The path that names that very file to the kernel.
    pub attach_path: PathBuf,
    /// Its version.
    pub version: Version,
}

/// Which implementations of event loops are loaded, whether or not one runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loops {
    /// The accelerator of the standard library's `asyncio`; always, where it is part of the interpreter.
    pub asyncio: bool,
    /// uvloop.
    pub uvloop: bool,
}

/// Objects and functions that the interpreter exports and that we use.
const SYMBOLS: &[&str] = &[
    "_PyRuntime",
    "_Py_NoneStruct",
    "Py_Version",
    "PyAsyncGen_Type",
    "PyCode_Type",
    "PyContextToken_Type",
    "PyContextVar_Reset",
    "PyContextVar_Set",
    "PyContextVar_Type",
    "PyContext_Enter",
    "PyContext_Exit",
    "PyContext_Type",
    "PyCoro_Type",
    "PyDict_Type",
    "PyGen_Type",
    "PyLong_Type",
    "PyModule_Type",
    "PySet_Type",
    "PyType_Type",
    "PyUnicode_Type",
];

/// Finds the interpreter of `worker`.
pub fn find(worker: &Worker) -> Result<Interpreter, Blocker> {
    let (mappings, binary) = locate(worker)?;
    let live = LiveMemory::new(worker.pid());
    let memory = PageCache::new(&live);
    let found = Found { worker, binary, memory: &memory };
    let Readable { version, layout, published, addresses } = found.readable(&mappings)?;
    let functions = found.functions(addresses.context_type)?;
    let (segment, bytes) = found.text(&functions)?;
    let code = MachineCode { bytes: &bytes, addr: segment.addr };
    let starts = found.binary.function_starts().unwrap_or_default();
    let sites = site::choose(code, FileOffset(segment.offset), &functions, &starts)?;
    let loops = loops(&mappings, &found.binary);
    let changes_are_seen = found.changes_are_seen(code, &functions, addresses.context_var_type);
    Ok(Interpreter {
        path: found.binary.path,
        attach_path: found.binary.open_path,
        version,
        layout,
        published,
        addresses,
        sites,
        changes_are_seen,
        loops,
    })
}

/// Finds what it takes to read the memory of the interpreter of `worker`. Its code is not looked at.
pub fn readable(worker: &Worker) -> Result<Readable, Blocker> {
    let (mappings, binary) = locate(worker)?;
    let live = LiveMemory::new(worker.pid());
    Found { worker, binary, memory: &PageCache::new(&live) }.readable(&mappings)
}

/// What the worker has mapped, and which of that is CPython.
fn locate(worker: &Worker) -> Result<(Vec<Mapping>, Binary), Blocker> {
    let mappings = binary::executables(worker)?;
    refuse_pypy(worker, &mappings)?;
    let binary = find_binary(worker, &mappings)?;
    Ok((mappings, binary))
}

/// Says which interpreter is in `worker`.
pub fn identify(worker: &Worker) -> Result<Identity, Blocker> {
    let (_, binary) = locate(worker)?;
    let memory = LiveMemory::new(worker.pid());
    let found = Found { worker, binary, memory: &memory };
    let version = match found.exported_version()? {
        Some(version) => version,
        None => found.unexported_version(&found.addresses()?)?,
    };
    Ok(Identity { path: found.binary.path, attach_path: found.binary.open_path, version })
}

fn loops(mappings: &[Mapping], interpreter: &Binary) -> Loops {
    let any = |start: &str, folder: &str| {
        mappings.iter().any(|mapping| {
            let in_folder = mapping.path.parent().is_some_and(|parent| parent.ends_with(folder));
            mapping.file_name().starts_with(start) && in_folder
        })
    };
    Loops {
        asyncio: any("_asyncio.", "lib-dynload") || interpreter.section(ASYNCIO_DEBUG).is_some(),
        uvloop: any("loop.", "uvloop"),
    }
}

fn refuse_pypy(worker: &Worker, mappings: &[Mapping]) -> Result<(), Blocker> {
    let is_pypy = |name: &str| name.starts_with("pypy") || name.starts_with("libpypy");
    if mappings.iter().any(|mapping| is_pypy(&mapping.file_name())) {
        return Err(Blocker::PythonUnsupported {
            pid: worker.pid(),
            found: "PyPy".into(),
            why: "only CPython's objects are known".into(),
        });
    }
    Ok(())
}

/// The mapped file that defines `PyContext_Type`: the executable itself or a `libpython`.
fn find_binary(worker: &Worker, mappings: &[Mapping]) -> Result<Binary, Blocker> {
    let mut unreadable = None;
    for mapping in mappings {
        match Binary::open(worker, mapping, SYMBOLS) {
            Ok(Some(binary)) if binary.symbol("PyContext_Type").is_some() => return Ok(binary),
            Ok(_) => {}
            // It may be any library; only if nothing is found might it have been the one.
            Err(blocker) => unreadable = unreadable.or(Some(blocker)),
        }
    }
    Err(unreadable.unwrap_or_else(|| Blocker::NotPython {
        pid: worker.pid(),
        exe: worker.exe().display().to_string(),
        workers: family::python_below(worker.pid()),
    }))
}

/// The section in which the accelerator of `asyncio` publishes its offsets, from 3.14. It may be a file
/// of its own, or part of the interpreter's.
const ASYNCIO_DEBUG: &str = ".AsyncioDebug";

/// Where that section is loaded, if it is: `asyncio` may be imported later.
fn asyncio_debug(
    worker: &Worker,
    mappings: &[Mapping],
    interpreter: &Binary,
) -> Option<RemoteAddr> {
    let mut accelerator =
        mappings.iter().filter(|mapping| mapping.file_name().starts_with("_asyncio."));
    interpreter.section(ASYNCIO_DEBUG).or_else(|| {
        accelerator.find_map(|mapping| {
            Binary::open(worker, mapping, &[]).ok().flatten()?.section(ASYNCIO_DEBUG)
        })
    })
}

/// A file of the interpreter, and the memory that it is loaded in.
pub(super) struct Found<'w, M> {
    pub worker: &'w Worker,
    pub binary: Binary,
    pub memory: &'w M,
}

impl<M: ReadMemory> Found<'_, M> {
    fn readable(&self, mappings: &[Mapping]) -> Result<Readable, Blocker> {
        let exported = self.exported_version()?;
        let published = Published {
            runtime: self.object("_PyRuntime")?,
            asyncio: asyncio_debug(self.worker, mappings, &self.binary),
        };
        let choose = |version| layout::choose(self.worker.pid(), version, self.memory, published);
        // Before anything else: the rest may well look different in what we do not know.
        let known = exported.map(choose).transpose()?;
        let addresses = self.addresses()?;
        let (version, layout) = match exported.zip(known) {
            Some(known) => known,
            None => self.unexported_version(&addresses).and_then(|v| Ok((v, choose(v)?)))?,
        };
        Ok(Readable { version, layout, published, addresses })
    }

    /// Exported since 3.11: <https://docs.python.org/3/c-api/apiabiversion.html#c.Py_Version>.
    fn exported_version(&self) -> Result<Option<Version>, Blocker> {
        let Some(addr) = self.binary.symbol("Py_Version") else { return Ok(None) };
        let version: u64 = self.read(self.binary.remote(addr), "Py_Version")?;
        Ok(Some(Version(version as u32)))
    }

    fn unexported_version(&self, addresses: &Addresses) -> Result<Version, Blocker> {
        cpython::unexported_version(self.memory, addresses).ok_or_else(|| {
            let name = self.binary.path.file_name().unwrap_or_default().to_string_lossy();
            Blocker::PythonUnsupported {
                pid: self.worker.pid(),
                found: format!("a CPython before 3.11 ({name})"),
                why: format!("its sys.hexversion cannot be read; {}", layout::known()),
            }
        })
    }

    fn addresses(&self) -> Result<Addresses, Blocker> {
        Ok(Addresses {
            runtime: self.object("_PyRuntime")?,
            none: self.object("_Py_NoneStruct")?,
            str_type: self.object("PyUnicode_Type")?,
            int_type: self.object("PyLong_Type")?,
            dict_type: self.object("PyDict_Type")?,
            set_type: self.object("PySet_Type")?,
            module_type: self.object("PyModule_Type")?,
            context_type: self.object("PyContext_Type")?,
            context_var_type: self.object("PyContextVar_Type")?,
            context_token_type: self.object("PyContextToken_Type")?,
            code_type: self.object("PyCode_Type")?,
            coroutine_type: self.object("PyCoro_Type")?,
            generator_type: self.object("PyGen_Type")?,
            async_generator_type: self.object("PyAsyncGen_Type")?,
            nodes: self.node_types()?,
        })
    }

    fn symbol(&self, name: &'static str) -> Result<ElfAddr, Blocker> {
        self.binary.symbol(name).ok_or_else(|| Blocker::LayoutMismatch {
            what: format!("{} does not export {name}", self.binary.path.display()),
        })
    }

    fn object(&self, name: &'static str) -> Result<RemoteAddr, Blocker> {
        Ok(self.binary.remote(self.symbol(name)?))
    }

    fn read<T: bytemuck::AnyBitPattern>(&self, at: RemoteAddr, what: &str) -> Result<T, Blocker> {
        self.memory.read(at).map_err(|why| self.unreadable(what, why))
    }

    fn unreadable(&self, what: &str, why: ReadError) -> Blocker {
        match why {
            ReadError::Denied => super::denied(self.worker.pid(), self.worker.uid()),
            ReadError::Gone => Blocker::Exited { pid: self.worker.pid() },
            why @ ReadError::Unmapped { .. } => {
                Blocker::LayoutMismatch { what: format!("{what}: {why}") }
            }
        }
    }

    fn functions(&self, context_type: RemoteAddr) -> Result<Functions, Blocker> {
        Ok(Functions {
            context_run: self.method(context_type, "Context", "run")?,
            context_enter: self.symbol("PyContext_Enter")?,
            context_exit: self.symbol("PyContext_Exit")?,
            var_set: self.symbol("PyContextVar_Set")?,
            var_reset: self.symbol("PyContextVar_Reset")?,
        })
    }

    /// The executable part of the file that all of them are in.
    fn text(&self, functions: &Functions) -> Result<(Segment, Vec<u8>), Blocker> {
        self.binary.code(functions.context_run).ok_or_else(|| Blocker::SiteRefused {
            what: "Context.run".into(),
            why: format!("its code at {} cannot be read", functions.context_run),
        })
    }

    /// Whether `ContextVar.set` and `ContextVar.reset` lead to the exported functions.
    fn changes_are_seen(
        &self,
        code: MachineCode<'_>,
        functions: &Functions,
        context_var_type: RemoteAddr,
    ) -> bool {
        [("set", functions.var_set), ("reset", functions.var_reset)].iter().all(
            |(name, exported)| {
                self.method(context_var_type, "ContextVar", name).is_ok_and(|method| {
                    reach::leads_to(code, method, *exported, |slot| self.linked(slot))
                })
            },
        )
    }

    /// The function of our file that a word of its data points at: as the dynamic linker left it, or
    /// as it will, where the function has not been called yet.
    fn linked(&self, slot: ElfAddr) -> Option<ElfAddr> {
        self.binary.slot_symbol(slot).or_else(|| {
            let function: u64 = self.memory.read(self.binary.remote(slot)).ok()?;
            self.binary.code_addr(RemoteAddr(function))
        })
    }

    /// A method's function: it is static, but the type's table of methods leads to it.
    fn method(&self, ty: RemoteAddr, class: &str, method: &str) -> Result<ElfAddr, Blocker> {
        let what = format!("{class}.{method}");
        let methods = self.read(ty.plus(common::TYPE_METHODS), &what).map(RemoteAddr)?;
        for index in 0..MAX_METHODS {
            let [name, function]: [u64; 2] =
                self.read(methods.plus(index * METHOD_BYTES), &what)?;
            if name == 0 {
                break;
            }
            let name = self.memory.read_c_str(RemoteAddr(name), MAX_NAME);
            if name.map_err(|why| self.unreadable(&what, why))? == method {
                let function = RemoteAddr(function);
                return self.binary.code_addr(function).ok_or_else(|| Blocker::SiteRefused {
                    what,
                    why: format!("its function at {function} is not in the interpreter's file"),
                });
            }
        }
        Err(Blocker::LayoutMismatch { what: format!("{class} has no method `{method}`") })
    }

    /// The types of the HAMT's nodes are not exported, but they are static: their names are found
    /// from the types that stand in the data segment.
    fn node_types(&self) -> Result<NodeTypes, Blocker> {
        let type_type = self.object("PyType_Type")?;
        let mut nodes = NodeTypes::default();
        for segment in self.binary.segments.iter().filter(|segment| segment.writable) {
            let types = self
                .types_in(segment, type_type)
                .map_err(|why| self.unreadable("the interpreter's data", why))?;
            for (ty, name) in types {
                match name.as_str() {
                    "hamt_bitmap_node" => nodes.bitmap = ty.0,
                    "hamt_array_node" => nodes.array = ty.0,
                    "hamt_collision_node" => nodes.collision = ty.0,
                    _ => {}
                }
            }
        }
        if [nodes.bitmap, nodes.array, nodes.collision].contains(&0) {
            let what = format!("not all node types of the HAMT were found: {nodes:x?}");
            return Err(Blocker::LayoutMismatch { what });
        }
        Ok(nodes)
    }

    /// The static types in a data segment, with their names: places that `PyType_Type` says it is
    /// the type of.
    pub fn types_in(
        &self,
        segment: &Segment,
        type_type: RemoteAddr,
    ) -> Result<Vec<(RemoteAddr, String)>, ReadError> {
        let start = self.binary.remote(ElfAddr(segment.addr));
        let mut data = vec![0; segment.file_bytes.min(MAX_DATA_BYTES) as usize];
        self.memory.read_exact(start, &mut data)?;
        // Objects stand at multiples of eight; the segment itself may begin anywhere.
        let skip = (start.0.wrapping_neg() % 8) as usize;
        let words: Vec<u64> = data
            .get(skip..)
            .unwrap_or_default()
            .chunks_exact(8)
            .map(bytemuck::pod_read_unaligned)
            .collect();
        let mut types = Vec::new();
        // {refcount, type, size, name}
        for (index, object) in words.windows(4).enumerate() {
            if let [_, ty, _, name] = *object
                && ty == type_type.0
                && let Ok(name) = self.memory.read_c_str(RemoteAddr(name), MAX_NAME)
            {
                types.push((start.plus((skip + 8 * index) as u64), name));
            }
        }
        Ok(types)
    }
}
