//! Why a stall was, where, and who had to wait for it: the last fields of a stall.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::field;

/// All classes that a cause can be of.
pub const CLASSES: &[&str] = &[
    "cpu",
    "sleep",
    "lock",
    "gil",
    "io",
    "wait",
    "page-fault",
    "run-queue",
    "throttled",
    "stopped",
    "other",
    "unknown",
];

/// The fields of one report.
#[derive(Debug, Clone, Default)]
pub struct Anatomy {
    /// The class that took most of it.
    pub cause: Option<String>,
    /// The cause's system call, where it is one.
    pub syscall: Option<String>,
    /// Milliseconds by class.
    pub causes_ms: BTreeMap<String, f64>,
    /// Innermost first.
    pub stack: Vec<Frame>,
    /// Whether that goes down to the poll's beginning.
    pub is_complete: bool,
    /// The innermost symbol that is not Python's.
    pub native: Option<String>,
    /// Sessions that were kept waiting; not known while it goes on.
    pub bystanders: Option<i64>,
    /// An upper bound of how long, together.
    pub lost_session_ms: Option<f64>,
    /// What the system call was about.
    pub descriptor: Option<String>,
    /// Whether the thread held the GIL when it was last looked at.
    pub gil_held: Option<bool>,
    /// Who held it instead.
    pub gil_holder: Option<GilHolder>,
    /// Who had the CPU instead.
    pub cpu_holder: Option<CpuHolder>,
    /// An upper bound of what a hypervisor took.
    pub stolen_ms: Option<f64>,
    /// The user's line at each look.
    pub captures: Vec<Capture>,
}

/// One frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its function.
    pub function: Option<String>,
    /// Its file, as the code names it.
    pub file: Option<String>,
    /// Its line.
    pub line: Option<i64>,
    /// Whether it is neither the standard library's nor an installed package's.
    pub is_users: bool,
}

/// A thread that held the GIL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GilHolder {
    /// Its id on the host.
    pub tid: i64,
    /// The session that it ran, if any.
    pub session: Option<String>,
}

/// A process that had the CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuHolder {
    /// Its id.
    pub pid: i64,
    /// Its name; unknown where it was gone.
    pub name: Option<String>,
}

/// The user's line at one look.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Capture {
    /// Since the poll began.
    pub at_ms: f64,
    /// The innermost function of the user's.
    pub function: Option<String>,
    /// Its file.
    pub file: Option<String>,
    /// The line.
    pub line: Option<i64>,
}

impl Anatomy {
    /// The innermost frame of the user's own code.
    pub fn users(&self) -> Option<&Frame> {
        self.stack.iter().find(|frame| frame.is_users)
    }

    /// Milliseconds of a class.
    pub fn ms(&self, class: &str) -> f64 {
        self.causes_ms.get(class).copied().unwrap_or(0.0)
    }
}

/// Reads them; none of a probe that does not tell, an error of one that tells some of them.
pub fn parse(object: &Value) -> Result<Option<Anatomy>> {
    if object.get("cause").is_none() {
        return Ok(None);
    }
    let there = |name: &str| object.get(name).with_context(|| format!("no \"{name}\""));
    let list = |name: &str| -> Result<&Vec<Value>> {
        there(name)?.as_array().with_context(|| format!("\"{name}\" is not a list"))
    };
    for name in ["syscall", "native", "descriptor", "gil_held", "stolen_ms", "stack_complete"] {
        there(name)?;
    }
    Ok(Some(Anatomy {
        cause: field::maybe_text(object, "cause"),
        syscall: field::maybe_text(object, "syscall"),
        causes_ms: causes(there("causes_ms")?)?,
        stack: list("stack")?.iter().map(frame).collect(),
        is_complete: field::flag(object, "stack_complete"),
        native: field::maybe_text(object, "native"),
        bystanders: there("bystanders")?.as_i64(),
        lost_session_ms: there("lost_session_ms")?.as_f64(),
        descriptor: field::maybe_text(object, "descriptor"),
        gil_held: object["gil_held"].as_bool(),
        gil_holder: gil_holder(there("gil_holder")?)?,
        cpu_holder: cpu_holder(there("cpu_holder")?)?,
        stolen_ms: object["stolen_ms"].as_f64(),
        captures: list("captures")?.iter().map(capture).collect::<Result<_>>()?,
    }))
}

fn causes(object: &Value) -> Result<BTreeMap<String, f64>> {
    let entries = object.as_object().context("\"causes_ms\" is not an object")?;
    let one = |(class, ms): (&String, &Value)| -> Result<(String, f64)> {
        ensure!(CLASSES.contains(&class.as_str()), "there is no class {class:?}");
        Ok((class.clone(), ms.as_f64().context("a class without milliseconds")?))
    };
    entries.iter().map(one).collect()
}

fn frame(entry: &Value) -> Frame {
    Frame {
        function: field::maybe_text(entry, "function"),
        file: field::maybe_text(entry, "file"),
        line: entry["line"].as_i64(),
        is_users: field::flag(entry, "user"),
    }
}

fn gil_holder(object: &Value) -> Result<Option<GilHolder>> {
    if object.is_null() {
        return Ok(None);
    }
    let session = field::maybe_text(object, "session_id");
    Ok(Some(GilHolder { tid: field::int(object, "tid")?, session }))
}

fn cpu_holder(object: &Value) -> Result<Option<CpuHolder>> {
    if object.is_null() {
        return Ok(None);
    }
    Ok(Some(CpuHolder { pid: field::int(object, "pid")?, name: field::maybe_text(object, "name") }))
}

fn capture(entry: &Value) -> Result<Capture> {
    Ok(Capture {
        at_ms: field::float(entry, "at_ms")?,
        function: field::maybe_text(entry, "function"),
        file: field::maybe_text(entry, "file"),
        line: entry["line"].as_i64(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Value {
        json!({"cause": "io", "syscall": "recvfrom", "causes_ms": {"io": 99.5, "cpu": 0.5},
            "stack": [{"function": "recv", "file": "/lib/socket.py", "line": 9, "user": false},
                {"function": "fetch", "file": "/srv/a.py", "line": 7, "user": true}],
            "stack_complete": true, "native": null, "bystanders": 3, "lost_session_ms": 250,
            "descriptor": "socket inet", "gil_held": false, "gil_holder": null,
            "cpu_holder": {"pid": 7, "name": "yes"}, "stolen_ms": null,
            "captures": [{"at_ms": 50.2, "function": "fetch", "file": "/srv/a.py", "line": 7}]})
    }

    #[test]
    fn an_anatomy_is_read() {
        let found = parse(&object()).unwrap().unwrap();
        assert_eq!(found.users().and_then(|frame| frame.line), Some(7));
        assert_eq!((found.ms("io").to_bits(), found.ms("gil")), (99.5_f64.to_bits(), 0.0));
        assert_eq!((found.gil_held, found.captures[0].line), (Some(false), Some(7)));
        assert_eq!(found.cpu_holder.unwrap().name.as_deref(), Some("yes"));
    }

    #[test]
    fn a_probe_that_tells_some_of_it_has_to_tell_all() {
        assert!(parse(&json!({"duration_ms": 1})).unwrap().is_none());
        for name in object().as_object().unwrap().keys().filter(|name| *name != "cause") {
            let mut missing = object();
            missing.as_object_mut().unwrap().remove(name);
            assert!(parse(&missing).is_err(), "{name}");
        }
        let mut odd = object();
        odd["causes_ms"]["coffee"] = json!(1);
        assert!(parse(&odd).is_err());
    }
}
