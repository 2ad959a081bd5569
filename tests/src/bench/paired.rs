//! Figures of several rounds: the middle, the spread, and how sure the middle is.

/// One figure a round.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Paired(Vec<f64>);

impl Paired {
    /// Adds a round's.
    pub fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// Each, in the order of the rounds.
    pub fn rounds(&self) -> &[f64] {
        &self.0
    }

    /// The middle one, `None` of none.
    pub fn median(&self) -> Option<f64> {
        let sorted = self.sorted();
        let (low, high) =
            (sorted.get((sorted.len().max(1) - 1) / 2)?, sorted.get(sorted.len() / 2)?);
        Some(f64::midpoint(*low, *high))
    }

    /// Between which of them the true median lies in 95 of 100 cases, whatever the distribution: by the binomial
    /// distribution of how many lie below it. Of fewer than six rounds all of them.
    pub fn interval(&self) -> Option<(f64, f64)> {
        let sorted = self.sorted();
        let left_out = left_out(sorted.len());
        Some((*sorted.get(left_out)?, *sorted.get(sorted.len() - 1 - left_out)?))
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// How many can be left out at each end.
fn left_out(rounds: usize) -> usize {
    let (mut below, mut term) = (0.0, 0.5_f64.powi(i32::try_from(rounds).unwrap_or(i32::MAX)));
    for outside in 0..rounds {
        below += term;
        if below > 0.025 {
            return outside.saturating_sub(1);
        }
        term *= (rounds - outside) as f64 / (outside + 1) as f64;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paired(figures: &[f64]) -> Paired {
        Paired(figures.to_vec())
    }

    #[test]
    fn the_middle_and_how_sure_it_is() {
        assert_eq!(paired(&[]).median(), None);
        assert_eq!(paired(&[3.0, 1.0, 2.0]).median(), Some(2.0));
        assert_eq!(paired(&[4.0, 1.0, 3.0, 2.0]).median(), Some(2.5));
        assert_eq!(paired(&[3.0, 1.0, 2.0]).interval(), Some((1.0, 3.0)), "all");
        // From tables of the sign test.
        assert_eq!([5, 6, 8, 9, 12, 20].map(left_out), [0, 0, 0, 1, 2, 5]);
        let nine: Vec<f64> = (1..=9).map(f64::from).collect();
        assert_eq!(paired(&nine).interval(), Some((2.0, 8.0)));
    }
}
