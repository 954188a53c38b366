//! `basalt network load-balancer`.

use anyhow::{Result, bail};
use basalt_client::{Client, Path};
use clap::Subcommand;

use basalt_api::dto::balance::{Backend, Balancer, BalancerPort, BalancerState};

use super::part;
use crate::context::Context;
use crate::output::Output;
use crate::pairs;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List load balancers of a network
    #[command(visible_alias = "ls")]
    List {
        network: String,
        #[command(flatten)]
        output: Output,
    },
    /// Print a load balancer as YAML
    Show { network: String, listen_address: String },
    /// Print what is thought of its backends
    Info { network: String, listen_address: String },
    /// Make a load balancer on an address of the uplink
    Create {
        network: String,
        listen_address: String,
        #[arg(value_name = "KEY=VALUE")]
        pairs: Vec<String>,
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Edit a load balancer as YAML
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
    /// Delete a load balancer
    #[command(visible_alias = "rm")]
    Delete { network: String, listen_address: String },
    /// Those that share the traffic
    #[command(subcommand)]
    Backend(BackendCommand),
    /// Ports of a load balancer
    #[command(subcommand)]
    Port(PortCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum BackendCommand {
    /// Add one
    Add {
        network: String,
        listen_address: String,
        name: String,
        target_address: String,
        /// As many as are listened on, one for all, or nothing for the same
        #[arg(default_value = "")]
        target_ports: String,
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Remove one that no port names
    Remove { network: String, listen_address: String, name: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PortCommand {
    /// Listen on ports: tcp 80 web1,web2
    Add {
        network: String,
        listen_address: String,
        /// tcp or udp
        protocol: String,
        /// One, a range, or several with commas between
        listen_ports: String,
        /// Names with commas between
        backends: String,
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Listen on ports no longer
    Remove { network: String, listen_address: String, protocol: String, listen_ports: String },
}

fn path(network: &str, listen: &str) -> Path {
    part::of(network, "load-balancers").segment(listen)
}

pub(super) async fn run(context: &Context, command: Command) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::List { network, output } => list(&client, &network, output).await,
        Command::Show { network, listen_address } => {
            part::show::<Balancer>(&client, path(&network, &listen_address)).await
        }
        Command::Info { network, listen_address } => info(context, &client, path(&network, &listen_address)).await,
        Command::Create { network, listen_address, pairs, description } => {
            let config = pairs::map(&pairs)?;
            let listen = listen_address.clone();
            let wanted = Balancer { listen_address, description, config, ..Balancer::default() };
            part::create(&client, part::of(&network, "load-balancers"), &wanted).await?;
            context.say(format!("Created load balancer {listen}"))
        }
        Command::Edit { network, listen_address } => {
            part::edit::<Balancer>(&client, path(&network, &listen_address), context.editor.as_deref()).await
        }
        Command::Get { network, listen_address, key } => {
            part::get::<Balancer>(&client, path(&network, &listen_address), &key).await
        }
        Command::Set { network, listen_address, pairs } => {
            part::set::<Balancer>(&client, path(&network, &listen_address), pairs::map(&pairs)?).await
        }
        Command::Unset { network, listen_address, key } => {
            part::unset::<Balancer>(&client, path(&network, &listen_address), &key).await
        }
        Command::Delete { network, listen_address } => {
            part::delete(&client, path(&network, &listen_address)).await?;
            context.say(format!("Deleted load balancer {listen_address}"))
        }
        Command::Backend(command) => backend(&client, command).await,
        Command::Port(command) => port(&client, command).await,
    }
}

async fn info(context: &Context, client: &Client, path: Path) -> Result<()> {
    let state: BalancerState = client.get(path.segment("state")).await?;
    if state.backend_health.is_empty() {
        return context.say("Backends are not checked: set healthcheck=true (IPv4 only)");
    }
    context.say("Backend health:")?;
    for (name, backend) in state.backend_health {
        context.say(format!("  {name} ({}):", backend.address))?;
        for port in backend.ports {
            context.say(format!("    - {}/{}: {}", port.protocol, port.port, port.status))?;
        }
    }
    Ok(())
}

async fn backend(client: &Client, command: BackendCommand) -> Result<()> {
    match command {
        BackendCommand::Add { network, listen_address, name, target_address, target_ports, description } => {
            let backend = Backend { name, description, target_port: target_ports, target_address };
            part::change::<Balancer>(client, path(&network, &listen_address), |balancer| {
                balancer.backends.push(backend);
                Ok(())
            })
            .await
        }
        BackendCommand::Remove { network, listen_address, name } => {
            part::change::<Balancer>(client, path(&network, &listen_address), |balancer| {
                let before = balancer.backends.len();
                balancer.backends.retain(|backend| backend.name != name);
                if balancer.backends.len() == before { bail!("there is no backend {name}") } else { Ok(()) }
            })
            .await
        }
    }
}

async fn port(client: &Client, command: PortCommand) -> Result<()> {
    match command {
        PortCommand::Add { network, listen_address, protocol, listen_ports, backends, description } => {
            let target_backend = backends.split(',').map(|name| name.trim().to_owned()).collect();
            let port = BalancerPort { description, protocol, listen_port: listen_ports, target_backend };
            part::change::<Balancer>(client, path(&network, &listen_address), |balancer| {
                balancer.ports.push(port);
                Ok(())
            })
            .await
        }
        PortCommand::Remove { network, listen_address, protocol, listen_ports } => {
            part::change::<Balancer>(client, path(&network, &listen_address), |balancer| {
                let before = balancer.ports.len();
                balancer.ports.retain(|port| port.protocol != protocol || port.listen_port != listen_ports);
                if balancer.ports.len() == before { bail!("no port fits") } else { Ok(()) }
            })
            .await
        }
    }
}

async fn list(client: &Client, network: &str, output: Output) -> Result<()> {
    let balancers: Vec<Balancer> = client.get(part::of(network, "load-balancers").with("recursion", "1")).await?;
    output.list(&balancers, || {
        let mut table = Table::new(["LISTEN ADDRESS", "DESCRIPTION", "BACKENDS", "PORTS"]);
        for b in &balancers {
            let (backends, ports) = (b.backends.len().to_string(), b.ports.len().to_string());
            table.row([&b.listen_address, &b.description, &backends, &ports]);
        }
        table
    })
}
