//! A control group of our own: to freeze processes, and to leave them little memory. Version 2 where that has the
//! controller, version 1 where not.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// Where version 2 is mounted, alone or beside version 1.
const UNIFIED: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Where version 1 has one controller each.
const SINGLE: &str = "/sys/fs/cgroup";
const PATIENCE: Duration = Duration::from_secs(5);

/// A group; when it is dropped its processes go on where they came from.
pub struct Group {
    dir: PathBuf,
    freezer: Option<Switch>,
    memory_file: &'static str,
}

/// What freezes and thaws.
struct Switch {
    file: &'static str,
    frozen: &'static str,
    thawed: &'static str,
    /// What says that it has happened, in this file.
    says: (&'static str, &'static str),
}

impl Group {
    /// One whose processes can be frozen; none where this system has no such control.
    pub fn freezer() -> Option<Self> {
        let version_2 = || {
            // The root of all has no such file: only a group has it.
            let dir =
                UNIFIED.iter().find(|dir| Path::new(dir).join("cgroup.controllers").exists())?;
            let says = ("cgroup.events", "frozen 1");
            let switch = Switch { file: "cgroup.freeze", frozen: "1", thawed: "0", says };
            Self::make(Path::new(dir), Some(switch), "memory.max", "cgroup.freeze")
        };
        let version_1 = || {
            let says = ("freezer.state", "FROZEN");
            let switch = Switch { file: "freezer.state", frozen: "FROZEN", thawed: "THAWED", says };
            Self::make(&Path::new(SINGLE).join("freezer"), Some(switch), "", "freezer.state")
        };
        version_2().or_else(version_1)
    }

    /// One whose processes can be limited in memory; none where this system has no such control.
    pub fn memory() -> Option<Self> {
        let limit = "memory.limit_in_bytes";
        let version_1 = Self::make(&Path::new(SINGLE).join("memory"), None, limit, limit);
        version_1.or_else(|| Self::make(Path::new(SINGLE), None, "memory.max", "memory.max"))
    }

    /// A group below `parent`, if it then has the file `needed`.
    fn make(
        parent: &Path,
        freezer: Option<Switch>,
        memory_file: &'static str,
        needed: &str,
    ) -> Option<Self> {
        let dir = parent.join(format!("openrtc-tests-{}", std::process::id()));
        fs::create_dir(&dir).ok()?;
        let group = Self { dir, freezer, memory_file };
        group.dir.join(needed).exists().then_some(group)
    }

    fn write(&self, file: &str, what: &str) -> Result<()> {
        let path = self.dir.join(file);
        fs::write(&path, what).with_context(|| format!("writing {what} to {}", path.display()))
    }

    /// Takes a process in, with all its threads.
    pub fn add(&self, pid: i32) -> Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// Freezes all processes in it, for so long.
    pub fn freeze_for(&self, span: Duration) -> Result<()> {
        let Switch { file, frozen, thawed, says: (state, word) } =
            self.freezer.as_ref().context("it is no freezer")?;
        self.write(file, frozen)?;
        let is_frozen =
            || Ok::<_, anyhow::Error>(fs::read_to_string(self.dir.join(state))?.contains(word));
        let began = Instant::now();
        while !is_frozen()? {
            ensure!(began.elapsed() < PATIENCE, "the processes do not freeze");
            sleep(Duration::from_millis(1));
        }
        sleep(span);
        self.write(file, thawed)
    }

    /// Lets them have so many bytes more.
    pub fn limit_memory(&self, bytes: u64) -> Result<()> {
        self.write(self.memory_file, &bytes.to_string())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What fails here was done already, or cannot be done by anybody.
        if let Some(Switch { file, thawed, .. }) = &self.freezer {
            let _ = self.write(file, thawed);
        }
        let inside = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        for pid in inside.lines() {
            if let Some(parent) = self.dir.parent() {
                let _ = fs::write(parent.join("cgroup.procs"), pid);
            }
        }
        let _ = fs::remove_dir(&self.dir);
    }
}
