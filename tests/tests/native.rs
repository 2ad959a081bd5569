//! The C function that a worker's thread is in, asleep or busy, is told without stopping it; Python alone
//! has none.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use openrtc_probe::{
    native::{self, Native, Registers, Sampler, Stacks},
    worker,
};
use openrtc_tests::{
    probe::PATIENCE,
    say,
    setting::{Interpreter, Setting},
    worker::Worker,
};

/// Samples of a busy thread.
const SAMPLES: usize = 7;
/// CPU time after which the fixture is in the function that it was told to be in, in nanoseconds.
const WARM_NS: u64 = 20_000_000;
/// How often a sleeper that woke up meanwhile is looked at again.
const TRIES: usize = 100;

/// What a thread does, and which answers are right.
struct Case {
    kind: &'static str,
    /// The system calls that it sleeps in (`clock_nanosleep`, `nanosleep`, `select`, `futex`, ...); none
    /// where it is busy.
    calls: &'static [i64],
    /// What the answer begins with, with symbols.
    named: &'static [&'static str],
    /// The same of a stripped interpreter; none where there must be no answer.
    stripped: &'static [&'static str],
}

const SLEEP: &[&str] = &["clock_nanosleep (libc", "select (libc", "__select (libc"];
const LOCK: &[&str] = &[
    "lock_PyThread_acquire_lock (",
    "PyThread_acquire_lock_timed (",
    "_PyParkingLot_Park (",
    "_PySemaphore_Wait (",
    // With symbols of its own where the C library is not stripped.
    "__new_sem_wait_slow",
];
const PBKDF2: &[&str] = &["PKCS5_PBKDF2_HMAC (libcrypto.so."];
const STEP: &[&str] = &["sqlite3_step (libsqlite3.so."];

const CASES: &[Case] = &[
    Case { kind: "sleep", calls: &[230, 35, 23, 270], named: SLEEP, stripped: SLEEP },
    Case { kind: "lock", calls: &[202], named: LOCK, stripped: LOCK },
    Case { kind: "sqlite_locked", calls: &[230, 35], named: STEP, stripped: STEP },
    Case { kind: "pbkdf2", calls: &[], named: PBKDF2, stripped: PBKDF2 },
    Case { kind: "sqlite_step", calls: &[], named: STEP, stripped: STEP },
    Case {
        kind: "backtrack",
        calls: &[],
        named: &["_sre_SRE_Pattern_match (", "sre_"],
        stripped: &[],
    },
    Case { kind: "spin", calls: &[], named: &[], stripped: &[] },
    Case { kind: "clocks", calls: &[], named: &[], stripped: &[] },
];

#[test]
fn the_c_function_is_told_with_symbols_and_without() -> Result<()> {
    let setting = Setting::from_environment()?;
    let mut wrong = Vec::new();
    for interpreter in setting.some_of_each() {
        for case in CASES {
            let name = format!("{} {}", interpreter.name, case.kind);
            match told(&setting, interpreter, case).with_context(|| name.clone()) {
                Ok(None) => {}
                Ok(Some(why)) => wrong.push(format!("{name}: {why}")),
                Err(error) => wrong.push(format!("{error:#}")),
            }
        }
    }
    ensure!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// What is wrong with the answer.
fn told(setting: &Setting, interpreter: &Interpreter, case: &Case) -> Result<Option<String>> {
    let fixture = Worker::start(setting, interpreter, &format!("native.py --kind {}", case.kind))?;
    let open = worker::Worker::open(fixture.pid)?;
    let mut stacks = Stacks::new(open.identify()?.path);
    let (answer, stacks) = if case.calls.is_empty() {
        let samples = busy(&open, &mut stacks)?;
        (native::most(&samples), samples)
    } else {
        let stack = asleep(&open, &mut stacks, case.calls)?;
        (stack.innermost(), vec![stack])
    };
    say::note(&format!("{} {}: {}", interpreter.name, case.kind, answer.as_deref().unwrap_or("-")));
    let expected = if interpreter.stripped { case.stripped } else { case.named };
    let is_right = match &answer {
        Some(answer) => expected.iter().any(|start| answer.starts_with(start)),
        None => expected.is_empty(),
    };
    let all = || stacks.iter().map(line).collect::<Vec<_>>().join("\n  ");
    Ok((!is_right).then(|| format!("{answer:?} of\n  {}", all())))
}

/// A stack in a line.
fn line(stack: &Native) -> String {
    let frame = |frame: &native::NativeFrame| {
        format!("{}@{}+{:#x}", frame.symbol.as_deref().unwrap_or("-"), frame.module, frame.offset)
    };
    stack.frames.iter().map(frame).collect::<Vec<_>>().join(" ")
}

/// The stack of the main thread, once it sleeps in one of these calls.
fn asleep(worker: &worker::Worker, stacks: &mut Stacks, calls: &[i64]) -> Result<Native> {
    let began = Instant::now();
    for _ in 0..TRIES {
        let registers = loop {
            if let Some(registers) = registers(worker.pid(), calls)? {
                break registers;
            }
            ensure!(began.elapsed() < PATIENCE, "it does not sleep in one of {calls:?}");
            thread::yield_now();
        };
        let stack = stacks.of_sleeper(worker, registers);
        if self::registers(worker.pid(), calls)? == Some(registers) {
            return Ok(stack);
        }
    }
    bail!("it never slept long enough to be looked at")
}

/// Its registers, if it is in one of these calls.
fn registers(pid: i32, calls: &[i64]) -> Result<Option<Registers>> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/syscall"))?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let [call, .., sp, ip] = *words else { return Ok(None) };
    if !call.parse().is_ok_and(|call| calls.contains(&call)) {
        return Ok(None);
    }
    let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16);
    Ok(Some(Registers { ip: hex(ip)?, sp: hex(sp)?, bp: None }))
}

/// Some samples of the main thread, once it is where it was told to be.
fn busy(worker: &worker::Worker, stacks: &mut Stacks) -> Result<Vec<Native>> {
    let tid = u32::try_from(worker.pid())?;
    let on_cpu_ns = || -> Result<u64> {
        let threads = worker.threads()?;
        let main = threads.iter().find(|thread| thread.tid == tid).context("no main thread")?;
        Ok(main.on_cpu_ns)
    };
    let warm_ns = on_cpu_ns()? + WARM_NS;
    let began = Instant::now();
    while on_cpu_ns()? < warm_ns {
        ensure!(began.elapsed() < PATIENCE, "it does not run");
        thread::sleep(Duration::from_millis(1));
    }
    let mut sampler = Sampler::start(tid).context("sample it")?;
    let mut samples = Vec::new();
    while samples.len() < SAMPLES {
        ensure!(began.elapsed() < PATIENCE, "it is not sampled");
        match sampler.take() {
            Some(sample) => samples.push(sample),
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
    Ok(stacks.of_samples(worker, &samples))
}
