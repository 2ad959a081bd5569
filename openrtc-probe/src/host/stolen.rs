//! Time that a hypervisor took from this machine: the probe sees a thread that has its CPU, and the
//! thread's own clock stands still.

use std::fs;

/// What `/proc/stat` counts in: `USER_HZ` is 100 on every machine that we know.
const TICK_NS: u64 = 10_000_000;
/// The column of a `cpu` line, its name being the first.
const STEAL: usize = 8;

/// So many nanoseconds, on all CPUs, since the machine started, in whole ticks; 0 on bare metal.
pub fn stolen_ns() -> u64 {
    in_stat(&fs::read_to_string("/proc/stat").unwrap_or_default())
}

fn in_stat(text: &str) -> u64 {
    let line = text.lines().next().unwrap_or_default();
    let ticks: Option<u64> = line.split_whitespace().nth(STEAL).and_then(|it| it.parse().ok());
    ticks.unwrap_or(0).saturating_mul(TICK_NS)
}

/// What was taken from one reading to the next one, at most.
pub fn between(first_ns: u64, second_ns: u64) -> u64 {
    let took_ns = second_ns.saturating_sub(first_ns);
    // What is on top of the last full tick is not counted yet.
    if second_ns == 0 { 0 } else { took_ns.saturating_add(TICK_NS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_nothing_was_ever_taken_from_is_exact() {
        let bare = in_stat("cpu  355129 0 62192 61948 1871 0 948 0 0 0\n");
        assert_eq!(between(bare, bare), 0);
        let [before, after] =
            [3, 5].map(|ticks| in_stat(&format!("cpu  1 0 1 1 1 0 1 {ticks} 0\n")));
        assert_eq!(between(before, after), 3 * TICK_NS, "two ticks, and what is not counted yet");
        assert_eq!(in_stat(""), 0);
    }
}
