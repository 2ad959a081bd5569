//! A stall as one line of log, in OpenRTC's form (`openrtc/observability/slow_session.py`) with what
//! only we know behind it: `key=value`, one line, whatever the worker calls its sessions.

use crate::model::{IdType, Stall};
use crate::view::harmless;
use crate::view::units::{SplitMs, split_ms};

/// The bare word for a poll without a tag; a session of that name is written in quotes.
const UNTAGGED: &str = "untagged";

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
    let names = [("agent", &stall.agent_name), ("tenant", &stall.tenant)].map(|(key, name)| {
        let known = |name: &String| format!(" {key}={}", harmless::value(name, |_| false));
        name.as_ref().map(known).unwrap_or_default()
    });
    let pid = if with_pid { format!(" pid={}", stall.pid) } else { String::new() };
    format!(
        "[slow-session] session_id={id} {verb} event loop for {bound}{duration}ms{so_far}{} \
         on_cpu={on_cpu}ms off_cpu={off_cpu}ms run_queue={run_queue}ms{is_cut}{pid}",
        names.concat()
    )
}

/// What stands for something else than a session of that name.
fn is_reserved(id: &str) -> bool {
    id == UNTAGGED || id.starts_with('<')
}

#[cfg(test)]
mod tests {
    use super::*;

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
