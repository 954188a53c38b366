//! `basalt network zone`.

mod record;

use anyhow::Result;
use basalt_client::{Client, Path};
use clap::Subcommand;

use basalt_api::dto::zone::Zone;

use super::part;
use crate::context::Context;
use crate::output::Output;
use crate::pairs;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List zones
    #[command(visible_alias = "ls")]
    List {
        /// Of all projects
        #[arg(long)]
        all_projects: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Print a zone as YAML
    Show { zone: String },
    /// Make a zone: peers.NAME.address and peers.NAME.key say who may transfer it
    Create {
        zone: String,
        #[arg(value_name = "KEY=VALUE")]
        pairs: Vec<String>,
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Edit a zone as YAML
    Edit { zone: String },
    /// Print the value of a key
    Get { zone: String, key: String },
    /// Set keys
    Set {
        zone: String,
        #[arg(required = true, value_name = "KEY=VALUE")]
        pairs: Vec<String>,
    },
    /// Remove a key
    Unset { zone: String, key: String },
    /// Delete a zone that no network uses
    #[command(visible_alias = "rm")]
    Delete { zone: String },
    /// Records beside those of instances
    #[command(subcommand)]
    Record(record::Command),
}

fn path(zone: &str) -> Path {
    Path::of("network-zones").segment(zone)
}

pub(super) async fn run(context: &Context, command: Command) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::List { all_projects, output } => list(&client, all_projects, output).await,
        Command::Show { zone } => part::show::<Zone>(&client, path(&zone)).await,
        Command::Create { zone, pairs, description } => {
            let wanted = Zone { name: zone.clone(), description, config: pairs::map(&pairs)?, ..Zone::default() };
            part::create(&client, Path::of("network-zones"), &wanted).await?;
            context.say(format!("Created network zone {zone}"))
        }
        Command::Edit { zone } => part::edit::<Zone>(&client, path(&zone), context.editor.as_deref()).await,
        Command::Get { zone, key } => part::get::<Zone>(&client, path(&zone), &key).await,
        Command::Set { zone, pairs } => part::set::<Zone>(&client, path(&zone), pairs::map(&pairs)?).await,
        Command::Unset { zone, key } => part::unset::<Zone>(&client, path(&zone), &key).await,
        Command::Delete { zone } => {
            part::delete(&client, path(&zone)).await?;
            context.say(format!("Deleted network zone {zone}"))
        }
        Command::Record(command) => record::run(context, command).await,
    }
}

async fn list(client: &Client, all_projects: bool, output: Output) -> Result<()> {
    let all = Path::of("network-zones").with("recursion", "1");
    let zones: Vec<Zone> = match all_projects {
        true => client.in_project(None).get(all.with("all-projects", "true")).await?,
        false => client.get(all).await?,
    };
    output.list(&zones, || {
        let mut table = Table::new(["PROJECT", "NAME", "DESCRIPTION", "USED BY"]);
        for zone in &zones {
            table.row([&zone.project, &zone.name, &zone.description, &zone.used_by.len().to_string()]);
        }
        table
    })
}
