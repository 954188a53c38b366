//! `basalt network address-set`.

use anyhow::{Result, bail};
use basalt_client::{Client, Method, Path};
use clap::Subcommand;

use basalt_api::dto::address_set::AddressSet;
use basalt_api::dto::network::Rename;

use super::part;
use crate::context::Context;
use crate::output::Output;
use crate::pairs;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List address sets
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Print a set as YAML
    Show { name: String },
    /// Make a set without addresses
    Create {
        name: String,
        #[arg(value_name = "KEY=VALUE")]
        pairs: Vec<String>,
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Edit a set as YAML
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
    /// Rename a set that no rule names
    Rename { name: String, new_name: String },
    /// Delete a set that no rule names
    #[command(visible_alias = "rm")]
    Delete { name: String },
    /// Add addresses and networks: 192.0.2.9 2001:db8::/32
    Add {
        name: String,
        #[arg(required = true)]
        addresses: Vec<String>,
    },
    /// Remove addresses and networks
    Remove {
        name: String,
        #[arg(required = true)]
        addresses: Vec<String>,
    },
}

fn path(name: &str) -> Path {
    Path::of("network-address-sets").segment(name)
}

pub(super) async fn run(context: &Context, command: Command) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::List { output } => list(&client, output).await,
        Command::Show { name } => part::show::<AddressSet>(&client, path(&name)).await,
        Command::Create { name, pairs, description } => {
            let config = pairs::map(&pairs)?;
            let wanted = AddressSet { name: name.clone(), description, config, ..AddressSet::default() };
            part::create(&client, Path::of("network-address-sets"), &wanted).await?;
            context.say(format!("Created network address set {name}"))
        }
        Command::Edit { name } => part::edit::<AddressSet>(&client, path(&name), context.editor.as_deref()).await,
        Command::Get { name, key } => part::get::<AddressSet>(&client, path(&name), &key).await,
        Command::Set { name, pairs } => part::set::<AddressSet>(&client, path(&name), pairs::map(&pairs)?).await,
        Command::Unset { name, key } => part::unset::<AddressSet>(&client, path(&name), &key).await,
        Command::Rename { name, new_name } => {
            Ok(client.apply(Method::POST, path(&name), Some(&Rename { name: new_name })).await?)
        }
        Command::Delete { name } => {
            part::delete(&client, path(&name)).await?;
            context.say(format!("Deleted network address set {name}"))
        }
        Command::Add { name, addresses } => {
            part::change::<AddressSet>(&client, path(&name), |set| {
                set.addresses.extend(addresses);
                Ok(())
            })
            .await
        }
        Command::Remove { name, addresses } => {
            part::change::<AddressSet>(&client, path(&name), |set| remove(set, &addresses)).await
        }
    }
}

fn remove(set: &mut AddressSet, addresses: &[String]) -> Result<()> {
    if let Some(stranger) = addresses.iter().find(|address| !set.addresses.contains(address)) {
        bail!("{stranger} is not in the set");
    }
    set.addresses.retain(|address| !addresses.contains(address));
    Ok(())
}

async fn list(client: &Client, output: Output) -> Result<()> {
    let sets: Vec<AddressSet> = client.get(Path::of("network-address-sets").with("recursion", "1")).await?;
    output.list(&sets, || {
        let mut table = Table::new(["NAME", "DESCRIPTION", "ADDRESSES", "USED BY"]);
        for set in &sets {
            let used = set.used_by.len().to_string();
            table.row([&set.name, &set.description, &set.addresses.join("\n"), &used]);
        }
        table
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_is_removed() {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let mut set = AddressSet { addresses: texts(&["192.0.2.1", "192.0.2.2"]), ..AddressSet::default() };
        assert!(remove(&mut set, &texts(&["192.0.2.1", "192.0.2.3"])).is_err());
        assert_eq!(set.addresses.len(), 2);
        remove(&mut set, &texts(&["192.0.2.1"])).unwrap();
        assert_eq!(set.addresses, texts(&["192.0.2.2"]));
    }
}
