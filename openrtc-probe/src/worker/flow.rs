//! What a function's registers hold at each of its instructions: a small data-flow analysis over
//! its machine code, just strong enough to know where an argument can still be read.
//!
//! A fact is kept only while every path agrees on it. Code is hostile input like everything else:
//! the walk is bounded and gives up with a reason.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess,
    OpKind, Register as Iced,
};

use super::{binary::ElfAddr, register::Register};

/// Instructions of one function that are looked at.
const MAX_INSTRUCTIONS: usize = 600;
/// Visits of one walk: each instruction again for every fact that a joining path takes away.
const MAX_VISITS: usize = 16 * MAX_INSTRUCTIONS;
/// `PyContext.ctx_entered`, behind the object's head, `ctx_prev`, `ctx_vars` and the weak
/// references: <https://github.com/python/cpython/blob/v3.11.7/Include/internal/pycore_context.h>.
const CONTEXT_ENTERED: u64 = 0x28;

/// What a register holds, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Held {
    /// Anything.
    #[default]
    Unknown,
    /// The argument of the function with this index.
    Argument(u8),
    /// What was read from `ctx_entered` of argument 0.
    Entered,
}

/// What all registers and the flags hold before an instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    registers: [Held; Register::ALL.len()],
    flags: Held,
}

impl State {
    /// At a function's entry: its first two arguments (System V ABI).
    pub fn at_entry() -> Self {
        let mut state = Self::default();
        state.put(Iced::RDI, Held::Argument(0));
        state.put(Iced::RSI, Held::Argument(1));
        state
    }

    fn put(&mut self, register: Iced, held: Held) {
        if let Some(slot) = Register::index(register).and_then(|i| self.registers.get_mut(i)) {
            *slot = held;
        }
    }

    fn get(&self, register: Iced) -> Held {
        let index = Register::index(register);
        index.and_then(|i| self.registers.get(i)).copied().unwrap_or_default()
    }

    /// A register that holds the argument `index`.
    pub fn holder(&self, index: u8) -> Option<Register> {
        let at = self.registers.iter().position(|held| *held == Held::Argument(index))?;
        Register::ALL.get(at).copied()
    }

    /// Whether `register` holds the argument `index`.
    pub fn holds(&self, register: Iced, index: u8) -> bool {
        self.get(register) == Held::Argument(index)
    }

    /// Whether the flags tell if argument 0, a context, is entered.
    pub fn flags_tell_entered(&self) -> bool {
        self.flags == Held::Entered
    }

    /// Keeps only what `other` agrees on; says whether anything was lost.
    fn meet(&mut self, other: &State) -> bool {
        let before = *self;
        for (ours, theirs) in self.registers.iter_mut().zip(&other.registers) {
            if ours != theirs {
                *ours = Held::Unknown;
            }
        }
        if self.flags != other.flags {
            self.flags = Held::Unknown;
        }
        *self != before
    }

    /// The state after `instruction`.
    pub fn after(&self, instruction: &Instruction, info: &mut InstructionInfoFactory) -> State {
        let mut next = *self;
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => {
                next.registers[..Register::CALLER_SAVED].fill(Held::Unknown);
                next.flags = Held::Unknown;
                return next;
            }
            _ => {}
        }
        for used in info.info(instruction).used_registers() {
            let written = !matches!(
                used.access(),
                OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
            );
            if written {
                next.put(used.register(), Held::Unknown);
            }
        }
        if let Some(held) = self.loaded(instruction) {
            next.put(instruction.op0_register(), held);
        }
        if instruction.rflags_modified() != 0 {
            next.flags = self.tested(instruction);
        }
        next
    }

    /// What a plain load or copy puts into its first operand.
    fn loaded(&self, instruction: &Instruction) -> Option<Held> {
        match instruction.code() {
            Code::Mov_rm64_r64 | Code::Mov_r64_rm64 if both_registers(instruction) => {
                Some(self.get(instruction.op1_register()))
            }
            Code::Mov_r32_rm32 if self.reads_entered(instruction, 1) => Some(Held::Entered),
            _ => None,
        }
    }

    /// What the flags tell after an instruction that sets them.
    fn tested(&self, instruction: &Instruction) -> Held {
        let register = instruction.op0_register();
        let tells = match instruction.code() {
            Code::Test_rm32_r32 => {
                both_registers(instruction)
                    && register == instruction.op1_register()
                    && self.get(register) == Held::Entered
            }
            Code::Cmp_rm32_imm8 | Code::Cmp_rm32_imm32 | Code::Cmp_EAX_imm32 => {
                let loaded = instruction.op0_kind() == OpKind::Register
                    && self.get(register) == Held::Entered;
                instruction.immediate(1) == 0 && (loaded || self.reads_entered(instruction, 0))
            }
            _ => false,
        };
        if tells { Held::Entered } else { Held::Unknown }
    }

    /// Whether the operand is `ctx_entered` of argument 0 in memory.
    fn reads_entered(&self, instruction: &Instruction, operand: u32) -> bool {
        instruction.op_kind(operand) == OpKind::Memory
            && instruction.memory_index() == Iced::None
            && instruction.memory_displacement64() == CONTEXT_ENTERED
            && self.holds(instruction.memory_base(), 0)
    }
}

fn both_registers(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::Register && instruction.op1_kind() == OpKind::Register
}

/// Machine code and the address it has in its file.
#[derive(Clone, Copy, Debug)]
pub struct MachineCode<'c> {
    /// The bytes of a segment.
    pub bytes: &'c [u8],
    /// The address of the first.
    pub addr: u64,
}

impl MachineCode<'_> {
    /// The instruction at `addr`.
    pub fn decode(&self, addr: ElfAddr) -> Result<Instruction, String> {
        let bytes = addr.0.checked_sub(self.addr).and_then(|at| self.bytes.get(at as usize..));
        let bytes = bytes
            .filter(|bytes| !bytes.is_empty())
            .ok_or_else(|| format!("its code leads to {addr}, outside the file"))?;
        let instruction = Decoder::with_ip(64, bytes, addr.0, DecoderOptions::NONE).decode();
        if instruction.is_invalid() {
            return Err(format!("there is no valid instruction at {addr}"));
        }
        Ok(instruction)
    }

    /// Whether the kernel emulates the instruction when a probe stands on it, instead of copying it
    /// out and single-stepping it: `push`, `nop`, `jmp`, `call` and conditional jumps, each without
    /// prefixes but for the one that names the upper registers (kernel 4.16 and later):
    /// <https://github.com/torvalds/linux/blob/v6.12/arch/x86/kernel/uprobes.c>.
    pub fn is_emulated(&self, instruction: &Instruction) -> bool {
        let Some(at) = instruction.ip().checked_sub(self.addr) else { return false };
        let Some(bytes) = self.bytes.get(at as usize..) else { return false };
        match instruction.len() {
            // push of any register but the stack pointer, nop
            1 => matches!(bytes, [0x50..=0x53 | 0x55..=0x57 | 0x90, ..]),
            // push of an upper register, jmp rel8, jcc rel8
            2 => matches!(bytes, [0x41, 0x50..=0x57, ..] | [0xeb | 0x70..=0x7f, ..]),
            // call rel32, jmp rel32
            5 => matches!(bytes, [0xe8 | 0xe9, ..]),
            // jcc rel32
            6 => matches!(bytes, [0x0f, 0x80..=0x8f, ..]),
            _ => false,
        }
    }
}

/// One instruction in the flow of a function.
#[derive(Clone, Debug)]
pub struct Node {
    /// The instruction.
    pub instruction: Instruction,
    /// What is known before it.
    pub state: State,
    /// Where it may lead inside the function.
    pub next: Vec<ElfAddr>,
}

/// A function's instructions, by address, as far as they can be reached from its entry.
#[derive(Clone, Debug)]
pub struct Flow {
    /// The function's entry.
    pub entry: ElfAddr,
    /// Its instructions.
    pub nodes: BTreeMap<ElfAddr, Node>,
}

impl Flow {
    /// Follows a function from its entry, until nothing new is learnt.
    ///
    /// # Errors
    /// Says what in the code could not be followed.
    pub fn of(code: MachineCode<'_>, entry: ElfAddr) -> Result<Self, String> {
        let mut info = InstructionInfoFactory::new();
        let mut nodes = BTreeMap::<ElfAddr, Node>::new();
        let mut open = vec![(entry, State::at_entry())];
        let mut visits = 0;
        while let Some((addr, state)) = open.pop() {
            visits += 1;
            if nodes.len() > MAX_INSTRUCTIONS || visits > MAX_VISITS {
                return Err(format!("it is longer than {MAX_INSTRUCTIONS} instructions"));
            }
            let node = match nodes.entry(addr) {
                Entry::Occupied(known) => {
                    let node = known.into_mut();
                    if !node.state.meet(&state) {
                        continue;
                    }
                    node
                }
                Entry::Vacant(place) => {
                    let instruction = code.decode(addr)?;
                    let next = successors(&instruction);
                    place.insert(Node { instruction, state, next })
                }
            };
            let after = node.state.after(&node.instruction, &mut info);
            open.extend(node.next.iter().map(|next| (*next, after)));
        }
        Ok(Self { entry, nodes })
    }

    /// Everything that can run after the instruction at `from`, without passing `avoid`.
    pub fn after(&self, from: ElfAddr, avoid: Option<ElfAddr>) -> BTreeSet<ElfAddr> {
        self.reach(self.nodes.get(&from).map(|node| node.next.clone()), avoid)
    }

    /// Everything that can run in the function without passing `avoid`.
    pub fn without(&self, avoid: ElfAddr) -> BTreeSet<ElfAddr> {
        self.reach(Some(vec![self.entry]), Some(avoid))
    }

    fn reach(&self, from: Option<Vec<ElfAddr>>, avoid: Option<ElfAddr>) -> BTreeSet<ElfAddr> {
        let mut open = from.unwrap_or_default();
        let mut reached = BTreeSet::new();
        while let Some(addr) = open.pop() {
            if Some(addr) != avoid && reached.insert(addr) {
                open.extend(self.nodes.get(&addr).iter().flat_map(|node| &node.next));
            }
        }
        reached
    }
}

fn successors(instruction: &Instruction) -> Vec<ElfAddr> {
    let falls_to = ElfAddr(instruction.next_ip());
    let jumps_to = || ElfAddr(instruction.near_branch_target());
    match instruction.flow_control() {
        FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => vec![falls_to],
        FlowControl::ConditionalBranch => vec![falls_to, jumps_to()],
        FlowControl::UnconditionalBranch => vec![jumps_to()],
        FlowControl::IndirectBranch
        | FlowControl::Return
        | FlowControl::Interrupt
        | FlowControl::XbeginXabortXend
        | FlowControl::Exception => Vec::new(),
    }
}
