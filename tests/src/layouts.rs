//! Rows of the table of layouts, found anew in a live interpreter (`tests/fixtures/layout.py`).

mod stack;

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use openrtc_probe::cpython::layout::{
    Keys, LAYOUTS, Layout, RunningLoop, Tasks, ThreadId, Values, common,
};
use serde_json::Value;

use crate::{field, worker::Worker};

/// What an interpreter has found of itself.
pub struct Found {
    /// The interpreter, which waits to be looked at.
    pub worker: Worker,
    /// Its row, with what cannot be found there (`source`, the published words) of the table's.
    pub layout: Layout,
    /// Its full version.
    pub release: String,
}

/// Runs an interpreter on `layout.py` and lets it find where its structs keep what we read.
pub fn find(command: &mut Command) -> Result<Found> {
    let worker = Worker::start_with(command)?;
    let found = &worker.ready["layout"];
    same_in_all_rows(found)?;
    let layout = layout_of(found).context("reading what the interpreter has found")?;
    let release = field::text(found, "release")?;
    Ok(Found { worker, layout, release })
}

/// The table's row for the version of `layout`.
pub fn row_of(layout: &Layout) -> Option<&'static Layout> {
    LAYOUTS.iter().find(|row| row.version == layout.version)
}

/// The lines of `found` that `known` has not, as the source writes them.
pub fn differences(found: &Layout, known: &Layout) -> Vec<String> {
    let (found, known) = (fields(&row(found)), fields(&row(known)));
    let differs = |field: &String| !known.contains(field) && !field.starts_with("source:");
    found.into_iter().filter(differs).collect()
}

/// The lines of a row, each behind the names of what it is in.
fn fields(row: &str) -> Vec<String> {
    let mut within: Vec<&str> = Vec::new();
    let mut fields = Vec::new();
    for line in row.lines().map(str::trim) {
        if line.ends_with(['{', '(', '[']) {
            // The row itself has no name.
            within.push(line.split_once(':').map_or("", |(name, _)| name));
        }
        match line.chars().next() {
            Some('}' | ')' | ']') => drop(within.pop()),
            _ if line.ends_with(['{', '(', '[']) => fields.push(line.to_owned()),
            _ => {
                let names = within.iter().copied().filter(|name| !name.is_empty());
                fields.push(names.chain([line]).collect::<Vec<_>>().join("."));
            }
        }
    }
    fields
}

/// A layout as a row of the table, but for line breaks and the published words.
pub fn row(layout: &Layout) -> String {
    let bare = Layout { runtime_debug: &[], asyncio_debug: &[], ..layout.clone() };
    let written = |line: &str| {
        let name = line.trim_start().split_once(": ").map(|(name, _)| name);
        match PREFIXES.iter().find(|(known, _)| Some(*known) == name) {
            Some((name, prefix)) => {
                line.replacen(&format!("{name}: "), &format!("{name}: {prefix}"), 1)
            }
            None => line.to_owned(),
        }
    };
    let lines: Vec<_> = format!("{bare:#?},").lines().map(written).collect();
    lines.join("\n")
}

/// What the source has before the value of a field, and its `Debug` has not.
const PREFIXES: &[(&str, &str)] = &[
    ("thread_id", "ThreadId::"),
    ("running_loop", "RunningLoop::"),
    ("tasks", "Tasks::"),
    ("keys", "Keys::"),
    ("values", "Values::"),
    ("current", "CurrentFrame::"),
    ("instruction", "Instruction::"),
    ("lines", "LineTable::"),
    ("frame", "CoroutineFrame::"),
    ("awaiting", "Awaiting::"),
    ("stack", "StackEnd::"),
    ("state", "GilState::"),
    ("runtime_debug", "&"),
    ("asyncio_debug", "&"),
];

/// What is a constant for us must be so there.
fn same_in_all_rows(found: &Value) -> Result<()> {
    let known = [
        ("dict_bytes", common::DICT_BYTES),
        ("set_bytes", common::SET_BYTES),
        ("context_bytes", common::CONTEXT_BYTES),
        ("var_bytes", common::VAR_BYTES),
        ("token_bytes", common::TOKEN_BYTES),
        ("module_dict", common::MODULE_DICT),
        ("weakref_object", common::WEAKREF_OBJECT),
        ("token_old_value", common::TOKEN_OLD_VALUE),
        ("bytes_size", common::BYTES_SIZE),
        ("bytes_data", common::BYTES_DATA),
        ("future_state", number(found, "task_state")?),
    ];
    for (name, bytes) in known {
        let there = number(found, name)?;
        ensure!(there == bytes, "{name} is {there} there, and {bytes} for us in every version");
    }
    stack::same_in_all_rows(found)
}

fn layout_of(found: &Value) -> Result<Layout> {
    let version =
        |index: usize| found["version"][index].as_u64().and_then(|n| u8::try_from(n).ok());
    let version = version(0).zip(version(1)).context("\"version\" is not two numbers")?;
    let row = LAYOUTS.iter().find(|row| row.version == version);
    Ok(Layout {
        version,
        source: row.map_or("live", |row| row.source),
        interpreters_head: number(found, "interpreters_head")?,
        interp_next: number(found, "interp_next")?,
        interp_threads: number(found, "interp_threads")?,
        interp_modules: number(found, "interp_modules")?,
        thread_next: number(found, "thread_next")?,
        thread_interp: number(found, "thread_interp")?,
        thread_dict: number(found, "thread_dict")?,
        thread_id: thread_id(&found["thread_id"])?,
        thread_context: number(found, "thread_context")?,
        threads_in_context: field::flag(found, "threads_in_context"),
        running_loop: running_loop(&found["running_loop"])?,
        task_bytes: number(found, "task_bytes")?,
        task_state: number(found, "task_state")?,
        task_name: number(found, "task_name")?,
        task_context: number(found, "task_context")?,
        task_coro: number(found, "task_coro")?,
        task_fut_waiter: number(found, "task_fut_waiter")?,
        tasks: tasks(&found["tasks"])?,
        module_bytes: number(found, "module_bytes")?,
        str_bytes: number(found, "str_bytes")?,
        str_ascii_data: u32::try_from(number(found, "str_ascii_data")?)?,
        str_wide_data: u32::try_from(number(found, "str_wide_data")?)?,
        keys: keys(&found["keys"])?,
        values: values(&found["values"])?,
        first_value: number(found, "first_value")?,
        type_cached_keys: number(found, "type_cached_keys")?,
        frames: stack::frames(&found["frames"]).context("reading its frames")?,
        code: stack::code(&found["code"]).context("reading its code objects")?,
        coroutines: stack::coroutines(&found["coroutines"]).context("reading its coroutines")?,
        gil: stack::gil(&found["gil"]).context("reading its GIL")?,
        runtime_debug: row.map_or(&[], |row| row.runtime_debug),
        asyncio_debug: row.map_or(&[], |row| row.asyncio_debug),
    })
}

fn number(found: &Value, name: &str) -> Result<u64> {
    found[name].as_u64().with_context(|| format!("the interpreter could not find \"{name}\""))
}

fn thread_id(found: &Value) -> Result<ThreadId> {
    let at = number(found, "at")?;
    match found["kind"].as_str() {
        Some("Native") => Ok(ThreadId::Native { at }),
        Some("Pthread") => Ok(ThreadId::Pthread { at }),
        _ => bail!("no such thread_id: {found}"),
    }
}

fn running_loop(found: &Value) -> Result<RunningLoop> {
    match found["kind"].as_str() {
        Some("Held") => Ok(RunningLoop::Held { at: number(found, "at")? }),
        Some("InDict") => Ok(RunningLoop::InDict),
        Some("InThread") => Ok(RunningLoop::InThread { at: number(found, "at")? }),
        _ => bail!("no such running_loop: {found}"),
    }
}

fn tasks(found: &Value) -> Result<Tasks> {
    let Some(names) = found["sets"].as_array() else {
        return Ok(Tasks::Lists {
            node: number(found, "node")?,
            of_thread: number(found, "of_thread")?,
            of_interpreter: number(found, "of_interpreter")?,
        });
    };
    // Once for each interpreter: a row is made of what lasts.
    let names = names.iter().filter_map(Value::as_str).map(|name| &*name.to_owned().leak());
    let names: Vec<&'static str> = names.collect();
    Ok(Tasks::Sets(names.leak()))
}

fn keys(found: &Value) -> Result<Keys> {
    match found.as_str() {
        Some("Sized") => Ok(Keys::Sized),
        Some("Log2") => Ok(Keys::Log2),
        _ => bail!("no such keys: {found}"),
    }
}

fn values(found: &Value) -> Result<Values> {
    match found["kind"].as_str() {
        Some("InDict") => Ok(Values::InDict),
        Some("Pointed") => Ok(Values::Pointed { at: field::int(found, "at")? }),
        Some("Tagged") => Ok(Values::Tagged),
        Some("Embedded") => Ok(Values::Embedded),
        _ => bail!("no such values: {found}"),
    }
}

#[cfg(test)]
mod tests {
    use openrtc_probe::cpython::layout::{Code, Gil, GilState};

    use super::*;

    #[test]
    fn a_row_is_written_as_the_table_has_it() {
        let known = LAYOUTS.last().unwrap();
        let text = row(known);
        let parts = [
            "thread_id: ThreadId::Native {",
            "keys: Keys::Log2,",
            " task_state: 104,",
            " state: GilState::Pointed {",
            "runtime_debug: &[],",
        ];
        for part in parts {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_difference_is_told_by_its_field() {
        let known = LAYOUTS.last().unwrap();
        assert!(differences(known, known).is_empty());
        let moved = Layout { interp_next: 99, source: "elsewhere", ..known.clone() };
        assert_eq!(differences(&moved, known), ["interp_next: 99,"]);
        let code = Code { name: known.code.filename, qualname: None, ..known.code };
        let moved = Layout { code, ..known.clone() };
        assert_eq!(differences(&moved, known), ["code.name: 112,", "code.qualname: None,"]);
        let gil = Gil { state: GilState::InRuntime { at: 8 }, ..known.gil };
        let moved = Layout { gil, ..known.clone() };
        let expected = ["state: GilState::InRuntime {", "gil.state.at: 8,"];
        assert_eq!(differences(&moved, known), expected);
    }
}
