//! The Python stack of a thread that runs while it is read.
//!
//! A frame that has returned leaves its memory to the next one within a fraction of a microsecond, which is
//! less than a reading takes, and there is no lock to ask. So a reading may put a call together with a
//! caller that has gone on meanwhile. It is not believed: only what many readings in a row say alike
//! counts, from the outermost frame inwards. A caller moves only when what it called has returned, so where
//! its instruction differs everything further in is another call; the instruction of the innermost frame
//! that is left is the last one seen.
//!
//! A wrong pair of call and caller takes two states of the caller, one for each half. Whatever their shares
//! of the time, it is at most a quarter of the readings; that all of [`ALIKE`] show the same one is less
//! than one in ten million. As a thread that loops and our readings may keep step, every other reading
//! goes the other way round.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    PyThread,
    code::{Code, CodeCache},
    frame::FrameAt,
    layout::CurrentFrame,
    memory::{Order, PageCache, ReadMemory, RemoteAddr},
    object::Objects,
    origin::Origin,
    thread,
};

/// Frames of Python's that are read, from the innermost on.
pub const MAX_FRAMES: usize = 256;
/// Frames that are read at all, with the interpreter's own between them.
const MAX_STEPS: usize = 2 * MAX_FRAMES;
/// Readings in a row that have to say the same.
const ALIKE: usize = 12;
/// Readings of a stack that moves, before only what stands still in it is told.
const MAX_READINGS: usize = 4 * ALIKE;

/// Where a thread is, in one of its frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it stands: while a coroutine lives, its frame is nobody else's.
    pub at: RemoteAddr,
    /// What runs.
    pub code: Arc<Code>,
    /// Its line, `None` where there is none, such as in code that the compiler adds.
    pub line: Option<u32>,
}

impl Frame {
    /// The function's qualified name, up to 3.10 its name. Untrusted text.
    pub fn function(&self) -> &str {
        &self.code.function
    }

    /// The path of its file. Untrusted text.
    pub fn file(&self) -> &str {
        &self.code.file
    }

    /// Whose code it is.
    pub fn origin(&self) -> Origin {
        self.code.origin
    }
}

/// The frames of a thread at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Innermost first; none where the thread runs no Python.
    pub frames: Vec<Frame>,
    /// No frame is missing, neither inside nor outside. Otherwise these are the outer ones, as far as they
    /// stood still, or the innermost [`MAX_FRAMES`].
    pub is_complete: bool,
    /// `context_ver` of the thread at that moment: it moves with every poll's begin and end.
    pub version: u64,
}

/// All frames as one reading saw them, innermost first.
struct Reading {
    frames: Vec<FrameAt>,
    version: u64,
    /// It ends where the outermost frame is.
    has_end: bool,
}

/// The stack of a thread; of the poll whose `context_ver` is `expected`, if that is given. `None` where
/// that poll has ended, where the thread is gone, or where nothing in it stands still.
pub fn read<M: ReadMemory>(
    objects: &Objects<'_, M>,
    thread: &PyThread,
    cache: &mut CodeCache,
    expected: Option<u64>,
) -> Option<Stack> {
    let pages = PageCache::new(objects.memory);
    let walk = &objects.through(&pages);
    let (mut still, is_settled) = settled(walk, thread.state)?;
    // What is read of code between two readings of the frames that run it is of that code, if the same
    // is there after the second one.
    let before = still.codes(objects, cache);
    let mut now = once_more(walk, thread.state, &still)?;
    let is_settled = is_settled && now.is_same(&still);
    now.keep(still.frames.len());
    let after = now.codes(objects, cache);
    let unchanged = after.iter().rev().zip(before.iter().rev()).take_while(|(a, b)| a == b).count();
    if unchanged == 0 && !before.is_empty() {
        return None;
    }
    still = now;
    still.keep(unchanged);
    let is_known = unchanged == after.len() && after.iter().all(Option::is_some);
    let found = still.frames.iter().zip(after.iter().skip(after.len() - unchanged));
    let frames = found.filter_map(|(frame, code)| Frame::of(frame, code.as_ref()?)).collect();
    // The thread is looked at last: were its state another's by now, its id would not be the same.
    let version = thread::version(objects, thread.state, thread.ns_tid)?;
    let is_asked = expected.is_none_or(|expected| expected == still.version && version == expected);
    let is_complete = is_settled && is_known && still.has_end;
    is_asked.then_some(Stack { frames, is_complete, version: still.version })
}

/// What stands still in a stack, and whether that is all of it.
fn settled<M: ReadMemory>(
    objects: &Objects<'_, PageCache<'_, M>>,
    state: RemoteAddr,
) -> Option<(Reading, bool)> {
    let mut readings: Vec<Reading> = Vec::new();
    let mut same = 0;
    for index in 0..MAX_READINGS {
        let order = if index % 2 == 0 { Order::FirstFirst } else { Order::LastFirst };
        objects.memory.refresh(order);
        let Some(now) = Reading::take(objects, state) else {
            same = 0;
            continue;
        };
        let is_same = readings.last().is_some_and(|before| now.is_same(before));
        same = if is_same { same + 1 } else { 1 };
        readings.push(now);
        if same == ALIKE {
            break;
        }
    }
    let outermost = outermost(&readings)?;
    let is_torn = readings.last()?.outermost() != outermost;
    readings.retain(|reading| reading.outermost() == outermost);
    let mut last = readings.pop()?;
    let others = readings.get(readings.len().checked_sub(ALIKE - 1)?..)?;
    let kept = others.iter().map(|other| last.alike(other)).min()?;
    if kept == 0 && !last.frames.is_empty() {
        return None;
    }
    last.keep(kept);
    Some((last, same == ALIKE && !is_torn))
}

/// Where these readings end that are not torn. A frame that has been left, and then read, leads nowhere or
/// astray, so that the chain seems to end where others go on. What is really out there stays where it is:
/// no other reading goes on behind it, and most end there.
fn outermost(readings: &[Reading]) -> Option<RemoteAddr> {
    let mut ends: BTreeMap<_, usize> = BTreeMap::new();
    for reading in readings {
        *ends.entry(reading.outermost()).or_default() += 1;
    }
    let goes_on = |end: RemoteAddr| {
        let mut callees = readings.iter().flat_map(|reading| reading.frames.iter().rev().skip(1));
        callees.any(|frame| frame.at == end)
    };
    let ends = ends.into_iter().filter(|(end, _)| !goes_on(*end));
    ends.max_by_key(|(_, times)| *times).map(|(end, _)| end)
}

/// A reading that has all that stands still.
fn once_more<M: ReadMemory>(
    objects: &Objects<'_, PageCache<'_, M>>,
    state: RemoteAddr,
    still: &Reading,
) -> Option<Reading> {
    let take = |_| {
        objects.memory.refresh(Order::FirstFirst);
        Reading::take(objects, state)
    };
    let has_all = |now: &Reading| now.alike(still) == still.frames.len();
    (0..MAX_READINGS).filter_map(take).find(has_all)
}

impl Reading {
    /// The frames of the thread of `state`.
    fn take<M: ReadMemory>(objects: &Objects<'_, M>, state: RemoteAddr) -> Option<Self> {
        let version = thread::context_words(objects, state).ok()?.version;
        let mut at = current(objects, state)?;
        let mut frames = Vec::new();
        for _ in 0..MAX_STEPS {
            let Some(here) = at.non_null() else {
                return Some(Self { frames, version, has_end: true });
            };
            let frame = FrameAt::read(objects, here)?;
            at = frame.previous.unwrap_or_default();
            if frame.is_shim {
                continue;
            }
            if frames.len() == MAX_FRAMES {
                break;
            }
            frames.push(frame);
        }
        Some(Self { frames, version, has_end: false })
    }

    /// Where the outermost frame is, null where there is none.
    fn outermost(&self) -> RemoteAddr {
        self.frames.last().map(|frame| frame.at).unwrap_or_default()
    }

    /// How many of the outer frames both say alike.
    fn alike(&self, other: &Self) -> usize {
        let mut alike = 0;
        for (one, two) in self.frames.iter().rev().zip(other.frames.iter().rev()) {
            if (one.at, one.code, one.previous) != (two.at, two.code, two.previous) {
                break;
            }
            alike += 1;
            if one.offset != two.offset {
                break;
            }
        }
        alike
    }

    /// Whether both say alike all that they say, but for the instruction of the innermost frame.
    fn is_same(&self, other: &Self) -> bool {
        let count = self.frames.len();
        let is_end_same = (self.has_end, self.version) == (other.has_end, other.version);
        is_end_same && other.frames.len() == count && self.alike(other) == count
    }

    /// Leaves so many of the outer frames.
    fn keep(&mut self, count: usize) {
        self.frames.drain(..self.frames.len().saturating_sub(count));
    }

    /// What each frame runs; `None` where no code object can be read.
    fn codes<M: ReadMemory>(
        &self,
        objects: &Objects<'_, M>,
        cache: &mut CodeCache,
    ) -> Vec<Option<Arc<Code>>> {
        let code = |frame: &FrameAt| frame.code;
        // A recursion runs the same code again and again.
        let wanted: BTreeSet<RemoteAddr> = self.frames.iter().map(code).collect();
        let found = cache.read_all(objects, &Vec::from_iter(wanted));
        self.frames.iter().map(|frame| found.get(&frame.code).cloned().flatten()).collect()
    }
}

impl Frame {
    /// `None` where the frame is the interpreter's own, though it looks like one of Python's.
    fn of(frame: &FrameAt, code: &Arc<Code>) -> Option<Self> {
        let line = code.line(frame.offset);
        let is_ones = line.is_some() || !code.is_own;
        is_ones.then(|| Self { at: frame.at, code: Arc::clone(code), line })
    }
}

/// A thread's innermost frame, null where there is none.
fn current<M: ReadMemory>(objects: &Objects<'_, M>, state: RemoteAddr) -> Option<RemoteAddr> {
    let at = match objects.layout.frames.current {
        CurrentFrame::InThread { at } => state.plus(at),
        CurrentFrame::Behind { pointer, at } => {
            objects.memory.read_ptr(state.plus(pointer)).ok()?.plus(at)
        }
    };
    objects.memory.read_ptr(at).ok()
}

#[cfg(test)]
mod tests;
