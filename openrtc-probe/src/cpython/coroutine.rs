//! What a task waits for: the coroutines that await one another, down to a future.
//!
//! Only what is suspended tells what it waits for; a coroutine that runs, has not begun or has ended is the
//! last of its chain. The worker runs while we read, so where a chain leads to a future it must be the one
//! that the task itself says it waits for; whether it stood still is for `seen.rs` to tell.

use std::{
    cell::{Cell, RefCell},
    cmp::Ordering,
    collections::HashMap,
    ops::ControlFlow,
    sync::Arc,
};

use openrtc_common::tag::TagText;

use super::{
    code::Code,
    frame::FrameAt,
    layout::{Awaiting, CoroutineFrame, StackEnd, common},
    memory::{ReadMemory, RemoteAddr},
    object::{Objects, WalkError},
    task::{self, AsyncioTypes, PENDING},
};

/// Objects that await one another that are looked at in one chain; what stands for another counts too. A step of
/// a task goes through all of them, so the limit of recursion (1000) is theirs as well.
const MAX_AWAITS: usize = 2048;
/// Coroutines of all chains together that are looked at: of a hundred thousand tasks seven each, three times.
const MAX_LINKS: usize = 1 << 21;
/// Words between the beginning of a frame's variables and the end of its stack, at most.
const MAX_STACK_WORDS: u64 = 1 << 16;

/// What a task does, as far as its own objects tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Await {
    /// From the task's own coroutine inwards; empty where the task runs an object of another kind.
    pub links: Vec<Link>,
    /// What the last of them waits for.
    pub end: End,
    /// The future that the task waits for; `None` while it runs or is about to.
    pub waiter: Option<Waiter>,
}

/// A coroutine, generator or asynchronous generator, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its frame, which tells it from any other while it lives.
    pub frame: RemoteAddr,
    /// What it runs; `None` where that could not be read.
    pub code: Option<Arc<Code>>,
    /// Its last instruction, in bytes of bytecode; negative before the first.
    pub offset: i64,
}

impl Link {
    /// The line that it is at.
    pub fn line(&self) -> Option<u32> {
        self.code.as_ref()?.line(self.offset)
    }
}

/// What the innermost coroutine of a chain waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The future that the task says it waits for.
    Future,
    /// Nothing: it runs.
    Runs,
    /// Nothing: it has not begun.
    Begins,
    /// Nothing that memory tells: it is a generator that gives way with a `yield` of its own.
    Yields,
    /// An object of this type, into which we cannot look.
    Opaque {
        /// Its type.
        ty: RemoteAddr,
    },
    /// The chain goes on, or leads back into itself.
    TooDeep,
}

/// The future that a task waits for, by its own account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Where it stands.
    pub at: RemoteAddr,
    /// Its type.
    pub ty: RemoteAddr,
    /// Whether it is a task.
    pub is_task: bool,
    /// What it is called, if it is a task.
    pub name: Option<TagText>,
    /// Whether it is not done; `None` where it is no future of the C implementation.
    pub is_pending: Option<bool>,
}

/// An [`Await`] as it stands in memory: two are equal where nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwaitAt {
    links: Vec<LinkAt>,
    end: End,
    waiter: Option<Waiter>,
}

/// A [`Link`] as it stands in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LinkAt {
    frame: RemoteAddr,
    code: RemoteAddr,
    offset: i64,
    /// One of these may be suspended without waiting for anything.
    is_generator: bool,
}

impl AwaitAt {
    /// With what `code` says of each code object.
    pub fn known(&self, mut code: impl FnMut(RemoteAddr) -> Option<Arc<Code>>) -> Await {
        let links = self.links.iter().map(|link| {
            let LinkAt { frame, offset, .. } = *link;
            Link { frame, code: code(link.code), offset }
        });
        Await { links: links.collect(), end: self.end, waiter: self.waiter }
    }
}

/// What an awaited object is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A coroutine or an asynchronous generator: suspended only where it waits.
    Coroutine,
    /// A generator.
    Generator,
    /// An object that stands for another, to which its first field points.
    Stand,
    /// `_asyncio.FutureIter`, whose first field is the future.
    FutureIter,
    /// Anything else.
    Opaque,
}

/// Types whose instances stand for the object that their first field points at: what a coroutine's
/// `__await__` makes, <https://github.com/python/cpython/blob/v3.13.0/Include/internal/pycore_genobject.h>,
/// the steps of an asynchronous generator and `anext` with a default,
/// <https://github.com/python/cpython/blob/v3.13.0/Objects/genobject.c>,
/// <https://github.com/python/cpython/blob/v3.13.0/Objects/iterobject.c>, and the iterator of a future,
/// <https://github.com/python/cpython/blob/v3.13.0/Modules/_asynciomodule.c>.
const KINDS: &[(&str, Kind)] = &[
    ("coroutine_wrapper", Kind::Stand),
    ("async_generator_asend", Kind::Stand),
    ("async_generator_athrow", Kind::Stand),
    ("anext_awaitable", Kind::Stand),
    ("_asyncio.FutureIter", Kind::FutureIter),
];

/// Reads chains; knows the types that it has met.
pub struct Walker<'w, M> {
    objects: &'w Objects<'w, M>,
    asyncio: &'w [AsyncioTypes],
    kinds: RefCell<HashMap<RemoteAddr, Kind>>,
    left: &'w Links,
}

/// How many coroutines may still be looked at.
pub struct Links(Cell<usize>);

impl Default for Links {
    fn default() -> Self {
        Self(Cell::new(MAX_LINKS))
    }
}

impl Links {
    fn spend(&self, links: usize) {
        self.0.set(self.0.get().saturating_sub(links));
    }
}

impl<'w, M: ReadMemory> Walker<'w, M> {
    /// One that has met no type yet.
    pub fn new(objects: &'w Objects<'w, M>, asyncio: &'w [AsyncioTypes], left: &'w Links) -> Self {
        Self { objects, asyncio, kinds: RefCell::default(), left }
    }

    /// What the task at `task` does.
    ///
    /// # Errors
    /// Where memory cannot be read, or an object is not what stood there before.
    pub fn look(&self, task: RemoteAddr) -> Result<AwaitAt, WalkError> {
        let Objects { memory, layout, .. } = self.objects;
        // While it is not done, its coroutine has not ended, and what that awaits is alive.
        if memory.read::<u32>(task.plus(layout.task_state))? != PENDING {
            return Err(WalkError::Not { expected: "pending task", addr: task });
        }
        let waiter = memory.read_ptr(task.plus(layout.task_fut_waiter))?;
        let waiter = waiter.non_null().map(|at| self.waiter(at)).transpose()?;
        let mut links = Vec::new();
        let root = memory.read_ptr(task.plus(layout.task_coro))?;
        let not = WalkError::Not { expected: "coroutine", addr: root };
        let followed = self.follow(root.non_null().ok_or(not)?, &mut links);
        let generator = links.iter().position(|link| link.is_generator);
        // Below the stack of a generator that only yields there may be anything.
        let nothing = || generator.map(|_| (End::Yields, None));
        let (end, future) = followed.or_else(|why| nothing().ok_or(why))?;
        self.left.spend(links.len());
        let is_proved = future.is_some() && future == waiter.map(|waiter| waiter.at);
        if is_proved {
            return Ok(AwaitAt { links, end, waiter });
        }
        // What is on the stack of a generator that only yields is not what it waits for.
        if let Some(generator) = generator {
            links.truncate(generator + 1);
            return Ok(AwaitAt { links, end: End::Yields, waiter });
        }
        if end == End::Future {
            // It did not wait for that one when the task was read.
            let expected = "future that the task waits for";
            return Err(WalkError::Not { expected, addr: task });
        }
        Ok(AwaitAt { links, end, waiter })
    }

    fn waiter(&self, at: RemoteAddr) -> Result<Waiter, WalkError> {
        let Objects { memory, layout, .. } = self.objects;
        let ty = self.objects.type_of(at)?;
        let is_any = |of: fn(&AsyncioTypes) -> RemoteAddr| {
            self.asyncio.iter().any(|types| self.objects.is_subtype(ty, of(types)))
        };
        let is_pending = if is_any(|types| types.future) {
            Some(memory.read::<u32>(at.plus(layout.task_state))? == PENDING)
        } else {
            None
        };
        let is_task = is_any(|types| types.task);
        let name = if is_task { task::name(self.objects, at).ok().flatten() } else { None };
        Ok(Waiter { at, ty, is_task, name, is_pending })
    }

    /// Goes from what awaits to what is awaited; the future at the end, if there is one.
    fn follow(
        &self,
        root: RemoteAddr,
        links: &mut Vec<LinkAt>,
    ) -> Result<(End, Option<RemoteAddr>), WalkError> {
        let mut at = root;
        // A chain that leads back into itself meets, sooner or later, the last of 1, 2, 4, ... objects.
        let (mut met, mut until) = (root, 1);
        for step in 1..=MAX_AWAITS.min(self.left.0.get()) {
            let ty = self.objects.type_of(at)?;
            let kind = self.kind(ty);
            at = match kind {
                Kind::Coroutine | Kind::Generator => {
                    let frame = self.frame_of(at)?;
                    let FrameAt { at: place, code, offset, .. } = frame;
                    let is_generator = kind == Kind::Generator;
                    links.push(LinkAt { frame: place, code, offset, is_generator });
                    match self.awaited(at, &frame)? {
                        ControlFlow::Continue(next) => next,
                        ControlFlow::Break(end) => return Ok((end, None)),
                    }
                }
                Kind::Stand => self.objects.memory.read_ptr(at.plus(common::FIRST_FIELD))?,
                Kind::FutureIter => {
                    let future = self.objects.memory.read_ptr(at.plus(common::FIRST_FIELD))?;
                    return Ok((End::Future, future.non_null()));
                }
                Kind::Opaque => return Ok((End::Opaque { ty }, None)),
            };
            if at == met {
                break;
            }
            if step == until {
                (met, until) = (at, 2 * until);
            }
        }
        Ok((End::TooDeep, None))
    }

    fn kind(&self, ty: RemoteAddr) -> Kind {
        let at = self.objects.addresses;
        if ty == at.coroutine_type || ty == at.async_generator_type {
            return Kind::Coroutine;
        }
        if ty == at.generator_type {
            return Kind::Generator;
        }
        *self.kinds.borrow_mut().entry(ty).or_insert_with(|| {
            let name = self.objects.type_name(ty).unwrap_or_default();
            KINDS.iter().find(|(known, _)| *known == name).map_or(Kind::Opaque, |(_, kind)| *kind)
        })
    }
}

impl<M: ReadMemory> Walker<'_, M> {
    /// The frame of the coroutine at `at`, which has not ended.
    fn frame_of(&self, at: RemoteAddr) -> Result<FrameAt, WalkError> {
        let Objects { memory, layout, addresses, .. } = self.objects;
        let place = match layout.coroutines.frame {
            CoroutineFrame::Embedded { at: inside } => at.plus(inside),
            CoroutineFrame::Pointed { at: pointer } => memory.read_ptr(at.plus(pointer))?,
        };
        let not = WalkError::Not { expected: "frame", addr: place };
        let frame = FrameAt::read(self.objects, place).ok_or(not)?;
        self.objects.expect(frame.code, addresses.code_type, "code object")?;
        Ok(frame)
    }

    /// What the coroutine at `at` waits for, or why it waits for nothing.
    ///
    /// States are numbered in the order of a coroutine's life, in all versions: created, suspended,
    /// suspended where it awaits, executing, ended,
    /// <https://github.com/python/cpython/blob/v3.13.0/Include/internal/pycore_frame.h>.
    fn awaited(
        &self,
        at: RemoteAddr,
        frame: &FrameAt,
    ) -> Result<ControlFlow<End, RemoteAddr>, WalkError> {
        let Objects { memory, layout, .. } = self.objects;
        let state = match layout.coroutines.awaiting {
            // Its stack is kept, and so its end known, only while it is suspended or has not begun.
            Awaiting::StackKept if frame.offset < 0 => Ordering::Less,
            Awaiting::StackKept => Ordering::Equal,
            Awaiting::InFrame { at, value } => memory.read::<i8>(frame.at.plus(at))?.cmp(&value),
            Awaiting::InCoroutine { at: state, value } => {
                memory.read::<i8>(at.plus(state))?.cmp(&value)
            }
        };
        match state {
            Ordering::Less => return Ok(ControlFlow::Break(End::Begins)),
            Ordering::Greater => return Ok(ControlFlow::Break(End::Runs)),
            Ordering::Equal => {}
        }
        let Some(end) = self.stack_end(frame.at)? else { return Ok(ControlFlow::Break(End::Runs)) };
        let awaited = end.offset(-8 * layout.coroutines.awaited.cast_signed());
        let awaited = RemoteAddr(memory.read::<u64>(awaited)? & !common::REFERENCE_TAG);
        let not = WalkError::Not { expected: "awaited object", addr: at };
        awaited.non_null().map(ControlFlow::Continue).ok_or(not)
    }

    /// Where the stack of the frame at `frame` ends; `None` where nothing is on it.
    fn stack_end(&self, frame: RemoteAddr) -> Result<Option<RemoteAddr>, WalkError> {
        let Objects { memory, layout, .. } = self.objects;
        let (base, depth) = match layout.coroutines.stack {
            StackEnd::Pointer { at } => return Ok(memory.read_ptr(frame.plus(at))?.non_null()),
            StackEnd::Depth { base, at } => (memory.read_ptr(frame.plus(base))?, at),
            StackEnd::Index { locals, at } => (frame.plus(locals), at),
        };
        let depth: i32 = memory.read(frame.plus(depth))?;
        let depth = u64::try_from(depth).ok();
        let depth = depth.filter(|at| (layout.coroutines.awaited..=MAX_STACK_WORDS).contains(at));
        Ok(depth.map(|depth| base.plus(8 * depth)))
    }
}

#[cfg(test)]
mod tests;
