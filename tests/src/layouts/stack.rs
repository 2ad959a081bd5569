//! The parts of a row that tell where a thread is, what a coroutine waits for and who has the GIL.

use anyhow::{Context as _, Result, bail, ensure};
use openrtc_probe::cpython::layout::{
    Awaiting, Code, CoroutineFrame, Coroutines, CurrentFrame, Frames, Gil, GilState, Instruction,
    LineTable, StackEnd, common,
};
use serde_json::Value;

use super::number;

/// What is a constant for us must be so there.
pub(super) fn same_in_all_rows(found: &Value) -> Result<()> {
    let shims = found["shims"].as_array().context("\"shims\" is no list")?;
    for owner in shims.iter().map(|owner| owner.as_u64().unwrap_or_default()) {
        let first = u64::from(common::FIRST_SHIM);
        ensure!(owner >= first, "a frame of the interpreter is owned by {owner}, below {first}");
    }
    let futex = number(&found["gil"], "futex")?;
    let known = common::GIL_FUTEXES;
    ensure!(known.contains(&futex), "a thread waits for the GIL at {futex}, not in {known:?}");
    Ok(())
}

pub(super) fn frames(found: &Value) -> Result<Frames> {
    Ok(Frames {
        bytes: number(found, "bytes")?,
        current: current_frame(&found["current"])?,
        code: number(found, "code")?,
        previous: number(found, "previous")?,
        instruction: instruction(&found["instruction"])?,
        owner: found["owner"].as_u64(),
    })
}

fn current_frame(found: &Value) -> Result<CurrentFrame> {
    let at = number(found, "at")?;
    match found["kind"].as_str() {
        Some("InThread") => Ok(CurrentFrame::InThread { at }),
        Some("Behind") => Ok(CurrentFrame::Behind { pointer: number(found, "pointer")?, at }),
        _ => bail!("no such frames.current: {found}"),
    }
}

fn instruction(found: &Value) -> Result<Instruction> {
    let at = number(found, "at")?;
    match found["kind"].as_str() {
        Some("Index") => Ok(Instruction::Index { at, unit: number(found, "unit")? }),
        Some("Pointer") => Ok(Instruction::Pointer { at, bytecode: number(found, "bytecode")? }),
        _ => bail!("no such frames.instruction: {found}"),
    }
}

pub(super) fn code(found: &Value) -> Result<Code> {
    Ok(Code {
        bytes: number(found, "bytes")?,
        filename: number(found, "filename")?,
        name: number(found, "name")?,
        qualname: found["qualname"].as_u64(),
        first_line: number(found, "first_line")?,
        lines: line_table(&found["lines"])?,
    })
}

fn line_table(found: &Value) -> Result<LineTable> {
    let at = number(found, "at")?;
    match found["kind"].as_str() {
        Some("Pairs") => Ok(LineTable::Pairs { at }),
        Some("Ranges") => Ok(LineTable::Ranges { at }),
        Some("Locations") => Ok(LineTable::Locations { at }),
        _ => bail!("no such code.lines: {found}"),
    }
}

pub(super) fn coroutines(found: &Value) -> Result<Coroutines> {
    Ok(Coroutines {
        bytes: number(found, "bytes")?,
        frame: coroutine_frame(&found["frame"])?,
        awaiting: awaiting(&found["awaiting"])?,
        stack: stack_end(&found["stack"])?,
        awaited: number(found, "awaited")?,
    })
}

fn coroutine_frame(found: &Value) -> Result<CoroutineFrame> {
    let at = number(found, "at")?;
    match found["kind"].as_str() {
        Some("Pointed") => Ok(CoroutineFrame::Pointed { at }),
        Some("Embedded") => Ok(CoroutineFrame::Embedded { at }),
        _ => bail!("no such coroutines.frame: {found}"),
    }
}

fn awaiting(found: &Value) -> Result<Awaiting> {
    let value = || {
        let value = found["value"].as_i64().and_then(|value| i8::try_from(value).ok());
        value.context("the value of coroutines.awaiting is none of eight bits")
    };
    match found["kind"].as_str() {
        Some("StackKept") => Ok(Awaiting::StackKept),
        Some("InFrame") => Ok(Awaiting::InFrame { at: number(found, "at")?, value: value()? }),
        Some("InCoroutine") => {
            Ok(Awaiting::InCoroutine { at: number(found, "at")?, value: value()? })
        }
        _ => bail!("no such coroutines.awaiting: {found}"),
    }
}

fn stack_end(found: &Value) -> Result<StackEnd> {
    let at = number(found, "at")?;
    match found["kind"].as_str() {
        Some("Pointer") => Ok(StackEnd::Pointer { at }),
        Some("Depth") => Ok(StackEnd::Depth { base: number(found, "base")?, at }),
        Some("Index") => Ok(StackEnd::Index { locals: number(found, "locals")?, at }),
        _ => bail!("no such coroutines.stack: {found}"),
    }
}

pub(super) fn gil(found: &Value) -> Result<Gil> {
    let state = &found["state"];
    let at = number(state, "at")?;
    let state = match state["kind"].as_str() {
        Some("InRuntime") => GilState::InRuntime { at },
        Some("Pointed") => GilState::Pointed { at },
        _ => bail!("no such gil.state: {found}"),
    };
    Ok(Gil { state, holder: number(found, "holder")?, locked: number(found, "locked")? })
}
