//! What the live view needs for very many sessions: the time of one frame of it, and the daemon's CPU
//! with ten pictures a second. Ends with 1 when a goal is missed.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use openrtc_probe::model::{Session, Snapshot, Usage};
use openrtc_probe::view::order::Order;
use openrtc_probe::view::top::{Key, Palette, Press, Screen, draw, press};
use openrtc_tests::{
    cpu_watch::process_cpu_ns,
    process::only_child,
    setting::{Loop, Setting},
    terminal::Terminal,
    worker::Worker,
};
use ratatui::{Terminal as Drawing, backend::TestBackend};

const SESSIONS: usize = 10_000;
const FRAMES: usize = 200;
const GOAL_FRAME_MS: f64 = 10.0;
const GOAL_CPU_PCT: f64 = 10.0;
/// How long the daemon is watched.
const SPAN: Duration = Duration::from_secs(20);
/// What is not measured after its table has appeared: the first pictures.
const SETTLE: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(30);
const SIZES: [(u16, u16); 2] = [(80, 24), (200, 50)];
/// What is open, and the keys that open it.
const PANES: [(&str, &[&str]); 3] =
    [("sessions", &[]), ("details", &["Enter"]), ("stalls", &["Escape", "Tab"])];

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-top: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let mut passed = true;
    println!("frames of {SESSIONS} sessions    median ms  worst ms of {FRAMES}");
    for size in SIZES {
        let [median, worst] = frames(size)?;
        println!("{:>7}x{:<18} {median:>10.2} {worst:>9.2}", size.0, size.1);
        passed &= median < GOAL_FRAME_MS;
    }
    println!("at 10 Hz, {SESSIONS} sessions    loop      pane       daemon CPU %");
    let setting = Setting::from_environment()?;
    for kind in Loop::ALL {
        let words = format!("scale.py --loop {kind} --sessions {SESSIONS}");
        let worker = Worker::start(&setting, setting.usual(), &words)?;
        for (pane, cpu_pct) in live(&setting, &worker)? {
            let interpreter = &setting.usual().name;
            println!("{interpreter:<27} {:<9} {pane:<10} {cpu_pct:>12.2}", kind.name());
            passed &= cpu_pct < GOAL_CPU_PCT;
        }
    }
    let verdict = if passed { "PASS" } else { "FAIL" };
    println!("{verdict}  goals: a frame {GOAL_FRAME_MS} ms, CPU {GOAL_CPU_PCT} %");
    Ok(passed)
}

/// Milliseconds of a frame, with what comes before it: the one in the middle, and the worst.
fn frames((columns, lines): (u16, u16)) -> Result<[f64; 2]> {
    let mut drawing = Drawing::new(TestBackend::new(columns, lines))?;
    let mut screen = Screen::new(Order::default(), Palette::new(true), 10.0);
    let mut took_ms = Vec::new();
    for frame in 0..FRAMES {
        let snapshot = snapshot(frame);
        let began = Instant::now();
        // A reader who moves through the list.
        screen = press(&screen, &snapshot, Press::Key(Key::Down)).0;
        screen = screen.fit(&snapshot, columns, lines);
        drawing.draw(|frame| draw(frame, &snapshot, &screen))?;
        took_ms.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    took_ms.sort_by(f64::total_cmp);
    let [.., worst] = took_ms[..] else { anyhow::bail!("no frame was drawn") };
    Ok([took_ms[FRAMES / 2], worst])
}

/// Sessions whose order changes with each picture.
fn snapshot(frame: usize) -> Snapshot {
    let session = |at: usize| {
        let cpu = (at * 7919 + frame * 104_729) % 10_007;
        Session {
            session_id: format!("AJ_live{at:08}").into(),
            agent_name: Some("booking".into()),
            tenant: Some("t1".into()),
            cpu_ratio: Some(cpu as f64 / 1e6),
            usage: Usage { polls: (at * frame) as u64, ..Usage::default() },
            ..Session::default()
        }
    };
    Snapshot { sessions: (0..SESSIONS).map(session).collect(), ..Snapshot::default() }
}

/// The daemon's CPU with each pane open.
fn live(setting: &Setting, worker: &Worker) -> Result<Vec<(&'static str, f64)>> {
    let probe = setting.probe_file().display();
    let script = format!("'{probe}' --pid {} --refresh-rate 10", worker.pid);
    let terminal = Terminal::start(120, 36, &format!("{script}; read wait"))?;
    terminal.wait_for("table", SOON, |screen| screen.contains("AJ_live"))?;
    let shell: i32 = terminal.fact("pane_pid")?.parse()?;
    let daemon = only_child(shell)?;
    let mut found = Vec::new();
    for (pane, keys) in PANES {
        for key in keys {
            terminal.press(key)?;
        }
        sleep(SETTLE);
        let (before_ns, began) = (process_cpu_ns(daemon)?, Instant::now());
        sleep(SPAN);
        let used_ns = process_cpu_ns(daemon)? - before_ns;
        found.push((pane, used_ns as f64 / began.elapsed().as_nanos() as f64 * 100.0));
    }
    terminal.press("q")?;
    let is_over = terminal.wait_for("end", SOON, |screen| !screen.contains("AJ_live"));
    ensure!(is_over.is_ok(), "it did not end");
    Ok(found)
}
