//! Which context a thread runs in at this moment, and its tag: what a sample is made of.
//!
//! The context is one word, and so is of one moment. What is found from there on may be of a little later, but
//! not of another session: a context outlives the polls in it, and its tag is read as a whole
//! ([`var::value`]).

use bytemuck::AnyBitPattern;
use openrtc_common::{loss::Loss, tag::TagText};

use super::{
    layout::common,
    memory::{ReadError, ReadMemory, RemoteAddr},
    object::Objects,
    thread::{self, ContextWords},
    var::{self, VarAt},
};

/// What a thread runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// `context_ver`: goes up by one with each context that is entered or left.
    pub version: u64,
    /// The context that was entered last, if one is.
    pub inner: Option<Inner>,
}

/// An entered context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Where it stands.
    pub at: RemoteAddr,
    /// The one that it was entered in; null where that is none.
    pub within: RemoteAddr,
    /// What it holds in the tag variable.
    pub tag: Result<Option<TagText>, Loss>,
}

/// `PyContext`, from its type on:
/// <https://github.com/python/cpython/blob/v3.11.7/Include/internal/pycore_context.h>.
#[derive(Clone, Copy, AnyBitPattern)]
#[repr(C)]
struct Head {
    ty: u64,
    previous: u64,
    _vars: u64,
    _weakrefs: u64,
    entered: u32,
    _pad: u32,
}

/// How often a thread is looked at that leaves its context while we read: it lives for a microsecond where it is
/// a timer's own.
const TRIES: usize = 4;

/// What the thread of `state` runs in, and what that holds in `var`. Of a context among `known` nothing more is
/// read than that it is the one.
///
/// # Errors
/// Where the thread's state cannot be read.
pub fn read<M: ReadMemory>(
    objects: &Objects<'_, M>,
    state: RemoteAddr,
    var: Option<VarAt>,
    known: &[u64],
) -> Result<Running, ReadError> {
    let mut words = thread::context_words(objects, state)?;
    let mut lost = Loss::TagUnreadable;
    for _ in 0..TRIES {
        let ContextWords { context, version } = words;
        if context == 0 || known.contains(&context) {
            return Ok(Running { version, inner: None });
        }
        match inner(objects, RemoteAddr(context), var) {
            Ok(Some(inner)) => return Ok(Running { version, inner: Some(inner) }),
            Ok(None) => {}
            Err(cause) => lost = cause,
        }
        words = thread::context_words(objects, state)?;
        if words.version == version {
            // It did not leave it meanwhile: nobody has entered it, or nobody can tell what it is.
            let is_own = inner(objects, RemoteAddr(context), None) == Ok(None);
            let lost = Inner { at: RemoteAddr(context), within: RemoteAddr(0), tag: Err(lost) };
            return Ok(Running { version, inner: (!is_own).then_some(lost) });
        }
    }
    let lost = Inner { at: RemoteAddr(words.context), within: RemoteAddr(0), tag: Err(lost) };
    Ok(Running { version: words.version, inner: Some(lost) })
}

/// The context at `at`, `None` of one that nobody has entered.
fn inner<M: ReadMemory>(
    objects: &Objects<'_, M>,
    at: RemoteAddr,
    var: Option<VarAt>,
) -> Result<Option<Inner>, Loss> {
    let head: Head =
        objects.memory.read(at.plus(common::OB_TYPE)).map_err(|_| Loss::TagUnreadable)?;
    if RemoteAddr(head.ty) != objects.addresses.context_type {
        return Err(Loss::ContextMalformed);
    }
    if head.entered == 0 {
        return Ok(None);
    }
    let tag = var.map_or(Ok(None), |var| var::value(objects, at, var))?;
    Ok(Some(Inner { at, within: RemoteAddr(head.previous), tag: Ok(tag) }))
}

#[cfg(test)]
mod tests {
    use super::super::fake::World;
    use super::*;

    /// A thread in a context that holds `AJ_1`, entered within another one or not at all.
    fn running(entered: u64, is_known: bool) -> (Running, u64, u64) {
        let mut world = World::new();
        let (name, value) = (world.var("openrtc_session_id"), world.str("AJ_1"));
        let outer = world.context(1, 1, 0, 1);
        let at = world.context(name, value, outer, entered);
        let state = world.place();
        world.image.words(state + world.layout.thread_context, &[at, 9]);
        let var = VarAt { addr: RemoteAddr(name), hash: 5 };
        let known = if is_known { vec![at] } else { Vec::new() };
        let running = read(&world.objects(), RemoteAddr(state), Some(var), &known).unwrap();
        (running, at, outer)
    }

    #[test]
    fn an_entered_context_is_told_with_its_tag_and_the_one_around_it() {
        let (running, at, outer) = running(1, false);
        let inner = running.inner.unwrap();
        assert_eq!((running.version, inner.at.0, inner.within.0), (9, at, outer));
        let text: String = inner.tag.unwrap().unwrap().chars().collect();
        assert_eq!(text, "AJ_1");
    }

    #[test]
    fn outside_of_any_poll_there_is_none() {
        let none = Running { version: 9, inner: None };
        assert_eq!(running(0, false).0, none, "the thread's own");
        assert_eq!(running(1, true).0, none, "the loop's own");
    }

    #[test]
    fn what_is_no_context_is_lost_and_not_outside() {
        let mut world = World::new();
        let state = world.place();
        let lost = |world: &World| {
            let running = read(&world.objects(), RemoteAddr(state), None, &[]).unwrap();
            running.inner.unwrap().tag
        };
        world.image.words(state + world.layout.thread_context, &[0x7777_0000, 9]);
        assert_eq!(lost(&world), Err(Loss::TagUnreadable));
        let text = world.str("no context");
        world.image.words(text + 48, &[0, 0]);
        world.image.words(state + world.layout.thread_context, &[text, 9]);
        assert_eq!(lost(&world), Err(Loss::ContextMalformed));
    }
}
