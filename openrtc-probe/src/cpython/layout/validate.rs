//! Proves a row of the table against the live interpreter before anything is built on it.

use std::fmt::Display;

use crate::{
    blocker::Blocker,
    cpython::{
        Tids,
        layout::common,
        memory::{ReadMemory, RemoteAddr},
        object::{Objects, WalkError},
        thread::{self, ThreadState},
    },
};

/// The worker runs while we look: a list may change under a walk, so it is tried this often.
const TRIES: usize = 3;

/// Checks sizes, pointers and ids that only the right offsets give.
///
/// # Errors
/// [`Blocker::LayoutMismatch`] names the first thing that is not as the row says.
pub fn validate<M: ReadMemory>(objects: &Objects<'_, M>, tids: &Tids) -> Result<(), Blocker> {
    sizes(objects)?;
    let mut last = mismatch("the list of interpreters is empty");
    for _ in 0..TRIES {
        match interpreters(objects, tids) {
            Ok(()) => return Ok(()),
            Err(blocker) => last = blocker,
        }
    }
    Err(last)
}

fn mismatch(what: impl Into<String>) -> Blocker {
    Blocker::LayoutMismatch { what: what.into() }
}

fn unreadable<E: Display>(what: &'static str) -> impl Fn(E) -> Blocker {
    move |why| mismatch(format!("{what}: {why}"))
}

/// The size of an instance, which each type carries, changes with nearly every change of a struct.
fn sizes<M: ReadMemory>(objects: &Objects<'_, M>) -> Result<(), Blocker> {
    let at = objects.addresses;
    let types = [
        ("PyContext_Type", at.context_type, common::CONTEXT_BYTES),
        ("PyContextVar_Type", at.context_var_type, common::VAR_BYTES),
        ("PyContextToken_Type", at.context_token_type, common::TOKEN_BYTES),
        ("PyUnicode_Type", at.str_type, objects.layout.str_bytes),
        ("PyDict_Type", at.dict_type, common::DICT_BYTES),
        ("PySet_Type", at.set_type, common::SET_BYTES),
        ("PyModule_Type", at.module_type, objects.layout.module_bytes),
        ("PyCode_Type", at.code_type, objects.layout.code.bytes),
        ("PyCoro_Type", at.coroutine_type, objects.layout.coroutines.bytes),
    ];
    for (name, ty, expected) in types {
        let bytes: u64 =
            objects.memory.read(ty.plus(common::TYPE_BASICSIZE)).map_err(unreadable(name))?;
        if bytes != expected {
            return Err(mismatch(format!("{name} makes {bytes} bytes, expected {expected}")));
        }
    }
    Ok(())
}

fn interpreters<M: ReadMemory>(objects: &Objects<'_, M>, tids: &Tids) -> Result<(), Blocker> {
    let interpreters = thread::interpreters(objects).map_err(unreadable("interpreters"))?;
    let mut known = 0;
    for interp in &interpreters {
        let modules = objects
            .memory
            .read_ptr(interp.plus(objects.layout.interp_modules))
            .map_err(WalkError::from)
            .and_then(|modules| objects.dict_get(modules, "sys"))
            .map_err(unreadable("sys.modules"))?;
        if modules.is_none() {
            return Err(mismatch("sys.modules holds no `sys`"));
        }
        for state in thread::states(objects, *interp).map_err(unreadable("threads"))? {
            check_thread(objects, *interp, state)?;
            known += usize::from(tids.contains_key(&state.ns_tid));
        }
    }
    match (interpreters.len(), known) {
        (0, _) => Err(mismatch("the list of interpreters is empty")),
        (_, 0) => Err(mismatch("none of the interpreter's threads is one of the process's")),
        _ => Ok(()),
    }
}

fn check_thread<M: ReadMemory>(
    objects: &Objects<'_, M>,
    interp: RemoteAddr,
    state: ThreadState,
) -> Result<(), Blocker> {
    if state.interp != interp {
        let (at, found) = (state.at, state.interp);
        return Err(mismatch(format!("thread state {at} belongs to {found}, not to {interp}")));
    }
    if state.dict.0 != 0 {
        objects
            .expect(state.dict, objects.addresses.dict_type, "dict")
            .map_err(unreadable("a thread's dict"))?;
    }
    if state.context.0 != 0 {
        objects
            .expect(state.context, objects.addresses.context_type, "Context")
            .map_err(unreadable("a thread's context"))?;
    }
    Ok(())
}
