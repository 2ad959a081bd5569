//! Lets interpreters find their own rows of the table of layouts, and compares them with the table.
//!
//! A new version of CPython is one run of this, and a row to review. Ends with 1 where a row is missing
//! or differs.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use openrtc_tests::{
    layouts::{self, Found},
    setting::Setting,
};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("layouts: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every row is as the table has it.
fn run() -> Result<bool> {
    let setting = Setting::from_environment()?;
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let mut agree = true;
    for (name, mut command) in setting.pythons(&asked, "layout.py")? {
        let found =
            layouts::find(&mut command).with_context(|| format!("{name}: finding its layout"))?;
        agree &= tell(&name, &found);
        found.worker.end_with_words()?;
    }
    Ok(agree)
}

/// Says how a row compares with the table; whether it agrees.
fn tell(name: &str, found: &Found) -> bool {
    let release = &found.release;
    let Some(row) = layouts::row_of(&found.layout) else {
        println!("{name}: CPython {release} has no row; to be reviewed and added:");
        println!("{}", layouts::row(&found.layout));
        return false;
    };
    let differences = layouts::differences(&found.layout, row);
    if differences.is_empty() {
        println!("{name}: CPython {release} agrees with the row ({})", row.source);
        return true;
    }
    println!("{name}: CPython {release} differs from its row:");
    for line in &differences {
        println!("    {line}");
    }
    println!("{}", layouts::row(&found.layout));
    false
}
