//! The lines at which a fixture stalls, found by the comments that mark them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};

/// What begins a mark's comment; names follow, with spaces between them.
const COMMENT: &str = "# stall: ";

/// The lines of one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark {
    /// The name of their file, without its folder.
    pub file: String,
    /// Their numbers, from 1.
    pub lines: BTreeSet<i64>,
    /// The function that they are in; none where they hold one of their own.
    pub function: Option<String>,
}

impl Mark {
    /// Whether this is one of the lines; a file may have any folder.
    pub fn has(&self, file: Option<&str>, line: Option<i64>) -> bool {
        let is_file = file.is_some_and(|file| Path::new(file).ends_with(&self.file));
        is_file && line.is_some_and(|line| self.lines.contains(&line))
    }

    /// Whether this names the function: by its name or by its qualified one.
    pub fn is_in(&self, function: Option<&str>) -> bool {
        let Some(own) = &self.function else { return true };
        function.and_then(|name| name.rsplit('.').next()) == Some(own)
    }
}

/// All marks of some files, by name.
#[derive(Debug, Clone, Default)]
pub struct Marks(BTreeMap<String, Mark>);

impl Marks {
    /// Reads the fixtures that have any.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut marks = Self::default();
        for file in ["blocking.py", "places.py"] {
            let path = folder.join(file);
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("reading {}", path.display()))?;
            marks.add(file, &text);
        }
        Ok(marks)
    }

    /// Adds those of a text.
    pub fn add(&mut self, file: &str, text: &str) {
        let mut functions: Vec<(usize, String)> = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            let code = line.trim_start();
            let indent = line.len() - code.len();
            if !code.is_empty() {
                functions.retain(|(outer, _)| *outer < indent);
            }
            if let Some(name) = defined(code) {
                functions.push((indent, name.to_owned()));
            }
            let Some((code, names)) = code.split_once(COMMENT) else { continue };
            let has_own = code.contains("lambda") || code.contains(" for ");
            let function = functions.last().map(|(_, name)| name.clone()).filter(|_| !has_own);
            for name in names.split_whitespace() {
                let new = || Mark {
                    file: file.to_owned(),
                    lines: BTreeSet::new(),
                    function: function.clone(),
                };
                let mark = self.0.entry(name.to_owned()).or_insert_with(new);
                mark.lines.insert(number);
                if mark.function != function {
                    mark.function = None;
                }
            }
        }
    }

    /// The lines of a name, which must be there.
    pub fn demand(&self, name: &str) -> Result<&Mark> {
        self.0.get(name).with_context(|| format!("no line is marked {name}"))
    }

    /// All of them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The function whose definition begins here.
fn defined(code: &str) -> Option<&str> {
    let rest = code.strip_prefix("async ").unwrap_or(code).strip_prefix("def ")?;
    rest.split_once('(').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::anatomy::kinds_table::KINDS;

    #[test]
    fn lines_are_found_with_their_functions() {
        let mut marks = Marks::default();
        let text = "\
def a(job):
    def inner():
        time.sleep(1)  # stall: one

    async def other():
        pass
    while x:  # stall: two three
        pass  # stall: two
    return [y for y in z]  # stall: four
";
        marks.add("a.py", text);
        let one = marks.demand("one").unwrap();
        assert!(one.has(Some("/srv/a.py"), Some(3)) && one.is_in(Some("a.<locals>.inner")));
        assert!(!one.has(Some("/srv/ba.py"), Some(3)) && !one.has(Some("a.py"), Some(4)));
        assert!(!one.has(None, None) && !one.is_in(Some("a")) && !one.is_in(None));
        let two = marks.demand("two").unwrap();
        assert_eq!(two.lines, BTreeSet::from([7, 8]));
        assert_eq!(two.function.as_deref(), Some("a"));
        assert_eq!(marks.demand("three").unwrap().lines, BTreeSet::from([7]));
        assert!(marks.demand("four").unwrap().is_in(Some("a.<locals>.<listcomp>")));
        assert!(marks.demand("five").is_err());
    }

    #[test]
    fn every_kind_of_the_fixtures_has_lines() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let marks = Marks::read(&folder).unwrap();
        for expected in KINDS {
            let is_whole = marks.demand(expected.kind).is_ok();
            let has_parts = marks.demand(&format!("{}.sleep", expected.kind)).is_ok();
            assert!(is_whole || has_parts, "{}", expected.kind);
        }
        let places = std::fs::read_to_string(folder.join("places.py")).unwrap();
        let functions: Vec<_> = places
            .split("\n@place(")
            .skip(1)
            .filter_map(|text| text.lines().find_map(defined))
            .collect();
        assert!(functions.len() >= 40, "{}", functions.len());
        for name in functions {
            let is_marked = |mark: &str| mark == name || mark.starts_with(&format!("{name}."));
            assert!(marks.names().any(is_marked), "{name}");
        }
    }
}
