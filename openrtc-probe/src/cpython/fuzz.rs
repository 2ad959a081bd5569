//! Any bytes where an interpreter's objects should be.

#![expect(clippy::missing_panics_doc, reason = "to panic is how a fault is told")]

use std::{
    cell::{Cell, RefCell},
    fs::{self, File},
    path::PathBuf,
    sync::OnceLock,
};

use bytemuck::AnyBitPattern;
use flate2::read::GzDecoder;
use openrtc_common::{
    config::PyLayout,
    hamt::{self, NodeNear, NodeTypes},
    memory::Memory,
    tag::{self, StrNear, TAG_BYTES, TagText},
};

use super::{
    CodeCache, Python, layout,
    memory::{ReadError, ReadMemory, RemoteAddr},
    recording::Recording,
};

/// Reads of one lookup: two of a node's head and one of a pair for each level, then collisions.
const MAX_LOOKUP_READS: u32 = 3 * hamt::MAX_LEVELS + hamt::MAX_COLLISIONS as u32;
/// Reads of one tag: its head in two tries, then its text.
const MAX_TAG_READS: u32 = 3;

/// Bytes that stand at address 0; how often they were read.
struct Flat<'d> {
    bytes: &'d [u8],
    reads: Cell<u32>,
}

impl Flat<'_> {
    fn at(&self, addr: u64, len: usize) -> Option<&[u8]> {
        self.reads.set(self.reads.get() + 1);
        let from = usize::try_from(addr).ok()?;
        self.bytes.get(from..from.checked_add(len)?)
    }
}

impl Memory for Flat<'_> {
    fn read<T: AnyBitPattern>(&self, addr: u64) -> Option<T> {
        self.at(addr, size_of::<T>()).map(bytemuck::pod_read_unaligned)
    }

    fn read_into<T: AnyBitPattern>(&self, addr: u64, out: &mut T) -> bool {
        self.read(addr).map(|value| *out = value).is_some()
    }

    fn read_text(&self, addr: u64, len: usize, out: &mut [u8; TAG_BYTES]) -> Option<()> {
        out.get_mut(..len)?.copy_from_slice(self.at(addr, len)?);
        Some(())
    }
}

/// A lookup in a context's map, and a reading of what it finds: the memory begins with the map's root, the
/// variable and its hash.
pub fn hamt(data: &[u8]) {
    let memory = Flat { bytes: data, reads: Cell::new(0) };
    let Some([root, var, hash]) = memory.read::<[u64; 3]>(0) else { return };
    let layout = PyLayout {
        nodes: NodeTypes { bitmap: 1, array: 2, collision: 3 },
        str_type: 4,
        int_type: 5,
        str_ascii_data: 40,
        str_wide_data: 56,
        ..PyLayout::default()
    };
    memory.reads.set(0);
    let near = &mut NodeNear::default();
    let found = hamt::find(&memory, near, &layout.nodes, root, var, hamt::fold_hash(hash));
    assert!(memory.reads.get() <= MAX_LOOKUP_READS, "{} reads", memory.reads.get());
    let Ok(Some(value)) = found else { return };
    memory.reads.set(0);
    let mut text = TagText::EMPTY;
    let is_tag = tag::read_name(&memory, &mut StrNear::default(), &layout, value, &mut text);
    assert!(memory.reads.get() <= MAX_TAG_READS, "{} reads", memory.reads.get());
    assert!(text.chars().count() <= TAG_BYTES && text.stored() <= TAG_BYTES);
    let beyond = text.bytes.get(text.stored()..).unwrap_or_default();
    assert!(beyond.iter().all(|byte| *byte == 0), "{text:?}");
    assert!(is_tag != Ok(true) || text != TagText::EMPTY);
    assert_eq!(text.key(), { text }.key());
}

/// A recording in which every so many reads bring something else, as memory does that changes under a walk.
struct Damaged<'r, 'd> {
    recording: &'r Recording,
    damage: RefCell<Damage<'d>>,
}

/// How many reads are left as they are, then what is done to a word: five bytes each time.
struct Damage<'d> {
    rest: &'d [u8],
    quiet: u32,
}

impl Damage<'_> {
    /// What is done to the next word that is read.
    fn next(&mut self) -> Option<(u8, u16)> {
        if self.quiet > 0 {
            self.quiet -= 1;
            return None;
        }
        let ([skip_low, skip_high, kind, low, high], rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        self.quiet = u32::from(u16::from_le_bytes([*skip_low, *skip_high]));
        Some((*kind, u16::from_le_bytes([*low, *high])))
    }
}

fn damaged(word: u64, kind: u8, by: u16) -> u64 {
    let by = u64::from(by);
    match kind % 8 {
        0 => 0,
        1 => u64::MAX - by,
        2 => word ^ 1 << (by % 64),
        3 => word.wrapping_add(by << 3),
        4 => word.wrapping_sub(by << 3),
        5 => by,
        6 => by << 32 | by,
        _ => word ^ by << (by % 48),
    }
}

impl ReadMemory for Damaged<'_, '_> {
    fn read_exact(&self, addr: RemoteAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.recording.read_exact(addr, buf)?;
        let mut damage = self.damage.borrow_mut();
        for chunk in buf.chunks_mut(8) {
            if let Some((kind, by)) = damage.next() {
                let (len, mut word) = (chunk.len(), [0; 8]);
                word[..len].copy_from_slice(chunk);
                let word = damaged(u64::from_le_bytes(word), kind, by).to_le_bytes();
                chunk.copy_from_slice(&word[..len]);
            }
        }
        Ok(())
    }
}

/// Every walk over a recorded interpreter, one of `tests/images`, whose words are changed as they are read. None may
/// go on for ever; what they find may be nonsense.
pub fn objects(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else { return };
    let all = recordings();
    let Some(recording) = all.get(usize::from(*which) % all.len().max(1)) else { return };
    let damage = RefCell::new(Damage { rest, quiet: 0 });
    walk(recording, Damaged { recording, damage });
}

/// Whether it was whole enough to be walked at all.
fn walk<M: ReadMemory>(recording: &Recording, memory: M) -> bool {
    let facts = &recording.facts;
    let layout = layout::choose(1, facts.version, &memory, facts.published);
    let opened = layout.and_then(|layout| {
        Python::open(memory, facts.version, layout, &facts.addresses, &facts.tids)
    });
    let Ok(python) = opened else { return false };
    let cache = &mut CodeCache::default();
    for thread in &python.threads(&facts.tids).unwrap_or_default() {
        let _ = python.entered(thread);
        let _ = python.stack(thread, cache, None);
    }
    for gil in python.gils().unwrap_or_default() {
        let _ = python.gil_holder(&gil);
    }
    let vars = python.find_vars(&["openrtc_session_id"]).unwrap_or_default();
    let tasks = python.tasks().unwrap_or_default();
    let contexts: Vec<RemoteAddr> = tasks.iter().map(|task| task.context).collect();
    for var in vars.into_iter().flatten() {
        let _ = python.values(&contexts, var, |_, _| false);
        let _ = python.look(&tasks, Some(var), cache);
    }
    true
}

/// All of `tests/images`, in the order of their names; read once.
fn recordings() -> &'static [Recording] {
    static ALL: OnceLock<Vec<Recording>> = OnceLock::new();
    ALL.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/images");
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.sort();
        let read = |file| Recording::read(&mut GzDecoder::new(File::open(file).ok()?)).ok();
        let all: Vec<Recording> = files.into_iter().filter_map(read).collect();
        assert!(!all.is_empty(), "no recording can be read");
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recording in which words here and there have other values.
    struct Rotten<'r> {
        recording: &'r Recording,
        seed: u64,
    }

    impl Rotten<'_> {
        /// A number that depends on the place and the seed only, so that all reads of a place agree.
        fn dice(&self, addr: u64) -> u64 {
            let mut x = addr ^ self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for shift in [30, 27, 31] {
                x = (x ^ (x >> shift)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            }
            x
        }

        fn word(&self, addr: u64, word: u64) -> u64 {
            let dice = self.dice(addr);
            match dice % 1500 {
                0 => 0,
                1 => u64::MAX - (dice >> 60),
                2 => word ^ (8 << (dice >> 32 & 15)),
                3 => dice,
                4 => word.wrapping_add(dice >> 56),
                _ => word,
            }
        }
    }

    impl ReadMemory for Rotten<'_> {
        fn read_exact(&self, addr: RemoteAddr, buf: &mut [u8]) -> Result<(), ReadError> {
            self.recording.read_exact(addr, buf)?;
            for (at, chunk) in (0_u64..).step_by(8).zip(buf.chunks_exact_mut(8)) {
                let place = addr.0.wrapping_add(at);
                if place.is_multiple_of(8) {
                    let word = u64::from_le_bytes(chunk.try_into().unwrap());
                    chunk.copy_from_slice(&self.word(place, word).to_le_bytes());
                }
            }
            Ok(())
        }
    }

    /// No walk may fail to end, or go beyond its bounds, whatever stands in the worker's memory. What it
    /// finds may be nonsense.
    #[test]
    fn damaged_memory_ends_every_walk() {
        let walks = recordings()
            .iter()
            .flat_map(|recording| (0..12).map(|seed| walk(recording, Rotten { recording, seed })));
        let walked = walks.filter(|walked| *walked).count();
        assert!(walked > 6, "only {walked} were whole enough to be walked at all");
    }
}
