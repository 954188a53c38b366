//! `basalt storage`.

use anyhow::Result;
use basalt_client::Client;
use clap::Subcommand;
use serde::Serialize;

use basalt_api::dto::pool::{Pool, Post, Resources};

use crate::cmd::object;
use crate::context::Context;
use crate::output::{self, Output};
use crate::pairs;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List storage pools
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Print a pool as YAML
    Show { name: String },
    /// Print the space of a pool on each member
    Info {
        name: String,
        /// Only on this member
        #[arg(long)]
        target: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Make a pool, on all members; keys of one member first with --target
    Create {
        name: String,
        /// zfs or dir
        driver: String,
        #[arg(value_name = "KEY=VALUE")]
        pairs: Vec<String>,
        #[arg(long)]
        target: Option<String>,
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Edit a pool as YAML
    Edit { name: String },
    /// Print the value of a key
    Get { name: String, key: String },
    /// Set keys
    Set {
        name: String,
        #[arg(required = true, value_name = "KEY=VALUE")]
        pairs: Vec<String>,
    },
    /// Remove a key
    Unset { name: String, key: String },
    /// Delete an empty pool
    #[command(visible_alias = "rm")]
    Delete { name: String },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::List { output } => list(&client, output).await,
        Command::Show { name } => object::show::<Pool>(&client, &name).await,
        Command::Info { name, target, output } => info(&client, &name, target, output).await,
        Command::Create { name, driver, pairs, target, description } => {
            let wanted = Post { name: name.clone(), driver, description, config: pairs::map(&pairs)? };
            client.at(target.as_deref()).create::<Pool>(&wanted).await?;
            context.say(format!("Created storage pool {name}"))
        }
        Command::Edit { name } => object::edit::<Pool>(&client, &name, context.editor.as_deref()).await,
        Command::Get { name, key } => object::get::<Pool>(&client, &name, &key).await,
        Command::Set { name, pairs } => object::set::<Pool>(&client, &name, pairs::map(&pairs)?).await,
        Command::Unset { name, key } => object::unset::<Pool>(&client, &name, &key).await,
        Command::Delete { name } => {
            client.delete::<Pool>(&name).await?;
            context.say(format!("Deleted storage pool {name}"))
        }
    }
}

async fn list(client: &Client, output: Output) -> Result<()> {
    let pools = client.list::<Pool>().await?;
    output.list(&pools, || {
        let mut table = Table::new(["NAME", "DRIVER", "DESCRIPTION", "USED BY", "STATE"]);
        for pool in &pools {
            let (used, state) = (pool.used_by.len().to_string(), pool.status.to_uppercase());
            table.row([&pool.name, &pool.driver, &pool.description, &used, &state]);
        }
        table
    })
}

/// Space of a pool on one member.
#[derive(Debug, Serialize)]
struct Share {
    member: String,
    #[serde(flatten)]
    resources: Resources,
}

async fn info(client: &Client, name: &str, target: Option<String>, output: Output) -> Result<()> {
    let members = match target {
        Some(member) => vec![member],
        None => client.object::<Pool>(name).await?.value.locations,
    };
    let mut shares = Vec::new();
    for member in members {
        // A single machine has no members to choose from.
        let target = Some(member.as_str()).filter(|member| *member != "none");
        let resources = client.at(target).pool_resources(name).await?;
        shares.push(Share { member, resources });
    }
    output.list(&shares, || {
        let mut table = Table::new(["MEMBER", "USED", "TOTAL"]);
        for share in &shares {
            let space = share.resources.space;
            table.row([share.member.clone(), output::bytes(space.used), output::bytes(space.total)]);
        }
        table
    })
}
