//! What is to be told of a stall of each kind, as data.

use super::kinds::{Descriptor, Expected, Share};

/// What most are like.
const SLEEP: Expected = Expected {
    kind: "sleep",
    ms: 200,
    cause: "sleep",
    share: Share::Off,
    syscalls: &["clock_nanosleep"],
    descriptor: Descriptor::None,
    gil_held: Some(false),
    innermost: None,
    is_pure: true,
};

const PYTHON: Expected = Expected {
    kind: "python",
    cause: "cpu",
    share: Share::Cpu,
    syscalls: &[],
    gil_held: Some(true),
    ..SLEEP
};

const SOCKET: Expected = Expected {
    kind: "socket",
    cause: "io",
    syscalls: &["recvfrom"],
    descriptor: Descriptor::Is("socket inet tcp"),
    ..SLEEP
};

/// Python code that others keep from running; another thread tells them when.
const DISTURBED: Expected = Expected { gil_held: None, ..PYTHON };

/// Every kind of which the cause is looked at.
pub const KINDS: &[Expected] = &[
    SLEEP,
    Expected { kind: "callback", ..SLEEP },
    PYTHON,
    Expected { kind: "pbkdf2", gil_held: Some(false), ..PYTHON },
    Expected { kind: "regex", innermost: Some("match"), ..PYTHON },
    SOCKET,
    Expected { kind: "socket-unix", descriptor: Descriptor::Is("socket unix"), ..SOCKET },
    // With a time limit, a socket is waited for before it is read.
    Expected { kind: "socket-timeout", syscalls: &["poll"], descriptor: Descriptor::Any, ..SOCKET },
    // What is written has to be copied and sent to the disk, by this thread.
    Expected {
        kind: "fsync",
        cause: "io",
        syscalls: &["fsync"],
        descriptor: Descriptor::Scratch,
        gil_held: None,
        is_pure: false,
        ..SLEEP
    },
    // Its busy handler sleeps and tries again.
    Expected { kind: "sqlite", ..SLEEP },
    Expected { kind: "lock", cause: "lock", syscalls: &["futex"], ..SLEEP },
    Expected { kind: "gil", cause: "gil", syscalls: &["futex"], ..SLEEP },
    Expected { kind: "gil-session", cause: "gil", syscalls: &["futex"], ..SLEEP },
    Expected { kind: "wait", cause: "wait", syscalls: &["wait4"], ..SLEEP },
    // To have a page fetched takes this thread's CPU too.
    Expected {
        kind: "page-fault",
        cause: "page-fault",
        syscalls: &[],
        gil_held: Some(true),
        is_pure: false,
        ..SLEEP
    },
    Expected { kind: "cpu-hog", ms: 30, cause: "run-queue", share: Share::RunDelay, ..DISTURBED },
    Expected { kind: "throttled", ms: 60, cause: "throttled", share: Share::Outside, ..DISTURBED },
    Expected { kind: "stopped", ms: 60, cause: "stopped", share: Share::Outside, ..DISTURBED },
    Expected {
        kind: "mixed",
        ms: 240,
        cause: "",
        share: Share::Parts,
        syscalls: &["clock_nanosleep", "futex"],
        gil_held: None,
        is_pure: false,
        ..SLEEP
    },
    Expected { kind: "library", innermost: Some("run"), ..SLEEP },
];
