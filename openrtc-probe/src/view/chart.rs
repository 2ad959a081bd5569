//! Charts made of characters: a row of bars in eighths, and an area of several rows.
//!
//! - **A little of something is never shown as nothing**: what is above zero has at least an eighth.
//! - Zero is `·`, and what is not known is a space.
//! - The newest value stands at the right.

/// From one eighth to all of them.
const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// For zero.
const ZERO: char = '·';
/// For what is not known.
const BLANK: char = ' ';

/// One row, a character for each value; `max` and what is above it fills its own.
pub fn spark(values: impl IntoIterator<Item = Option<f64>>, max: f64) -> String {
    let bar = |value: Option<f64>| value.map_or(BLANK, |value| slice(eighths(value, max, 1), 0));
    values.into_iter().map(bar).collect()
}

/// So many rows of so many characters, the highest first: the last of the values, at the right.
pub fn area(values: &[Option<f64>], width: usize, height: usize, max: f64) -> Vec<String> {
    let shown = values.get(values.len().saturating_sub(width)..).unwrap_or_default();
    let margin = BLANK.to_string().repeat(width.saturating_sub(shown.len()));
    let row = |row| -> String {
        let bar = |value: &Option<f64>| {
            value.map_or(BLANK, |value| slice(eighths(value, max, height), row))
        };
        margin.clone() + &shown.iter().map(bar).collect::<String>()
    };
    (0..height).rev().map(row).collect()
}

/// How high a value is, in eighths of a row.
fn eighths(value: f64, max: f64, height: usize) -> usize {
    let fill = if value.is_finite() && max > 0.0 { (value / max).clamp(0.0, 1.0) } else { 0.0 };
    let all = height * EIGHTHS.len();
    let eighths = (fill * all as f64).round() as usize;
    if fill > 0.0 { eighths.max(1) } else { 0 }
}

/// What of a bar is in a row, counted from below.
fn slice(eighths: usize, row: usize) -> char {
    if eighths == 0 && row == 0 {
        return ZERO;
    }
    let inside = eighths.saturating_sub(row * EIGHTHS.len()).min(EIGHTHS.len());
    inside.checked_sub(1).and_then(|at| EIGHTHS.get(at)).copied().unwrap_or(BLANK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_in_eighths() {
        let all = [Some(0.0), Some(0.001), Some(0.25), Some(0.5), Some(1.0), Some(9.0), None];
        assert_eq!(spark(all, 1.0), "·▁▂▄██ ");
        assert_eq!(spark([Some(f64::NAN), Some(-1.0)], 1.0), "··");
        assert_eq!(spark([Some(1.0)], 0.0), "·", "without a scale nothing is high");
        assert_eq!(spark([], 1.0), "");
    }

    #[test]
    fn an_area_has_its_newest_value_at_the_right() {
        let values = [Some(9.0), Some(0.0), Some(1.0), Some(5.0), Some(8.0), None];
        assert_eq!(area(&values, 5, 2, 8.0), ["  ▂█ ", "·▂██ "]);
        assert_eq!(area(&values, 7, 1, 8.0), [" █·▁▅█ "]);
        assert_eq!(area(&[], 3, 2, 8.0), ["   ", "   "]);
        assert_eq!(area(&values, 0, 1, 8.0), [""]);
    }
}
