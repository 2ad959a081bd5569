//! One link for all sites of a program: from Linux 6.6 on. A poll costs less than through perf events, which
//! an older kernel needs, and a link is closed in one grace period, however many sites it has.
//!
//! aya 0.14 has no such links, and a program must be loaded for them: so the object is read a second time here,
//! with the library that aya itself reads it with, and refers to the maps that aya has made.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CString,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    panic::resume_unwind,
    path::Path,
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use aya::{Ebpf, maps::Map};
use aya_obj::{Object, Program, generated::bpf_insn};
use nix::libc::{EBADF, EINVAL};

use super::{attach::ProgramCost, calibrate::EMPTY, sys};

/// The programs of an object, for links of several sites.
pub(super) struct Multi {
    license: CString,
    code: BTreeMap<String, Vec<bpf_insn>>,
    programs: BTreeMap<String, OwnedFd>,
}

impl Multi {
    /// Reads the object, which refers to the maps of `ebpf`: all of them must still be there. `None` where the
    /// kernel has no such links.
    pub(super) fn read(object: &[u8], ebpf: &Ebpf) -> Result<Option<Multi>> {
        let mut object = Object::parse(object).context("cannot read our own kernel object")?;
        let maps = object.maps.clone();
        let placed = maps.iter().filter_map(|(name, map)| {
            let fd = ebpf.map(name).and_then(fd)?;
            Some((name.as_str(), fd, map))
        });
        let sections = object.functions.keys().map(|(section, _)| *section).collect();
        object.relocate_maps(placed, &sections).context("cannot place the maps in our programs")?;
        object.relocate_calls(&sections).context("cannot place the calls in our programs")?;
        let code_of = |program: &Program| object.functions.get(&program.function_key());
        let code = object.programs.iter().filter_map(|(name, program)| {
            Some((name.clone(), code_of(program)?.instructions.clone()))
        });
        let mut multi =
            Multi { code: code.collect(), license: object.license, programs: BTreeMap::new() };
        Ok(multi.is_supported().then_some(multi))
    }

    /// Whether this kernel has such links, and for a process with all its threads: before 6.10 they heard the
    /// first thread only. It is asked for what it must refuse, and how it refuses tells:
    /// <https://github.com/libbpf/libbpf/blob/v1.5.0/src/features.c#L395>.
    fn is_supported(&mut self) -> bool {
        if self.load_all(&[EMPTY]).is_err() {
            return false;
        }
        let refusal = |pid| {
            let refused = sys::link(self.programs.get(EMPTY)?.as_fd(), c"/", &[1], pid).err();
            refused.and_then(|why| why.raw_os_error())
        };
        refusal(0) == Some(EBADF) && refusal(u32::MAX) == Some(EINVAL)
    }

    /// Loads those of these programs that are not yet, each in a thread.
    pub(super) fn load_all(&mut self, names: &[&str]) -> Result<()> {
        let new: BTreeSet<&str> =
            names.iter().copied().filter(|name| !self.programs.contains_key(*name)).collect();
        let this = &*self;
        let loaded = thread::scope(|scope| {
            let loads: Vec<_> =
                new.iter().map(|name| scope.spawn(move || this.load(name))).collect();
            let join = |load: ScopedJoinHandle<'_, _>| {
                load.join().unwrap_or_else(|why| resume_unwind(why))
            };
            loads.into_iter().map(join).collect::<Result<Vec<_>>>()
        })?;
        self.programs.extend(new.into_iter().map(str::to_owned).zip(loaded));
        Ok(())
    }

    fn load(&self, name: &str) -> Result<OwnedFd> {
        sys::load(name, &self.license, self.code(name)?).map_err(|(why, said)| {
            anyhow!(why).context(said).context(format!("the kernel refused program {name}"))
        })
    }

    fn code(&self, name: &str) -> Result<&[bpf_insn]> {
        let code = self.code.get(name).map(Vec::as_slice);
        code.ok_or_else(|| anyhow!("the kernel object has no program {name}"))
    }

    /// Puts a program at these offsets of a file, for this process.
    pub(super) fn link(
        &mut self,
        name: &str,
        path: &Path,
        offsets: &[u64],
        pid: u32,
    ) -> Result<OwnedFd> {
        self.load_all(&[name])?;
        let program = self.programs.get(name).context("it was loaded just now")?;
        let file = CString::new(path.as_os_str().as_bytes())?;
        sys::link(program.as_fd(), &file, offsets, pid)
            .with_context(|| format!("cannot attach {name} at {} {offsets:#x?}", path.display()))
    }

    /// What each program has cost so far.
    pub(super) fn costs(&self) -> impl Iterator<Item = ProgramCost> {
        self.programs.iter().filter_map(|(name, program)| {
            let info = sys::info(program).ok()?;
            Some(ProgramCost {
                name: name.clone(),
                is_schedulers: false,
                run_time: Duration::from_nanos(info.run_time_ns),
                runs: info.run_cnt,
            })
        })
    }
}

fn fd(map: &Map) -> Option<RawFd> {
    let (Map::Array(data) | Map::HashMap(data) | Map::Queue(data) | Map::RingBuf(data)) = map
    else {
        return None;
    };
    Some(data.fd().as_fd().as_raw_fd())
}
