//! Where the fields that we read stand in CPython's structs: one row per version, and the choice.
//!
//! Only `table.rs` knows versions; everything else reads a [`Layout`].

mod table;
mod validate;

use std::fmt;

use crate::{
    blocker::Blocker,
    cpython::memory::{ReadMemory, RemoteAddr},
};

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
    /// `PyThreadState.native_thread_id`: a tid in the worker's own pid namespace.
    pub thread_native_id: u64,
    /// `PyThreadState.context`; `context_ver` is the next word.
    pub thread_context: u64,
    /// Where asyncio, and uvloop through it, keeps a thread's running loop.
    pub running_loop: RunningLoop,
    /// `sizeof(TaskObj)`.
    pub task_bytes: u64,
    /// `TaskObj.task_state`, 0 while pending.
    pub task_state: u64,
    /// `TaskObj.task_context`.
    pub task_context: u64,
    /// Names in `_asyncio` of the sets that hold all tasks: `WeakSet`s or `set`s.
    pub task_sets: &'static [&'static str],
    /// `sizeof(PyUnicodeObject)`.
    pub str_bytes: u64,
    /// `sizeof(PyASCIIObject)`: where the text of an ASCII `str` stands.
    pub str_ascii_data: u32,
    /// `sizeof(PyCompactUnicodeObject)`: where any other compact text stands.
    pub str_wide_data: u32,
    /// Where an instance keeps its attributes while it has no dict of its own.
    pub values: Values,
    /// `_dictvalues.values`.
    pub first_value: u64,
    /// `PyHeapTypeObject.ht_cached_keys`.
    pub type_cached_keys: u64,
    /// What `_Py_DebugOffsets` at the head of `_PyRuntime` must say, from 3.13.
    pub debug_offsets: &'static [DebugOffset],
}

/// Where a thread's running loop is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunningLoop {
    /// In the thread's dict, in a holder that points at the loop from `at` bytes on: 3.11,
    /// <https://github.com/python/cpython/blob/v3.11.7/Modules/_asynciomodule.c>.
    Held {
        /// `PyRunningLoopHolder.rl_loop`.
        at: u64,
    },
    /// In the thread's dict itself: 3.12,
    /// <https://github.com/python/cpython/blob/v3.12.1/Modules/_asynciomodule.c>.
    InDict,
    /// In the thread's state, `at` bytes from its start: 3.13,
    /// <https://github.com/python/cpython/blob/v3.13.0/Include/internal/pycore_tstate.h>.
    InThread {
        /// `_PyThreadStateImpl.asyncio_running_loop`.
        at: u64,
    },
}

/// Where an instance keeps its attributes while it has no dict of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Behind a pointer that stands `at` bytes from the object: 3.11,
    /// <https://github.com/python/cpython/blob/v3.11.7/Include/internal/pycore_object.h>.
    Pointed {
        /// Bytes from the object's start.
        at: i64,
    },
    /// Behind the dict's own pointer, less one, so that it is odd: 3.12,
    /// <https://github.com/python/cpython/blob/v3.12.1/Include/internal/pycore_object.h>.
    Tagged,
    /// In the object, behind its `tp_basicsize`: 3.13,
    /// <https://github.com/python/cpython/blob/v3.13.0/Include/internal/pycore_object.h>.
    Embedded,
}

/// A word of `_Py_DebugOffsets`, which CPython from 3.13 publishes about itself:
/// <https://github.com/python/cpython/blob/v3.13.0/Include/internal/pycore_runtime.h>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugOffset {
    /// Its index in words.
    pub word: u64,
    /// Its name.
    pub name: &'static str,
    /// What it must hold.
    pub bytes: u64,
}

/// Offsets that are the same in all rows, from the same sources.
pub mod common {
    /// `PyObject.ob_type`.
    pub const OB_TYPE: u64 = 8;
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
    /// `sizeof(PyModuleObject)`.
    pub const MODULE_BYTES: u64 = 56;
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
    /// Where the pointer to an instance's dict stands, from the object's start.
    pub const MANAGED_DICT: i64 = -24;
}

/// A version of CPython, as `Py_Version` encodes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// The row for an interpreter.
///
/// # Errors
/// [`Blocker::PythonUnsupported`] where there is none, or where the interpreter runs without a GIL.
pub fn choose(
    pid: i32,
    version: Version,
    memory: &impl ReadMemory,
    runtime: RemoteAddr,
) -> Result<&'static Layout, Blocker> {
    let unsupported = |found, why| Blocker::PythonUnsupported { pid, found, why };
    let known = || {
        let names: Vec<_> =
            table::LAYOUTS.iter().map(|l| format!("{}.{}", l.version.0, l.version.1)).collect();
        format!("the layouts of {} are known", names.join(", "))
    };
    let layout = table::LAYOUTS
        .iter()
        .find(|layout| layout.version == version.minor())
        .ok_or_else(|| unsupported(format!("CPython {version}"), known()))?;
    if !layout.debug_offsets.is_empty() && free_threaded(memory, runtime) == Some(true) {
        let why = "its objects are laid out differently without a GIL".into();
        return Err(unsupported(format!("free-threaded CPython {version}"), why));
    }
    Ok(layout)
}

/// Bytes that `_Py_DebugOffsets` begins with.
const DEBUG_COOKIE: [u8; 8] = *b"xdebugpy";
/// The word of `_Py_DebugOffsets` that says whether there is no GIL.
const FREE_THREADED_WORD: u64 = 2;

fn free_threaded(memory: &impl ReadMemory, runtime: RemoteAddr) -> Option<bool> {
    let cookie: [u8; 8] = memory.read(runtime).ok()?;
    let flag: u64 = memory.read(runtime.plus(8 * FREE_THREADED_WORD)).ok()?;
    (cookie == DEBUG_COOKIE).then_some(flag != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpython::memory::image::Image;

    #[test]
    fn versions_read_as_python_prints_them() {
        assert_eq!(Version(0x030b_07f0).to_string(), "3.11.7");
        assert_eq!(Version(0x030d_00c2).to_string(), "3.13.0rc2");
        assert_eq!(Version(0x030d_0000).to_string(), "3.13.0?0");
    }

    #[test]
    fn a_version_without_a_row_is_refused() {
        let memory = Image::default();
        let at = RemoteAddr(0x1000);
        assert_eq!(choose(1, Version(0x030b_07f0), &memory, at).map(|l| l.version), Ok((3, 11)));
        let why = choose(1, Version(0x030e_00f0), &memory, at).unwrap_err().to_string();
        assert_eq!(
            why,
            "process 1 runs CPython 3.14.0, which is not supported: the layouts of 3.11, 3.12, \
             3.13 are known"
        );
    }

    #[test]
    fn free_threaded_builds_are_refused() {
        let mut memory = Image::default();
        memory.put(0x1000, &DEBUG_COOKIE);
        memory.words(0x1008, &[0x030d_00f0, 1]);
        let got = choose(1, Version(0x030d_00f0), &memory, RemoteAddr(0x1000));
        assert!(matches!(got, Err(Blocker::PythonUnsupported { .. })));
        memory.words(0x1010, &[0]);
        assert!(choose(1, Version(0x030d_00f0), &memory, RemoteAddr(0x1000)).is_ok());
    }
}
