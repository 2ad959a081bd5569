//! Where the fields that we read stand in CPython's structs: one row per version, and the choice.
//!
//! Only `table.rs` knows versions; everything else reads a [`Layout`]. From 3.13 on CPython publishes
//! some of its offsets itself ([`Published`]): where it does, what it says stands, not the row.

mod debug;
mod stack;
mod table;
mod validate;

use std::fmt;

use crate::{blocker::Blocker, cpython::memory::ReadMemory};

pub use debug::Published;
pub use stack::{
    Awaiting, Code, CoroutineFrame, Coroutines, CurrentFrame, Frames, Gil, GilState, Instruction,
    LineTable, StackEnd,
};
pub use table::LAYOUTS;
pub use validate::validate;

/// Offsets that differ between versions, in bytes. Where a field's doc names a struct, it is
/// CPython's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Major and minor version.
    pub version: (u8, u8),
    /// Where the row comes from.
    pub source: &'static str,
    /// `_PyRuntimeState.interpreters.head`.
    pub interpreters_head: u64,
    /// `PyInterpreterState.next`.
    pub interp_next: u64,
    /// `PyInterpreterState.threads.head`.
    pub interp_threads: u64,
    /// `PyInterpreterState.modules` (`imports.modules` from 3.12): `sys.modules`.
    pub interp_modules: u64,
    /// `PyThreadState.next`.
    pub thread_next: u64,
    /// `PyThreadState.interp`.
    pub thread_interp: u64,
    /// `PyThreadState.dict`.
    pub thread_dict: u64,
    /// What tells which thread of the process a `PyThreadState` is.
    pub thread_id: ThreadId,
    /// `PyThreadState.context`; `context_ver` is the next word.
    pub thread_context: u64,
    /// Whether a `threading.Thread` runs within a `Context.run` of its own, from its first moment to its
    /// last: from 3.14, <https://github.com/python/cpython/blob/v3.14.0/Lib/threading.py>.
    pub threads_in_context: bool,
    /// Where asyncio, and uvloop through it, keeps a thread's running loop.
    pub running_loop: RunningLoop,
    /// `sizeof(TaskObj)`.
    pub task_bytes: u64,
    /// `TaskObj.task_state`, 0 while pending; `FutureObj.fut_state` is the same.
    pub task_state: u64,
    /// `TaskObj.task_name`: a `str`, or the number of a task without a name of its own (from 3.12).
    pub task_name: u64,
    /// `TaskObj.task_context`.
    pub task_context: u64,
    /// `TaskObj.task_coro`; it may be null once the task is done.
    pub task_coro: u64,
    /// `TaskObj.task_fut_waiter`: the future that the task waits for, or null.
    pub task_fut_waiter: u64,
    /// Where all tasks are found.
    pub tasks: Tasks,
    /// `sizeof(PyModuleObject)`.
    pub module_bytes: u64,
    /// `sizeof(PyUnicodeObject)`.
    pub str_bytes: u64,
    /// `sizeof(PyASCIIObject)`: where the text of an ASCII `str` stands.
    pub str_ascii_data: u32,
    /// `sizeof(PyCompactUnicodeObject)`: where any other compact text stands.
    pub str_wide_data: u32,
    /// The head of a dict's table of keys.
    pub keys: Keys,
    /// Where an instance keeps its attributes.
    pub values: Values,
    /// `_dictvalues.values`.
    pub first_value: u64,
    /// `PyHeapTypeObject.ht_cached_keys`; not read with [`Values::InDict`].
    pub type_cached_keys: u64,
    /// A thread's frames.
    pub frames: Frames,
    /// What a frame runs.
    pub code: Code,
    /// Coroutines and generators.
    pub coroutines: Coroutines,
    /// The GIL.
    pub gil: Gil,
    /// What `_Py_DebugOffsets` at the head of `_PyRuntime` tells, from 3.13.
    pub runtime_debug: &'static [debug::Field],
    /// What `_AsyncioDebug` in the accelerator of `asyncio` tells, from 3.14.
    pub asyncio_debug: &'static [debug::Field],
}

/// What tells which thread of the process a `PyThreadState` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadId {
    /// `native_thread_id`, from 3.11: a tid in the worker's own pid namespace.
    Native {
        /// Where it stands in the state.
        at: u64,
    },
    /// `thread_id`, up to 3.10: what `pthread_self` returns, which is where the C library keeps the
    /// thread's descriptor. The tid stands in that.
    Pthread {
        /// Where it stands in the state.
        at: u64,
    },
}

/// Where all tasks are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tasks {
    /// In `WeakSet`s or `set`s of these names in `_asyncio`: up to 3.13,
    /// <https://github.com/python/cpython/blob/v3.13.0/Modules/_asynciomodule.c>.
    Sets(&'static [&'static str]),
    /// In lists, linked through the tasks: one of each thread, and one of the interpreter with the
    /// tasks of threads that have ended. From 3.14,
    /// <https://github.com/python/cpython/blob/v3.14.0/Modules/_asynciomodule.c>.
    Lists {
        /// `TaskObj.task_node`.
        node: u64,
        /// `_PyThreadStateImpl.asyncio_tasks_head`.
        of_thread: u64,
        /// `PyInterpreterState.asyncio_tasks_head`.
        of_interpreter: u64,
    },
}

/// The head of a dict's table of keys; the indices follow it, then the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// 40 bytes that tell the number of places: 3.9 and 3.10,
    /// <https://github.com/python/cpython/blob/v3.10.13/Objects/dict-common.h>.
    Sized,
    /// 32 bytes that tell the binary logarithm of the indices' size: from 3.11,
    /// <https://github.com/python/cpython/blob/v3.11.7/Include/internal/pycore_dict.h>.
    Log2,
}

/// Where a thread's running loop is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunningLoop {
    /// In the thread's dict, in a holder that points at the loop from `at` bytes on: up to 3.11,
    /// <https://github.com/python/cpython/blob/v3.11.7/Modules/_asynciomodule.c>.
    Held {
        /// `PyRunningLoopHolder.rl_loop`.
        at: u64,
    },
    /// In the thread's dict itself: 3.12,
    /// <https://github.com/python/cpython/blob/v3.12.1/Modules/_asynciomodule.c>.
    InDict,
    /// In the thread's state, `at` bytes from its start: from 3.13,
    /// <https://github.com/python/cpython/blob/v3.13.0/Include/internal/pycore_tstate.h>.
    InThread {
        /// `_PyThreadStateImpl.asyncio_running_loop`.
        at: u64,
    },
}

/// Where an instance keeps its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// In a dict, to which a pointer stands where the type's `tp_dictoffset` says: up to 3.10.
    InDict,
    /// Behind a pointer that stands `at` bytes from the object: 3.11,
    /// <https://github.com/python/cpython/blob/v3.11.7/Include/internal/pycore_object.h>.
    Pointed {
        /// Bytes from the object's start.
        at: i64,
    },
    /// Behind the dict's own pointer, less one, so that it is odd: 3.12,
    /// <https://github.com/python/cpython/blob/v3.12.1/Include/internal/pycore_object.h>.
    Tagged,
    /// In the object, behind its `tp_basicsize`: from 3.13,
    /// <https://github.com/python/cpython/blob/v3.13.0/Include/internal/pycore_object.h>.
    Embedded,
}

/// Offsets that are the same in all rows, from the same sources.
pub mod common {
    use std::ops::Range;

    /// `PyObject.ob_refcnt`.
    pub const REFERENCES: u64 = 0;
    /// `PyObject.ob_type`.
    pub const OB_TYPE: u64 = 8;
    /// `sizeof(PyObject)`: where the first field of an object of fixed size stands.
    pub const FIRST_FIELD: u64 = 16;
    /// `PyThreadState.context_ver`, from `PyThreadState.context`.
    pub const CONTEXT_VERSION: u64 = 8;
    /// `PyContext.ctx_vars`.
    pub const CONTEXT_VARS: u64 = 24;
    /// `sizeof(PyContext)`; its last field is `ctx_entered`, 16 bytes behind `ctx_vars`.
    pub const CONTEXT_BYTES: u64 = 48;
    /// `sizeof(PyContextVar)`; its last field is `var_hash`.
    pub const VAR_BYTES: u64 = 64;
    /// `sizeof(PyContextToken)`.
    pub const TOKEN_BYTES: u64 = 48;
    /// `PyContextToken.tok_oldval`.
    pub const TOKEN_OLD_VALUE: u64 = 32;
    /// `PyHamtObject.h_root`.
    pub const HAMT_ROOT: u64 = 16;
    /// `sizeof(PyDictObject)`.
    pub const DICT_BYTES: u64 = 48;
    /// `sizeof(PySetObject)`.
    pub const SET_BYTES: u64 = 200;
    /// `PyModuleObject.md_dict`.
    pub const MODULE_DICT: u64 = 16;
    /// `PyWeakReference.wr_object`.
    pub const WEAKREF_OBJECT: u64 = 16;
    /// `PyTypeObject.tp_name`.
    pub const TYPE_NAME: u64 = 24;
    /// `PyTypeObject.tp_basicsize`.
    pub const TYPE_BASICSIZE: u64 = 32;
    /// `PyTypeObject.tp_flags`.
    pub const TYPE_FLAGS: u64 = 168;
    /// `Py_TPFLAGS_HEAPTYPE`.
    pub const FLAG_HEAP_TYPE: u64 = 1 << 9;
    /// `Py_TPFLAGS_MANAGED_DICT`: the instance keeps its attributes as [`super::Values`] says.
    pub const FLAG_MANAGED_DICT: u64 = 1 << 4;
    /// `PyTypeObject.tp_methods`.
    pub const TYPE_METHODS: u64 = 232;
    /// `PyTypeObject.tp_base`.
    pub const TYPE_BASE: u64 = 256;
    /// `PyTypeObject.tp_dict`.
    pub const TYPE_DICT: u64 = 264;
    /// `PyTypeObject.tp_dictoffset`.
    pub const TYPE_DICTOFFSET: u64 = 288;
    /// `PyBytesObject.ob_base.ob_size`.
    pub const BYTES_SIZE: u64 = 16;
    /// `PyBytesObject.ob_sval`.
    pub const BYTES_DATA: u64 = 32;
    /// The bits of a reference in a frame that are none of its address: from 3.14 they tell who owns the
    /// reference, or that it is a number, and before they are 0,
    /// <https://github.com/python/cpython/blob/v3.14.0/Include/internal/pycore_stackref.h>.
    pub const REFERENCE_TAG: u64 = 3;
    /// The first of the owners of frames that are the interpreter's own, between two of Python's or below
    /// all of them: `FRAME_OWNED_BY_CSTACK`, later `FRAME_OWNED_BY_INTERPRETER`,
    /// <https://github.com/python/cpython/blob/v3.14.0/Include/internal/pycore_interpframe_structs.h>.
    pub const FIRST_SHIM: u8 = 3;
    /// `struct _gil_runtime_state` from `cond` to its end: two condition variables of 48 bytes, and a mutex
    /// of 40 behind each, with glibc and with musl. In them are the futexes that are slept on by those who
    /// want the GIL (`cond`), and by one that gave it up and waits until it was taken (`switch_cond`),
    /// <https://github.com/python/cpython/blob/v3.13.0/Python/ceval_gil.c>.
    pub const GIL_FUTEXES: Range<u64> = 32..208;
    /// Where the pointer to an instance's dict stands, from the object's start.
    pub const MANAGED_DICT: i64 = -24;
}

/// A version of CPython, as `Py_Version` encodes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version(pub u32);

impl Version {
    /// Major and minor.
    pub fn minor(self) -> (u8, u8) {
        let [major, minor, ..] = self.0.to_be_bytes();
        (major, minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, micro, level] = self.0.to_be_bytes();
        write!(f, "{major}.{minor}.{micro}")?;
        // The release level: https://docs.python.org/3/c-api/apiabiversion.html.
        let stage = match level >> 4 {
            0xf => return Ok(()),
            0xa => "a",
            0xb => "b",
            0xc => "rc",
            _ => "?",
        };
        write!(f, "{stage}{}", level & 0xf)
    }
}

/// The rows of versions that export no `Py_Version`, which begins with 3.11.
pub fn without_exported_version() -> impl Iterator<Item = &'static Layout> {
    LAYOUTS.iter().filter(|layout| layout.version < (3, 11))
}

/// The layout of an interpreter: its version's row, and what it publishes of itself.
///
/// # Errors
/// [`Blocker::PythonUnsupported`] where there is no row, or where the interpreter runs without a GIL.
pub fn choose(
    pid: i32,
    version: Version,
    memory: &impl ReadMemory,
    published: Published,
) -> Result<Layout, Blocker> {
    let unsupported = |found, why| Blocker::PythonUnsupported { pid, found, why };
    let row = LAYOUTS
        .iter()
        .find(|layout| layout.version == version.minor())
        .ok_or_else(|| unsupported(format!("CPython {version}"), known()))?;
    if !row.runtime_debug.is_empty() && published.is_free_threaded(memory) {
        let why = "its objects are laid out differently without a GIL".into();
        return Err(unsupported(format!("free-threaded CPython {version}"), why));
    }
    Ok(published.over(row, memory))
}

/// Which versions have a row.
pub fn known() -> String {
    let names: Vec<_> =
        LAYOUTS.iter().map(|l| format!("{}.{}", l.version.0, l.version.1)).collect();
    format!("the layouts of {} are known", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpython::memory::{RemoteAddr, image::Image};

    #[test]
    fn versions_read_as_python_prints_them() {
        assert_eq!(Version(0x030b_07f0).to_string(), "3.11.7");
        assert_eq!(Version(0x030d_00c2).to_string(), "3.13.0rc2");
        assert_eq!(Version(0x030d_0000).to_string(), "3.13.0?0");
    }

    const RUNTIME: Published = Published { runtime: RemoteAddr(0x1000), asyncio: None };

    #[test]
    fn a_version_without_a_row_is_refused() {
        let memory = Image::default();
        let choose = |version| choose(1, Version(version), &memory, RUNTIME);
        assert_eq!(choose(0x030b_07f0).map(|l| l.version), Ok((3, 11)));
        let why = choose(0x0310_00f0).unwrap_err().to_string();
        assert_eq!(
            why,
            "process 1 runs CPython 3.16.0, which is not supported: the layouts of 3.9, 3.10, 3.11, \
             3.12, 3.13, 3.14, 3.15 are known"
        );
    }

    #[test]
    fn free_threaded_builds_are_refused() {
        let mut memory = Image::default();
        memory.put(0x1000, b"xdebugpy");
        memory.words(0x1008, &[0x030d_00f0, 1]);
        let got = choose(1, Version(0x030d_00f0), &memory, RUNTIME);
        assert!(matches!(got, Err(Blocker::PythonUnsupported { .. })));
        memory.words(0x1010, &[0]);
        assert!(choose(1, Version(0x030d_00f0), &memory, RUNTIME).is_ok());
    }

    #[test]
    fn what_the_interpreter_publishes_stands_above_the_row() {
        let mut memory = Image::default();
        memory.put(0x1000, b"xdebugpy");
        memory.words(0x1008, &[0x030d_00f0, 0, 0, 0, 640, 0, 0, 7272]);
        let chosen = choose(1, Version(0x030d_00f0), &memory, RUNTIME).unwrap();
        assert_eq!((chosen.interpreters_head, chosen.interp_next), (640, 7272));
        let row = LAYOUTS.iter().find(|row| row.version == (3, 13)).unwrap();
        assert_eq!(chosen.interp_threads, row.interp_threads, "not to be read there");
    }

    #[test]
    fn what_is_published_of_a_struct_in_another_is_counted_from_its_own_start() {
        let mut memory = Image::default();
        memory.put(0x1000, b"xdebugpy");
        memory.words(0x1008, &[0x030d_00f0, 0]);
        // `gil_runtime_state`, whether it is enabled, `locked` and `last_holder`.
        memory.words(0x1000 + 8 * 15, &[7752, 0, 7776, 7751]);
        let chosen = choose(1, Version(0x030d_00f0), &memory, RUNTIME).unwrap();
        assert_eq!((chosen.gil.locked, chosen.gil.holder), (24, 8), "one is before the start");
        // Where a code object's bytecode begins, which is where its head ends.
        memory.words(0x1000 + 8 * 43, &[216]);
        let chosen = choose(1, Version(0x030d_00f0), &memory, RUNTIME).unwrap();
        let instruction = Instruction::Pointer { at: 56, bytecode: 216 };
        assert_eq!((chosen.frames.instruction, chosen.code.bytes), (instruction, 216));
    }
}
