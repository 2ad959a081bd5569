//! Numbers to text, the only place that does it.
//!
//! - Unknown is `–`, never zero.
//! - A lower bound is marked `≥` and rounded down, so that what is printed is true.
//! - **A number is never cut**: where room is short it loses decimals, then takes a suffix
//!   (`k`, `M`, `G`, `T`, `P`, `E`, by thousands).

use crate::model::Stall;

/// What stands for a number or a text that is not known.
pub const UNKNOWN: &str = "–";

/// 2^20: `_BYTES_PER_MB` in `openrtc/observability/session_memory.py` is `1024 * 1024`, and our MB
/// must be the same as those of `openrtc top`.
const BYTES_PER_MB: f64 = 1_048_576.0;

const NS_PER_MS: u64 = 1_000_000;
const NS_PER_S: u64 = 1_000_000_000;

/// Of one core, in percent.
pub fn percent(ratio: f64) -> f64 {
    ratio * 100.0
}

/// Nanoseconds in seconds.
pub fn seconds(ns: u64) -> f64 {
    ns as f64 / NS_PER_S as f64
}

/// Nanoseconds in milliseconds.
pub fn millis(ns: u64) -> f64 {
    ns as f64 / NS_PER_MS as f64
}

/// Bytes in the MB of `openrtc top`, which are 2^20 bytes.
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / BYTES_PER_MB
}

/// Rounded to three decimals: for values whose further digits are noise.
pub fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// A number on its way to text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    value: f64,
    decimals: usize,
    at_least: bool,
    about: bool,
}

impl Number {
    /// With so many decimals where there is room.
    pub fn new(value: f64, decimals: usize) -> Self {
        Self { value, decimals, at_least: false, about: false }
    }

    /// A whole number.
    pub fn count(value: u64) -> Self {
        Self::new(value as f64, 0)
    }

    /// The same, marked as a lower bound if `yes`.
    pub fn at_least(self, yes: bool) -> Self {
        Self { at_least: yes, ..self }
    }

    /// The same, marked as one that is not measured if `yes`.
    pub fn about(self, yes: bool) -> Self {
        Self { about: yes, ..self }
    }

    /// All decimals, as wide as it gets.
    pub fn full(self) -> String {
        if self.value.is_finite() { self.digits(self.decimals, 1.0, "") } else { UNKNOWN.into() }
    }

    /// In at most `width` columns: fewer decimals first, then a suffix.
    pub fn fit(self, width: usize) -> String {
        const SUFFIXES: [(f64, &str); 6] =
            [(1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"), (1e15, "P"), (1e18, "E")];
        if !self.value.is_finite() {
            return UNKNOWN.into();
        }
        let plain = (0..=self.decimals).rev().map(|decimals| (decimals, 1.0, ""));
        let short = SUFFIXES.iter().flat_map(|&(unit, suffix)| {
            // `0.0M` would say less than nothing.
            (0..=1)
                .rev()
                .filter(move |_| self.value.abs() >= unit)
                .map(move |decimals| (decimals, unit, suffix))
        });
        plain
            .chain(short)
            .map(|(decimals, unit, suffix)| self.digits(decimals, unit, suffix))
            .find(|text| text.chars().count() <= width)
            .unwrap_or_else(|| "…".into())
    }

    fn digits(self, decimals: usize, unit: f64, suffix: &str) -> String {
        let value = self.value / unit;
        if self.at_least {
            let scale = 10_f64.powi(decimals as i32);
            // Rounded up it would claim more than is known.
            let value = (value * scale).floor() / scale;
            format!("≥{value:.decimals$}{suffix}")
        } else {
            let mark = if self.about { "~" } else { "" };
            format!("{mark}{value:.decimals$}{suffix}")
        }
    }
}

/// The number with its unit behind it, or `–` alone.
pub fn with_unit(number: Option<Number>, unit: &str) -> String {
    match number.map(Number::full) {
        Some(text) if text != UNKNOWN => format!("{text} {unit}"),
        _ => UNKNOWN.into(),
    }
}

/// A length of time to the second: `0:00:41`, `1:23:45`, `2 d 0:00:41`.
pub fn clock(ns: u64) -> String {
    let total = ns / NS_PER_S;
    let (days, hours) = (total / 86_400, total / 3600 % 24);
    let (minutes, seconds) = (total / 60 % 60, total % 60);
    if days > 0 {
        format!("{days} d {hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{hours}:{minutes:02}:{seconds:02}")
    }
}

/// A length of time in its largest fitting unit: `12 s`, `41 m`, `5 h`, `3 d`.
pub fn rough(ns: u64) -> String {
    match ns / NS_PER_S {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} m", s / 60),
        s @ 3600..172_800 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

/// A moment as RFC 3339 in UTC with microseconds; `None` outside the years that can be written.
pub fn rfc3339(unix_ns: i128) -> Option<String> {
    jiff::Timestamp::from_nanosecond(unix_ns).ok().map(|at| format!("{at:.6}"))
}

/// A length of time in a few characters: whole milliseconds, from a second on tenths of it.
pub fn rough_time(ns: u64) -> String {
    let ms = ns.saturating_add(NS_PER_MS / 2) / NS_PER_MS;
    if ms < 1000 { format!("{ms}ms") } else { format!("{:.1}s", ms as f64 / 1000.0) }
}

/// A length of time with three digits or so, and its unit: `640 µs`, `2.3 ms`, `123 ms`, `4.81 s`, `754 s`.
pub fn span(ns: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(NS_PER_S, "s"), (NS_PER_MS, "ms"), (1000, "µs")];
    if ns == 0 {
        return "0 s".into();
    }
    // What would be rounded up to 1000 of a unit is 1 of the next.
    let fits = |unit: u64| ns.saturating_add(unit / 2000) >= unit;
    let Some((unit, name)) = UNITS.into_iter().find(|(unit, _)| fits(*unit)) else {
        return "<1 µs".into();
    };
    let value = ns as f64 / unit as f64;
    let decimals = match (value, name) {
        (..9.95, "s") => 2,
        (..9.95, _) | (..99.95, "s") => 1,
        _ => 0,
    };
    // Halves go up, as they do in the tables.
    let scale = 10_f64.powi(decimals);
    let decimals = decimals as usize;
    format!("{:.decimals$} {name}", (value * scale).round() / scale)
}

/// A length of time in a sentence: `0.3 ms`, `126 ms`, `2.3 s`, `41 s`, `41 min`, `5.2 h`.
pub fn spoken(ns: u64) -> String {
    let s = seconds(ns);
    let (value, decimals, unit) = match ns / NS_PER_S {
        0 => (millis(ns), usize::from(ns < 10 * NS_PER_MS), "ms"),
        1..10 => (s, 1, "s"),
        10..120 => (s, 0, "s"),
        120..7200 => (s / 60.0, 0, "min"),
        _ => (s / 3600.0, 1, "h"),
    };
    format!("{} {unit}", Number::new(value, decimals).full())
}

/// A stall's times in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitMs {
    /// Wall time.
    pub duration: u64,
    /// Of that: running, asleep in the kernel, runnable without a CPU. They sum to it.
    pub parts: [u64; 3],
}

/// Rounds a stall's times so that the parts still sum to the whole (largest remainder first).
pub fn split_ms(stall: &Stall) -> SplitMs {
    let round = |ns: u64| (ns.saturating_add(NS_PER_MS / 2)) / NS_PER_MS;
    let ns = [stall.on_cpu_ns, stall.off_cpu_ns, stall.run_queue_ns];
    let duration = round(stall.duration_ns);
    let mut parts = ns.map(|part| part / NS_PER_MS);
    let floors = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(*part));
    match duration.checked_sub(floors) {
        Some(missing @ 0..=3) => {
            let mut by_remainder = [0, 1, 2];
            // A stable sort: equal remainders go to on-CPU first.
            by_remainder.sort_by_key(|&i: &usize| std::cmp::Reverse(ns[i] % NS_PER_MS));
            by_remainder.iter().take(missing as usize).for_each(|&i| parts[i] += 1);
        }
        // They did not sum to the whole before: rounding must not pretend that they did.
        _ => parts = ns.map(round),
    }
    SplitMs { duration, parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stall(duration_ns: u64, parts: [u64; 3]) -> Stall {
        let [on_cpu_ns, off_cpu_ns, run_queue_ns] = parts;
        Stall { duration_ns, on_cpu_ns, off_cpu_ns, run_queue_ns, ..Stall::default() }
    }

    #[test]
    fn megabytes_are_those_of_openrtc() {
        assert!((megabytes(1_048_576) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_number_gives_up_decimals_before_digits() {
        let number = Number::new(1234.567, 2);
        assert_eq!(number.full(), "1234.57");
        assert_eq!(number.fit(7), "1234.57");
        assert_eq!(number.fit(6), "1234.6");
        assert_eq!(number.fit(5), "1235");
        assert_eq!(number.fit(3), "1k");
        assert_eq!(Number::new(99.96, 1).fit(4), "100");
        assert_eq!(Number::count(1_234_567).fit(5), "1235k");
        assert_eq!(Number::count(1_234_567).fit(4), "1.2M");
        assert_eq!(Number::count(u64::MAX).fit(4), "18E");
        assert_eq!(Number::count(123_456).fit(2), "…");
    }

    #[test]
    fn a_lower_bound_is_marked_and_never_rounded_up() {
        assert_eq!(Number::new(12.39, 1).at_least(true).full(), "≥12.3");
        assert_eq!(Number::new(12.39, 1).at_least(false).full(), "12.4");
        assert_eq!(Number::new(86_399.9, 0).at_least(true).fit(6), "≥86399");
        assert_eq!(Number::count(0).at_least(true).fit(4), "≥0");
    }

    #[test]
    fn what_is_not_a_number_is_unknown() {
        assert_eq!(Number::new(f64::NAN, 1).fit(5), UNKNOWN);
        assert_eq!(Number::new(f64::INFINITY, 1).full(), UNKNOWN);
        assert_eq!(with_unit(None, "MB"), UNKNOWN);
        assert_eq!(with_unit(Some(Number::new(f64::NAN, 1)), "MB"), UNKNOWN);
        assert_eq!(with_unit(Some(Number::new(1.0, 1)), "MB"), "1.0 MB");
    }

    #[test]
    fn durations() {
        assert_eq!(clock(41 * NS_PER_S), "0:00:41");
        assert_eq!(clock(5025 * NS_PER_S), "1:23:45");
        assert_eq!(clock(172_841 * NS_PER_S), "2 d 0:00:41");
        let rough_s = |s: u64| rough(s * NS_PER_S);
        assert_eq!(rough_s(0), "0 s");
        assert_eq!(rough_s(59), "59 s");
        assert_eq!(rough_s(41 * 60 + 59), "41 m");
        assert_eq!(rough_s(47 * 3600), "47 h");
        assert_eq!(rough_s(48 * 3600), "2 d");
        assert_eq!(rough(u64::MAX), "213503 d");
    }

    #[test]
    fn spans_have_about_three_digits() {
        for (ns, text) in [
            (0, "0 s"),
            (640, "<1 µs"),
            (1_000, "1.0 µs"),
            (64_000, "64 µs"),
            (999_400, "999 µs"),
            (999_600, "1.0 ms"),
            (2_300_000, "2.3 ms"),
            (412_500_000, "413 ms"),
            (122_600_000, "123 ms"),
            (999_499_999, "999 ms"),
            (999_500_000, "1.00 s"),
            (4_812_000_000, "4.81 s"),
            (35_678_000_000, "35.7 s"),
            (754_000_000_000, "754 s"),
        ] {
            assert_eq!(span(ns), text, "{ns}");
        }
    }

    #[test]
    fn moments() {
        assert_eq!(rfc3339(0).as_deref(), Some("1970-01-01T00:00:00.000000Z"));
        let at = rfc3339(1_767_225_600_123_456_789);
        assert_eq!(at.as_deref(), Some("2026-01-01T00:00:00.123456Z"));
        assert_eq!(rfc3339(i128::MAX), None);
    }

    #[test]
    fn parts_of_a_stall_sum_to_it_after_rounding() {
        let third = stall(1_000_000, [333_333, 333_333, 333_334]);
        assert_eq!(split_ms(&third), SplitMs { duration: 1, parts: [0, 0, 1] });
        let high = stall(5_700_000, [1_900_000, 1_900_000, 1_900_000]);
        assert_eq!(split_ms(&high), SplitMs { duration: 6, parts: [2, 2, 2] });
        let tie = stall(1_500_000, [500_000, 500_000, 500_000]);
        assert_eq!(split_ms(&tie), SplitMs { duration: 2, parts: [1, 1, 0] });
        for ns in (0..30_000_000_u64).step_by(777_777) {
            let parts = [ns / 7, ns / 3, ns - ns / 7 - ns / 3];
            let split = split_ms(&stall(ns, parts));
            assert_eq!(split.parts.iter().sum::<u64>(), split.duration, "{ns}");
        }
    }

    #[test]
    fn a_length_of_time_in_a_sentence() {
        for (ns, words) in [
            (0, "0.0 ms"),
            (340_000, "0.3 ms"),
            (126_499_999, "126 ms"),
            (2_345_000_000, "2.3 s"),
            (119 * NS_PER_S, "119 s"),
            (2460 * NS_PER_S, "41 min"),
            (18_720 * NS_PER_S, "5.2 h"),
        ] {
            assert_eq!(spoken(ns), words);
        }
    }

    #[test]
    fn parts_that_do_not_sum_are_left_so() {
        let unknown = stall(126_000_000, [2_400_000, 0, 0]);
        assert_eq!(split_ms(&unknown), SplitMs { duration: 126, parts: [2, 0, 0] });
        let over = stall(1_000_000, [u64::MAX, u64::MAX, u64::MAX]);
        assert_eq!(split_ms(&over).duration, 1);
    }
}
