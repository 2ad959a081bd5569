//! The import law of `openrtc-probe/src` as data: each room, and what it may import besides the
//! standard library and itself.
//!
//! Facts flow one way: `profiler` brings what the kernel and the worker tell into `model`, `view`
//! takes a snapshot out of it, `output` shows it; only `run` knows both sides.

/// A folder or file of `openrtc-probe/src`. The longest path that fits a file is its room.
pub struct Room {
    /// From `src`, without `.rs`; the library's root is the empty path.
    pub path: &'static str,
    /// Crates, as they are written in a path.
    pub crates: &'static [&'static str],
    /// Other rooms, by the first segment after `crate::`.
    pub rooms: &'static [&'static str],
    /// Parts of the standard library that it must do without.
    pub without: &'static [&'static str],
    /// It may ask what time it is.
    pub has_clock: bool,
}

/// A room without a clock, to be filled in.
const ROOM: Room = Room { path: "", crates: &[], rooms: &[], without: &[], has_clock: false };

/// What only something that does I/O needs.
const IO: &[&str] = &["env", "fs", "io", "net", "os", "process", "thread"];

/// As `IO`, for one that writes to a stream it is given, or owns a terminal.
const IO_BUT_STREAMS: &[&str] = &["env", "fs", "net", "process", "thread"];

/// What is done to ask for the time: the last two segments.
pub const CLOCKS: &[(&str, &str)] = &[
    ("ClockId", "CLOCK_BOOTTIME"),
    ("ClockId", "CLOCK_MONOTONIC"),
    ("ClockId", "CLOCK_REALTIME"),
    ("Instant", "now"),
    ("SystemTime", "now"),
    ("Timestamp", "now"),
    ("Zoned", "now"),
];

/// The law.
pub const ROOMS: &[Room] = &[
    // The library's root names its rooms and does nothing.
    ROOM,
    Room {
        path: "main",
        crates: &["anyhow", "clap", "log", "nix", "tokio"],
        rooms: &["blocker", "cli", "host", "output", "plan", "profiler", "run", "view", "worker"],
        has_clock: true,
        ..ROOM
    },
    Room {
        path: "cli",
        crates: &["anyhow", "clap", "thiserror"],
        rooms: &["blocker", "plan", "view"],
        without: IO,
        ..ROOM
    },
    Room {
        path: "plan",
        crates: &["anyhow", "thiserror"],
        rooms: &["blocker", "cli", "model", "view"],
        without: IO,
        ..ROOM
    },
    Room {
        path: "run",
        crates: &[
            "anyhow",
            "futures_util",
            "jiff",
            "log",
            "nix",
            "openrtc_common",
            "rustix",
            "thiserror",
            "tokio",
        ],
        rooms: &[
            "blocker", "bpf", "cli", "clock", "cpython", "doctor", "dump", "fleet", "host",
            "model", "output", "plan", "profiler", "save", "serve", "view", "worker",
        ],
        has_clock: true,
        ..ROOM
    },
    Room {
        path: "fleet",
        crates: &["anyhow", "rustix"],
        rooms: &["blocker", "model", "profiler", "worker"],
        ..ROOM
    },
    Room {
        path: "clock",
        crates: &["nix"],
        // For its instant on both clocks.
        rooms: &["profiler"],
        has_clock: true,
        ..ROOM
    },
    Room {
        path: "output",
        crates: &["anyhow", "thiserror"],
        rooms: &["model", "plan", "save", "view"],
        without: IO_BUT_STREAMS,
        ..ROOM
    },
    Room { path: "save", crates: &["anyhow", "jiff", "nix"], ..ROOM },
    Room { path: "blocker", crates: &["anyhow", "thiserror"], ..ROOM },
    Room {
        path: "host",
        crates: &["anyhow", "log", "nix", "rustix", "seccompiler", "thiserror"],
        rooms: &["blocker"],
        ..ROOM
    },
    Room {
        path: "worker",
        crates: &[
            "anyhow",
            "bytemuck",
            "gimli",
            "iced_x86",
            "log",
            "nix",
            "object",
            "openrtc_common",
            "procfs",
            "thiserror",
        ],
        // For its address newtypes.
        rooms: &["blocker", "cpython"],
        ..ROOM
    },
    Room {
        path: "cpython",
        crates: &["anyhow", "bytemuck", "nix", "openrtc_common", "thiserror"],
        rooms: &["blocker"],
        ..ROOM
    },
    Room {
        path: "bpf",
        crates: &[
            "anyhow",
            "aya",
            "aya_log",
            "aya_obj",
            "bytemuck",
            "log",
            "nix",
            "openrtc_common",
            "thiserror",
        ],
        rooms: &["blocker", "host", "model", "worker"],
        ..ROOM
    },
    Room {
        path: "native",
        crates: &["gimli", "nix", "object", "perf_event"],
        rooms: &["cpython", "worker"],
        ..ROOM
    },
    Room {
        path: "profiler",
        crates: &["anyhow", "log", "openrtc_common", "thiserror"],
        rooms: &["blocker", "bpf", "cpython", "host", "model", "native", "worker"],
        ..ROOM
    },
    Room {
        path: "doctor",
        crates: &["anyhow", "rustix"],
        rooms: &["blocker", "bpf", "cpython", "host", "model", "profiler", "worker"],
        ..ROOM
    },
    Room {
        path: "model",
        crates: &["openrtc_common", "smol_str", "syscalls"],
        without: IO,
        ..ROOM
    },
    Room {
        path: "dump",
        crates: &["openrtc_common"],
        rooms: &["blocker", "cpython", "model", "profiler", "worker"],
        ..ROOM
    },
    Room {
        path: "view",
        crates: &["anyhow", "jiff", "thiserror", "unicode_segmentation", "unicode_width"],
        rooms: &["model"],
        without: IO,
        ..ROOM
    },
    Room {
        path: "view/json",
        crates: &["anyhow", "jiff", "serde", "serde_json", "thiserror"],
        rooms: &["model"],
        // Serialisers write to streams.
        without: IO_BUT_STREAMS,
        ..ROOM
    },
    Room {
        path: "view/dump",
        crates: &["serde", "unicode_width"],
        rooms: &["dump", "model"],
        without: IO,
        ..ROOM
    },
    Room { path: "view/doctor", crates: &["serde"], rooms: &["doctor"], without: IO, ..ROOM },
    Room {
        path: "view/openrtc",
        crates: &["anyhow", "jiff", "serde", "serde_json", "thiserror"],
        rooms: &["model"],
        without: IO_BUT_STREAMS,
        ..ROOM
    },
    Room {
        path: "view/top",
        crates: &[
            "anyhow",
            "crossterm",
            "futures_util",
            "jiff",
            "ratatui",
            "thiserror",
            "unicode_segmentation",
            "unicode_width",
        ],
        rooms: &["dump", "model"],
        without: IO_BUT_STREAMS,
        ..ROOM
    },
    Room {
        path: "serve",
        crates: &["anyhow", "futures_util", "log", "nix", "thiserror", "tokio"],
        rooms: &["blocker"],
        ..ROOM
    },
];
