//! How polls are accounted, in words.

use crate::model::{Accounting, Choice, Mode, ModeChange, ProbeLoad, Reason, Snapshot};
use crate::view::units::{Number, percent, rough};

/// A change is told of for so long.
const RECENT_NS: i128 = 60_000_000_000;

/// What was asked for, as it is typed.
pub fn wish(choice: Choice) -> &'static str {
    match choice {
        Choice::Exact => "exact",
        Choice::Sampled => "sampled",
        Choice::Auto => "auto",
    }
}

/// What probes may add to the worker, of one core; `None` where there is no such bound.
pub fn budget_ratio(accounting: &Accounting) -> Option<f64> {
    let is_auto = accounting.wish.choice == Choice::Auto;
    is_auto.then_some(accounting.wish.max_overhead_ratio)
}

/// The same as text.
pub fn budget(accounting: &Accounting) -> Option<String> {
    budget_ratio(accounting).map(share)
}

/// Why, in a word.
pub fn word(change: &ModeChange) -> &'static str {
    match change.reason {
        Reason::Asked => "asked",
        Reason::Fits(_) => "within_budget",
        Reason::TooDear(_) => "over_budget",
        Reason::RateUnknown => "rate_unknown",
        Reason::ByTaskName => "task_name",
        Reason::Refused => "refused",
    }
}

/// The polls that it was decided by, if it was.
pub fn load(change: &ModeChange) -> Option<ProbeLoad> {
    match change.reason {
        Reason::Fits(load) | Reason::TooDear(load) => Some(load),
        Reason::Asked | Reason::RateUnknown | Reason::ByTaskName | Reason::Refused => None,
    }
}

/// Why, in a sentence; `budget` is what probes may add.
fn sentence(change: &ModeChange, budget: &str) -> String {
    let at = |load: ProbeLoad| {
        let polls = Number::new(load.polls_per_s, 0).full();
        let cost = share(load.overhead_ratio);
        format!("{polls} polls/s cost {cost} with probes (budget {budget})")
    };
    match (change.reason, change.mode) {
        (Reason::Asked, Mode::Exact) => "each poll is probed, as asked".into(),
        (Reason::Asked, Mode::Sampled) => "no poll is probed, as asked".into(),
        (Reason::Fits(load) | Reason::TooDear(load), _) => at(load),
        (Reason::RateUnknown, _) => "polls a second could not be told at first".into(),
        (Reason::ByTaskName, _) => "names of tasks cannot be sampled".into(),
        (Reason::Refused, _) => "the probes could not be attached".into(),
    }
}

/// The last change, where the mode is chosen by the budget and that was a moment ago.
pub fn notice(snapshot: &Snapshot) -> Option<String> {
    let accounting = &snapshot.accounting;
    let budget = budget(accounting)?;
    let change = accounting.changes.last()?;
    let ago_ns = snapshot.at_unix_ns - change.at_unix_ns;
    let ago = u64::try_from(ago_ns).ok().filter(|_| ago_ns < RECENT_NS)?;
    let mode = change.mode.as_str();
    Some(format!("{mode} since {} ago: {}", rough(ago), sentence(change, &budget)))
}

/// A change as a line of log, in the form of a stall's; with a process id where there are several workers.
pub fn log_line(change: &ModeChange, pid: Option<u32>) -> String {
    let load = load(change).map(|load| {
        let polls = Number::new(load.polls_per_s, 0).full();
        let overhead = Number::new(percent(load.overhead_ratio), 1).full();
        format!(" polls_per_s={polls} overhead_pct={overhead}")
    });
    let pid = pid.map(|pid| format!(" pid={pid}")).unwrap_or_default();
    let (mode, reason) = (change.mode.as_str(), word(change));
    format!("[mode] mode={mode} reason={reason}{}{pid}", load.unwrap_or_default())
}

fn share(ratio: f64) -> String {
    let decimals = usize::from(ratio < 0.1 && percent(ratio).fract() != 0.0);
    format!("{} %", Number::new(percent(ratio), decimals).full())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModeWish;

    fn change(reason: Reason, mode: Mode) -> ModeChange {
        ModeChange { at_unix_ns: 0, mode, reason }
    }

    #[test]
    fn each_change_says_why() {
        let dear = ProbeLoad { polls_per_s: 48_300.4, overhead_ratio: 0.118 };
        let fits = ProbeLoad { polls_per_s: 1_000.0, overhead_ratio: 0.0027 };
        for (reason, mode, text) in [
            (Reason::Asked, Mode::Sampled, "no poll is probed, as asked"),
            (
                Reason::TooDear(dear),
                Mode::Sampled,
                "48300 polls/s cost 12 % with probes (budget 1 %)",
            ),
            (Reason::Fits(fits), Mode::Exact, "1000 polls/s cost 0.3 % with probes (budget 1 %)"),
            (Reason::Refused, Mode::Sampled, "the probes could not be attached"),
        ] {
            assert_eq!(sentence(&change(reason, mode), "1 %"), text);
        }
        assert_eq!(
            log_line(&change(Reason::TooDear(dear), Mode::Sampled), Some(7)),
            "[mode] mode=sampled reason=over_budget polls_per_s=48300 overhead_pct=11.8 pid=7"
        );
    }

    #[test]
    fn a_change_is_told_of_for_a_minute_and_only_where_there_is_a_budget() {
        let fits = ProbeLoad { polls_per_s: 100.0, overhead_ratio: 0.001 };
        let mut snapshot = Snapshot { at_unix_ns: 12_000_000_000, ..Snapshot::default() };
        assert_eq!(notice(&snapshot), None);
        snapshot.accounting.changes = vec![change(Reason::Fits(fits), Mode::Exact)];
        let told = notice(&snapshot).unwrap();
        assert!(told.starts_with("exact since 12 s ago: 100 polls/s cost 0.1 %"), "{told}");
        snapshot.at_unix_ns = RECENT_NS;
        assert_eq!(notice(&snapshot), None);
        snapshot.at_unix_ns = 0;
        snapshot.accounting.wish = ModeWish { choice: Choice::Exact, ..ModeWish::default() };
        assert_eq!(notice(&snapshot), None);
    }
}
