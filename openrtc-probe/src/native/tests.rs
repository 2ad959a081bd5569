//! Stacks of our own threads, which are asleep or busy in functions that we know, and tables that lie.

use std::{
    fs,
    hint::black_box,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use super::*;

/// Looks at a thread until it is where it is going, at most.
const MAX_LOOKS: usize = 5_000_000;

fn ourselves() -> Worker {
    Worker::open(std::process::id() as i32).unwrap()
}

fn stacks() -> Stacks {
    Stacks::new(PathBuf::from("/nowhere/python"))
}

/// A thread of ours that runs `body` and has said its id.
fn thread_in(body: impl FnOnce() + Send + 'static) -> (u32, JoinHandle<()>) {
    let (send, receive) = mpsc::channel();
    let thread = thread::spawn(move || {
        send.send(nix::unistd::gettid().as_raw() as u32).unwrap();
        body();
    });
    (receive.recv().unwrap(), thread)
}

/// The registers of a thread of ours, once it is in the system call `number`.
fn registers_in(tid: u32, number: i64) -> Registers {
    for _ in 0..MAX_LOOKS {
        let text = fs::read_to_string(format!("/proc/self/task/{tid}/syscall")).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        if let [call, .., sp, ip] = *words
            && call.parse() == Ok(number)
        {
            let hex = |word: &str| u64::from_str_radix(&word[2..], 16).unwrap();
            return Registers { ip: hex(ip), sp: hex(sp), bp: None };
        }
        thread::yield_now();
    }
    panic!("thread {tid} never entered system call {number}");
}

/// Straight into the system: the standard library's functions keep frame pointers, which are not known here.
#[inline(never)]
fn reads_here(pipe: &std::io::PipeReader) {
    black_box(nix::unistd::read(pipe, &mut [0; 8])).unwrap();
}

#[inline(never)]
fn spins_here(go_on: &AtomicBool) {
    let mut turns = 0_u64;
    while go_on.load(Ordering::Relaxed) {
        turns = black_box(turns.wrapping_add(1));
    }
}

fn symbols(native: &Native) -> Vec<&str> {
    native.frames.iter().map(|frame| frame.symbol.as_deref().unwrap_or("?")).collect()
}

#[test]
fn a_sleeper_is_found_in_its_call() {
    const READ: i64 = 0;
    let (reader, writer) = std::io::pipe().unwrap();
    let (tid, thread) = thread_in(move || reads_here(&reader));
    let registers = registers_in(tid, READ);
    let mut stacks = stacks();
    let native = stacks.of_sleeper(&ourselves(), registers);
    let frames = symbols(&native);
    assert_eq!(native.frames[0].place, Place::System, "{native:#?}");
    assert!(frames[0].ends_with("read"), "{frames:?}");
    assert!(frames.iter().any(|name| name.contains("reads_here")), "{frames:?}");
    assert!(stacks.cached_bytes() > 0);
    // The second time nothing is parsed anew, and the answer is the same.
    let bytes = stacks.cached_bytes();
    assert_eq!(stacks.of_sleeper(&ourselves(), registers), native);
    assert_eq!(stacks.cached_bytes(), bytes);
    drop(writer);
    thread.join().unwrap();
}

/// Needs `CAP_PERFMON`, or 1 or less in `/proc/sys/kernel/perf_event_paranoid`.
#[test]
fn a_busy_thread_is_sampled() {
    let go_on = Arc::new(AtomicBool::new(true));
    let spin = Arc::clone(&go_on);
    let (tid, thread) = thread_in(move || spins_here(&spin));
    let mut sampler =
        Sampler::start(tid).expect("needs CAP_PERFMON, or perf_event_paranoid of 1 or less");
    let sample = (0..MAX_LOOKS).find_map(|_| {
        thread::yield_now();
        sampler.take()
    });
    let sample = sample.expect("it runs, and is never sampled");
    let native = stacks().of_samples(&ourselves(), &[sample]).remove(0);
    go_on.store(false, Ordering::Relaxed);
    thread.join().unwrap();
    let frames = symbols(&native);
    assert!(frames.iter().any(|name| name.contains("spins_here")), "{frames:?}");
}

#[test]
fn a_thread_that_is_gone_is_not_sampled() {
    let (tid, thread) = thread_in(|| {});
    thread.join().unwrap();
    // The id may linger for a moment, and then no sample comes.
    let sample = Sampler::start(tid).ok().and_then(|mut sampler| sampler.take());
    assert!(sample.is_none());
}

#[test]
fn nonsense_has_no_stack() {
    let worker = ourselves();
    let anywhere = [0, 1, 0x1000, u64::MAX, 1 << 47, 0x7fff_ffff_f000];
    let code = worker.code().unwrap();
    let known = code.iter().map(|mapping| mapping.range.0 + 0x333);
    for ip in anywhere.into_iter().chain(known) {
        for sp in anywhere {
            let native = stacks().of_sleeper(&worker, Registers { ip, sp, bp: Some(sp) });
            assert!(native.frames.len() <= 2, "{ip:#x} {sp:#x} {native:?}");
        }
    }
}
