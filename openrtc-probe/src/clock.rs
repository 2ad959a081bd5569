//! The clocks. Only `run.rs` reads them; everything below takes time as an argument.

use nix::time::{ClockId, clock_gettime};

use crate::profiler::Now;

const NS_PER_S: i128 = 1_000_000_000;

/// Now, on all clocks.
pub fn now() -> Now {
    Now {
        monotonic_ns: read(ClockId::CLOCK_MONOTONIC) as u64,
        boottime_ns: read(ClockId::CLOCK_BOOTTIME) as u64,
        unix_ns: read(ClockId::CLOCK_REALTIME),
    }
}

fn read(clock: ClockId) -> i128 {
    // They exist on every Linux; there is no error to expect.
    clock_gettime(clock)
        .map_or(0, |time| i128::from(time.tv_sec()) * NS_PER_S + i128::from(time.tv_nsec()))
}
