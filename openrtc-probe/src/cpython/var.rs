//! Context variables: found by name, and their values in a context.

use std::collections::HashSet;

use bytemuck::AnyBitPattern;
use openrtc_common::{
    hamt::{self, NodeHead, NodeNear, Pair},
    loss::Loss,
    tag::TagText,
};

use crate::cpython::{
    layout::common,
    memory::{ReadError, ReadMemory, RemoteAddr, Shared},
    object::{Objects, WalkError},
    task, thread,
};

/// Nodes of all contexts' maps that are looked at for their keys.
const MAX_NODES: usize = 1 << 19;
/// `PyHamtNode_Bitmap.b_array` and `PyHamtNode_Collision.c_array`.
const PAIRS: u64 = 32;
/// Pairs of one bitmap node: one for each of its 32 bits.
const MAX_PAIRS: u64 = 32;
/// `PyHamtNode_Array.a_array`, of 32 children.
const CHILDREN: u64 = 16;

/// A `ContextVar`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VarAt {
    /// Where it stands: its identity.
    pub addr: RemoteAddr,
    /// Its hash, folded as the maps use it ([`hamt::fold_hash`]).
    pub hash: u32,
}

/// `PyContextVar`, from its type on:
/// <https://github.com/python/cpython/blob/v3.11.7/Include/internal/pycore_context.h>.
#[derive(Clone, Copy, AnyBitPattern)]
#[repr(C)]
struct VarHead {
    ty: u64,
    name: u64,
    _default: u64,
    _cached: u64,
    _cached_tsid: u64,
    _cached_tsver: u64,
    hash: u64,
}

/// The variables of each of `names`, by address: those that a module holds as a global, and those that a
/// live context holds a value of. A module that was imported twice, or loaded anew, has made two.
pub fn find<M: ReadMemory>(
    objects: &Objects<'_, M>,
    names: &[&str],
) -> Result<Vec<Vec<VarAt>>, WalkError> {
    let mut candidates = globals_of_modules(objects)?;
    candidates.extend(keys_of_contexts(objects)?);
    candidates.sort_unstable();
    candidates.dedup();
    let mut found = vec![Vec::new(); names.len()];
    for addr in candidates {
        let Some(head) = variable(objects, addr) else { continue };
        let hash = hamt::fold_hash(head.hash);
        for (found, name) in found.iter_mut().zip(names) {
            if objects.is_str(RemoteAddr(head.name), name) {
                found.push(VarAt { addr, hash });
            }
        }
    }
    Ok(found)
}

/// The variable at `addr`, if there is one.
fn variable<M: ReadMemory>(objects: &Objects<'_, M>, addr: RemoteAddr) -> Option<VarHead> {
    let var_type = objects.addresses.context_var_type;
    if objects.type_of(addr).ok()? != var_type {
        return None;
    }
    let head: VarHead = objects.memory.read(addr.plus(common::OB_TYPE)).ok()?;
    (RemoteAddr(head.ty) == var_type).then_some(head)
}

/// Everything that modules hold as globals.
fn globals_of_modules<M: ReadMemory>(
    objects: &Objects<'_, M>,
) -> Result<Vec<RemoteAddr>, WalkError> {
    let mut found = Vec::new();
    for interp in thread::interpreters(objects)? {
        let modules = objects.memory.read_ptr(interp.plus(objects.layout.interp_modules))?;
        for module in objects.dict(modules)? {
            // A module that cannot be read is being changed now, or is no module at all.
            let Ok(mut globals) = globals(objects, module.value) else { continue };
            found.append(&mut globals);
        }
    }
    Ok(found)
}

/// The values of a module's globals.
fn globals<M: ReadMemory>(
    objects: &Objects<'_, M>,
    module: RemoteAddr,
) -> Result<Vec<RemoteAddr>, WalkError> {
    if !objects.is_subtype(objects.type_of(module)?, objects.addresses.module_type) {
        return Err(WalkError::Not { expected: "module", addr: module });
    }
    let dict = objects.memory.read_ptr(module.plus(common::MODULE_DICT))?;
    Ok(objects.dict(dict)?.iter().map(|entry| entry.value).collect())
}

/// Everything that contexts hold values of.
fn keys_of_contexts<M: ReadMemory>(
    objects: &Objects<'_, M>,
) -> Result<HashSet<RemoteAddr>, WalkError> {
    let mut contexts: Vec<_> = task::tasks(objects)?.iter().map(|task| task.context).collect();
    for interp in thread::interpreters(objects)? {
        contexts.extend(thread::states(objects, interp)?.iter().map(|state| state.context));
    }
    let mut keys = Keys::default();
    for context in contexts {
        // A context that cannot be read has gone meanwhile.
        let Ok(()) = keys.add(objects, context) else { continue };
    }
    Ok(keys.keys)
}

/// The variables that some contexts hold values of. Tasks share most of what they hold, so each node
/// is looked at once.
#[derive(Default)]
struct Keys {
    keys: HashSet<RemoteAddr>,
    nodes: HashSet<RemoteAddr>,
}

impl Keys {
    /// Adds those of `context`.
    fn add<M: ReadMemory>(
        &mut self,
        objects: &Objects<'_, M>,
        context: RemoteAddr,
    ) -> Result<(), WalkError> {
        objects.expect(context, objects.addresses.context_type, "Context")?;
        let map = objects.memory.read_ptr(context.plus(common::CONTEXT_VARS))?;
        let mut open = vec![objects.memory.read_ptr(map.plus(common::HAMT_ROOT))?];
        while let Some(node) = open.pop() {
            if self.nodes.len() < MAX_NODES && self.nodes.insert(node) {
                self.visit(objects, node, &mut open)?;
            }
        }
        Ok(())
    }

    /// Adds a node's keys, and its children to `open`; the walk that looks up one key is
    /// [`hamt::find`].
    fn visit<M: ReadMemory>(
        &mut self,
        objects: &Objects<'_, M>,
        node: RemoteAddr,
        open: &mut Vec<RemoteAddr>,
    ) -> Result<(), ReadError> {
        let types = &objects.shared.nodes;
        let head: NodeHead = objects.memory.read(node)?;
        if head.ty == types.array {
            let children: [u64; 32] = objects.memory.read(node.plus(CHILDREN))?;
            open.extend(children.into_iter().filter(|child| *child != 0).map(RemoteAddr));
        } else if head.ty == types.bitmap || head.ty == types.collision {
            for index in 0..(head.size / 2).min(MAX_PAIRS) {
                let pair: Pair = objects.memory.read(node.plus(PAIRS + 16 * index))?;
                match pair.key {
                    0 => open.push(RemoteAddr(pair.value)),
                    key => drop(self.keys.insert(RemoteAddr(key))),
                }
            }
        }
        Ok(())
    }
}

/// How often a context is looked at whose variables change under the look.
const TRIES: usize = 3;

/// What `var` is to us in `context`, `None` where it has no value or the value `None`.
///
/// A context's map is immutable and every `set` replaces it; so as long as the context points at the
/// same map, all that was read of it was alive. That makes the pointer a sequence lock.
///
/// # Errors
/// [`Loss::ContextMalformed`] where no context stands there any more, [`Loss::TagUnreadable`] where
/// it never stood still, and those of [`hamt::find`] and [`Objects::tag`].
pub fn value<M: ReadMemory>(
    objects: &Objects<'_, M>,
    context: RemoteAddr,
    var: VarAt,
) -> Result<Option<TagText>, Loss> {
    for _ in 0..TRIES {
        let map = map_of(objects, context)?;
        let found = look_up(objects, map, var);
        if map_of(objects, context)? == map {
            return found;
        }
    }
    Err(Loss::TagUnreadable)
}

/// `PyContext`, from its type on, up to `ctx_vars`.
#[derive(Clone, Copy, AnyBitPattern)]
#[repr(C)]
struct ContextHead {
    ty: u64,
    _previous: u64,
    vars: u64,
}

fn map_of<M: ReadMemory>(
    objects: &Objects<'_, M>,
    context: RemoteAddr,
) -> Result<RemoteAddr, Loss> {
    const { assert!(common::CONTEXT_VARS == common::OB_TYPE + 16) };
    let head: ContextHead =
        objects.memory.read(context.plus(common::OB_TYPE)).map_err(|_| Loss::TagUnreadable)?;
    // A context that was freed has given up its map.
    if RemoteAddr(head.ty) == objects.addresses.context_type && head.vars != 0 {
        return Ok(RemoteAddr(head.vars));
    }
    Err(Loss::ContextMalformed)
}

fn look_up<M: ReadMemory>(
    objects: &Objects<'_, M>,
    map: RemoteAddr,
    var: VarAt,
) -> Result<Option<TagText>, Loss> {
    let root = objects.memory.read_ptr(map.plus(common::HAMT_ROOT));
    let root = root.map_err(|_| Loss::TagUnreadable)?;
    let memory = Shared(objects.memory);
    let mut near = NodeNear::default();
    let nodes = &objects.shared.nodes;
    match hamt::find(&memory, &mut near, nodes, root.0, var.addr.0, var.hash)? {
        Some(value) => objects.tag(RemoteAddr(value)),
        None => Ok(None),
    }
}
