//! Where a thread is, what a coroutine waits for and who has the GIL: the parts of a layout that tell.
//!
//! Frames up to 3.10 are objects, later ones are the interpreter's own structs, with an object only where
//! somebody asked for one. All offsets are bytes. Where a reference to an object is read from a frame,
//! [`common::REFERENCE_TAG`](super::common::REFERENCE_TAG) has to be cleared first.

/// `PyFrameObject` up to 3.10,
/// <https://github.com/python/cpython/blob/v3.10.13/Include/cpython/frameobject.h>, and
/// `_PyInterpreterFrame` from 3.11,
/// <https://github.com/python/cpython/blob/v3.11.7/Include/internal/pycore_frame.h>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    /// `sizeof`, with the first variable, which every frame has room for.
    pub bytes: u64,
    /// A thread's innermost frame.
    pub current: CurrentFrame,
    /// `f_code` (`f_executable` from 3.13): what runs. A shim's may be no code object.
    pub code: u64,
    /// `f_back` or `previous`: the frame that this one returns to, null at the outermost; of a coroutine
    /// it leads somewhere only while that runs.
    pub previous: u64,
    /// The last instruction.
    pub instruction: Instruction,
    /// `owner`, one byte: who made the frame, from 3.11. From
    /// [`common::FIRST_SHIM`](super::common::FIRST_SHIM) on it is no frame of Python's.
    pub owner: Option<u64>,
}

/// Where the pointer to a thread's innermost frame stands; null where it runs no Python.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CurrentFrame {
    /// In the thread's state: `frame` up to 3.10, `current_frame` from 3.13,
    /// <https://github.com/python/cpython/blob/v3.13.0/Include/cpython/pystate.h>.
    InThread {
        /// Bytes from the state's start.
        at: u64,
    },
    /// Behind a pointer in the thread's state: `_PyCFrame.current_frame` in 3.11 and 3.12,
    /// <https://github.com/python/cpython/blob/v3.12.1/Include/cpython/pystate.h>.
    Behind {
        /// `PyThreadState.cframe`, which is on the thread's C stack.
        pointer: u64,
        /// Bytes from where it points.
        at: u64,
    },
}

/// The last instruction of a frame. All tell the one that runs, and, in a frame that waits for a call or
/// is suspended, one of the same line: what the interpreter itself goes by for `f_lineno`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `f_lasti`, an `i32` that is negative before the first instruction: up to 3.10.
    Index {
        /// Bytes from the frame's start.
        at: u64,
        /// Bytes of bytecode for each one that it counts: 1 in 3.9, 2 in 3.10.
        unit: u64,
    },
    /// A pointer into the code object: `prev_instr` in 3.11 and 3.12, just before the bytecode of what has
    /// not begun; `instr_ptr` from 3.13,
    /// <https://github.com/python/cpython/blob/v3.13.0/Include/internal/pycore_frame.h>.
    Pointer {
        /// Bytes from the frame's start.
        at: u64,
        /// `PyCodeObject.co_code_adaptive`: where bytecode begins.
        bytecode: u64,
    },
}

/// `PyCodeObject`: <https://github.com/python/cpython/blob/v3.13.0/Include/cpython/code.h>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// `tp_basicsize` of its type: all that is read of it, without the bytecode.
    pub bytes: u64,
    /// `co_filename`, a `str`.
    pub filename: u64,
    /// `co_name`, a `str`.
    pub name: u64,
    /// `co_qualname`, a `str`, from 3.11.
    pub qualname: Option<u64>,
    /// `co_firstlineno`, an `i32`.
    pub first_line: u64,
    /// Which instruction is of which line.
    pub lines: LineTable,
}

/// A code object's `bytes` that tell which instruction is of which line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineTable {
    /// `co_lnotab`: pairs of steps, in bytes of bytecode and in lines. 3.9,
    /// <https://github.com/python/cpython/blob/v3.9.18/Objects/lnotab_notes.txt>.
    Pairs {
        /// Bytes from the code object's start.
        at: u64,
    },
    /// `co_linetable`: pairs too, of a range's length and the step to its line; -128 is no line. 3.10,
    /// <https://github.com/python/cpython/blob/v3.10.13/Objects/lnotab_notes.txt>.
    Ranges {
        /// Bytes from the code object's start.
        at: u64,
    },
    /// `co_linetable`: entries of variable length with lines and columns. From 3.11,
    /// <https://github.com/python/cpython/blob/v3.11.7/Objects/locations.md>.
    Locations {
        /// Bytes from the code object's start.
        at: u64,
    },
}

/// `PyGenObject`, `PyCoroObject` and `PyAsyncGenObject`, which begin alike:
/// <https://github.com/python/cpython/blob/v3.13.0/Include/internal/pycore_genobject.h>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coroutines {
    /// `tp_basicsize` of a coroutine's type; a generator may be smaller up to 3.10.
    pub bytes: u64,
    /// Its frame.
    pub frame: CoroutineFrame,
    /// What tells that it is suspended.
    pub awaiting: Awaiting,
    /// The end of the stack of a frame that is suspended; of any other it tells nothing.
    pub stack: StackEnd,
    /// What it waits for stands so many words below the stack's end.
    pub awaited: u64,
}

/// Where the frame of a generator of any kind is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoroutineFrame {
    /// Behind the pointer `gi_frame`, null once it has ended: up to 3.10,
    /// <https://github.com/python/cpython/blob/v3.10.13/Include/genobject.h>.
    Pointed {
        /// Bytes from the coroutine's start.
        at: u64,
    },
    /// In itself, `gi_iframe`: from 3.11. What stands there once it has ended is no frame any more.
    Embedded {
        /// Bytes from the coroutine's start.
        at: u64,
    },
}

/// What tells that a coroutine is suspended and waits for another object: not before its first step, not
/// while it runs, not once it has ended. Up to 3.12 a generator at a plain `yield` says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaiting {
    /// There is a frame, its [`Instruction::Index`] is not negative, and the pointer of its
    /// [`StackEnd::Pointer`] is not null: 3.9.
    StackKept,
    /// `f_state` of its frame, an `i8`: 3.10.
    InFrame {
        /// Bytes from the frame's start.
        at: u64,
        /// `FRAME_SUSPENDED`.
        value: i8,
    },
    /// `gi_frame_state`, an `i8`: from 3.11.
    InCoroutine {
        /// Bytes from the coroutine's start.
        at: u64,
        /// `FRAME_SUSPENDED`, from 3.13 on `FRAME_SUSPENDED_YIELD_FROM`.
        value: i8,
    },
}

/// The end of a frame's stack: just behind the object that was pushed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackEnd {
    /// A pointer: `f_stacktop` in 3.9, `stackpointer` from 3.14,
    /// <https://github.com/python/cpython/blob/v3.14.0/Include/internal/pycore_interpframe_structs.h>.
    Pointer {
        /// Bytes from the frame's start.
        at: u64,
    },
    /// So many words, an `i32`, behind where a pointer says that the stack begins: 3.10.
    Depth {
        /// `f_valuestack`, from the frame's start.
        base: u64,
        /// `f_stackdepth`, from the frame's start.
        at: u64,
    },
    /// So many words, an `i32`, behind the frame's first variable: 3.11 to 3.13.
    Index {
        /// `localsplus`, from the frame's start.
        locals: u64,
        /// `stacktop`, from the frame's start.
        at: u64,
    },
}

/// `struct _gil_runtime_state`:
/// <https://github.com/python/cpython/blob/v3.13.0/Include/internal/pycore_gil.h>. A thread that wants the
/// GIL sleeps on a futex in [`common::GIL_FUTEXES`](super::common::GIL_FUTEXES) of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gil {
    /// Where it is.
    pub state: GilState,
    /// `last_holder`, from its start: the `PyThreadState` that has the GIL, or had it last.
    pub holder: u64,
    /// `locked`, from its start: an `i32`, 1 while somebody has the GIL.
    pub locked: u64,
}

/// Where the state of the GIL is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GilState {
    /// In `_PyRuntime`, for all interpreters: `ceval.gil` up to 3.11,
    /// <https://github.com/python/cpython/blob/v3.11.7/Include/internal/pycore_runtime.h>.
    InRuntime {
        /// Bytes from the start of `_PyRuntime`.
        at: u64,
    },
    /// Behind `PyInterpreterState.ceval.gil`: interpreters may share one, or have their own. From 3.12,
    /// <https://github.com/python/cpython/blob/v3.12.1/Include/internal/pycore_ceval_state.h>.
    Pointed {
        /// Bytes from the interpreter's start.
        at: u64,
    },
}
