//! Every map with its contract, and the constants that the daemon patches in.
//!
//! The arrays are `BPF_F_MMAPABLE`: the daemon reads counters, and writes the few fields that are
//! its own, without a system call. Slots of threads and sessions are handed out by a queue of free
//! slots that the daemon fills, so that nothing is ever allocated here.
//!
//! There is no per-CPU scratch map, on purpose: a uprobe's program can be preempted and another
//! thread's may run on the same CPU before it goes on.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, Queue, RingBuf},
};
use openrtc_common::{
    board::Board,
    config::{Config, Settings},
    loss::Loss,
    memo::{MAX_MEMOS, Memo},
    session::{MAX_SESSIONS, Session, Slot},
    tag::TagKey,
    thread::{MAX_THREADS, Thread},
};

/// Constants of this worker and this kernel; patched in before load and then frozen, so that the
/// verifier sees them as such.
///
/// Mutable to the compiler, which must not fold the placeholders below into the code, and may load
/// a field only where it is used: volatile loads of the whole cost more than the rest of a program.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.config")]
static mut CONFIG: Config = Config {
    tgid: 0,
    by_task: 0,
    python: openrtc_common::config::PyLayout {
        nodes: openrtc_common::hamt::NodeTypes { bitmap: 0, array: 0, collision: 0 },
        str_type: 0,
        int_type: 0,
        none: 0,
        context_vars: 0,
        hamt_root: 0,
        str_ascii_data: 0,
        str_wide_data: 0,
        token_old_value: 0,
        threads_in_context: 0,
        task_name: 0,
        reserved: 0,
    },
    kernel: openrtc_common::config::KernelLayout {
        task_tid: 0,
        task_tgid: 0,
        task_state: 0,
        task_charged: 0,
        task_stack: 0,
        has_task_pt_regs: 0,
        task_throttled: 0,
        task_queue: 0,
        queue_throttled: 0,
        reserved: 0,
    },
    registers: openrtc_common::config::SiteRegisters {
        run_enter: 0,
        run_exit: 0,
        context_enter: 0,
        context_exit: 0,
        set_var: 0,
        set_value: 0,
        reset_var: 0,
        reset_token: 0,
        step_task: 0,
        reserved: 0,
    },
};

/// One element; who writes what of it stands at [`Board`].
#[map]
pub static BOARD: Array<Board> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Slot of each followed thread, by thread id. Inserted here, and by the daemon on attach; removed
/// by the daemon once the thread has exited.
#[map]
pub static THREAD_SLOTS: HashMap<u32, u32> = HashMap::with_max_entries(MAX_THREADS, 0);

/// Slots again, each at its thread's id modulo the length: a hint, that saves most look-ups in
/// [`THREAD_SLOTS`]. It holds where the slot's own id is the thread's. Written and read here only.
#[map]
pub static NEAR_THREADS: Array<u32> = Array::with_max_entries(MAX_THREADS, 0);

/// The threads; who writes which field stands at [`Thread`].
#[map]
pub static THREADS: Array<Thread> = Array::with_max_entries(MAX_THREADS, BPF_F_MMAPABLE);

/// Free slots of [`THREADS`].
#[map]
pub static FREE_THREADS: Queue<u32> = Queue::with_max_entries(MAX_THREADS, 0);

/// Slot of each tag, by its content. Inserted here, and by the daemon on attach; removed by the
/// daemon once the session has ended.
#[map]
pub static SESSION_SLOTS: HashMap<TagKey, u32> = HashMap::with_max_entries(MAX_SESSIONS, 0);

/// The sessions' counters and histograms; slot 0 is `untagged`. Added to here; cleared by the daemon before a
/// slot is free again.
#[map]
pub static SESSIONS: Array<Slot> = Array::with_max_entries(MAX_SESSIONS, BPF_F_MMAPABLE);

/// Free slots of [`SESSIONS`].
#[map]
pub static FREE_SESSIONS: Queue<u32> = Queue::with_max_entries(MAX_SESSIONS, 0);

/// How often a variable was set or reset; only grows.
#[map]
pub static VAR_CHANGES: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What maps of variables were found to hold, at the place that [`Memo::place`] gives; written and
/// read here only.
#[map]
pub static MEMOS: Array<Memo> = Array::with_max_entries(MAX_MEMOS, 0);

/// Losses by cause, indexed by [`Loss`]; only grows.
#[map]
pub static LOSSES: Array<u64> = Array::with_max_entries(Loss::COUNT as u32, BPF_F_MMAPABLE);

/// Few events, drained by the daemon: new tags, ended stalls, new threads.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

/// A wakeup for the daemon's sampler, if it asked for one ([`Board::wants_wake`]).
#[map]
pub static WAKES: RingBuf = RingBuf::with_byte_size(4096, 0);

/// The constants.
#[inline(always)]
pub fn config() -> &'static Config {
    // SAFETY: nothing writes it once the programs are loaded.
    unsafe { (&raw const CONFIG).as_ref_unchecked() }
}

/// The settings.
#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    // SAFETY: a map value; of the settings the daemon alone is the writer.
    BOARD.get_ptr(0).map(|board| unsafe { &(*board).settings })
}

/// The counters in this slot.
#[inline(always)]
pub fn session(slot: u32) -> Option<*mut Session> {
    // The first field of the slot.
    SESSIONS.get_ptr_mut(slot).map(<*mut Slot>::cast)
}
