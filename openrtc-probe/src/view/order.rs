//! Which sessions a view shows and in which order, as `openrtc top` does it (`filter_and_sort` in
//! `openrtc/cli/top_cli.py`): names are exact and lower-case, the filters compare whole values,
//! numbers sort descending and text ascending.
//!
//! Ties go by id and then by process, ascending, whatever the direction: rows that look equal must not jump. A number
//! that is not known comes last, also in reverse; a text that is not known counts as empty.
//!
//! Ten thousand sessions are sorted ten times a second: a number is taken out of each once, and nothing
//! is allocated to compare two.

use crate::model::{Session, Snapshot, Stall, Status};
use crate::view::units::percent;

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
    /// Polls per second over the last interval.
    PollsPerS,
    /// How long ago it last ran: who may be wedged is on top.
    Idle,
}

/// What a session is sorted by.
enum Key<'a> {
    Number(Option<u64>),
    Text(&'a str),
}

impl Sort {
    /// In the order in which the key `s` goes through them: those of `openrtc top` first.
    pub const ALL: [(Sort, &'static str); 12] = [
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
        (Sort::PollsPerS, "polls_per_s"),
        (Sort::Idle, "idle"),
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
        Key::Number(match self {
            Sort::AgentName => {
                return Key::Text(session.agent_name.as_deref().unwrap_or_default());
            }
            Sort::SessionId => return Key::Text(&session.session_id),
            Sort::MemMb => session.mem_bytes,
            Sort::CpuPct => shown_tenths(session.cpu_ratio.map(percent)),
            Sort::PollsPerS => shown_tenths(session.polls_per_s),
            Sort::DurationS => Some(session.duration_ns),
            Sort::OffCpu => Some(usage.off_cpu_ns),
            Sort::RunQueue => Some(usage.run_queue_ns),
            Sort::Polls => Some(usage.polls),
            Sort::LongestPoll => Some(usage.longest_poll_ns),
            Sort::Stalls => Some(usage.stalls),
            // One that has ended waits for nothing.
            Sort::Idle => (session.status != Status::Ended).then_some(session.idle_ns),
        })
    }
}

/// What is shown with one decimal, in whole tenths.
fn shown_tenths(value: Option<f64>) -> Option<u64> {
    value.filter(|value| value.is_finite()).map(|value| (value * 10.0).round() as u64)
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Those only that have it in their id, their agent or their tenant, in whatever case; empty for all.
    pub filter: String,
    /// Whether a table also lists sessions that have ended.
    pub show_ended: bool,
}

impl Default for Order {
    fn default() -> Self {
        Self {
            sort: Sort::default(),
            reverse: false,
            status: StatusFilter::default(),
            agent: None,
            tenant: None,
            filter: String::new(),
            show_ended: true,
        }
    }
}

impl Order {
    /// The sessions of the picture, and those that ended in the last minute, as a table lists them.
    pub fn rows<'a>(&self, snapshot: &'a Snapshot) -> Vec<&'a Session> {
        let listing = self.listing(snapshot);
        listing.0.iter().filter_map(|place| place.in_(snapshot)).collect()
    }

    /// How many there are before any filter.
    pub fn count_of(&self, snapshot: &Snapshot) -> usize {
        let Snapshot { sessions, ended, .. } = snapshot;
        if self.lists_ended() {
            return sessions.len() + ended.len();
        }
        sessions.iter().filter(|session| session.status != Status::Ended).count()
    }

    /// The same as places in the picture, without a copy of anything: there may be ten thousand, ten
    /// times a second.
    pub fn listing(&self, snapshot: &Snapshot) -> Listing {
        let needle = Needle::new(&self.filter);
        let keeps = |place: &Place| {
            place.in_(snapshot).is_some_and(|session| {
                (self.lists_ended() || session.status != Status::Ended)
                    && self.keeps(session, &needle)
            })
        };
        let mut places = by_id(snapshot);
        places.retain(keeps);
        self.sort(&mut places, |place| place.in_(snapshot));
        Listing(places)
    }

    /// The sessions to show, in order.
    pub fn apply<'a>(&self, sessions: &'a [Session]) -> Vec<&'a Session> {
        let needle = Needle::new(&self.filter);
        let mut kept: Vec<_> =
            sessions.iter().filter(|session| self.keeps(session, &needle)).collect();
        // Those of a snapshot stand so already: then this is one pass over them.
        kept.sort_by(|a, b| (&a.session_id, a.pid).cmp(&(&b.session_id, b.pid)));
        self.sort(&mut kept, Some);
        kept
    }

    /// Whether a stall belongs to what is shown: the filters by name apply to it. Of an untagged stall
    /// no name is known, so a filter hides it.
    pub fn keeps_stall(&self, stall: &Stall) -> bool {
        let (agent, tenant) = (stall.agent_name.as_deref(), stall.tenant.as_deref());
        self.keeps_names(agent, tenant)
            && Needle::new(&self.filter).is_in([stall.session_id.as_deref(), agent, tenant])
    }

    /// Whether the largest comes first.
    pub fn is_descending(&self) -> bool {
        self.sort.is_descending() != self.reverse
    }

    /// CPU of sessions that have ended and have no row: together with that of the rows it is that of all.
    pub fn ended_cpu_ns(&self, snapshot: &Snapshot) -> u64 {
        let Snapshot { sessions, ended, worker, .. } = snapshot;
        let cpu_ns = |session: &Session| session.usage.cpu_ns();
        if self.lists_ended() {
            return worker.ended_cpu_ns.saturating_sub(ended.iter().map(cpu_ns).sum());
        }
        let hidden = sessions.iter().filter(|session| session.status == Status::Ended);
        worker.ended_cpu_ns + hidden.map(cpu_ns).sum::<u64>()
    }

    /// Who asks for ended ones gets them, whether a table usually lists them or not.
    fn lists_ended(&self) -> bool {
        self.show_ended || self.status == StatusFilter::Ended
    }

    fn keeps(&self, session: &Session, needle: &Needle) -> bool {
        let (agent, tenant) = (session.agent_name.as_deref(), session.tenant.as_deref());
        self.status.keeps(session.status)
            && self.keeps_names(agent, tenant)
            && needle.is_in([Some(&session.session_id), agent, tenant])
    }

    fn keeps_names(&self, agent: Option<&str>, tenant: Option<&str>) -> bool {
        let keeps = |wanted: &Option<String>, has| wanted.is_none() || wanted.as_deref() == has;
        keeps(&self.agent, agent) && keeps(&self.tenant, tenant)
    }

    /// Sorts what stands by id, which breaks the ties; `session` is the one that an item is of.
    fn sort<'a, T: Copy>(&self, items: &mut Vec<T>, session: impl Fn(T) -> Option<&'a Session>) {
        let text = |item: &T| session(*item).map_or("", |session| self.text(session));
        match (self.sort, self.is_descending()) {
            (Sort::SessionId, false) => {}
            (Sort::AgentName, false) => {
                items.sort_by(|a, b| text(a).cmp(text(b)));
            }
            (Sort::SessionId | Sort::AgentName, true) => {
                items.sort_by(|a, b| text(b).cmp(text(a)));
            }
            _ => {
                // Stable without a second buffer: the place in the order by id breaks ties.
                let key = |(at, item): (u32, &T)| {
                    let number = session(*item).map_or((true, 0), |session| self.number(session));
                    (number, at, *item)
                };
                let mut keys: Vec<_> = (0..).zip(&*items).map(key).collect();
                keys.sort_unstable_by_key(|(number, at, _)| (*number, *at));
                *items = keys.into_iter().map(|(_, _, item)| item).collect();
            }
        }
    }

    /// What sorts numbers, the first one lowest; an unknown one last.
    fn number(&self, session: &Session) -> (bool, u64) {
        match self.sort.key(session) {
            Key::Number(Some(number)) => {
                (false, if self.is_descending() { !number } else { number })
            }
            Key::Number(None) | Key::Text(_) => (true, 0),
        }
    }

    fn text<'a>(&self, session: &'a Session) -> &'a str {
        if let Key::Text(text) = self.sort.key(session) { text } else { "" }
    }
}

/// Sessions in their order, as places in a picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing(Vec<Place>);

impl Listing {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one at a place of the list, in the picture that it was made of.
    pub fn get<'a>(&self, at: usize, snapshot: &'a Snapshot) -> Option<&'a Session> {
        self.0.get(at)?.in_(snapshot)
    }

    /// All of them.
    pub fn iter<'a>(&self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Session> {
        self.0.iter().filter_map(|place| place.in_(snapshot))
    }
}

/// A place in a picture: among its sessions, and behind them among the ended ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(u32);

impl Place {
    fn in_(self, snapshot: &Snapshot) -> Option<&Session> {
        let (at, sessions) = (self.0 as usize, &snapshot.sessions);
        sessions.get(at).or_else(|| snapshot.ended.get(at.checked_sub(sessions.len())?))
    }
}

/// All places by id. A picture has its sessions so; the few that have ended are put between them.
fn by_id(snapshot: &Snapshot) -> Vec<Place> {
    let Snapshot { sessions, ended, .. } = snapshot;
    let count = sessions.len() as u32;
    let with_id = |(at, session): (u32, &Session)| ((session.session_id.clone(), session.pid), at);
    let mut gone: Vec<_> = (count..).zip(ended).map(with_id).collect();
    gone.sort_unstable();
    let mut places = Vec::with_capacity(sessions.len() + ended.len());
    // Where the next of them belongs is found without a look at all sessions.
    let mut at = 0;
    for ((session_id, pid), place) in gone {
        let rest = sessions.get(at..).unwrap_or_default();
        let before = rest.partition_point(|one| (&one.session_id, one.pid) < (&session_id, pid));
        places.extend((at..at + before).map(|at| Place(at as u32)));
        places.push(Place(place));
        at += before;
    }
    places.extend((at as u32..count).map(Place));
    places
}

/// What is looked for in names, ready to be found in many.
struct Needle(String);

impl Needle {
    fn new(filter: &str) -> Self {
        Self(filter.to_lowercase())
    }

    /// Whether any of the names has it, in whatever case.
    fn is_in(&self, names: [Option<&str>; 3]) -> bool {
        self.0.is_empty() || names.into_iter().flatten().any(|name| self.is_part_of(name))
    }

    fn is_part_of(&self, name: &str) -> bool {
        if name.is_ascii() {
            // Nearly every name: nothing is allocated.
            let mut places = name.as_bytes().windows(self.0.len());
            return places.any(|place| place.eq_ignore_ascii_case(self.0.as_bytes()));
        }
        name.to_lowercase().contains(&self.0)
    }
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
        let mut snapshot = Snapshot { sessions: sessions.to_vec(), ..Snapshot::default() };
        snapshot.sessions.sort_by(|a, b| a.session_id.cmp(&b.session_id));
        assert_eq!(shown, order.rows(&snapshot));
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
    fn a_filter_is_a_part_of_any_name_in_any_case() {
        let mut all = [session("AJ_1", None, 0), session("AJ_2é", None, 0), session("x", None, 0)];
        all[0].agent_name = Some("Booking".into());
        all[2].tenant = Some("ÉCOLE".into());
        let filter = |filter: &str| Order { filter: filter.into(), ..Order::default() };
        for (text, expected) in [
            ("", "AJ_1AJ_2éx"),
            ("aj_", "AJ_1AJ_2é"),
            ("KING", "AJ_1"),
            ("É", "AJ_2éx"),
            ("éc", "x"),
            ("a longer one than any name", ""),
        ] {
            assert_eq!(ids(&filter(text), &all), expected, "{text}");
        }
        let stall = Stall { session_id: Some("AJ_1".into()), ..Stall::default() };
        assert!(filter("j_1").keeps_stall(&stall) && !filter("j_2").keeps_stall(&stall));
        assert!(!filter("a").keeps_stall(&Stall::default()), "untagged");
    }

    #[test]
    fn ended_ones_are_listed_with_the_others_or_not_at_all() {
        let ended = |id| Session { status: Status::Ended, ..session(id, Some(0.3), 0) };
        let sessions = vec![ended("a"), session("b", Some(0.9), 0), session("d", Some(0.1), 0)];
        let snapshot = Snapshot { sessions, ended: vec![ended("c")], ..Snapshot::default() };
        let ids = |order: &Order| -> String {
            let rows = order.rows(&snapshot);
            rows.iter().map(|session| &*session.session_id).collect()
        };
        let order = Order::default();
        assert_eq!(ids(&order), "bacd");
        let hidden = Order { show_ended: false, ..order };
        assert_eq!(ids(&hidden), "bd");
        assert_eq!(ids(&Order { status: StatusFilter::Ended, ..hidden }), "ac", "asked for");
    }

    #[test]
    fn with_the_ended_rows_it_is_the_cpu_of_all_sessions() {
        let used = |id, cpu_ns, status| {
            let usage = Usage { loop_cpu_ns: cpu_ns, ..Usage::default() };
            Session { usage, status, ..session(id, None, 0) }
        };
        let mut snapshot = Snapshot {
            sessions: vec![used("a", 1, Status::Active), used("b", 20, Status::Ended)],
            ended: vec![used("c", 300, Status::Ended)],
            ..Snapshot::default()
        };
        // The 4,000 are of one that has left the list.
        snapshot.worker.ended_cpu_ns = 4300;
        for show_ended in [true, false] {
            let order = Order { show_ended, ..Order::default() };
            let rows: u64 = order.rows(&snapshot).iter().map(|it| it.usage.cpu_ns()).sum();
            assert_eq!(rows + order.ended_cpu_ns(&snapshot), 4321);
        }
    }

    #[test]
    fn who_waits_longest_is_on_top_and_one_that_ended_waits_for_nothing() {
        let idle = |id, idle_ns, status| Session { status, idle_ns, ..session(id, None, 0) };
        let all =
            [idle("a", 1, Status::Active), idle("b", 9, Status::Ended), idle("c", 2, Status::Slow)];
        assert_eq!(ids(&by(Sort::Idle), &all), "cab");
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
        assert_eq!(Sort::Idle.next(), Sort::MemMb);
        assert_eq!(StatusFilter::Ended.next(), StatusFilter::All);
        let first_five: Vec<_> = Sort::ALL.iter().take(5).map(|(_, name)| *name).collect();
        let openrtc = ["mem_mb", "cpu_pct", "duration_s", "agent_name", "session_id"];
        assert_eq!(first_five, openrtc);
        assert!(Sort::ALL.iter().all(|(sort, name)| sort.name() == *name));
    }
}
