//! An error that the user can do something about: what went wrong, and what to type.
//!
//! It travels inside an [`anyhow::Error`], as its root or as a context, and `main` finds it there.

use std::{error::Error, fmt};

/// See the module's documentation.
#[derive(Debug)]
pub struct Hinted {
    what: String,
    hint: String,
}

impl Hinted {
    /// What went wrong, and what the user can type.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }

    /// What the user can type.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Hinted {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_found_below_further_context() {
        let cause = anyhow::anyhow!("exit status: 1");
        let error = cause.context(Hinted::new("make a venv", "apt-get install x")).context("demo");
        assert_eq!(format!("{error:#}"), "demo: make a venv: exit status: 1");
        assert_eq!(error.downcast_ref::<Hinted>().map(Hinted::hint), Some("apt-get install x"));
    }
}
