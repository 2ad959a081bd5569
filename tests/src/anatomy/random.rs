//! Many stalls at random places, each judged by three questions: whose, why, where. No I/O, no clock.

use std::collections::BTreeMap;

use anyhow::Result;

use super::judge::parts_at;
use super::marks::Marks;
use super::truth::Stalled;
use crate::said::{Anatomy, Stall};

/// Classes that are so near to the longest may be told in its place.
const TIE_MS: f64 = 4.0;
/// The same, of the stall's duration.
const TIE: f64 = 0.1;
/// Stalls that are quoted.
const QUOTED: usize = 12;

/// What is demanded of all of them.
pub const RIGHT_LINES: f64 = 0.99;

/// A line that was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One at which the worker was then.
    Right,
    /// None.
    Unknown,
    /// Another.
    Wrong,
}

/// What became of them.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Stalls that were made.
    pub made: usize,
    /// Those that were reported, with their session.
    pub sessions: usize,
    /// Those with the right class.
    pub classes: usize,
    /// Those with the right line at their end.
    pub lines: usize,
    /// Those with none.
    pub unknown: usize,
    /// Those with a wrong one, at their end or at any look.
    pub wrong: usize,
    /// Looks, at all.
    pub captures: usize,
    /// The first that were not as they should be.
    pub quoted: Vec<String>,
}

impl Tally {
    /// Adds a stall and what was told of it.
    pub fn add(&mut self, truth: &Stalled, told: Option<&Stall>, marks: &Marks) -> Result<()> {
        self.made += 1;
        let Some(told) = told else {
            self.quote(format!("not reported: {truth:?}"));
            return Ok(());
        };
        self.sessions += 1;
        let anatomy = told.demand_anatomy()?;
        let classes = classes(truth);
        if classes.iter().any(|class| Some(class.as_str()) == anatomy.cause.as_deref()) {
            self.classes += 1;
        } else {
            self.quote(format!("{:?}, not {classes:?}: {truth:?}", anatomy.causes_ms));
        }
        self.captures += anatomy.captures.len();
        match place(truth, anatomy, marks)? {
            Place::Right => self.lines += 1,
            Place::Unknown => {
                self.unknown += 1;
                self.quote(format!("no line of {truth:?}"));
            }
            Place::Wrong => {
                self.wrong += 1;
                self.quote(format!("{:?}: {truth:?}", anatomy.captures));
            }
        }
        Ok(())
    }

    /// Whether all that is demanded is met.
    pub fn passed(&self) -> bool {
        let is_all = self.sessions == self.made && self.classes == self.made;
        let least = (self.made as f64 * RIGHT_LINES).ceil() as usize;
        self.made > 0 && is_all && self.lines >= least && self.wrong == 0
    }

    fn quote(&mut self, what: String) {
        if self.quoted.len() < QUOTED {
            self.quoted.push(what);
        }
    }
}

/// The classes that may be told: the longest one, and those that are as long but for a little.
fn classes(truth: &Stalled) -> Vec<String> {
    let mut ms: BTreeMap<&str, f64> = BTreeMap::from([("run-queue", truth.delay_ms())]);
    for part in &truth.parts {
        let class = part.cause.as_deref().unwrap_or_default();
        let wall_ms = part.to_ms - part.from_ms;
        // What it computes may have had to wait for a CPU.
        let own_ms = if class == "cpu" { wall_ms.min(truth.cpu_ms) } else { wall_ms };
        *ms.entry(class).or_default() += own_ms;
    }
    let longest_ms = ms.values().copied().fold(0.0, f64::max);
    let least_ms = longest_ms - TIE_MS.max(TIE * truth.wall_ms);
    let near = ms.into_iter().filter(|(_, own_ms)| *own_ms > 0.0 && *own_ms >= least_ms);
    near.map(|(class, _)| class.to_owned()).collect()
}

/// Where it is said to be at its end; one wrong look makes it wrong.
fn place(truth: &Stalled, anatomy: &Anatomy, marks: &Marks) -> Result<Place> {
    let mut place = Place::Unknown;
    for capture in &anatomy.captures {
        place = Place::Unknown;
        if capture.line.is_none() {
            continue;
        }
        for part in parts_at(&truth.parts, capture.at_ms) {
            let mark = marks.demand(&part.mark)?;
            if mark.has(capture.file.as_deref(), capture.line)
                && mark.is_in(capture.function.as_deref())
            {
                place = Place::Right;
            }
        }
        if place == Place::Unknown {
            return Ok(Place::Wrong);
        }
    }
    // The stack and the looks have to agree.
    let users = anatomy.users().map(|frame| (&frame.file, frame.line));
    let last = anatomy.captures.last().map(|capture| (&capture.file, capture.line));
    Ok(if place == Place::Right && users != last { Place::Wrong } else { place })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::anatomy::truth::Part;

    fn truth(parts: &[(&str, f64, f64)], cpu_ms: f64, delay_ms: f64) -> Stalled {
        let part = |(cause, from_ms, to_ms): &(&str, f64, f64)| Part {
            mark: "m".to_owned(),
            cause: Some((*cause).to_owned()),
            from_ms: *from_ms,
            to_ms: *to_ms,
        };
        Stalled {
            parts: parts.iter().map(part).collect(),
            wall_ms: parts.last().unwrap().2,
            cpu_ms,
            run_delay_ms: Some(delay_ms),
            ..Stalled::default()
        }
    }

    #[test]
    fn the_longest_class_is_the_right_one_and_a_tie_is_either() {
        assert_eq!(classes(&truth(&[("sleep", 0.0, 100.0)], 0.1, 0.2)), ["sleep"]);
        let mixed = truth(&[("sleep", 0.0, 40.0), ("cpu", 40.0, 100.0)], 60.0, 0.0);
        assert_eq!(classes(&mixed), ["cpu"]);
        let tied = truth(&[("sleep", 0.0, 47.0), ("cpu", 47.0, 100.0)], 53.0, 0.0);
        assert_eq!(classes(&tied), ["cpu", "sleep"]);
        let kept = truth(&[("cpu", 0.0, 100.0)], 20.0, 80.0);
        assert_eq!(classes(&kept), ["run-queue"]);
    }

    #[test]
    fn nothing_made_and_nothing_reported_is_no_success() {
        let mut tally = Tally::default();
        assert!(!tally.passed());
        tally.add(&truth(&[("sleep", 0.0, 100.0)], 0.0, 0.0), None, &Marks::default()).unwrap();
        assert!(!tally.passed() && tally.quoted.len() == 1);
    }
}
