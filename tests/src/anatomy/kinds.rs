//! The kinds of stalls that the fixture makes, and what is to be told of each.

/// What is to be told of a stall of one kind.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// What the fixture calls it; its lines are marked so.
    pub kind: &'static str,
    /// How long the fixture is asked to make it.
    pub ms: u32,
    /// Its class; empty where that of its longest part counts.
    pub cause: &'static str,
    /// How much of it has to be of that class.
    pub share: Share,
    /// The system calls that may be named, where the class is as expected; none is to be where there is none.
    pub syscalls: &'static [&'static str],
    /// What the call is about.
    pub descriptor: Descriptor,
    /// Whether the thread holds the GIL meanwhile; none where it does at times.
    pub gil_held: Option<bool>,
    /// The function of the innermost frame, where that is not the user's.
    pub innermost: Option<&'static str>,
    /// Whether nearly all of it is of one class on a machine that nobody else uses.
    pub is_pure: bool,
}

/// Who knows how much of a stall is of its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// The worker: what it neither ran nor waited for a CPU.
    Off,
    /// The worker: its CPU time.
    Cpu,
    /// The kernel's own account of run queues.
    RunDelay,
    /// Whoever disturbed it.
    Outside,
    /// The worker, part by part.
    Parts,
}

/// What a descriptor is to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descriptor {
    /// There is none.
    None,
    /// So.
    Is(&'static str),
    /// A file on the file system that the scratch file is on.
    Scratch,
    /// Anything, or nothing.
    Any,
}
