//! Every instruction that calls or jumps to a function directly.
//!
//! Bytes that look like such a branch are searched for, and each find is believed only if decoding its
//! function from the beginning comes to it: a probe between two instructions would destroy code.

use iced_x86::FlowControl;

use super::{
    binary::ElfAddr,
    flow::{Flow, MachineCode},
};

/// Bytes of one function that are decoded to come to a branch in it.
pub const MAX_FUNCTION_BYTES: u64 = 1 << 20;
/// Branches that are looked at.
const MAX_BRANCHES: usize = 64;

/// The branches to `target` in the code, by address. `functions` are the starts of all functions, in
/// ascending order; `known` are functions whose instructions are known already.
///
/// # Errors
/// Says which branch cannot be told from other bytes, or is taken only sometimes.
pub fn of(
    code: MachineCode<'_>,
    target: ElfAddr,
    functions: &[ElfAddr],
    known: &[&Flow],
) -> Result<Vec<ElfAddr>, String> {
    let mut found = Vec::new();
    for at in look_alikes(code, target) {
        let is_known = known.iter().any(|flow| flow.nodes.contains_key(&at));
        if is_known || is_instruction(code, at, functions)? {
            let conditional = code.decode(at)?.flow_control() == FlowControl::ConditionalBranch;
            if conditional || found.len() >= MAX_BRANCHES {
                return Err(format!(
                    "{at} is one of too many ways to {target}, or taken sometimes"
                ));
            }
            found.push(at);
        }
    }
    Ok(found)
}

/// Places where the bytes of a direct call, jump or conditional jump to `target` stand.
fn look_alikes(code: MachineCode<'_>, target: ElfAddr) -> impl Iterator<Item = ElfAddr> {
    let leads = move |at: usize, length: usize, bytes: &[u8]| {
        let next = code.addr.wrapping_add((at + length) as u64);
        let distance = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        next.wrapping_add_signed(distance.into()) == target.0
    };
    code.bytes.windows(6).enumerate().filter_map(move |(at, bytes)| {
        let is_branch = match bytes {
            [0xe8 | 0xe9, distance @ ..] => leads(at, 5, distance),
            [0x0f, 0x80..=0x8f, distance @ ..] => leads(at, 6, distance),
            _ => false,
        };
        is_branch.then(|| ElfAddr(code.addr + at as u64))
    })
}

/// Whether decoding the function around `at` from its beginning comes to `at`.
fn is_instruction(
    code: MachineCode<'_>,
    at: ElfAddr,
    functions: &[ElfAddr],
) -> Result<bool, String> {
    let unknown = || format!("a branch at {at} is in no function that is known");
    let index = functions.partition_point(|start| *start <= at);
    let start =
        *index.checked_sub(1).and_then(|before| functions.get(before)).ok_or_else(unknown)?;
    if at.0 - start.0 > MAX_FUNCTION_BYTES {
        return Err(unknown());
    }
    let mut next = start;
    while next < at {
        next = ElfAddr(code.decode(next)?.next_ip());
    }
    Ok(next == at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x1000;
    const TARGET: ElfAddr = ElfAddr(BASE + 0x80);

    /// Code with these bytes at these places, and `nop` elsewhere.
    fn code(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0x90; 0x100];
        for (at, part) in parts {
            bytes[*at..at + part.len()].copy_from_slice(part);
        }
        bytes
    }

    fn branch(opcode: &[u8], at: u64) -> Vec<u8> {
        let next = BASE + at + opcode.len() as u64 + 4;
        [opcode, &(TARGET.0.wrapping_sub(next) as u32).to_le_bytes()].concat()
    }

    fn callers(bytes: &[u8], functions: &[u64]) -> Result<Vec<u64>, String> {
        let code = MachineCode { bytes, addr: BASE };
        let functions: Vec<_> = functions.iter().map(|at| ElfAddr(BASE + at)).collect();
        Ok(of(code, TARGET, &functions, &[])?.iter().map(|at| at.0 - BASE).collect())
    }

    #[test]
    fn calls_and_jumps_from_before_and_behind_are_found() {
        let (call, jump) = (branch(&[0xe8], 0x10), branch(&[0xe9], 0xc0));
        let bytes = code(&[(0x10, &call), (0xc0, &jump)]);
        assert_eq!(callers(&bytes, &[0, 0xb0]), Ok(vec![0x10, 0xc0]));
        assert!(callers(&bytes, &[0x20, 0xb0]).is_err(), "the first is in no function");
    }

    #[test]
    fn bytes_within_another_instruction_are_no_branch() {
        // mov rax, imm64, in which a call's bytes stand
        let call = branch(&[0xe8], 0x12);
        let bytes = code(&[(0x10, &[0x48, 0xb8]), (0x12, &call)]);
        assert_eq!(callers(&bytes, &[0]), Ok(vec![]));
    }

    #[test]
    fn a_branch_that_is_taken_sometimes_is_refused() {
        let bytes = code(&[(0x10, &branch(&[0x0f, 0x85], 0x10))]);
        assert!(callers(&bytes, &[0]).is_err());
    }
}
