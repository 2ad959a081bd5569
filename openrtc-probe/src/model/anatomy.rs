//! What is known of a stall besides its length: why, on what, at which line, and who had to wait.

use super::cause::{Causes, Class};

/// Captures of one stall that are kept: the first, and the latest.
pub const MAX_CAPTURES: usize = 8;
/// Bystanders of one stall that are named.
pub const MAX_BYSTANDERS: usize = 100;

/// Everything known of a stall besides its length and its session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Anatomy {
    /// Its time by class.
    pub causes: Causes,
    /// Looks at the thread while it stalled, oldest first.
    pub captures: Vec<Capture>,
    /// The process that had the CPU, where the stall was a wait for one.
    pub cpu_holder: Option<Process>,
    /// What a hypervisor took from the whole machine meanwhile, at most; `None` while it is not known.
    pub stolen_ns: Option<u64>,
    /// Who had to wait; `None` while it goes on, and until the loop has caught up.
    pub late: Option<Late>,
}

impl Anatomy {
    /// The latest look that found anything in Python.
    pub fn stack(&self) -> Option<&Stack> {
        self.captures.iter().rev().find_map(|capture| capture.stack.as_ref())
    }

    /// The latest look.
    pub fn last(&self) -> Option<&Capture> {
        self.captures.last()
    }

    /// Where in native code the latest look found it; not where it had gone back to Python.
    pub fn native(&self) -> Option<&str> {
        self.last()?.native.as_deref()
    }

    /// The thread that held the interpreter's lock, where waiting for that was a cause.
    pub fn gil_holder(&self) -> Option<&GilHolder> {
        let found = self.captures.iter().rev().find_map(|capture| capture.gil_holder.as_ref());
        found.filter(|_| self.causes.ns(Class::Gil) > 0)
    }

    /// What the latest look at the first cause's descriptor found.
    pub fn descriptor(&self) -> Option<&str> {
        let is_io = matches!(self.causes.first(), Some(Class::Io | Class::Lock));
        let found = self.captures.iter().rev().find_map(|it| it.descriptor.as_deref());
        found.filter(|_| is_io)
    }

    /// Adds a look; of too many the first and the latest are kept.
    pub fn add(&mut self, capture: Capture) {
        if self.captures.len() >= MAX_CAPTURES {
            self.captures.remove(1);
        }
        self.captures.push(capture);
    }
}

/// One look at a thread that stalls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Capture {
    /// How long the stall had lasted.
    pub at_ns: u64,
    /// Where in Python it was; `None` where that could not be read.
    pub stack: Option<Stack>,
    /// Where in native code it was, if in any that has a name. Untrusted text.
    pub native: Option<String>,
    /// Whether it held the interpreter's lock.
    pub gil_held: Option<bool>,
    /// The thread that held that lock, where it waited for it.
    pub gil_holder: Option<GilHolder>,
    /// The kind of file or socket that it waited for.
    pub descriptor: Option<String>,
}

/// The Python frames of a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// Whether none is missing: inner ones are where they changed faster than could be read.
    pub is_complete: bool,
}

impl Stack {
    /// The frame that says where it is: the innermost of the user's own code, or of any.
    pub fn place(&self) -> Option<&Frame> {
        self.user().or(self.frames.first())
    }

    /// The innermost frame of the user's own code.
    pub fn user(&self) -> Option<&Frame> {
        self.frames.iter().find(|frame| frame.is_user)
    }
}

/// One Python frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The function's qualified name, up to 3.10 its name; empty where it could not be read. Untrusted text.
    pub function: String,
    /// Its file as the code object names it; empty where it could not be read. Untrusted text.
    pub file: String,
    /// The line that runs.
    pub line: Option<u32>,
    /// Whether the file is neither of the standard library nor of an installed package.
    pub is_user: bool,
}

/// A thread that holds the interpreter's lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GilHolder {
    /// The thread.
    pub tid: u32,
    /// The session that it runs for, if any. Untrusted text.
    pub session_id: Option<String>,
}

/// A process of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its name, if it was still there. Untrusted text.
    pub name: Option<String>,
}

/// The sessions whose callbacks ran late behind a stall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Late {
    /// How many: those that were first polled before the loop had caught up.
    pub count: u32,
    /// How late each was, at most: a callback became ready while the stall lasted, or before.
    pub each_ns: u64,
    /// Ids of them, sorted, not more than [`MAX_BYSTANDERS`]. Untrusted text.
    pub session_ids: Vec<String>,
}

impl Late {
    /// What all have lost together, at most.
    pub fn total_ns(&self) -> u64 {
        self.each_ns.saturating_mul(u64::from(self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_look_and_the_latest_are_kept() {
        let mut anatomy = Anatomy::default();
        for at_ns in 0..20 {
            anatomy.add(Capture { at_ns, ..Capture::default() });
        }
        let kept: Vec<_> = anatomy.captures.iter().map(|capture| capture.at_ns).collect();
        assert_eq!(kept, [0, 13, 14, 15, 16, 17, 18, 19]);
    }

    #[test]
    fn the_innermost_of_the_users_own_is_named() {
        let frame = |line, is_user| Frame { line: Some(line), is_user, ..Frame::default() };
        let stack = Stack {
            frames: vec![frame(1, false), frame(2, true), frame(3, true)],
            is_complete: true,
        };
        assert_eq!(stack.user().and_then(|frame| frame.line), Some(2));
        assert_eq!(Stack::default().user(), None);
    }
}
