//! `basalt network`.

use anyhow::Result;
use basalt_client::Client;
use clap::Subcommand;

use basalt_api::dto::network::{Network, Post};

use crate::cmd::object;
use crate::context::Context;
use crate::output::Output;
use crate::pairs;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List networks
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Print a network as YAML
    Show { name: String },
    /// Make a network, on all members
    Create {
        name: String,
        #[arg(value_name = "KEY=VALUE")]
        pairs: Vec<String>,
        #[arg(short = 't', long = "type", default_value = "bridge", value_name = "TYPE")]
        kind: String,
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Edit a network as YAML
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
    /// Rename a network that nothing uses
    Rename { name: String, new_name: String },
    /// Delete a network that nothing uses
    #[command(visible_alias = "rm")]
    Delete { name: String },
    /// List addresses that its instances have
    #[command(visible_alias = "list-leases")]
    Leases {
        name: String,
        #[command(flatten)]
        output: Output,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::List { output } => list(&client, output).await,
        Command::Show { name } => object::show::<Network>(&client, &name).await,
        Command::Create { name, pairs, kind, description } => {
            client
                .create::<Network>(&Post { name: name.clone(), description, kind, config: pairs::map(&pairs)? })
                .await?;
            context.say(format!("Created network {name}"))
        }
        Command::Edit { name } => object::edit::<Network>(&client, &name, context.editor.as_deref()).await,
        Command::Get { name, key } => object::get::<Network>(&client, &name, &key).await,
        Command::Set { name, pairs } => object::set::<Network>(&client, &name, pairs::map(&pairs)?).await,
        Command::Unset { name, key } => object::unset::<Network>(&client, &name, &key).await,
        Command::Rename { name, new_name } => Ok(client.rename::<Network>(&name, &new_name).await?),
        Command::Delete { name } => {
            client.delete::<Network>(&name).await?;
            context.say(format!("Deleted network {name}"))
        }
        Command::Leases { name, output } => leases(&client, &name, output).await,
    }
}

async fn list(client: &Client, output: Output) -> Result<()> {
    let networks = client.list::<Network>().await?;
    output.list(&networks, || {
        let headings = ["NAME", "TYPE", "MANAGED", "IPV4", "IPV6", "DESCRIPTION", "USED BY", "STATE"];
        let mut table = Table::new(headings);
        for n in &networks {
            let key = |key: &str| n.config.get(key).map_or("", String::as_str);
            let managed = if n.managed { "YES" } else { "NO" };
            let (used, state) = (n.used_by.len().to_string(), n.status.to_uppercase());
            let (v4, v6) = (key("ipv4.address"), key("ipv6.address"));
            table.row([&n.name, &n.kind, managed, v4, v6, &n.description, &used, &state]);
        }
        table
    })
}

async fn leases(client: &Client, name: &str, output: Output) -> Result<()> {
    let leases = client.leases(name).await?;
    output.list(&leases, || {
        let mut table = Table::new(["HOSTNAME", "MAC ADDRESS", "IP ADDRESS", "TYPE", "LOCATION"]);
        for lease in &leases {
            let kind = lease.kind.to_uppercase();
            table.row([&lease.hostname, &lease.hwaddr, &lease.address, &kind, &lease.location]);
        }
        table
    })
}
