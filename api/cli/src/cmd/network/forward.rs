//! `basalt network forward`.

use anyhow::{Result, bail};
use basalt_client::{Client, Path};
use clap::Subcommand;

use basalt_api::dto::balance::{Forward, ForwardPort};

use super::part;
use crate::context::Context;
use crate::output::Output;
use crate::pairs;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List forwards of a network
    #[command(visible_alias = "ls")]
    List {
        network: String,
        #[command(flatten)]
        output: Output,
    },
    /// Print a forward as YAML
    Show { network: String, listen_address: String },
    /// Forward an address of the uplink; target_address=ADDRESS takes what no port is about
    Create {
        network: String,
        listen_address: String,
        #[arg(value_name = "KEY=VALUE")]
        pairs: Vec<String>,
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Edit a forward as YAML
    Edit { network: String, listen_address: String },
    /// Print the value of a key
    Get { network: String, listen_address: String, key: String },
    /// Set keys
    Set {
        network: String,
        listen_address: String,
        #[arg(required = true, value_name = "KEY=VALUE")]
        pairs: Vec<String>,
    },
    /// Remove a key
    Unset { network: String, listen_address: String, key: String },
    /// Delete a forward
    #[command(visible_alias = "rm")]
    Delete { network: String, listen_address: String },
    /// Ports of a forward
    #[command(subcommand)]
    Port(PortCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum PortCommand {
    /// Forward ports: tcp 80,8000-8010 10.1.0.2
    Add {
        network: String,
        listen_address: String,
        /// tcp or udp
        protocol: String,
        /// One, a range, or several with commas between
        listen_ports: String,
        target_address: String,
        /// As many, one for all, or nothing for the same
        #[arg(default_value = "")]
        target_ports: String,
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Forward ports no longer
    Remove { network: String, listen_address: String, protocol: String, listen_ports: String },
}

fn path(network: &str, listen: &str) -> Path {
    part::of(network, "forwards").segment(listen)
}

pub(super) async fn run(context: &Context, command: Command) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::List { network, output } => list(&client, &network, output).await,
        Command::Show { network, listen_address } => {
            part::show::<Forward>(&client, path(&network, &listen_address)).await
        }
        Command::Create { network, listen_address, pairs, description } => {
            let config = pairs::map(&pairs)?;
            let listen = listen_address.clone();
            let wanted = Forward { listen_address, description, config, ..Forward::default() };
            part::create(&client, part::of(&network, "forwards"), &wanted).await?;
            context.say(format!("Created forward {listen}"))
        }
        Command::Edit { network, listen_address } => {
            part::edit::<Forward>(&client, path(&network, &listen_address), context.editor.as_deref()).await
        }
        Command::Get { network, listen_address, key } => {
            part::get::<Forward>(&client, path(&network, &listen_address), &key).await
        }
        Command::Set { network, listen_address, pairs } => {
            part::set::<Forward>(&client, path(&network, &listen_address), pairs::map(&pairs)?).await
        }
        Command::Unset { network, listen_address, key } => {
            part::unset::<Forward>(&client, path(&network, &listen_address), &key).await
        }
        Command::Delete { network, listen_address } => {
            part::delete(&client, path(&network, &listen_address)).await?;
            context.say(format!("Deleted forward {listen_address}"))
        }
        Command::Port(command) => port(&client, command).await,
    }
}

async fn port(client: &Client, command: PortCommand) -> Result<()> {
    match command {
        PortCommand::Add {
            network,
            listen_address,
            protocol,
            listen_ports: listen_port,
            target_address,
            target_ports: target_port,
            description,
        } => {
            let port = ForwardPort { description, protocol, listen_port, target_port, target_address };
            part::change::<Forward>(client, path(&network, &listen_address), |forward| {
                forward.ports.push(port);
                Ok(())
            })
            .await
        }
        PortCommand::Remove { network, listen_address, protocol, listen_ports } => {
            part::change::<Forward>(client, path(&network, &listen_address), |forward| {
                let before = forward.ports.len();
                forward.ports.retain(|port| port.protocol != protocol || port.listen_port != listen_ports);
                if forward.ports.len() == before { bail!("no port fits") } else { Ok(()) }
            })
            .await
        }
    }
}

async fn list(client: &Client, network: &str, output: Output) -> Result<()> {
    let forwards: Vec<Forward> = client.get(part::of(network, "forwards").with("recursion", "1")).await?;
    output.list(&forwards, || {
        let mut table = Table::new(["LISTEN ADDRESS", "DESCRIPTION", "DEFAULT TARGET ADDRESS", "PORTS"]);
        for forward in &forwards {
            let target = forward.config.get("target_address").map_or("", String::as_str);
            table.row([&forward.listen_address, &forward.description, target, &forward.ports.len().to_string()]);
        }
        table
    })
}
