//! Ended stalls that are kept for display: the same one again and again is one entry.

use std::collections::VecDeque;

use openrtc_common::tag::TagKey;

use super::{cause::Class, snapshot::Repeats, stalls::Known};

/// Entries that are kept.
const KEPT: usize = 50;
/// What repeats within this time of the first is one entry.
const WITHIN_NS: i128 = 60_000_000_000;

/// Ended stalls, the last to end first.
#[derive(Debug, Default)]
pub(super) struct Folded(VecDeque<Known>);

/// What makes two stalls the same one: the session, the first cause, and the user's line.
#[derive(PartialEq, Eq)]
struct Sameness<'a> {
    key: Option<TagKey>,
    class: Option<Class>,
    place: Option<(&'a str, Option<u32>)>,
}

impl<'a> Sameness<'a> {
    fn of(known: &'a Known) -> Self {
        let anatomy = &known.stall.anatomy;
        let user = anatomy.stack().and_then(|stack| stack.user());
        Self {
            key: known.key,
            class: anatomy.causes.first(),
            place: user.map(|frame| (frame.file.as_str(), frame.line)),
        }
    }
}

impl Folded {
    /// Adds one. An entry shows its worst.
    pub(super) fn add(&mut self, known: Known) {
        let at_unix_ns = known.stall.started_at_unix_ns;
        let same = Sameness::of(&known);
        let is_its = |entry: &Known| {
            let first_ns = entry.stall.repeats.first_unix_ns;
            at_unix_ns - first_ns < WITHIN_NS && Sameness::of(entry) == same
        };
        let before = self.0.iter().position(is_its).and_then(|place| self.0.remove(place));
        let repeats = before.as_ref().map_or(
            Repeats { count: 0, total_ns: 0, first_unix_ns: at_unix_ns, last_unix_ns: at_unix_ns },
            |entry| entry.stall.repeats,
        );
        let repeats = Repeats {
            count: repeats.count + 1,
            total_ns: repeats.total_ns + known.stall.duration_ns,
            last_unix_ns: at_unix_ns,
            ..repeats
        };
        let mut worst = match before {
            Some(before) if before.stall.duration_ns > known.stall.duration_ns => before,
            _ => known,
        };
        worst.stall.repeats = repeats;
        self.0.push_front(worst);
        self.0.truncate(KEPT);
    }

    /// The entries.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Known> {
        self.0.iter()
    }

    /// The entries, to add what is found out of them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Known> {
        self.0.iter_mut()
    }
}
