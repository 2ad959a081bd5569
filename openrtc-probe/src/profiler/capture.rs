//! Looking at a thread that stalls, and at what it left behind: the facts that only the worker's memory
//! and this machine can tell.

use std::{collections::VecDeque, path::PathBuf};

use openrtc_common::{
    event::StallEnd,
    session::UNTAGGED,
    tag::TagText,
    wait::{Key, kind},
};

use super::{Now, Profiler, native::Natives, python::Seen, tag_of};
use crate::{
    host::stolen::{between, stolen_ns},
    model::{Capture, MAX_BYSTANDERS, Mode, Process, Stall, Subject, ThreadLook, Wanted, class_of},
    worker::process_name,
};

/// Readings that are kept: they are taken once a second, and a stall that lasts longer is judged by the
/// oldest one.
const MAX_READINGS: usize = 16;

/// What is kept to look at stalls with.
pub(super) struct Lookout {
    pub(super) stolen: StolenLog,
    pub(super) natives: Natives,
    pub(super) python: Seen,
}

impl Lookout {
    /// For a worker whose interpreter is this file.
    pub(super) fn new(interpreter: PathBuf) -> Self {
        Self {
            stolen: StolenLog::default(),
            natives: Natives::new(interpreter),
            python: Seen::default(),
        }
    }
}

/// What a hypervisor took from this machine, as it was read now and then.
#[derive(Debug, Default)]
pub(super) struct StolenLog(VecDeque<(u64, u64)>);

impl StolenLog {
    /// Takes a reading.
    pub(super) fn read(&mut self, now_ns: u64) {
        self.0.push_back((now_ns, stolen_ns()));
        if self.0.len() > MAX_READINGS {
            // The oldest stays: it bounds whatever began before it was taken.
            self.0.remove(1);
        }
    }

    /// What was taken since `from_ns`, at most; `None` where nothing was read before that.
    fn since(&self, from_ns: u64) -> Option<u64> {
        let (_, first_ns) = self.0.iter().rev().find(|(at_ns, _)| *at_ns <= from_ns)?;
        Some(between(*first_ns, stolen_ns()))
    }
}

impl Profiler {
    /// Looks at the threads whose stalls are due for it.
    pub(super) fn look_at_stalls(&mut self, now: Now, threads: &[ThreadLook]) {
        for wanted in self.ledger.stalls.take_wanted(now.monotonic_ns, threads) {
            let capture = self.capture(&wanted, now);
            // What was read after its end is of something else.
            if self.still_stalls(&wanted) {
                self.ledger.stalls.captured(wanted.stall_id, capture);
            }
        }
    }

    fn capture(&mut self, wanted: &Wanted, now: Now) -> Capture {
        Capture {
            at_ns: now.monotonic_ns.saturating_sub(wanted.started_at_ns),
            stack: self.stack(wanted),
            gil_held: self.has_gil(wanted),
            gil_holder: self.gil_holder(wanted),
            descriptor: self.descriptor(wanted),
            native: self.native_now(wanted, now),
        }
    }

    /// The kind of what the thread waits for in a system call that says it, or has waited for longest.
    fn descriptor(&self, wanted: &Wanted) -> Option<String> {
        let now = wanted.wait.and_then(|key| self.kind_of(&key, true));
        now.or_else(|| self.kind_of(&wanted.io?, false))
    }

    fn kind_of(&self, key: &Key, is_now: bool) -> Option<String> {
        if key.kind != kind::SYSCALL {
            return None;
        }
        let descriptor = match class_of(key.number).1 {
            Subject::Descriptor => key.detail as u32,
            // What is polled stands in memory, for as long as it is.
            Subject::Polled if is_now => self.python.first_polled(key.detail)?,
            Subject::Polled | Subject::Elsewhere => return None,
        };
        self.worker.descriptor_kind(descriptor)
    }

    /// A stall has ended: what it left behind is looked up now, before it is gone.
    pub(super) fn end_stall(&mut self, end: &StallEnd, seen_by: Mode, now: Now) {
        let tag = tag_of(&self.kernel, end.event.slot);
        let stall_id = self.ledger.stalls.end(end, &tag, seen_by);
        self.name(&tag, end.event.slot);
        let stolen_ns = self.lookout.stolen.since(end.event.started_at_ns);
        let Some(stall) = self.ledger.stalls.get_mut(stall_id) else { return };
        stall.anatomy.stolen_ns = stolen_ns;
        let holder = stall.anatomy.causes.cpu_holder();
        stall.anatomy.cpu_holder = holder.map(|pid| Process { pid, name: process_name(pid) });
        self.ledger.mark_slow(stall_id, now.monotonic_ns);
    }

    /// The stalls of which there is nothing more to wait for, with those who had to wait for them.
    pub(super) fn settle(&mut self, now: Now, threads: &[ThreadLook], all: bool) -> Vec<Stall> {
        let settled = self.ledger.stalls.settle(now.monotonic_ns, threads, all);
        let mut stalls = Vec::with_capacity(settled.len());
        for known in settled {
            let count = known.stall.anatomy.late.as_ref().map_or(0, |late| late.count);
            let late = if count > 0 { self.late_behind(known.started_at_ns()) } else { Vec::new() };
            stalls.push(self.ledger.list(known, &late, now.monotonic_ns));
        }
        stalls
    }

    /// The tags that were polled late behind the stall that began then.
    fn late_behind(&self, started_at_ns: u64) -> Vec<TagText> {
        let all = self.kernel.sessions().filter(|(slot, _)| *slot != UNTAGGED);
        let late = all.filter(|(_, session)| session.late_behind_at_ns == started_at_ns);
        late.map(|(_, session)| session.tag).take(MAX_BYSTANDERS).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::StolenLog;

    #[test]
    fn what_was_taken_is_known_only_from_the_first_reading_on() {
        let mut log = StolenLog::default();
        assert_eq!(log.since(100), None);
        (1..40).for_each(|second| log.read(second * 1_000));
        assert_eq!(log.since(999), None, "nothing was read before");
        assert!(log.since(1_000).is_some() && log.since(50_000).is_some());
    }
}
