//! Which line an instruction is of, by its code object's table of lines.
//!
//! The three formats are told apart by the layout. A table is hostile like everything of the worker: what
//! does not add up gives no line, and each byte is looked at once.

use super::layout::LineTable;

/// Bytes of a code unit, in which [`LineTable::Locations`] counts.
const UNIT_BYTES: i64 = 2;
/// The step of [`LineTable::Ranges`] that says that there is no line.
const NO_LINE: i8 = -128;
/// What every entry of [`LineTable::Locations`] begins with, and no other byte has.
const ENTRY: u8 = 0x80;
/// A byte of a number that another one follows.
const MORE: u8 = 0x40;
/// Bits of a number in each byte.
const BITS: u32 = 6;
/// Bytes of a number at most: it is one of 32 bits.
const MAX_BYTES: usize = 6;

/// The line of the instruction `offset` bytes from the beginning of the bytecode; of what has not begun,
/// where it is negative, `first`. `None` where the table says that there is none, or is none itself.
///
/// The same as `PyCode_Addr2Line`,
/// <https://github.com/python/cpython/blob/v3.13.0/Objects/codeobject.c>.
pub fn line(format: LineTable, table: &[u8], first: i32, offset: i64) -> Option<u32> {
    let first = i64::from(first);
    let line = if offset < 0 {
        Some(first)
    } else {
        match format {
            LineTable::Pairs { .. } => Some(in_pairs(table, first, offset)),
            LineTable::Ranges { .. } => in_ranges(table, first, offset),
            LineTable::Locations { .. } => in_locations(table, first, offset),
        }
    };
    // The first instruction of a module has line 0, which no file has.
    line.and_then(|line| u32::try_from(line).ok()).filter(|line| *line > 0)
}

/// What is behind the last step is of the last line.
fn in_pairs(table: &[u8], first: i64, offset: i64) -> i64 {
    let (mut at, mut line) = (0, first);
    for [bytes, step] in table.as_chunks().0 {
        at += i64::from(*bytes);
        if at > offset {
            break;
        }
        line += i64::from(step.cast_signed());
    }
    line
}

fn in_ranges(table: &[u8], first: i64, offset: i64) -> Option<i64> {
    let (mut end, mut line) = (0, first);
    for [bytes, step] in table.as_chunks().0 {
        end += i64::from(*bytes);
        let step = step.cast_signed();
        if step != NO_LINE {
            line += i64::from(step);
        }
        if offset < end {
            return (step != NO_LINE).then_some(line);
        }
    }
    None
}

fn in_locations(table: &[u8], first: i64, offset: i64) -> Option<i64> {
    let (mut end, mut line) = (0, first);
    let mut rest = table;
    while let [head, tail @ ..] = rest {
        if head & ENTRY == 0 {
            return None;
        }
        end += UNIT_BYTES * i64::from((head & 7) + 1);
        // What it tells of columns is of no use here.
        let step = match head >> 3 & 15 {
            15 => None,
            13 | 14 => Some(signed(tail)?),
            code @ 10..=12 => Some(i64::from(code) - 10),
            _ => Some(0),
        };
        line += step.unwrap_or_default();
        if offset < end {
            return step.map(|_| line);
        }
        let next = tail.iter().position(|byte| byte & ENTRY != 0)?;
        rest = tail.get(next..)?;
    }
    None
}

/// The number that `bytes` begin with: its sign is its lowest bit.
fn signed(bytes: &[u8]) -> Option<i64> {
    let mut number = 0_i64;
    for (index, byte) in (0..).zip(bytes.iter().take(MAX_BYTES)) {
        number |= i64::from(byte & (MORE - 1)) << (BITS * index);
        if byte & MORE == 0 {
            let size = number >> 1;
            return Some(if number & 1 == 0 { size } else { -size });
        }
    }
    None
}

#[cfg(test)]
mod tests;
