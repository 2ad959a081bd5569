//! One stall and what was told of it, judged. No I/O, no clock.

use anyhow::Result;

use super::kinds::{Descriptor, Expected, Share};
use super::marks::Marks;
use super::truth::{Part, Stalled};
use crate::said::{Anatomy, Stall};

/// Of what is really of a class, how much has to be told as that.
const SHARE: f64 = 0.8;
/// What two clocks may see differently at the edges of a stall.
const EDGE_MS: f64 = 3.0;
/// For each class, what printing may round off.
const ROUNDING_MS: f64 = 0.001;
/// Of a stall, what is more than half beyond doubt.
const DOMINATES: f64 = 0.55;
/// Between the beginning of a poll and that of the stall in it, and between a look and its time stamp.
const SOON_MS: f64 = 3.0;

/// All that is known of one stall.
#[derive(Debug, Clone)]
pub struct Seen {
    /// By the worker.
    pub truth: Stalled,
    /// The report of its end.
    pub told: Stall,
    /// What somebody outside did to it.
    pub outside: Outside,
    /// What may have been stolen from the machine meanwhile ([`crate::stolen`]).
    pub stolen_ms: f64,
    /// The file system of the scratch file.
    pub filesystem: String,
}

/// What somebody outside did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outside {
    /// How long it kept the worker from running.
    pub kept_ms: f64,
    /// The process that had the CPU.
    pub hog: Option<i32>,
    /// The holder of the GIL, by its id on the host.
    pub gil_holder: Option<i64>,
}

impl Seen {
    /// How much of it really was of its class, in ms.
    pub fn real_ms(&self, expected: &Expected) -> f64 {
        match expected.share {
            Share::Off => self.truth.off_ms(),
            Share::Cpu => self.truth.cpu_ms,
            Share::RunDelay => self.truth.delay_ms(),
            Share::Outside => self.outside.kept_ms,
            Share::Parts => self.truth.wall_ms,
        }
    }

    /// Whether it was what it was to be: others may have used the machine.
    pub fn is_as_planned(&self, expected: &Expected) -> bool {
        !expected.is_pure || self.real_ms(expected) > DOMINATES * self.truth.wall_ms
    }
}

/// All that is wrong with what was told, in words.
pub fn faults(seen: &Seen, expected: &Expected, marks: &Marks) -> Result<Vec<String>> {
    let anatomy = seen.told.demand_anatomy()?;
    let mut faults = Faults(Vec::new());
    faults.sums(&seen.told, anatomy);
    faults.split(seen, expected, anatomy);
    let is_expected = faults.cause(seen, expected, anatomy);
    if is_expected {
        faults.call(seen, expected, anatomy);
    }
    faults.holders(seen, expected, anatomy);
    faults.stack(expected, anatomy);
    faults.lines(&seen.truth.parts, anatomy, marks)?;
    Ok(faults.0)
}

/// The parts that may have been going on at an instant.
pub fn parts_at(parts: &[Part], at_ms: f64) -> impl Iterator<Item = &Part> {
    let last = parts.len().saturating_sub(1);
    parts.iter().enumerate().filter_map(move |(number, part)| {
        // Whatever is before the first and after the last of them belongs to the same poll.
        let from_ms = if number == 0 { f64::NEG_INFINITY } else { part.from_ms - SOON_MS };
        let to_ms = if number == last { f64::INFINITY } else { part.to_ms + SOON_MS };
        (from_ms..=to_ms).contains(&at_ms).then_some(part)
    })
}

struct Faults(Vec<String>);

impl Faults {
    fn unless(&mut self, is_right: bool, what: impl FnOnce() -> String) {
        if !is_right {
            self.0.push(what());
        }
    }

    fn sums(&mut self, told: &Stall, anatomy: &Anatomy) {
        let sum_ms: f64 = anatomy.causes_ms.values().sum();
        let off_ms = (sum_ms - told.duration_ms).abs();
        self.unless(off_ms <= ROUNDING_MS * (anatomy.causes_ms.len() + 1) as f64, || {
            format!("its causes sum to {sum_ms} ms, it lasted {} ms", told.duration_ms)
        });
        let is_zero = |ms: &f64| *ms <= 0.0;
        self.unless(!anatomy.causes_ms.values().any(is_zero), || "a class of nothing".to_owned());
    }

    /// Each class has what is really its own.
    fn split(&mut self, seen: &Seen, expected: &Expected, anatomy: &Anatomy) {
        let mut least = |class: &str, real_ms: f64| {
            let told_ms = anatomy.ms(class);
            let least_ms = real_ms * SHARE - EDGE_MS - seen.stolen_ms;
            self.unless(told_ms >= least_ms, || {
                format!("{class} is {told_ms:.1} ms, really {real_ms:.1} ms")
            });
        };
        if expected.share != Share::Parts {
            return least(expected.cause, seen.real_ms(expected));
        }
        for part in &seen.truth.parts {
            let class = part.cause.as_deref().unwrap_or_default();
            let wall_ms = part.to_ms - part.from_ms;
            // What it computes may have had to wait for a CPU.
            let real_ms = if class == "cpu" { seen.truth.cpu_ms } else { wall_ms };
            least(class, real_ms.min(wall_ms) - seen.truth.delay_ms());
        }
    }

    /// Whether the cause is the expected one; where no class is more than half, any of those may be.
    fn cause(&mut self, seen: &Seen, expected: &Expected, anatomy: &Anatomy) -> bool {
        let told = anatomy.cause.as_deref();
        if expected.share == Share::Parts {
            let is_part = seen.truth.parts.iter().any(|part| part.cause.as_deref() == told);
            // On a busy machine the wait for a CPU may be longer than any of them.
            let length_ms = |part: &Part| part.to_ms - part.from_ms;
            let longest_ms = seen.truth.parts.iter().map(length_ms).fold(0.0, f64::max);
            let is_queue = told == Some("run-queue")
                && seen.truth.delay_ms() >= SHARE * (longest_ms - seen.truth.delay_ms());
            self.unless(told.is_some() && (is_part || is_queue), || {
                format!("its cause is {told:?}")
            });
            return is_part && told != Some("cpu");
        }
        let is_expected = told == Some(expected.cause);
        let real_ms = seen.real_ms(expected);
        let may_be_other = real_ms < DOMINATES * seen.truth.wall_ms + seen.stolen_ms
            && matches!(told, Some("cpu" | "run-queue"));
        self.unless(is_expected || may_be_other, || format!("its cause is {told:?}"));
        is_expected
    }

    fn call(&mut self, seen: &Seen, expected: &Expected, anatomy: &Anatomy) {
        let syscall = anatomy.syscall.as_deref();
        let is_right = match syscall {
            Some(name) => expected.syscalls.contains(&name),
            None => expected.syscalls.is_empty(),
        };
        self.unless(is_right, || format!("its system call is {syscall:?}"));
        let descriptor = anatomy.descriptor.as_deref();
        let scratch = format!("file {}", seen.filesystem);
        let is_right = match expected.descriptor {
            Descriptor::None => descriptor.is_none(),
            Descriptor::Is(name) => descriptor == Some(name),
            Descriptor::Scratch => descriptor == Some(scratch.as_str()),
            Descriptor::Any => true,
        };
        self.unless(is_right, || format!("its descriptor is {descriptor:?}"));
    }

    fn holders(&mut self, seen: &Seen, expected: &Expected, anatomy: &Anatomy) {
        let held = anatomy.gil_held;
        let is_right = expected.gil_held.is_none() || held == expected.gil_held;
        self.unless(is_right, || format!("gil_held is {held:?}"));
        if let Some(tid) = seen.outside.gil_holder {
            let told = anatomy.gil_holder.as_ref();
            let session = seen.truth.holder_session.as_deref();
            let is_right =
                told.is_some_and(|told| told.tid == tid && told.session.as_deref() == session);
            self.unless(is_right, || format!("{tid} of {session:?} had the GIL, not {told:?}"));
        }
        if let Some(pid) = seen.outside.hog {
            let told = anatomy.cpu_holder.as_ref();
            let is_right = told.is_some_and(|told| told.pid == i64::from(pid));
            self.unless(is_right, || format!("{pid} had the CPU, not {told:?}"));
        }
    }

    fn stack(&mut self, expected: &Expected, anatomy: &Anatomy) {
        self.unless(anatomy.is_complete, || "its stack is not complete".to_owned());
        let innermost = anatomy.stack.first();
        let is_right = match expected.innermost {
            None => innermost.is_some_and(|frame| frame.is_users),
            Some(name) => innermost.is_some_and(|frame| {
                let function = frame.function.as_deref().unwrap_or_default();
                !frame.is_users && function.rsplit('.').next() == Some(name)
            }),
        };
        self.unless(is_right, || format!("its innermost frame is {innermost:?}"));
    }

    /// The user's line at the last look is the stack's, and each is one of those of its instant.
    fn lines(&mut self, parts: &[Part], anatomy: &Anatomy, marks: &Marks) -> Result<()> {
        self.unless(!anatomy.captures.is_empty(), || "nobody looked".to_owned());
        for capture in &anatomy.captures {
            let mut is_right = false;
            for part in parts_at(parts, capture.at_ms) {
                let mark = marks.demand(&part.mark)?;
                is_right |= mark.has(capture.file.as_deref(), capture.line)
                    && mark.is_in(capture.function.as_deref());
            }
            self.unless(is_right, || format!("it was not at {capture:?}"));
        }
        let users = anatomy.users().map(|frame| (&frame.file, &frame.line));
        let last = anatomy.captures.last().map(|capture| (&capture.file, &capture.line));
        self.unless(users.is_some() && users == last, || {
            format!("the stack's line is {users:?}, that of the last look {last:?}")
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
