//! Which context a thread runs in at this moment, and its tag: what a sample is made of.
//!
//! The context is one word, and so is of one moment. What is found from there on may be of a little later, but
//! not of another session: a context outlives the polls in it, and its tag is read as a whole
//! ([`var::value`]).

use openrtc_common::{loss::Loss, tag::TagText};

use super::{
    layout::common,
    memory::{ReadError, ReadMemory, RemoteAddr},
    object::Objects,
    thread::{self, ContextHead, ContextWords},
    var::{self, VarAt},
};

/// What a thread runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// `context_ver`: goes up by one with each context that is entered or left.
    pub version: u64,
    /// The context that was entered last, if one is.
    pub inner: Option<Inner>,
    /// What the thread has where it has entered none, if that was found out; see [`Around::own`].
    pub own: Option<u64>,
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

/// Contexts of a thread that are no polls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Around<'a> {
    /// What polls are entered in.
    pub bases: &'a [u64],
    /// What the thread has where it has entered none: its own, which nobody ever enters, or null. `None` while that is
    /// not known.
    pub own: Option<u64>,
}

/// How often a thread is looked at that leaves its context while we read.
const TRIES: usize = 4;

/// What the thread of `state` runs in, and what that holds in `var`.
///
/// # Errors
/// Where the thread's state cannot be read.
pub fn read<M: ReadMemory>(
    objects: &Objects<'_, M>,
    state: RemoteAddr,
    var: Option<VarAt>,
    around: &Around<'_>,
) -> Result<Running, ReadError> {
    let mut words = thread::context_words(objects, state)?;
    let mut lost = Loss::TagUnreadable;
    for _ in 0..TRIES {
        let ContextWords { context, version } = words;
        if context == 0 || around.own == Some(context) {
            return Ok(Running { version, inner: None, own: Some(context) });
        }
        if around.bases.contains(&context) {
            return Ok(Running { version, inner: None, own: None });
        }
        let found = inner(objects, RemoteAddr(context), var);
        match found {
            // One that is entered, or was just now: what is not a thread's own was entered when it was met.
            Ok((inner, is_entered)) if is_entered || around.own.is_some_and(|own| own != 0) => {
                return Ok(Running { version, inner: Some(inner), own: None });
            }
            Ok(_) => {}
            Err(cause) => lost = cause,
        }
        words = thread::context_words(objects, state)?;
        if words.version == version {
            // It has stood still: so this is the thread's own, or nobody can tell what it is.
            let inner = found.is_err().then(|| unreadable(context, lost));
            let own = inner.is_none().then_some(context);
            return Ok(Running { version, inner, own });
        }
    }
    Ok(Running { version: words.version, inner: Some(unreadable(words.context, lost)), own: None })
}

fn unreadable(context: u64, cause: Loss) -> Inner {
    Inner { at: RemoteAddr(context), within: RemoteAddr(0), tag: Err(cause) }
}

/// The context at `at`, and whether it is entered now.
fn inner<M: ReadMemory>(
    objects: &Objects<'_, M>,
    at: RemoteAddr,
    var: Option<VarAt>,
) -> Result<(Inner, bool), Loss> {
    let head: ContextHead =
        objects.memory.read(at.plus(common::OB_TYPE)).map_err(|_| Loss::TagUnreadable)?;
    if RemoteAddr(head.ty) != objects.addresses.context_type {
        return Err(Loss::ContextMalformed);
    }
    let tag = var.map_or(Ok(None), |var| var::value(objects, at, var))?;
    let inner = Inner { at, within: RemoteAddr(head.previous), tag: Ok(tag) };
    Ok((inner, head.entered != 0))
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
        let bases = if is_known { vec![at] } else { Vec::new() };
        let around = Around { bases: &bases, own: None };
        let running = read(&world.objects(), RemoteAddr(state), Some(var), &around).unwrap();
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
        let none = |own| Running { version: 9, inner: None, own };
        let (own, at, _) = running(0, false);
        assert_eq!(own, none(Some(at)), "the thread's own");
        assert_eq!(running(1, true).0, none(None), "the loop's own");
    }

    #[test]
    fn what_is_no_context_is_lost_and_not_outside() {
        let mut world = World::new();
        let state = world.place();
        let lost = |world: &World| {
            let running = read(&world.objects(), RemoteAddr(state), None, &Around::default());
            let running = running.unwrap();
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
