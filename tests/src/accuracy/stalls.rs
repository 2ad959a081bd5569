//! Which real stall each report means.
//!
//! A real stall is one poll of the worker that passed the threshold by more than `BAND_MS`; polls
//! within the band may be reported or not, and are neither found nor invented. Nor are those that
//! already ran at attach: nobody can tell when they began.

use std::collections::BTreeMap;

use super::compare::Accounts;
use crate::said::Stall as Report;
use crate::truth::Stall;

/// How far from the threshold a poll is neither a stall nor none.
pub const BAND_MS: f64 = 2.0;
const START_NS: i64 = 20_000_000;

/// How one tool's reports meet the real stalls.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Real stalls while both looked.
    pub real: usize,
    /// Reports in that time.
    pub reported: usize,
    /// Real stalls with a report.
    pub found: usize,
    /// Of these, with the right session.
    pub right: usize,
    /// Reports of nothing.
    pub invented: usize,
    /// The greatest error of a duration, of those found.
    pub worst_error_ms: f64,
    /// Of those found, first reported while still running.
    pub early: usize,
}

struct Judge<'a> {
    accounts: &'a Accounts,
    offset_ns: i64,
}

impl Judge<'_> {
    fn is_inside(&self, stall: &Stall) -> bool {
        stall.start_ns >= self.accounts.first.at_ns && stall.end_ns <= self.accounts.last.at_ns
    }

    fn is_past_the_band(&self, stall: &Stall) -> bool {
        stall.wall_ms() > self.accounts.whole.threshold_ms + BAND_MS
    }

    fn counts(&self, stall: &Stall) -> bool {
        self.is_inside(stall) && self.is_past_the_band(stall)
    }

    fn is_in_the_band(&self, duration_ms: f64) -> bool {
        (duration_ms - self.accounts.whole.threshold_ms).abs() <= BAND_MS
    }

    /// The index of the report that means this stall: of the right session before the nearest.
    fn report_of(&self, stall: &Stall, ended: &[Option<&Report>]) -> Option<usize> {
        let start_real_ns = stall.start_ns + self.offset_ns;
        ended
            .iter()
            .enumerate()
            .filter_map(|(index, report)| Some((index, (*report)?)))
            .map(|(index, report)| {
                let apart = (report.started_real_ns - start_real_ns).abs();
                (apart, report.session != stall.session, index)
            })
            .filter(|(apart, ..)| *apart <= START_NS)
            .min_by_key(|(apart, wrong, _)| (*wrong, *apart))
            .map(|(.., index)| index)
    }
}

/// Matches the probe's reports, one to one, by start and session.
pub fn ours(accounts: &Accounts) -> Tally {
    let judge = Judge { accounts, offset_ns: accounts.whole.realtime_offset_ns };
    let ended = accounts.stalls.iter().filter(|stall| !stall.ongoing && !stall.is_lower_bound);
    let mut ended: Vec<_> = ended.map(Some).collect();
    let mut first_read: BTreeMap<&str, i64> = BTreeMap::new();
    for report in &accounts.stalls {
        first_read.entry(&report.id).or_insert(report.read_at_real_ns);
    }
    let mut tally = Tally { reported: ended.len(), ..Tally::default() };
    for stall in &accounts.whole.stalls {
        let counts = judge.counts(stall);
        tally.real += usize::from(counts);
        let Some(index) = judge.report_of(stall, &ended) else { continue };
        let Some(report) = ended[index].take() else { continue };
        if !counts {
            continue;
        }
        tally.found += 1;
        tally.right += usize::from(report.session == stall.session);
        let error_ms = (report.duration_ms - stall.wall_ms()).abs();
        tally.worst_error_ms = tally.worst_error_ms.max(error_ms);
        let end_real_ns = stall.end_ns + judge.offset_ns;
        let early = first_read.get(report.id.as_str()).is_some_and(|read| *read < end_real_ns);
        tally.early += usize::from(early);
    }
    let left = ended.into_iter().flatten();
    tally.invented = left.filter(|report| !judge.is_in_the_band(report.duration_ms)).count();
    tally
}

/// Matches the introspection's reports, which carry no start: by overlap in time.
pub fn theirs(accounts: &Accounts) -> Option<Tally> {
    let judge = Judge { accounts, offset_ns: 0 };
    let blocks = &accounts.whole.introspection.as_ref()?.blocks;
    let began_ns = |at_ns: i64, ms: f64| at_ns - (ms * 1e6) as i64;
    let inside: Vec<_> = blocks
        .iter()
        .filter(|b| began_ns(b.at_ns, b.ms) >= accounts.first.at_ns)
        .filter(|b| b.at_ns <= accounts.last.at_ns + START_NS)
        .collect();
    let mut tally = Tally { reported: inside.len(), ..Tally::default() };
    let overlaps = |stall: &Stall, at_ns: i64, ms: f64| {
        began_ns(at_ns, ms) <= stall.end_ns && at_ns >= stall.start_ns
    };
    for stall in accounts.whole.stalls.iter().filter(|stall| judge.counts(stall)) {
        tally.real += 1;
        let mut of_it = inside.iter().filter(|b| overlaps(stall, b.at_ns, b.ms)).peekable();
        let Some(first) = of_it.peek() else { continue };
        tally.found += 1;
        tally.worst_error_ms = tally.worst_error_ms.max((first.ms - stall.wall_ms()).abs());
        tally.right += usize::from(of_it.any(|block| block.session == stall.session));
    }
    let meant = |at_ns, ms| accounts.whole.stalls.iter().any(|stall| overlaps(stall, at_ns, ms));
    tally.invented = inside.iter().filter(|block| !meant(block.at_ns, block.ms)).count();
    Some(tally)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::{Block, Introspection, Truth};

    const OFFSET_NS: i64 = 1_000_000_000_000;

    fn real(session: &str, begin_ms: i64, wall_ms: i64) -> Stall {
        Stall {
            session: Some(session.to_owned()),
            start_ns: begin_ms * 1_000_000,
            end_ns: (begin_ms + wall_ms) * 1_000_000,
            ..Stall::default()
        }
    }

    fn report(id: &str, session: &str, start_ms: i64, duration_ms: f64) -> Report {
        Report {
            id: id.to_owned(),
            session: Some(session.to_owned()),
            started_real_ns: start_ms * 1_000_000 + OFFSET_NS,
            duration_ms,
            read_at_real_ns: i64::MAX,
            ..Report::default()
        }
    }

    fn accounts(real: Vec<Stall>, reports: Vec<Report>, blocks: Vec<Block>) -> Accounts {
        let at = |ms: i64| Truth {
            at_ns: ms * 1_000_000,
            realtime_offset_ns: OFFSET_NS,
            threshold_ms: 50.0,
            ..Truth::default()
        };
        let introspection = Introspection { blocks, ..Introspection::default() };
        Accounts {
            first: at(1000),
            last: at(9000),
            whole: Truth { stalls: real, introspection: Some(introspection), ..at(9100) },
            stalls: reports,
            ..Accounts::default()
        }
    }

    #[test]
    fn a_report_is_matched_by_its_start_and_session() {
        let ongoing = Report {
            ongoing: true,
            read_at_real_ns: 2_060_000_000 + OFFSET_NS,
            ..report("1", "AJ_1", 2001, 60.0)
        };
        let real = vec![real("AJ_1", 2000, 120), real("AJ_2", 3000, 120), real("AJ_1", 4000, 80)];
        let reports =
            vec![ongoing, report("1", "AJ_1", 2001, 120.5), report("2", "AJ_9", 3000, 119.0)];
        let tally = ours(&accounts(real, reports, Vec::new()));
        let expected = Tally {
            real: 3,
            reported: 2,
            found: 2,
            right: 1,
            invented: 0,
            worst_error_ms: 1.0,
            early: 1,
        };
        assert_eq!(tally, expected);
    }

    #[test]
    fn reports_of_nothing_are_invented_but_not_those_of_the_edges() {
        // Before the window, in the band, and after the window: all real, none counted.
        let real = vec![real("AJ_1", 900, 120), real("AJ_1", 2000, 51), real("AJ_1", 8950, 120)];
        let reports = vec![
            report("1", "AJ_1", 900, 120.0),
            report("2", "AJ_1", 2000, 51.0),
            report("3", "AJ_2", 5000, 51.9),
            report("4", "AJ_2", 6000, 90.0),
            report("1", "AJ_1", 900, 120.0),
        ];
        let tally = ours(&accounts(real, reports, Vec::new()));
        assert_eq!((tally.real, tally.found, tally.invented), (0, 0, 2));
    }

    #[test]
    fn the_introspection_is_matched_by_overlap() {
        let block = |session: &str, at_ms: i64, ms: f64| Block {
            session: Some(session.to_owned()),
            ms,
            at_ns: at_ms * 1_000_000,
        };
        let real = vec![real("AJ_1", 2000, 120), real("AJ_2", 3000, 120)];
        let blocks =
            vec![block("AJ_7", 2125, 100.0), block("AJ_2", 3121, 118.0), block("AJ_2", 5000, 60.0)];
        let tally = theirs(&accounts(real, Vec::new(), blocks)).unwrap();
        assert_eq!((tally.real, tally.reported, tally.found), (2, 3, 2));
        assert_eq!((tally.right, tally.invented), (1, 1));
    }
}
