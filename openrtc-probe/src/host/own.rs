//! What our own process uses.

use std::fs;

use nix::time::{ClockId, clock_gettime};

/// CPU time of our own process, nanoseconds.
pub fn own_cpu_ns() -> Option<u64> {
    let used = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).ok()?;
    u64::try_from(used.tv_sec() * 1_000_000_000 + used.tv_nsec()).ok()
}

/// The thread that calls this gets its CPU as soon as it can run, and its timers are exact: it is one that runs
/// for microseconds at a time. Where that is not allowed it waits its turn.
pub fn hurry() {
    const FOREMOST: i32 = -20;
    // Of the calling thread alone, which is what Linux does.
    let _ = rustix::process::setpriority_process(None, FOREMOST);
    let _ = nix::sys::prctl::set_timerslack(1);
}

/// Threads take their memory from two heaps: the first thread from one, all others from the other. By default each new
/// one may get its own, and what an attach frees there, megabytes of tables of symbols and types, stays with us: with
/// workers that come and go, some 150 MB. One for all would have the sampler wait for a first thread that has a heap's
/// lock and no CPU: 50 ms were seen. To be called before there are other threads. Nothing elsewhere than with glibc.
pub fn share_heaps() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it sets a number of the allocator, under its lock.
        let _ = unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 2) };
    }
}

/// Our own resident set.
pub fn own_rss_bytes() -> Option<u64> {
    rss_bytes(&fs::read_to_string("/proc/self/status").ok()?)
}

/// `VmRSS:   1234 kB`, where a kB is 1,024 bytes.
fn rss_bytes(status: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = rest.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_use_something() {
        assert_eq!(rss_bytes("Name:\tx\nVmRSS:\t  12 kB\n"), Some(12 << 10));
        assert_eq!(rss_bytes("Name:\tVmRSS\n"), None);
        let before = own_cpu_ns().unwrap();
        assert!((1 << 16..1 << 36).contains(&own_rss_bytes().unwrap()));
        assert!(own_cpu_ns().unwrap() > before);
    }
}
