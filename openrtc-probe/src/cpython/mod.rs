//! CPython seen from outside: its threads, tasks, context variables and their values.
//!
//! [`Python`] is the facade; everything behind it reads memory through [`memory::ReadMemory`], so
//! that the same walks run on a live worker and on a recorded image. ELF files are read elsewhere:
//! where the interpreter's own objects stand is handed in as [`Addresses`].
//!
//! Invariants: nothing is written to the worker; every loop, length and depth over its memory has a
//! named limit; an object is believed only after its type was checked.

mod code;
mod coroutine;
#[cfg(test)]
mod fake;
mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gil;
pub mod layout;
mod lines;
pub mod memory;
mod object;
mod origin;
pub mod recording;
mod running;
mod seen;
mod stack;
mod task;
#[cfg(test)]
mod tests;
mod text;
mod thread;
mod var;

use std::{collections::BTreeMap, sync::Arc};

use bytemuck::{Pod, Zeroable};
use openrtc_common::{config::PyLayout, hamt::NodeTypes, loss::Loss, tag::TagText};

use crate::blocker::Blocker;

use self::{
    layout::{Layout, Version, common},
    memory::{LiveMemory, PageCache, ReadError, ReadMemory, RemoteAddr},
    object::Objects,
    seen::Looker,
};

pub use self::{
    code::{Code, CodeCache},
    coroutine::{Await, End, Link, Waiter},
    frame::FrameAt,
    gil::{GilAt, GilHolder},
    object::WalkError,
    origin::Origin,
    running::{Around, Inner, Running},
    seen::TaskSeen,
    stack::{Frame, MAX_FRAMES, Stack},
    task::TaskAt,
    thread::{Entered, LoopType},
    var::VarAt,
};

/// A thread's id in the worker's own pid namespace, which is what the interpreter knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NsTid(pub u32);

/// The worker's threads: their ids in our pid namespace, by those in their own.
pub type Tids = BTreeMap<NsTid, u32>;

/// Where the interpreter's own objects stand in the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Addresses {
    /// `_PyRuntime`.
    pub runtime: RemoteAddr,
    /// `_Py_NoneStruct`.
    pub none: RemoteAddr,
    /// `PyUnicode_Type`.
    pub str_type: RemoteAddr,
    /// `PyLong_Type`.
    pub int_type: RemoteAddr,
    /// `PyDict_Type`.
    pub dict_type: RemoteAddr,
    /// `PySet_Type`.
    pub set_type: RemoteAddr,
    /// `PyModule_Type`.
    pub module_type: RemoteAddr,
    /// `PyContext_Type`.
    pub context_type: RemoteAddr,
    /// `PyContextVar_Type`.
    pub context_var_type: RemoteAddr,
    /// `PyContextToken_Type`.
    pub context_token_type: RemoteAddr,
    /// `PyCode_Type`.
    pub code_type: RemoteAddr,
    /// `PyCoro_Type`.
    pub coroutine_type: RemoteAddr,
    /// `PyGen_Type`.
    pub generator_type: RemoteAddr,
    /// `PyAsyncGen_Type`.
    pub async_generator_type: RemoteAddr,
    /// The three node types of the HAMT.
    pub nodes: NodeTypes,
}

/// A thread that the interpreter knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PyThread {
    /// Its id in our pid namespace.
    pub tid: u32,
    /// Its id in the worker's.
    pub ns_tid: NsTid,
    /// Its `PyThreadState`.
    pub state: RemoteAddr,
    /// `PyThreadState.context`: the context it runs under, entered or its own.
    pub context: Option<RemoteAddr>,
    /// `PyThreadState.context_ver`.
    pub context_version: u64,
    /// The class of the loop that it runs, `None` where it runs none.
    pub running_loop: Option<LoopType>,
}

impl PyThread {
    /// Whether it runs an event loop.
    pub fn runs_loop(&self) -> bool {
        self.running_loop.is_some()
    }
}

/// How often a walk is tried that meets a list or a table while the worker changes it.
const TRIES: usize = 4;

/// An interpreter whose layout has been proved, in the memory `M`.
#[derive(Clone, Debug)]
pub struct Python<M = LiveMemory> {
    memory: M,
    version: Version,
    layout: Layout,
    addresses: Addresses,
    shared: PyLayout,
}

impl<M: ReadMemory> Python<M> {
    /// Proves that `layout` is that of the interpreter in this memory.
    ///
    /// # Errors
    /// [`Blocker::LayoutMismatch`].
    pub fn open(
        memory: M,
        version: Version,
        layout: Layout,
        addresses: &Addresses,
        tids: &Tids,
    ) -> Result<Self, Blocker> {
        let shared = shared_layout(&layout, addresses);
        let python = Self { memory, version, layout, addresses: *addresses, shared };
        // No cache: a retry must see new values.
        layout::validate(&python.objects(&python.memory), tids)?;
        Ok(python)
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where its structs' fields stand; proved when it was opened.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What the kernel side needs to know of it.
    pub fn kernel_layout(&self) -> PyLayout {
        self.shared
    }

    /// The threads of the interpreter; those that are not among `tids` have just begun or ended and
    /// are left out.
    pub fn threads(&self, tids: &Tids) -> Result<Vec<PyThread>, WalkError> {
        self.retry(|objects| {
            let mut threads = Vec::new();
            for interp in thread::interpreters(objects)? {
                for state in thread::states(objects, interp)? {
                    let Some(&tid) = tids.get(&state.ns_tid) else { continue };
                    threads.push(PyThread {
                        tid,
                        ns_tid: state.ns_tid,
                        state: state.at,
                        context: state.context.non_null(),
                        context_version: state.context_version,
                        running_loop: thread::running_loop(objects, &state)?,
                    });
                }
            }
            Ok(threads)
        })
    }

    /// The contexts that a thread has entered, all seen at one moment. `None` where it changes them
    /// faster than we can read, or where the thread is gone.
    pub fn entered(&self, thread: &PyThread) -> Option<Entered> {
        thread::entered(&self.objects(&self.memory), thread.state, thread.ns_tid)
    }

    /// What the thread of this `PyThreadState` runs in now, and what that holds in `var`.
    pub fn running(
        &self,
        state: RemoteAddr,
        var: Option<VarAt>,
        around: &Around<'_>,
    ) -> Result<Running, ReadError> {
        running::read(&self.objects(&self.memory), state, var, around)
    }

    /// Where `PyThreadState.context` stands in a thread's state; `context_ver` is the word behind it.
    pub fn context_words_at(&self, state: RemoteAddr) -> u64 {
        state.plus(self.layout.thread_context).0
    }

    /// Every context variable of each of `names`, by address.
    pub fn find_vars(&self, names: &[&str]) -> Result<Vec<Vec<VarAt>>, WalkError> {
        self.retry(|objects| var::find(objects, names))
    }

    /// Every pending task of the C implementation, idle ones too; none before asyncio is imported.
    pub fn tasks(&self) -> Result<Vec<TaskAt>, WalkError> {
        #[expect(clippy::redundant_closure, reason = "the function alone is not general enough")]
        self.retry(|objects| task::tasks(objects))
    }

    /// The type `_asyncio.Task`; `None` before asyncio is imported.
    pub fn task_type(&self) -> Result<Option<RemoteAddr>, WalkError> {
        #[expect(clippy::redundant_closure, reason = "the function alone is not general enough")]
        self.retry(|objects| task::task_type(objects))
    }

    /// What the type at `ty` is called, such as `int` or `uuid.UUID`; `None` where no type stands there.
    pub fn type_name(&self, ty: RemoteAddr) -> Option<String> {
        let objects = self.objects(&self.memory);
        if !objects.is_type(ty) {
            return None;
        }
        let name = objects.type_name(ty).ok().filter(|name| !name.is_empty())?;
        Some(match thread::module_of(&objects, ty).as_str() {
            "" | "builtins" => name,
            // A type made in C has its module in its name already.
            module if name.strip_prefix(module).is_some_and(|rest| rest.starts_with('.')) => name,
            module => format!("{module}.{name}"),
        })
    }

    /// What `var` is to us in `context`, read now. For many contexts take
    /// [`Self::values`].
    ///
    /// A worker that makes and drops thousands of tasks a second may put a new context and a new map
    /// where the old ones were while we read, so only what is read twice in a row counts.
    pub fn value(&self, context: RemoteAddr, var: VarAt) -> Result<Option<TagText>, Loss> {
        let read = || var::value(&self.objects(&self.memory), context, var);
        let mut last = read();
        for _ in 0..TRIES {
            let again = read();
            if again == last {
                return again;
            }
            last = again;
        }
        Err(Loss::TagUnreadable)
    }

    /// What `var` is to us in many contexts, in their order.
    ///
    /// Everything is read twice, page by page, in two passes that share nothing: pages of different
    /// moments can make up a text that never was, but not the same one twice. Where the passes
    /// differ, the context is read once more by itself. What `was_read` before, a while ago, need not
    /// be read a second time.
    pub fn values(
        &self,
        contexts: &[RemoteAddr],
        var: VarAt,
        was_read: impl Fn(RemoteAddr, &Option<TagText>) -> bool,
    ) -> Vec<Result<Option<TagText>, Loss>> {
        let cache = PageCache::new(&self.memory);
        let objects = self.objects(&cache);
        let mut values: Vec<_> = contexts.iter().map(|at| var::value(&objects, *at, var)).collect();
        let cache = PageCache::new(&self.memory);
        let objects = self.objects(&cache);
        for (value, at) in values.iter_mut().zip(contexts) {
            let is_sure = value.as_ref().is_ok_and(|value| was_read(*at, value));
            if !is_sure && var::value(&objects, *at, var) != *value {
                *value = self.value(*at, var);
            }
        }
        values
    }

    /// The first descriptor in the table at `polled`, which the worker gave to `poll`: an array of
    /// `struct pollfd`, <https://man7.org/linux/man-pages/man2/poll.2.html>.
    pub fn first_polled(&self, polled: u64) -> Option<u32> {
        let descriptor: i32 = self.memory.read(RemoteAddr(polled)).ok()?;
        u32::try_from(descriptor).ok()
    }

    /// What each task is called, in their order: as with [`Self::values`], only what is read twice alike
    /// counts.
    pub fn names(&self, tasks: &[TaskAt]) -> Vec<Result<Option<TagText>, Loss>> {
        let pass = || {
            let cache = PageCache::new(&self.memory);
            let objects = self.objects(&cache);
            tasks.iter().map(|task| task::name(&objects, task.task)).collect::<Vec<_>>()
        };
        let both = pass().into_iter().zip(pass());
        both.map(|(one, two)| if one == two { one } else { Err(Loss::TagUnreadable) }).collect()
    }

    /// The code object at `at`, `None` where none can be read.
    pub fn code(&self, at: RemoteAddr, cache: &mut CodeCache) -> Option<Arc<Code>> {
        cache.read(&self.objects(&self.memory), at)
    }

    /// The frame at `at`, read at one moment; `None` where none can be there.
    pub fn frame(&self, at: RemoteAddr) -> Option<FrameAt> {
        FrameAt::read(&self.objects(&self.memory), at)
    }

    /// What each task is called, what its context holds in `var`, and what it does, in their order; `None`
    /// where it was gone by then. What is said of one task was there at one time.
    ///
    /// # Errors
    /// Where the types of tasks and futures cannot be found.
    pub fn look(
        &self,
        tasks: &[TaskAt],
        var: Option<VarAt>,
        cache: &mut CodeCache,
    ) -> Result<Vec<Option<TaskSeen>>, WalkError> {
        #[expect(clippy::redundant_closure, reason = "the function alone is not general enough")]
        let asyncio = self.retry(|objects| task::asyncio_types(objects))?;
        let objects = &self.objects(&self.memory);
        let left = coroutine::Links::default();
        Ok(Looker { objects, asyncio: &asyncio, var, left }.look(tasks, cache))
    }

    /// The text that each context holds in any of `vars`.
    pub fn texts(&self, vars: &[VarAt], contexts: &[RemoteAddr]) -> Vec<Option<String>> {
        let mut texts = vec![None; contexts.len()];
        for var in vars {
            let values = self.values(contexts, *var, |_, _| false).into_iter();
            for (text, value) in texts.iter_mut().zip(values) {
                let value = value.ok().flatten().filter(|value| value.type_addr().is_none());
                *text = text.take().or(value.map(|value| value.chars().collect()));
            }
        }
        texts
    }

    /// Where a thread is, read while it runs; of the poll whose `context_ver` is `expected`, if that is
    /// given. `None` where that poll has ended, where the thread is gone, or where it moves too fast for
    /// anything to be said.
    pub fn stack(
        &self,
        thread: &PyThread,
        cache: &mut CodeCache,
        expected: Option<u64>,
    ) -> Option<Stack> {
        stack::read(&self.objects(&self.memory), thread, cache, expected)
    }

    /// The GILs of the process: one, but for interpreters that were made with their own.
    pub fn gils(&self) -> Result<Vec<GilAt>, WalkError> {
        #[expect(clippy::redundant_closure, reason = "the function alone is not general enough")]
        self.retry(|objects| gil::all(objects))
    }

    /// Who has a GIL, `Ok(None)` where nobody has it.
    ///
    /// # Errors
    /// Where it cannot be read, or where it went from hand to hand at every look.
    pub fn gil_holder(&self, gil: &GilAt) -> Result<Option<GilHolder>, WalkError> {
        gil::holder(&self.objects(&self.memory), gil)
    }

    fn objects<'w, N>(&'w self, memory: &'w N) -> Objects<'w, N> {
        Objects { memory, layout: &self.layout, addresses: &self.addresses, shared: &self.shared }
    }

    /// Tries a walk several times, each with pages of its own.
    fn retry<T>(
        &self,
        walk: impl Fn(&Objects<'_, PageCache<'_, M>>) -> Result<T, WalkError>,
    ) -> Result<T, WalkError> {
        let attempt = || walk(&self.objects(&PageCache::new(&self.memory)));
        let mut result = attempt();
        for _ in 1..TRIES {
            if result.is_ok() {
                break;
            }
            result = attempt();
        }
        result
    }
}

/// What the version of an interpreter is that exports none: what its `sys.hexversion` says, read with
/// the row of that very version.
pub fn unexported_version(memory: &impl ReadMemory, addresses: &Addresses) -> Option<Version> {
    layout::without_exported_version().find_map(|layout| {
        let shared = shared_layout(layout, addresses);
        let objects = Objects { memory, layout, addresses, shared: &shared };
        let version = hex_version(&objects).ok()??;
        (version.minor() == layout.version).then_some(version)
    })
}

/// `sys.hexversion` of the first interpreter: a `PyLongObject` of one digit of 30 bits,
/// <https://github.com/python/cpython/blob/v3.10.13/Include/longintrepr.h>.
fn hex_version<M: ReadMemory>(objects: &Objects<'_, M>) -> Result<Option<Version>, WalkError> {
    let Some(interp) = thread::interpreters(objects)?.first().copied() else { return Ok(None) };
    let modules = objects.memory.read_ptr(interp.plus(objects.layout.interp_modules))?;
    let Some(sys) = objects.dict_get(modules, "sys")? else { return Ok(None) };
    let names = objects.memory.read_ptr(sys.plus(common::MODULE_DICT))?;
    let Some(number) = objects.dict_get(names, "hexversion")? else { return Ok(None) };
    let [digits, digit]: [u64; 2] = objects.memory.read(number.plus(16))?;
    Ok((digits == 1).then_some(Version(digit as u32)))
}

/// The part of the layout that the kernel side shares.
fn shared_layout(layout: &Layout, addresses: &Addresses) -> PyLayout {
    PyLayout {
        nodes: addresses.nodes,
        str_type: addresses.str_type.0,
        int_type: addresses.int_type.0,
        none: addresses.none.0,
        context_vars: common::CONTEXT_VARS as u32,
        hamt_root: common::HAMT_ROOT as u32,
        str_ascii_data: layout.str_ascii_data,
        str_wide_data: layout.str_wide_data,
        token_old_value: common::TOKEN_OLD_VALUE as u32,
        threads_in_context: u32::from(layout.threads_in_context),
        task_name: layout.task_name as u32,
        reserved: 0,
    }
}
