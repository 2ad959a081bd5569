//! Whether an ELF file still has its symbol table.

use std::{fs, path::Path};

/// The section type of a full symbol table (`SHT_SYMTAB` in elf(5)).
const SYMBOL_TABLE: u32 = 2;

/// True if the file has no symbol table, or is not a 64-bit little-endian ELF file at all.
pub fn are_stripped(file: &Path) -> bool {
    fs::read(file).is_ok_and(|image| !has_symbol_table(&image).unwrap_or(false))
}

/// Reads the section headers; `None` for what is no 64-bit little-endian ELF file.
fn has_symbol_table(image: &[u8]) -> Option<bool> {
    if !image.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = usize::try_from(u64::from_le_bytes(*image.get(0x28..)?.first_chunk()?)).ok()?;
    let entry_bytes = usize::from(u16::from_le_bytes(*image.get(0x3a..)?.first_chunk()?));
    let entries = usize::from(u16::from_le_bytes(*image.get(0x3c..)?.first_chunk()?));
    if table == 0 {
        return Some(false);
    }
    for index in 0..entries {
        let kind_at = table.checked_add(index * entry_bytes + 4)?;
        let kind = u32::from_le_bytes(*image.get(kind_at..)?.first_chunk()?);
        if kind == SYMBOL_TABLE {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header and section headers of the given types.
    fn elf(kinds: &[u32]) -> Vec<u8> {
        let mut image = vec![0; 64];
        image[..6].copy_from_slice(b"\x7fELF\x02\x01");
        image[0x28] = 64;
        image[0x3a] = 64;
        image[0x3c] = u8::try_from(kinds.len()).unwrap();
        for kind in kinds {
            let mut header = [0; 64];
            header[4..8].copy_from_slice(&kind.to_le_bytes());
            image.extend(header);
        }
        image
    }

    #[test]
    fn a_symbol_table_is_found_wherever_it_is() {
        assert_eq!(has_symbol_table(&elf(&[0, 1, 2, 3])), Some(true));
        assert_eq!(has_symbol_table(&elf(&[0, 1, 3, 11])), Some(false));
        assert_eq!(has_symbol_table(&elf(&[])), Some(false));
    }

    #[test]
    fn a_broken_file_is_read_to_its_end_only() {
        assert_eq!(has_symbol_table(b"#!/bin/sh"), None);
        assert_eq!(has_symbol_table(b"\x7fELF\x02\x01"), None);
        let mut cut = elf(&[0, 1, 2]);
        cut.truncate(64 + 70);
        assert_eq!(has_symbol_table(&cut), None);
    }

    #[test]
    fn this_test_has_symbols() {
        assert!(!are_stripped(&std::env::current_exe().unwrap()));
    }
}
