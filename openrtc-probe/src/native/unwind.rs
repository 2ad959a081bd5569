//! From a function to its caller, by the tables for unwinding that every file loads (`.eh_frame`).
//!
//! Only what the tables say is done: where they do not cover an address the stack ends, since a walk along
//! frame pointers would be a guess in code that keeps none. Expressions in them are programs of the worker's,
//! and are run for a bounded number of operations.
//!
//! Source: System V ABI, AMD64 supplement, 3.6.2 (numbers of registers) and 3.7 (unwinding),
//! <https://gitlab.com/x86-psABIs/x86-64-ABI>.

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EhFrameOffset, Encoding, EndianSlice,
    EvaluationResult, Expression, LittleEndian, Location, ParsedEhFrameHdr, Register, RegisterRule,
    UnwindContext, UnwindSection as _, Value,
};

use crate::cpython::memory::{ReadMemory, RemoteAddr};

use super::{
    Registers,
    image::{Image, Place, Source},
};

/// Bytes of one file's tables that are read.
const MAX_TABLE_BYTES: u64 = 48 << 20;
/// Functions of one file that are known; the largest libraries have some 200,000.
const MAX_FUNCTIONS: usize = 1 << 20;
/// How far from where it begins a stack is read, in bytes: the usual limit of a main thread's.
const MAX_STACK_BYTES: u64 = 8 << 20;
/// Operations of one expression: those that compilers write have less than twenty.
const MAX_OPERATIONS: u32 = 256;

/// Registers by their DWARF numbers: sixteen, and the return address.
const REGISTERS: usize = 17;
const RBX: usize = 3;
const RBP: usize = 6;
const RSP: usize = 7;
const RETURN_ADDRESS: usize = 16;
/// Those that a function gives back to its caller as they were.
const KEPT: [usize; 6] = [RBX, RBP, 12, 13, 14, 15];

type Bytes<'b> = EndianSlice<'b, LittleEndian>;

/// What is known of the registers in one function.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    registers: [Option<u64>; REGISTERS],
    /// Whether `ip` is an instruction that is about to run, and not one behind a call.
    is_exact: bool,
}

impl Frame {
    /// The innermost function.
    pub fn new(Registers { ip, sp, bp }: Registers) -> Self {
        let mut registers = [None; REGISTERS];
        registers[RETURN_ADDRESS] = Some(ip);
        registers[RSP] = Some(sp);
        registers[RBP] = bp;
        Self { registers, is_exact: true }
    }

    /// Where it goes on.
    pub fn ip(&self) -> u64 {
        self.registers[RETURN_ADDRESS].unwrap_or_default()
    }

    /// An address in the instruction that it is in: a call may be a function's last.
    pub fn looked_up(&self) -> u64 {
        self.ip().wrapping_sub(u64::from(!self.is_exact))
    }

    fn get(&self, register: Register) -> Option<u64> {
        self.registers.get(usize::from(register.0)).copied().flatten()
    }
}

/// A thread's stack in the memory `M`.
pub struct Stack<'m, M> {
    memory: &'m M,
    low: u64,
}

impl<'m, M: ReadMemory> Stack<'m, M> {
    /// From the stack pointer `sp` upwards.
    pub fn new(memory: &'m M, sp: u64) -> Self {
        Self { memory, low: sp }
    }

    fn word(&self, at: u64) -> Option<u64> {
        at.checked_sub(self.low).filter(|into| *into < MAX_STACK_BYTES)?;
        self.memory.read(RemoteAddr(at)).ok()
    }
}

/// What unwinding needs besides the tables, kept to be used again.
#[derive(Default)]
pub struct Unwinder {
    context: Box<UnwindContext<usize>>,
}

/// The tables of one file.
pub struct Tables {
    functions: Vec<Function>,
    entries: Vec<u8>,
    bases: BaseAddresses,
}

/// Where a function begins, and how far into the entries its own stands.
struct Function {
    start: u64,
    entry: usize,
}

impl Tables {
    /// Reads them; `None` where there are none, or none that can be searched.
    pub fn read(source: &Source, image: &Image) -> Option<Self> {
        let place = image.unwind_index.filter(|place| place.length <= MAX_TABLE_BYTES)?;
        let index = source.read(place.offset, place.length)?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(place.addr);
        let parsed = EhFrameHdr::new(&index, LittleEndian).parse(&bases, 8).ok()?;
        let start = parsed.eh_frame_ptr().direct().ok()?;
        let Place { offset, length, .. } =
            image.rest_from(start).filter(|place| place.length <= MAX_TABLE_BYTES)?;
        let entries = source.read(offset, length)?;
        let functions = functions(&parsed, &bases, start)?;
        Some(Self { functions, entries, bases: bases.set_eh_frame(start) })
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        self.functions.len() * size_of::<Function>() + self.entries.len()
    }

    /// The caller of `frame`, whose file is loaded `base` above its own addresses.
    pub fn caller<M: ReadMemory>(
        &self,
        unwinder: &mut Unwinder,
        frame: &Frame,
        base: u64,
        stack: &Stack<'_, M>,
    ) -> Option<Frame> {
        let entries = EhFrame::from(EndianSlice::new(&self.entries, LittleEndian));
        let addr = frame.looked_up().wrapping_sub(base);
        let end = self.functions.partition_point(|function| function.start <= addr);
        let entry = EhFrameOffset(self.functions.get(end.checked_sub(1)?)?.entry);
        let read = entries.fde_from_offset(&self.bases, entry, EhFrame::cie_from_offset);
        let function = read.ok().filter(|function| function.contains(addr))?;
        let context = &mut unwinder.context;
        let row = function.unwind_info_for_address(&entries, &self.bases, context, addr).ok()?;
        let encoding = function.cie().encoding();
        let rules = Rules { entries: &entries, encoding, frame, stack };
        let cfa = rules.cfa(row.cfa())?;
        // Every call leaves something on the stack: what does not go up goes round.
        if cfa <= frame.registers[RSP]? {
            return None;
        }
        let mut outer =
            Frame { registers: [None; REGISTERS], is_exact: function.is_signal_trampoline() };
        for number in KEPT {
            let rule = row.register(Register(number as u16));
            outer.registers[number] =
                rules.value(number, &rule.unwrap_or(RegisterRule::SameValue), cfa);
        }
        let back = row.register(Register(RETURN_ADDRESS as u16)).unwrap_or(RegisterRule::Undefined);
        let back = rules.value(RETURN_ADDRESS, &back, cfa).filter(|back| *back != 0)?;
        outer.registers[RETURN_ADDRESS] = Some(back);
        outer.registers[RSP] = Some(cfa);
        Some(outer)
    }
}

/// The functions of an index whose entries begin at `entries`, by where they begin. It is read once and in order: the
/// library's own look-up believes the index, whose numbers may be any.
fn functions(
    index: &ParsedEhFrameHdr<Bytes<'_>>,
    bases: &BaseAddresses,
    entries: u64,
) -> Option<Vec<Function>> {
    let table = index.table()?;
    let mut rows = table.iter(bases);
    let mut functions = Vec::new();
    while let Some((start, entry)) = rows.next().ok()? {
        let (start, entry) = (start.direct().ok()?, entry.direct().ok()?);
        if let Some(entry) = entry.checked_sub(entries) {
            functions.push(Function { start, entry: entry as usize });
        }
        if functions.len() >= MAX_FUNCTIONS {
            break;
        }
    }
    functions.sort_unstable_by_key(|function| function.start);
    Some(functions)
}

/// The rules of one row of a table, and what they are applied to.
struct Rules<'r, M> {
    entries: &'r EhFrame<Bytes<'r>>,
    encoding: Encoding,
    frame: &'r Frame,
    stack: &'r Stack<'r, M>,
}

impl<M: ReadMemory> Rules<'_, M> {
    /// The canonical frame address: the stack pointer before the call.
    fn cfa(&self, rule: &CfaRule<usize>) -> Option<u64> {
        match rule {
            CfaRule::RegisterAndOffset { register, offset } => {
                Some(self.frame.get(*register)?.wrapping_add_signed(*offset))
            }
            CfaRule::Expression(expression) => self.run(expression.get(self.entries).ok()?, None),
        }
    }

    /// The caller's value of register `number`.
    fn value(&self, number: usize, rule: &RegisterRule<usize>, cfa: u64) -> Option<u64> {
        match rule {
            RegisterRule::SameValue => self.frame.registers.get(number).copied().flatten(),
            RegisterRule::Offset(offset) => self.stack.word(cfa.wrapping_add_signed(*offset)),
            RegisterRule::ValOffset(offset) => Some(cfa.wrapping_add_signed(*offset)),
            RegisterRule::Register(register) => self.frame.get(*register),
            RegisterRule::Expression(expression) => {
                self.stack.word(self.run(expression.get(self.entries).ok()?, Some(cfa))?)
            }
            RegisterRule::ValExpression(expression) => {
                self.run(expression.get(self.entries).ok()?, Some(cfa))
            }
            _ => None,
        }
    }

    /// What an expression computes, from `start` on its stack.
    fn run(&self, expression: Expression<Bytes<'_>>, start: Option<u64>) -> Option<u64> {
        let mut evaluation = expression.evaluation(self.encoding);
        evaluation.set_max_iterations(MAX_OPERATIONS);
        if let Some(start) = start {
            evaluation.set_initial_value(start);
        }
        let mut state = evaluation.evaluate().ok()?;
        for _ in 0..MAX_OPERATIONS {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = Value::Generic(self.frame.get(register)?);
                    evaluation.resume_with_register(value).ok()?
                }
                EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                    let value = Value::Generic(self.stack.word(address)?);
                    evaluation.resume_with_memory(value).ok()?
                }
                _ => return None,
            };
        }
        match evaluation.as_result().first()?.location {
            Location::Address { address } => Some(address),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpython::memory::image::Image as Memory;

    /// Where the entries of the tables are loaded, and the code that they are about.
    const ENTRIES: u64 = 0x2000;
    const CODE: u64 = 0x8000;

    fn entry(id: u32, rest: &[u8]) -> Vec<u8> {
        let padding = vec![0; rest.len().wrapping_neg() % 4];
        let length = 4 + rest.len() + padding.len();
        [&(length as u32).to_le_bytes()[..], &id.to_le_bytes(), rest, &padding].concat()
    }

    /// Tables for one function of 256 bytes at `CODE`, with these instructions.
    fn tables(instructions: &[u8]) -> Tables {
        // Version 1, no augmentation, factors 1 and -8, return address in 16; CFA = rsp + 8, back at CFA - 8.
        let mut entries = entry(0, &[1, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1]);
        let at = entries.len() as u64;
        let range = [CODE.to_le_bytes(), 256_u64.to_le_bytes()].concat();
        entries.extend(entry(at as u32 + 4, &[range, instructions.to_vec()].concat()));
        entries.extend([0; 4]);
        let functions = vec![Function { start: CODE, entry: at as usize }];
        let bases = BaseAddresses::default().set_eh_frame(ENTRIES);
        Tables { functions, entries, bases }
    }

    fn caller(instructions: &[u8]) -> Option<Frame> {
        let mut memory = Memory::default();
        memory.words(0x7000, &[0x1111, 0x2222, 0x3333, 0x4444]);
        let frame = Frame::new(Registers { ip: CODE + 16, sp: 0x7000, bp: None });
        let stack = Stack::new(&memory, 0x7000);
        tables(instructions).caller(&mut Unwinder::default(), &frame, 0, &stack)
    }

    #[test]
    fn the_caller_is_on_the_stack() {
        let plain = caller(&[]).unwrap();
        assert_eq!((plain.ip(), plain.registers[RSP]), (0x1111, Some(0x7008)));
        assert_eq!(plain.looked_up(), 0x1110, "the call itself");
        // CFA = rsp + 24, rbp at CFA - 16.
        let pushed = caller(&[0x0e, 24, 0x86, 2]).unwrap();
        assert_eq!((pushed.ip(), pushed.registers[RBP]), (0x3333, Some(0x2222)));
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        // CFA = rbp + 16, which nobody knows.
        assert!(caller(&[0x0c, 6, 16]).is_none());
        // CFA = rsp, rsp - 8: round and round.
        assert!(caller(&[0x0e, 0]).is_none());
        // CFA = rsp + 2^20: nothing is mapped there.
        assert!(caller(&[0x0e, 0x80, 0x80, 0x40]).is_none());
        // No return address: the outermost function.
        assert!(caller(&[0x07, 16]).is_none());
        let frame = Frame::new(Registers { ip: CODE + 256, sp: 0x7000, bp: Some(0x7000) });
        let memory = Memory::default();
        let stack = Stack::new(&memory, 0x7000);
        assert!(
            tables(&[]).caller(&mut Unwinder::default(), &frame, 0, &stack).is_none(),
            "not covered"
        );
    }

    #[test]
    fn an_endless_expression_ends() {
        // CFA = {skip -3}.
        assert!(caller(&[0x0f, 3, 0x2f, 0xfd, 0xff]).is_none());
        // CFA = {rsp, constant 8, plus}: as compilers write it for stubs.
        assert_eq!(caller(&[0x0f, 4, 0x77, 0, 0x23, 8]).unwrap().ip(), 0x1111);
        // Pushes for ever.
        assert!(caller(&[0x0f, 4, 0x31, 0x2f, 0xfc, 0xff]).is_none());
    }

    #[test]
    fn broken_tables_have_no_caller() {
        for length in 0..64 {
            for byte in [0, 0x7f, 0xff] {
                let mut broken = tables(&[0x0e, 24]);
                broken.entries.truncate(length);
                if let Some(last) = broken.entries.last_mut() {
                    *last = byte;
                }
                let memory = Memory::default();
                let frame = Frame::new(Registers { ip: CODE + 16, sp: 0x7000, bp: None });
                let stack = Stack::new(&memory, 0x7000);
                assert!(broken.caller(&mut Unwinder::default(), &frame, 0, &stack).is_none());
            }
        }
    }
}
