//! Bars out of characters: what they show is told without colour.

/// Parts of a cell, from the left, in eighths.
const LEFT: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
/// A part of a stacked bar: what fills it, and how much it is.
pub type Part = (char, u64);

/// Parts side by side on `width` columns. They sum to the width where they sum to anything; a little of
/// something is never shown as nothing while there is a column for it.
pub fn stacked(parts: &[Part], width: usize) -> String {
    let sum: u128 = parts.iter().map(|(_, value)| u128::from(*value)).sum();
    if sum == 0 {
        return String::new();
    }
    let exact = |value: u64| u128::from(value) * width as u128;
    let mut cells: Vec<usize> = parts
        .iter()
        .map(|(_, value)| ((exact(*value) / sum) as usize).max(usize::from(*value > 0)))
        .collect();
    let mut by_remainder: Vec<usize> = (0..parts.len()).collect();
    let remainder = |at: &usize| parts.get(*at).map_or(0, |(_, value)| exact(*value) % sum);
    by_remainder.sort_by_key(|at| std::cmp::Reverse(remainder(at)));
    let missing = width.saturating_sub(cells.iter().sum());
    for at in by_remainder.into_iter().take(missing) {
        cells.iter_mut().skip(at).take(1).for_each(|cell| *cell += 1);
    }
    // What the small ones were given is taken from the large ones, or from the last.
    let mut too_many = cells.iter().sum::<usize>().saturating_sub(width);
    while too_many > 0 {
        let Some(largest) = cells.iter_mut().rev().max_by_key(|cell| **cell) else { break };
        *largest = largest.saturating_sub(1);
        too_many -= 1;
    }
    let fills = parts.iter().map(|(fill, _)| fill.to_string());
    fills.zip(cells).map(|(fill, count)| fill.repeat(count)).collect()
}

/// A bar of at most `width` columns, filled in eighths; a little of something is never shown as nothing.
pub fn bar(fill: f64, width: usize) -> String {
    let fill = if fill.is_finite() { fill.clamp(0.0, 1.0) } else { 0.0 };
    let eighths = (fill * width as f64 * 8.0).round() as usize;
    let eighths = if fill > 0.0 { eighths.max(1).min(width * 8) } else { 0 };
    "█".repeat(eighths / 8) + LEFT.get(eighths % 8).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fill_the_width_and_none_is_lost() {
        assert_eq!(stacked(&[('a', 1), ('b', 1)], 4), "aabb");
        assert_eq!(stacked(&[('a', 2), ('b', 1)], 4), "aaab");
        assert_eq!(stacked(&[('a', 1000), ('b', 1), ('c', 0)], 8), "aaaaaaab");
        assert_eq!(stacked(&[('a', 1), ('b', 1000), ('c', 1)], 8), "abbbbbbc");
        assert_eq!(stacked(&[('a', u64::MAX), ('b', u64::MAX)], 2), "ab");
        assert_eq!(stacked(&[('a', 0), ('b', 0)], 8), "", "nothing is not a full bar");
        assert_eq!(stacked(&[('a', 1), ('b', 5)], 0), "");
        assert_eq!(stacked(&[('a', 1), ('b', 1), ('c', 1)], 2).len(), 2);
        for width in 0..50 {
            for seed in 0..50_u64 {
                let parts = [('a', seed), ('b', seed * seed % 37), ('c', 1), ('d', seed % 3)];
                let bar = stacked(&parts, width);
                assert_eq!(bar.chars().count(), width, "{parts:?}");
                let lost = |(fill, value): &Part| *value > 0 && !bar.contains(*fill);
                assert!(width < 4 || !parts.iter().any(lost), "{parts:?}: {bar}");
            }
        }
    }

    #[test]
    fn bars() {
        assert_eq!(bar(0.0, 4), "");
        assert_eq!(bar(0.0001, 4), "▏");
        assert_eq!(bar(0.55, 4), "██▎");
        assert_eq!(bar(7.0, 4), "████");
        assert_eq!(bar(f64::NAN, 4), "");
        assert_eq!(bar(0.5, 0), "");
    }
}
