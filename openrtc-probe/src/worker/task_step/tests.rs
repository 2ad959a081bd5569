//! The shapes that compilers gave the way to a task's step, in small, and those that must be refused.

use super::*;

const BASE: u64 = 0x1000;
/// The linker's stub of the sender, and the word that it jumps through.
const STUB: u64 = BASE + 0x200;
const SLOT: ElfAddr = ElfAddr(STUB + 6 + 0x100);

const PUSH_RBX: &[u8] = &[0x53];
const RET: &[u8] = &[0xc3];
const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
const CALL: u8 = 0xe8;
const JMP: u8 = 0xe9;

fn branch(opcode: u8, at: u64, to: u64) -> Vec<u8> {
    let distance = (to.wrapping_sub(at + 5) as u32).to_le_bytes();
    [&[opcode][..], &distance].concat()
}

/// `call [rip + ...]` through the sender's word.
fn call_slot(at: u64) -> Vec<u8> {
    [&[0xff, 0x15][..], &(SLOT.0.wrapping_sub(at + 6) as u32).to_le_bytes()].concat()
}

/// Functions, the first of which is the root, every 0x20 bytes, and the stub.
fn site_of(functions: &[Vec<u8>], minor: u8) -> Result<(u64, u64, String), String> {
    let mut bytes = vec![0x90; 0x220];
    for (index, function) in functions.iter().enumerate() {
        bytes[index * 0x20..index * 0x20 + function.len()].copy_from_slice(function);
    }
    bytes[0x200..0x206].copy_from_slice(&[0xff, 0x25, 0, 1, 0, 0]);
    let starts: Vec<_> = (0..16).map(|index| ElfAddr(BASE + index * 0x20)).collect();
    let code = MachineCode { bytes: &bytes, addr: BASE };
    let slots = HashSet::from([SLOT]);
    let program = Program { code, starts: &starts, sender: None, slots };
    let (function, site) = program.site(&[ElfAddr(BASE)], Shape::of(minor))?;
    Ok((function.0 - BASE, site.address.0 - BASE, site.registers[0].to_string()))
}

/// A function at `index` that branches to another and returns.
fn to(opcode: u8, index: u64, target: u64) -> Vec<u8> {
    [branch(opcode, BASE + index * 0x20, BASE + target * 0x20), RET.to_vec()].concat()
}

/// A function at `index` that calls the sender through the stub.
fn sends(index: u64) -> Vec<u8> {
    [PUSH_RBX, &branch(CALL, BASE + index * 0x20 + 1, STUB), RET].concat()
}

#[test]
fn the_task_is_the_first_argument_and_later_the_second() {
    let functions = [to(CALL, 0, 1), sends(1)];
    assert_eq!(site_of(&functions, 9), Ok((0x20, 0x20, "rdi".into())));
    assert_eq!(site_of(&functions, 11), Ok((0x20, 0x20, "rdi".into())));
    assert_eq!(site_of(&functions, 12), Ok((0x20, 0x20, "rsi".into())));
}

#[test]
fn the_sender_is_called_through_its_word_too() {
    let function = [ENDBR64, PUSH_RBX, &call_slot(BASE + 0x25), RET].concat();
    assert_eq!(site_of(&[to(CALL, 0, 1), function], 13), Ok((0x20, 0x24, "rsi".into())));
}

#[test]
fn three_hops_are_followed_and_not_four() {
    let three = [to(JMP, 0, 1), to(JMP, 1, 2), to(CALL, 2, 3), sends(3)];
    assert_eq!(site_of(&three, 12).map(|site| site.0), Ok(0x60));
    let four = [to(JMP, 0, 1), to(JMP, 1, 2), to(CALL, 2, 3), to(CALL, 3, 4), sends(4)];
    assert!(site_of(&four, 12).unwrap_err().ends_with("found: none"));
}

#[test]
fn short_jumps_are_followed() {
    // jmp rel8 to the next function but one, as 3.15 has it
    let functions = [vec![0xeb, 0x1e], to(CALL, 1, 2), sends(2)];
    assert_eq!(site_of(&functions, 15).map(|site| site.0), Ok(0x40));
}

#[test]
fn what_is_not_found_just_once_is_refused() {
    let both = [branch(CALL, BASE, BASE + 0x20), branch(CALL, BASE + 5, BASE + 0x40)].concat();
    let why = site_of(&[both, sends(1), sends(2)], 12).unwrap_err();
    assert_eq!(why, "one function within reach should call PyIter_Send, found: 0x1020, 0x1040");
    let none = site_of(&[RET.to_vec(), sends(1)], 9).unwrap_err();
    assert_eq!(none, "one function within reach should call _PyGen_Send, found: none");
}

#[test]
fn a_part_that_is_only_jumped_to_is_no_function() {
    let why = site_of(&[to(JMP, 0, 1), sends(1)], 12).unwrap_err();
    assert_eq!(why, "0x1020 calls PyIter_Send, but nothing calls it");
}

#[test]
fn a_task_that_is_not_in_a_register_is_refused() {
    // mov rsi, [rip + 0]
    let load = [0x48, 0x8b, 0x35, 0, 0, 0, 0];
    let lost = [&load[..], PUSH_RBX, &branch(CALL, BASE + 0x28, STUB), RET].concat();
    let why = site_of(&[to(CALL, 0, 1), lost], 12).unwrap_err();
    assert!(why.starts_with("no emulated instruction from 0x1020"), "{why}");
}

#[test]
fn a_root_that_is_no_known_function_is_refused() {
    let code = MachineCode { bytes: RET, addr: BASE };
    let program = Program { code, starts: &[], sender: None, slots: HashSet::new() };
    let why = program.step(&[ElfAddr(BASE)], "PyIter_Send").unwrap_err();
    assert_eq!(why, "0x1000 is not where a known function begins");
}
