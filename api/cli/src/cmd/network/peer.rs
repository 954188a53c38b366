//! `basalt network peer`.

use anyhow::Result;
use basalt_client::{Client, Path};
use clap::Subcommand;

use basalt_api::dto::peer::Peer;

use super::part;
use crate::context::Context;
use crate::output::Output;
use crate::pairs;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List peerings of a network
    #[command(visible_alias = "ls")]
    List {
        network: String,
        #[command(flatten)]
        output: Output,
    },
    /// Print a peering as YAML
    Show { network: String, name: String },
    /// Make one side of a peering; traffic flows once the other network has one back
    Create {
        network: String,
        name: String,
        /// The other network; of the same project where none is named
        #[arg(value_name = "[PROJECT/]NETWORK")]
        target: String,
        #[arg(value_name = "KEY=VALUE")]
        pairs: Vec<String>,
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Edit a peering as YAML
    Edit { network: String, name: String },
    /// Print the value of a key
    Get { network: String, name: String, key: String },
    /// Set keys
    Set {
        network: String,
        name: String,
        #[arg(required = true, value_name = "KEY=VALUE")]
        pairs: Vec<String>,
    },
    /// Remove a key
    Unset { network: String, name: String, key: String },
    /// Delete one side of a peering
    #[command(visible_alias = "rm")]
    Delete { network: String, name: String },
}

fn path(network: &str, name: &str) -> Path {
    part::of(network, "peers").segment(name)
}

pub(super) async fn run(context: &Context, command: Command) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::List { network, output } => list(&client, &network, output).await,
        Command::Show { network, name } => part::show::<Peer>(&client, path(&network, &name)).await,
        Command::Create { network, name, target, pairs, description } => {
            let (target_project, target_network) = target.split_once('/').unwrap_or(("", target.as_str()));
            let wanted = Peer {
                name: name.clone(),
                description,
                config: pairs::map(&pairs)?,
                target_project: target_project.to_owned(),
                target_network: target_network.to_owned(),
                ..Peer::default()
            };
            part::create(&client, part::of(&network, "peers"), &wanted).await?;
            let made: Peer = client.get(path(&network, &name)).await?;
            context.say(format!("Peering {name} is {}", made.status.to_lowercase()))
        }
        Command::Edit { network, name } => {
            part::edit::<Peer>(&client, path(&network, &name), context.editor.as_deref()).await
        }
        Command::Get { network, name, key } => part::get::<Peer>(&client, path(&network, &name), &key).await,
        Command::Set { network, name, pairs } => {
            part::set::<Peer>(&client, path(&network, &name), pairs::map(&pairs)?).await
        }
        Command::Unset { network, name, key } => part::unset::<Peer>(&client, path(&network, &name), &key).await,
        Command::Delete { network, name } => {
            part::delete(&client, path(&network, &name)).await?;
            context.say(format!("Deleted peering {name}"))
        }
    }
}

async fn list(client: &Client, network: &str, output: Output) -> Result<()> {
    let peers: Vec<Peer> = client.get(part::of(network, "peers").with("recursion", "1")).await?;
    output.list(&peers, || {
        let mut table = Table::new(["NAME", "DESCRIPTION", "PEER", "STATE"]);
        for peer in &peers {
            let target = format!("{}/{}", peer.target_project, peer.target_network);
            table.row([&peer.name, &peer.description, &target, &peer.status.to_uppercase()]);
        }
        table
    })
}
