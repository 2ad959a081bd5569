//! Code objects made by hand: what is read of them, and what of an older one at the same place is not.

use super::*;
use crate::cpython::fake::{CODE, World};

/// Two instructions in the first line, one in the third, and one in none.
const TABLE: &[u8] = &[0x81, 0, 0xe8, 2, 0xf8];

/// A `bytes`.
fn bytes(world: &mut World, content: &[u8]) -> u64 {
    // A `bytes` is never smaller: its memory is given out in units of 16.
    let at = world.object(0x1100, &[content.len() as u64, 0, 0, 0]);
    world.image.put(at + common::BYTES_DATA, content);
    at
}

/// A code object that begins in line 7.
fn code(world: &mut World, function: &str, file: &str, table: &[u8]) -> u64 {
    let (name, function) = (world.str("name"), world.str(function));
    let (file, table) = (world.str(file), bytes(world, table));
    world.object(CODE, &[file, name, function, 7, table, 0, 0])
}

fn read(world: &World, cache: &mut CodeCache, at: u64) -> Option<Arc<Code>> {
    cache.read(&world.objects(), RemoteAddr(at))
}

#[test]
fn a_code_object_tells_its_function_file_and_lines() {
    let mut world = World::new();
    let at = code(&mut world, "Agent.fetch_slots", "/app/agents/booking.py", TABLE);
    let code = read(&world, &mut CodeCache::default(), at).unwrap();
    assert_eq!(code.function, "Agent.fetch_slots");
    assert_eq!((code.file.as_str(), code.origin), ("/app/agents/booking.py", Origin::User));
    let lines: Vec<_> = [-2, 0, 2, 4, 6, 8].map(|offset| code.line(offset)).into();
    assert_eq!(lines, [Some(7), Some(7), Some(7), Some(8), None, None]);
    assert_eq!(code.first_line(), Some(7));
}

#[test]
fn what_is_no_code_object_is_none() {
    let mut world = World::new();
    let (at, other) = (code(&mut world, "f", "f.py", TABLE), world.object(0x42, &[0; 7]));
    let cache = &mut CodeCache::default();
    assert_eq!(read(&world, cache, other), None, "of another type");
    assert_eq!(read(&world, cache, 0xdead_0000), None, "not mapped");
    // A `str` of a type that is derived from it may have its text anywhere.
    let derived = world.object(0x42, &[1, 0, 0x64, 0x41]);
    world.image.words(at + 16, &[derived]);
    assert_eq!(read(&world, cache, at), None);
    let wild = world.object(crate::cpython::fake::STR, &[u64::MAX, 0, 0x70, 0x41]);
    world.image.words(at + 16, &[wild]);
    assert_eq!(read(&world, cache, at), None, "longer than the memory");
}

#[test]
fn other_code_at_the_same_place_is_not_taken_for_what_was_there() {
    let mut world = World::new();
    let at = code(&mut world, "<module>", "<cell 1>", TABLE);
    let cache = &mut CodeCache::default();
    let first = read(&world, cache, at).unwrap();
    assert!(Arc::ptr_eq(&first, &read(&world, cache, at).unwrap()), "it was remembered");
    // All objects are new ones, and where the old ones were.
    let mut pointers = [0; 5];
    for (index, word) in (2..).zip(&mut pointers) {
        *word = world.objects().memory.read(RemoteAddr(at + 8 * index)).unwrap();
    }
    let [file, _, _, _, table] = pointers;
    world.image.put(file + 40, b"<cell 2>");
    assert_eq!(read(&world, cache, at).unwrap().file, "<cell 2>");
    world.image.put(table + common::BYTES_DATA + 3, &[4]);
    let code = read(&world, cache, at).unwrap();
    assert_eq!((first.line(4), code.line(4)), (Some(8), Some(9)));
    world.image.words(file + 16, &[5]);
    assert_eq!(read(&world, cache, at).unwrap().file, "<cell");
}

#[test]
fn of_a_long_path_the_end_is_kept_and_a_long_table_is_not_read() {
    let mut world = World::new();
    let file = format!("/srv/{}/agents/booking.py", "deep/".repeat(120));
    let at = code(&mut world, "f", &file, &vec![0x80; MAX_TABLE_BYTES + 1]);
    let code = read(&world, &mut CodeCache::default(), at).unwrap();
    assert_eq!(code.file, format!("…{}", &file[file.len() - MAX_TEXT_BYTES..]));
    assert_eq!((code.line(0), code.first_line()), (None, Some(7)));
}

#[test]
fn texts_of_every_width_are_read() {
    let mut world = World::new();
    let at = code(&mut world, "f", "x", TABLE);
    let wide = |world: &mut World, unit: u64, chars: u64, data: &[u8]| {
        let text = world.object(crate::cpython::fake::STR, &[chars, 0, unit << 2 | 0x20]);
        world.image.put(text + u64::from(world.layout.str_wide_data), data);
        world.image.words(at + 16, &[text]);
        read(world, &mut CodeCache::default(), at).unwrap().file.clone()
    };
    assert_eq!(wide(&mut world, 1, 2, b"\xe9!"), "é!");
    assert_eq!(wide(&mut world, 2, 2, &[0x60, 0x4f, 0, 0xd8]), "你\u{fffd}", "half a pair");
    assert_eq!(wide(&mut world, 4, 1, &[0x1f, 0xf6, 1, 0]), "\u{1f61f}");
}

#[test]
fn the_cache_is_bounded() {
    let mut world = World::new();
    let cache = &mut CodeCache::default();
    let at = code(&mut world, "f", "x", &vec![0x80; MAX_TABLE_BYTES]);
    for place in 0..=(MAX_BYTES / MAX_TABLE_BYTES / 2) as u64 {
        let parts = Parts::read(&world.objects(), RemoteAddr(at), None).unwrap();
        let code = Arc::new(parts.code(LineTable::Locations { at: 0 }));
        cache.remember(RemoteAddr(place), parts, code);
        assert!(cache.bytes <= MAX_BYTES && cache.codes.len() <= MAX_CODES);
    }
    assert!(cache.codes.len() < 128, "it was emptied");
}
