//! `basalt network zone record`.

use anyhow::{Result, bail};
use basalt_client::{Client, Path};
use clap::Subcommand;

use basalt_api::dto::zone::{Entry, Record};

use crate::cmd::network::part;
use crate::context::Context;
use crate::output::Output;
use crate::pairs;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List records of a zone
    #[command(visible_alias = "ls")]
    List {
        zone: String,
        #[command(flatten)]
        output: Output,
    },
    /// Print a record as YAML
    Show { zone: String, record: String },
    /// Make a record without entries; @ is the zone itself
    Create {
        zone: String,
        record: String,
        #[arg(value_name = "KEY=VALUE")]
        pairs: Vec<String>,
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Edit a record as YAML
    Edit { zone: String, record: String },
    /// Print the value of a key
    Get { zone: String, record: String, key: String },
    /// Set keys
    Set {
        zone: String,
        record: String,
        #[arg(required = true, value_name = "KEY=VALUE")]
        pairs: Vec<String>,
    },
    /// Remove a key
    Unset { zone: String, record: String, key: String },
    /// Delete a record
    #[command(visible_alias = "rm")]
    Delete { zone: String, record: String },
    /// Entries of a record
    #[command(subcommand)]
    Entry(EntryCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum EntryCommand {
    /// Add an entry: lab.example www A 192.0.2.9
    Add {
        zone: String,
        record: String,
        /// A, AAAA, CAA, CNAME, MX, NS, PTR, SRV, SSHFP, TLSA or TXT
        #[arg(value_name = "TYPE")]
        kind: String,
        value: String,
        /// Seconds that it may be kept for
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        ttl: u64,
    },
    /// Remove an entry
    Remove {
        zone: String,
        record: String,
        #[arg(value_name = "TYPE")]
        kind: String,
        value: String,
    },
}

fn all(zone: &str) -> Path {
    super::path(zone).segment("records")
}

fn path(zone: &str, record: &str) -> Path {
    all(zone).segment(record)
}

pub(super) async fn run(context: &Context, command: Command) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::List { zone, output } => list(&client, &zone, output).await,
        Command::Show { zone, record } => part::show::<Record>(&client, path(&zone, &record)).await,
        Command::Create { zone, record, pairs, description } => {
            let config = pairs::map(&pairs)?;
            let wanted = Record { name: record.clone(), description, config, ..Record::default() };
            part::create(&client, all(&zone), &wanted).await?;
            context.say(format!("Created record {record} of network zone {zone}"))
        }
        Command::Edit { zone, record } => {
            part::edit::<Record>(&client, path(&zone, &record), context.editor.as_deref()).await
        }
        Command::Get { zone, record, key } => part::get::<Record>(&client, path(&zone, &record), &key).await,
        Command::Set { zone, record, pairs } => {
            part::set::<Record>(&client, path(&zone, &record), pairs::map(&pairs)?).await
        }
        Command::Unset { zone, record, key } => part::unset::<Record>(&client, path(&zone, &record), &key).await,
        Command::Delete { zone, record } => {
            part::delete(&client, path(&zone, &record)).await?;
            context.say(format!("Deleted record {record} of network zone {zone}"))
        }
        Command::Entry(EntryCommand::Add { zone, record, kind, value, ttl }) => {
            part::change::<Record>(&client, path(&zone, &record), |record| {
                record.entries.push(Entry { kind, ttl, value });
                Ok(())
            })
            .await
        }
        Command::Entry(EntryCommand::Remove { zone, record, kind, value }) => {
            part::change::<Record>(&client, path(&zone, &record), |record| remove(record, &kind, &value)).await
        }
    }
}

fn remove(record: &mut Record, kind: &str, value: &str) -> Result<()> {
    let before = record.entries.len();
    record.entries.retain(|entry| !entry.kind.eq_ignore_ascii_case(kind) || entry.value != value);
    if record.entries.len() == before { bail!("no entry fits") } else { Ok(()) }
}

async fn list(client: &Client, zone: &str, output: Output) -> Result<()> {
    let records: Vec<Record> = client.get(all(zone).with("recursion", "1")).await?;
    output.list(&records, || {
        let mut table = Table::new(["NAME", "DESCRIPTION", "ENTRIES"]);
        for record in &records {
            let entries = record.entries.iter().map(|entry| format!("{} {}", entry.kind, entry.value));
            table.row([&record.name, &record.description, &entries.collect::<Vec<_>>().join("\n")]);
        }
        table
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_removed_by_its_type_and_value() {
        let entry = |kind: &str, value: &str| Entry { kind: kind.into(), ttl: 0, value: value.into() };
        let (a, b) = (entry("A", "192.0.2.9"), entry("TXT", "192.0.2.9"));
        let mut record = Record { entries: vec![a, b.clone()], ..Record::default() };
        assert!(remove(&mut record, "A", "192.0.2.1").is_err());
        remove(&mut record, "a", "192.0.2.9").unwrap();
        assert_eq!(record.entries, [b]);
    }
}
