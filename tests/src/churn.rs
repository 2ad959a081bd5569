//! `churn.py` beside what the probe said of it: sessions that are replaced all the time, each with CPU time of
//! its own, so that a neighbour's would show. No I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    said::{Session, Snapshot},
    setting::Loop,
    truth::{self, Truth},
};

/// How a session's CPU time may differ from the worker's own account of it.
struct Tolerance {
    /// For each poll, what the probe sees around the worker's measurement.
    per_poll_s: f64,
    /// For each session, whatever it did.
    constant_s: f64,
    /// What the probe's own breakpoints take of each poll, which it does not charge to anybody.
    below_per_poll_s: f64,
}

/// On the stdlib loop the worker measures each callback at its boundary.
const AT_THE_BOUNDARY: Tolerance =
    Tolerance { per_poll_s: 0.000_003, constant_s: 0.000_3, below_per_poll_s: 0.000_010 };
/// On uvloop it measures from just inside it: the start and the end of each are missed, 50 us after
/// an idle wait.
const FROM_INSIDE: Tolerance =
    Tolerance { per_poll_s: 0.000_150, constant_s: 0.000_3, below_per_poll_s: 0.000_010 };

impl Tolerance {
    fn of(kind: Loop) -> &'static Tolerance {
        if kind == Loop::Uvloop { &FROM_INSIDE } else { &AT_THE_BOUNDARY }
    }

    fn above_s(&self, real: &truth::Session) -> f64 {
        real.cpu_ns as f64 / 1e9 + self.constant_s + real.polls as f64 * self.per_poll_s
    }

    fn below_s(&self, real: &truth::Session) -> f64 {
        real.cpu_ns as f64 / 1e9 - self.constant_s - real.polls as f64 * self.below_per_poll_s
    }
}

/// What was shown of each session, picture by picture.
#[derive(Debug, Default)]
pub struct Watched {
    /// Of the first picture.
    early: Option<BTreeSet<String>>,
    shown: BTreeMap<String, Shown>,
}

#[derive(Debug)]
struct Shown {
    last: Session,
    most_s: f64,
}

/// All sessions beside the truth. A session is whole where it was seen from its begin to its end.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Sessions that were shown, and are real.
    pub seen: usize,
    /// Those that were shown, and are not.
    pub invented: Vec<String>,
    /// Of those seen.
    pub whole: usize,
    /// Of the whole ones.
    pub polls: i64,
    /// Of the whole ones, those with one poll less. A session's first step is untagged until it has tagged itself:
    /// where it has to wait for a CPU just then, for longer than all the rest takes, the poll is untagged's.
    pub lack_one_poll: usize,
    /// The whole ones with any other number of polls than they made.
    pub other_polls: Vec<String>,
    /// CPU of the whole ones, by the probe and by the worker.
    pub cpu_s: [f64; 2],
    /// CPU of all that were seen, by the probe.
    pub all_s: f64,
    /// CPU above what one's own can be, of all.
    pub too_much_s: f64,
    /// CPU below what one's own can be, of the whole ones.
    pub too_little_s: f64,
    /// Who had more or less than can be.
    pub wrong: Vec<String>,
}

impl Watched {
    /// Takes note of a picture.
    pub fn see(&mut self, picture: &Snapshot) {
        let ids = || picture.sessions.iter().map(|session| session.id.clone()).collect();
        self.early.get_or_insert_with(ids);
        for session in &picture.sessions {
            let before_s = self.shown.get(&session.id).map_or(0.0, |shown| shown.most_s);
            let most_s = session.usage.cpu_s.max(before_s);
            self.shown.insert(session.id.clone(), Shown { last: session.clone(), most_s });
        }
    }

    /// All that was shown beside the truth at the end.
    pub fn judge(&self, truth: &Truth, kind: Loop) -> Judgement {
        let tolerance = Tolerance::of(kind);
        let mut found = Judgement::default();
        for (id, Shown { last, most_s }) in &self.shown {
            let Some(real) = truth.sessions.get(id) else {
                found.invented.push(id.clone());
                continue;
            };
            let is_whole = self.was_seen_whole(last);
            let too_much_s = (most_s - tolerance.above_s(real)).max(0.0);
            let too_little_s =
                if is_whole { (tolerance.below_s(real) - most_s).max(0.0) } else { 0.0 };
            found.seen += 1;
            found.all_s += most_s;
            found.too_much_s += too_much_s;
            found.too_little_s += too_little_s;
            if too_much_s + too_little_s > 0.0 {
                let what = format!("{most_s:.6} s, whole: {is_whole}, {last:?}, really {real:?}");
                found.wrong.push(what);
            }
            if is_whole {
                found.count_whole(last, real);
            }
        }
        found
    }

    /// It began after the first picture, and it was shown as ended.
    fn was_seen_whole(&self, last: &Session) -> bool {
        let was_early = self.early.as_ref().is_some_and(|early| early.contains(&last.id));
        !was_early && !last.is_lower_bound && last.status == "ended"
    }
}

impl Judgement {
    fn count_whole(&mut self, last: &Session, real: &truth::Session) {
        self.whole += 1;
        self.polls += last.usage.polls;
        self.cpu_s[0] += last.usage.cpu_s;
        self.cpu_s[1] += real.cpu_ns as f64 / 1e9;
        match real.polls - last.usage.polls {
            0 => {}
            1 => self.lack_one_poll += 1,
            _ => self.other_polls.push(format!("{last:?}, really {real:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::said::Usage;

    fn picture(sessions: &[(&str, f64, i64, &str)]) -> Snapshot {
        let session = |(id, cpu_s, polls, status): &(&str, f64, i64, &str)| Session {
            id: (*id).to_owned(),
            usage: Usage { cpu_s: *cpu_s, polls: *polls, ..Usage::default() },
            status: (*status).to_owned(),
            ..Session::default()
        };
        Snapshot { sessions: sessions.iter().map(session).collect(), ..Snapshot::default() }
    }

    fn truth(sessions: &[(&str, f64, i64)]) -> Truth {
        let session = |(id, cpu_s, polls): &(&str, f64, i64)| {
            let cpu_ns = (cpu_s * 1e9) as i64;
            ((*id).to_owned(), truth::Session { cpu_ns, polls: *polls, ..Default::default() })
        };
        Truth { sessions: sessions.iter().map(session).collect(), ..Truth::default() }
    }

    #[test]
    fn a_neighbours_time_and_a_poll_too_few_are_found() {
        let mut watched = Watched::default();
        watched.see(&picture(&[("early", 0.1, 9, "active")]));
        watched.see(&picture(&[("early", 0.2, 19, "ended"), ("right", 0.1, 10, "active")]));
        watched.see(&picture(&[("right", 0.2, 19, "ended"), ("robbed", 0.1, 18, "ended")]));
        watched.see(&picture(&[("robber", 0.3, 20, "active"), ("nobody", 0.1, 1, "active")]));
        let real =
            [("early", 0.4, 40), ("right", 0.2, 20), ("robbed", 0.2, 20), ("robber", 0.2, 20)];
        let found = watched.judge(&truth(&real), Loop::Asyncio);
        assert_eq!((found.seen, found.whole, found.lack_one_poll), (4, 2, 1));
        assert_eq!((found.invented.len(), found.other_polls.len(), found.wrong.len()), (1, 1, 2));
        assert!(found.too_much_s > 0.099 && found.too_much_s < 0.1, "{found:?}");
        assert!(found.too_little_s > 0.099 && found.too_little_s < 0.1, "{found:?}");
    }
}
