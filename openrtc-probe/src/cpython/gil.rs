//! The GIL: where it is, and who has it.
//!
//! Up to 3.11 there is one; later ones may have one for each interpreter. A thread that wants it sleeps on
//! a futex in it, which is what tells such a sleep from others.

use std::ops::Range;

use super::{
    NsTid,
    layout::{GilState, common},
    memory::{ReadMemory, RemoteAddr},
    object::{Objects, WalkError},
    thread,
};

/// Bytes of the state of the GIL up to where its futexes begin: what tells who has it.
const MAX_STATE_BYTES: usize = common::GIL_FUTEXES.start as usize;
/// How often it is looked at while it goes from hand to hand.
const MAX_LOOKS: usize = 16;
/// `locked` of a GIL that somebody has.
const LOCKED: i32 = 1;

/// A GIL; it stays where it is for as long as its interpreter runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GilAt {
    /// Its state.
    pub at: RemoteAddr,
}

impl GilAt {
    /// Where the futexes are that are slept on by those who want it, or wait until it was taken.
    pub fn futexes(&self) -> Range<u64> {
        let Range { start, end } = common::GIL_FUTEXES;
        self.at.plus(start).0..self.at.plus(end).0
    }
}

/// Who has a GIL, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GilHolder {
    /// The thread's `PyThreadState`.
    pub state: RemoteAddr,
    /// Its id.
    pub ns_tid: NsTid,
}

/// The GILs of the process: one, but for interpreters that were made with their own.
pub fn all<M: ReadMemory>(objects: &Objects<'_, M>) -> Result<Vec<GilAt>, WalkError> {
    let pointer = match objects.layout.gil.state {
        GilState::InRuntime { at } => {
            return Ok(vec![GilAt { at: objects.addresses.runtime.plus(at) }]);
        }
        GilState::Pointed { at } => at,
    };
    let mut found = Vec::new();
    for interp in thread::interpreters(objects)? {
        let gil = GilAt { at: objects.memory.read_ptr(interp.plus(pointer))? };
        // An interpreter that is being made has none yet.
        if gil.at.0 != 0 && !found.contains(&gil) {
            found.push(gil);
        }
    }
    Ok(found)
}

/// Who has this GIL: `Ok(None)` where nobody has it.
///
/// # Errors
/// Where it cannot be read, or where it went from hand to hand at every look.
pub fn holder<M: ReadMemory>(
    objects: &Objects<'_, M>,
    gil: &GilAt,
) -> Result<Option<GilHolder>, WalkError> {
    let unknown = WalkError::Not { expected: "GIL", addr: gil.at };
    for _ in 0..MAX_LOOKS {
        let before = words(objects, gil)?;
        let (state, locked) = before;
        if locked != LOCKED {
            return Ok(None);
        }
        // Who has it keeps its state, so that this is its id if it has it still.
        let ns_tid = thread::ns_tid(objects, state);
        if words(objects, gil)? == before {
            return Ok(Some(GilHolder { state, ns_tid: ns_tid? }));
        }
    }
    Err(unknown)
}

/// Who has it or had it last, and whether somebody has it, both at one moment.
fn words<M: ReadMemory>(
    objects: &Objects<'_, M>,
    gil: &GilAt,
) -> Result<(RemoteAddr, i32), WalkError> {
    let layout = &objects.layout.gil;
    let mut bytes = [0; MAX_STATE_BYTES];
    objects.memory.read_fresh(gil.at, &mut bytes)?;
    let unknown = WalkError::Not { expected: "GIL", addr: gil.at };
    let holder = bytes.get(layout.holder as usize..).and_then(<[u8]>::first_chunk);
    let locked = bytes.get(layout.locked as usize..).and_then(<[u8]>::first_chunk);
    match (holder, locked) {
        (Some(holder), Some(locked)) => {
            Ok((RemoteAddr(u64::from_le_bytes(*holder)), i32::from_le_bytes(*locked)))
        }
        _ => Err(unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpython::fake::{LAYOUT, World};
    use crate::cpython::layout::{Gil, Layout};

    /// Who has the GIL at `at`, as far as it says.
    fn put(world: &mut World, at: u64, state: u64, locked: u64) {
        world.image.words(at, &[0, state, locked, 0]);
    }

    #[test]
    fn the_gil_s_holder_is_known_by_its_thread() {
        let mut world = World::new();
        let modules = world.names(&[]);
        world.interpreter(modules, &[[0, 77, 0, 1]]);
        let interp = thread::interpreters(&world.objects()).unwrap()[0];
        let state = thread::states(&world.objects(), interp).unwrap()[0].at;
        let at = world.place();
        world.image.words(interp.0 + 24, &[at]);
        put(&mut world, at, state.0, 1);
        let gils = all(&world.objects()).unwrap();
        assert_eq!(gils, [GilAt { at: RemoteAddr(at) }]);
        assert_eq!(gils[0].futexes(), at + 32..at + 208);
        let has = GilHolder { state, ns_tid: NsTid(77) };
        assert_eq!(holder(&world.objects(), &gils[0]), Ok(Some(has)));
        put(&mut world, at, state.0, 0);
        assert_eq!(holder(&world.objects(), &gils[0]), Ok(None), "who had it last");
        put(&mut world, at, 0xdead_0000, 1);
        assert!(holder(&world.objects(), &gils[0]).is_err());
        put(&mut world, at, state.0, 0xffff_ffff);
        assert_eq!(holder(&world.objects(), &gils[0]), Ok(None), "not made yet");
    }

    #[test]
    fn interpreters_that_share_a_gil_have_one() {
        let mut world = World::new();
        let (first, second, third) = (world.place(), world.place(), world.place());
        let interpreters = world.addresses.runtime.0;
        world.image.words(interpreters, &[first]);
        for (interp, next, gil) in [(first, second, 0x9000), (second, third, 0x9000), (third, 0, 0)]
        {
            world.image.words(interp, &[next, 0, 0, gil]);
        }
        let found = all(&world.objects());
        assert_eq!(found, Ok(vec![GilAt { at: RemoteAddr(0x9000) }]));
        let gil = Gil { state: GilState::InRuntime { at: 360 }, ..LAYOUT.gil };
        world.lay_out(Layout { gil, ..LAYOUT.clone() });
        let found = all(&world.objects());
        assert_eq!(found, Ok(vec![GilAt { at: world.addresses.runtime.plus(360) }]));
    }
}
