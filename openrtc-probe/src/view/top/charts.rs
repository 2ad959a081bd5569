//! Charts of one session: its CPU over the last minute, and histograms of its polls.

use crate::model::{Bucket, Histogram, SECONDS};
use crate::view::bars::bar;
use crate::view::chart::area;
use crate::view::harmless::width;
use crate::view::top::palette::Palette;
use crate::view::top::text::Text;
use crate::view::units::{Number, percent};

/// Lines of the chart of CPU.
const LINES: usize = 4;
/// What stands on its left: `100% ┤`.
const MARGIN: usize = 7;
/// The tops of charts that are easy to read, as shares of a core.
const TOPS: [f64; 9] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
/// From so many columns on histograms stand side by side.
const TWO_ABREAST: usize = 100;
/// Between them.
const GAP: usize = 4;
/// The widest bar of a histogram.
const WIDEST: usize = 40;

/// Adds the chart of a session's CPU, second by second, the oldest first.
pub(super) fn history(text: &mut Text, ratios: &[f64]) {
    let (Some(last), Some(max)) = (ratios.last(), ratios.iter().copied().reduce(f64::max)) else {
        text.section("CPU, last minute");
        text.styled("  no whole second yet", Palette::PAST);
        return;
    };
    let share = |ratio: f64| Number::new(percent(ratio), 1).full();
    let facts = format!("CPU, last minute: max {} %, last {} %", share(max), share(*last));
    text.section(&facts);
    let room = text.columns().saturating_sub(MARGIN).max(1);
    // Each second is as many columns wide, or so many seconds share one.
    let (seconds, times) = (SECONDS.div_ceil(room), (room / SECONDS).clamp(1, 2));
    let chunks = ratios.rchunks(seconds).rev();
    let worst = |chunk: &[f64]| chunk.iter().copied().fold(0.0, f64::max);
    let cells: Vec<_> = chunks.flat_map(|chunk| vec![Some(worst(chunk)); times]).collect();
    let top = TOPS.into_iter().find(|top| max <= *top).unwrap_or(max);
    let width = SECONDS.div_ceil(seconds) * times;
    for (at, line) in area(&cells, width, LINES, top).iter().enumerate() {
        let share = Number::new(percent(top), 0).full();
        let label = if at == 0 { format!("{share}% ┤") } else { "│".into() };
        text.say(&format!("{label:>MARGIN$}{line:>width$}"));
    }
    let (from, to) = ("-60 s", "now");
    let blank = width.saturating_sub(from.len());
    text.say(&format!("{:>MARGIN$}{from}{to:>blank$}", "└"));
}

/// Adds histograms, each with its heading: side by side where there is room.
pub(super) fn side_by_side(text: &mut Text, both: [(&str, &Histogram); 2]) {
    let is_wide = text.columns() >= TWO_ABREAST;
    let columns = if is_wide { (text.columns() - GAP) / 2 } else { text.columns() };
    let [left, right] = both.map(|(what, histogram)| {
        let heading = format!("{what}: {}", histogram.count());
        (heading, histogram_lines(histogram, columns))
    });
    if !is_wide {
        for (heading, lines) in [left, right] {
            text.section(&heading);
            text.all(&lines);
        }
        return;
    }
    let beside = |left: &str, right: &str| {
        let blank = " ".repeat((columns + GAP).saturating_sub(width(left)));
        format!("{left}{blank}{right}")
    };
    text.section(&beside(&left.0, &right.0));
    for at in 0..left.1.len().max(right.1.len()) {
        let line = |lines: &[String]| lines.get(at).cloned().unwrap_or_default();
        text.say(&beside(&line(&left.1), &line(&right.1)));
    }
}

/// A line for each class that is not empty, and for those between.
fn histogram_lines(histogram: &Histogram, columns: usize) -> Vec<String> {
    let is_some = |bucket: &Bucket| bucket.count > 0;
    let buckets = &histogram.buckets;
    let (Some(first), Some(last)) =
        (buckets.iter().position(is_some), buckets.iter().rposition(is_some))
    else {
        return vec!["  none yet".into()];
    };
    let shown = buckets.get(first..=last).unwrap_or_default();
    let labels: Vec<String> = shown.iter().map(bounds).collect();
    let counts: Vec<String> =
        shown.iter().map(|bucket| Number::count(bucket.count).fit(6)).collect();
    let widest = |texts: &[String]| texts.iter().map(|text| width(text)).max().unwrap_or(0);
    let (label_width, count_width) = (widest(&labels), widest(&counts));
    let room = columns.saturating_sub(label_width + count_width + 4).min(WIDEST);
    let max = shown.iter().map(|bucket| bucket.count).max().unwrap_or(0);
    let lines = shown.iter().zip(labels).zip(counts).map(|((bucket, label), count)| {
        let bar = bar(fill(bucket.count, max), room);
        format!("  {label:>label_width$} {count:>count_width$} {bar}").trim_end().to_owned()
    });
    let mut lines: Vec<String> = lines.collect();
    lines.push("  (bars: logarithm of the count)".into());
    lines
}

/// How far a bar is filled: rare long polls are what is looked for, so by the logarithm.
fn fill(count: u64, max: u64) -> f64 {
    let log = |count: u64| (1.0 + count as f64).ln();
    if max == 0 { 0.0 } else { log(count) / log(max) }
}

/// `2-4 ms`, and `≥4 s` of the last class.
fn bounds(bucket: &Bucket) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000, "s"), (1_000_000, "ms"), (1000, "µs"), (1, "ns")];
    let largest = bucket.below_ns.unwrap_or(bucket.least_ns);
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| largest >= *unit).unwrap_or((1, "ns"));
    let value = |ns: u64| {
        let value = ns as f64 / unit as f64;
        // Octaves of 2^20 ns are 1.05 ms: as exact as 2.1 is it not meant.
        let is_whole = value >= 10.0 || (value - value.round()).abs() < 0.051;
        Number::new(value, usize::from(!is_whole)).full()
    };
    match bucket.below_ns {
        Some(below_ns) => format!("{}-{} {name}", value(bucket.least_ns), value(below_ns)),
        None => format!("≥{} {name}", value(bucket.least_ns)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_told_by_their_bounds() {
        let of = |least_ns, below_ns| bounds(&Bucket { least_ns, below_ns, count: 0 });
        assert_eq!(of(2_000_000, Some(4_000_000)), "2-4 ms");
        assert_eq!(of(1 << 20, Some(1 << 21)), "1-2.1 ms");
        assert_eq!(of(1 << 19, Some(1 << 20)), "0.5-1 ms");
        assert_eq!(of(1 << 25, Some(1 << 26)), "34-67 ms");
        assert_eq!(of(0, Some(1024)), "0-1 µs");
        assert_eq!(of(0, Some(128)), "0-128 ns");
        assert_eq!(of(8_000_000_000, None), "≥8 s");
        assert_eq!(of(0, None), "≥0 ns");
    }

    #[test]
    fn bars_grow_with_the_count_and_one_is_seen() {
        assert!(fill(1, 1_000_000) > 0.04);
        assert!((fill(7, 7) - 1.0).abs() < f64::EPSILON);
        assert!(fill(0, 7) < f64::EPSILON && fill(0, 0) < f64::EPSILON);
    }

    #[test]
    fn the_chart_of_a_minute_has_the_last_second_on_its_right_at_every_width() {
        let mut ratios = vec![0.0; SECONDS];
        ratios[SECONDS - 1] = 1.0;
        for columns in 10..150 {
            let mut text = Text::new(columns);
            history(&mut text, &ratios);
            let lines: Vec<_> = text.into_lines().iter().map(ToString::to_string).collect();
            let top: Vec<_> = lines.iter().filter(|line| line.ends_with('█')).collect();
            assert_eq!(top.len(), LINES, "{columns}: {lines:#?}");
            assert!(lines.iter().all(|line| width(line) <= columns.into()), "{columns}");
        }
    }
}
