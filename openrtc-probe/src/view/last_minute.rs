//! The last minute as two charts side by side: the worker's CPU, and the longest poll of each second.
//!
//! A second with a stall is a `!`: in one row in place of its bar, else below it.

use crate::model::{SECONDS, Second, Snapshot};
use crate::view::chart::{area, spark};
use crate::view::harmless::{cut, width};
use crate::view::header::{Line, NARROW, Tone};
use crate::view::units::{Number, millis, percent, spoken, with_unit};

/// A chart of fewer seconds says nothing.
const LEAST_SECONDS: usize = 8;
/// More rows tell no more.
const MOST_ROWS: usize = 6;
/// What a tall chart has besides its rows: the title, and the marks.
const AROUND: usize = 2;
/// Between two charts.
const GAP: &str = "  ";
/// For a second with a stall.
const STALLED: char = '!';

/// How many lines of a screen of this size it is worth: where there are few, or they are narrow, words tell
/// more.
pub fn share(columns: usize, lines: usize) -> usize {
    match lines {
        _ if columns < NARROW => 0,
        0..20 => 0,
        20..40 => 1,
        _ => (lines / 8).min(AROUND + MOST_ROWS),
    }
}

/// On at most so many lines; none where there is no room for a chart, or nothing to draw.
pub fn lines(snapshot: &Snapshot, columns: usize, most: usize) -> Vec<Line> {
    // The minute of several workers is nobody's.
    if most == 0 || snapshot.fleet.is_some() || snapshot.history.seconds.is_empty() {
        return vec![];
    }
    let texts = if most < AROUND + 2 {
        in_one_row(snapshot, columns).into_iter().collect()
    } else {
        tall(snapshot, columns, (most - AROUND).min(MOST_ROWS))
    };
    texts.into_iter().map(|text| Line { text, tone: Tone::Dim }).collect()
}

/// Names for the charts, with the latest value of one and the highest of the other.
fn labels(snapshot: &Snapshot) -> [String; 2] {
    let latest = snapshot.history.seconds.last().and_then(|second| second.cpu_ratio);
    let latest = latest.map(|ratio| Number::new(percent(ratio), 0));
    [
        format!("cpu {:>5}", with_unit(latest, "%")),
        format!("longest poll {}", spoken(longest(snapshot))),
    ]
}

fn longest(snapshot: &Snapshot) -> u64 {
    let all = snapshot.history.seconds.iter().map(|second| second.longest_poll_ns);
    all.max().unwrap_or_default()
}

/// Of the CPU a full bar is one core, or as many as there were in use; of the polls it is the threshold.
fn in_one_row(snapshot: &Snapshot, columns: usize) -> Option<String> {
    let [cpu, poll] = labels(snapshot);
    let names = width(&cpu) + width(&poll) + 2 * " ".len() + GAP.len();
    let seconds = &snapshot.history.seconds;
    let bars = |of: &[Second]| polls_in_one_row(of, snapshot.threshold_ns.max(1));
    let each = columns.saturating_sub(names) / 2;
    if each >= LEAST_SECONDS {
        let last = last(seconds, each);
        let cpu_bars = spark(last.iter().map(|second| second.cpu_ratio), cores(snapshot));
        return Some(format!("{cpu} {cpu_bars}{GAP}{poll} {}", bars(last)));
    }
    let room = columns.saturating_sub(width(&poll) + 1);
    (room >= LEAST_SECONDS).then(|| format!("{poll} {}", bars(last(seconds, room))))
}

fn polls_in_one_row(seconds: &[Second], threshold_ns: u64) -> String {
    let bars = spark(seconds.iter().map(|it| Some(longest_of(it))), threshold_ns as f64);
    let mark = |(second, bar): (&Second, char)| if second.stalls > 0 { STALLED } else { bar };
    seconds.iter().zip(bars.chars()).map(mark).collect()
}

fn tall(snapshot: &Snapshot, columns: usize, rows: usize) -> Vec<String> {
    let seconds = &snapshot.history.seconds;
    let cores = cores(snapshot);
    let max_ns = longest(snapshot).max(snapshot.threshold_ns);
    let tops = [Number::new(percent(cores), 0).full(), Number::new(millis(max_ns), 0).full()];
    let axis = tops.iter().map(|top| width(top) + 1).max().unwrap_or_default();
    let each = (columns.saturating_sub(2 * axis + GAP.len()) / 2).min(SECONDS);
    if each < LEAST_SECONDS {
        return in_one_row(snapshot, columns).into_iter().collect();
    }
    let [cpu_top, poll_top] = tops;
    let [cpu_name, poll_name] = labels(snapshot);
    let cpu: Vec<_> = seconds.iter().map(|second| second.cpu_ratio).collect();
    let polls: Vec<_> = seconds.iter().map(|second| Some(longest_of(second))).collect();
    let cpu = Chart {
        title: format!("{cpu_name} of a core"),
        top: cpu_top,
        rows: area(&cpu, each, rows, cores),
    };
    let polls = Chart {
        title: format!("{poll_name} (ms, {STALLED} stalled)"),
        top: poll_top,
        rows: area(&polls, each, rows, max_ns as f64),
    };
    let (left, right) = (cpu.lines(axis, each), polls.lines(axis, each));
    let beside = |(left, right)| format!("{left}{GAP}{right}");
    let mut lines: Vec<String> = left.into_iter().zip(right).map(beside).collect();
    lines.push(marks(last(seconds, each), 2 * (axis + each) + GAP.len()));
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines
}

/// An area with what it needs to be read.
struct Chart {
    title: String,
    /// The value of its first row's upper edge; that of the last row's lower one is 0.
    top: String,
    rows: Vec<String>,
}

impl Chart {
    /// All of one width.
    fn lines(&self, axis: usize, each: usize) -> Vec<String> {
        let last = self.rows.len().saturating_sub(1);
        let label = |at: usize| match at {
            0 => &self.top,
            at if at == last => "0",
            _ => "",
        };
        let wide = axis.saturating_sub(1);
        let rows = self.rows.iter().enumerate();
        let rows = rows.map(|(at, row)| format!("{:>wide$} {row}", label(at)));
        let title = cut(&self.title, axis + each);
        std::iter::once(format!("{title:<width$}", width = axis + each)).chain(rows).collect()
    }
}

/// The marks of the seconds with stalls, so that they end at a column.
fn marks(seconds: &[Second], end: usize) -> String {
    let mark = |second: &Second| if second.stalls > 0 { STALLED } else { ' ' };
    let marks: String = seconds.iter().map(mark).collect();
    format!("{marks:>end$}")
}

fn last(seconds: &[Second], most: usize) -> &[Second] {
    seconds.get(seconds.len().saturating_sub(most)..).unwrap_or_default()
}

fn longest_of(second: &Second) -> f64 {
    second.longest_poll_ns as f64
}

/// One, or as many as were in use at once.
fn cores(snapshot: &Snapshot) -> f64 {
    let used = snapshot.history.seconds.iter().filter_map(|second| second.cpu_ratio);
    used.fold(1.0, f64::max).ceil()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples;

    fn texts(snapshot: &Snapshot, columns: usize, most: usize) -> Vec<String> {
        lines(snapshot, columns, most).into_iter().map(|line| line.text).collect()
    }

    fn few() -> Snapshot {
        let mut it = samples::empty();
        it.history.seconds = [(0.0, 0, 0), (0.5, 25, 0), (1.0, 126, 1), (0.25, 3, 0)]
            .map(|(ratio, ms, stalls)| Second {
                cpu_ratio: Some(ratio),
                longest_poll_ns: ms * 1_000_000,
                stalls,
                rss_bytes: None,
            })
            .into();
        it
    }

    #[test]
    fn in_one_row_a_stall_is_a_mark() {
        assert_eq!(texts(&few(), 80, 1), ["cpu  25 % ·▄█▂  longest poll 126 ms ·▄!▁"]);
        assert_eq!(texts(&few(), 40, 3), ["longest poll 126 ms ·▄!▁"]);
        assert_eq!(texts(&few(), 20, 1), [] as [&str; 0]);
    }

    #[test]
    fn tall_charts_have_axes_with_units_and_marks_below() {
        let lines = texts(&few(), 36, 5);
        assert_eq!(
            lines,
            [
                "cpu  25 % of a c…  longest poll 126…",
                "100            █   126            █",
                "              ▄█                  █",
                "  0          ·██▆    0          ·▅█▁",
                "                                  !",
            ]
        );
    }

    #[test]
    fn what_is_not_known_has_no_chart_and_none_is_too_wide() {
        assert_eq!(texts(&Snapshot::default(), 200, 9), [] as [&str; 0]);
        assert_eq!(texts(&samples::fleet(), 200, 9), [] as [&str; 0]);
        for columns in 0..200 {
            for most in 0..10 {
                let lines = texts(&samples::three(), columns, most);
                assert!(lines.len() <= most);
                for line in lines {
                    assert!(width(&line) <= columns, "{columns}: {line:?}");
                }
            }
        }
    }
}
