//! What the fixture worker says of a stall that it made (`stalled`).

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::field;

/// One stall, by the worker's own clocks.
#[derive(Debug, Clone, Default)]
pub struct Stalled {
    /// What kind it was, or at which place.
    pub kind: String,
    /// Whose.
    pub session: String,
    /// How long.
    pub wall_ms: f64,
    /// Thread CPU time.
    pub cpu_ms: f64,
    /// How long the thread was runnable without a CPU, by the kernel's account, where it keeps one.
    pub run_delay_ms: Option<f64>,
    /// What it did, in turn; at least one.
    pub parts: Vec<Part>,
    /// Who held the GIL, by the thread's id in its own pid namespace.
    pub holder_tid: Option<i64>,
    /// The session that the holder ran.
    pub holder_session: Option<String>,
    /// Sessions whose timer came late because of it.
    pub bystanders: Option<i64>,
    /// How late, together.
    pub lost_ms: Option<f64>,
}

/// A stretch of a stall.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// The mark of its lines.
    pub mark: String,
    /// Its class; none where the test knows.
    pub cause: Option<String>,
    /// Since the stall began.
    pub from_ms: f64,
    /// Since the stall began.
    pub to_ms: f64,
}

impl Stalled {
    /// Reads the object of a `stalled` line.
    pub fn parse(object: &Value) -> Result<Self> {
        let parts = object["parts"].as_array().context("\"parts\" is not a list")?;
        let part = |entry: &Value| -> Result<Part> {
            Ok(Part {
                mark: field::text(entry, "mark")?,
                cause: field::maybe_text(entry, "cause"),
                from_ms: field::float(entry, "from_ms")?,
                to_ms: field::float(entry, "to_ms")?,
            })
        };
        Ok(Self {
            kind: field::text(object, "kind")?,
            session: field::text(object, "session_id")?,
            wall_ms: field::float(object, "wall_ms")?,
            cpu_ms: field::float(object, "cpu_ms")?,
            run_delay_ms: object["run_delay_ms"].as_f64(),
            parts: parts.iter().map(part).collect::<Result<_>>()?,
            holder_tid: object["holder_tid"].as_i64(),
            holder_session: field::maybe_text(object, "holder_session"),
            bystanders: object["bystanders"].as_i64(),
            lost_ms: object["lost_ms"].as_f64(),
        })
    }

    /// How long the thread waited for a CPU, as far as the kernel tells.
    pub fn delay_ms(&self) -> f64 {
        self.run_delay_ms.unwrap_or(0.0)
    }

    /// How long it neither ran nor could have.
    pub fn off_ms(&self) -> f64 {
        (self.wall_ms - self.cpu_ms - self.delay_ms()).max(0.0)
    }
}
