//! Chooses the instructions to probe, by disassembly.
//!
//! A site is fit if the kernel emulates its instruction, if the value that we want is in a register
//! when it runs, and if it runs exactly once each time the boundary is passed. What cannot be shown
//! to be so is refused with what was seen: a wrong site would charge time to the wrong session.

use std::ops::Range;

use iced_x86::{FlowControl, InstructionInfoFactory, Register as Iced};

use crate::blocker::Blocker;

use super::{
    binary::{ElfAddr, FileOffset},
    callers,
    flow::{Flow, MachineCode, Node, State},
    register::Register,
};

/// Instructions from a function's entry on in which a site is looked for.
const MAX_STRAIGHT: usize = 64;

/// What passes at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SiteKind {
    /// `Context.run` is about to enter its context.
    RunEnter,
    /// `Context.run` is about to leave it.
    RunExit,
    /// `PyContext_Enter` is about to enter a context.
    ContextEnter,
    /// `PyContext_Exit` is about to leave it.
    ContextExit,
    /// `PyContextVar_Set` is about to set a variable.
    VarSet,
    /// `PyContextVar_Reset` is about to give a variable its old value back.
    VarReset,
}

impl SiteKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::RunEnter,
        Self::RunExit,
        Self::ContextEnter,
        Self::ContextExit,
        Self::VarSet,
        Self::VarReset,
    ];

    /// The function that the site is in, and the moment.
    pub fn name(self) -> &'static str {
        match self {
            Self::RunEnter => "Context.run, entering",
            Self::RunExit => "Context.run, leaving",
            Self::ContextEnter => "PyContext_Enter",
            Self::ContextExit => "PyContext_Exit",
            Self::VarSet => "PyContextVar_Set",
            Self::VarReset => "PyContextVar_Reset",
        }
    }
}

/// An instruction to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// What passes there.
    pub kind: SiteKind,
    /// Its address in the file.
    pub address: ElfAddr,
    /// Its place in the file, which is what the kernel is given.
    pub offset: FileOffset,
    /// The instruction, disassembled.
    pub instruction: String,
    /// Where the values that we want are: the context, or the variable and then the value or token.
    pub registers: Vec<Register>,
}

/// Where the functions with sites begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Functions {
    /// The method `run` of `Context`.
    pub context_run: ElfAddr,
    /// `PyContext_Enter`.
    pub context_enter: ElfAddr,
    /// `PyContext_Exit`.
    pub context_exit: ElfAddr,
    /// `PyContextVar_Set`.
    pub var_set: ElfAddr,
    /// `PyContextVar_Reset`.
    pub var_reset: ElfAddr,
}

/// The sites of an interpreter; `file_offset` is where the code begins in its file, `starts` where its
/// functions do. There is one site of each kind, and more of those of `PyContext_Enter` and
/// `PyContext_Exit` where the compiler let other functions pass these by.
///
/// # Errors
/// [`Blocker::SiteRefused`] where one of them cannot be had.
pub fn choose(
    code: MachineCode<'_>,
    file_offset: FileOffset,
    functions: &Functions,
    starts: &[ElfAddr],
) -> Result<Vec<Site>, Blocker> {
    let refused = |what: &str| {
        let what = what.to_owned();
        move |why| Blocker::SiteRefused { what, why }
    };
    let run = Flow::of(code, functions.context_run).map_err(refused("Context.run"))?;
    let [enter, exit] = boundary(code, &run, functions).map_err(refused("Context.run"))?;
    let exported = |kind: SiteKind, entry, at: &Found| {
        let found = every_way(code, entry, (&run, at), starts).map_err(refused(kind.name()))?;
        Ok(found.into_iter().map(move |found| (kind, found)))
    };
    let straight = |kind: SiteKind, entry| {
        let found = first_fit(code, entry, 0..2).map_err(refused(kind.name()))?;
        Ok::<_, Blocker>((kind, found))
    };
    let enters = exported(SiteKind::ContextEnter, functions.context_enter, &enter)?;
    let exits = exported(SiteKind::ContextExit, functions.context_exit, &exit)?;
    let of_run = [(SiteKind::RunEnter, enter), (SiteKind::RunExit, exit)];
    let changes = [
        straight(SiteKind::VarSet, functions.var_set)?,
        straight(SiteKind::VarReset, functions.var_reset)?,
    ];
    let sites: Vec<_> = of_run
        .into_iter()
        .chain(enters)
        .chain(exits)
        .chain(changes)
        .map(|(kind, Found { address, instruction, registers })| {
            let offset = FileOffset(address.0 - code.addr + file_offset.0);
            Site { kind, address, offset, instruction, registers }
        })
        .collect();
    distinct(&sites)?;
    Ok(sites)
}

/// Where a context is entered (or left) otherwise than by `Context.run`, which does it at `here`: in the
/// exported function at `entry`.
///
/// Where the compiler kept a function of its own for it, which both of them call, any other function of
/// the interpreter may call that too: the first step of an eager task does, where `_asyncio` is part of
/// the interpreter. Then all of these calls are the sites, and each has the context as its second
/// argument, as the one at `here` has.
fn every_way(
    code: MachineCode<'_>,
    entry: ElfAddr,
    (run, here): (&Flow, &Found),
    starts: &[ElfAddr],
) -> Result<Vec<Found>, String> {
    let called = code.decode(here.address)?;
    if called.flow_control() != FlowControl::Call {
        return Ok(vec![first_fit(code, entry, 0..1)?]);
    }
    let (flow, target) = (Flow::of(code, entry)?, ElfAddr(called.near_branch_target()));
    let mut ways = callers::of(code, target, starts, &[run, &flow])?;
    ways.retain(|way| *way != here.address);
    if !ways.iter().any(|way| flow.nodes.contains_key(way)) {
        if ways.is_empty() {
            return Ok(vec![first_fit(code, entry, 0..1)?]);
        }
        return Err(format!("{target} is called from elsewhere, but not from {entry}"));
    }
    let site = |address: ElfAddr| {
        let instruction = code.decode(address)?.to_string();
        Ok(Found { address, instruction, registers: here.registers.clone() })
    };
    ways.into_iter().map(site).collect()
}

/// One instruction with two meanings would count everything twice.
fn distinct(sites: &[Site]) -> Result<(), Blocker> {
    for (index, site) in sites.iter().enumerate() {
        if let Some(other) = sites.iter().skip(index + 1).find(|o| o.address == site.address) {
            return Err(Blocker::SiteRefused {
                what: site.kind.name().into(),
                why: format!("its site {} is also that of {}", site.address, other.kind.name()),
            });
        }
    }
    Ok(())
}

/// A fit instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its address in the file.
    pub address: ElfAddr,
    /// The instruction, disassembled.
    pub instruction: String,
    /// Where the values that we want are.
    pub registers: Vec<Register>,
}

/// The first emulated instruction that every call of the function at `entry` runs, while those of its
/// `arguments` are in registers: it stands before anything can branch.
///
/// # Errors
/// Says how far was looked in vain.
pub(super) fn first_fit(
    code: MachineCode<'_>,
    entry: ElfAddr,
    arguments: Range<u8>,
) -> Result<Found, String> {
    let mut info = InstructionInfoFactory::new();
    let mut state = State::at_entry();
    let mut address = entry;
    for _ in 0..MAX_STRAIGHT {
        let instruction = code.decode(address)?;
        let registers: Option<Vec<_>> =
            arguments.clone().map(|index| state.holder(index)).collect();
        if let Some(registers) = registers
            && code.is_emulated(&instruction)
        {
            return Ok(Found { address, instruction: instruction.to_string(), registers });
        }
        match instruction.flow_control() {
            FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => {}
            _ => break,
        }
        state = state.after(&instruction, &mut info);
        address = ElfAddr(instruction.next_ip());
    }
    Err(format!("no emulated instruction from {entry} to {address} has the arguments in registers"))
}

/// The two instructions where `Context.run` enters and leaves its context.
fn boundary(
    code: MachineCode<'_>,
    flow: &Flow,
    functions: &Functions,
) -> Result<[Found; 2], String> {
    let found: Vec<Found> = flow
        .nodes
        .iter()
        .filter_map(|(address, node)| {
            let register = passes_boundary(code, node)?;
            let instruction = node.instruction.to_string();
            Some(Found { address: *address, instruction, registers: vec![register] })
        })
        .collect();
    let seen: Vec<_> =
        found.iter().map(|f| format!("{} at {}", f.instruction, f.address)).collect();
    let seen = || if seen.is_empty() { "none".into() } else { seen.join(", ") };
    let Ok([one, two]) = <[Found; 2]>::try_from(found) else {
        return Err(format!("it enters and leaves its context at 2 places, found: {}", seen()));
    };
    let [enter, exit] = order(flow, one, two).map_err(|why| format!("{why}: {}", seen()))?;
    for site in [&enter, &exit] {
        let target = ElfAddr(code.decode(site.address)?.near_branch_target());
        if [functions.context_enter, functions.context_exit].contains(&target) {
            return Err(format!("it calls the exported function at {target}, which is probed too"));
        }
    }
    Ok([enter, exit])
}

/// The register that holds the context, if this instruction is where it is entered or left.
///
/// Either the compiler kept `_PyContext_Enter(ts, ctx)` and `_PyContext_Exit(ts, ctx)`, which are
/// the only callees that get the context as their second argument; or it inlined them, and then
/// each begins by testing `ctx_entered`:
/// <https://github.com/python/cpython/blob/v3.11.7/Python/context.c>.
fn passes_boundary(code: MachineCode<'_>, node: &Node) -> Option<Register> {
    if !code.is_emulated(&node.instruction) {
        return None;
    }
    match node.instruction.flow_control() {
        FlowControl::Call if node.state.holds(Iced::RSI, 0) => {
            Register::index(Iced::RSI).and_then(|index| Register::ALL.get(index).copied())
        }
        FlowControl::ConditionalBranch if node.state.flags_tell_entered() => node.state.holder(0),
        _ => None,
    }
}

/// Which of the two comes first. Shown here: no way leads to the exit but through the enter, none
/// leads back, and between them something is called. That each success runs both is shown live, by
/// counting, before the numbers are trusted.
fn order(flow: &Flow, one: Found, two: Found) -> Result<[Found; 2], String> {
    let after_one = flow.after(one.address, None);
    let after_two = flow.after(two.address, None);
    let (enter, exit, between, later) =
        match (after_one.contains(&two.address), after_two.contains(&one.address)) {
            (true, false) => (one, two, after_one, after_two),
            (false, true) => (two, one, after_two, after_one),
            _ => return Err("neither place comes before the other".into()),
        };
    if between.contains(&enter.address) || later.contains(&exit.address) {
        return Err("a place is passed more than once".into());
    }
    if flow.without(enter.address).contains(&exit.address) {
        return Err("the exit is reached without the enter".into());
    }
    let is_call = |address: &ElfAddr| {
        flow.nodes.get(address).is_some_and(|node| {
            matches!(node.instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall)
        })
    };
    let calls_between = between.iter().any(|address| {
        *address != exit.address
            && is_call(address)
            && flow.after(*address, None).contains(&exit.address)
    });
    if !calls_between {
        return Err("nothing is called between the places".into());
    }
    Ok([enter, exit])
}

#[cfg(test)]
mod tests;
