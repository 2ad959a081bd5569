//! The bounded lookup in a HAMT, CPython's persistent map behind a `Context`.
//!
//! Layout and algorithm: <https://github.com/python/cpython/blob/v3.11.7/Python/hamt.c>. The map is
//! immutable and its keys (context variables) compare by identity, so a lookup is a walk down one
//! path: at most seven levels of five hash bits, then a collision node.

use bytemuck::{Pod, Zeroable};

use crate::{loss::Loss, memory::Memory};

/// Seven levels of five bits use up a 32-bit hash; one collision node may follow, and one to spare.
pub const MAX_LEVELS: u32 = 9;
/// Variables with equal 32-bit hashes that we look through; two in practice.
pub const MAX_COLLISIONS: u64 = 8;

const BITS_PER_LEVEL: u32 = 5;
const LEVEL_MASK: u32 = 31;
/// `PyHamtNode_Bitmap.b_array`, and `PyHamtNode_Collision.c_array`, behind the object head, the
/// size and the bitmap.
const PAIRS: u64 = 32;
/// `PyHamtNode_Array.a_array`, behind the object head.
const CHILDREN: u64 = 16;

/// Addresses of the interpreter's three node types; they tell what a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct NodeTypes {
    /// `_PyHamt_BitmapNode_Type`.
    pub bitmap: u64,
    /// `_PyHamt_ArrayNode_Type`.
    pub array: u64,
    /// `_PyHamt_CollisionNode_Type`.
    pub collision: u64,
}

/// The first 32 bytes of any node: they tell its type, and of a bitmap node the bitmap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct NodeHead {
    refcount: u64,
    /// `ob_type`.
    pub ty: u64,
    /// `ob_size` of bitmap and collision nodes: twice the number of pairs.
    pub size: u64,
    /// `b_bitmap` of a bitmap node.
    pub bitmap: u32,
    pad: u32,
}

/// A key and its value; a null key says that the value is a child node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Pair {
    /// The context variable, or 0.
    pub key: u64,
    /// Its value, or a child node.
    pub value: u64,
}

/// Pairs that are read along with a node's head, so that most lookups read a node once.
const NEAR_PAIRS: usize = 4;

/// A head and the first pairs of a bitmap node: room for a lookup to work in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct NodeNear {
    head: NodeHead,
    pairs: [Pair; NEAR_PAIRS],
}

/// CPython folds an object's 64-bit hash into the 32 bits that the map uses (`hamt_hash`).
pub fn fold_hash(hash: u64) -> u32 {
    match (hash as u32) ^ ((hash >> 32) as u32) {
        u32::MAX => u32::MAX - 1,
        folded => folded,
    }
}

/// The value under `key`, whose folded hash is `hash`, in the map whose root node is `root`. `near` is
/// room to work in: the kernel's stack has none to spare.
///
/// # Errors
/// [`Loss::TagUnreadable`] where a node cannot be read, [`Loss::ContextMalformed`] where the memory
/// is no HAMT or a deeper one than CPython makes.
#[inline(always)]
pub fn find<M: Memory>(
    memory: &M,
    near: &mut NodeNear,
    types: &NodeTypes,
    root: u64,
    key: u64,
    hash: u32,
) -> Result<Option<u64>, Loss> {
    let mut node = root;
    let mut rest = hash;
    for _ in 0..MAX_LEVELS {
        // A node at the very end of a mapping has nothing behind it to read along.
        let has_near = memory.read_into(node, near);
        if !has_near && !memory.read_into(node, &mut near.head) {
            return Err(Loss::TagUnreadable);
        }
        let head = near.head;
        let slot = rest & LEVEL_MASK;
        rest >>= BITS_PER_LEVEL;
        if head.ty == types.bitmap {
            let bit = 1u32 << slot;
            if head.bitmap & bit == 0 {
                return Ok(None);
            }
            let index = (head.bitmap & (bit - 1)).count_ones();
            let pair = match near.pairs.get(index as usize) {
                Some(pair) if has_near => *pair,
                _ => {
                    let at = node.wrapping_add(PAIRS + 16 * u64::from(index));
                    memory.read(at).ok_or(Loss::TagUnreadable)?
                }
            };
            if pair.key != 0 {
                return Ok((pair.key == key).then_some(pair.value));
            }
            node = pair.value;
        } else if head.ty == types.array {
            let at = node.wrapping_add(CHILDREN + 8 * u64::from(slot));
            node = memory.read(at).ok_or(Loss::TagUnreadable)?;
            if node == 0 {
                return Ok(None);
            }
        } else if head.ty == types.collision {
            return find_collision(memory, node, head.size / 2, key);
        } else {
            return Err(Loss::ContextMalformed);
        }
    }
    Err(Loss::ContextMalformed)
}

#[inline(always)]
fn find_collision<M: Memory>(
    memory: &M,
    node: u64,
    pairs: u64,
    key: u64,
) -> Result<Option<u64>, Loss> {
    for index in 0..MAX_COLLISIONS {
        if index >= pairs {
            return Ok(None);
        }
        let at = node.wrapping_add(PAIRS + 16 * index);
        let pair: Pair = memory.read(at).ok_or(Loss::TagUnreadable)?;
        if pair.key == key {
            return Ok(Some(pair.value));
        }
    }
    Err(Loss::ContextMalformed)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, vec::Vec};

    use bytemuck::AnyBitPattern;

    use super::*;
    use crate::tag::TAG_BYTES;

    const TYPES: NodeTypes = NodeTypes { bitmap: 1, array: 2, collision: 3 };

    #[derive(Default)]
    struct Image(BTreeMap<u64, u8>);

    impl Image {
        fn put(&mut self, at: u64, words: &[u64]) {
            for (i, byte) in words.iter().flat_map(|word| word.to_ne_bytes()).enumerate() {
                self.0.insert(at + i as u64, byte);
            }
        }
        fn bitmap(&mut self, at: u64, entries: &[(u32, u64, u64)]) {
            let bits = entries.iter().fold(0, |bits, (slot, ..)| bits | 1 << slot);
            self.put(at, &[1, TYPES.bitmap, 2 * entries.len() as u64, bits]);
            let pairs: Vec<u64> = entries.iter().flat_map(|&(_, k, v)| [k, v]).collect();
            self.put(at + PAIRS, &pairs);
        }
    }

    fn look(image: &Image, root: u64, key: u64, hash: u32) -> Result<Option<u64>, Loss> {
        find(image, &mut NodeNear::default(), &TYPES, root, key, hash)
    }

    impl Memory for Image {
        fn read<T: AnyBitPattern>(&self, addr: u64) -> Option<T> {
            let bytes: Option<Vec<u8>> =
                (0..size_of::<T>() as u64).map(|i| self.0.get(&(addr + i)).copied()).collect();
            Some(bytemuck::pod_read_unaligned(&bytes?))
        }
        fn read_into<T: AnyBitPattern>(&self, addr: u64, out: &mut T) -> bool {
            self.read(addr).map(|value| *out = value).is_some()
        }
        fn read_text(&self, _: u64, _: usize, _: &mut [u8; TAG_BYTES]) -> Option<()> {
            None
        }
    }

    #[test]
    fn an_empty_map_holds_nothing() {
        let mut image = Image::default();
        image.bitmap(0x100, &[]);
        assert_eq!(look(&image, 0x100, 7, 0), Ok(None));
    }

    #[test]
    fn a_bitmap_node_is_indexed_by_the_bits_below() {
        let mut image = Image::default();
        image.bitmap(0x100, &[(0, 70, 700), (3, 73, 730), (31, 79, 790)]);
        assert_eq!(look(&image, 0x100, 73, 3), Ok(Some(730)));
        assert_eq!(look(&image, 0x100, 79, 31), Ok(Some(790)));
        assert_eq!(look(&image, 0x100, 74, 3), Ok(None), "another key with that hash");
        assert_eq!(look(&image, 0x100, 73, 4), Ok(None));
    }

    #[test]
    fn array_and_collision_nodes_are_walked() {
        let mut image = Image::default();
        let mut children = [0; 32];
        children[5] = 0x1000;
        image.put(0x100, &[1, TYPES.array]);
        image.put(0x100 + CHILDREN, &children);
        image.bitmap(0x1000, &[(2, 0, 0x2000)]);
        image.put(0x2000, &[1, TYPES.collision, 4, 0, 80, 800, 81, 810]);
        let hash = 5 | 2 << 5;
        assert_eq!(look(&image, 0x100, 81, hash), Ok(Some(810)));
        assert_eq!(look(&image, 0x100, 82, hash), Ok(None));
        assert_eq!(look(&image, 0x100, 81, 6), Ok(None), "an empty child");
    }

    #[test]
    fn hostile_maps_end() {
        let mut image = Image::default();
        image.bitmap(0x100, &[(0, 0, 0x100)]);
        assert_eq!(look(&image, 0x100, 7, 0), Err(Loss::ContextMalformed), "a loop");
        image.put(0x200, &[1, 99, 0, 0]);
        assert_eq!(look(&image, 0x200, 7, 0), Err(Loss::ContextMalformed), "no node");
        assert_eq!(look(&image, 0x300, 7, 0), Err(Loss::TagUnreadable), "unmapped");
        let pairs: Vec<u64> = (0..100).flat_map(|i| [i + 1000, i]).collect();
        image.put(0x400, &[1, TYPES.collision, u64::MAX, 0]);
        image.put(0x400 + PAIRS, &pairs);
        assert_eq!(look(&image, 0x400, 7, 0), Err(Loss::ContextMalformed), "too long");
    }

    #[test]
    fn folding_never_gives_the_hash_that_means_error() {
        assert_eq!(fold_hash(0x0000_0001_ffff_fffe), 0xffff_fffe);
        assert_eq!(fold_hash(0x1234_5678_0000_0000), 0x1234_5678);
    }
}
