//! What reads hostile bytes, each fed with any bytes and watched: what it must keep to is asserted.
//!
//! The functions stand beside what they feed. `cargo xtask fuzz` runs them in libFuzzer (`tests/fuzz`); the
//! tests here run them on the corpus that it left, and on what once went wrong.

pub use crate::{
    cpython::fuzz::{hamt, objects},
    native::fuzz::unwind,
    view::fuzz::output,
    worker::fuzz::{elf, maps, sites},
};

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    type Target = fn(&[u8]);

    /// By the names of their folders.
    const TARGETS: [(&str, Target); 7] = [
        ("elf", elf),
        ("hamt", hamt),
        ("maps", maps),
        ("objects", objects),
        ("output", output),
        ("sites", sites),
        ("unwind", unwind),
    ];

    fn folder() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz")
    }

    #[test]
    fn every_file_of_the_corpus_is_survived() {
        for (name, target) in TARGETS {
            let files = fs::read_dir(folder().join("corpus").join(name)).unwrap();
            let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
            assert!(files.len() > 4, "{name}: only {} files", files.len());
            for file in files {
                target(&fs::read(file).unwrap());
            }
            target(&[]);
        }
    }

    #[test]
    fn every_target_has_its_program() {
        let names = |below: &str, ending: &str| {
            let entries = fs::read_dir(folder().join(below)).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> =
                names.map(|name| name.trim_end_matches(ending).to_owned()).collect();
            names.sort();
            names
        };
        let targets = TARGETS.map(|(name, _)| name);
        assert_eq!(names("fuzz_targets", ".rs"), targets);
        assert_eq!(names("corpus", ""), targets);
    }
}
