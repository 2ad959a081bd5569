//! Fields of a JSON object, with errors that name them.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A whole number.
pub fn int(object: &Value, name: &str) -> Result<i64> {
    object[name].as_i64().with_context(|| format!("\"{name}\" is not a whole number"))
}

/// Any number.
pub fn float(object: &Value, name: &str) -> Result<f64> {
    object[name].as_f64().with_context(|| format!("\"{name}\" is not a number"))
}

/// A string.
pub fn text(object: &Value, name: &str) -> Result<String> {
    maybe_text(object, name).with_context(|| format!("\"{name}\" is not a string"))
}

/// A string, where null or nothing is fine too.
pub fn maybe_text(object: &Value, name: &str) -> Option<String> {
    object[name].as_str().map(str::to_owned)
}

/// A boolean, false when it is not there.
pub fn flag(object: &Value, name: &str) -> bool {
    object[name].as_bool().unwrap_or(false)
}
