//! The interpreter's threads: which run a loop, and which contexts they have entered.

use openrtc_common::{poll::MAX_DEPTH, tag::TagText};

use bytemuck::AnyBitPattern;

use crate::cpython::{
    NsTid,
    layout::{RunningLoop, ThreadId, common},
    memory::{ReadError, ReadMemory, RemoteAddr},
    object::{Objects, WalkError},
};

/// Interpreters of one process that are looked at; more than one only with sub-interpreters.
const MAX_INTERPRETERS: usize = 64;
/// Thread states of one interpreter that are looked at.
const MAX_STATES: usize = openrtc_common::thread::MAX_THREADS as usize;
/// How often a moving thread is looked at before we give up.
const MAX_LOOKS: usize = 16;
/// Where the tid stands in the descriptor of a thread, behind the thread's own block of 704 bytes and a
/// link of 16: glibc on x86-64, since 2.10 at the latest (`struct pthread`),
/// <https://sourceware.org/git/?p=glibc.git;a=blob;f=nptl/descr.h;hb=glibc-2.36>.
const GLIBC_TID: u64 = 720;
/// The same with musl,
/// <https://git.musl-libc.org/cgit/musl/tree/src/internal/pthread_impl.h?h=v1.2.5>.
const MUSL_TID: u64 = 48;
/// The key in a thread's dict under which asyncio keeps the running loop, up to 3.12.
const RUNNING_LOOP: &str = "__asyncio_running_event_loop__";

/// One `PyThreadState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadState {
    /// Where it stands.
    pub at: RemoteAddr,
    /// `interp`.
    pub interp: RemoteAddr,
    /// `dict`, null until it is first used.
    pub dict: RemoteAddr,
    /// `native_thread_id`.
    pub ns_tid: NsTid,
    /// `context`, null until the thread first runs under one.
    pub context: RemoteAddr,
    /// `context_ver`.
    pub context_version: u64,
}

/// The class of a loop.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoopType {
    /// Its module, such as `asyncio.unix_events` or `uvloop`; empty where it could not be read.
    pub module: String,
    /// Its name, such as `_UnixSelectorEventLoop` or `Loop`.
    pub name: String,
}

impl LoopType {
    /// The package it comes from: `asyncio` or `uvloop` in most workers.
    pub fn package(&self) -> &str {
        self.module.split('.').next().unwrap_or_default()
    }
}

/// The contexts that a thread has entered, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entered {
    /// Their addresses, outermost first; empty outside any poll.
    pub contexts: Vec<u64>,
    /// `context_ver`: as long as it stands still, so does everything above.
    pub version: u64,
}

/// The interpreters of the process.
pub fn interpreters<M: ReadMemory>(objects: &Objects<'_, M>) -> Result<Vec<RemoteAddr>, ReadError> {
    let head = objects.addresses.runtime.plus(objects.layout.interpreters_head);
    list(objects, head, objects.layout.interp_next, MAX_INTERPRETERS)
}

/// The thread states of one interpreter.
pub fn states<M: ReadMemory>(
    objects: &Objects<'_, M>,
    interp: RemoteAddr,
) -> Result<Vec<ThreadState>, ReadError> {
    let head = interp.plus(objects.layout.interp_threads);
    list(objects, head, objects.layout.thread_next, MAX_STATES)?
        .into_iter()
        .map(|at| state(objects, at))
        .collect()
}

/// A linked list's nodes, from the pointer at `head` on, and at most `limit`.
fn list<M: ReadMemory>(
    objects: &Objects<'_, M>,
    head: RemoteAddr,
    next: u64,
    limit: usize,
) -> Result<Vec<RemoteAddr>, ReadError> {
    let mut nodes = Vec::new();
    let mut at = objects.memory.read_ptr(head)?;
    while at.0 != 0 && nodes.len() < limit {
        nodes.push(at);
        at = objects.memory.read_ptr(at.plus(next))?;
    }
    Ok(nodes)
}

/// `PyThreadState.context` and the word behind it.
#[derive(Clone, Copy, PartialEq, Eq, AnyBitPattern)]
#[repr(C)]
pub struct ContextWords {
    /// Where the context stands, null where there is none.
    pub context: u64,
    /// `context_ver`.
    pub version: u64,
}

/// Both, as they are read at one moment.
pub fn context_words<M: ReadMemory>(
    objects: &Objects<'_, M>,
    state: RemoteAddr,
) -> Result<ContextWords, ReadError> {
    const { assert!(common::CONTEXT_VERSION == 8) };
    objects.memory.read(state.plus(objects.layout.thread_context))
}

/// The thread's id; what is no tid matches none.
pub fn ns_tid<M: ReadMemory>(
    objects: &Objects<'_, M>,
    state: RemoteAddr,
) -> Result<NsTid, ReadError> {
    match objects.layout.thread_id {
        ThreadId::Native { at } => {
            let id: u64 = objects.memory.read(state.plus(at))?;
            Ok(NsTid(u32::try_from(id).unwrap_or(0)))
        }
        ThreadId::Pthread { at } => {
            let descriptor = objects.memory.read_ptr(state.plus(at))?;
            // The first word of a descriptor is its own address, in both libraries.
            if objects.memory.read_ptr(descriptor)? != descriptor {
                return Ok(NsTid(0));
            }
            let at = if is_glibc(objects, descriptor)? { GLIBC_TID } else { MUSL_TID };
            objects.memory.read(descriptor.plus(at)).map(NsTid)
        }
    }
}

/// Whether a thread's descriptor is glibc's, whose third word is the descriptor's address once more;
/// musl's is a link to another thread's.
fn is_glibc<M: ReadMemory>(
    objects: &Objects<'_, M>,
    descriptor: RemoteAddr,
) -> Result<bool, ReadError> {
    Ok(objects.memory.read_ptr(descriptor.plus(16))? == descriptor)
}

fn state<M: ReadMemory>(
    objects: &Objects<'_, M>,
    at: RemoteAddr,
) -> Result<ThreadState, ReadError> {
    let ContextWords { context, version } = context_words(objects, at)?;
    Ok(ThreadState {
        at,
        interp: objects.memory.read_ptr(at.plus(objects.layout.thread_interp))?,
        dict: objects.memory.read_ptr(at.plus(objects.layout.thread_dict))?,
        ns_tid: ns_tid(objects, at)?,
        context: RemoteAddr(context),
        context_version: version,
    })
}

/// The class of the loop that a thread runs, `None` where it runs none.
pub fn running_loop<M: ReadMemory>(
    objects: &Objects<'_, M>,
    state: &ThreadState,
) -> Result<Option<LoopType>, WalkError> {
    let in_dict = || match state.dict.non_null() {
        Some(dict) => objects.dict_get(dict, RUNNING_LOOP),
        None => Ok(None),
    };
    let running = match objects.layout.running_loop {
        RunningLoop::InDict => in_dict()?,
        RunningLoop::Held { at } => match in_dict()? {
            Some(holder) => Some(objects.memory.read_ptr(holder.plus(at))?),
            None => None,
        },
        RunningLoop::InThread { at } => Some(objects.memory.read_ptr(state.at.plus(at))?),
    };
    let running = running.filter(|at| at.0 != 0 && *at != objects.addresses.none);
    let Some(running) = running else { return Ok(None) };
    let ty = objects.type_of(running)?;
    Ok(Some(LoopType { name: objects.type_name(ty)?, module: module_of(objects, ty) }))
}

/// A heap type's `__module__`; the name is for display, so failing to find it is no failure.
pub fn module_of<M: ReadMemory>(objects: &Objects<'_, M>, ty: RemoteAddr) -> String {
    let module = || {
        let flags: u64 = objects.memory.read(ty.plus(common::TYPE_FLAGS)).ok()?;
        if flags & common::FLAG_HEAP_TYPE == 0 {
            return None;
        }
        let dict = objects.memory.read_ptr(ty.plus(common::TYPE_DICT)).ok()?;
        let module = objects.dict_get(dict, "__module__").ok()??;
        objects.text(module).ok()?
    };
    module().iter().flat_map(TagText::chars).collect()
}

/// `PyContext`, from its type on:
/// <https://github.com/python/cpython/blob/v3.11.7/Include/internal/pycore_context.h>.
#[derive(Clone, Copy, AnyBitPattern)]
#[repr(C)]
pub(super) struct ContextHead {
    pub(super) ty: u64,
    pub(super) previous: u64,
    _vars: u64,
    _weakrefs: u64,
    pub(super) entered: u32,
    _pad: u32,
}

/// The contexts that the thread of `state` has entered. `None` where it never stood still for long
/// enough, or where the thread is gone.
pub fn entered<M: ReadMemory>(
    objects: &Objects<'_, M>,
    state: RemoteAddr,
    expected: NsTid,
) -> Option<Entered> {
    for _ in 0..MAX_LOOKS {
        let before = context_words(objects, state).ok()?;
        if ns_tid(objects, state).ok()? != expected {
            return None;
        }
        let contexts = chain(objects, RemoteAddr(before.context));
        // The version moves with every enter and exit, so this is a sequence lock:
        // https://github.com/python/cpython/blob/v3.11.7/Python/context.c.
        if let Some(contexts) = contexts
            && context_words(objects, state).ok()? == before
        {
            return Some(Entered { contexts, version: before.version });
        }
    }
    None
}

/// `context_ver` of the thread of `state`, `None` where that is not, or no longer, the thread `expected`.
pub fn version<M: ReadMemory>(
    objects: &Objects<'_, M>,
    state: RemoteAddr,
    expected: NsTid,
) -> Option<u64> {
    let words = context_words(objects, state).ok()?;
    (ns_tid(objects, state).ok()? == expected).then_some(words.version)
}

fn chain<M: ReadMemory>(objects: &Objects<'_, M>, top: RemoteAddr) -> Option<Vec<u64>> {
    let mut contexts = Vec::new();
    let mut at = top;
    while at.0 != 0 && contexts.len() < MAX_DEPTH {
        let head: ContextHead = objects.memory.read(at.plus(common::OB_TYPE)).ok()?;
        if RemoteAddr(head.ty) != objects.addresses.context_type {
            return None;
        }
        // The outermost context may be one that nobody entered: the thread's own, made on the
        // first `ContextVar.set` outside any run.
        if head.entered != 1 {
            break;
        }
        contexts.push(at.0);
        at = RemoteAddr(head.previous);
    }
    contexts.reverse();
    Some(contexts)
}
