//! The README's compat table: `compat write` brings it up to date with what tests found, `compat check` compares.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use basalt_tests::compat::table::{self, Table};
use basalt_tests::compat::{folder, records};

fn main() -> ExitCode {
    let done = match std::env::args().nth(1).as_deref() {
        Some("write") => write(),
        Some("check") => check(),
        _ => {
            eprintln!("usage: compat write|check");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compat: {error:#}");
            ExitCode::FAILURE
        }
    }
}

const TREE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The README, what was found, and the text in which every feature must stand.
fn load() -> Result<(String, Table, String)> {
    let readme = std::fs::read_to_string(Path::new(TREE).join("README.md")).context("read README.md")?;
    let sources = table::sources(&Path::new(TREE).join("tests/tests"))?;
    Ok((readme, Table::of(&records(&folder()?)?), sources))
}

fn write() -> Result<bool> {
    let (readme, found, sources) = load()?;
    // A table that someone typed into is made anew from what was found.
    let table = Table::parse(&readme).unwrap_or_default();
    let table = table.updated(&found, |feature| sources.contains(&format!("\"{feature}\"")));
    std::fs::write(Path::new(TREE).join("README.md"), table::replace(&readme, &table)?).context("write README.md")?;
    for cell in table.not_run(&found) {
        println!("kept, not run: {cell}");
    }
    Ok(true)
}

fn check() -> Result<bool> {
    let (readme, found, sources) = load()?;
    let table = Table::parse(&readme)?;
    for cell in table.not_run(&found) {
        println!("compat: not run here: {cell}");
    }
    let faults = table.faults(&found, |feature| sources.contains(&format!("\"{feature}\"")));
    for fault in &faults {
        eprintln!("compat: {fault}");
    }
    if !faults.is_empty() {
        eprintln!("compat: the README's table is not what the tests found: `make compat` writes it");
    }
    Ok(faults.is_empty())
}
