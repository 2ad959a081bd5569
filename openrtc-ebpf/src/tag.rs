//! From a context to the slot of its tag.

use core::mem::MaybeUninit;

use openrtc_common::{
    config::{PyLayout, Settings},
    event::{Event, kind},
    hamt::{self, NodeNear},
    loss::Loss,
    memo::Memo,
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
    maps::{EVENTS, FREE_SESSIONS, MEMOS, SESSION_SLOTS, VAR_CHANGES, config, session},
    memory::WorkerMemory,
};

/// The part of a `Context` that a poll needs, from `ctx_vars` on, as it stands in the worker.
#[derive(Clone, Copy, AnyBitPattern)]
#[repr(C)]
struct Head {
    vars: u64,
    _weakrefs: u64,
    entered: u32,
    _pad: u32,
}

/// What a poll needs of a `Context`.
#[derive(Clone, Copy)]
pub struct Context {
    /// The map of its variables.
    pub vars: u64,
    /// Whether it is entered.
    pub is_entered: bool,
}

/// Of what [`read_head`] returns: an object's address is even.
const IS_ENTERED: u64 = 1;
/// The same: no address of user space.
const UNREADABLE: u64 = 1 << 63;

/// Reads the context at `addr`.
#[inline(always)]
pub fn context(addr: u64) -> Option<Context> {
    let head = read_head(addr.wrapping_add(u64::from(config().python.context_vars)));
    let vars = head & !IS_ENTERED;
    (head & UNREADABLE == 0).then_some(Context { vars, is_entered: vars != head })
}

/// The address of the map, and with it whether the context is entered.
///
/// Not inlined, and in one word: a function with little on its stack has it on the kernel's own, where
/// the kernel soon sees that a copy may go to. From 6.13 on the entry's larger stack is elsewhere, and there
/// the same check takes longer than the copy.
#[inline(never)]
fn read_head(addr: u64) -> u64 {
    match WorkerMemory.read::<Head>(addr) {
        Some(head) => head.vars & !(IS_ENTERED | UNREADABLE) | u64::from(head.entered != 0),
        None => UNREADABLE,
    }
}

/// The slot of the tag in `context`, which stands at `addr`. What cannot be read counts as lost
/// and goes to `untagged`.
#[inline(always)]
pub fn of_context(scratch: &mut Scratch, settings: &Settings, context: &Context, addr: u64) -> u32 {
    if settings.tag_var == 0 {
        return UNTAGGED;
    }
    if scratch.has_set != 0 {
        scratch.has_set = 0;
        forget();
    }
    // Read before the lookup: a set that comes in between makes what is found old.
    let generation = generation(settings);
    if let Some(slot) = recall(context.vars, generation) {
        return slot;
    }
    let found = match find(settings, context) {
        Ok(Some(value)) => slot_of(scratch, value, addr),
        Ok(None) => Ok(UNTAGGED),
        Err(cause) => Err(cause),
    };
    if let (Ok(slot), Some(generation)) = (found, generation) {
        remember(Memo::new(context.vars, generation, slot), context.vars);
    }
    or_untagged(found)
}

/// The generation of what is remembered now; `None` where nothing may be.
#[inline(always)]
fn generation(settings: &Settings) -> Option<u64> {
    if settings.remembers == 0 {
        return None;
    }
    let changes = VAR_CHANGES.get_ptr(0)?;
    // SAFETY: a map value; volatile, because other threads add to it. Both counts only grow, so
    // their sum never has the same value twice.
    let changes = unsafe { changes.read_volatile() };
    Some(changes.wrapping_add(settings.forgotten))
}

#[inline(always)]
fn recall(map: u64, generation: Option<u64>) -> Option<u32> {
    let memo = MEMOS.get_ptr(Memo::place(map))?;
    // SAFETY: a map value; one that is being written is known by its check.
    unsafe { memo.read_volatile() }.recall(map, generation?)
}

#[inline(always)]
fn remember(memo: Memo, map: u64) {
    if let Some(place) = MEMOS.get_ptr_mut(Memo::place(map)) {
        // SAFETY: as in `recall`.
        unsafe { place.write_volatile(memo) };
    }
}

/// A variable is about to be set or reset: nothing that is remembered of maps holds any more.
#[inline(always)]
pub fn forget() {
    if let Some(changes) = VAR_CHANGES.get_ptr_mut(0) {
        loss::add(changes, 1);
    }
}

#[inline(always)]
fn or_untagged(found: Result<u32, Loss>) -> u32 {
    found.unwrap_or_else(|cause| {
        loss::count(cause);
        UNTAGGED
    })
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

/// The slot of the tag that the object at `value` is. What cannot be read counts as lost and goes
/// to `untagged`.
#[inline(always)]
pub fn of_value(scratch: &mut Scratch, value: u64, context: u64) -> u32 {
    or_untagged(slot_of(scratch, value, context))
}

/// The slot of the name that the task at `task` has. What cannot be read counts as lost and goes to
/// `untagged`.
#[inline(always)]
pub fn of_task(scratch: &mut Scratch, task: u64, context: u64) -> u32 {
    let name = task.wrapping_add(u64::from(config().python.task_name));
    or_untagged(match WorkerMemory.read(name) {
        // A task that was not given a name yet: it is being made.
        Some(0) => Ok(UNTAGGED),
        Some(name) => slot_as(scratch, name, context, tag::read_name),
        None => Err(Loss::TagUnreadable),
    })
}

#[inline(always)]
fn slot_of(scratch: &mut Scratch, value: u64, context: u64) -> Result<u32, Loss> {
    slot_as(scratch, value, context, tag::read)
}

/// How the object at an address is read as a tag.
type ReadTag = fn(&WorkerMemory, &mut StrNear, &PyLayout, u64, &mut TagText) -> Result<bool, Loss>;

#[inline(always)]
fn slot_as(scratch: &mut Scratch, at: u64, context: u64, read: ReadTag) -> Result<u32, Loss> {
    let text = &mut scratch.tag;
    // SAFETY: a reference.
    unsafe { TagText::clear(&raw mut *text) };
    let mut near = MaybeUninit::<StrNear>::uninit();
    // SAFETY: `read` reads of it only what it has read from the worker.
    let near = unsafe { near.assume_init_mut() };
    if read(&WorkerMemory, near, &config().python, at, text)? {
        of_text(text, context)
    } else {
        Ok(UNTAGGED)
    }
}

#[inline(always)]
fn of_text(text: &TagText, context: u64) -> Result<u32, Loss> {
    let key = text.key();
    // SAFETY: the value is one aligned word, copied at once.
    if let Some(slot) = unsafe { SESSION_SLOTS.get(key) } {
        return Ok(*slot);
    }
    let Ok(Some(slot)) = FREE_SESSIONS.pop() else { return Err(Loss::SessionsFull) };
    open_session(slot, &key, text, context).ok_or(Loss::SessionsFull)
}

#[inline(always)]
fn open_session(slot: u32, key: &TagKey, text: &TagText, context: u64) -> Option<u32> {
    let session: *mut Session = session(slot)?;
    // SAFETY: the helper has no precondition.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    // SAFETY: a valid map value that nobody else uses: the slot was free until now.
    unsafe {
        (*session).tag = *text;
        (*session).context = context;
        (*session).counters.first_at_ns = now_ns;
        (*session).counters.last_at_ns = now_ns;
    }
    if SESSION_SLOTS.insert(key, slot, BPF_NOEXIST.into()).is_err() {
        // Another thread was first with the same tag: give the slot back and use that one's.
        // SAFETY: as above; the slot is still ours.
        unsafe { (*session).counters.first_at_ns = 0 };
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
