//! Any bytes where a worker's library should be, as its names and its tables for unwinding are read.

#![expect(clippy::missing_panics_doc, reason = "to panic is how a fault is told")]

use crate::cpython::memory::{ReadError, ReadMemory, RemoteAddr};

use super::{
    Registers,
    image::{Image, Source},
    symbols::Symbols,
    unwind::{Frame, Stack, Tables, Unwinder},
};

/// Frames of a stack: each is higher up.
const MAX_FRAMES: usize = 256;
const STACK: u64 = 0x7000_0000;
/// Bytes of a function's name that are told.
const MAX_NAME: usize = 128;

/// The file's own bytes are the stack too.
struct Bytes<'d>(&'d [u8]);

impl ReadMemory for Bytes<'_> {
    fn read_exact(&self, addr: RemoteAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let unmapped = ReadError::Unmapped { addr, len: buf.len() };
        let from = addr.0.checked_sub(STACK).ok_or(unmapped)? as usize;
        let bytes = from.checked_add(buf.len()).and_then(|end| self.0.get(from..end));
        buf.copy_from_slice(bytes.ok_or(unmapped)?);
        Ok(())
    }
}

/// The names and the callers of addresses in a file; the first two bytes say where the thread is.
pub fn unwind(data: &[u8]) {
    let Some(([low, high], bytes)) = data.split_first_chunk() else { return };
    let ip = u64::from(u16::from_le_bytes([*low, *high]));
    let source = Source::Bytes(bytes.to_vec());
    let Some(image) = Image::parse(&source) else { return };
    if let Some(symbols) = Symbols::read(&source) {
        let name = symbols.name(ip);
        assert!(name.is_none_or(|name| name.len() <= MAX_NAME && !name.is_empty()));
    }
    let Some(tables) = Tables::read(&source, &image) else { return };
    let (memory, mut unwinder) = (Bytes(bytes), Unwinder::default());
    let stack = Stack::new(&memory, STACK);
    let mut frame = Frame::new(Registers { ip, sp: STACK, bp: Some(STACK + 64) });
    for _ in 0..MAX_FRAMES {
        let Some(caller) = tables.caller(&mut unwinder, &frame, 0, &stack) else { return };
        frame = caller;
    }
}
