//! Dicts, sets, strings and instances, whole and hostile.

use super::*;
use crate::cpython::{
    fake::{DICT, INT, LAYOUT, NONE, STR, World},
    layout::Layout,
};

fn addrs(found: &[Entry]) -> Vec<(u64, u64)> {
    found.iter().map(|entry| (entry.key.0, entry.value.0)).collect()
}

#[test]
fn a_dict_keeps_the_order_and_skips_deleted_entries() {
    let mut world = World::new();
    let dict = world.dict(&[(1, 10), (0, 0), (3, 30)]);
    assert_eq!(addrs(&world.objects().dict(RemoteAddr(dict)).unwrap()), [(1, 10), (3, 30)]);
}

#[test]
fn keys_that_are_no_strings_carry_their_hash() {
    let mut world = World::new();
    let keys = world.keys(true, &[(1, 10), (2, 20)]);
    let dict = world.object(DICT, &[2, 0, keys, 0]);
    assert_eq!(addrs(&world.objects().dict(RemoteAddr(dict)).unwrap()), [(1, 10), (2, 20)]);
}

#[test]
fn a_split_dict_takes_its_own_values() {
    let mut world = World::new();
    let keys = world.keys(false, &[(1, 0), (2, 0)]);
    let values = world.place();
    world.image.words(values, &[0, 22]);
    let dict = world.object(DICT, &[1, 0, keys, values]);
    assert_eq!(addrs(&world.objects().dict(RemoteAddr(dict)).unwrap()), [(2, 22)]);
}

#[test]
fn values_are_found_by_name() {
    let mut world = World::new();
    let dict = world.names(&[("sys", 5), ("_asyncio", 6)]);
    let objects = world.objects();
    assert_eq!(objects.dict_get(RemoteAddr(dict), "_asyncio"), Ok(Some(RemoteAddr(6))));
    assert_eq!(objects.dict_get(RemoteAddr(dict), "_asynci"), Ok(None));
}

#[test]
fn hostile_dicts_end() {
    let mut world = World::new();
    let keys = world.place();
    world.image.words(keys, &[1, 3 | 3 << 8, 0, u64::MAX, 0]);
    let dict = world.object(DICT, &[0, 0, keys, 0]);
    let wide = world.place();
    world.image.words(wide, &[1, 3 | 200 << 8, 0, 1, 0]);
    let shifted = world.object(DICT, &[0, 0, wide, 0]);
    let other = world.object(0x42, &[0, 0, keys, 0]);
    let objects = world.objects();
    assert!(matches!(objects.dict(RemoteAddr(dict)), Err(WalkError::TooLarge { .. })));
    assert!(matches!(objects.dict(RemoteAddr(shifted)), Err(WalkError::TooLarge { .. })));
    assert!(matches!(objects.dict(RemoteAddr(other)), Err(WalkError::Not { .. })), "no dict");
    assert!(matches!(objects.dict(RemoteAddr(0)), Err(WalkError::Not { .. })), "null");
    assert!(matches!(objects.dict(RemoteAddr(0x5000_0000)), Err(WalkError::Read(_))));
}

#[test]
fn a_set_skips_empty_and_deleted_places() {
    let mut world = World::new();
    let set = world.set(&[(0, 0), (11, 1), (99, u64::MAX), (12, 2)]);
    let members = world.objects().set(RemoteAddr(set)).unwrap();
    assert_eq!(members, [RemoteAddr(11), RemoteAddr(12)]);
}

#[test]
fn hostile_sets_end() {
    let mut world = World::new();
    let set = world.object(crate::cpython::fake::SET, &[0, 0, u64::MAX - 7, 0x1000]);
    assert!(matches!(
        world.objects().set(RemoteAddr(set)),
        Err(WalkError::TooLarge { what: "set", .. })
    ));
}

#[test]
fn strings_are_compared_as_a_whole() {
    let mut world = World::new();
    let (short, long) = (world.str("tag"), world.str(&"x".repeat(300)));
    let objects = world.objects();
    assert!(objects.is_str(RemoteAddr(short), "tag"));
    assert!(!objects.is_str(RemoteAddr(short), "tags"));
    assert!(!objects.is_str(RemoteAddr(short), "ta"));
    assert!(objects.is_str(RemoteAddr(long), &"x".repeat(300)));
    assert!(!objects.is_str(RemoteAddr(long), &"x".repeat(301)));
    assert_eq!(objects.text(RemoteAddr(NONE)), Ok(None));
}

#[test]
fn a_value_that_is_no_text_is_its_type() {
    let mut world = World::new();
    let metatype = 0x1234;
    world.image.words(STR + common::OB_TYPE, &[metatype]);
    let int_type = world.object(metatype, &[0]);
    let (number, freed) = (world.object(int_type, &[7; 16]), world.object(0x42, &[7; 16]));
    let (text, empty) = (world.str("AJ_1"), world.str(""));
    let objects = world.objects();
    let tag = |at| objects.tag(RemoteAddr(at));
    assert_eq!(tag(number).unwrap().unwrap().type_addr(), Some(int_type));
    assert_eq!(objects.text(RemoteAddr(number)), Ok(None));
    assert!(!objects.is_str(RemoteAddr(number), ""));
    assert_eq!(tag(text).unwrap().unwrap().type_addr(), None);
    assert_eq!((tag(NONE), tag(empty)), (Ok(None), Ok(None)), "untagged");
    assert_eq!(tag(freed), Err(Loss::TagUnreadable), "its type is none");
    assert_eq!(tag(0x77_7777), Err(Loss::TagUnreadable));
}

#[test]
fn the_name_of_a_task_is_its_text_or_its_number() {
    let mut world = World::new();
    let (text, number) = (world.str("fetch"), world.object(INT, &[8, 7, 0]));
    let long = world.object(INT, &[16, 7, 0]);
    let metatype = 0x1234;
    world.image.words(STR + common::OB_TYPE, &[metatype]);
    world.image.words(INT + common::OB_TYPE, &[metatype]);
    world.image.words(metatype + common::TYPE_BASE, &[0]);
    let objects = world.objects();
    let name = |at| objects.name(RemoteAddr(at)).unwrap().unwrap();
    assert_eq!(name(text).chars().collect::<String>(), "fetch");
    assert_eq!(name(number).task_number(), Some(7));
    assert_eq!(name(long).type_addr(), Some(INT), "of more digits than any number of tasks has");
    assert_eq!(objects.tag(RemoteAddr(number)).unwrap().unwrap().type_addr(), Some(INT));
}

/// An instance with the attributes `other` and `data`, and the layout that its values follow.
fn instance(values: Values, first_value: u64) -> (World, u64) {
    let mut world = World::new();
    world.lay_out(Layout { values, first_value, ..LAYOUT.clone() });
    let (other, data) = (world.str("other"), world.str("data"));
    let keys = world.keys(false, &[(other, 0), (data, 0)]);
    let ty = world.place();
    world.image.words(ty + common::TYPE_BASICSIZE, &[24]);
    world.image.words(ty + common::TYPE_FLAGS, &[common::FLAG_MANAGED_DICT]);
    world.image.words(ty + LAYOUT.type_cached_keys, &[keys]);
    let at = world.object(ty, &[0; 4]);
    (world, at)
}

#[test]
fn attributes_are_found_in_each_layout() {
    let pointed = Values::Pointed { at: -32 };
    let (mut world, at) = instance(pointed, 0);
    let values = world.place();
    world.image.words(values, &[1, 77]);
    world.image.words(at - 32, &[values, 0]);
    assert_eq!(world.objects().attribute(RemoteAddr(at), "data"), Ok(RemoteAddr(77)), "3.11");

    let (mut world, at) = instance(Values::Tagged, 0);
    let values = world.place();
    world.image.words(values, &[1, 77]);
    world.image.words(at - 24, &[values - 1]);
    assert_eq!(world.objects().attribute(RemoteAddr(at), "data"), Ok(RemoteAddr(77)), "3.12");

    let (mut world, at) = instance(Values::Embedded, 8);
    world.image.words(at - 24, &[0]);
    world.image.words(at + 24, &[0, 1, 77]);
    assert_eq!(world.objects().attribute(RemoteAddr(at), "data"), Ok(RemoteAddr(77)), "3.13");
}

#[test]
fn attributes_are_found_where_the_type_says_that_the_dict_is() {
    let (mut world, at) = instance(Values::InDict, 0);
    let ty = world.objects().type_of(RemoteAddr(at)).unwrap();
    let dict = world.names(&[("data", 88)]);
    world.image.words(at + 16, &[dict]);
    world.image.words(ty.0 + common::TYPE_DICTOFFSET, &[16]);
    assert_eq!(world.objects().attribute(RemoteAddr(at), "data"), Ok(RemoteAddr(88)));
    for none in [0, u64::MAX - 7] {
        world.image.words(ty.0 + common::TYPE_DICTOFFSET, &[none]);
        assert!(world.objects().attribute(RemoteAddr(at), "data").is_err());
    }
}

#[test]
fn attributes_are_found_in_a_dict_of_its_own() {
    for (values, first_value) in
        [(Values::Pointed { at: -32 }, 0), (Values::Tagged, 0), (Values::Embedded, 8)]
    {
        let (mut world, at) = instance(values, first_value);
        let dict = world.names(&[("data", 88)]);
        world.image.words(at - 32, &[0, dict]);
        assert_eq!(world.objects().attribute(RemoteAddr(at), "data"), Ok(RemoteAddr(88)));
        assert!(world.objects().attribute(RemoteAddr(at), "missing").is_err());
    }
}

#[test]
fn bases_that_go_in_circles_end() {
    let mut world = World::new();
    let (a, b) = (world.place(), world.place());
    world.image.words(a + common::TYPE_BASE, &[b]);
    world.image.words(b + common::TYPE_BASE, &[a]);
    let objects = world.objects();
    assert!(objects.is_subtype(RemoteAddr(a), RemoteAddr(b)));
    assert!(!objects.is_subtype(RemoteAddr(a), RemoteAddr(0x42)));
}
