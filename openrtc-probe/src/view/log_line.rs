//! A stall as one line of log, in OpenRTC's form (`openrtc/observability/slow_session.py`) with what
//! only we know behind it: `key=value`, one line, whatever the worker calls its sessions.

use crate::model::{Anatomy, Frame, IdType, Stall};
use crate::view::harmless;
use crate::view::units::{SplitMs, rough_time, split_ms};

/// The bare word for a poll without a tag; a session of that name is written in quotes.
const UNTAGGED: &str = "untagged";
/// A class of this part of a stall, or more, is told where it is not the only one.
const WORTH_TELLING: f64 = 0.05;
/// Folders of a path that are told: enough to know the file, and short.
const FOLDERS: usize = 1;

/// One stall, without a newline; `with_pid` where it may be of one of several workers.
pub fn stall(stall: &Stall, with_pid: bool) -> String {
    let SplitMs { duration, parts: [on_cpu, off_cpu, run_queue] } = split_ms(stall);
    let id = stall.session_id.as_deref().map_or(UNTAGGED.into(), |id| match stall.id_type {
        IdType::Text => harmless::value(id, is_reserved),
        // The type of a value that is no text, in angle brackets.
        IdType::Other(_) => harmless::value(id, |_| false),
    });
    let is_cut = if stall.id_is_cut { " session_id_is_cut=true" } else { "" };
    let verb = if stall.ongoing { "blocking" } else { "blocked" };
    let bound = if stall.is_lower_bound { "at least " } else { "" };
    let so_far = if stall.ongoing { " so far" } else { "" };
    let pid = if with_pid { format!(" pid={}", stall.pid) } else { String::new() };
    format!(
        "[slow-session] session_id={id} {verb} event loop for {bound}{duration}ms{so_far}{}{}{} \
         on_cpu={on_cpu}ms off_cpu={off_cpu}ms run_queue={run_queue}ms{is_cut}{pid}",
        word("agent", stall.agent_name.as_deref()),
        word("tenant", stall.tenant.as_deref()),
        why(&stall.anatomy, stall.duration_ns),
    )
}

/// Why, at which line, and who had to wait; each where it is known.
fn why(anatomy: &Anatomy, duration_ns: u64) -> String {
    let cause = anatomy.causes.first().map(|class| match anatomy.causes.syscall() {
        Some(syscall) => format!(" cause={}({syscall})", class.name()),
        None => format!(" cause={}", class.name()),
    });
    let holder = anatomy.cpu_holder.as_ref().map(|it| {
        let pid = it.pid.to_string();
        it.name.as_ref().map_or(pid.clone(), |name| format!("{name}:{pid}"))
    });
    let gil_holder = anatomy.gil_holder();
    let gil_holder =
        gil_holder.map(|it| it.session_id.clone().unwrap_or(format!("thread {}", it.tid)));
    let late = anatomy
        .late
        .as_ref()
        .filter(|late| late.count > 0)
        .map(|late| format!(" bystanders={} lost={}", late.count, rough_time(late.total_ns())));
    let stolen = anatomy.stolen_ns.filter(|ns| *ns > 0);
    let stolen = stolen.map(|ns| format!(" stolen<={}", rough_time(ns)));
    [
        cause.unwrap_or_default(),
        word("on", anatomy.descriptor()),
        place(anatomy),
        late.unwrap_or_default(),
        word("native", anatomy.native()),
        word("gil_holder", gil_holder.as_deref()),
        word("cpu_holder", holder.as_deref()),
        split(anatomy, duration_ns),
        stolen.unwrap_or_default(),
    ]
    .concat()
}

/// The innermost line of the user's own code, or of any.
fn place(anatomy: &Anatomy) -> String {
    let Some(stack) = anatomy.stack() else { return String::new() };
    let Some(frame) = stack.place() else { return String::new() };
    let function = harmless::value(&frame.function, |_| false);
    let is_partial = if stack.is_complete { "" } else { " stack=partial" };
    format!(" at {} in {function}{is_partial}", file_and_line(frame, FOLDERS))
}

/// The end of a path, with so many folders, and the line in it: `agents/booking.py:42`.
pub fn file_and_line(frame: &Frame, folders: usize) -> String {
    let parts: Vec<&str> = frame.file.rsplitn(folders + 2, '/').take(folders + 1).collect();
    let parts: Vec<&str> = parts.into_iter().rev().filter(|part| !part.is_empty()).collect();
    let file = parts.join("/");
    let file = harmless::value(&file, |_| false);
    match frame.line {
        Some(line) => format!("{file}:{line}"),
        None => format!("{file}:?"),
    }
}

/// The time of each class, where there is more than one worth telling.
fn split(anatomy: &Anatomy, duration_ns: u64) -> String {
    let is_worth = |ns: u64| ns as f64 >= WORTH_TELLING * duration_ns as f64;
    let parts: Vec<String> = anatomy
        .causes
        .iter()
        .filter(|(_, ns)| is_worth(*ns))
        .map(|(class, ns)| format!("{}:{}", class.name(), rough_time(ns)))
        .collect();
    if parts.len() < 2 { String::new() } else { format!(" causes={}", parts.join(",")) }
}

fn word(key: &str, value: Option<&str>) -> String {
    let known = |value| format!(" {key}={}", harmless::value(value, |_| false));
    value.map(known).unwrap_or_default()
}

/// What stands for something else than a session of that name.
pub fn is_reserved(id: &str) -> bool {
    id == UNTAGGED || id.starts_with('<')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Process;
    use crate::view::samples;

    fn stall(stall: &Stall) -> String {
        super::stall(stall, false)
    }

    #[test]
    fn of_several_workers_it_says_which() {
        let line = super::stall(&example(), true);
        assert_eq!(line, stall(&example()) + " pid=42");
    }

    fn example() -> Stall {
        Stall {
            stall_id: 7,
            pid: 42,
            session_id: Some("AJ_1f3c".into()),
            agent_name: Some("booking".into()),
            tenant: Some("t1".into()),
            duration_ns: 126_100_000,
            on_cpu_ns: 2_300_000,
            off_cpu_ns: 122_600_000,
            run_queue_ns: 1_200_000,
            ..Stall::default()
        }
    }

    #[test]
    fn one_that_is_known_well() {
        let known = samples::three().stalls.into_iter().find(|stall| !stall.ongoing).unwrap();
        assert_eq!(
            stall(&known),
            "[slow-session] session_id=AJ_7Zp0aLmW4dRt blocked event loop for 126ms \
             agent=support-tier-two tenant=acme cause=sleep(clock_nanosleep) at \
             agents/booking.py:42 in fetch_slots bystanders=31 lost=3.2s \
             native=\"clock_nanosleep (libc.so.6)\" on_cpu=2ms off_cpu=123ms run_queue=1ms"
        );
    }

    #[test]
    fn what_is_mixed_or_nobodys_fault_says_so() {
        let mut anatomy = samples::anatomy(40_000_000, 41_000_000, 45_100_000);
        anatomy.cpu_holder = Some(Process { pid: 7, name: Some("make all".into()) });
        anatomy.stolen_ns = Some(20_000_000);
        anatomy.captures.clear();
        let line = stall(&Stall { anatomy, ..example() });
        let wanted = " cause=run-queue cpu_holder=\"make all:7\" \
                      causes=cpu:40ms,sleep:41ms,run-queue:45ms stolen<=20ms on_cpu=";
        assert!(line.contains(wanted), "{line}");
    }

    #[test]
    fn a_place_is_short_and_harmless() {
        let at = |file: &str, line| {
            file_and_line(&Frame { file: file.into(), line, ..Frame::default() }, FOLDERS)
        };
        assert_eq!(at("/srv/app/agents/booking.py", Some(42)), "agents/booking.py:42");
        assert_eq!(at("booking.py", None), "booking.py:?");
        assert_eq!(at("/booking.py", Some(1)), "booking.py:1");
        assert_eq!(at("a\nb c.py", Some(1)), "\"a\\nb c.py\":1");
    }

    #[test]
    fn ended() {
        assert_eq!(
            stall(&example()),
            "[slow-session] session_id=AJ_1f3c blocked event loop for 126ms agent=booking \
             tenant=t1 on_cpu=2ms off_cpu=123ms run_queue=1ms"
        );
    }

    #[test]
    fn ongoing_and_unknown_names_left_out() {
        let ongoing = Stall {
            ongoing: true,
            agent_name: None,
            tenant: None,
            duration_ns: 71_000_000,
            on_cpu_ns: 1_000_000,
            off_cpu_ns: 70_000_000,
            run_queue_ns: 0,
            ..example()
        };
        assert_eq!(
            stall(&ongoing),
            "[slow-session] session_id=AJ_1f3c blocking event loop for 71ms so far \
             on_cpu=1ms off_cpu=70ms run_queue=0ms"
        );
    }

    #[test]
    fn lower_bounds_say_so() {
        let bound = Stall { is_lower_bound: true, ..example() };
        assert!(stall(&bound).contains(" blocked event loop for at least 126ms agent="));
        let ongoing = Stall { ongoing: true, ..bound };
        assert!(stall(&ongoing).contains(" blocking event loop for at least 126ms so far agent="));
    }

    #[test]
    fn untagged_is_not_a_session_of_that_name() {
        let none = Stall { session_id: None, ..example() };
        assert!(stall(&none).starts_with("[slow-session] session_id=untagged blocked"));
        let named = Stall { session_id: Some("untagged".into()), ..example() };
        assert!(stall(&named).starts_with("[slow-session] session_id=\"untagged\" blocked"));
    }

    #[test]
    fn a_type_is_not_a_session_of_that_name() {
        let of = |id: &str, id_type| {
            let line = stall(&Stall { session_id: Some(id.into()), id_type, ..example() });
            line.split(" blocked").next().unwrap_or_default().to_owned()
        };
        let other = |name: &str| IdType::Other(Some(name.into()));
        assert_eq!(of("<int>", other("int")), "[slow-session] session_id=<int>");
        assert_eq!(of("<int>", IdType::Text), "[slow-session] session_id=\"<int>\"");
        assert_eq!(of("<a b>", other("a b")), "[slow-session] session_id=\"<a b>\"");
    }

    #[test]
    fn a_cut_id_says_so() {
        let line = stall(&Stall { id_is_cut: true, ..example() });
        assert!(line.ends_with("run_queue=1ms session_id_is_cut=true"), "{line}");
    }

    #[test]
    fn a_hostile_name_stays_one_value_on_one_line() {
        let hostile = Stall {
            session_id: Some("a\n[slow-session] session_id=b".into()),
            agent_name: Some("x\" tenant=\"root\u{202e}\u{9b}2J".into()),
            ..example()
        };
        let line = stall(&hostile);
        assert_eq!(
            line,
            "[slow-session] session_id=\"a\\n[slow-session] session_id=b\" blocked event loop for \
             126ms agent=\"x\\\" tenant=\\\"root\\u{202e}\\u{9b}2J\" tenant=t1 on_cpu=2ms \
             off_cpu=123ms run_queue=1ms"
        );
    }
}
