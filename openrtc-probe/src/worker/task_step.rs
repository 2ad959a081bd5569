//! The instruction at which every step of a task begins: in `task_step_impl` of `asyncio`'s accelerator.
//!
//! The function is static, and only it sends into the task's coroutine. So the type `Task` is looked up
//! in the worker's memory, the file that its code is in is read, and from the functions that its types
//! name direct branches are followed to the one function that calls `PyIter_Send`. That is done alike
//! where the accelerator is a file of its own and where it is part of the interpreter; what is not
//! found just once is refused: <https://github.com/python/cpython/blob/v3.12.1/Modules/_asynciomodule.c>.

use std::{
    collections::{BTreeSet, HashSet},
    path::PathBuf,
};

use iced_x86::FlowControl;

use crate::{
    blocker::Blocker,
    cpython::{
        layout::common,
        memory::{LiveMemory, ReadMemory as _, RemoteAddr},
    },
};

use super::{
    Worker,
    binary::{self, Binary, ElfAddr, FileOffset},
    callers::MAX_FUNCTION_BYTES,
    flow::MachineCode,
    interpreter::{Found, Interpreter},
    reach,
    register::Register,
    site,
};

/// Calls or jumps between a root and the function: `Task.__init__`, its part in C, the eager start.
const MAX_HOPS: usize = 3;
/// Functions that are looked at.
const MAX_FUNCTIONS: usize = 1 << 14;
/// Segments of a file that are searched for types.
const MAX_SEGMENTS: usize = 8;
/// `PyTypeObject.tp_call` and `tp_init`:
/// <https://github.com/python/cpython/blob/v3.12.1/Include/cpython/object.h#L145>.
const TYPE_CALL: u64 = 128;
const TYPE_INIT: u64 = 296;
/// Static types, up to 3.11, whose calls are a task's steps. Later `Task.__init__` leads there too: it
/// runs the first step of an eager task.
const CALLABLES: [&str; 2] = ["TaskStepMethWrapper", "TaskWakeupMethWrapper"];

/// Where a task's step begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskStepSite {
    /// The path that names the accelerator's file to the kernel: to attach to.
    pub attach_path: PathBuf,
    /// The same file, as the worker's mount namespace names it.
    pub path: PathBuf,
    /// Where the function begins, in the file's addresses.
    pub function: ElfAddr,
    /// The instruction's address in the file.
    pub address: ElfAddr,
    /// Its place in the file, which is what the kernel is given.
    pub offset: FileOffset,
    /// The instruction, disassembled.
    pub instruction: String,
    /// Which register holds the task when it runs.
    pub register: Register,
}

/// What differs between versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// The function that sends into the coroutine, which only a step does.
    sender: &'static str,
    /// Which argument is the task: from 3.12 on the module's state comes before it.
    task: u8,
    /// Whether the types of [`CALLABLES`] are static.
    has_static_types: bool,
}

impl Shape {
    fn of(minor: u8) -> Self {
        let sender = if minor < 10 { "_PyGen_Send" } else { "PyIter_Send" };
        Self { sender, task: u8::from(minor >= 12), has_static_types: minor < 12 }
    }
}

fn refused(why: impl Into<String>) -> Blocker {
    Blocker::SiteRefused { what: "a task's step".into(), why: why.into() }
}

/// Finds the site in `worker`.
pub fn find(worker: &Worker, interpreter: &Interpreter) -> Result<TaskStepSite, Blocker> {
    let shape = Shape::of(interpreter.version.minor().1);
    let task_type = task_type(worker, interpreter)?;
    let memory = LiveMemory::new(worker.pid());
    let unreadable = |why| refused(format!("`_asyncio.Task` cannot be read: {why}"));
    let init = memory.read_ptr(task_type.plus(TYPE_INIT)).map_err(unreadable)?;
    let binary = file_of(worker, init, shape.sender)?;
    let found = Found { worker, binary, memory: &memory };
    let roots = roots(&found, task_type, init, shape)?;
    let binary = found.binary;
    let unknown = || refused(format!("the code of {} cannot be read", binary.path.display()));
    let first = roots.first().copied().ok_or_else(unknown)?;
    let (segment, bytes) = binary.code(first).ok_or_else(unknown)?;
    let program = Program {
        code: MachineCode { bytes: &bytes, addr: segment.addr },
        starts: &binary.function_starts().ok_or_else(unknown)?,
        sender: binary.symbol(shape.sender),
        slots: binary.slots_of(shape.sender),
    };
    let (function, site) = program.site(&roots, shape).map_err(refused)?;
    let [register] = *site.registers else { return Err(unknown()) };
    Ok(TaskStepSite {
        function,
        address: site.address,
        offset: FileOffset(site.address.0 - segment.addr + segment.offset),
        instruction: site.instruction,
        register,
        path: binary.path,
        attach_path: binary.open_path,
    })
}

fn task_type(worker: &Worker, interpreter: &Interpreter) -> Result<RemoteAddr, Blocker> {
    let threads = worker.tids().map_err(|why| Blocker::Unreadable {
        what: format!("/proc/{}/task", worker.pid()),
        why: format!("{why:#}"),
    })?;
    let task_type = worker.python(interpreter, &threads)?.task_type();
    task_type
        .map_err(|why| refused(format!("`_asyncio.Task` cannot be read: {why}")))?
        .ok_or_else(|| Blocker::NoTasks { pid: worker.pid() })
}

/// The file whose code is mapped at `function`.
fn file_of(worker: &Worker, function: RemoteAddr, sender: &'static str) -> Result<Binary, Blocker> {
    let mappings = binary::executables(worker)?;
    let unknown = || refused(format!("`Task.__init__` at {function} is in no file that is mapped"));
    let mapping = mappings
        .iter()
        .find(|mapping| (mapping.range.0..mapping.range.1).contains(&function.0))
        .ok_or_else(unknown)?;
    Binary::open(worker, mapping, &[sender])?.ok_or_else(unknown)
}

/// The functions from which the way to a step is followed.
fn roots(
    found: &Found<'_, LiveMemory>,
    task_type: RemoteAddr,
    init: RemoteAddr,
    shape: Shape,
) -> Result<Vec<ElfAddr>, Blocker> {
    let unreadable = |why| refused(format!("the types of `_asyncio` cannot be read: {why}"));
    let mut functions = vec![init];
    if shape.has_static_types {
        let type_type =
            found.memory.read_ptr(task_type.plus(common::OB_TYPE)).map_err(unreadable)?;
        let data = found.binary.segments.iter().filter(|s| s.writable).take(MAX_SEGMENTS);
        for segment in data {
            for (ty, name) in found.types_in(segment, type_type).map_err(unreadable)? {
                if CALLABLES.contains(&name.as_str()) {
                    let call = found.memory.read_ptr(ty.plus(TYPE_CALL)).map_err(unreadable)?;
                    functions.push(call);
                }
            }
        }
    }
    let in_file = |function| {
        let outside = || refused(format!("{function} is in another file than `Task.__init__`"));
        found.binary.code_addr(function).ok_or_else(outside)
    };
    functions.into_iter().map(in_file).collect()
}

/// The code of a file, and what tells its calls of the sender.
struct Program<'c> {
    code: MachineCode<'c>,
    /// Where its functions begin, in ascending order.
    starts: &'c [ElfAddr],
    /// The sender, where it is in this file.
    sender: Option<ElfAddr>,
    /// The words through which it is called.
    slots: HashSet<ElfAddr>,
}

/// What the instructions of one function tell.
#[derive(Default)]
struct Seen {
    sends: bool,
    /// Functions that it calls.
    calls: BTreeSet<ElfAddr>,
    /// Functions, or parts that were split off one, that it jumps to.
    jumps: BTreeSet<ElfAddr>,
}

impl Program<'_> {
    /// The function that is a task's step, and the instruction in it.
    fn site(&self, roots: &[ElfAddr], shape: Shape) -> Result<(ElfAddr, site::Found), String> {
        let function = self.step(roots, shape.sender)?;
        Ok((function, site::first_fit(self.code, function, shape.task..shape.task + 1)?))
    }

    /// The one function, within reach of the roots, that calls the sender. A call proves that it begins
    /// where it seems to, with its arguments in their registers: jumps lead to split-off parts too.
    fn step(&self, roots: &[ElfAddr], sender: &str) -> Result<ElfAddr, String> {
        let (mut known, mut called) = (BTreeSet::new(), BTreeSet::<ElfAddr>::new());
        let mut senders = Vec::new();
        let mut open: BTreeSet<ElfAddr> = roots.iter().copied().collect();
        for _ in 0..=MAX_HOPS {
            let mut next = BTreeSet::new();
            for function in open {
                if !known.insert(function) {
                    continue;
                }
                if known.len() > MAX_FUNCTIONS {
                    return Err(format!("{MAX_FUNCTIONS} functions are not all that it may be"));
                }
                let seen = self.look_at(function)?;
                if seen.sends {
                    senders.push(function);
                }
                called.extend(&seen.calls);
                next.extend(seen.calls.into_iter().chain(seen.jumps));
            }
            open = next;
        }
        match senders.as_slice() {
            [only] if called.contains(only) => Ok(*only),
            [only] => Err(format!("{only} calls {sender}, but nothing calls it")),
            several => {
                let seen: Vec<_> = several.iter().map(ToString::to_string).collect();
                let seen = if seen.is_empty() { "none".into() } else { seen.join(", ") };
                Err(format!("one function within reach should call {sender}, found: {seen}"))
            }
        }
    }

    /// Decodes a function from its beginning to that of the next, or to what is no code.
    fn look_at(&self, function: ElfAddr) -> Result<Seen, String> {
        let not_known = |_| format!("{function} is not where a known function begins");
        let index = self.starts.binary_search(&function).map_err(not_known)?;
        let limit = ElfAddr(function.0.saturating_add(MAX_FUNCTION_BYTES));
        let end = self.starts.get(index + 1).copied().unwrap_or(limit).min(limit);
        let linked = |slot: ElfAddr| self.slots.contains(&slot).then_some(slot);
        let mut seen = Seen::default();
        let mut address = function;
        while address < end {
            let Ok(instruction) = self.code.decode(address) else { break };
            let flow = instruction.flow_control();
            match flow {
                FlowControl::IndirectCall | FlowControl::IndirectBranch => {
                    seen.sends |= reach::through_table(&instruction, &linked).is_some();
                }
                FlowControl::Call
                | FlowControl::UnconditionalBranch
                | FlowControl::ConditionalBranch => {
                    let target = ElfAddr(instruction.near_branch_target());
                    seen.sends |= Some(target) == self.sender
                        || reach::stub(self.code, target, &linked).is_some();
                    if self.starts.binary_search(&target).is_ok() {
                        let is_call = flow == FlowControl::Call;
                        let to = if is_call { &mut seen.calls } else { &mut seen.jumps };
                        to.insert(target);
                    }
                }
                _ => {}
            }
            address = ElfAddr(instruction.next_ip());
        }
        Ok(seen)
    }
}

#[cfg(test)]
mod tests;
