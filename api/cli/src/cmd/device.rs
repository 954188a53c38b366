//! Devices of instances and of profiles: the same commands for both.

use anyhow::{Context as _, Result, bail};
use basalt_client::Client;
use clap::Subcommand;

use basalt_api::dto::profile::{self, Profile};
use basalt_api::dto::{Devices, Map};

use crate::cmd::config;
use crate::context::Context;
use crate::{output, pairs};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a device
    Add {
        owner: String,
        name: String,
        /// disk, nic, ...
        #[arg(value_name = "TYPE")]
        kind: String,
        #[arg(value_name = "KEY=VALUE")]
        pairs: Vec<String>,
    },
    /// List names of devices
    #[command(visible_alias = "ls")]
    List { owner: String },
    /// Print devices as YAML
    Show { owner: String },
    /// Print the value of a device's key
    Get { owner: String, name: String, key: String },
    /// Set keys of a device
    Set {
        owner: String,
        name: String,
        #[arg(required = true, value_name = "KEY=VALUE")]
        pairs: Vec<String>,
    },
    /// Remove a key of a device
    Unset { owner: String, name: String, key: String },
    /// Remove devices
    #[command(visible_alias = "rm")]
    Remove {
        owner: String,
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Copy a device of its profiles into an instance, with other values
    Override {
        owner: String,
        name: String,
        #[arg(value_name = "KEY=VALUE")]
        pairs: Vec<String>,
    },
}

/// Whose devices are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Instance,
    Profile,
}

pub(crate) async fn run(context: &Context, command: Command, owner: Owner) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::List { owner: of } => {
            let devices = read(&client, owner, &of).await?;
            devices.keys().try_for_each(output::line)
        }
        Command::Show { owner: of } => output::print(&output::yaml(&read(&client, owner, &of).await?)?),
        Command::Get { owner: of, name, key } => {
            let devices = read(&client, owner, &of).await?;
            output::line(find(&devices, &name)?.get(&key).map_or("", String::as_str))
        }
        Command::Add { owner: of, name, kind, pairs } => {
            let mut device = pairs::map(&pairs)?;
            device.insert("type".to_owned(), kind);
            change(&client, owner, &of, |devices| {
                if devices.contains_key(&name) {
                    bail!("there is a device {name} already");
                }
                devices.insert(name, device);
                Ok(())
            })
            .await
        }
        Command::Set { owner: of, name, pairs } => {
            let pairs = pairs::map(&pairs)?;
            change(&client, owner, &of, |devices| {
                find_mut(devices, &name)?.extend(pairs);
                Ok(())
            })
            .await
        }
        Command::Unset { owner: of, name, key } => {
            change(&client, owner, &of, |devices| {
                let removed = find_mut(devices, &name)?.remove(&key);
                removed.map(drop).with_context(|| format!("device {name} has no key {key}"))
            })
            .await
        }
        Command::Remove { owner: of, names } => {
            change(&client, owner, &of, |devices| {
                names.iter().try_for_each(|name| {
                    devices.remove(name).map(drop).with_context(|| format!("there is no device {name}"))
                })
            })
            .await
        }
        Command::Override { owner: of, name, pairs } => overrule(&client, owner, &of, name, pairs::map(&pairs)?).await,
    }
}

async fn overrule(client: &Client, owner: Owner, of: &str, name: String, pairs: Map) -> Result<()> {
    if owner == Owner::Profile {
        bail!("only an instance can override a device of its profiles");
    }
    let inherited = client.instance(of).await?.value.expanded_devices;
    let mut device = find(&inherited, &name)?.clone();
    device.extend(pairs);
    change(client, owner, of, |devices| {
        if devices.contains_key(&name) {
            bail!("{of} has a device {name} of its own already: use set");
        }
        devices.insert(name, device);
        Ok(())
    })
    .await
}

async fn read(client: &Client, owner: Owner, of: &str) -> Result<Devices> {
    Ok(match owner {
        Owner::Instance => client.instance(of).await?.value.devices,
        Owner::Profile => client.object::<Profile>(of).await?.value.devices,
    })
}

async fn change(
    client: &Client,
    owner: Owner,
    of: &str,
    change: impl FnOnce(&mut Devices) -> Result<()>,
) -> Result<()> {
    match owner {
        Owner::Instance => {
            let mut now = client.instance(of).await?;
            change(&mut now.value.devices)?;
            Ok(client.replace_instance(of, &config::put(now.value), now.etag.as_deref()).await?)
        }
        Owner::Profile => {
            let now = client.object::<Profile>(of).await?;
            let Profile { description, config, mut devices, .. } = now.value;
            change(&mut devices)?;
            let put = profile::Put { description: Some(description), config: Some(config), devices: Some(devices) };
            Ok(client.replace_object::<Profile>(of, &put, now.etag.as_deref()).await?)
        }
    }
}

fn find<'a>(devices: &'a Devices, name: &str) -> Result<&'a Map> {
    devices.get(name).with_context(|| format!("there is no device {name}"))
}

fn find_mut<'a>(devices: &'a mut Devices, name: &str) -> Result<&'a mut Map> {
    devices.get_mut(name).with_context(|| {
        format!("there is no device {name}; one that comes from a profile is changed with `device override`")
    })
}
