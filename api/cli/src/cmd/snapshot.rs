//! `basalt snapshot`.

use anyhow::{Result, bail};
use basalt_client::Client;
use clap::Subcommand;

use basalt_api::dto::ZERO_TIME;
use basalt_api::dto::instance::SnapshotPost;

use crate::context::Context;
use crate::output::{self, Output};
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take a snapshot of an instance
    Create {
        instance: String,
        /// Its name; without one, the instance's `snapshots.pattern` makes it
        name: Option<String>,
        /// When it is to be removed by itself (RFC 3339, such as 2030-01-31T00:00:00Z)
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        /// Keep it until it is deleted, whatever `snapshots.expiry` says
        #[arg(long, conflicts_with = "expires")]
        no_expiry: bool,
    },
    /// List the snapshots of an instance
    #[command(visible_alias = "ls")]
    List {
        instance: String,
        #[command(flatten)]
        output: Output,
    },
    /// Print a snapshot as YAML
    Show { instance: String, name: String },
    /// Rename a snapshot
    Rename { instance: String, name: String, new_name: String },
    /// Take an instance back to a snapshot, its configuration with it; one that runs is started again
    Restore { instance: String, name: String },
    /// Delete snapshots
    #[command(visible_alias = "rm")]
    Delete {
        instance: String,
        #[arg(required = true)]
        names: Vec<String>,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::Create { instance, name, expires, no_expiry } => {
            let expires_at = if no_expiry { Some(ZERO_TIME.to_owned()) } else { expires };
            let wanted = SnapshotPost { name: name.unwrap_or_default(), expires_at, stateful: false };
            let operation = client.create_snapshot(&instance, &wanted).await?;
            let ended = context.follow(&client, &operation, &format!("Taking a snapshot of {instance}")).await?;
            let url = ended.resources.as_ref().and_then(|r| r.get("instances_snapshots")?.first().cloned());
            match url.as_deref().and_then(|url| url.rsplit('/').next()) {
                Some(name) => context.say(format!("Took snapshot {name}")),
                None => {
                    bail!("the server does not say what the snapshot is called: see `basalt snapshot list {instance}`")
                }
            }
        }
        Command::List { instance, output } => list(&client, &instance, output).await,
        Command::Show { instance, name } => {
            output::print(&output::yaml(&client.snapshot(&instance, &name).await?.value)?)
        }
        Command::Rename { instance, name, new_name } => Ok(client.rename_snapshot(&instance, &name, &new_name).await?),
        Command::Restore { instance, name } => {
            let operation = client.restore_snapshot(&instance, &name).await?;
            context.follow(&client, &operation, &format!("Restoring {instance}")).await.map(drop)
        }
        Command::Delete { instance, names } => {
            for name in names {
                let operation = client.delete_snapshot(&instance, &name).await?;
                context.follow(&client, &operation, &format!("Deleting {instance}/{name}")).await?;
            }
            Ok(())
        }
    }
}

async fn list(client: &Client, instance: &str, output: Output) -> Result<()> {
    let snapshots = client.snapshots(instance).await?;
    output.list(&snapshots, || {
        let mut table = Table::new(["NAME", "TAKEN AT", "EXPIRES AT", "SIZE"]);
        for s in &snapshots {
            let size = u64::try_from(s.size).ok().filter(|&size| size > 0).map_or_else(String::new, output::bytes);
            table.row([s.name.clone(), output::time(&s.created_at), output::time(&s.expires_at), size]);
        }
        table
    })
}
