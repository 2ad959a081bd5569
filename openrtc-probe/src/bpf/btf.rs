//! The kernel's type information, read once from its first byte to its last: a few names are asked for, and an
//! index of all the others takes longer to build than the rest of an attach.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail, ensure};

const MAGIC: u16 = 0xeb9f;
/// What every type begins with: its name, kind and length, and its size or another type.
const TYPE_BYTES: usize = 12;

/// Kinds of types, by the kernel's numbers.
mod kind {
    pub const STRUCT: u32 = 4;
    pub const ENUM: u32 = 6;
}

/// Bytes that follow a type of each kind, whatever its length and for each of its members; `include/uapi/linux/btf.h`.
const FOLLOW: [(usize, usize); 20] = [
    (0, 0),  // void
    (4, 0),  // integer
    (0, 0),  // pointer
    (12, 0), // array
    (0, 12), // struct
    (0, 12), // union
    (0, 8),  // enum
    (0, 0),  // forward
    (0, 0),  // typedef
    (0, 0),  // volatile
    (0, 0),  // const
    (0, 0),  // restrict
    (0, 0),  // function
    (0, 8),  // prototype
    (4, 0),  // variable
    (0, 12), // section
    (0, 0),  // float
    (4, 0),  // tag of a declaration
    (0, 0),  // tag of a type
    (0, 12), // enum of 64 bits
];

/// What was asked for, as far as it is there.
pub struct Types<'a> {
    strings: &'a [u8],
    structs: HashMap<&'a [u8], Vec<Members<'a>>>,
    enums: HashMap<&'a [u8], Vec<Members<'a>>>,
}

/// The members of a type, as they stand there.
#[derive(Clone, Copy)]
struct Members<'a> {
    bytes: &'a [u8],
    /// Whether the upper eight bits of a place say how wide the member is.
    has_widths: bool,
}

impl<'a> Types<'a> {
    /// Finds the types of these names.
    pub fn find(bytes: &'a [u8], structs: &[&str], enums: &[&str]) -> Result<Types<'a>> {
        let magic = bytes.first_chunk().map(|word| u16::from_le_bytes(*word));
        ensure!(magic == Some(MAGIC), "this is no type information");
        let header = |index: usize| Some(word(bytes, 4 + index * 4)? as usize);
        let part = |start: usize| {
            let from = header(0)?.checked_add(header(start)?)?;
            bytes.get(from..from.checked_add(header(start + 1)?)?)
        };
        let mut rest = part(1).context("it has no types")?;
        let strings = part(3).context("it has no names")?;
        let mut found = Types { strings, structs: HashMap::new(), enums: HashMap::new() };
        while !rest.is_empty() {
            let (name, info, members, after) = split(rest).context("a type is cut off")?;
            let (wanted, into) = match (info >> 24) & 0x1f {
                kind::STRUCT => (structs, &mut found.structs),
                kind::ENUM => (enums, &mut found.enums),
                _ => (&[][..], &mut found.enums),
            };
            if !wanted.is_empty()
                && let Some(name) = text(strings, name)
                && wanted.iter().any(|wanted| wanted.as_bytes() == name)
            {
                let members = Members { bytes: members, has_widths: info >> 31 != 0 };
                into.entry(name).or_default().push(members);
            }
            rest = after;
        }
        Ok(found)
    }

    /// Where in a structure the first of these fields stands that it has, in bytes.
    pub fn field(&self, structure: &str, names: &[&str]) -> Result<u32> {
        for found in self.structs.get(structure.as_bytes()).into_iter().flatten() {
            for member in found.bytes.chunks_exact(12) {
                let (Some(name), Some(place)) = (word(member, 0), word(member, 8)) else {
                    continue;
                };
                if names.iter().any(|wanted| text(self.strings, name) == Some(wanted.as_bytes())) {
                    let bits = if found.has_widths { place & 0x00ff_ffff } else { place };
                    return Ok(bits / 8);
                }
            }
        }
        bail!("the kernel's {structure} has no field {}", names.join(" or "))
    }

    /// Whether an enumeration has a member of this name.
    pub fn has(&self, enumeration: &str, name: &str) -> bool {
        let named = |member: &[u8]| {
            word(member, 0).and_then(|at| text(self.strings, at)) == Some(name.as_bytes())
        };
        let mut found = self.enums.get(enumeration.as_bytes()).into_iter().flatten();
        found.any(|found| found.bytes.chunks_exact(8).any(named))
    }
}

/// The first type: its name, what it is, its members, and what comes after it.
fn split(types: &[u8]) -> Option<(u32, u32, &[u8], &[u8])> {
    let (name, info) = (word(types, 0)?, word(types, 4)?);
    let (fixed, each) = *FOLLOW.get(((info >> 24) & 0x1f) as usize)?;
    let (members, after) =
        types.get(TYPE_BYTES..)?.split_at_checked(fixed + each * (info & 0xffff) as usize)?;
    Some((name, info, members, after))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn text(strings: &[u8], at: u32) -> Option<&[u8]> {
    let rest = strings.get(at as usize..)?;
    rest.split(|byte| *byte == 0).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[u8] = b"\0task\0pid\0state\0ids\0ONE\0TWO\0";

    fn at(name: &str) -> u32 {
        let sought = [b"\0", name.as_bytes(), b"\0"].concat();
        let found = NAMES.windows(sought.len()).position(|window| window == sought);
        found.unwrap() as u32 + 1
    }

    /// `struct task { .. pid at bit 64; .. state at bit 160, three wide }`, after an integer, and `enum ids { ONE }`.
    fn bytes() -> Vec<u8> {
        let wide = 1 << 31;
        let types = [
            [0, 1 << 24, 4, 32].as_slice(),
            &[at("task"), wide | kind::STRUCT << 24 | 2, 64],
            &[at("pid"), 1, 64],
            &[at("state"), 1, 3 << 24 | 0xa0],
            &[at("ids"), kind::ENUM << 24 | 1, 4],
            &[at("ONE"), 1],
        ]
        .concat();
        let header = [24, 0, types.len() as u32 * 4, types.len() as u32 * 4, NAMES.len() as u32];
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        bytes.extend([1, 0]);
        bytes.extend(header.iter().chain(&types).flat_map(|word| word.to_le_bytes()));
        bytes.extend(NAMES);
        bytes
    }

    #[test]
    fn fields_and_members_by_name() {
        let bytes = bytes();
        let types = Types::find(&bytes, &["task"], &["ids"]).unwrap();
        assert_eq!(types.field("task", &["pid"]).unwrap(), 8);
        assert_eq!(types.field("task", &["__state", "state"]).unwrap(), 20);
        assert!(types.has("ids", "ONE"));
        assert!(!types.has("ids", "TWO"));
        let missing = types.field("task", &["se", "entity"]).unwrap_err().to_string();
        assert_eq!(missing, "the kernel's task has no field se or entity");
        assert!(Types::find(&bytes, &[], &[]).unwrap().field("task", &["pid"]).is_err());
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let bytes = bytes();
        for length in 0..bytes.len() {
            assert!(Types::find(&bytes[..length], &["task"], &["ids"]).is_err(), "{length}");
        }
        assert!(Types::find(b"\x7fELF and more that is not it", &[], &[]).is_err());
    }
}
