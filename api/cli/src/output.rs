//! How results are printed: a table for people, or the objects themselves for programs.

use std::io::{self, Write};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::table::Table;

/// The forms a list can be printed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
    Yaml,
    Csv,
    Compact,
}

/// `--format`, for commands that print lists.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Output {
    /// How to print it
    #[arg(short = 'f', long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

impl Output {
    /// Prints `objects` whole, or the table made of them.
    pub(crate) fn list<T: Serialize>(self, objects: &[T], table: impl FnOnce() -> Table) -> Result<()> {
        match self.format {
            Format::Table => print(&table().boxed()),
            Format::Compact => print(&table().compact()),
            Format::Csv => print(&table().csv()),
            Format::Json => print(&(serde_json::to_string(objects)? + "\n")),
            Format::Yaml => print(&yaml(&objects)?),
        }
    }
}

/// Writes to standard output. Its failure is an error like any other: a closed pipe must not panic.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes a line to standard output.
pub(crate) fn line(text: impl AsRef<str>) -> Result<()> {
    print(&format!("{}\n", text.as_ref()))
}

/// Writes a line to standard error; there is nobody to tell if that fails.
pub(crate) fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

/// An object as YAML.
pub(crate) fn yaml<T: Serialize>(object: &T) -> Result<String> {
    let mut text = serde_saphyr::to_string(object).context("cannot write this as YAML")?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// An object from YAML; JSON is YAML too.
pub(crate) fn from_yaml<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_saphyr::from_str(text).context("this is not the YAML that is expected here")
}

/// Bytes in the unit that people read them in.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut value = count as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count}B") } else { format!("{value:.2}{}", UNITS[unit]) }
}

/// A time of the API in the usual form; nothing for "never".
pub(crate) fn time(text: &str) -> String {
    if text.is_empty() || text.starts_with("0001-") || text.starts_with("1970-01-01T00:00:00") {
        return String::new();
    }
    let date = text.get(..10);
    let clock = text.get(11..16);
    match (date, clock) {
        (Some(date), Some(clock)) => format!("{date} {clock} UTC"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_times_as_people_read_them() {
        assert_eq!(bytes(512), "512B");
        assert_eq!(bytes(3 << 29), "1.50GiB");
        assert_eq!(time("2026-11-23T01:02:03.123Z"), "2026-11-23 01:02 UTC");
        assert_eq!(time("0001-01-01T00:00:00Z"), "");
        assert_eq!(time(""), "");
    }

    #[test]
    fn yaml_goes_both_ways() {
        let map = std::collections::BTreeMap::from([
            ("user.a".to_owned(), "true".to_owned()),
            ("b".to_owned(), "1: x".to_owned()),
        ]);
        let text = yaml(&map).unwrap();
        assert_eq!(from_yaml::<std::collections::BTreeMap<String, String>>(&text).unwrap(), map);
    }
}
