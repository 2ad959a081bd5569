//! From a context to the slot of its tag.

use core::mem::MaybeUninit;

use openrtc_common::{
    config::Settings,
    event::{Event, kind},
    hamt::{self, NodeNear},
    loss::Loss,
    memory::Memory as _,
    session::{Session, UNTAGGED},
    tag::{self, StrNear, TagKey, TagText},
    thread::Scratch,
};

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_ktime_get_ns};
use aya_log_ebpf::debug;
use bytemuck::AnyBitPattern;

use crate::{
    loss,
    maps::{EVENTS, FREE_SESSIONS, SESSION_SLOTS, SESSIONS, config},
    memory::WorkerMemory,
};

/// The part of a `Context` that a poll needs, from `ctx_vars` on.
#[derive(Clone, Copy, AnyBitPattern)]
#[repr(C)]
pub struct Context {
    /// The map of its variables.
    pub vars: u64,
    _weakrefs: u64,
    /// Not 0 while it is entered.
    pub entered: u32,
    _pad: u32,
}

/// Reads the context at `addr`.
#[inline(always)]
pub fn context(addr: u64) -> Option<Context> {
    WorkerMemory.read(addr.wrapping_add(u64::from(config().python.context_vars)))
}

/// The slot of the tag in `context`, which stands at `addr`. What cannot be read counts as lost
/// and goes to `untagged`.
#[inline(always)]
pub fn of_context(scratch: &mut Scratch, settings: &Settings, context: &Context, addr: u64) -> u32 {
    if settings.tag_var == 0 {
        return UNTAGGED;
    }
    match find(settings, context) {
        Ok(Some(value)) => of_value(scratch, value, addr),
        Ok(None) => UNTAGGED,
        Err(cause) => {
            loss::count(cause);
            UNTAGGED
        }
    }
}

#[inline(always)]
fn find(settings: &Settings, context: &Context) -> Result<Option<u64>, Loss> {
    let python = &config().python;
    let root: u64 = WorkerMemory
        .read(context.vars.wrapping_add(u64::from(python.hamt_root)))
        .ok_or(Loss::TagUnreadable)?;
    let hash = settings.tag_var_hash as u32;
    let mut near = MaybeUninit::<NodeNear>::uninit();
    // SAFETY: `find` reads of it only what it has read from the worker.
    let near = unsafe { near.assume_init_mut() };
    hamt::find(&WorkerMemory, near, &python.nodes, root, settings.tag_var, hash)
}

/// The slot of the tag that the object at `value` is.
#[inline(always)]
pub fn of_value(scratch: &mut Scratch, value: u64, context: u64) -> u32 {
    let text = &mut scratch.tag;
    // SAFETY: a reference.
    unsafe { TagText::clear(&raw mut *text) };
    let mut near = MaybeUninit::<StrNear>::uninit();
    // SAFETY: `read` reads of it only what it has read from the worker.
    let near = unsafe { near.assume_init_mut() };
    match tag::read(&WorkerMemory, near, &config().python, value, text) {
        Ok(true) => of_text(text, context),
        Ok(false) => UNTAGGED,
        Err(cause) => {
            loss::count(cause);
            UNTAGGED
        }
    }
}

#[inline(always)]
fn of_text(text: &TagText, context: u64) -> u32 {
    let key = text.key();
    // SAFETY: the value is one aligned word, copied at once.
    if let Some(slot) = unsafe { SESSION_SLOTS.get(key) } {
        return *slot;
    }
    let Ok(Some(slot)) = FREE_SESSIONS.pop() else {
        loss::count(Loss::SessionsFull);
        return UNTAGGED;
    };
    open_session(slot, &key, text, context).unwrap_or(UNTAGGED)
}

#[inline(always)]
fn open_session(slot: u32, key: &TagKey, text: &TagText, context: u64) -> Option<u32> {
    let session: *mut Session = SESSIONS.get_ptr_mut(slot)?;
    // SAFETY: the helper has no precondition.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    // SAFETY: a valid map value that nobody else uses: the slot was free until now.
    unsafe {
        (*session).tag = *text;
        (*session).context = context;
        (*session).first_at_ns = now_ns;
        (*session).last_at_ns = now_ns;
    }
    if SESSION_SLOTS.insert(key, slot, BPF_NOEXIST.into()).is_err() {
        // Another thread was first with the same tag: give the slot back and use that one's.
        // SAFETY: as above; the slot is still ours.
        unsafe { (*session).first_at_ns = 0 };
        if FREE_SESSIONS.push(slot, 0).is_err() {
            loss::count(Loss::SessionsFull);
        }
        // SAFETY: the value is one aligned word, copied at once.
        return unsafe { SESSION_SLOTS.get(key) }.copied();
    }
    debug!(&(), "slot {} for a new tag", slot);
    send(&Event { kind: kind::SESSION, slot, context, ..Event::default() });
    Some(slot)
}

/// Hands an event to the daemon, or counts it as lost.
#[inline(always)]
pub fn send(event: &Event) {
    if EVENTS.output::<Event>(event, 0).is_err() {
        loss::count(Loss::RingFull);
    }
}
