//! `CPython` interpreters, on this machine and in Debian roots that are made for them, each with what
//! the fixture workers import beside the standard library.

mod extras;
mod find;
mod roots;
mod symbols;
mod venv;

use std::path::PathBuf;

use serde::Deserialize;

pub use self::{
    extras::Extras,
    find::find,
    roots::{Absent, Root, prepare_all as prepare_roots},
    venv::prepare,
};

/// One interpreter, as it answered for itself.
#[derive(Clone, Debug)]
pub struct Interpreter {
    /// Unique: `debian-bookworm-3.11`, `pyenv-3.12.1`.
    pub name: String,
    pub version: Version,
    /// With all links resolved; inside its root, if it has one.
    pub executable: PathBuf,
    /// It is the distribution's.
    pub system: bool,
    /// The file with the interpreter's code has no symbol table.
    pub stripped: bool,
    /// It can make an environment with `pip` in it.
    pub has_ensurepip: bool,
}

/// An interpreter that workers can be run with.
#[derive(Clone, Debug)]
pub struct Ready {
    pub interpreter: Interpreter,
    /// What to start: the environment's Python; inside the root, if there is one.
    pub python: PathBuf,
    /// The root that it lives in.
    pub root: Option<Root>,
    pub extras: Extras,
}

/// Major, minor, micro.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// What people deploy, and the fixture workers run on.
    pub fn is_wanted(self) -> bool {
        self.0 == 3 && (9..=15).contains(&self.1)
    }

    /// What `openrtc` runs on.
    pub fn has_openrtc(self) -> bool {
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
