//! The stall object.

use serde::{Serialize, Serializer};

use super::{line, type_name};
use crate::model::{Anatomy, Capture, Causes, Class, Frame, GilHolder, Process, Stall};
use crate::view::units::{millis, rfc3339};

/// What one stall takes, about; saves growing the buffer.
const STALL_BYTES: usize = 2048;

/// One stall, without a newline.
pub fn stall(stall: &Stall) -> String {
    line(&StallLine::of(stall), STALL_BYTES)
}

#[derive(Serialize)]
struct StallLine<'a> {
    r#type: &'static str,
    stall_id: u64,
    session_id: Option<&'a str>,
    agent_name: Option<&'a str>,
    tenant: Option<&'a str>,
    started_at: Option<String>,
    ongoing: bool,
    duration_ms: f64,
    on_cpu_ms: f64,
    off_cpu_ms: f64,
    run_queue_ms: f64,
    duration_is_lower_bound: bool,
    session_id_is_cut: bool,
    session_id_type: Option<&'a str>,
    pid: u32,
    #[serde(flatten)]
    anatomy: AnatomyFields<'a>,
}

impl<'a> StallLine<'a> {
    fn of(stall: &'a Stall) -> Self {
        Self {
            r#type: "stall",
            stall_id: stall.stall_id,
            session_id: stall.session_id.as_deref(),
            agent_name: stall.agent_name.as_deref(),
            tenant: stall.tenant.as_deref(),
            started_at: rfc3339(stall.started_at_unix_ns),
            ongoing: stall.ongoing,
            duration_ms: millis(stall.duration_ns),
            on_cpu_ms: millis(stall.on_cpu_ns),
            off_cpu_ms: millis(stall.off_cpu_ns),
            run_queue_ms: millis(stall.run_queue_ns),
            duration_is_lower_bound: stall.is_lower_bound,
            session_id_is_cut: stall.id_is_cut,
            session_id_type: stall.session_id.as_ref().and(type_name(&stall.id_type)),
            pid: stall.pid,
            anatomy: AnatomyFields::of(&stall.anatomy),
        }
    }
}

/// Why, on what, at which line, and who had to wait.
#[derive(Serialize)]
struct AnatomyFields<'a> {
    cause: Option<&'static str>,
    syscall: Option<&'static str>,
    causes_ms: CausesObject<'a>,
    stack: Vec<FrameObject<'a>>,
    stack_complete: bool,
    native: Option<&'a str>,
    bystanders: Option<u32>,
    lost_session_ms: Option<f64>,
    bystander_ids: &'a [String],
    descriptor: Option<&'a str>,
    gil_held: Option<bool>,
    gil_holder: Option<HolderObject<'a>>,
    cpu_holder: Option<ProcessObject<'a>>,
    stolen_ms: Option<f64>,
    captures: Vec<CaptureObject<'a>>,
}

impl<'a> AnatomyFields<'a> {
    fn of(anatomy: &'a Anatomy) -> Self {
        let (last, stack) = (anatomy.last(), anatomy.stack());
        let late = anatomy.late.as_ref();
        Self {
            cause: anatomy.causes.first().map(Class::name),
            syscall: anatomy.causes.syscall(),
            causes_ms: CausesObject(&anatomy.causes),
            stack: stack.map_or_else(Vec::new, |it| it.frames.iter().map(frame).collect()),
            stack_complete: stack.is_some_and(|stack| stack.is_complete),
            native: anatomy.native(),
            bystanders: late.map(|late| late.count),
            lost_session_ms: late.map(|late| millis(late.total_ns())),
            bystander_ids: late.map_or(&[], |late| &late.session_ids),
            descriptor: anatomy.descriptor(),
            gil_held: last.and_then(|capture| capture.gil_held),
            gil_holder: anatomy.gil_holder().map(holder),
            cpu_holder: anatomy.cpu_holder.as_ref().map(process),
            stolen_ms: anatomy.stolen_ns.map(millis),
            captures: anatomy.captures.iter().map(capture).collect(),
        }
    }
}

#[derive(Serialize)]
struct FrameObject<'a> {
    function: &'a str,
    file: &'a str,
    line: Option<u32>,
    user: bool,
}

#[derive(Serialize)]
struct HolderObject<'a> {
    tid: u32,
    session_id: Option<&'a str>,
}

#[derive(Serialize)]
struct ProcessObject<'a> {
    pid: u32,
    name: Option<&'a str>,
}

/// The user's own line at one look.
#[derive(Serialize)]
struct CaptureObject<'a> {
    at_ms: f64,
    function: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<u32>,
    native: Option<&'a str>,
}

fn frame(frame: &Frame) -> FrameObject<'_> {
    let Frame { function, file, line, is_user } = frame;
    FrameObject { function, file, line: *line, user: *is_user }
}

fn holder(holder: &GilHolder) -> HolderObject<'_> {
    HolderObject { tid: holder.tid, session_id: holder.session_id.as_deref() }
}

fn process(process: &Process) -> ProcessObject<'_> {
    ProcessObject { pid: process.pid, name: process.name.as_deref() }
}

fn capture(capture: &Capture) -> CaptureObject<'_> {
    let user = capture.stack.as_ref().and_then(|stack| stack.user());
    CaptureObject {
        at_ms: millis(capture.at_ns),
        function: user.map(|frame| frame.function.as_str()),
        file: user.map(|frame| frame.file.as_str()),
        line: user.and_then(|frame| frame.line),
        native: capture.native.as_deref(),
    }
}

/// Milliseconds by class.
struct CausesObject<'a>(&'a Causes);

impl Serialize for CausesObject<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(class, ns)| (class.name(), millis(ns))))
    }
}
