//! Whether a small function leads to another one: by a call or a jump, directly or through the table
//! of the dynamic linker, as shared libraries call their own exported functions.

use iced_x86::{FlowControl, Instruction, OpKind, Register as Iced};

use super::{
    binary::ElfAddr,
    flow::{Flow, MachineCode},
};

/// Instructions of a linker's stub: a landing pad or a no-op, and the jump.
const MAX_STUB: usize = 3;

/// Whether the function at `from` calls or jumps to the one at `to`. `linked` says which function a
/// word of the file's data points at.
pub fn leads_to(
    code: MachineCode<'_>,
    from: ElfAddr,
    to: ElfAddr,
    linked: impl Fn(ElfAddr) -> Option<ElfAddr>,
) -> bool {
    let Ok(flow) = Flow::of(code, from) else { return false };
    flow.nodes.iter().any(|(address, node)| {
        *address == to
            || match node.instruction.flow_control() {
                FlowControl::Call => {
                    let target = ElfAddr(node.instruction.near_branch_target());
                    target == to || stub(code, target, &linked) == Some(to)
                }
                FlowControl::IndirectCall | FlowControl::IndirectBranch => {
                    through_table(&node.instruction, &linked) == Some(to)
                }
                _ => false,
            }
    })
}

/// Where the linker's stub at `at` jumps to, if there is one.
pub fn stub(
    code: MachineCode<'_>,
    at: ElfAddr,
    linked: &impl Fn(ElfAddr) -> Option<ElfAddr>,
) -> Option<ElfAddr> {
    let mut address = at;
    for _ in 0..MAX_STUB {
        let instruction = code.decode(address).ok()?;
        match instruction.flow_control() {
            FlowControl::IndirectBranch => return through_table(&instruction, linked),
            FlowControl::Next => address = ElfAddr(instruction.next_ip()),
            _ => return None,
        }
    }
    None
}

/// Where a jump or call through a word at a fixed place leads to.
pub fn through_table(
    instruction: &Instruction,
    linked: &impl Fn(ElfAddr) -> Option<ElfAddr>,
) -> Option<ElfAddr> {
    let is_fixed =
        instruction.op0_kind() == OpKind::Memory && instruction.memory_base() == Iced::RIP;
    if is_fixed { linked(ElfAddr(instruction.memory_displacement64())) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x1000;
    const TO: ElfAddr = ElfAddr(BASE + 0x40);
    const STUB: u64 = BASE + 0x20;
    /// Where the stub's word stands: it jumps through what is 0x100 behind its jump's end.
    const SLOT: ElfAddr = ElfAddr(STUB + 4 + 6 + 0x100);

    fn leads(function: &[u8]) -> bool {
        let mut bytes = vec![0x90; 0x50];
        bytes[..function.len()].copy_from_slice(function);
        // endbr64; jmp [rip+0x100]
        bytes[0x20..0x2a].copy_from_slice(&[0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25, 0, 1, 0, 0]);
        bytes[0x40] = 0xc3;
        let code = MachineCode { bytes: &bytes, addr: BASE };
        leads_to(code, ElfAddr(BASE), TO, |slot| (slot == SLOT).then_some(TO))
    }

    /// An opcode at the function's start, and how far `target` is from the instruction's end.
    fn branch(opcode: u8, target: u64) -> [u8; 6] {
        let distance = (target.wrapping_sub(BASE + 5) as u32).to_le_bytes();
        [opcode, distance[0], distance[1], distance[2], distance[3], 0xc3]
    }

    #[test]
    fn calls_and_jumps_lead_there_directly_and_through_the_linker() {
        for target in [TO.0, STUB] {
            assert!(leads(&branch(0xe8, target)), "call {target:#x}");
            assert!(leads(&branch(0xe9, target)), "jmp {target:#x}");
        }
    }

    #[test]
    fn a_function_that_does_it_itself_does_not() {
        assert!(!leads(&[0xc3]), "it returns");
        assert!(!leads(&branch(0xe8, BASE + 0x48)), "it calls something else");
        assert!(!leads(&[0xff, 0xd0, 0xc3]), "it calls what is in a register");
        assert!(!leads(&[0x06, 0xc3]), "it cannot be decoded");
    }
}
