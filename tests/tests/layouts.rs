//! The table of layouts does not drift: every interpreter that is there finds its own row anew.

use anyhow::{Context as _, Result, ensure};
use openrtc_probe::worker;
use openrtc_tests::{layouts, say, setting::Setting};

#[test]
fn every_interpreter_finds_its_row_and_what_it_publishes_agrees() -> Result<()> {
    let setting = Setting::from_environment()?;
    let mut wrong = Vec::new();
    for interpreter in setting.interpreters() {
        let found = layouts::find(&mut setting.fixture(interpreter, "layout.py"))
            .with_context(|| format!("{}: finding its layout", interpreter.name))?;
        let row = layouts::row_of(&found.layout)
            .with_context(|| format!("{}: no row for its version", interpreter.name))?;
        let attached = worker::Worker::open(found.worker.pid)?.interpreter()?;
        let of_row = layouts::differences(&found.layout, row);
        let of_published = layouts::differences(&found.layout, &attached.layout);
        say::note(&format!("{}: {} goes by {}", interpreter.name, found.release, row.source));
        if !of_row.is_empty() || !of_published.is_empty() {
            let name = &interpreter.name;
            wrong.push(format!(
                "{name}: not in the row: {of_row:?}; not as attached: {of_published:?}"
            ));
        }
        let version = attached.version.to_string();
        if version != found.release {
            wrong.push(format!("{}: {version} is taken for {}", interpreter.name, found.release));
        }
        found.worker.end_with_words()?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
