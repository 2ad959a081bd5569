//! The native stack of a worker's thread, read without stopping it: which C function a stall is in.
//!
//! [`Stacks`] walks from the [`Registers`] of a thread that sleeps, which whoever saw it leave its CPU hands
//! in, or from a [`Sample`] that the kernel took of one that runs ([`Sampler`]). Invariants: every depth,
//! length and count over the worker's memory and files has a named limit; no address is guessed at, so
//! where unwind tables or symbols end, so does what is told; and a wrong name is worse than none.

mod entry;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod image;
mod module;
mod sampler;
mod symbols;
#[cfg(test)]
mod tests;
mod unwind;

use std::path::PathBuf;

use crate::{
    cpython::memory::{LiveMemory, PageCache, ReadMemory},
    worker::Worker,
};

use self::{
    module::Modules,
    unwind::{Frame, Stack, Unwinder},
};

pub use self::{
    entry::{Place, most},
    sampler::{Sample, Sampler},
};

/// Frames of one stack that are walked: the evaluation loop is seldom more than twenty from the innermost.
const MAX_FRAMES: usize = 64;

/// Where a thread was in its own code, as the kernel saved it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// The instruction that it goes on with.
    pub ip: u64,
    /// The lowest byte of its stack in use.
    pub sp: u64,
    /// Its frame pointer, if that was saved. Few frames need it, and outer ones find it on the stack.
    pub bp: Option<u64>,
}

/// A function that has not returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeFrame {
    /// Its name, where the file's table of symbols has one that covers the address; at most
    /// 128 bytes, raw: it is the worker's text, and may be mangled.
    pub symbol: Option<String>,
    /// The name of its file, without folders.
    pub module: String,
    /// The address in that file's own terms that it goes on at.
    pub offset: u64,
    /// Whose code it is.
    pub place: Place,
}

/// A thread's stack from the innermost function outwards, as far as it is known and at most to the
/// interpreter's evaluation loop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Native {
    /// Its functions, innermost first.
    pub frames: Vec<NativeFrame>,
}

impl Native {
    /// The C function that Python code waits for, with its file: `sqlite3_step (libsqlite3.so.0)`. `None`
    /// where it is Python code itself that runs, or where that is not known.
    ///
    /// It is the function through which the innermost library was entered, which says what is
    /// done: the innermost function itself would only say by which helper. The system's libraries
    /// count only where no other library stands between them and the interpreter.
    pub fn innermost(&self) -> Option<String> {
        entry::innermost(&self.frames)
    }
}

/// The native stacks of one worker, and what is remembered of its files.
pub struct Stacks {
    modules: Modules,
    unwinder: Unwinder,
}

impl Stacks {
    /// Those of a worker whose interpreter is the file `interpreter`, as its own mount namespace names it.
    pub fn new(interpreter: PathBuf) -> Self {
        Self { modules: Modules::new(interpreter), unwinder: Unwinder::default() }
    }

    /// The stack of a thread that is asleep in the kernel with `registers`.
    ///
    /// Whoever hands them in must look afterwards whether it slept all the while: a thread that woke up
    /// meanwhile has overwritten what was read.
    pub fn of_sleeper(&mut self, worker: &Worker, registers: Registers) -> Native {
        let live = LiveMemory::new(worker.pid());
        self.modules.refresh(worker);
        self.walk(worker, registers, &PageCache::new(&live))
    }

    /// The stacks that samples of one moment show: see [`most`].
    pub fn of_samples(&mut self, worker: &Worker, samples: &[Sample]) -> Vec<Native> {
        self.modules.refresh(worker);
        let stack = |sample: &Sample| self.walk(worker, sample.registers, &sample.stack);
        samples.iter().map(stack).collect()
    }

    /// Bytes that are remembered of the worker's files.
    pub fn cached_bytes(&self) -> usize {
        self.modules.bytes()
    }

    fn walk<M: ReadMemory>(&mut self, worker: &Worker, registers: Registers, memory: &M) -> Native {
        let stack = Stack::new(memory, registers.sp);
        let mut frame = Frame::new(registers);
        let mut frames = Vec::new();
        while frames.len() < MAX_FRAMES {
            let Some((module, base)) = self.modules.at(worker, frame.looked_up()) else { break };
            let symbol = module.symbol(frame.looked_up().wrapping_sub(base));
            frames.push(NativeFrame {
                symbol,
                module: module.name.clone(),
                offset: frame.ip().wrapping_sub(base),
                place: module.place,
            });
            if frames.last().is_some_and(NativeFrame::is_evaluation) {
                break;
            }
            let Some(outer) = module.unwind(&mut self.unwinder, &frame, base, &stack) else {
                break;
            };
            frame = outer;
        }
        Native { frames }
    }
}
