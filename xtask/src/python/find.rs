//! Finds interpreters: on `PATH`, in `/usr/bin`, and in pyenv's folder; and asks any what it is.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

use super::{Interpreter, Version, symbols};

/// An interpreter tells what it is. Its code is in a libpython, if it has mapped one.
const QUESTION: &str = r#"
import json, os, sys, sysconfig
try:
    import ensurepip
except ImportError:
    ensurepip = None
mappings = [line.split(maxsplit=5) for line in open("/proc/self/maps")]
libraries = [m[5].strip() for m in mappings if len(m) > 5 and "/libpython3." in m[5]]
executable = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
print(json.dumps({
    "implementation": sys.implementation.name,
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "version": sys.version_info[:3],
    "executable": executable,
    "image": libraries[0] if libraries else executable,
    "has_ensurepip": ensurepip is not None,
}))
"#;

/// The answer.
#[derive(Deserialize)]
pub struct Answer {
    implementation: String,
    free_threaded: bool,
    version: Version,
    executable: PathBuf,
    /// The file with its code.
    pub image: PathBuf,
    has_ensurepip: bool,
}

impl Answer {
    /// `image` is where we find the file with its code.
    pub fn interpreter(self, name: String, system: bool, image: &Path) -> Interpreter {
        let Self { version, executable, has_ensurepip, .. } = self;
        let stripped = symbols::are_stripped(image);
        Interpreter { name, version, executable, system, stripped, has_ensurepip }
    }
}

/// Each wanted interpreter once, however many names it has; the one that `python3` means comes
/// first.
pub fn find() -> Vec<Interpreter> {
    let pyenv = pyenv_versions();
    let distribution = distribution(&fs::read_to_string("/etc/os-release").unwrap_or_default());
    let mut seen = BTreeSet::new();
    let mut names = BTreeSet::new();
    let mut found = Vec::new();
    for candidate in candidates(pyenv.as_deref()) {
        let Some(answer) = ask(&candidate) else { continue };
        if !is_wanted(&answer) || !seen.insert(answer.executable.clone()) {
            continue;
        }
        let system = answer.executable.starts_with("/usr/bin");
        let label =
            match pyenv.as_deref().and_then(|versions| pyenv_name(versions, &answer.executable)) {
                Some(name) => format!("pyenv-{name}"),
                None if system => format!("{distribution}-{}", answer.version.short()),
                None => format!("local-{}", answer.version),
            };
        let image = answer.image.clone();
        found.push(answer.interpreter(unique(&label, &mut names), system, &image));
    }
    found
}

fn is_wanted(answer: &Answer) -> bool {
    answer.implementation == "cpython" && !answer.free_threaded && answer.version.is_wanted()
}

/// Files to ask, in order; many are the same interpreter.
fn candidates(pyenv: Option<&Path>) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = env::split_paths(&path).collect();
    dirs.push("/usr/bin".into());
    let numbered = (9..=15).map(|minor| format!("python3.{minor}"));
    let names: Vec<_> = std::iter::once("python3".to_owned()).chain(numbered).collect();
    let mut files: Vec<PathBuf> =
        names.iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name))).collect();
    if let Some(entries) = pyenv.and_then(|versions| fs::read_dir(versions).ok()) {
        let mut versions: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        versions.sort();
        files.extend(versions.iter().map(|version| version.join("bin/python3")));
    }
    files.retain(|file| file.is_file());
    files
}

/// A file that does not answer is none: pyenv's shims are there for versions that are not chosen.
fn ask(file: &Path) -> Option<Answer> {
    ask_with(&mut Command::new(file))
}

/// Asks the interpreter that this command starts.
pub fn ask_with(python: &mut Command) -> Option<Answer> {
    python.args(["-I", "-c", QUESTION]).stdin(Stdio::null()).stderr(Stdio::null());
    serde_json::from_slice(&python.output().ok()?.stdout).ok()
}

fn pyenv_versions() -> Option<PathBuf> {
    let root = env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".pyenv")))?;
    root.join("versions").canonicalize().ok()
}

/// The folder below `versions` that the executable lies in.
fn pyenv_name(versions: &Path, executable: &Path) -> Option<String> {
    let below = executable.strip_prefix(versions).ok()?;
    Some(below.iter().next()?.to_string_lossy().into_owned())
}

/// The `ID` of os-release, and the name of the release where it has one: `debian-bookworm`.
fn distribution(os_release: &str) -> String {
    let value = |name: &str| {
        let value = os_release.lines().find_map(|line| line.strip_prefix(name));
        value.map(|value| value.trim_matches('"')).filter(|value| !value.is_empty())
    };
    let id = value("ID=").unwrap_or("system");
    value("VERSION_CODENAME=").map_or_else(|| id.to_owned(), |name| format!("{id}-{name}"))
}

fn unique(label: &str, names: &mut BTreeSet<String>) -> String {
    let mut name = label.to_owned();
    let mut number = 1;
    while !names.insert(name.clone()) {
        number += 1;
        name = format!("{label}-{number}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_is_read() {
        let debian = "NAME=\"Debian\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(distribution(debian), "debian-bookworm");
        assert_eq!(distribution("ID=\"rocky\"\n"), "rocky");
        assert_eq!(distribution(""), "system");
    }

    #[test]
    fn a_name_is_given_once() {
        let mut names = BTreeSet::new();
        let given: Vec<_> = (0..3).map(|_| unique("local-3.11.7", &mut names)).collect();
        assert_eq!(given, ["local-3.11.7", "local-3.11.7-2", "local-3.11.7-3"]);
    }

    #[test]
    fn pyenv_names_its_own_only() {
        let versions = Path::new("/home/u/.pyenv/versions");
        let own = Path::new("/home/u/.pyenv/versions/3.12.1/bin/python3.12");
        assert_eq!(pyenv_name(versions, own).as_deref(), Some("3.12.1"));
        assert_eq!(pyenv_name(versions, Path::new("/usr/bin/python3.11")), None);
    }

    #[test]
    fn other_pythons_are_passed_over() {
        let answer = |implementation: &str, free_threaded, minor| Answer {
            implementation: implementation.into(),
            free_threaded,
            version: Version(3, minor, 0),
            executable: PathBuf::new(),
            image: PathBuf::new(),
            has_ensurepip: true,
        };
        assert!(is_wanted(&answer("cpython", false, 11)));
        assert!(!is_wanted(&answer("cpython", false, 8)));
        assert!(!is_wanted(&answer("cpython", false, 16)));
        assert!(!is_wanted(&answer("cpython", true, 13)));
        assert!(!is_wanted(&answer("pypy", false, 11)));
    }
}
