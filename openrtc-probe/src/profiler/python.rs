//! Where in Python a stalling thread is, and who has the interpreter's lock.

use std::collections::HashMap;

use openrtc_common::{session::UNTAGGED, wait::kind};

use super::{Profiler, tag_of};
use crate::{
    cpython::{self, CodeCache, GilAt, GilHolder as Holder, Origin, PyThread, memory::RemoteAddr},
    model::{Frame, GilHolder, Stack, Wanted},
};

/// What is remembered of the interpreter between two looks at stalls.
#[derive(Default)]
pub(super) struct Seen {
    codes: CodeCache,
    gils: Vec<GilAt>,
    /// By their ids.
    threads: HashMap<u32, PyThread>,
}

impl Profiler {
    /// Takes in the interpreter's threads.
    pub(super) fn know_threads(&mut self, threads: &[PyThread]) {
        self.lookout.python.threads =
            threads.iter().map(|thread| (thread.tid, thread.clone())).collect();
    }

    /// The state of the thread of this id.
    pub(super) fn state_of(&self, tid: u32) -> Option<RemoteAddr> {
        self.lookout.python.threads.get(&tid).map(|thread| thread.state)
    }

    /// Finds the interpreter's locks: one, but for interpreters that were made with their own.
    pub(super) fn find_gils(&mut self) {
        let Ok(gils) = self.python.gils() else { return };
        if gils != self.lookout.python.gils {
            let places: Vec<_> = gils.iter().map(GilAt::futexes).collect();
            self.ledger.stalls.set_gil(&places);
            self.lookout.python.gils = gils;
        }
    }

    /// The Python frames of a stalling thread; `None` where they cannot be read.
    pub(super) fn stack(&mut self, wanted: &Wanted) -> Option<Stack> {
        let stack = self.read_stack(wanted.tid).or_else(|| {
            // It may have begun since.
            self.find_loops();
            self.read_stack(wanted.tid)
        })?;
        Some(Stack {
            frames: stack.frames.iter().map(frame).collect(),
            is_complete: stack.is_complete,
        })
    }

    fn read_stack(&mut self, tid: u32) -> Option<cpython::Stack> {
        let seen = &mut self.lookout.python;
        self.python.stack(seen.threads.get(&tid)?, &mut seen.codes, None)
    }

    /// Whether the poll still runs that was to be looked at.
    pub(super) fn still_stalls(&self, wanted: &Wanted) -> bool {
        let thread = self.thread_of(wanted.tid);
        thread.is_some_and(|thread| {
            !thread.polls.is_idle() && thread.polls.poll.at_ns == wanted.started_at_ns
        })
    }

    /// Whether a stalling thread has the interpreter's lock; `None` where that cannot be read.
    pub(super) fn has_gil(&self, wanted: &Wanted) -> Option<bool> {
        let ns_tid = self.lookout.python.threads.get(&wanted.tid)?.ns_tid;
        let mut is_known = true;
        for gil in &self.lookout.python.gils {
            match self.python.gil_holder(gil) {
                Ok(Some(holder)) if holder.ns_tid == ns_tid => return Some(true),
                Ok(_) => {}
                Err(_) => is_known = false,
            }
        }
        (is_known && !self.lookout.python.gils.is_empty()).then_some(false)
    }

    /// Who has the interpreter's lock, where the thread waits for it. It does so for some milliseconds at a
    /// time, and may be met in between.
    pub(super) fn gil_holder(&self, wanted: &Wanted) -> Option<GilHolder> {
        let sleeps = wanted.wait.filter(|wait| wait.kind == kind::SYSCALL);
        let wait = sleeps.or(wanted.gil)?;
        let mut gils = self.lookout.python.gils.iter();
        let gil = gils.find(|gil| gil.futexes().contains(&wait.detail))?;
        let Holder { ns_tid, .. } = self.python.gil_holder(gil).ok()??;
        let mut threads = self.lookout.python.threads.values();
        let tid = threads.find(|thread| thread.ns_tid == ns_tid)?.tid;
        if tid == wanted.tid {
            return None;
        }
        Some(GilHolder { tid, session_id: self.session_on(tid) })
    }

    /// The session that a thread runs for now.
    fn session_on(&self, tid: u32) -> Option<String> {
        let slot = self.thread_of(tid)?.polls.top()?.slot;
        (slot != UNTAGGED).then(|| self.ledger.id_of(&tag_of(&self.kernel, slot)))
    }
}

fn frame(frame: &cpython::Frame) -> Frame {
    Frame {
        function: frame.function().to_owned(),
        file: frame.file().to_owned(),
        line: frame.line,
        is_user: frame.origin() == Origin::User,
    }
}
