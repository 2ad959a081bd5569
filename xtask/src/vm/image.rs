//! What is in the guest: a shell, the Python of this machine with what the fixtures import, the daemon, the fixtures.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{step, vm::need, workspace::Workspace};

/// What init and the fixtures call, all by one program.
const APPLETS: [&str; 6] = ["sh", "mount", "poweroff", "cat", "sleep", "ls"];
const BUSYBOX: &str = "/bin/busybox";
const PYTHON: &str = "/usr/bin/python3.11";
const STDLIB: &str = "/usr/lib/python3.11";
/// Of its folder of C modules, these only: the others want libraries of their own.
const MODULES: [&str; 7] =
    ["_asyncio", "_bisect", "_contextvars", "_ctypes", "_json", "_opcode", "_queue"];
/// Folders of the library that no fixture imports.
const LEFT_OUT: [&str; 8] = [
    "config-3.11-x86_64-linux-gnu",
    "ensurepip",
    "idlelib",
    "lib-dynload",
    "lib2to3",
    "pydoc_data",
    "test",
    "tkinter",
];

/// Whether what it is made of is here.
pub fn check() -> Result<()> {
    need(Path::new(BUSYBOX), "on Debian type: apt-get install busybox-static")?;
    need(Path::new(PYTHON), "on Debian 12 type: apt-get install python3.11")
}

/// Makes it; the file.
pub fn make(workspace: &Workspace, probe: &Path) -> Result<PathBuf> {
    let root = workspace.path("target/vm/root");
    if root.exists() {
        fs::remove_dir_all(&root).context("remove the guest's files of before")?;
    }
    for dir in ["bin", "dev", "proc", "sys", "tmp", "tests"] {
        fs::create_dir_all(root.join(dir)).with_context(|| format!("make {dir}"))?;
    }
    copy(Path::new(BUSYBOX), &root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).context("make a link")?;
    }
    copy(probe, &root.join("bin/openrtc-probe"))?;
    copy(Path::new(PYTHON), &root.join("bin/python3"))?;
    let mut needed = libraries(probe)?;
    needed.extend(libraries(Path::new(PYTHON))?);
    copy_dir(Path::new(STDLIB), &root.join(&STDLIB[1..]), &LEFT_OUT)?;
    for entry in fs::read_dir(Path::new(STDLIB).join("lib-dynload")).context("its C modules")? {
        let module = entry?.path();
        let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if MODULES.iter().any(|wanted| name.starts_with(&format!("{wanted}."))) {
            copy(&module, &inside(&root, &module))?;
            needed.extend(libraries(&module)?);
        }
    }
    for library in needed {
        copy(&library, &inside(&root, &library))?;
    }
    for dir in ["fixtures", "vm"] {
        copy_dir(&workspace.path("tests").join(dir), &root.join("tests").join(dir), &[])?;
    }
    copy(&workspace.path("tests/vm/init"), &root.join("init"))?;
    pack(&root, &workspace.path("target/vm/initrd"))
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    }
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}

/// A folder, without those below it that have these names.
fn copy_dir(from: &Path, to: &Path, without: &[&str]) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let (path, name) = {
            let entry = entry?;
            (entry.path(), entry.file_name())
        };
        if without.iter().any(|left_out| name == *left_out) {
            continue;
        }
        if path.is_dir() {
            copy_dir(&path, &to.join(&name), without)?;
        } else {
            copy(&path, &to.join(&name))?;
        }
    }
    Ok(())
}

/// The shared libraries that a program is linked with, and its loader.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let listed = step::output(Command::new("ldd").arg(program))?;
    let path = |line: &str| {
        let words = line.split_whitespace();
        words.map(PathBuf::from).find(|word| word.is_absolute())
    };
    Ok(listed.lines().filter_map(path).collect())
}

/// An archive as the kernel unpacks it, not compressed: that takes an emulated machine longer.
fn pack(root: &Path, file: &Path) -> Result<PathBuf> {
    let names = step::output(Command::new("find").arg(".").current_dir(root))?;
    let out = fs::File::create(file).with_context(|| format!("make {}", file.display()))?;
    let mut cpio = Command::new(BUSYBOX);
    cpio.args(["cpio", "-o", "-H", "newc"]).current_dir(root);
    let mut cpio = cpio
        .stdin(Stdio::piped())
        .stdout(out)
        .stderr(Stdio::null())
        .spawn()
        .context("start busybox cpio")?;
    let mut stdin = cpio.stdin.take().context("it has an input")?;
    stdin.write_all(names.as_bytes()).context("name the files to cpio")?;
    drop(stdin);
    if !cpio.wait().context("wait for cpio")?.success() {
        bail!("busybox cpio has failed");
    }
    Ok(file.to_owned())
}
