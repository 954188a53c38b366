//! `basalt network`.

mod acl;
mod address_set;
mod balancer;
mod doctor;
mod forward;
mod info;
mod part;
mod peer;
mod zone;

use anyhow::Result;
use basalt_client::{Client, Path};
use clap::Subcommand;

use basalt_api::dto::network::{Allocation, Network, Post};

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
        #[arg(long)]
        all_projects: bool,
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
    /// List the addresses that networks, their routers and instances have
    #[command(visible_alias = "list-allocations")]
    Allocations {
        #[command(flatten)]
        output: Output,
    },
    /// Show the live state of a network
    Info { name: String },
    /// Say what is wrong with a logical network, and what to do about it
    Doctor {
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// Say where a packet of an instance would go, station by station
    Trace(doctor::Question),
    /// Access control lists
    #[command(subcommand)]
    Acl(acl::Command),
    /// Addresses that rules of lists name
    #[command(subcommand)]
    AddressSet(address_set::Command),
    /// Addresses of an uplink that lead to instances
    #[command(subcommand)]
    Forward(forward::Command),
    /// Addresses of an uplink whose traffic instances share
    #[command(subcommand)]
    LoadBalancer(balancer::Command),
    /// Networks that know each other
    #[command(subcommand)]
    Peer(peer::Command),
    /// Names in the DNS for what is on networks
    #[command(subcommand)]
    Zone(zone::Command),
}

/// Runs a command; gives the exit code.
pub(crate) async fn run(context: &Context, command: Command) -> Result<u8> {
    let client = context.client()?;
    match command {
        Command::Doctor { name, output } => return doctor::doctor(&client, &name, output).await,
        Command::Trace(question) => return doctor::trace(&client, &question).await,
        Command::List { all_projects, output } => list(&client, all_projects, output).await,
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
        Command::Allocations { output } => allocations(&client, output).await,
        Command::Info { name } => info::info(&client, &name).await,
        Command::Acl(command) => acl::run(context, command).await,
        Command::AddressSet(command) => address_set::run(context, command).await,
        Command::Forward(command) => forward::run(context, command).await,
        Command::LoadBalancer(command) => balancer::run(context, command).await,
        Command::Peer(command) => peer::run(context, command).await,
        Command::Zone(command) => zone::run(context, command).await,
    }?;
    Ok(0)
}

async fn list(client: &Client, all_projects: bool, output: Output) -> Result<()> {
    let networks: Vec<Network> = match all_projects {
        true => {
            let all = Path::of("networks").with("recursion", "1").with("all-projects", "true");
            client.in_project(None).get(all).await?
        }
        false => client.list::<Network>().await?,
    };
    output.list(&networks, || {
        let headings = ["PROJECT", "NAME", "TYPE", "MANAGED", "IPV4", "IPV6", "DESCRIPTION", "USED BY", "STATE"];
        let left_out = usize::from(!all_projects);
        let mut table = Table::new(headings.into_iter().skip(left_out));
        for n in &networks {
            let key = |key: &str| n.config.get(key).map_or("", String::as_str);
            let managed = if n.managed { "YES" } else { "NO" };
            let (used, state) = (n.used_by.len().to_string(), n.status.to_uppercase());
            let (v4, v6) = (key("ipv4.address"), key("ipv6.address"));
            let cells = [&n.project, &n.name, &n.kind, managed, v4, v6, &n.description, &used, &state];
            table.row(cells.into_iter().skip(left_out));
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

async fn allocations(client: &Client, output: Output) -> Result<()> {
    let all: Vec<Allocation> = client.get(Path::of("network-allocations")).await?;
    output.list(&all, || {
        let mut table = Table::new(["USED BY", "ADDRESS", "TYPE", "NAT", "MAC ADDRESS", "NETWORK"]);
        for a in &all {
            let nat = if a.nat { "YES" } else { "NO" };
            table.row([&a.used_by, &a.addresses, &a.kind, nat, &a.hwaddr, &a.network]);
        }
        table
    })
}
