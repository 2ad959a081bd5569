//! All pending tasks, idle ones too: the sets or lists that `_asyncio` keeps.

use openrtc_common::{loss::Loss, tag::TagText};

use crate::cpython::{
    layout::{Tasks, common},
    memory::{ReadMemory, RemoteAddr},
    object::{Objects, WalkError},
    thread,
};

/// Tasks that are looked at.
const MAX_TASKS: usize = 100_000;
/// `sizeof(TaskObj)` at most.
const MAX_TASK_BYTES: usize = 512;
/// `STATE_PENDING` of a task.
pub const PENDING: u32 = 0;

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
        let Some((names, task_type)) = accelerator(objects, interp)? else { continue };
        match objects.layout.tasks {
            Tasks::Sets(sets) => {
                for set in sets {
                    let Some(set) = objects.dict_get(names, set)? else { continue };
                    add_set(objects, task_type, set, &mut tasks)?;
                }
            }
            Tasks::Lists { node, of_thread, of_interpreter } => {
                let states = thread::states(objects, interp)?;
                let of_threads = states.iter().map(|state| state.at.plus(of_thread));
                for head in of_threads.chain([interp.plus(of_interpreter)]) {
                    add_list(objects, task_type, head, node, &mut tasks)?;
                }
            }
        }
    }
    Ok(tasks)
}

/// The type of tasks in the first interpreter that has one: its functions are those of all.
pub fn task_type<M: ReadMemory>(objects: &Objects<'_, M>) -> Result<Option<RemoteAddr>, WalkError> {
    for interp in thread::interpreters(objects)? {
        if let Some((_, task_type)) = accelerator(objects, interp)? {
            return Ok(Some(task_type));
        }
    }
    Ok(None)
}

/// Two types of an interpreter's `_asyncio`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsyncioTypes {
    /// `Task`.
    pub task: RemoteAddr,
    /// `Future`, from which it is derived.
    pub future: RemoteAddr,
}

/// Those of each interpreter that has them.
pub fn asyncio_types<M: ReadMemory>(
    objects: &Objects<'_, M>,
) -> Result<Vec<AsyncioTypes>, WalkError> {
    let mut found = Vec::new();
    for interp in thread::interpreters(objects)? {
        let Some((names, task)) = accelerator(objects, interp)? else { continue };
        let Some(future) = objects.dict_get(names, "Future")? else { continue };
        found.push(AsyncioTypes { task, future });
    }
    Ok(found)
}

/// The names in the module `_asyncio` of an interpreter, and the type `Task` among them.
fn accelerator<M: ReadMemory>(
    objects: &Objects<'_, M>,
    interp: RemoteAddr,
) -> Result<Option<(RemoteAddr, RemoteAddr)>, WalkError> {
    let modules = objects.memory.read_ptr(interp.plus(objects.layout.interp_modules))?;
    let Some(module) = objects.dict_get(modules, "_asyncio")? else { return Ok(None) };
    let names = objects.memory.read_ptr(module.plus(common::MODULE_DICT))?;
    let Some(task_type) = objects.dict_get(names, "Task")? else { return Ok(None) };
    check_size(objects, task_type)?;
    Ok(Some((names, task_type)))
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
fn add_set<M: ReadMemory>(
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

/// Adds the tasks of a ring of nodes, `node` bytes into each task, that begins and ends at `head`.
///
/// A task that ends while we are at it leads nowhere: then what was found so far does not count, and the
/// walk is to be tried again. So each task is read as a whole, at one moment, and not from a cache.
fn add_list<M: ReadMemory>(
    objects: &Objects<'_, M>,
    task_type: RemoteAddr,
    head: RemoteAddr,
    node: u64,
    tasks: &mut Vec<TaskAt>,
) -> Result<(), WalkError> {
    let mut at = objects.memory.read_ptr(head)?;
    // A thread that has not used asyncio yet has no ring.
    while at != head && at.0 != 0 {
        if tasks.len() >= MAX_TASKS {
            let size = tasks.len() as u64;
            return Err(WalkError::TooLarge { what: "ring of tasks", addr: head, size });
        }
        let task = at.offset(-node.cast_signed());
        let found = Linked::read(objects, task, node)?;
        if found.ty != task_type && !objects.is_subtype(found.ty, task_type) {
            return Err(WalkError::Not { expected: "_asyncio.Task", addr: task });
        }
        // Linked tasks are pending: what is done has been taken out.
        if found.context.0 != 0 {
            tasks.push(TaskAt { task, context: found.context });
        }
        at = found.next;
    }
    Ok(())
}

/// What a ring's walk needs to know of a task.
struct Linked {
    ty: RemoteAddr,
    context: RemoteAddr,
    next: RemoteAddr,
}

impl Linked {
    fn read<M: ReadMemory>(
        objects: &Objects<'_, M>,
        task: RemoteAddr,
        node: u64,
    ) -> Result<Self, WalkError> {
        let mut bytes = [0; MAX_TASK_BYTES];
        let not = WalkError::Not { expected: "_asyncio.Task of a known size", addr: task };
        let bytes = bytes.get_mut(..node as usize + 8).ok_or(not)?;
        objects.memory.read_fresh(task, bytes)?;
        let word = |at: u64| {
            let word = bytes.get(at as usize..).and_then(<[u8]>::first_chunk);
            word.map(|word| RemoteAddr(u64::from_le_bytes(*word))).ok_or(not)
        };
        Ok(Self {
            ty: word(common::OB_TYPE)?,
            context: word(objects.layout.task_context)?,
            next: word(node)?,
        })
    }
}

/// What the task at `task` is called, `None` where it has no name yet.
pub fn name<M: ReadMemory>(
    objects: &Objects<'_, M>,
    task: RemoteAddr,
) -> Result<Option<TagText>, Loss> {
    let name = objects.memory.read_ptr(task.plus(objects.layout.task_name));
    match name.map_err(|_| Loss::TagUnreadable)?.non_null() {
        Some(name) => objects.name(name),
        None => Ok(None),
    }
}

/// The task at `task`, if there is one and it is not done.
pub fn pending<M: ReadMemory>(
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
