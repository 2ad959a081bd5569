//! Whose code a file is: told by its path.
//!
//! A path is a text that the worker chose, so this is a hint for people, and nothing is decided by it.

/// Whose code it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// The user's own: what is none of the others.
    User,
    /// Installed: in `site-packages` or Debian's `dist-packages`.
    Library,
    /// Of the standard library.
    Standard,
    /// Of the interpreter itself: `<frozen importlib._bootstrap>`.
    Frozen,
    /// Made at run time, such as `<string>`: there is no file, so it cannot be told.
    Unknown,
}

/// Folders of installed packages.
const INSTALLED: &[&str] = &["site-packages", "dist-packages"];
/// Folders in which the standard library's own folder is.
const LIBRARIES: &[&str] = &["lib", "lib64"];
/// What the name of the standard library's folder or archive begins with.
const PYTHON: &str = "python3";
/// What follows in the name of an archive.
const ARCHIVE: &str = ".zip";

impl Origin {
    /// Of the file at `path`.
    pub fn of(path: &str) -> Self {
        if path.starts_with("<frozen ") {
            return Self::Frozen;
        }
        if path.is_empty() || path.starts_with('<') && path.ends_with('>') {
            return Self::Unknown;
        }
        let folders: Vec<&str> = path.split('/').collect();
        if folders.iter().any(|folder| INSTALLED.contains(folder)) {
            return Self::Library;
        }
        let is_standard = folders.windows(3).any(|three| match three {
            [above, folder, _] => {
                LIBRARIES.contains(above) && (is_versioned(folder) || is_archive(folder))
            }
            _ => false,
        });
        if is_standard { Self::Standard } else { Self::User }
    }
}

/// `python3.11`, also with what a build appends: `python3.13t`.
fn is_versioned(folder: &str) -> bool {
    folder.strip_prefix(PYTHON).is_some_and(|rest| {
        rest.strip_prefix('.').is_some_and(|minor| minor.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// `python311.zip`.
fn is_archive(folder: &str) -> bool {
    let minor = folder.strip_prefix(PYTHON).and_then(|rest| rest.strip_suffix(ARCHIVE));
    minor.is_some_and(|minor| !minor.is_empty() && minor.bytes().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_s_origin_is_in_its_path() {
        for (path, origin) in [
            ("/app/agents/booking.py", Origin::User),
            ("agents/booking.py", Origin::User),
            ("booking.py", Origin::User),
            ("/srv/lib/booking.py", Origin::User),
            ("/srv/lib/python3", Origin::User),
            ("/srv/python3.11/booking.py", Origin::User),
            ("/usr/lib/python3/dist-packages/apt/cache.py", Origin::Library),
            ("/usr/lib/python3.11/dist-packages/x.py", Origin::Library),
            ("/app/.venv/lib/python3.12/site-packages/livekit/agents/job.py", Origin::Library),
            ("/app/.venv/lib64/python3.9/site-packages/x.py", Origin::Library),
            ("/usr/lib/python3.11/asyncio/events.py", Origin::Standard),
            ("/usr/local/lib/python3.13/threading.py", Origin::Standard),
            ("/home/me/.pyenv/versions/3.9.18/lib/python3.9/ssl.py", Origin::Standard),
            ("/opt/conda/envs/x/lib/python3.10/json/decoder.py", Origin::Standard),
            ("/usr/lib64/python3.9/json/decoder.py", Origin::Standard),
            ("/opt/free/lib/python3.13t/json/decoder.py", Origin::Standard),
            ("/usr/lib/python311.zip/json/decoder.py", Origin::Standard),
            ("<frozen importlib._bootstrap>", Origin::Frozen),
            ("<string>", Origin::Unknown),
            ("<attrs generated init x.Y>", Origin::Unknown),
            ("", Origin::Unknown),
        ] {
            assert_eq!(Origin::of(path), origin, "{path}");
        }
    }
}
