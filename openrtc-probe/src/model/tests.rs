//! The model on hand-made looks: times in microseconds, one loop thread unless said otherwise.

use openrtc_common::{
    account::{Clock, Reading, Split, state},
    event::{Event, StallEnd, kind},
    poll::{Frame, Polls, via},
    session::{self, UNTAGGED},
    tag::{TAG_BYTES, TagText},
    thread::{Backlog, Thread, role},
    wait::{self, Waits},
};

use super::mode::Mode;
use super::*;

mod sampling;
mod top;

const US: u64 = 1000;
const THRESHOLD_NS: u64 = 50_000 * US;

fn tag(id: &str) -> TagText {
    let mut bytes = [0; TAG_BYTES];
    bytes[..id.len()].copy_from_slice(id.as_bytes());
    TagText { unit: 1, chars: id.len() as u32, bytes }
}

fn counters(id: &str, cpu_us: u64, last_us: u64) -> session::Session {
    let empty: session::Session = bytemuck::Zeroable::zeroed();
    let counters = session::Counters {
        loop_on_cpu_ns: cpu_us * US,
        polls: 1,
        first_at_ns: 1,
        last_at_ns: last_us * US,
        ..session::Counters::default()
    };
    session::Session {
        counters,
        tag: if id.is_empty() { TagText::EMPTY } else { tag(id) },
        ..empty
    }
}

/// A loop thread that has run all the time; in a poll of `slot` since `since_us`, if given.
fn loop_thread(now_us: u64, in_polls_us: u64, poll: Option<(u32, u64)>) -> ThreadLook {
    let clock = Clock {
        state: state::ON_CPU,
        since_at_ns: now_us * US,
        on_cpu_ns: now_us * US,
        charged_last_ns: now_us * US,
        ..Clock::default()
    };
    let mut polls = Polls::default();
    if let Some((slot, since_us)) = poll {
        let at = Reading { at_ns: since_us * US, on_cpu_ns: since_us * US, ..Reading::default() };
        assert!(polls.enter(&at, 0xc, slot, via::RUN).is_ok());
    }
    polls.on_cpu_ns = in_polls_us * US;
    ThreadLook::new(Thread { tid: 7, role: role::LOOP, clock, polls, ..Thread::default() })
}

fn look(at_us: u64, threads: Vec<ThreadLook>, sessions: Vec<(u32, session::Session)>) -> Look {
    let met = sessions.iter().map(|(slot, session)| (*slot, session.tag)).collect();
    let counters =
        |(slot, session): (u32, session::Session)| SlotLook { slot, counters: session.counters };
    Look {
        at_ns: at_us * US,
        process_cpu_ns: Some(at_us * US),
        rss_bytes: Some(1000),
        threads,
        sessions: sessions.into_iter().map(counters).collect(),
        met,
        ..Look::default()
    }
}

/// A ledger that has had its first look, at an empty worker.
fn ledger() -> Ledger {
    let about = About { pid: 1, python: "3.11.2".into(), ..About::default() };
    let mut ledger = Ledger::new(about, THRESHOLD_NS, 0);
    ledger.picture(&look(0, vec![], vec![]), false);
    ledger
}

fn census(ids: &[&str], at_us: u64) -> Fact {
    Fact::Live(ids.iter().map(|id| tag(id).key()).collect(), at_us * US)
}

#[test]
fn the_ledger_adds_up() {
    let mut ledger = ledger();
    let sessions = vec![
        (UNTAGGED, counters("", 100, 900)),
        (1, counters("AJ_1", 500, 900)),
        (2, counters("AJ_2", 200, 950)),
    ];
    // 800 us in closed polls, and one open for the last 50.
    let now = look(1000, vec![loop_thread(1000, 800, Some((2, 950)))], sessions);
    let picture = ledger.picture(&now, false);
    assert_eq!(picture.sessions[0].usage.loop_cpu_ns, 500 * US);
    assert_eq!(picture.sessions[1].usage.loop_cpu_ns, 250 * US, "the open poll counts up to now");
    assert_eq!(picture.untagged.usage.loop_cpu_ns, 100 * US);
    assert_eq!(picture.worker.loop_overhead_cpu_ns, 150 * US);
    assert_eq!(picture.worker.accounted_ratio, Some(1.0));
    assert_eq!(picture.sessions[0].cpu_ratio, Some(0.5));
    assert_eq!(picture.sessions[0].mem_bytes, Some(500), "resident set over live sessions");
}

#[test]
fn what_was_used_before_the_first_look_does_not_count() {
    let mut ledger = Ledger::new(About::default(), THRESHOLD_NS, 0);
    let at = |us, cpu_us| look(us, vec![], vec![(1, counters("AJ_1", cpu_us, us))]);
    assert_eq!(ledger.picture(&at(1000, 300), false).sessions[0].usage.loop_cpu_ns, 0);
    assert_eq!(ledger.picture(&at(2000, 350), false).sessions[0].usage.loop_cpu_ns, 50 * US);
}

#[test]
fn what_is_shown_never_goes_back() {
    let mut ledger = ledger();
    let open = |at| loop_thread(at, 0, Some((1, 0)));
    let shown = |picture: Snapshot| picture.sessions[0].usage.loop_cpu_ns;
    let first = look(900, vec![open(900)], vec![(1, counters("AJ_1", 0, 0))]);
    assert_eq!(shown(ledger.picture(&first, false)), 900 * US);
    // The poll has closed between reading the thread and reading the session.
    let torn = look(1000, vec![loop_thread(1000, 950, None)], vec![(1, counters("AJ_1", 0, 0))]);
    assert_eq!(shown(ledger.picture(&torn, false)), 900 * US);
}

#[test]
fn a_session_ends_is_shown_once_more_and_leaves() {
    let mut ledger = ledger();
    let at = |us| look(us, vec![], vec![(1, counters("AJ_1", 500, 1000))]);
    assert_eq!(ledger.picture(&at(1000), false).sessions[0].status, Status::Active);
    ledger.take(census(&["AJ_1"], 500_000));
    assert_eq!(ledger.picture(&at(500_000), false).sessions[0].status, Status::Active);
    ledger.take(census(&[], 900_000));
    assert!(ledger.take_forgettable().is_empty());
    let ended = &ledger.picture(&at(900_000), false).sessions[0];
    assert_eq!((ended.status, ended.duration_ns), (Status::Ended, 1000 * US - 1));
    assert_eq!(ledger.take_forgettable(), [tag("AJ_1").key()]);
    assert!(ledger.picture(&at(1_000_000), false).sessions.is_empty());
    ledger.take(Fact::SessionGone(Box::new(counters("AJ_1", 500, 1000))));
    assert!(ledger.take_forgettable().is_empty());
    // Its time stays in the ledger: the worker's polls do not go back.
    let after = ledger.picture(&look(1_100_000, vec![], vec![]), false);
    assert_eq!(after.worker.polls, 1);
}

#[test]
fn a_session_that_came_back_and_ended_again_is_counted_once() {
    let mut ledger = ledger();
    let slots = || vec![(1, counters("AJ_1", 500, 1000)), (9, counters("AJ_1", 70, 2000))];
    ledger.take(census(&[], 900_000));
    ledger.picture(&look(900_000, vec![], slots()), false);
    ledger.take(Fact::SessionGone(Box::new(counters("AJ_1", 500, 1000))));
    let later = look(950_000, vec![], vec![slots().remove(1)]);
    assert_eq!(ledger.picture(&later, false).worker.polls, 2);
    ledger.take(Fact::SessionGone(Box::new(counters("AJ_1", 70, 2000))));
    assert_eq!(ledger.picture(&look(990_000, vec![], vec![]), false).worker.polls, 2);
}

#[test]
fn an_ended_session_that_runs_again_comes_back() {
    let mut ledger = ledger();
    let before = look(900_000, vec![], vec![(1, counters("AJ_1", 500, 1000))]);
    ledger.take(census(&[], 900_000));
    ledger.picture(&before, false);
    let back = look(950_000, vec![], vec![(1, counters("AJ_1", 600, 940_000))]);
    let row = &ledger.picture(&back, false).sessions[0];
    assert_eq!((row.status, row.usage.loop_cpu_ns), (Status::Active, 600 * US));
}

#[test]
fn equal_tags_in_two_slots_are_one_session() {
    let mut ledger = ledger();
    let slots = vec![(1, counters("AJ_1", 500, 10)), (9, counters("AJ_1", 70, 20))];
    let picture = ledger.picture(&look(100, vec![], slots), false);
    assert_eq!(picture.sessions.len(), 1);
    assert_eq!(picture.sessions[0].usage.loop_cpu_ns, 570 * US);
}

#[test]
fn a_stall_is_reported_while_it_runs_and_once_when_it_ends() {
    let mut ledger = ledger();
    let stalled = |now_us| [loop_thread(now_us, 0, Some((1, 1000)))];
    let tags = |_| tag("AJ_1");
    assert!(ledger.stalls.watch(50_999 * US, &stalled(50_999), tags).is_empty());
    let passed = ledger.stalls.watch(51_000 * US, &stalled(51_000), tags);
    assert_eq!(passed.len(), 1);
    let known = ledger.stalls.get(passed[0]).unwrap().clone();
    let stall = ledger.blame(&known, 51_000 * US);
    assert!(stall.ongoing && stall.session_id.as_deref() == Some("AJ_1"));
    assert!(ledger.stalls.watch(60_000 * US, &stalled(60_000), tags).is_empty(), "once");
    ledger.stalls.end(&stall_end(1000, 70_000, &Waits::default()), &tag("AJ_1"), Mode::Exact);
    let known = ledger.stalls.settle(71_001 * US, &[loop_thread(71_001, 0, None)], false).remove(0);
    let ended = ledger.list(known, &[], 71_001 * US);
    assert_eq!((ended.stall_id, ended.ongoing, ended.duration_ns), (1, false, 70_000 * US));
    let sessions = vec![(1, counters("AJ_1", 1, 1))];
    let slow = ledger.picture(&look(72_000, vec![], sessions.clone()), false);
    assert_eq!(slow.sessions[0].status, Status::Slow);
    assert_eq!(slow.stalls.len(), 1);
    let later = ledger.picture(&look(5_072_000, vec![], sessions), false);
    assert_eq!(later.sessions[0].status, Status::Active, "five seconds later");
}

/// The end of a stall on thread 7 that ran all the time, but for what it waited.
fn stall_end(from_us: u64, wall_us: u64, waits: &Waits) -> StallEnd {
    let waited_ns = waits.table.iter().map(|wait| wait.ns).sum();
    let wall_ns = wall_us * US;
    let split = Split {
        wall_ns,
        on_cpu_ns: wall_ns - waited_ns,
        off_cpu_ns: waited_ns,
        ..Split::default()
    };
    let started_at_ns = from_us * US;
    let event =
        Event { kind: kind::STALL_END, tid: 7, slot: 1, started_at_ns, split, ..Event::default() };
    StallEnd { event, waits: *waits }
}

#[test]
fn an_ended_stall_says_why_and_the_waits_of_another_poll_do_not_count() {
    const CLOCK_NANOSLEEP: u32 = 230;
    let key =
        wait::Key { kind: wait::kind::SYSCALL, number: CLOCK_NANOSLEEP, ..wait::Key::default() };
    let mut waits = Waits::default();
    waits.begin(1000 * US, key, wait::Registers::default());
    waits.end(60_000 * US, 0);
    let mut ledger = ledger();
    let mut causes = |from_us| {
        ledger.stalls.end(&stall_end(from_us, 70_000, &waits), &tag("AJ_1"), Mode::Exact);
        let settled = ledger.stalls.settle(u64::MAX / 2, &[], true);
        settled[0].stall.anatomy.causes.iter().collect::<Vec<_>>()
    };
    assert_eq!(causes(1000), [(Class::Cpu, 10_000 * US), (Class::Sleep, 60_000 * US)]);
    assert_eq!(causes(2000), [(Class::Cpu, 10_000 * US), (Class::Unknown, 60_000 * US)]);
}

#[test]
fn an_ended_stall_waits_for_its_loop_to_catch_up() {
    let mut ledger = ledger();
    let backlog = |count, ended_us| Backlog {
        stall_at_ns: 1000 * US,
        ended_at_ns: ended_us * US,
        culprit: 1,
        count,
    };
    let thread = |backlog, idle_us| {
        let mut look = loop_thread(80_000, 0, None);
        look.thread.backlog = backlog;
        look.thread.waits.idle_at_ns = idle_us * US;
        look
    };
    let end = stall_end(1000, 70_000, &Waits::default());
    ledger.stalls.end(&end, &tag("AJ_1"), Mode::Exact);
    let busy = [thread(backlog(2, 71_000), 900)];
    assert!(ledger.stalls.settle(72_000 * US, &busy, false).is_empty());
    assert_eq!(ledger.stalls.next_watch_ns(72_000 * US, &[]), 77_000 * US, "soon");
    let slept = [thread(backlog(5, 71_000), 75_000)];
    let settled = ledger.stalls.settle(77_000 * US, &slept, false);
    let late = settled[0].stall.anatomy.late.as_ref().unwrap();
    assert_eq!((late.count, late.total_ns()), (5, 5 * 70_000 * US));
    // One that the programs have closed, one that another stall has taken over, and one that is not
    // waited for any longer.
    ledger.stalls.end(&end, &tag("AJ_1"), Mode::Exact);
    let closed = [thread(backlog(3, 0), 900)];
    assert_eq!(ledger.stalls.settle(72_000 * US, &closed, false).len(), 1);
    ledger.stalls.end(&end, &tag("AJ_1"), Mode::Exact);
    let of_another = [thread(Backlog { stall_at_ns: 73_000 * US, ..backlog(9, 90_000) }, 900)];
    let settled = ledger.stalls.settle(92_000 * US, &of_another, false);
    assert_eq!(settled[0].stall.anatomy.late.as_ref().unwrap().count, 0, "not those of another");
    ledger.stalls.end(&end, &tag("AJ_1"), Mode::Exact);
    assert_eq!(ledger.stalls.settle(72_000 * US, &busy, true).len(), 1);
}

#[test]
fn the_same_stall_within_a_minute_is_one_entry_that_shows_the_worst() {
    const S: u64 = 1_000_000;
    let mut ledger = ledger();
    let mut end = |from_us, wall_us, line| {
        ledger.stalls.end(
            &stall_end(from_us, wall_us, &Waits::default()),
            &tag("AJ_1"),
            Mode::Exact,
        );
        let mut known = ledger.stalls.settle(0, &[], true).remove(0);
        let frame = anatomy::Frame { line: Some(line), is_user: true, ..Default::default() };
        let stack = Some(Stack { frames: vec![frame], is_complete: true });
        known.stall.anatomy.add(Capture { stack, ..Capture::default() });
        ledger.list(known, &[], 0);
        let known = ledger.stalls.iter();
        let told = known.map(|it| (it.stall.repeats.count, it.stall.duration_ns / US / 1000));
        told.collect::<Vec<_>>()
    };
    assert_eq!(end(S, 70_000, 42), [(1, 70)]);
    assert_eq!(end(2 * S, 90_000, 42), [(2, 90)]);
    assert_eq!(end(3 * S, 60_000, 42), [(3, 90)]);
    assert_eq!(end(4 * S, 60_000, 43), [(1, 60), (3, 90)], "another line");
    assert_eq!(end(60 * S, 60_000, 42), [(4, 90), (1, 60)], "the last one first");
    assert_eq!(end(61 * S, 80_000, 42), [(1, 80), (4, 90), (1, 60)], "a minute is over");
    let entry = ledger.stalls.iter().nth(1).unwrap().stall.repeats;
    assert_eq!(
        (entry.total_ns, entry.last_unix_ns - entry.first_unix_ns),
        (280_000 * US, 59 * i128::from(S * US))
    );
}

#[test]
fn looks_at_a_stall_come_at_the_threshold_at_ten_times_that_and_every_five_seconds() {
    let mut ledger = ledger();
    let mut looks = Vec::new();
    for now_us in (0..12_000_000).step_by(10_000) {
        let threads = [loop_thread(now_us, 0, Some((1, 0)))];
        ledger.stalls.watch(now_us * US, &threads, |_| tag("AJ_1"));
        let wanted = ledger.stalls.take_wanted(now_us * US, &threads);
        looks.extend(wanted.iter().map(|_| now_us / 1000));
    }
    assert_eq!(looks, [50, 500, 5500, 10_500]);
    assert!(ledger.stalls.take_wanted(20_000_000 * US, &[]).is_empty());
    let next_ns = ledger.stalls.next_watch_ns(20_000_000 * US, &[]);
    assert!(next_ns > 20_000_000 * US, "a thread that is gone is no reason to hurry");
}

#[test]
fn a_stall_whose_end_is_lost_is_counted() {
    let mut ledger = ledger();
    let stalled = [loop_thread(60_000, 0, Some((1, 0)))];
    ledger.stalls.watch(60_000 * US, &stalled, |_| tag("AJ_1"));
    let idle = [loop_thread(70_000, 0, None)];
    ledger.stalls.watch(70_000 * US, &idle, |_| tag("AJ_1"));
    assert_eq!(ledger.stalls.ongoing().count(), 1, "its end may still be on the way");
    ledger.stalls.watch(1_100_000 * US, &idle, |_| tag("AJ_1"));
    assert_eq!(ledger.stalls.ongoing().count(), 0);
    let picture = ledger.picture(&look(1_200_000, vec![], vec![]), false);
    assert_eq!(picture.health.lost, [("stall_ends", 1)]);
}

#[test]
fn the_next_watch_comes_in_time() {
    let stalls = &ledger().stalls;
    let now_ns = 100_000 * US;
    let within = |poll| {
        let due_ns = stalls.next_watch_ns(now_ns, &[loop_thread(100_000, 0, poll)]);
        (due_ns - now_ns) / US / 1000
    };
    assert_eq!(within(None), 55, "a poll that begins now");
    assert_eq!(within(Some((1, 90_000))), 45, "one that runs");
    assert_eq!(within(Some((1, 10_000))), 55, "one that is reported already");
}

#[test]
fn threads_without_a_loop_are_offloaded_or_others() {
    let mut ledger = ledger();
    let mut pool = loop_thread(1000, 0, Some((1, 400)));
    pool.thread.role = role::OTHER;
    let now = look(1000, vec![pool], vec![(1, counters("AJ_1", 0, 400))]);
    let picture = ledger.picture(&now, false);
    assert_eq!(picture.sessions[0].usage.offloaded_cpu_ns, 600 * US);
    assert_eq!(picture.sessions[0].usage.loop_cpu_ns, 0);
    assert_eq!(picture.worker.other_threads_cpu_ns, 400 * US);
}

#[test]
fn what_is_outside_of_sessions_has_its_rates_too() {
    let mut ledger = ledger();
    let at = |us: u64, loop_in_polls_us| {
        let mut pool = loop_thread(us, us / 4, None);
        pool.thread.role = role::OTHER;
        look(us, vec![loop_thread(us, loop_in_polls_us, None), pool], vec![])
    };
    let first = ledger.picture(&at(1000, 400), false).worker;
    assert_eq!(first.loop_overhead_cpu_ratio, None, "a thread has become a loop's");
    assert_eq!(first.other_threads_cpu_ratio, None);
    let second = ledger.picture(&at(2000, 1300), false).worker;
    assert_eq!(second.loop_overhead_cpu_ratio, Some(0.1), "700 us, of which 600 before");
    assert_eq!(second.other_threads_cpu_ratio, Some(0.75));
    let same_moment = ledger.picture(&at(2000, 1300), false).worker;
    assert_eq!(same_moment.loop_overhead_cpu_ratio, None, "no interval, no rate");
}

#[test]
fn the_ledger_adds_up_when_sessions_have_ended() {
    let mut ledger = ledger();
    let at = |us: u64, slots: &[(u32, &str, u64)]| {
        let counters = |&(slot, id, cpu_us): &(u32, &str, u64)| (slot, counters(id, cpu_us, 900));
        let in_polls_us = 970;
        let threads = vec![loop_thread(us, in_polls_us, None)];
        look(us, threads, slots.iter().map(counters).collect())
    };
    let both = [(UNTAGGED, "", 70), (1, "AJ_1", 500), (2, "AJ_2", 400)];
    let one = [(UNTAGGED, "", 70), (2, "AJ_2", 400)];
    ledger.take(census(&["AJ_1", "AJ_2"], 1000));
    let mut ended_us = Vec::new();
    let mut check = |picture: &Snapshot| {
        let worker = &picture.worker;
        let listed_ns: u64 = picture.sessions.iter().map(|session| session.usage.cpu_ns()).sum();
        let outside_ns = worker.loop_overhead_cpu_ns + worker.other_threads_cpu_ns;
        let sum_ns = listed_ns + worker.ended_cpu_ns + picture.untagged.usage.cpu_ns() + outside_ns;
        assert_eq!(sum_ns, worker.cpu_ns);
        assert_eq!(worker.accounted_ratio, Some(1.0));
        ended_us.push(worker.ended_cpu_ns / US);
    };
    check(&ledger.picture(&at(2000, &both), false));
    ledger.take(census(&["AJ_2"], 900_000));
    let ended = ledger.picture(&at(900_000, &both), false);
    assert_eq!(ended.sessions[0].status, Status::Ended);
    check(&ended);
    check(&ledger.picture(&at(1_000_000, &both), false));
    ledger.take(Fact::SessionGone(Box::new(counters("AJ_1", 500, 900))));
    check(&ledger.picture(&at(7_000_000, &one), false));
    assert_eq!(ended_us, [0, 0, 500, 500], "while it is listed it has not left");
}

#[test]
fn a_thread_that_exits_leaves_its_time() {
    let mut ledger = ledger();
    let mut gone = loop_thread(300, 100, None);
    gone.thread.role = role::OTHER;
    gone.thread.clock.state = state::EXITED;
    ledger.take(Fact::ThreadGone(Box::new(gone.thread)));
    let picture = ledger.picture(&look(1000, vec![], vec![]), false);
    assert_eq!(picture.worker.other_threads_cpu_ns, 200 * US);
}

#[test]
fn a_seeded_poll_is_a_lower_bound() {
    let mut ledger = ledger();
    let now = Reading::default();
    let frame = Frame { context: 0xc, slot: 1, via: via::RUN };
    let mut thread = loop_thread(60_000, 0, None);
    thread.thread.polls = Polls::seed(&now, &[frame]);
    let passed = ledger.stalls.watch(60_000 * US, &[thread], |_| tag("AJ_1"));
    assert!(ledger.stalls.get(passed[0]).unwrap().stall.is_lower_bound);
    ledger.take(Fact::Found(vec![tag("AJ_1").key()]));
    let picture = ledger.picture(&look(60_000, vec![], vec![(1, counters("AJ_1", 0, 0))]), false);
    assert!(picture.sessions[0].duration_is_lower_bound);
}

#[test]
fn a_tag_that_is_no_text_has_the_name_of_its_type() {
    let mut ledger = ledger();
    let mut int = TagText::EMPTY;
    (int.unit, int.chars, int.bytes[0]) = (8, 1, 42);
    let of_type = || vec![(3, session::Session { tag: int, ..counters("x", 10, 100) })];
    let first = ledger.picture(&look(100, Vec::new(), of_type()), false);
    let shown = (&*first.sessions[0].session_id, &first.sessions[0].id_type);
    assert_eq!(shown, ("<?>", &IdType::Other(None)), "not read yet");
    assert_eq!(ledger.unnamed_type(&int), Some(42));
    ledger.take(Fact::TypeNamed(42, "int".into()));
    let named = ledger.picture(&look(200, Vec::new(), of_type()), false);
    let shown = (&*named.sessions[0].session_id, &named.sessions[0].id_type);
    assert_eq!(shown, ("<int>", &IdType::Other(Some("int".into()))));
    assert_eq!((ledger.unnamed_type(&int), ledger.unnamed_type(&tag("x"))), (None, None));
}

#[test]
fn what_polls_seemed_to_use_before_the_scheduler_was_heard_is_not_missing_later() {
    let mut ledger = Ledger::new(About::default(), THRESHOLD_NS, 0);
    // A sleep of 900 us inside a poll was taken for running: more than the thread was charged with.
    let first = loop_thread(1000, 1900, None);
    ledger.picture(&look(1000, vec![first], vec![]), false);
    let later = loop_thread(2000, 2500, None);
    let shown = ledger.picture(&look(2000, vec![later], vec![]), false);
    assert_eq!(shown.worker.loop_overhead_cpu_ns, 400 * US, "1,000 us charged, 600 us in polls");
}

#[test]
fn a_session_that_never_had_a_slot_is_forgotten_with_its_tasks() {
    let mut ledger = ledger();
    ledger.take(Fact::Found(vec![tag("AJ_1").key()]));
    ledger.take(census(&["AJ_1"], 100));
    assert!(ledger.wants_names(&tag("AJ_1").key()));
    assert!(ledger.picture(&look(100, vec![], vec![]), false).sessions.is_empty());
    assert_eq!(ledger.known_count(), 1, "a task holds it");
    ledger.take(census(&[], 200_000));
    ledger.picture(&look(200_000, vec![], vec![]), false);
    assert_eq!(ledger.known_count(), 0);
}

#[test]
fn missing_names_are_looked_for_ever_more_rarely() {
    let mut ledger = ledger();
    let key = tag("AJ_1").key();
    let looks = |ledger: &mut Ledger| (1..=64).filter(|_| ledger.wants_names(&key)).count();
    assert_eq!(looks(&mut ledger), 7, "1, 2, 4, .. 64");
    let named = Names { agent: Some("booking".into()), tenant: Some("t1".into()) };
    ledger.take(Fact::Named(key, named));
    assert_eq!(looks(&mut ledger), 0);
}
