//! Stalls that were told right, and what is found wrong with others.

use super::*;
use crate::anatomy::kinds_table::KINDS;
use crate::said::anatomy::{Capture, CpuHolder, Frame, GilHolder};

const MARKS: &str = "\
def fetch(job):
    wait()  # stall: sleep gil cpu-hog mixed.sleep
    spin()  # stall: mixed.cpu
    enter()  # stall: mixed.lock
";

fn expected(kind: &str) -> Expected {
    *KINDS.iter().find(|expected| expected.kind == kind).unwrap()
}

fn part(mark: &str, cause: &str, from_ms: f64, to_ms: f64) -> Part {
    Part { mark: mark.to_owned(), cause: Some(cause.to_owned()), from_ms, to_ms }
}

/// A stall of 200 ms that was told as it was.
fn seen(kind: &str, causes: &[(&str, f64)], line: i64) -> Seen {
    let expected = expected(kind);
    let file = Some("/srv/a.py".to_owned());
    let function = Some("fetch".to_owned());
    let users =
        Frame { function: function.clone(), file: file.clone(), line: Some(line), is_users: true };
    let anatomy = Anatomy {
        cause: Some(causes[0].0.to_owned()),
        syscall: expected.syscalls.first().map(|name| (*name).to_owned()),
        causes_ms: causes.iter().map(|(name, ms)| ((*name).to_owned(), *ms)).collect(),
        stack: vec![users],
        is_complete: true,
        gil_held: expected.gil_held,
        captures: vec![Capture { at_ms: 50.1, function, file, line: Some(line) }],
        ..Anatomy::default()
    };
    let duration_ms = causes.iter().map(|(_, ms)| ms).sum();
    Seen {
        truth: Stalled {
            wall_ms: 200.0,
            cpu_ms: 1.0,
            run_delay_ms: Some(0.0),
            parts: vec![part(kind, "", 0.0, 200.0)],
            ..Stalled::default()
        },
        told: Stall { duration_ms, anatomy: Some(anatomy), ..Stall::default() },
        outside: Outside::default(),
        stolen_ms: 0.0,
        filesystem: "ext4".to_owned(),
    }
}

fn said(seen: &Seen, kind: &str) -> String {
    let mut marks = Marks::default();
    marks.add("a.py", MARKS);
    faults(seen, &expected(kind), &marks).unwrap().join("; ")
}

fn sleeping() -> Seen {
    seen("sleep", &[("sleep", 199.0), ("cpu", 1.2)], 2)
}

#[test]
fn what_is_right_has_no_faults_and_each_fault_is_told() {
    assert_eq!(said(&sleeping(), "sleep"), "");
    let wrong = |change: fn(&mut Anatomy)| {
        let mut seen = sleeping();
        change(seen.told.anatomy.as_mut().unwrap());
        said(&seen, "sleep")
    };
    assert!(wrong(|a| a.cause = Some("io".to_owned())).contains("its cause is"));
    assert!(wrong(|a| a.cause = Some("cpu".to_owned())).contains("its cause is"));
    assert!(wrong(|a| a.syscall = None).contains("its system call"));
    assert!(wrong(|a| a.descriptor = Some("pipe".to_owned())).contains("its descriptor"));
    assert!(wrong(|a| a.gil_held = None).contains("gil_held"));
    assert!(wrong(|a| a.captures[0].line = Some(3)).contains("it was not at"));
    assert!(wrong(|a| a.captures[0].line = None).contains("it was not at"));
    assert!(wrong(|a| a.captures.clear()).contains("nobody looked"));
    assert!(wrong(|a| a.stack[0].line = Some(3)).contains("that of the last look"));
    assert!(wrong(|a| a.stack[0].is_users = false).contains("innermost frame"));
    assert!(wrong(|a| a.is_complete = false).contains("not complete"));
    assert!(wrong(|a| a.causes_ms.extend([("io".to_owned(), 9.0)])).contains("sum to"));
    assert!(wrong(|a| a.causes_ms.extend([("io".to_owned(), 0.0)])).contains("of nothing"));
    let missed = seen("sleep", &[("other", 150.0), ("sleep", 50.0)], 2);
    assert!(said(&missed, "sleep").contains("sleep is 50.0 ms, really 199.0 ms"));
    let silent = Seen { told: Stall::default(), ..sleeping() };
    assert!(faults(&silent, &expected("sleep"), &Marks::default()).is_err());
}

#[test]
fn a_busy_machine_is_no_fault_of_the_probe_as_far_as_the_kernel_says_so() {
    let mut busy = seen("sleep", &[("run-queue", 120.0), ("sleep", 80.0)], 2);
    assert!(said(&busy, "sleep").contains("its cause is"));
    busy.truth.run_delay_ms = Some(119.0);
    busy.told.anatomy.as_mut().unwrap().syscall = None;
    assert_eq!(said(&busy, "sleep"), "");
    assert!(!busy.is_as_planned(&expected("sleep")));
    assert!(sleeping().is_as_planned(&expected("sleep")));
}

#[test]
fn holders_are_demanded_by_their_ids() {
    let mut held = seen("gil", &[("gil", 199.0), ("cpu", 1.0)], 2);
    held.outside.gil_holder = Some(77);
    held.truth.holder_session = Some("AJ_holder".to_owned());
    let tell = |seen: &mut Seen, tid: i64, session: Option<&str>| {
        let session = session.map(str::to_owned);
        seen.told.anatomy.as_mut().unwrap().gil_holder = Some(GilHolder { tid, session });
    };
    assert!(said(&held, "gil").contains("had the GIL"));
    tell(&mut held, 77, None);
    assert!(said(&held, "gil").contains("had the GIL"));
    tell(&mut held, 77, Some("AJ_holder"));
    assert_eq!(said(&held, "gil"), "");
    let mut hogged = seen("cpu-hog", &[("run-queue", 180.0), ("cpu", 20.0)], 2);
    hogged.truth.run_delay_ms = Some(179.0);
    hogged.outside.hog = Some(9);
    assert!(said(&hogged, "cpu-hog").contains("had the CPU"));
    let holder = CpuHolder { pid: 9, name: Some("yes".to_owned()) };
    hogged.told.anatomy.as_mut().unwrap().cpu_holder = Some(holder);
    assert_eq!(said(&hogged, "cpu-hog"), "");
}

#[test]
fn each_part_has_its_class_and_its_line() {
    let of_parts = |causes: &[(&str, f64)], line: i64| {
        let mut seen = seen("mixed", causes, line);
        seen.truth.cpu_ms = 40.0;
        seen.truth.wall_ms = 120.0;
        seen.truth.parts = vec![
            part("mixed.sleep", "sleep", 0.0, 40.0),
            part("mixed.cpu", "cpu", 40.0, 80.0),
            part("mixed.lock", "lock", 80.0, 120.0),
        ];
        said(&seen, "mixed")
    };
    let split = [("sleep", 40.0), ("cpu", 40.0), ("lock", 40.0)];
    assert_eq!(of_parts(&split, 3), "");
    assert!(of_parts(&split, 2).contains("it was not at"), "10 ms after that line");
    let split = [("sleep", 70.0), ("cpu", 40.0), ("lock", 10.0)];
    assert_eq!(of_parts(&split, 3), "lock is 10.0 ms, really 40.0 ms");
}
