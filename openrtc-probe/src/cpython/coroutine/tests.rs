//! Chains of awaits made by hand, whole ones and hostile ones.

use super::*;
use crate::cpython::fake::{ASYNC_GENERATOR, CODE, COROUTINE, GENERATOR, World};

const TASK: u64 = 0x2000;
const FUTURE: u64 = 0x3000;
const SUSPENDED: i8 = -1;
const RUNNING: i8 = 0;
const CREATED: i8 = -2;
/// `FutureObj.fut_state` of one that has a result.
const FINISHED: u64 = 1;

/// Objects, and the types that `_asyncio` makes.
struct Awaits {
    world: World,
    code: u64,
    left: Links,
}

impl Awaits {
    fn new() -> Self {
        let mut world = World::new();
        world.image.words(TASK + common::TYPE_BASE, &[FUTURE]);
        world.image.words(FUTURE + common::TYPE_BASE, &[0]);
        let code = world.object(CODE, &[]);
        Self { world, code, left: Links::default() }
    }

    /// An object of a type of this name, whose first field is `inner`.
    fn stand(&mut self, name: &str, inner: u64) -> u64 {
        let text = self.world.place();
        self.world.image.put(text, format!("{name}\0").as_bytes());
        let ty = self.world.place();
        self.world.image.words(ty + common::TYPE_NAME, &[text]);
        self.world.image.words(ty + common::TYPE_BASE, &[0]);
        self.world.object(ty, &[inner])
    }

    fn future(&mut self, state: u64) -> u64 {
        self.world.object(FUTURE, &[state])
    }

    fn future_iter(&mut self, future: u64) -> u64 {
        self.stand("_asyncio.FutureIter", future)
    }

    /// A coroutine of the type `ty` in this state, with `top` on its stack, at its fifth instruction.
    fn coroutine(&mut self, ty: u64, state: i8, top: u64) -> u64 {
        let at = self.world.place();
        let state = u64::from(state.cast_unsigned());
        let (instruction, one_object) = (self.code + 72 + 10, 1);
        let frame = [self.code, 0, 0, 0, 0, 0, 0, instruction, one_object, top];
        self.world.image.words(at, &[1, ty, 0, state]);
        self.world.image.words(at + 32, &frame);
        at
    }

    fn task(&mut self, coroutine: u64, waiter: u64) -> RemoteAddr {
        RemoteAddr(self.world.object(TASK, &[0, 0, coroutine, waiter]))
    }

    fn look(&self, task: RemoteAddr) -> Result<AwaitAt, WalkError> {
        let types = [AsyncioTypes { task: RemoteAddr(TASK), future: RemoteAddr(FUTURE) }];
        Walker::new(&self.world.objects(), &types, &self.left).look(task)
    }
}

fn frames(found: &AwaitAt) -> Vec<u64> {
    found.links.iter().map(|link| link.frame.0 - 32).collect()
}

#[test]
fn a_chain_is_followed_through_what_stands_for_others_to_the_future() {
    let mut it = Awaits::new();
    let future = it.future(0);
    let iter = it.future_iter(future);
    let innermost = it.coroutine(COROUTINE, SUSPENDED, iter);
    let wrapper = it.stand("coroutine_wrapper", innermost);
    let generator = it.coroutine(ASYNC_GENERATOR, SUSPENDED, wrapper);
    let step = it.stand("async_generator_asend", generator);
    let next = it.stand("anext_awaitable", step);
    // From 3.14 on a reference says in its lowest bits whose it is.
    let root = it.coroutine(COROUTINE, SUSPENDED, next | 1);
    let task = it.task(root, future);
    let found = it.look(task).unwrap();
    assert_eq!(frames(&found), [root, generator, innermost]);
    assert!(found.links.iter().all(|link| link.offset == 10 && link.code.0 == it.code));
    assert_eq!(found.end, End::Future);
    let waiter = found.waiter.unwrap();
    assert_eq!((waiter.at.0, waiter.is_task, waiter.is_pending), (future, false, Some(true)));
}

#[test]
fn another_task_is_named_and_not_followed() {
    let mut it = Awaits::new();
    let other = it.task(0, 0);
    let iter = it.future_iter(other.0);
    let root = it.coroutine(COROUTINE, SUSPENDED, iter);
    let task = it.task(root, other.0);
    let found = it.look(task).unwrap();
    assert_eq!((frames(&found), found.end), (vec![root], End::Future));
    assert!(found.waiter.is_some_and(|waiter| waiter.is_task));
}

#[test]
fn what_runs_or_is_due_waits_for_nothing() {
    let mut it = Awaits::new();
    let root = it.coroutine(COROUTINE, RUNNING, 0x1234);
    let task = it.task(root, 0);
    let found = it.look(task).unwrap();
    assert_eq!((frames(&found), found.end, found.waiter), (vec![root], End::Runs, None));
    let root = it.coroutine(COROUTINE, CREATED, 0x1234);
    let task = it.task(root, 0);
    assert_eq!(it.look(task).map(|found| found.end), Ok(End::Begins));

    let future = it.future(FINISHED);
    let iter = it.future_iter(future);
    let root = it.coroutine(COROUTINE, SUSPENDED, iter);
    let task = it.task(root, future);
    let found = it.look(task).unwrap();
    assert_eq!(found.waiter.and_then(|waiter| waiter.is_pending), Some(false), "it is woken");
}

#[test]
fn what_is_on_the_stack_of_a_generator_counts_only_where_it_leads_to_the_future() {
    let mut it = Awaits::new();
    let (future, elsewhere) = (it.future(0), it.future(0));
    let iter = it.future_iter(elsewhere);
    let kept = it.coroutine(COROUTINE, SUSPENDED, iter);
    let generator = it.coroutine(GENERATOR, SUSPENDED, kept);
    let root = it.coroutine(COROUTINE, SUSPENDED, generator);
    let task = it.task(root, 0);
    let found = it.look(task).unwrap();
    assert_eq!((frames(&found), found.end), (vec![root, generator], End::Yields), "a bare yield");
    // Memory below an empty stack may be of anything.
    it.world.image.put(kept + 24, &RUNNING.to_le_bytes());
    assert_eq!(it.look(task).map(|found| found.links.len()), Ok(2));
    it.world.image.words(generator + 104, &[0xdead_0000]);
    assert_eq!(it.look(task).map(|found| found.end), Ok(End::Yields));

    let iter = it.future_iter(future);
    let generator = it.coroutine(GENERATOR, SUSPENDED, iter);
    let root = it.coroutine(COROUTINE, SUSPENDED, generator);
    let task = it.task(root, future);
    let found = it.look(task).unwrap();
    assert_eq!((frames(&found), found.end), (vec![root, generator], End::Future), "yield from");
}

#[test]
fn a_chain_that_leads_to_another_future_is_torn() {
    let mut it = Awaits::new();
    let (future, elsewhere) = (it.future(0), it.future(0));
    let iter = it.future_iter(elsewhere);
    let root = it.coroutine(COROUTINE, SUSPENDED, iter);
    for waiter in [future, 0] {
        let task = it.task(root, waiter);
        assert!(it.look(task).is_err(), "{waiter:#x}");
    }
    let done = it.world.object(TASK, &[FINISHED, 0, root, elsewhere]);
    assert!(it.look(RemoteAddr(done)).is_err(), "what it ran may be gone");
}

#[test]
fn what_cannot_be_looked_into_is_told_by_its_type() {
    let mut it = Awaits::new();
    let opaque = it.stand("_cython_3_0_11.coroutine", 0);
    let root = it.coroutine(COROUTINE, SUSPENDED, opaque);
    for (coroutine, links) in [(root, vec![root]), (opaque, vec![])] {
        let task = it.task(coroutine, 0);
        let found = it.look(task).unwrap();
        assert_eq!(frames(&found), links);
        assert!(matches!(found.end, End::Opaque { .. }), "{:?}", found.end);
    }
}

#[test]
fn chains_without_an_end_are_left() {
    let mut it = Awaits::new();
    let first = it.coroutine(COROUTINE, SUSPENDED, 0);
    let last = it.coroutine(COROUTINE, SUSPENDED, first);
    let middle = it.coroutine(COROUTINE, SUSPENDED, last);
    it.world.image.words(first + 104, &[middle]);
    let before = it.coroutine(COROUTINE, SUSPENDED, first);
    let task = it.task(before, 0);
    let found = it.look(task).unwrap();
    assert_eq!(found.end, End::TooDeep);
    assert!(found.links.len() < 16, "{}", found.links.len());

    // One that stands for itself.
    let itself = it.stand("coroutine_wrapper", 0);
    it.world.image.words(itself + 16, &[itself]);
    let task = it.task(itself, 0);
    assert_eq!(it.look(task).unwrap().end, End::TooDeep);
}

#[test]
fn all_chains_together_are_bounded() {
    let mut it = Awaits::new();
    let future = it.future(0);
    let iter = it.future_iter(future);
    let inner = it.coroutine(COROUTINE, SUSPENDED, iter);
    let root = it.coroutine(COROUTINE, SUSPENDED, inner);
    let task = it.task(root, future);
    it.left = Links(Cell::new(3));
    assert_eq!(it.look(task).map(|found| found.end), Ok(End::Future));
    let found = it.look(task).unwrap();
    assert_eq!((found.links.len(), found.end), (1, End::TooDeep), "one is left");
    assert!(it.look(task).is_ok_and(|found| found.links.is_empty()));
}

#[test]
fn nonsense_is_refused_or_is_no_chain() {
    let mut it = Awaits::new();
    let future = it.future(0);
    let iter = it.future_iter(future);
    let root = it.coroutine(COROUTINE, SUSPENDED, iter);
    let task = it.task(root, future);
    for depth in [0_u32, u32::MAX, i32::MAX.cast_unsigned()] {
        it.world.image.put(root + 96, &depth.to_le_bytes());
        assert_eq!(it.look(task).map(|found| found.end), Ok(End::Runs), "a stack of {depth:#x}");
    }
    it.world.image.words(root + 32, &[future]);
    assert!(it.look(task).is_err(), "its code is a future");
    let task = it.task(0xdead_0000, future);
    assert!(it.look(task).is_err(), "nothing is there");
    let task = it.task(0, 0);
    assert!(it.look(task).is_err(), "it has none any more");
}
