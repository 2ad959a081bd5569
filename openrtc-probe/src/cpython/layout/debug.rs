//! What CPython publishes of its own layout, for debuggers, in the worker's memory.
//!
//! Two tables of words: `_Py_DebugOffsets` at the head of `_PyRuntime` from 3.13,
//! <https://github.com/python/cpython/blob/v3.13.0/Include/internal/pycore_runtime.h>, and
//! `_AsyncioDebug` in a section of its own from 3.14,
//! <https://github.com/python/cpython/blob/v3.14.0/Modules/_asynciomodule.c>. They are made by the
//! compiler of that very build, so they are right where a row is of another patch level. Which word is
//! which is told by the row, because that changes between versions too.

use super::{
    Awaiting, CoroutineFrame, CurrentFrame, GilState, Instruction, Layout, LineTable, RunningLoop,
    StackEnd, Tasks, ThreadId,
};
use crate::cpython::memory::{ReadMemory, RemoteAddr};

/// What `_Py_DebugOffsets` begins with.
const COOKIE: [u8; 8] = *b"xdebugpy";
/// Its word that says whether there is no GIL.
const FREE_THREADED_WORD: u64 = 2;
/// No struct that we read is as large: an offset beyond is none.
const MAX_OFFSET: u64 = 1 << 20;

/// A word of a published table, and the field of the layout that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its index in words.
    pub word: u64,
    /// The word that tells where the struct begins that the field is in, where that is in another.
    pub within: Option<u64>,
    /// What it tells.
    pub what: What,
}

/// The fields that are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// [`Layout::interpreters_head`].
    InterpretersHead,
    /// [`Layout::interp_next`].
    InterpNext,
    /// [`Layout::interp_threads`].
    InterpThreads,
    /// [`Layout::interp_modules`].
    InterpModules,
    /// [`Layout::thread_next`].
    ThreadNext,
    /// [`Layout::thread_interp`].
    ThreadInterp,
    /// [`ThreadId::Native`].
    ThreadNativeId,
    /// [`Layout::task_bytes`].
    TaskBytes,
    /// [`Layout::task_name`].
    TaskName,
    /// [`Tasks::Lists::node`]; [`Layout::task_context`] is the word before it.
    TaskNode,
    /// [`Tasks::Lists::of_interpreter`].
    InterpTasks,
    /// [`RunningLoop::InThread`].
    ThreadLoop,
    /// [`Tasks::Lists::of_thread`].
    ThreadTasks,
    /// [`Layout::task_coro`].
    TaskCoro,
    /// [`CurrentFrame::InThread`].
    ThreadFrame,
    /// [`super::Frames::bytes`].
    FrameBytes,
    /// [`super::Frames::previous`].
    FramePrevious,
    /// [`super::Frames::code`].
    FrameCode,
    /// [`Instruction::Pointer`].
    FrameInstruction,
    /// [`StackEnd::Index::locals`].
    FrameLocals,
    /// [`super::Frames::owner`].
    FrameOwner,
    /// [`StackEnd::Pointer`].
    FrameStack,
    /// [`super::Code::filename`].
    CodeFilename,
    /// [`super::Code::name`].
    CodeName,
    /// [`super::Code::qualname`].
    CodeQualname,
    /// [`LineTable::Locations`].
    CodeLines,
    /// [`super::Code::first_line`].
    CodeFirstLine,
    /// [`Instruction::Pointer::bytecode`], which is [`super::Code::bytes`] too.
    CodeBytecode,
    /// [`CoroutineFrame::Embedded`].
    CoroutineFrame,
    /// [`Awaiting::InCoroutine`].
    CoroutineState,
    /// [`GilState::Pointed`].
    GilState,
    /// [`super::Gil::locked`].
    GilLocked,
    /// [`super::Gil::holder`].
    GilHolder,
}

/// Where an interpreter publishes its offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// `_PyRuntime`, which begins with `_Py_DebugOffsets` from 3.13.
    pub runtime: RemoteAddr,
    /// `_AsyncioDebug`, where there is one and it is loaded.
    pub asyncio: Option<RemoteAddr>,
}

impl Published {
    /// Whether the interpreter says that it runs without a GIL.
    pub(super) fn is_free_threaded(self, memory: &impl ReadMemory) -> bool {
        let flag: Option<u64> = memory.read(self.runtime.plus(8 * FREE_THREADED_WORD)).ok();
        self.has_cookie(memory) && flag.is_some_and(|flag| flag != 0)
    }

    fn has_cookie(self, memory: &impl ReadMemory) -> bool {
        memory.read::<[u8; 8]>(self.runtime) == Ok(COOKIE)
    }

    /// The row, with everything in it replaced that the interpreter tells of itself. What cannot be
    /// read, or can be no offset, leaves the row as it is: [`super::validate()`] proves the whole.
    pub(super) fn over(self, row: &Layout, memory: &impl ReadMemory) -> Layout {
        let mut layout = row.clone();
        let runtime = self.has_cookie(memory).then_some((self.runtime, row.runtime_debug));
        let asyncio = self.asyncio.map(|table| (table, row.asyncio_debug));
        for (table, fields) in runtime.into_iter().chain(asyncio) {
            for field in fields {
                if let Some(bytes) = field.read(table, memory) {
                    layout.put(field.what, bytes);
                }
            }
        }
        layout
    }
}

impl Field {
    /// What the table says, if it can be an offset.
    fn read(self, table: RemoteAddr, memory: &impl ReadMemory) -> Option<u64> {
        let word = |index| memory.read::<u64>(table.plus(8 * index)).ok();
        let start = self.within.map_or(Some(0), word)?;
        word(self.word)?.checked_sub(start).filter(|bytes| *bytes < MAX_OFFSET)
    }
}

impl Layout {
    fn put(&mut self, what: What, bytes: u64) {
        match what {
            What::InterpretersHead => self.interpreters_head = bytes,
            What::InterpNext => self.interp_next = bytes,
            What::InterpThreads => self.interp_threads = bytes,
            What::InterpModules => self.interp_modules = bytes,
            What::ThreadNext => self.thread_next = bytes,
            What::ThreadInterp => self.thread_interp = bytes,
            What::ThreadNativeId => self.thread_id = ThreadId::Native { at: bytes },
            What::TaskBytes => self.task_bytes = bytes,
            What::TaskName => self.task_name = bytes,
            What::ThreadLoop => self.running_loop = RunningLoop::InThread { at: bytes },
            What::TaskCoro => self.task_coro = bytes,
            What::TaskNode | What::InterpTasks | What::ThreadTasks => self.put_list(what, bytes),
            What::GilState => self.gil.state = GilState::Pointed { at: bytes },
            What::GilLocked => self.gil.locked = bytes,
            What::GilHolder => self.gil.holder = bytes,
            _ => self.put_frames(what, bytes),
        }
    }

    fn put_frames(&mut self, what: What, bytes: u64) {
        let Self { frames, coroutines, .. } = self;
        match what {
            What::ThreadFrame => frames.current = CurrentFrame::InThread { at: bytes },
            What::FrameBytes => frames.bytes = bytes,
            What::FramePrevious => frames.previous = bytes,
            What::FrameCode => frames.code = bytes,
            What::FrameOwner => frames.owner = Some(bytes),
            What::FrameStack => coroutines.stack = StackEnd::Pointer { at: bytes },
            What::CoroutineFrame => coroutines.frame = CoroutineFrame::Embedded { at: bytes },
            What::FrameLocals => {
                if let StackEnd::Index { locals, .. } = &mut coroutines.stack {
                    *locals = bytes;
                }
            }
            What::CoroutineState => {
                if let Awaiting::InCoroutine { at, .. } = &mut coroutines.awaiting {
                    *at = bytes;
                }
            }
            _ => self.put_code(what, bytes),
        }
    }

    fn put_code(&mut self, what: What, bytes: u64) {
        let Self { frames, code, .. } = self;
        match (what, &mut frames.instruction) {
            (What::CodeFilename, _) => code.filename = bytes,
            (What::CodeName, _) => code.name = bytes,
            (What::CodeQualname, _) => code.qualname = Some(bytes),
            (What::CodeLines, _) => code.lines = LineTable::Locations { at: bytes },
            (What::CodeFirstLine, _) => code.first_line = bytes,
            (What::FrameInstruction, Instruction::Pointer { at, .. }) => *at = bytes,
            (What::CodeBytecode, Instruction::Pointer { bytecode, .. }) => {
                *bytecode = bytes;
                code.bytes = bytes;
            }
            _ => {}
        }
    }

    fn put_list(&mut self, what: What, bytes: u64) {
        let Tasks::Lists { node, of_thread, of_interpreter } = &mut self.tasks else { return };
        match what {
            What::TaskNode => {
                *node = bytes;
                self.task_context = bytes.saturating_sub(8);
            }
            What::ThreadTasks => *of_thread = bytes,
            _ => *of_interpreter = bytes,
        }
    }
}
