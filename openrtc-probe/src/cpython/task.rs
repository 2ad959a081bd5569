//! All pending tasks, idle ones too: the sets that `_asyncio` keeps.

use crate::cpython::{
    layout::common,
    memory::{ReadMemory, RemoteAddr},
    object::{Objects, WalkError},
    thread,
};

/// Tasks that are looked at.
const MAX_TASKS: usize = 100_000;
/// `STATE_PENDING` of a task.
const PENDING: u32 = 0;

/// A pending `asyncio.Task` and its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskAt {
    /// The task.
    pub task: RemoteAddr,
    /// The context that its steps run under.
    pub context: RemoteAddr,
}

/// Every pending task of the C implementation; tasks that come or go meanwhile may be missed, those
/// that pend throughout are not.
pub fn tasks<M: ReadMemory>(objects: &Objects<'_, M>) -> Result<Vec<TaskAt>, WalkError> {
    let mut tasks = Vec::new();
    for interp in thread::interpreters(objects)? {
        let modules = objects.memory.read_ptr(interp.plus(objects.layout.interp_modules))?;
        let Some(module) = objects.dict_get(modules, "_asyncio")? else { continue };
        let names = objects.memory.read_ptr(module.plus(common::MODULE_DICT))?;
        let Some(task_type) = objects.dict_get(names, "Task")? else { continue };
        check_size(objects, task_type)?;
        for set in objects.layout.task_sets {
            let Some(set) = objects.dict_get(names, set)? else { continue };
            add(objects, task_type, set, &mut tasks)?;
        }
    }
    Ok(tasks)
}

fn check_size<M: ReadMemory>(
    objects: &Objects<'_, M>,
    task_type: RemoteAddr,
) -> Result<(), WalkError> {
    let bytes: u64 = objects.memory.read(task_type.plus(common::TYPE_BASICSIZE))?;
    if bytes == objects.layout.task_bytes {
        return Ok(());
    }
    Err(WalkError::Not { expected: "_asyncio.Task of the known size", addr: task_type })
}

/// Adds the tasks in a `set`, or in a `WeakSet`: an instance whose `data` is a `set` of weak
/// references, <https://github.com/python/cpython/blob/v3.11.7/Lib/_weakrefset.py>.
fn add<M: ReadMemory>(
    objects: &Objects<'_, M>,
    task_type: RemoteAddr,
    set: RemoteAddr,
    tasks: &mut Vec<TaskAt>,
) -> Result<(), WalkError> {
    let weak = objects.type_of(set)? != objects.addresses.set_type;
    let members = if weak { objects.attribute(set, "data")? } else { set };
    for member in objects.set(members)? {
        if tasks.len() >= MAX_TASKS {
            break;
        }
        let task = if weak {
            objects.memory.read_ptr(member.plus(common::WEAKREF_OBJECT))
        } else {
            Ok(member)
        };
        // A member that cannot be read has gone meanwhile.
        if let Some(task) = task.ok().and_then(|task| pending(objects, task_type, task)) {
            tasks.push(task);
        }
    }
    Ok(())
}

/// The task at `task`, if there is one and it is not done.
fn pending<M: ReadMemory>(
    objects: &Objects<'_, M>,
    task_type: RemoteAddr,
    task: RemoteAddr,
) -> Option<TaskAt> {
    let ty = objects.type_of(task).ok()?;
    if ty != task_type && !objects.is_subtype(ty, task_type) {
        return None;
    }
    let state: u32 = objects.memory.read(task.plus(objects.layout.task_state)).ok()?;
    let context = objects.memory.read_ptr(task.plus(objects.layout.task_context)).ok()?;
    if state != PENDING || objects.type_of(context).ok()? != objects.addresses.context_type {
        return None;
    }
    Some(TaskAt { task, context })
}
