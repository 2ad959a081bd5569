//! The shapes that compilers gave the real functions, in small, and shapes that must be refused.

use std::collections::HashMap;

use super::*;

/// Where the test's code begins, in the file's addresses and in the file.
const BASE: u64 = 0x1000;
const OFFSET: FileOffset = FileOffset(0x400);
/// Functions elsewhere in the same code.
const ENTER_IMPL: u64 = BASE + 0x400;
const EXIT_IMPL: u64 = BASE + 0x410;
const CALLEE: u64 = BASE + 0x420;

/// Just enough of an assembler: raw bytes, and branches to labels.
#[derive(Default)]
struct Asm {
    bytes: Vec<u8>,
    labels: HashMap<&'static str, usize>,
    patches: Vec<(usize, &'static str)>,
}

impl Asm {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }
    fn label(mut self, name: &'static str) -> Self {
        self.labels.insert(name, self.bytes.len());
        self
    }
    fn branch(mut self, opcode: &[u8], label: &'static str) -> Self {
        self.bytes.extend(opcode);
        self.patches.push((self.bytes.len(), label));
        self.raw(&[0; 4])
    }
    fn je(self, label: &'static str) -> Self {
        self.branch(&[0x0f, 0x84], label)
    }
    fn jne(self, label: &'static str) -> Self {
        self.branch(&[0x0f, 0x85], label)
    }
    fn jmp(self, label: &'static str) -> Self {
        self.branch(&[0xe9], label)
    }
    fn call(self, target: u64) -> Self {
        let next = BASE + self.bytes.len() as u64 + 5;
        self.raw(&[0xe8]).raw(&(target.wrapping_sub(next) as u32).to_le_bytes())
    }
    fn done(mut self) -> Vec<u8> {
        for (at, label) in &self.patches {
            let distance = self.labels[label] as i32 - (*at as i32 + 4);
            self.bytes[*at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        self.bytes
    }
}

const PUSH_RBX: &[u8] = &[0x53];
const PUSH_RBP: &[u8] = &[0x55];
const PUSH_R12: &[u8] = &[0x41, 0x54];
const POP_RBX: &[u8] = &[0x5b];
const RET: &[u8] = &[0xc3];
const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
const SUB_RSP_8: &[u8] = &[0x48, 0x83, 0xec, 0x08];
const MOV_RBX_RDI: &[u8] = &[0x48, 0x89, 0xfb];
const MOV_R12_RSI: &[u8] = &[0x49, 0x89, 0xf4];
const MOV_RSI_RDI: &[u8] = &[0x48, 0x89, 0xfe];
const MOV_RSI_RBX: &[u8] = &[0x48, 0x89, 0xde];
const MOV_RSI_FROM_R12: &[u8] = &[0x49, 0x8b, 0x34, 0x24];
const MOV_RDI_GLOBAL: &[u8] = &[0x48, 0x8b, 0x3d, 0x10, 0, 0, 0];
const TEST_EAX_EAX: &[u8] = &[0x85, 0xc0];
/// `mov edx, [rbx+0x28]; test edx, edx`
const TEST_ENTERED: &[u8] = &[0x8b, 0x53, 0x28, 0x85, 0xd2];
/// `cmp dword [rbx+0x28], 0`
const CMP_ENTERED: &[u8] = &[0x83, 0x7b, 0x28, 0x00];
/// `call rax`
const CALL_RAX: &[u8] = &[0xff, 0xd0];
/// `data16 data16 rex.W call +0`: how thread-local storage is reached.
const CALL_TLS: &[u8] = &[0x66, 0x66, 0x48, 0xe8, 0, 0, 0, 0];

fn boundary_of(asm: Asm) -> Result<[Found; 2], String> {
    let bytes = asm.done();
    let functions = Functions {
        context_run: ElfAddr(BASE),
        context_enter: ElfAddr(BASE + 0x500),
        context_exit: ElfAddr(BASE + 0x510),
        var_set: ElfAddr(BASE + 0x520),
        var_reset: ElfAddr(BASE + 0x530),
    };
    let code = MachineCode { bytes: &bytes, addr: BASE };
    boundary(code, &Flow::of(code, functions.context_run)?, &functions)
}

fn first_fit_of(asm: Asm, arguments: u8) -> Result<(u64, String), String> {
    let bytes = asm.done();
    let code = MachineCode { bytes: &bytes, addr: BASE };
    let found = first_fit(code, ElfAddr(BASE), 0..arguments)?;
    let registers: Vec<_> = found.registers.iter().map(ToString::to_string).collect();
    Ok((found.address.0 - BASE, registers.join(" ")))
}

fn places(found: &[Found; 2]) -> [(&str, String); 2] {
    found.each_ref().map(|found| {
        let mnemonic = found.instruction.split(' ').next().unwrap_or_default();
        (mnemonic, found.registers[0].to_string())
    })
}

/// Debian 12's 3.11.2, link-time optimized: `_PyContext_Enter` and `_PyContext_Exit` are called.
fn called() -> Asm {
    Asm::default()
        .raw(PUSH_RBX)
        .raw(MOV_RBX_RDI)
        .raw(MOV_R12_RSI)
        .raw(MOV_RSI_RDI)
        .call(ENTER_IMPL)
        .raw(TEST_EAX_EAX)
        .jne("error")
        .raw(MOV_RSI_FROM_R12)
        .call(CALLEE)
        .raw(MOV_RSI_RBX)
        .call(EXIT_IMPL)
        .raw(TEST_EAX_EAX)
        .jne("error")
        .label("out")
        .raw(POP_RBX)
        .raw(RET)
        .label("error")
        .jmp("out")
}

/// pyenv's builds: both are inlined, and the thread state comes from thread-local storage.
fn inlined(test: &[u8]) -> Asm {
    Asm::default()
        .raw(PUSH_RBX)
        .raw(MOV_RBX_RDI)
        .raw(CALL_TLS)
        .raw(test)
        .jne("error")
        .raw(CALL_RAX)
        .label("left")
        .raw(test)
        .je("error")
        .raw(POP_RBX)
        .raw(RET)
        .label("error")
        .call(CALLEE)
        .raw(POP_RBX)
        .raw(RET)
}

#[test]
fn calls_that_get_the_context_are_the_boundary() {
    let found = boundary_of(called()).unwrap();
    assert_eq!(places(&found), [("call", "rsi".into()), ("call", "rsi".into())]);
    assert_eq!(found.map(|f| f.address.0 - BASE), [10, 35]);
}

#[test]
fn inlined_tests_of_ctx_entered_are_the_boundary() {
    for test in [TEST_ENTERED, CMP_ENTERED] {
        let found = boundary_of(inlined(test)).unwrap();
        assert_eq!(places(&found), [("jne", "rbx".into()), ("je", "rbx".into())]);
    }
}

#[test]
fn no_boundary_is_refused() {
    let why = boundary_of(Asm::default().raw(PUSH_RBX).raw(POP_RBX).raw(RET)).unwrap_err();
    assert_eq!(why, "it enters and leaves its context at 2 places, found: none");
}

#[test]
fn a_second_exit_is_refused() {
    let asm = inlined(TEST_ENTERED).label("again").raw(TEST_ENTERED).je("error").jmp("left");
    let two_exits = Asm { patches: asm.patches, ..asm };
    assert!(boundary_of(two_exits).is_ok(), "never reached");
    let asm = Asm::default()
        .raw(MOV_RBX_RDI)
        .raw(TEST_ENTERED)
        .jne("error")
        .raw(CALL_RAX)
        .raw(TEST_EAX_EAX)
        .je("other")
        .raw(TEST_ENTERED)
        .je("error")
        .label("error")
        .raw(RET)
        .label("other")
        .raw(TEST_ENTERED)
        .je("error")
        .raw(RET);
    let why = boundary_of(asm).unwrap_err();
    assert!(why.starts_with("it enters and leaves its context at 2 places, found: jne"), "{why}");
    assert_eq!(why.matches(" at 0x").count(), 3, "{why}");
}

#[test]
fn places_in_no_order_are_refused() {
    let either = Asm::default()
        .raw(MOV_RBX_RDI)
        .raw(TEST_EAX_EAX)
        .je("other")
        .raw(TEST_ENTERED)
        .je("out")
        .label("out")
        .raw(RET)
        .label("other")
        .raw(TEST_ENTERED)
        .je("out")
        .raw(RET);
    assert!(boundary_of(either).unwrap_err().starts_with("neither place comes before the other"));
}

#[test]
fn an_exit_that_the_enter_does_not_lead_to_is_refused() {
    let shortcut = Asm::default()
        .raw(MOV_RBX_RDI)
        .raw(TEST_EAX_EAX)
        .je("exit")
        .raw(TEST_ENTERED)
        .jne("out")
        .raw(CALL_RAX)
        .label("exit")
        .raw(TEST_ENTERED)
        .je("out")
        .label("out")
        .raw(RET);
    let why = boundary_of(shortcut).unwrap_err();
    assert!(why.starts_with("the exit is reached without the enter"), "{why}");
}

#[test]
fn loops_and_empty_runs_are_refused() {
    let looped = Asm::default()
        .raw(MOV_RBX_RDI)
        .raw(TEST_ENTERED)
        .jne("out")
        .raw(CALL_RAX)
        .label("again")
        .raw(TEST_ENTERED)
        .je("again")
        .label("out")
        .raw(RET);
    assert!(boundary_of(looped).unwrap_err().starts_with("a place is passed more than once"));
    let empty = Asm::default()
        .raw(MOV_RBX_RDI)
        .raw(TEST_ENTERED)
        .jne("out")
        .raw(TEST_ENTERED)
        .je("out")
        .label("out")
        .raw(RET);
    assert!(boundary_of(empty).unwrap_err().starts_with("nothing is called between the places"));
}

#[test]
fn what_holds_on_one_path_only_is_not_believed() {
    // On one path rsi holds the context at the second call, on the other something else.
    let asm = Asm::default()
        .raw(MOV_RBX_RDI)
        .raw(MOV_R12_RSI)
        .raw(MOV_RSI_RDI)
        .call(ENTER_IMPL)
        .raw(MOV_RSI_RBX)
        .jne("call")
        .raw(MOV_RSI_FROM_R12)
        .label("call")
        .call(EXIT_IMPL)
        .raw(RET);
    assert!(boundary_of(asm).unwrap_err().contains("found: call"));
}

#[test]
fn calls_of_the_exported_functions_are_refused() {
    let asm = Asm::default()
        .raw(MOV_RBX_RDI)
        .raw(MOV_RSI_RDI)
        .call(BASE + 0x500)
        .raw(CALL_RAX)
        .raw(MOV_RSI_RBX)
        .call(BASE + 0x510)
        .raw(RET);
    let why = boundary_of(asm).unwrap_err();
    assert_eq!(why, "it calls the exported function at 0x1500, which is probed too");
}

#[test]
fn code_that_cannot_be_followed_is_refused() {
    assert!(boundary_of(Asm::default().raw(PUSH_RBX)).unwrap_err().contains("outside the file"));
    let invalid = Asm::default().raw(&[0x06]);
    assert!(boundary_of(invalid).unwrap_err().contains("no valid instruction"));
    let endless = Asm::default().raw(&[0x90; 700]).raw(RET);
    assert!(boundary_of(endless).unwrap_err().contains("longer than 600 instructions"));
    let away = Asm::default().raw(&[0xe9, 0, 0, 0, 0x70]);
    assert!(boundary_of(away).unwrap_err().contains("outside the file"));
}

#[test]
fn the_first_fit_is_emulated_and_has_the_arguments() {
    let one = |asm| first_fit_of(asm, 1);
    let rdi = |at| Ok((at, "rdi".to_owned()));
    assert_eq!(one(Asm::default().raw(PUSH_RBX).raw(RET)), rdi(0));
    assert_eq!(one(Asm::default().raw(ENDBR64).raw(PUSH_RBP).raw(RET)), rdi(4), "not endbr64");
    let late = Asm::default().raw(SUB_RSP_8).jne("out").label("out").raw(RET);
    assert_eq!(one(late), rdi(4), "pyenv's 3.11 PyContext_Enter");
    let tail = Asm::default().raw(MOV_RSI_RDI).raw(MOV_RDI_GLOBAL).jmp("out").label("out").raw(RET);
    assert_eq!(one(tail), Ok((10, "rsi".into())), "Debian's PyContext_Enter");
    let tls = Asm::default().raw(MOV_RBX_RDI).raw(CALL_TLS).raw(PUSH_R12).raw(RET);
    assert_eq!(one(tls), Ok((11, "rbx".into())), "not a call with prefixes");
    let two = Asm::default().raw(PUSH_R12).raw(RET);
    assert_eq!(first_fit_of(two, 2), Ok((0, "rdi rsi".into())));
}

#[test]
fn the_second_argument_alone_is_found_where_the_first_is_lost() {
    let bytes = Asm::default().raw(MOV_RDI_GLOBAL).raw(PUSH_RBX).raw(RET).done();
    let code = MachineCode { bytes: &bytes, addr: BASE };
    let found = first_fit(code, ElfAddr(BASE), 1..2).unwrap();
    assert_eq!((found.address.0 - BASE, found.registers[0].to_string()), (7, "rsi".into()));
}

#[test]
fn a_function_without_a_fit_is_refused() {
    let lost = Asm::default().raw(MOV_RDI_GLOBAL).raw(PUSH_RBX).raw(RET);
    assert_eq!(
        first_fit_of(lost, 1).unwrap_err(),
        "no emulated instruction from 0x1000 to 0x1008 has the arguments in registers"
    );
    let clobbered = Asm::default().raw(CALL_TLS).raw(PUSH_RBX).raw(RET);
    assert!(first_fit_of(clobbered, 1).is_err(), "calls overwrite rdi");
    let overwritten = Asm::default().raw(MOV_RSI_RDI).raw(PUSH_RBX).raw(RET);
    assert!(first_fit_of(overwritten, 2).is_err(), "rsi is not the second argument any more");
    assert!(first_fit_of(Asm::default().raw(ENDBR64).raw(RET), 1).is_err());
}

#[test]
fn only_what_the_kernel_emulates_is_fit() {
    let is_emulated = |bytes: &[u8]| {
        let code = MachineCode { bytes, addr: BASE };
        code.is_emulated(&code.decode(ElfAddr(BASE)).unwrap())
    };
    let fit: [&[u8]; 9] = [
        PUSH_RBX,
        PUSH_R12,
        &[0x90],
        &[0xeb, 0x00],
        &[0xe9, 0, 0, 0, 0],
        &[0xe8, 0, 0, 0, 0],
        &[0x74, 0x00],
        &[0x0f, 0x8e, 0, 0, 0, 0],
        &[0x7e, 0x10],
    ];
    assert!(fit.iter().all(|bytes| is_emulated(bytes)));
    let unfit: [&[u8]; 9] = [
        ENDBR64,
        RET,
        SUB_RSP_8,
        CALL_RAX,
        CALL_TLS,
        MOV_RDI_GLOBAL,
        &[0x54],
        &[0x0f, 0x1f, 0x00],
        &[0x66, 0x90],
    ];
    assert!(!unfit.iter().any(|bytes| is_emulated(bytes)));
}

/// All six functions in one piece of code, at the places that [`Functions`] names.
#[test]
fn all_sites_are_chosen_with_their_places_in_the_file() {
    let mut bytes = called().done();
    let mut function = |at: usize, code: &[&[u8]]| {
        bytes.resize(at, 0x90);
        bytes.extend(code.concat());
        ElfAddr(BASE + at as u64)
    };
    let functions = Functions {
        context_run: ElfAddr(BASE),
        context_enter: function(0x500, &[PUSH_RBX, RET]),
        context_exit: function(0x510, &[PUSH_RBX, RET]),
        var_set: function(0x520, &[ENDBR64, PUSH_R12, RET]),
        var_reset: function(0x530, &[PUSH_R12, RET]),
    };
    let code = MachineCode { bytes: &bytes, addr: BASE };
    let sites = choose(code, OFFSET, &functions, &[]).unwrap();
    let kinds: Vec<_> = sites.iter().map(|site| site.kind).collect();
    assert_eq!(kinds, SiteKind::ALL);
    let offsets: Vec<_> = sites.iter().map(|site| site.offset.0).collect();
    assert_eq!(offsets, [0x40a, 0x423, 0x900, 0x910, 0x924, 0x930]);
    let same = Functions { context_exit: functions.context_enter, ..functions };
    let why = choose(code, OFFSET, &same, &[]).unwrap_err().to_string();
    assert!(why.ends_with("its site 0x1500 is also that of PyContext_Exit"), "{why}");
}

/// Where the compiler kept a function that enters, `PyContext_Enter` only leads to it, and so does
/// whatever else enters contexts: all of these are sites, and the call in `Context.run` stays its own.
#[test]
fn every_way_past_the_exported_functions_is_a_site() {
    let jump = |from: u64, to: u64| {
        [&[0xe9][..], &(to.wrapping_sub(from + 5) as u32).to_le_bytes()].concat()
    };
    let call = |from: u64, to: u64| {
        [&[0xe8][..], &(to.wrapping_sub(from + 5) as u32).to_le_bytes()].concat()
    };
    let mut bytes = called().done();
    let mut function = |at: usize, code: &[&[u8]]| {
        bytes.resize(at, 0x90);
        bytes.extend(code.concat());
        ElfAddr(BASE + at as u64)
    };
    function(0x400, &[RET]);
    function(0x410, &[RET]);
    let functions = Functions {
        context_run: ElfAddr(BASE),
        context_enter: function(0x500, &[&jump(BASE + 0x500, ENTER_IMPL)]),
        context_exit: function(0x510, &[&jump(BASE + 0x510, EXIT_IMPL)]),
        var_set: function(0x520, &[PUSH_R12, RET]),
        var_reset: function(0x530, &[PUSH_R12, RET]),
    };
    let eager = function(
        0x600,
        &[PUSH_RBX, &call(BASE + 0x601, ENTER_IMPL), &call(BASE + 0x606, EXIT_IMPL), RET],
    );
    let code = MachineCode { bytes: &bytes, addr: BASE };
    let sites = choose(code, OFFSET, &functions, &[ElfAddr(BASE), eager]).unwrap();
    let of = |kind: SiteKind| -> Vec<u64> {
        let sites = sites.iter().filter(|site| site.kind == kind);
        sites.map(|site| site.address.0 - BASE).collect()
    };
    assert_eq!(of(SiteKind::ContextEnter), [0x500, 0x601]);
    assert_eq!(of(SiteKind::ContextExit), [0x510, 0x606]);
    assert_eq!(of(SiteKind::RunEnter).len(), 1);
    let context = |site: &&Site| site.kind == SiteKind::ContextEnter;
    assert!(sites.iter().filter(context).all(|s| s.registers == sites[0].registers), "{sites:?}");
    let why = choose(code, OFFSET, &functions, &[]).unwrap_err().to_string();
    assert!(why.contains("0x1601 is in no function that is known"), "{why}");
}
