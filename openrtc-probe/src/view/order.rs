//! Which sessions a view shows and in which order, as `openrtc top` does it (`filter_and_sort` in
//! `openrtc/cli/top_cli.py`): names are exact and lower-case, the filters compare whole values,
//! numbers sort descending and text ascending.
//!
//! Ties go by id and then by process, ascending, whatever the direction: rows that look equal must not jump. A number
//! that is not known comes last, also in reverse; a text that is not known counts as empty.

use std::cmp::Ordering;

use crate::model::{Session, Stall, Status};
use crate::view::units::{percent, tenths};

/// What a table is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Share of the resident set: the default of `openrtc top`, but equal for all sessions.
    MemMb,
    /// CPU over the last interval, as it is shown: the hottest session is on top.
    #[default]
    CpuPct,
    /// How long the session has lived.
    DurationS,
    /// Agent.
    AgentName,
    /// Session.
    SessionId,
    /// Off-CPU inside polls.
    OffCpu,
    /// Run-queue wait inside polls.
    RunQueue,
    /// Polls.
    Polls,
    /// Longest poll.
    LongestPoll,
    /// Stalls.
    Stalls,
}

impl Sort {
    /// In the order in which the key `s` goes through them: those of `openrtc top` first.
    pub const ALL: [(Sort, &'static str); 10] = [
        (Sort::MemMb, "mem_mb"),
        (Sort::CpuPct, "cpu_pct"),
        (Sort::DurationS, "duration_s"),
        (Sort::AgentName, "agent_name"),
        (Sort::SessionId, "session_id"),
        (Sort::OffCpu, "off_cpu"),
        (Sort::RunQueue, "run_queue"),
        (Sort::Polls, "polls"),
        (Sort::LongestPoll, "longest_poll"),
        (Sort::Stalls, "stalls"),
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        name_in(&Self::ALL, self)
    }

    /// The one after it, in a circle.
    #[must_use]
    pub fn next(self) -> Self {
        next_in(&Self::ALL, self)
    }

    /// Whether the largest comes first.
    pub fn is_descending(self) -> bool {
        !matches!(self, Sort::AgentName | Sort::SessionId)
    }

    fn key(self, session: &Session) -> Key<'_> {
        let usage = &session.usage;
        let number = |value: u64| Key::Number(Some(value as f64));
        match self {
            Sort::MemMb => Key::Number(session.mem_bytes.map(|bytes| bytes as f64)),
            Sort::CpuPct => {
                let ratio = session.cpu_ratio.filter(|ratio| ratio.is_finite());
                Key::Number(ratio.map(|ratio| tenths(percent(ratio))))
            }
            Sort::DurationS => number(session.duration_ns),
            Sort::AgentName => Key::Text(session.agent_name.as_deref().unwrap_or_default()),
            Sort::SessionId => Key::Text(&session.session_id),
            Sort::OffCpu => number(usage.off_cpu_ns),
            Sort::RunQueue => number(usage.run_queue_ns),
            Sort::Polls => number(usage.polls),
            Sort::LongestPoll => number(usage.longest_poll_ns),
            Sort::Stalls => number(usage.stalls),
        }
    }
}

/// Which sessions by status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusFilter {
    /// Every session.
    #[default]
    All,
    /// Alive and not slow, as in `openrtc top`.
    Active,
    /// Stalls, or did so in the last five seconds.
    Slow,
    /// Known to `openrtc top` only: cannot be seen from outside, so it selects nothing.
    Draining,
    /// The same.
    Errored,
    /// Ended since the last picture.
    Ended,
}

impl StatusFilter {
    /// In the order of the key `f`, which is that of `openrtc top`.
    pub const ALL: [(StatusFilter, &'static str); 6] = [
        (StatusFilter::All, "all"),
        (StatusFilter::Active, "active"),
        (StatusFilter::Slow, "slow"),
        (StatusFilter::Draining, "draining"),
        (StatusFilter::Errored, "errored"),
        (StatusFilter::Ended, "ended"),
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        name_in(&Self::ALL, self)
    }

    /// The one after it, in a circle.
    #[must_use]
    pub fn next(self) -> Self {
        next_in(&Self::ALL, self)
    }

    /// Whether any session can have it: what `openrtc top` learns inside the worker, we cannot see.
    pub fn is_visible_from_outside(self) -> bool {
        !matches!(self, StatusFilter::Draining | StatusFilter::Errored)
    }

    fn keeps(self, status: Status) -> bool {
        match self {
            StatusFilter::All => true,
            StatusFilter::Active => status == Status::Active,
            StatusFilter::Slow => status == Status::Slow,
            StatusFilter::Ended => status == Status::Ended,
            StatusFilter::Draining | StatusFilter::Errored => false,
        }
    }
}

/// Filters and order of a view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// By what.
    pub sort: Sort,
    /// Against its usual direction.
    pub reverse: bool,
    /// By status.
    pub status: StatusFilter,
    /// One agent only.
    pub agent: Option<String>,
    /// One tenant only.
    pub tenant: Option<String>,
}

impl Order {
    /// The sessions to show, in order.
    pub fn apply<'a>(&self, sessions: &'a [Session]) -> Vec<&'a Session> {
        let mut kept: Vec<_> = sessions.iter().filter(|session| self.keeps(session)).collect();
        kept.sort_by(|a, b| self.compare(a, b));
        kept
    }

    /// How many sessions it shows: [`Order::apply`] without the sorting.
    pub fn count(&self, sessions: &[Session]) -> usize {
        sessions.iter().filter(|session| self.keeps(session)).count()
    }

    /// Whether a stall belongs to what is shown: the agent and tenant filters apply to it. Of an
    /// untagged stall neither is known, so a filter hides it.
    pub fn keeps_stall(&self, stall: &Stall) -> bool {
        self.keeps_names(stall.agent_name.as_deref(), stall.tenant.as_deref())
    }

    /// Whether the largest comes first.
    pub fn is_descending(&self) -> bool {
        self.sort.is_descending() != self.reverse
    }

    fn keeps(&self, session: &Session) -> bool {
        self.status.keeps(session.status)
            && self.keeps_names(session.agent_name.as_deref(), session.tenant.as_deref())
    }

    fn keeps_names(&self, agent: Option<&str>, tenant: Option<&str>) -> bool {
        let keeps = |wanted: &Option<String>, has| wanted.is_none() || wanted.as_deref() == has;
        keeps(&self.agent, agent) && keeps(&self.tenant, tenant)
    }

    fn compare(&self, a: &Session, b: &Session) -> Ordering {
        let descending = self.is_descending();
        let by_key = match (self.sort.key(a), self.sort.key(b)) {
            (Key::Text(a), Key::Text(b)) => directed(a.cmp(b), descending),
            (Key::Number(Some(a)), Key::Number(Some(b))) => directed(a.total_cmp(&b), descending),
            (Key::Number(a), Key::Number(b)) => b.is_some().cmp(&a.is_some()),
            // One sort has one kind of key.
            _ => Ordering::Equal,
        };
        by_key.then_with(|| (&a.session_id, a.pid).cmp(&(&b.session_id, b.pid)))
    }
}

enum Key<'a> {
    Number(Option<f64>),
    Text(&'a str),
}

fn directed(ordering: Ordering, descending: bool) -> Ordering {
    if descending { ordering.reverse() } else { ordering }
}

fn name_in<T: PartialEq + Copy>(all: &[(T, &'static str)], it: T) -> &'static str {
    all.iter().find(|(one, _)| *one == it).map_or("", |(_, name)| name)
}

fn next_in<T: PartialEq + Copy + Default>(all: &[(T, &'static str)], it: T) -> T {
    let at = all.iter().position(|(one, _)| *one == it);
    let follows = at.and_then(|at| all.get((at + 1) % all.len()));
    follows.map_or_else(T::default, |(one, _)| *one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Usage;

    fn session(id: &str, cpu: Option<f64>, polls: u64) -> Session {
        Session {
            session_id: id.into(),
            cpu_ratio: cpu,
            usage: Usage { polls, ..Usage::default() },
            ..Session::default()
        }
    }

    fn ids(order: &Order, sessions: &[Session]) -> String {
        let shown = order.apply(sessions);
        assert_eq!(shown.len(), order.count(sessions));
        shown.iter().map(|session| &*session.session_id).collect()
    }

    fn by(sort: Sort) -> Order {
        Order { sort, ..Order::default() }
    }

    #[test]
    fn numbers_descend_text_ascends_and_ties_go_by_id() {
        let all = [
            session("c", Some(0.5), 1),
            session("a", Some(0.1), 9),
            session("b", Some(0.499_999), 1),
            session("d", None, 1),
        ];
        assert_eq!(ids(&by(Sort::CpuPct), &all), "bcad");
        assert_eq!(ids(&by(Sort::SessionId), &all), "abcd");
        assert_eq!(ids(&by(Sort::Polls), &all), "abcd");
        assert_eq!(ids(&by(Sort::MemMb), &all), "abcd");
        let reverse = |sort| Order { reverse: true, ..by(sort) };
        assert_eq!(ids(&reverse(Sort::CpuPct), &all), "abcd");
        assert_eq!(ids(&reverse(Sort::SessionId), &all), "dcba");
        assert_eq!(ids(&reverse(Sort::Polls), &all), "bcda");
    }

    #[test]
    fn filters_compare_whole_values_and_case() {
        let mut all = [session("a", None, 0), session("b", None, 0), session("c", None, 0)];
        all[0].agent_name = Some("booking".into());
        all[1].agent_name = Some("Booking".into());
        all[1].status = Status::Slow;
        all[2].status = Status::Ended;
        let agent = Order { agent: Some("booking".into()), ..Order::default() };
        assert_eq!(ids(&agent, &all), "a");
        let tenant = Order { tenant: Some("t1".into()), ..Order::default() };
        assert_eq!(ids(&tenant, &all), "");
        let status = |status| Order { status, ..Order::default() };
        assert_eq!(ids(&status(StatusFilter::All), &all), "abc");
        assert_eq!(ids(&status(StatusFilter::Active), &all), "a");
        assert_eq!(ids(&status(StatusFilter::Slow), &all), "b");
        assert_eq!(ids(&status(StatusFilter::Ended), &all), "c");
        assert_eq!(ids(&status(StatusFilter::Draining), &all), "");
    }

    #[test]
    fn stalls_follow_the_agent_and_tenant_filters() {
        let stall = Stall { agent_name: Some("booking".into()), ..Stall::default() };
        let agent = |name: &str| Order { agent: Some(name.into()), ..Order::default() };
        assert!(agent("booking").keeps_stall(&stall));
        assert!(!agent("support").keeps_stall(&stall));
        assert!(Order::default().keeps_stall(&Stall::default()));
        assert!(!agent("booking").keeps_stall(&Stall::default()));
    }

    #[test]
    fn the_keys_go_through_all_of_them_in_the_order_of_openrtc() {
        assert_eq!(Sort::MemMb.next(), Sort::CpuPct);
        assert_eq!(Sort::default().next(), Sort::DurationS);
        assert_eq!(Sort::Stalls.next(), Sort::MemMb);
        assert_eq!(StatusFilter::Ended.next(), StatusFilter::All);
        let first_five: Vec<_> = Sort::ALL.iter().take(5).map(|(_, name)| *name).collect();
        let openrtc = ["mem_mb", "cpu_pct", "duration_s", "agent_name", "session_id"];
        assert_eq!(first_five, openrtc);
        assert!(Sort::ALL.iter().all(|(sort, name)| sort.name() == *name));
    }
}
