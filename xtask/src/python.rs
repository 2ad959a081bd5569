//! `CPython` interpreters of this machine, and an environment with the real `openrtc` for each.

mod find;
mod symbols;
mod venv;

use std::path::PathBuf;

use serde::Deserialize;

pub use self::{find::find, venv::prepare};

/// One interpreter, as it answered for itself.
#[derive(Clone, Debug)]
pub struct Interpreter {
    /// Unique: `debian-3.11`, `pyenv-3.12.1`.
    pub name: String,
    pub version: Version,
    /// With all links resolved.
    pub executable: PathBuf,
    /// It is the distribution's.
    pub system: bool,
    /// The file with the interpreter's code has no symbol table.
    pub stripped: bool,
    /// It can make an environment with `pip` in it.
    pub has_ensurepip: bool,
}

/// Major, minor, micro.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// What `openrtc` runs on.
    pub fn is_supported(self) -> bool {
        self.0 == 3 && (11..=13).contains(&self.1)
    }

    /// As in `python3.11`.
    pub fn short(self) -> String {
        format!("{}.{}", self.0, self.1)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}
