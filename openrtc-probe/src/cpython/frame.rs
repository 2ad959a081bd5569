//! One frame, as it stands in memory.
//!
//! What a frame says of its code, its caller and its instruction is read at one moment: the memory of a
//! frame that has returned is another's within microseconds.

use super::{
    layout::{Instruction, common},
    memory::{ReadMemory, RemoteAddr},
    object::Objects,
};

/// Bytes of a frame at most, with its first variable.
const MAX_FRAME_BYTES: usize = 512;
/// No bytecode is longer, in bytes; nor is anything that runs as far before its beginning.
const MAX_OFFSET: i64 = 1 << 31;

/// A frame of Python's or of the interpreter's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameAt {
    /// Where it stands.
    pub at: RemoteAddr,
    /// What it runs: a code object, but for the interpreter's own.
    pub code: RemoteAddr,
    /// The frame that it returns to, `None` at the outermost.
    pub previous: Option<RemoteAddr>,
    /// The instruction, in bytes from the beginning of the bytecode; negative before the first one.
    pub offset: i64,
    /// It is the interpreter's own, and none of Python's.
    pub is_shim: bool,
}

impl FrameAt {
    /// Reads the frame at `at`; `None` where it cannot be one.
    pub fn read<M: ReadMemory>(objects: &Objects<'_, M>, at: RemoteAddr) -> Option<Self> {
        let layout = &objects.layout.frames;
        let mut bytes = [0; MAX_FRAME_BYTES];
        let bytes = bytes.get_mut(..layout.bytes as usize)?;
        objects.memory.read_exact(at, bytes).ok()?;
        let word = |at: u64| {
            let word = bytes.get(at as usize..).and_then(<[u8]>::first_chunk);
            word.map(|word| u64::from_le_bytes(*word))
        };
        let owner = match layout.owner {
            Some(at) => *bytes.get(at as usize)?,
            // An object, of which nobody has a reference once it has returned: it waits to be used again,
            // and its caller is the next one that waits.
            None if word(common::REFERENCES)?.cast_signed() <= 0 => return None,
            None => 0,
        };
        let code = RemoteAddr(word(layout.code)? & !common::REFERENCE_TAG);
        let is_shim = owner >= common::FIRST_SHIM;
        let offset = match layout.instruction {
            Instruction::Index { at, unit } => {
                let index = bytes.get(at as usize..).and_then(<[u8]>::first_chunk)?;
                i64::from(i32::from_le_bytes(*index)) * unit.cast_signed()
            }
            Instruction::Pointer { at, bytecode } => {
                word(at)?.wrapping_sub(code.plus(bytecode).0).cast_signed()
            }
        };
        let is_near = (-MAX_OFFSET..MAX_OFFSET).contains(&offset);
        let previous = RemoteAddr(word(layout.previous)?).non_null();
        (is_near || is_shim).then_some(Self { at, code, previous, offset, is_shim })
    }
}
