//! `basalt config`: keys and devices of an instance; keys of the server when no instance is named.

use anyhow::{Result, bail};
use basalt_client::{Client, Tagged};
use clap::Subcommand;

use basalt_api::dto::Map;
use basalt_api::dto::instance::{Instance, Put};
use basalt_api::dto::server;

use crate::cmd::{device, trust};
use crate::context::Context;
use crate::output;
use crate::pairs;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the value of a key, of an instance or of the server
    Get {
        #[arg(required = true, num_args = 1..=2, value_name = "[INSTANCE] KEY")]
        words: Vec<String>,
        /// With what its profiles say
        #[arg(short, long)]
        expanded: bool,
    },
    /// Set keys, of an instance or of the server
    Set {
        #[arg(required = true, value_name = "[INSTANCE] KEY=VALUE")]
        words: Vec<String>,
    },
    /// Remove a key, of an instance or of the server
    Unset {
        #[arg(required = true, num_args = 1..=2, value_name = "[INSTANCE] KEY")]
        words: Vec<String>,
    },
    /// Print all of it as YAML
    Show {
        instance: Option<String>,
        /// With what its profiles say
        #[arg(short, long)]
        expanded: bool,
    },
    /// Edit it as YAML
    Edit { instance: Option<String> },
    /// Devices of an instance
    #[command(subcommand)]
    Device(device::Command),
    /// Clients that the cluster trusts
    #[command(subcommand)]
    Trust(trust::Command),
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<()> {
    let command = match command {
        Command::Trust(command) => return trust::run(context, command).await,
        Command::Device(command) => return device::run(context, command, device::Owner::Instance).await,
        other => other,
    };
    let client = context.client()?;
    match command {
        Command::Get { words, expanded } => {
            let config = match &words[..] {
                [instance, _] => {
                    let now = client.instance(instance).await?.value;
                    if expanded { now.expanded_config } else { now.config }
                }
                _ => client.server().await?.value.config,
            };
            let key = words.last().map_or("", String::as_str);
            output::line(config.get(key).map_or("", String::as_str))
        }
        Command::Set { words } => {
            let (instance, pairs) = split(&words)?;
            change(&client, instance, |config| config.extend(pairs)).await
        }
        Command::Unset { words } => {
            let key = words.last().cloned().unwrap_or_default();
            let instance = (words.len() == 2).then(|| words[0].as_str());
            let missing = format!("{key} is not set");
            let mut found = false;
            change(&client, instance, |config| found = config.remove(&key).is_some()).await?;
            if found { Ok(()) } else { bail!(missing) }
        }
        Command::Show { instance: Some(name), expanded } => {
            let now = client.instance(&name).await?.value;
            if expanded {
                let shown = Put {
                    config: Some(now.expanded_config.clone()),
                    devices: Some(now.expanded_devices.clone()),
                    ..put(now)
                };
                return output::print(&output::yaml(&shown)?);
            }
            output::print(&output::yaml(&put(now))?)
        }
        Command::Show { instance: None, .. } => output::print(&output::yaml(&client.server().await?.value.config)?),
        Command::Edit { instance: Some(name) } => {
            let now = client.instance(&name).await?;
            let wanted: Put = crate::edit::edit(&put(now.value), context.editor.as_deref())?;
            Ok(client.replace_instance(&name, &wanted, now.etag.as_deref()).await?)
        }
        Command::Edit { instance: None } => {
            let now = client.server().await?;
            let wanted: Map = crate::edit::edit(&now.value.config, context.editor.as_deref())?;
            replace_server(&client, wanted, now.etag.as_deref()).await
        }
        Command::Device(_) | Command::Trust(_) => unreachable!("dealt with above"),
    }
}

/// What of an instance its user can change.
pub(crate) fn put(instance: Instance) -> Put {
    Put {
        architecture: Some(instance.architecture),
        config: Some(instance.config),
        devices: Some(instance.devices),
        ephemeral: Some(instance.ephemeral),
        profiles: Some(instance.profiles),
        stateful: Some(instance.stateful),
        description: Some(instance.description),
        restore: None,
    }
}

async fn change(client: &Client, instance: Option<&str>, change: impl FnOnce(&mut Map)) -> Result<()> {
    let Some(name) = instance else {
        let mut now = client.server().await?;
        change(&mut now.value.config);
        return replace_server(client, now.value.config, now.etag.as_deref()).await;
    };
    let Tagged { mut value, etag } = client.instance(name).await?;
    change(&mut value.config);
    Ok(client.replace_instance(name, &put(value), etag.as_deref()).await?)
}

async fn replace_server(client: &Client, config: Map, etag: Option<&str>) -> Result<()> {
    let config = config.into_iter().map(|(key, value)| (key, value.into())).collect();
    Ok(client.replace_server(&server::Put { config }, etag).await?)
}

/// `[INSTANCE] KEY=VALUE...`, or `INSTANCE KEY VALUE` as it used to be written.
fn split(words: &[String]) -> Result<(Option<&str>, Map)> {
    match words {
        [name, key, value] if !name.contains('=') && !key.contains('=') => {
            Ok((Some(name), Map::from([(key.clone(), value.clone())])))
        }
        [name, rest @ ..] if !name.contains('=') && !rest.is_empty() => Ok((Some(name), pairs::map(rest)?)),
        _ => Ok((None, pairs::map(words)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_first_word_without_equals_sign_is_an_instance() {
        let both = words("c1 limits.cpu=2 user.a=b=c");
        let (name, map) = split(&both).unwrap();
        assert_eq!((name, map["user.a"].as_str(), map.len()), (Some("c1"), "b=c", 2));
        assert_eq!(split(&words("cluster.max_voters=5")).unwrap().0, None);
        assert_eq!(split(&words("c1 limits.cpu 2")).unwrap().1["limits.cpu"], "2");
        assert!(split(&words("c1")).is_err());
        assert!(split(&words("c1 limits.cpu")).is_err());
    }
}
