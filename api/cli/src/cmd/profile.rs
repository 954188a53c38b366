//! `basalt profile`.

use std::io::{self, IsTerminal, Read};

use anyhow::{Context as _, Result, bail};
use basalt_client::Client;
use clap::Subcommand;

use basalt_api::dto::Map;
use basalt_api::dto::profile::{Profile, Put};

use crate::cmd::{config, device};
use crate::context::Context;
use crate::output::{self, Output};
use crate::pairs;
use crate::table::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List profiles
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Print a profile as YAML
    Show { name: String },
    /// Make a profile; from YAML when standard input is no terminal
    Create {
        name: String,
        #[arg(long)]
        description: Option<String>,
    },
    /// Make a profile like another
    Copy { name: String, new_name: String },
    /// Edit a profile as YAML
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
    /// Rename a profile
    Rename { name: String, new_name: String },
    /// Delete a profile
    #[command(visible_alias = "rm")]
    Delete { name: String },
    /// Add a profile to an instance
    Add { instance: String, name: String },
    /// Remove a profile from an instance
    Remove { instance: String, name: String },
    /// Give an instance exactly these profiles
    Assign {
        instance: String,
        /// Comma-separated; empty for none
        names: String,
    },
    /// Devices of a profile
    #[command(subcommand)]
    Device(device::Command),
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::List { output } => list(&client, output).await,
        Command::Show { name } => output::print(&output::yaml(&client.object::<Profile>(&name).await?.value)?),
        Command::Create { name, description } => create(context, &client, name, description).await,
        Command::Copy { name, new_name } => {
            let from = client.object::<Profile>(&name).await?.value;
            let wanted = Profile { name: new_name, used_by: Vec::new(), ..from };
            Ok(client.create::<Profile>(&wanted).await?)
        }
        Command::Edit { name } => {
            let now = client.object::<Profile>(&name).await?;
            let wanted: Put = crate::edit::edit(&put(now.value), context.editor.as_deref())?;
            Ok(client.replace_object::<Profile>(&name, &wanted, now.etag.as_deref()).await?)
        }
        Command::Get { name, key } => {
            let config = client.object::<Profile>(&name).await?.value.config;
            output::line(config.get(&key).map_or("", String::as_str))
        }
        Command::Set { name, pairs } => {
            let pairs = pairs::map(&pairs)?;
            change(&client, &name, |config| {
                config.extend(pairs);
                Ok(())
            })
            .await
        }
        Command::Unset { name, key } => {
            change(&client, &name, |config| config.remove(&key).map(drop).with_context(|| format!("{key} is not set")))
                .await
        }
        Command::Rename { name, new_name } => Ok(client.rename::<Profile>(&name, &new_name).await?),
        Command::Delete { name } => {
            client.delete::<Profile>(&name).await?;
            context.say(format!("Deleted profile {name}"))
        }
        Command::Add { instance, name } => {
            assign(&client, &instance, |profiles| {
                if profiles.contains(&name) {
                    bail!("{instance} has profile {name} already");
                }
                profiles.push(name);
                Ok(())
            })
            .await
        }
        Command::Remove { instance, name } => {
            assign(&client, &instance, |profiles| {
                let before = profiles.len();
                profiles.retain(|profile| *profile != name);
                if profiles.len() == before { bail!("{instance} has no profile {name}") } else { Ok(()) }
            })
            .await
        }
        Command::Assign { instance, names } => {
            let names = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            assign(&client, &instance, |profiles| {
                *profiles = names;
                Ok(())
            })
            .await
        }
        Command::Device(command) => device::run(context, command, device::Owner::Profile).await,
    }
}

async fn list(client: &Client, output: Output) -> Result<()> {
    let profiles = client.list::<Profile>().await?;
    output.list(&profiles, || {
        let mut table = Table::new(["NAME", "DESCRIPTION", "USED BY"]);
        for profile in &profiles {
            table.row([&profile.name, &profile.description, &profile.used_by.len().to_string()]);
        }
        table
    })
}

async fn create(context: &Context, client: &Client, name: String, description: Option<String>) -> Result<()> {
    let mut wanted = Put::default();
    if !io::stdin().is_terminal() {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        if !text.trim().is_empty() {
            wanted = output::from_yaml(&text)?;
        }
    }
    let profile = Profile {
        name: name.clone(),
        description: description.or(wanted.description).unwrap_or_default(),
        config: wanted.config.unwrap_or_default(),
        devices: wanted.devices.unwrap_or_default(),
        ..Profile::default()
    };
    client.create::<Profile>(&profile).await?;
    context.say(format!("Created profile {name}"))
}

fn put(profile: Profile) -> Put {
    Put { description: Some(profile.description), config: Some(profile.config), devices: Some(profile.devices) }
}

async fn change(client: &Client, name: &str, change: impl FnOnce(&mut Map) -> Result<()>) -> Result<()> {
    let mut now = client.object::<Profile>(name).await?;
    change(&mut now.value.config)?;
    Ok(client.replace_object::<Profile>(name, &put(now.value), now.etag.as_deref()).await?)
}

async fn assign(client: &Client, instance: &str, change: impl FnOnce(&mut Vec<String>) -> Result<()>) -> Result<()> {
    let mut now = client.instance(instance).await?;
    change(&mut now.value.profiles)?;
    Ok(client.replace_instance(instance, &config::put(now.value), now.etag.as_deref()).await?)
}
