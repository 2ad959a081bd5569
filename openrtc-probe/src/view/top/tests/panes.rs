//! Panes worth seeing, kept as they are in `snapshots/`: each state at each width.

use ratatui::text::Line;

use super::*;
use crate::dump;
use crate::model::{
    Anatomy, Bucket, Capture, Causes, Class, CpuHistory, Focus, Frame, GilHolder, Histogram,
    IdType, Late, Process, Repeats, Session, Stack, Stall, Status,
};
use crate::view::top::details;
use crate::view::top::stall::stall_details;
use crate::view::top::stalls_pane;

const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;
const WIDTHS: [u16; 3] = [40, 80, 200];
const HOSTILE: &str = "\u{1b}[2J\u{202e}e\n \u{9b}31m日本";

fn words(lines: &[Line<'_>]) -> String {
    let lines = lines.iter().map(|line| line.to_string().trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// All lines fit, and nothing in them is harmful.
#[track_caller]
fn fit(lines: &[Line<'_>], columns: u16) {
    for line in lines {
        let line = line.to_string();
        assert!(!line.chars().any(harmless::is_harmful), "{line:?}");
        assert!(harmless::width(&line) <= usize::from(columns.max(4)), "{columns}: {line:?}");
    }
}

fn keep(name: &str, of: impl Fn(u16) -> Vec<Line<'static>>) {
    for columns in WIDTHS {
        let lines = of(columns);
        fit(&lines, columns);
        let name = format!("{name}_{columns}");
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "../snapshots" }, {
            insta::assert_snapshot!(name, words(&lines));
        });
    }
}

fn keep_details(name: &str, snapshot: &Snapshot, at: usize, tasks: Option<&Tasks>) {
    keep(name, |columns| {
        details::lines(snapshot, &snapshot.sessions[at], tasks, Palette::new(true), columns)
    });
}

fn stalls_at(
    snapshot: &Snapshot,
    selected: Option<usize>,
    palette: Palette,
    columns: u16,
) -> Vec<Line<'static>> {
    let order = Order::default();
    let mut pane = stalls_pane::lines(snapshot, &order, selected, palette, columns);
    let mut lines = pane.head;
    lines.append(&mut pane.rows);
    lines.append(&mut pane.details);
    lines
}

fn keep_stalls(name: &str, snapshot: &Snapshot, selected: Option<usize>) {
    keep(name, |columns| stalls_at(snapshot, selected, Palette::new(true), columns));
}

fn history(ratios: impl IntoIterator<Item = f64>) -> CpuHistory {
    let mut history = CpuHistory::default();
    ratios.into_iter().for_each(|ratio| history.push(ratio));
    history
}

fn frame(function: &str, file: &str, line: u32, is_user: bool) -> Frame {
    Frame { function: function.into(), file: file.into(), line: Some(line), is_user }
}

fn octaves(first_ns: u64, counts: &[u64]) -> Histogram {
    let class = |(at, count): (usize, &u64)| Bucket {
        least_ns: first_ns << at,
        below_ns: (at + 1 < counts.len()).then_some(first_ns << (at + 1)),
        count: *count,
    };
    Histogram { buckets: counts.iter().enumerate().map(class).collect() }
}

/// One that all is known of: its lock is another session's, and it came again.
fn contended() -> Stall {
    const FUTEX: u32 = 202;
    let parts = [
        (Class::Cpu, 41 * MS),
        (Class::Gil, 350 * MS),
        (Class::Lock, 12 * MS),
        (Class::RunQueue, 9 * MS),
        (Class::Unknown, MS / 2),
    ];
    let stack = |line| Stack {
        frames: vec![
            frame("Lock.acquire", "/usr/lib/python3.11/threading.py", 479, false),
            frame("Index.refresh", "/srv/agents/knowledge/index.py", line, true),
            frame("Index.descend", "/srv/agents/knowledge/index.py", 51, true),
            frame("Index.descend", "/srv/agents/knowledge/index.py", 51, true),
            frame("answer", "/srv/agents/support.py", 118, true),
            frame("Handle._run", "/usr/lib/python3.11/asyncio/events.py", 80, false),
        ],
        is_complete: false,
    };
    let holder = GilHolder { tid: 4711, session_id: Some("AJ_1f3cQ9vXbN2k".into()) };
    let capture = |at_ns, line| Capture {
        at_ns,
        stack: Some(stack(line)),
        native: Some("take_gil (libpython3.11.so.1.0)".into()),
        gil_held: Some(false),
        gil_holder: Some(holder.clone()),
        descriptor: None,
    };
    let ids = (0..31).map(|at| format!("AJ_{at:012}")).collect();
    Stall {
        stall_id: 9,
        session_id: Some("AJ_7Zp0aLmW4dRt".into()),
        agent_name: Some("support-tier-two".into()),
        tenant: Some("acme".into()),
        started_at_unix_ns: samples::three().at_unix_ns - i128::from(9 * S),
        duration_ns: 412_500_000,
        on_cpu_ns: 41 * MS,
        off_cpu_ns: 362_500_000,
        run_queue_ns: 9 * MS,
        anatomy: Anatomy {
            causes: Causes::of_parts(&parts, Some((Class::Gil, FUTEX))),
            captures: vec![
                capture(55 * MS, 77),
                Capture { at_ns: 110 * MS, ..Capture::default() },
                capture(220 * MS, 78),
            ],
            cpu_holder: Some(Process { pid: 991, name: Some("make".into()) }),
            stolen_ns: Some(3 * MS),
            late: Some(Late { count: 131, each_ns: 400 * MS, session_ids: ids }),
        },
        repeats: Repeats {
            count: 4,
            total_ns: 1_203 * MS,
            first_unix_ns: samples::three().at_unix_ns - i128::from(50 * S),
            last_unix_ns: samples::three().at_unix_ns - i128::from(3 * S),
        },
        ..Stall::default()
    }
}

/// Three sessions; all is known of the second.
fn known() -> Snapshot {
    let mut it = samples::three();
    it.threshold_ns = 50 * MS;
    it.stalls.insert(1, contended());
    let hot = &mut it.sessions[0];
    hot.cpu_history = history((0..60).map(|at| 0.55 + f64::from(at % 12) / 27.0));
    hot.idle_ns = 3 * MS;
    let slow = &mut it.sessions[1];
    slow.cpu_history = history((0..41).map(|at| f64::from(at % 7) / 100.0));
    slow.polls_per_s = Some(97.25);
    slow.stalls_last_minute = 3;
    it.focus = Some(Focus {
        pid: 0,
        session_id: slow.session_id.clone(),
        polls: octaves(1 << 17, &[0, 1200, 1400, 900, 301, 290, 0, 6, 2, 1, 0]),
        off_cpu: octaves(1 << 20, &[12, 7, 0, 3, 0, 0, 0, 2]),
    });
    it
}

fn tasks_of(session: &Session) -> Tasks {
    use dump::{Doing, Future, State, Task, Thread};
    let waits = |ty: &str, stack: Vec<Frame>| Doing {
        state: State::Waiting,
        waits_for: Some(Future { type_name: ty.into(), task: None }),
        stack,
        is_complete: true,
        ..Doing::default()
    };
    let sleep = frame("sleep", "/usr/lib/python3.11/asyncio/tasks.py", 649, false);
    let event = frame("Event.wait", "/usr/lib/python3.11/asyncio/locks.py", 213, false);
    let call = waits(
        "_asyncio.Future",
        vec![
            event,
            frame("Call.greet", "/srv/agents/booking.py", 42, true),
            frame("entry", "/app/.venv/lib/python3.11/site-packages/livekit/job.py", 1034, false),
        ],
    );
    let poll =
        waits("_asyncio.Future", vec![sleep, frame("poll", "/srv/agents/main.py", 21, true)]);
    let task = |name: &str, doing: &Doing| Task { name: Some(name.into()), doing: doing.clone() };
    let worker = "/usr/lib/python3.11/concurrent/futures/thread.py";
    let found = dump::Session {
        session_id: session.session_id.to_string(),
        id_type: session.id_type.clone(),
        id_is_cut: session.id_is_cut,
        tasks: vec![task("Task-12", &call), task("poll-1", &poll), task("poll-2", &poll)],
        threads: vec![Thread {
            tid: 4712,
            stack: vec![
                frame("fetch", "/srv/agents/main.py", 99, true),
                frame("run", worker, 58, false),
            ],
            is_complete: true,
        }],
        ..dump::Session::default()
    };
    Tasks {
        pid: session.pid,
        session_id: session.session_id.to_string(),
        found: Ok(vec![found]),
        unread: 0,
        at_unix_ns: Some(samples::three().at_unix_ns - i128::from(2 * S)),
    }
}

/// All that a worker can name, named so that it would break a terminal.
fn hostile() -> Snapshot {
    let mut it = known();
    let session = &mut it.sessions[1];
    session.session_id = HOSTILE.into();
    session.agent_name = Some(HOSTILE.into());
    session.tenant = Some("".into());
    it.stalls[1].session_id = Some(HOSTILE.into());
    let anatomy = &mut it.stalls[1].anatomy;
    let captures = anatomy.captures.iter_mut();
    for capture in captures.filter(|capture| capture.stack.is_some()) {
        let frames = vec![frame(HOSTILE, HOSTILE, 7, true), frame("", "", 0, false)];
        capture.stack = Some(Stack { frames, is_complete: true });
        capture.native = Some(HOSTILE.into());
        capture.gil_holder = Some(GilHolder { tid: 1, session_id: Some(HOSTILE.into()) });
    }
    anatomy.cpu_holder = Some(Process { pid: 1, name: Some(HOSTILE.into()) });
    anatomy.late = Some(Late { count: 2, each_ns: 1, session_ids: vec![HOSTILE.into(); 2] });
    it.stalls.remove(0);
    it
}

#[test]
fn details_of_a_session_that_stalls() {
    let snapshot = known();
    keep_details("details_slow", &snapshot, 1, Some(&tasks_of(&snapshot.sessions[1])));
}

#[test]
fn details_of_a_hot_session_without_stalls_focus_or_tasks() {
    keep_details("details_hot", &known(), 0, None);
}

#[test]
fn details_of_a_session_that_ended() {
    let snapshot = known();
    let session = &snapshot.sessions[2];
    keep_details("details_ended", &snapshot, 2, None);
    let none = Tasks { found: Ok(vec![]), unread: 3, ..tasks_of(session) };
    let lines = details::lines(&snapshot, session, Some(&none), Palette::new(true), 80);
    let said = "0 tasks, as of 2 s ago\n  no task holds its id, and no thread runs in it\n  \
                3 tasks may be of it too: not read, they moved";
    assert!(words(&lines).contains(said), "{}", words(&lines));
}

#[test]
fn details_where_the_tasks_cannot_be_read() {
    let snapshot = known();
    let session = &snapshot.sessions[0];
    let why = "cannot read the memory of process 4242: it changes\u{7} too fast".into();
    let tasks = Tasks { found: Err(why), at_unix_ns: None, ..tasks_of(session) };
    let lines = details::lines(&snapshot, session, Some(&tasks), Palette::new(true), 200);
    let said =
        "  tasks cannot be read: cannot read the memory of process 4242: it changes\\u{7} too fast";
    assert!(words(&lines).contains(said), "{}", words(&lines));
}

#[test]
fn details_of_hostile_names() {
    let snapshot = hostile();
    let mut tasks = tasks_of(&snapshot.sessions[1]);
    let task = &mut tasks.found.as_mut().unwrap()[0].tasks[0];
    task.name = Some(HOSTILE.into());
    task.doing.stack = vec![frame(HOSTILE, HOSTILE, 1, true)];
    keep_details("details_hostile", &snapshot, 1, Some(&tasks));
}

#[test]
fn details_of_one_of_several_workers() {
    let fleet = samples::fleet();
    let at = fleet.sessions.iter().position(|session| session.pid == 4243).unwrap();
    keep_details("details_fleet", &fleet, at, None);
}

#[test]
fn an_id_that_is_cut_or_no_text_says_so() {
    let snapshot = samples::odd_tags();
    let said = |at: usize, tasks: &Tasks| {
        let session = &snapshot.sessions[at];
        words(&details::lines(&snapshot, session, Some(tasks), Palette::new(false), 120))
    };
    let [cut, typed] = [0, 1].map(|at| tasks_of(&snapshot.sessions[at]));
    let text = said(0, &cut);
    assert!(text.contains("longer than what is kept"), "{text}");
    assert!(text.contains("3 tasks, as of 2 s ago"), "{text}");
    let mut two = cut.clone();
    two.found.as_mut().unwrap().push(cut.found.as_ref().unwrap()[0].clone());
    assert!(said(0, &two).contains("2 sessions have an id that begins so"), "{}", said(0, &two));
    let text = said(1, &typed);
    assert!(text.contains("<uuid.UUID>\n  the id is no text"), "{text}");
    assert!(text.contains("3 tasks, as of"), "{text}");
    let mut other = typed.clone();
    other.found.as_mut().unwrap()[0].id_type = IdType::Text;
    assert!(said(1, &other).contains("no task holds its id"), "a session that is called so");
}

#[test]
fn tasks_of_another_session_are_not_shown() {
    let snapshot = known();
    let other = tasks_of(&snapshot.sessions[0]);
    let of = |session: &Session| {
        words(&details::lines(&snapshot, session, Some(&other), Palette::new(true), 80))
    };
    assert!(of(&snapshot.sessions[0]).contains("Task-12"));
    assert!(of(&snapshot.sessions[1]).contains("being read …"));
    let moved = Session { pid: 7, ..snapshot.sessions[0].clone() };
    assert!(of(&moved).contains("being read …"), "the same id in another process");
}

#[test]
fn what_is_not_known_is_not_zero() {
    let snapshot = Snapshot { sessions: vec![Session::default()], ..Snapshot::default() };
    keep_details("details_unknown", &snapshot, 0, None);
}

#[test]
fn more_tasks_than_one_can_read_are_counted() {
    let snapshot = known();
    let session = &snapshot.sessions[0];
    let mut tasks = tasks_of(session);
    let task = tasks.found.as_ref().unwrap()[0].tasks[0].clone();
    let other = |at: u32| {
        let mut other = task.clone();
        other.doing.stack[0].line = Some(at);
        other
    };
    tasks.found.as_mut().unwrap()[0].tasks = (0..200).map(other).collect();
    let text = words(&details::lines(&snapshot, session, Some(&tasks), Palette::new(true), 200));
    assert!(text.contains("… 503 more lines: openrtc-probe dump --pid 0"), "{text}");
}

#[test]
fn stalls_with_one_selected() {
    keep_stalls("stalls", &known(), Some(1));
}

#[test]
fn stalls_of_several_workers_none_selected() {
    keep_stalls("stalls_fleet", &samples::fleet(), None);
}

#[test]
fn stalls_of_hostile_names() {
    keep_stalls("stalls_hostile", &hostile(), Some(0));
}

#[test]
fn an_untagged_stall_of_which_nothing_is_known() {
    keep_stalls("stalls_unknown", &samples::three(), Some(2));
}

#[test]
fn no_stalls() {
    let pane = |snapshot: &Snapshot, order: &Order, selected| {
        stalls_pane::lines(snapshot, order, selected, Palette::new(true), 80)
    };
    let none = pane(&samples::empty(), &Order::default(), Some(0));
    assert_eq!(
        words(&none.head),
        "stalls since attach 0  listed 0  polls of 50 ms or more\nno stalls"
    );
    assert!(none.rows.is_empty() && none.details.is_empty());
    let order = Order { agent: Some("nobody".into()), ..Order::default() };
    let filtered = pane(&samples::three(), &order, None);
    assert!(words(&filtered.head).ends_with("no stall matches the filter"));
    let gone = pane(&samples::three(), &Order::default(), Some(7));
    assert!(gone.rows.len() == 3 && gone.details.is_empty(), "no longer in the list");
}

#[test]
fn the_selected_row_is_reversed_over_the_whole_width() {
    let pane = stalls_pane::lines(&known(), &Order::default(), Some(1), Palette::new(true), 80);
    let reversed = |line: &Line<'_>| line.style.add_modifier.contains(Modifier::REVERSED);
    let picked: Vec<_> = pane.rows.iter().map(reversed).collect();
    assert_eq!(picked, [false, true, false, false]);
    assert_eq!(pane.rows[1].width(), 80);
}

#[test]
fn panes_have_the_same_words_without_colour() {
    let snapshot = known();
    let tasks = tasks_of(&snapshot.sessions[1]);
    let [with, without] = [true, false].map(|colour| {
        let palette = Palette::new(colour);
        let mut lines = details::lines(&snapshot, &snapshot.sessions[1], Some(&tasks), palette, 80);
        lines.extend(stalls_at(&snapshot, Some(0), palette, 80));
        lines
    });
    let is_red = |line: &Line<'_>| line.style.fg == Some(Color::Red);
    assert!(with.iter().any(is_red));
    assert!(without.iter().all(|line| line.style.fg.is_none() && line.style.bg.is_none()));
    assert_eq!(words(&with), words(&without));
}

#[test]
fn panes_can_be_drawn_at_every_width() {
    let odd = samples::odd_tags();
    for snapshot in [known(), hostile(), odd, samples::fleet(), samples::empty()] {
        for columns in (1..130).step_by(3) {
            for session in &snapshot.sessions {
                let tasks = tasks_of(session);
                let palette = Palette::new(true);
                let lines = details::lines(&snapshot, session, Some(&tasks), palette, columns);
                // A table keeps its session's column, of two columns with the mark.
                fit(&lines, columns.max(10));
            }
            fit(&stalls_at(&snapshot, Some(0), Palette::new(true), columns), columns.max(10));
        }
    }
}

#[test]
fn details_of_a_stall_that_goes_on_are_marked_and_open_ended() {
    let stall = known().stalls.into_iter().find(|stall| stall.ongoing).unwrap();
    let lines = stall_details(&stall, Palette::new(true), 120);
    assert_eq!(lines[0].style.fg, Some(Color::Red));
    let head = "AJ_7Zp0aLmW4dRt blocks the loop for 71 ms so far: sleep (clock_nanosleep) at \
                agents/booking.py:42 in fetch_slots";
    assert_eq!(lines[0].to_string(), head);
    let bound = Stall { is_lower_bound: true, ..stall };
    let head = stall_details(&bound, Palette::new(true), 120)[0].to_string();
    assert!(head.contains("blocks the loop for ≥71 ms so far"), "{head}");
    let status = Session { status: Status::Slow, ..Session::default() };
    let lines = details::lines(&Snapshot::default(), &status, None, Palette::new(true), 80);
    assert!(
        lines
            .iter()
            .any(|line| line.to_string().starts_with("  status slow  ") && line.style.fg.is_some())
    );
}
