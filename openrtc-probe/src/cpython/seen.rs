//! Tasks seen as a whole: what each is called, whose it is and what it does, all at one time.
//!
//! A task that ends leaves its memory, that of its name, of its context and of its coroutines to the next one,
//! within microseconds and at the same places. So what belongs together is read together, in a short time,
//! and counts only if three looks in a row agree: two could both meet the same task's name and another's
//! session. What coroutines run is read between looks.

use openrtc_common::{loss::Loss, tag::TagText};

use super::{
    TRIES,
    code::CodeCache,
    coroutine::{Await, AwaitAt, Links, Walker},
    memory::{PageCache, ReadMemory, RemoteAddr},
    object::Objects,
    task::{self, AsyncioTypes, TaskAt},
    var::{self, VarAt},
};

/// Tasks that are looked at together: their objects stand in some pages in common, but a look at too many
/// takes long, in which memory changes hands.
const TOGETHER: usize = 16;

/// A task that stood still while it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskSeen {
    /// Its context.
    pub context: RemoteAddr,
    /// What it is called, `None` where it has no name.
    pub name: Option<TagText>,
    /// What its context holds in the variable that was asked for.
    pub tag: Option<TagText>,
    /// What it does; `None` where that changed faster than it could be read.
    pub does: Option<Await>,
}

/// Who a task is: while this stays the same, so does the task.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Who {
    context: RemoteAddr,
    name: Option<TagText>,
    tag: Option<TagText>,
}

/// What one look tells of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Glance {
    who: Result<Who, Loss>,
    does: Option<AwaitAt>,
}

/// Looks at tasks of one interpreter's memory.
pub struct Looker<'l, M> {
    /// The memory as it is at each moment.
    pub objects: &'l Objects<'l, M>,
    /// The types of tasks and futures.
    pub asyncio: &'l [AsyncioTypes],
    /// The variable that is asked for.
    pub var: Option<VarAt>,
    /// How much may still be looked at.
    pub left: Links,
}

impl<M: ReadMemory> Looker<'_, M> {
    /// Each of `tasks`, in their order; `None` where it is gone, or another one was there by then.
    pub fn look(&self, tasks: &[TaskAt], cache: &mut CodeCache) -> Vec<Option<TaskSeen>> {
        let chunks = tasks.chunks(TOGETHER);
        chunks.flat_map(|tasks| self.look_together(tasks, cache)).collect()
    }

    fn look_together(&self, tasks: &[TaskAt], cache: &mut CodeCache) -> Vec<Option<TaskSeen>> {
        let first = self.glances(tasks);
        let named = first.iter().map(|glance| self.known(glance, cache)).collect::<Vec<_>>();
        let looks = first.into_iter().zip(self.glances(tasks)).zip(self.glances(tasks));
        let looks = looks.zip(named).zip(tasks);
        let seen = looks.map(|((((one, two), three), does), task)| {
            if one == two && two == three && does.is_some() {
                return seen(one, does);
            }
            self.look_alone(task, cache)
        });
        seen.collect()
    }

    /// Looks at one that moves, until it stands still or it has been tried often enough.
    fn look_alone(&self, task: &TaskAt, cache: &mut CodeCache) -> Option<TaskSeen> {
        let glance = || self.glances(std::slice::from_ref(task)).pop();
        let mut last = None;
        for _ in 0..TRIES {
            let one = glance()?;
            let does = self.known(&one, cache);
            let (two, three) = (glance()?, glance()?);
            if one == two && two == three && does.is_some() {
                return seen(one, does);
            }
            last = (one.who == two.who && two.who == three.who).then_some(one);
        }
        seen(last?, None)
    }

    /// One look at each, page by page.
    fn glances(&self, tasks: &[TaskAt]) -> Vec<Glance> {
        let pages = PageCache::new(self.objects.memory);
        let objects = &self.objects.through(&pages);
        let walker = Walker::new(objects, self.asyncio, &self.left);
        let glance = |task: &TaskAt| Glance {
            who: self.who(objects, task.task),
            does: walker.look(task.task).ok(),
        };
        tasks.iter().map(glance).collect()
    }

    fn who<N: ReadMemory>(&self, objects: &Objects<'_, N>, task: RemoteAddr) -> Result<Who, Loss> {
        let mut types = self.asyncio.iter().map(|types| types.task);
        let task_at = types.find_map(|ty| task::pending(objects, ty, task));
        let TaskAt { context, .. } = task_at.ok_or(Loss::TagUnreadable)?;
        let name = task::name(objects, task)?;
        let tag = self.var.map_or(Ok(None), |var| var::value(objects, context, var))?;
        Ok(Who { context, name, tag })
    }

    fn known(&self, glance: &Glance, cache: &mut CodeCache) -> Option<Await> {
        Some(glance.does.as_ref()?.known(|code| cache.read(self.objects, code)))
    }
}

fn seen(glance: Glance, does: Option<Await>) -> Option<TaskSeen> {
    let Who { context, name, tag } = glance.who.ok()?;
    Some(TaskSeen { context, name, tag, does })
}
