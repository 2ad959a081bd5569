//! The ledger's last minute: seconds, stalls in them, sessions that ended.

use openrtc_common::tag::TagKey;

use super::Ledger;
use crate::model::{
    entry::{End, Mark},
    look::{Look, ThreadLook},
    record::{Recorder, Sample},
    snapshot::{LoopDelay, Session},
};

impl Ledger {
    /// From now on a poll of `threshold_ns` or more is a stall.
    pub fn set_threshold(&mut self, threshold_ns: u64) {
        self.threshold_ns = threshold_ns;
        self.stalls.set_threshold(threshold_ns);
    }

    /// Whether a second is over, and its sample is wanted.
    pub fn is_second_over(&self, now_ns: u64) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| recorder.is_due(now_ns))
    }

    /// Notes what has come since the last time: stalls that began, and polls that ended, of which the
    /// longest took `longest_ns`. `sample` is wanted once a second.
    pub fn note(&mut self, longest_ns: u64, threads: &[ThreadLook], sample: Option<Sample>) {
        let Some(recorder) = &mut self.recorder else { return };
        recorder.polls_ended(longest_ns);
        if let Some(sample) = sample {
            let open_ns = open_polls_ns(threads, sample.at_ns).into_iter().max();
            recorder.close(sample, open_ns.unwrap_or(0));
        }
        for (key, at_ns) in self.stalls.take_begun() {
            recorder.stall_began(at_ns);
            key.inspect(|key| self.recent.add(*key, at_ns));
        }
        for key in self.stalls.take_unheard() {
            match key.and_then(|key| self.sessions.get_mut(&key)) {
                Some(entry) => entry.base.stalls += 1,
                None => self.untagged_unheard += u64::from(key.is_none()),
            }
        }
    }

    /// Sessions that ended and were shown so before.
    pub(super) fn ended_rows(&mut self, now_ns: u64) -> Vec<Session> {
        let (sessions, recent) = (&self.sessions, &self.recent);
        let is_alive = |key: &TagKey| sessions.get(key).is_some_and(|it| it.end < End::Shown);
        self.ended.rows(now_ns, is_alive, |key| recent.count(key))
    }

    /// By how much the sessions' histories grow with this picture.
    pub(super) fn next_mark(&mut self, now_ns: u64) -> Option<Mark> {
        let over = self.recorder.as_ref().map_or(0, Recorder::over);
        let (marked, marked_at_ns) = self.marked;
        let seconds = over - marked;
        let mark = Mark { seconds, span_ns: now_ns.saturating_sub(marked_at_ns) };
        if self.before.is_some() && seconds == 0 {
            return None;
        }
        self.marked = (over, now_ns);
        Some(mark)
    }

    /// How long the loops did not answer.
    pub(super) fn loop_delay(&self, look: &Look, loops: usize) -> Option<LoopDelay> {
        let open_ns = open_polls_ns(&look.threads, look.at_ns);
        let recorder = self.recorder.as_ref()?;
        if self.was_sampled_lately(look.at_ns) && look.sampling.polls > 0 {
            // Polls that were sampled are in no histogram: the longest is known.
            let max_ns = recorder.longest_ns(&open_ns);
            return Some(LoopDelay { p50_ns: None, p99_ns: None, max_ns });
        }
        recorder.loop_delay(look, &open_ns, loops)
    }
}

/// How long the polls have lasted that run on loop threads.
fn open_polls_ns(threads: &[ThreadLook], now_ns: u64) -> Vec<u64> {
    let loops = threads.iter().filter(|thread| thread.is_loop());
    let polls = loops.filter_map(|it| it.thread.polls.open_poll(&it.reading(now_ns)));
    polls.map(|poll| poll.split.wall_ns).collect()
}
