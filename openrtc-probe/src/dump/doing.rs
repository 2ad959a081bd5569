//! From what memory holds of tasks to what is said of them.

use openrtc_common::tag::TagText;

use super::{Doing, Frame, Future, State, Task, Thread};
use crate::{
    cpython::{
        Await, Code, CodeCache, End, Link, Origin, PyThread, Python, Stack, TaskSeen, VarAt,
        Waiter, memory::RemoteAddr,
    },
    model::{IdType, TypeNames, id_of},
};

/// Tells what tasks do; what is met again is read once.
pub(super) struct Teller<'p> {
    python: &'p Python,
    /// Names of types; those that could not be read are not in it.
    types: TypeNames,
    threads: Vec<ThreadSeen>,
}

/// A thread of Python's.
struct ThreadSeen {
    tid: u32,
    /// Where it is; `None` where it moved too fast.
    stack: Option<Stack>,
    /// What the context that it entered last holds in the session's variable, and that context; of the poll
    /// that the stack is of.
    tag: Option<(TagText, RemoteAddr)>,
}

impl ThreadSeen {
    fn of(python: &Python, thread: &PyThread, var: Option<VarAt>, codes: &mut CodeCache) -> Self {
        let entered = python.entered(thread);
        let tag = entered.as_ref().zip(var).and_then(|(entered, var)| {
            let context = RemoteAddr(*entered.contexts.last()?);
            Some((python.value(context, var).ok()??, context))
        });
        let stack = python.stack(thread, codes, None);
        let version = stack.as_ref().map(|stack| stack.version);
        let is_of_poll = entered.is_some_and(|entered| Some(entered.version) == version);
        Self { tid: thread.tid, stack, tag: tag.filter(|_| is_of_poll) }
    }
}

impl<'p> Teller<'p> {
    pub(super) fn new(
        python: &'p Python,
        threads: &[PyThread],
        var: Option<VarAt>,
        codes: &mut CodeCache,
    ) -> Self {
        let threads = threads.iter().map(|thread| ThreadSeen::of(python, thread, var, codes));
        Self { python, types: TypeNames::new(), threads: threads.collect() }
    }

    /// The threads that are in the context of a session: its tag, that context and where they are.
    pub(super) fn threads_in_sessions(&self) -> Vec<(TagText, RemoteAddr, Thread)> {
        let threads = self.threads.iter().filter_map(|thread| {
            let (tag, context) = thread.tag?;
            let found = thread.stack.as_ref()?;
            let stack = found.frames.iter().map(|at| place(&at.code, at.line)).collect();
            let is_complete = found.is_complete;
            Some((tag, context, Thread { tid: thread.tid, stack, is_complete }))
        });
        threads.collect()
    }

    /// What a task does; of one that moved it is not known.
    pub(super) fn task(&mut self, seen: TaskSeen) -> Task {
        let name = seen.name.map(|name| self.id(&name).0);
        let doing = seen.does.map(|does| self.doing(does)).unwrap_or_default();
        Task { name, doing }
    }

    /// The text of a tag or a name, and what it is.
    pub(super) fn id(&mut self, tag: &TagText) -> (String, IdType) {
        if let Some(ty) = tag.type_addr() {
            self.type_name(RemoteAddr(ty));
        }
        id_of(tag, &self.types)
    }

    fn doing(&mut self, does: Await) -> Doing {
        let Await { links, end, waiter } = does;
        let state = self.state(&links, end, waiter);
        let mut stack: Vec<Frame> = links.iter().rev().map(suspended).collect();
        let coroutine = match (stack.last(), end) {
            (Some(own), _) => Some(own.function.clone()).filter(|name| !name.is_empty()),
            (None, End::Opaque { ty }) => self.type_name(ty),
            (None, _) => None,
        };
        let mut is_complete = !matches!(end, End::Opaque { .. } | End::TooDeep);
        if let (State::Running { tid }, Some(own)) = (state, links.first()) {
            is_complete = false;
            if let Some(running) = tid.and_then(|tid| self.running(tid, own.frame)) {
                (stack, is_complete) = running;
            }
        }
        let awaits = match end {
            End::Opaque { ty } if !stack.is_empty() => self.type_name(ty),
            _ => None,
        };
        let is_complete = is_complete && stack.iter().all(|frame| !frame.file.is_empty());
        let waits_for = waiter.map(|waiter| Future {
            type_name: self.type_name(waiter.ty).unwrap_or_default(),
            task: waiter
                .is_task
                .then(|| waiter.name.map_or_else(String::new, |name| self.id(&name).0)),
        });
        Doing { state, coroutine, waits_for, stack, is_complete, awaits }
    }

    /// What a task's own coroutine, and the future that it waits for, say of it together.
    fn state(&self, links: &[Link], end: End, waiter: Option<Waiter>) -> State {
        match (waiter.map(|waiter| waiter.is_pending), links, end) {
            (None, [own], End::Runs) => State::Running { tid: self.thread_of(own.frame) },
            // It has not begun.
            (None, [_], End::Begins) => State::Ready,
            // Of an object of another kind it cannot be told; and who awaits something, or waits for
            // something, is suspended, and does not run.
            (None, [], _) | (_, _, End::Runs | End::Begins) => State::Unknown,
            (Some(Some(true) | None), ..) => State::Waiting,
            (Some(Some(false)) | None, ..) => State::Ready,
        }
    }

    /// The thread that is in the frame at `own`, as far as that can be told.
    fn thread_of(&self, own: RemoteAddr) -> Option<u32> {
        let is_in = |stack: &Stack| stack.frames.iter().any(|frame| frame.at == own);
        let mut threads = self.threads.iter();
        threads.find(|it| it.stack.as_ref().is_some_and(is_in)).map(|it| it.tid)
    }

    /// The stack of a thread down to the frame at `own`, and whether all of it is there.
    fn running(&self, tid: u32, own: RemoteAddr) -> Option<(Vec<Frame>, bool)> {
        let stack = self.threads.iter().find(|thread| thread.tid == tid)?.stack.as_ref()?;
        let last = stack.frames.iter().position(|frame| frame.at == own)?;
        let frames = stack.frames.iter().take(last + 1);
        Some((frames.map(|at| place(&at.code, at.line)).collect(), stack.is_complete))
    }

    fn type_name(&mut self, ty: RemoteAddr) -> Option<String> {
        if !self.types.contains_key(&ty.0) {
            self.types.insert(ty.0, self.python.type_name(ty)?);
        }
        self.types.get(&ty.0).cloned()
    }
}

/// Where a coroutine is; empty where its code could not be read.
fn suspended(link: &Link) -> Frame {
    link.code.as_deref().map_or_else(Frame::default, |code| place(code, link.line()))
}

fn place(code: &Code, line: Option<u32>) -> Frame {
    Frame {
        function: code.function.clone(),
        file: code.file.clone(),
        line,
        is_user: code.origin == Origin::User,
    }
}
