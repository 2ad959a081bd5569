//! Reports of machines and workers that are not at hand, as a reader sees them.

use super::{
    Check, Report, Verdict,
    host::{self, Step, Tried},
    look::{OnDisk, ProcessSeen, PythonSeen, Seen},
    self_test::{self, Outcome, Told},
    worker,
};
use crate::{
    blocker::Blocker,
    cpython::{
        Addresses, VarAt,
        layout::{LAYOUTS, Published, Version},
        memory::RemoteAddr,
    },
    host::{
        FIRST_PID, FIRST_USER, HostFacts, Namespaces, blockers, cgroup::CpuLimit,
        settings::Settings,
    },
    model::Stall,
    view,
    worker::{ElfAddr, FileOffset, Identity, Interpreter, Loops, Register, Site, SiteKind},
};

const ROOT: u64 = 0x1ff_ffff_ffff;
const OURS: Namespaces =
    Namespaces { pid: Some(FIRST_PID), mount: Some(4_026_531_832), user: Some(FIRST_USER) };

fn vars() -> [String; 3] {
    ["openrtc_session_id", "openrtc_agent_name", "openrtc_tenant_id"].map(str::to_owned)
}

fn healthy_facts() -> HostFacts {
    HostFacts {
        arch: "x86_64",
        capabilities: ROOT,
        has_btf: true,
        has_uprobes: true,
        namespaces: OURS,
    }
}

fn healthy_settings() -> Settings {
    Settings {
        kernel_release: Some("6.1.0-28-amd64".into()),
        btf_bytes: Some(5_515_264),
        uprobe_type: Some(9),
        perf_event_paranoid: Some(3),
        unprivileged_bpf_disabled: Some(2),
        bpf_stats_enabled: Some(0),
        lockdown: Some("none".into()),
        ptrace_scope: Some(1),
        seccomp: Some(0),
        memlock: Some("unlimited".into()),
        cpus_online: Some("0-7".into()),
        cpus_usable: Some(8),
        cpu_limit: Some(CpuLimit::None),
    }
}

fn healthy_trial() -> Tried {
    Tried { programs: Step::Done(6), trap_ns: Step::Done(612), scheduler: Step::Done(()) }
}

fn healthy_host() -> Vec<Check> {
    host::checks(&healthy_facts(), &healthy_settings(), &healthy_trial())
}

/// Root in name only, in somebody's container on a machine without anything.
fn bare_host() -> Vec<Check> {
    let namespaces =
        Namespaces { pid: Some(4_026_532_177), user: Some(4_026_532_178), mount: None };
    let facts = HostFacts {
        arch: "aarch64",
        capabilities: 0,
        has_btf: false,
        has_uprobes: false,
        namespaces,
    };
    let settings = Settings {
        kernel_release: Some("5.4.0".into()),
        lockdown: Some("confidentiality".into()),
        ptrace_scope: Some(3),
        seccomp: Some(2),
        memlock: Some("65536".into()),
        bpf_stats_enabled: Some(1),
        cpu_limit: Some(CpuLimit::Cpus(0.5)),
        ..Settings::default()
    };
    host::checks(&facts, &settings, &Tried::not(&blockers(&facts)[0]))
}

fn site(kind: SiteKind, address: u64, instruction: &str, registers: usize) -> Site {
    Site {
        kind,
        address: ElfAddr(address),
        offset: FileOffset(address),
        instruction: instruction.into(),
        registers: Register::ALL[..registers].to_vec(),
    }
}

fn healthy_worker() -> Seen {
    let path = std::path::PathBuf::from("/usr/bin/python3.13");
    let version = Version(0x030d_05f0);
    let sites = vec![
        site(SiteKind::RunEnter, 0x5a_3d4a, "call 00000000005A4000h", 1),
        site(SiteKind::RunExit, 0x5a_3dc6, "call 00000000005A4100h", 1),
        site(SiteKind::ContextEnter, 0x5a_4f2d, "push rbp", 1),
        site(SiteKind::ContextExit, 0x5a_4fb0, "push rbp", 1),
        site(SiteKind::VarSet, 0x5a_5460, "push r14", 2),
        site(SiteKind::VarReset, 0x5a_5620, "push r14", 2),
    ];
    let var = |addr| vec![VarAt { addr: RemoteAddr(addr), hash: 1 }];
    Seen {
        process: Some(ProcessSeen {
            exe: "/usr/bin/python3.13".into(),
            state: Some('S'),
            user: "livekit".into(),
            ns_pids: vec![21_042, 7],
            namespaces: Namespaces { pid: Some(4_026_532_300), mount: Some(4_026_532_299), ..OURS },
            cpu_limit: CpuLimit::Cpus(2.0),
            threads: Some(9),
        }),
        identity: Some((
            Identity { path: path.clone(), attach_path: path.clone(), version },
            OnDisk::Same,
        )),
        interpreter: Some(Interpreter {
            path: path.clone(),
            attach_path: path,
            version,
            layout: LAYOUTS[0].clone(),
            published: Published::default(),
            addresses: Addresses::default(),
            sites,
            changes_are_seen: true,
            loops: Loops { asyncio: true, uvloop: true },
        }),
        python: Some(PythonSeen {
            layout_source: "live 3.13.5",
            debug_offsets: 12,
            threads: 4,
            loops: vec![(21_042, "uvloop.Loop".into())],
            vars: [var(0x1000), [var(0x2000), var(0x3000)].concat(), vec![]],
            tasks: Some((48, 12)),
        }),
        refused: None,
    }
}

fn report(host: Vec<Check>, seen: Option<&Seen>, outcome: &Outcome) -> Report {
    Report {
        version: "1.2.3",
        pid: seen.map(|_| 21_042),
        host,
        worker: seen.map(|seen| worker::checks(seen, &OURS, &vars())).unwrap_or_default(),
        self_test: self_test::checks(outcome),
    }
}

/// A stall that was on-CPU where it was not off-CPU.
fn stall(session: &str, duration_ns: u64, off_cpu_ns: u64) -> Stall {
    let on_cpu_ns = duration_ns - off_cpu_ns;
    Stall {
        session_id: Some(session.into()),
        duration_ns,
        on_cpu_ns,
        off_cpu_ns,
        ..Stall::default()
    }
}

fn right() -> Told {
    Told {
        python: "/usr/bin/python3 (3.11.2)".into(),
        sessions: vec!["doctor-blocks".into(), "doctor-burns".into()],
        cpu_ns: 201_800_000,
        true_cpu_ns: 200_100_000,
        stolen_ns: 0,
        stalls: vec![stall("doctor-blocks", 80_300_000, 80_100_000)],
    }
}

fn keep(name: &str, text: &str) {
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn reports_as_they_are_read() {
    let fine = report(healthy_host(), Some(&healthy_worker()), &Outcome::Ran(right()));
    keep("healthy", &view::doctor::text(&fine));
    assert_eq!(fine.exit_code(), 0);
    keep("healthy_json", &view::doctor::json(&fine));

    let outcome = Outcome::NotRun("this host cannot: see arch".into());
    let bare = report(bare_host(), None, &outcome);
    keep("bare_host", &view::doctor::text(&bare));
    assert_eq!(bare.exit_code(), 3);

    let refused = Seen {
        interpreter: None,
        python: None,
        refused: Some(Blocker::SiteRefused {
            what: "Context.run".into(),
            why: "it enters and leaves its context at 2 places, found: none".into(),
        }),
        ..healthy_worker()
    };
    let refused = report(healthy_host(), Some(&refused), &Outcome::Ran(right()));
    keep("worker_refused", &view::doctor::text(&refused));
    assert_eq!(refused.exit_code(), 4);
}

/// The ids of a report's checks, in order.
fn ids(checks: &[Check]) -> Vec<&'static str> {
    checks.iter().map(|check| check.id).collect()
}

#[test]
fn every_check_is_always_there_once() {
    assert_eq!(ids(&bare_host()), ids(&healthy_host()));
    let all = ids(&worker::checks(&healthy_worker(), &OURS, &vars()));
    let full = healthy_worker();
    let nothing = Seen::default();
    let process = Seen { process: full.process.clone(), ..Seen::default() };
    let identity = Seen { identity: full.identity.clone(), ..process.clone() };
    let interpreter = Seen { interpreter: full.interpreter.clone(), ..identity.clone() };
    for seen in [nothing, process, identity, interpreter] {
        for refused in [
            Blocker::NoSuchProcess { pid: 7 },
            Blocker::PythonUnsupported { pid: 7, found: "PyPy".into(), why: "no".into() },
            Blocker::LayoutMismatch { what: "x".into() },
            Blocker::SiteRefused { what: "PyContext_Exit".into(), why: "x".into() },
            Blocker::OtherUser { pid: 7, user: "x".into() },
        ] {
            let seen = Seen { refused: Some(refused), ..seen.clone() };
            let checks = worker::checks(&seen, &OURS, &vars());
            assert_eq!(ids(&checks), all, "{seen:?}");
            let failed = checks.iter().filter(|check| check.is_failed()).count();
            assert_eq!(failed, 1, "{seen:?}");
        }
    }
    let both = [ids(&healthy_host()), all].concat();
    let different: std::collections::HashSet<_> = both.iter().collect();
    assert_eq!(different.len(), both.len());
}

fn verdict(checks: &[Check], id: &str) -> Verdict {
    checks.iter().find(|check| check.id == id).unwrap().verdict
}

#[test]
fn a_capability_that_only_some_kernels_ask_for_is_judged_by_trying() {
    let admin = 1_u64 << 21;
    let facts = HostFacts { capabilities: ROOT ^ admin, ..healthy_facts() };
    let with = |trap_ns: Step<u64>| {
        let tried = Tried { trap_ns, ..healthy_trial() };
        verdict(&host::checks(&facts, &healthy_settings(), &tried), "cap_sys_admin")
    };
    assert_eq!(with(Step::Done(900)), Verdict::Ok);
    assert_eq!(with(Step::Refused("denied".into())), Verdict::Fail { exit_code: 3 });
    assert_eq!(with(Step::NotTried("see cap_bpf".into())), Verdict::Note);
}

#[test]
fn a_capability_that_another_includes_is_not_missing() {
    let bpf = 1_u64 << 39;
    let facts = HostFacts { capabilities: ROOT ^ bpf, ..healthy_facts() };
    let checks = host::checks(&facts, &healthy_settings(), &healthy_trial());
    assert_eq!(verdict(&checks, "cap_bpf"), Verdict::Ok);
    let ptrace = 1_u64 << 19;
    let facts = HostFacts { capabilities: ROOT ^ ptrace, ..healthy_facts() };
    let checks = host::checks(&facts, &healthy_settings(), &healthy_trial());
    assert_eq!(verdict(&checks, "cap_sys_ptrace"), Verdict::Fail { exit_code: 3 });
}

#[test]
fn a_wrong_number_or_name_fails_the_self_test() {
    let failed = |told: Told| -> Vec<&'static str> {
        let checks = self_test::checks(&Outcome::Ran(told));
        checks.iter().filter(|check| check.is_failed()).map(|check| check.id).collect()
    };
    let none: [&str; 0] = [];
    assert_eq!(failed(right()), none);
    assert_eq!(failed(Told { cpu_ns: 180_000_000, ..right() }), ["self_test_cpu"]);
    assert_eq!(failed(Told { cpu_ns: 215_000_000, ..right() }), ["self_test_cpu"]);
    let stolen = Told { cpu_ns: 218_000_000, stolen_ns: 20_000_000, ..right() };
    let checks = self_test::checks(&Outcome::Ran(stolen.clone()));
    assert_eq!(verdict(&checks, "self_test_cpu"), Verdict::Note);
    assert_eq!(failed(Told { cpu_ns: 231_000_000, ..stolen }), ["self_test_cpu"]);
    let lost = Told { sessions: vec!["doctor-burns".into()], ..right() };
    assert_eq!(failed(lost), ["self_test_sessions"]);
    let other = Told { stalls: vec![stall("doctor-burns", 81_000_000, 80_000_000)], ..right() };
    assert_eq!(failed(other), ["self_test_stall"]);
    let burned = Told { stalls: vec![stall("doctor-blocks", 81_000_000, 0)], ..right() };
    assert_eq!(failed(burned.clone()), ["self_test_stall"]);
    assert_eq!(failed(Told { stolen_ns: 70_000_000, ..burned.clone() }), ["self_test_stall"]);
    let checks = self_test::checks(&Outcome::Ran(Told { stolen_ns: 80_000_000, ..burned }));
    assert_eq!(verdict(&checks, "self_test_stall"), Verdict::Note);
}

#[test]
fn a_worker_of_many_loops_does_not_fill_the_page() {
    let mut seen = healthy_worker();
    if let Some(python) = &mut seen.python {
        python.loops = (1..=9).map(|tid| (tid, "uvloop.Loop".into())).collect();
    }
    let checks = worker::checks(&seen, &OURS, &vars());
    let loops = checks.iter().find(|check| check.id == "loops").unwrap();
    assert!(loops.found.ends_with("uvloop.Loop on thread 4, 5 more"), "{loops:?}");
}

#[test]
fn what_a_worker_calls_its_file_moves_no_cursor() {
    let mut seen = healthy_worker();
    if let Some((identity, on_disk)) = &mut seen.identity {
        identity.path = "/tmp/\u{1b}[2Jpython (deleted)".into();
        *on_disk = OnDisk::Replaced;
    }
    let report = report(healthy_host(), Some(&seen), &Outcome::Ran(right()));
    for text in [view::doctor::text(&report), view::doctor::json(&report)] {
        assert!(text.lines().all(|line| !line.chars().any(char::is_control)), "{text}");
        assert!(text.contains("[2Jpython") && text.contains("another file"), "{text}");
    }
}

#[test]
fn lines_fit_a_page_but_for_what_cannot_be_broken() {
    let outcome = Outcome::NotRun("this host cannot: see arch".into());
    let bare = report(bare_host(), Some(&healthy_worker()), &outcome);
    for line in view::doctor::text(&bare).lines() {
        let is_one_word = !line.trim_start().contains(' ');
        assert!(line.chars().count() <= 80 || is_one_word, "{line}");
        assert!(!line.ends_with(' '), "{line:?}");
    }
}
