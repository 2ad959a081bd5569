//! Debian's kernels for virtual machines, fetched by apt, which keeps what it knows of each suite in a folder of
//! ours: the system's own is not touched.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{step, workspace::Workspace};

/// A kernel, by what it is called here and the suite that it comes from.
pub struct Kernel {
    /// Its version, or `newest`.
    pub version: &'static str,
    suite: &'static str,
}

/// All that are tested: the oldest that the programs are built for, two in long support, and the newest.
pub const KERNELS: [Kernel; 4] = [
    Kernel { version: "5.10", suite: "bullseye" },
    Kernel { version: "6.1", suite: "bookworm" },
    Kernel { version: "6.12", suite: "trixie" },
    Kernel { version: "newest", suite: "sid" },
];

/// Whose package stands for the newest of a suite; it depends on the kernel itself.
const NEWEST: &str = "linux-image-cloud-amd64";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One that is here.
pub struct Found {
    /// Such as `6.1.0-48-cloud-amd64`.
    pub release: String,
    /// What boots.
    pub file: PathBuf,
}

impl Kernel {
    /// Fetches it, if it is not there.
    pub fn fetch(&self, workspace: &Workspace) -> Result<Found> {
        let dir = workspace.path("target/vm").join(self.suite);
        if let Some(found) = found(&dir) {
            return Ok(found);
        }
        step::timed(&format!("fetch the kernel of {}", self.suite), || self.fetch_into(&dir))?;
        found(&dir).with_context(|| format!("the packages of {} hold no kernel", self.suite))
    }

    fn fetch_into(&self, dir: &Path) -> Result<()> {
        for part in ["state/lists/partial", "cache/archives/partial", "boot"] {
            fs::create_dir_all(dir.join(part))
                .with_context(|| format!("make {part} in {}", dir.display()))?;
        }
        let source = format!("deb [signed-by={KEYS}] {} {} main\n", mirror()?, self.suite);
        fs::write(dir.join("sources.list"), source).context("write a list of sources")?;
        fs::write(dir.join("status"), "").context("write an empty list of packages")?;
        step::output(apt(dir, "apt-get").arg("update"))?;
        let mut package = NEWEST.to_owned();
        // The newest stands for a package, which since 7.x stands for another.
        for _ in 0..3 {
            let depends = step::output(apt(dir, "apt-cache").args(["depends", &package]))?;
            let depends = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
            let mut kernels = depends.filter(|name| is_kernel(name));
            let Some(next) = kernels.next() else { break };
            next.clone_into(&mut package);
            step::output(apt(dir, "apt-get").args(["download", &package]).current_dir(dir))?;
        }
        unpack(dir)
    }
}

fn is_kernel(name: &str) -> bool {
    name.starts_with("linux-image-") || name.starts_with("linux-binary-")
}

/// apt, with all that it reads and writes below this folder.
fn apt(dir: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    let shown = dir.display();
    for option in [
        format!("Dir::Etc::sourcelist={shown}/sources.list"),
        "Dir::Etc::sourceparts=/dev/null".to_owned(),
        format!("Dir::State={shown}/state"),
        format!("Dir::State::status={shown}/status"),
        format!("Dir::Cache={shown}/cache"),
        "APT::Architecture=amd64".to_owned(),
        // A suite that is not made anew each day; its signatures are checked all the same.
        "Acquire::Check-Valid-Until=false".to_owned(),
        "APT::Sandbox::User=root".to_owned(),
    ] {
        command.args(["-o", &option]);
    }
    command
}

/// Where this system's own packages come from.
fn mirror() -> Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let all = step::output(&mut command)?;
    let first = all.lines().next().context("apt has no source of packages here")?;
    Ok(first.trim().to_owned())
}

/// Takes the kernel out of the packages.
fn unpack(dir: &Path) -> Result<()> {
    for package in with_ending(dir, ".deb") {
        let contents = step::output(Command::new("dpkg-deb").arg("--contents").arg(&package))?;
        let names = contents.lines().filter_map(|line| line.split_whitespace().last());
        let Some(name) = names.into_iter().find(|name| name.contains("vmlinuz")) else { continue };
        let all = dir.join("all");
        step::output(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&all))?;
        let release = release_of(name).context("a kernel without a release")?;
        fs::copy(all.join(name.trim_start_matches("./")), dir.join("boot").join(release))
            .context("copy the kernel")?;
        fs::remove_dir_all(&all).context("remove what is not needed of the package")?;
        fs::remove_file(&package).context("remove the package")?;
    }
    Ok(())
}

/// `./boot/vmlinuz-6.1.0-48-cloud-amd64`, or `./usr/lib/modules/7.2.0-1-cloud-amd64/vmlinuz`.
fn release_of(name: &str) -> Option<&str> {
    let mut parts = name.rsplit('/');
    match parts.next()? {
        "vmlinuz" => parts.next(),
        file => file.strip_prefix("vmlinuz-"),
    }
}

fn found(dir: &Path) -> Option<Found> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir.join("boot")).ok()?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let file = files.pop()?;
    Some(Found { release: file.file_name()?.to_string_lossy().into_owned(), file })
}

fn with_ending(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_in_the_name_of_the_file_or_of_its_folder() {
        let old = "./boot/vmlinuz-6.1.0-48-cloud-amd64";
        assert_eq!(release_of(old), Some("6.1.0-48-cloud-amd64"));
        let new = "./usr/lib/modules/7.2.0-1-cloud-amd64/vmlinuz";
        assert_eq!(release_of(new), Some("7.2.0-1-cloud-amd64"));
        assert_eq!(release_of("./boot/System.map-6.1"), None);
    }

    #[test]
    fn each_kernel_has_one_name() {
        let mut names = KERNELS.map(|kernel| kernel.version);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(is_kernel("linux-binary-7.2.0-1-cloud-amd64") && !is_kernel("linux-base"));
    }
}
