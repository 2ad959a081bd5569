//! The stacks of threads, read from outside: of those at rest just what they say themselves, of those that
//! spin never a wrong line.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use openrtc_probe::cpython::{MAX_FRAMES, NsTid, Origin};
use openrtc_tests::{
    field, say,
    setting::{Interpreter, Loop, Setting},
    stacks::{AtRest, Place, Stacks, places},
};

/// Readings of each spinning thread.
const CAPTURES: usize = 2000;
/// How often a thread may be asked for that has not come to rest yet.
const TRIES: usize = 100;
/// How long a thread may take to ask for the GIL.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `test` on an interpreter without symbols and on one with them, with `OPENRTC_TESTS=all` on every
/// one that is there, in the matrix or not, and on both loops.
fn on_all(test: impl Fn(&Setting, &Interpreter, Loop) -> Result<()>) -> Result<()> {
    let setting = Setting::from_environment()?;
    let mut wrong = Vec::new();
    for interpreter in setting.some_of_each() {
        let loops = Loop::ALL.into_iter();
        for on in loops.filter(|on| *on == Loop::Asyncio || interpreter.extras.uvloop) {
            if let Err(error) = test(&setting, interpreter, on) {
                wrong.push(format!("{} on {on}: {error:#}", interpreter.name));
            }
        }
    }
    ensure!(wrong.is_empty(), "{} failed:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[test]
fn a_thread_at_rest_is_where_it_says_itself() -> Result<()> {
    on_all(|setting, interpreter, on| {
        let mut stacks = Stacks::start(setting, interpreter, on)?;
        let names: Vec<_> = stacks.first_at_rest()?.into_keys().collect();
        ensure!(names.len() >= 26, "only {names:?} are at rest");
        for name in &names {
            at_rest(&mut stacks, name).with_context(|| name.clone())?;
        }
        say::note(&format!("{} on {on}: {} threads at rest", interpreter.name, names.len()));
        stacks.fixture.end_with_words().map(drop)
    })
}

/// Compares one with its own words, said before and after.
fn at_rest(stacks: &mut Stacks, name: &str) -> Result<()> {
    let of = |stacks: &mut Stacks| {
        let mut said = stacks.at_rest()?;
        said.remove(name).context("it is not there any more")
    };
    let mut before = of(stacks)?;
    for _ in 0..TRIES {
        let thread = stacks.thread(before.ns_tid)?;
        let version = Some(thread.context_version);
        let stack = stacks.python.stack(&thread, &mut stacks.cache, version);
        let after = of(stacks)?;
        if before != after {
            before = after;
            continue;
        }
        let stack = stack.context("nothing was read")?;
        let found = places(&stack);
        let AtRest { places, .. } = after;
        let there = places.get(..MAX_FRAMES).unwrap_or(&places);
        if let Some(index) = (0..there.len()).find(|at| there.get(*at) != found.get(*at)) {
            let (is, was) = (there.get(index), found.get(index));
            anyhow::bail!("frame {index} is {is:?} and was read as {was:?}");
        }
        ensure!(found.len() == there.len(), "more frames were read: {found:?}");
        ensure!(stack.is_complete == (places.len() <= MAX_FRAMES), "complete: {stack:?}");
        let own = stack.frames.iter().find(|frame| frame.function() == name);
        let is_user = own.is_none_or(|frame| frame.origin() == Origin::User);
        let outermost = stack.frames.last().context("no frame")?;
        let is_standard = !stack.is_complete || outermost.origin() == Origin::Standard;
        ensure!(is_user && is_standard, "whose code is it? {stack:?}");
        return Ok(());
    }
    anyhow::bail!("it never comes to rest: {before:?}")
}

#[test]
fn a_thread_that_spins_is_never_at_a_wrong_line() -> Result<()> {
    on_all(|setting, interpreter, on| {
        if on == Loop::Uvloop {
            // Nothing here runs on the loop.
            return Ok(());
        }
        let mut stacks = Stacks::start(setting, interpreter, on)?;
        let file = field::text(&stacks.fixture.ready, "file")?;
        let at_rest = stacks.first_at_rest()?;
        let outer = at_rest.get("in_sleep").and_then(|one| one.places.get(1..));
        let outer = outer.context("no outer frames")?.to_vec();
        for name in stacks.spinners()? {
            let told = spin(&mut stacks, &name, &file, &outer).with_context(|| name.clone())?;
            say::note(&format!("{}: {name}: {told}", interpreter.name));
        }
        stacks.fixture.end_with_words().map(drop)
    })
}

fn spin(stacks: &mut Stacks, name: &str, file: &str, outer: &[Place]) -> Result<String> {
    let spinning = stacks.spin(name)?;
    let thread = stacks.thread(spinning.ns_tid)?;
    let (mut complete, mut partial, mut none, mut wrong) = (0_usize, 0_usize, 0, Vec::new());
    let mut frames = 0;
    for _ in 0..CAPTURES {
        let Some(stack) = stacks.python.stack(&thread, &mut stacks.cache, None) else {
            none += 1;
            continue;
        };
        *(if stack.is_complete { &mut complete } else { &mut partial }) += 1;
        frames += stack.frames.len();
        // It has not come to its function yet.
        let has_begun = stack.frames.iter().any(|frame| frame.function() == name);
        if !has_begun {
            continue;
        }
        if let Err(error) = spinning.check(&stack, file, outer) {
            wrong.push(format!("{error:#}: {:?}", places(&stack)));
        }
    }
    stacks.stop()?;
    ensure!(wrong.is_empty(), "{} of {CAPTURES} are wrong: {}", wrong.len(), wrong[0]);
    Ok(format!(
        "{complete} complete, {partial} in part, {none} unknown, {:.1} frames",
        frames as f64 / (complete + partial).max(1) as f64
    ))
}

#[test]
fn the_holder_of_the_gil_and_who_waits_for_it_are_known() -> Result<()> {
    on_all(|setting, interpreter, on| {
        if on == Loop::Uvloop {
            return Ok(());
        }
        let mut stacks = Stacks::start(setting, interpreter, on)?;
        let gil = stacks.gil()?;
        let spinning = stacks.spin("plain")?;
        let waiting = stacks.thread(spinning.ns_tid)?;
        stacks.fixture.say("hold")?;
        let tid = field::int(&stacks.fixture.word("holding")?, "tid")?;
        let holder = NsTid(u32::try_from(tid)?);
        // It says so just before it goes into C.
        let until = Instant::now() + PATIENCE;
        let sleeps = format!("/proc/{}/task/{}/syscall", stacks.fixture.pid, waiting.tid);
        while !sleeps_on(&sleeps, &gil.futexes()) {
            ensure!(Instant::now() < until, "it never waits for the GIL");
        }
        for _ in 0..TRIES {
            let found = stacks.python.gil_holder(&gil)?.context("nobody has the GIL")?;
            ensure!(found.ns_tid == holder, "{found:?} has it, and not {holder:?}");
            ensure!(found.state == stacks.thread(holder)?.state, "{found:?} is another's state");
        }
        stacks.fixture.say("")?;
        stacks.stop()?;
        stacks.fixture.end_with_words().map(drop)
    })
}

/// Whether a thread's system call is a futex's, and waits in this range.
fn sleeps_on(path: &str, range: &std::ops::Range<u64>) -> bool {
    let told = fs::read_to_string(path).unwrap_or_default();
    let mut words = told.split(' ');
    let is_futex = words.next() == Some("202");
    let address = words.next().and_then(|word| word.strip_prefix("0x"));
    let address = address.and_then(|word| u64::from_str_radix(word, 16).ok());
    is_futex && address.is_some_and(|address| range.contains(&address))
}
