//! The Python stack of a thread that runs while it is read.
//!
//! A frame that has returned leaves its memory to the next one within microseconds, and there is no lock
//! to ask. So the whole is read twice in a row at least, what each frame runs as well, and only what both
//! readings say counts: from the outermost frame inwards, up to where they differ. Of the innermost frame
//! that is left the later instruction stands; one further out moves only when what it called has
//! returned, so where those differ everything further in is another call and does not count.

use std::sync::Arc;

use super::{
    PyThread,
    code::{Code, CodeCache},
    frame::FrameAt,
    layout::CurrentFrame,
    memory::{PageCache, ReadMemory, RemoteAddr},
    object::Objects,
    origin::Origin,
    thread,
};

/// Frames of Python's that are read, from the innermost on.
pub const MAX_FRAMES: usize = 256;
/// Frames that are read at all, with the interpreter's own between them.
const MAX_STEPS: usize = 2 * MAX_FRAMES;
/// How often a moving stack is read before the best that two readings in a row agreed on is taken.
const MAX_READINGS: usize = 8;

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

/// One frame of a reading.
struct Found {
    frame: FrameAt,
    /// `None` where no code object could be read.
    code: Option<Arc<Code>>,
}

/// All frames as one reading saw them, innermost first.
struct Reading {
    frames: Vec<Found>,
    version: u64,
    /// It ends where the outermost frame is.
    has_end: bool,
}

/// The stack of a thread; of the poll whose `context_ver` is `expected`, if that is given. `None` where
/// that poll has ended, where the thread is gone, or where no two readings have anything in common.
pub fn read<M: ReadMemory>(
    objects: &Objects<'_, M>,
    thread: &PyThread,
    cache: &mut CodeCache,
    expected: Option<u64>,
) -> Option<Stack> {
    let mut best: Option<Stack> = None;
    let mut before: Option<Reading> = None;
    for _ in 0..MAX_READINGS {
        let now = Reading::take(objects, thread.state, cache);
        if let (Some(before), Some(now)) = (&before, &now)
            && let Some(stack) = agreed(before, now)
            && best.as_ref().is_none_or(|best| stack.is_better_than(best))
        {
            let is_complete = stack.is_complete;
            best = Some(stack);
            if is_complete {
                break;
            }
        }
        before = now;
    }
    let stack = best?;
    // The thread is looked at last: were its state another's by now, its id would not be the same.
    let version = thread::version(objects, thread.state, thread.ns_tid)?;
    let is_asked = expected.is_none_or(|expected| expected == stack.version && version == expected);
    is_asked.then_some(stack)
}

impl Stack {
    fn is_better_than(&self, other: &Self) -> bool {
        (self.is_complete, self.frames.len()) >= (other.is_complete, other.frames.len())
    }
}

impl Reading {
    fn take<M: ReadMemory>(
        objects: &Objects<'_, M>,
        state: RemoteAddr,
        cache: &mut CodeCache,
    ) -> Option<Self> {
        let mut reading = Self::of_frames(objects, state)?;
        for index in 0..reading.frames.len() {
            let (done, rest) = reading.frames.split_at_mut(index);
            let Some(found) = rest.first_mut() else { break };
            // A recursion runs the same code again and again.
            let alike = done.iter().rev().find(|other| other.frame.code == found.frame.code);
            found.code = match alike {
                Some(other) => other.code.clone(),
                None => cache.read(objects, found.frame.code),
            };
        }
        reading.frames.retain(|found| !found.is_own_code());
        Some(reading)
    }

    /// The frames alone, page by page: most of them stand in one, which is seen at one moment.
    fn of_frames<M: ReadMemory>(objects: &Objects<'_, M>, state: RemoteAddr) -> Option<Self> {
        let pages = PageCache::new(objects.memory);
        let objects = &objects.through(&pages);
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
            frames.push(Found { frame, code: None });
        }
        Some(Self { frames, version, has_end: false })
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

/// What two readings, one right after the other, say alike.
fn agreed(before: &Reading, now: &Reading) -> Option<Stack> {
    let mut kept = 0;
    for (old, new) in before.frames.iter().rev().zip(now.frames.iter().rev()) {
        let (was, is) = (&old.frame, &new.frame);
        if (was.at, was.code, was.previous) != (is.at, is.code, is.previous) || old.code != new.code
        {
            break;
        }
        kept += 1;
        if was.offset != is.offset {
            break;
        }
    }
    let count = now.frames.len();
    if kept == 0 && count > 0 {
        return None;
    }
    let found = now.frames.iter().skip(count - kept);
    let frames: Vec<_> = found.filter_map(Found::frame).collect();
    let is_complete = before.frames.len() == count
        && frames.len() == count
        && before.has_end
        && now.has_end
        && before.version == now.version;
    Some(Stack { frames, is_complete, version: now.version })
}

impl Found {
    /// A frame that looks like one of Python's and is the interpreter's own all the same.
    fn is_own_code(&self) -> bool {
        self.code.as_ref().is_some_and(|code| code.is_own && code.line(self.frame.offset).is_none())
    }

    fn frame(&self) -> Option<Frame> {
        let code = Arc::clone(self.code.as_ref()?);
        Some(Frame { at: self.frame.at, line: code.line(self.frame.offset), code })
    }
}

#[cfg(test)]
mod tests;
