//! What the compiler does not check: which room may import what, and a few habits. An ordinary scan
//! of the sources, in the way rust-analyzer's tidy test does it; clippy and the compiler see to the
//! rest.

mod habits;
mod import_law;
mod law_table;
mod paths;
mod source;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// Where the sources are.
const FOLDERS: &[&str] =
    &["openrtc-common", "openrtc-ebpf", "openrtc-probe", "tests", "xtask", ".ci"];

/// One place that breaks a rule. Rules see the text of a file and its path from the workspace's
/// root, nothing else.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Violation {
    file: PathBuf,
    line: usize,
    what: String,
}

impl Violation {
    fn new(file: &Path, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.to_path_buf(), line, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

/// Prints each violation on a line; an error if there is one.
pub fn check(workspace: &Workspace) -> Result<()> {
    let violations = violations(workspace)?;
    for violation in &violations {
        eprintln!("{violation}");
    }
    match violations.len() {
        0 => Ok(()),
        1 => bail!("one place breaks the rules of the house (above)"),
        number => bail!("{number} places break the rules of the house (above)"),
    }
}

fn violations(workspace: &Workspace) -> Result<Vec<Violation>> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        for file in files(&workspace.path(folder))? {
            let text =
                fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
            let file = workspace.relative(&file);
            found.extend(habits::check(file, &text));
            found.extend(import_law::check(file, &text));
        }
    }
    let manifest = workspace.path(import_law::MANIFEST);
    let text =
        fs::read_to_string(&manifest).with_context(|| format!("read {}", manifest.display()))?;
    found.extend(import_law::check_manifest(&text));
    found.sort();
    Ok(found)
}

/// All files below `folder` that people write by hand.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if is_written_by_hand(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Recorded images and licence texts are not.
fn is_written_by_hand(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("rs" | "py" | "sh" | "toml")) || path.ends_with(".ci/run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_tree_keeps_the_rules() {
        check(&Workspace::find().unwrap()).unwrap();
    }

    #[test]
    fn a_violation_is_one_line_that_editors_can_jump_to() {
        let violation = Violation::new(Path::new("a/b.rs"), 7, "too long");
        assert_eq!(violation.to_string(), "a/b.rs:7: too long");
    }
}
