//! `basalt launch` and `basalt create`.

use anyhow::Result;
use basalt_client::Client;
use clap::Args;

use basalt_api::dto::image::PostSource;
use basalt_api::dto::instance::{Post, Source};
use basalt_api::dto::operation::Operation;

use super::image::afar;
use crate::context::Context;
use crate::pairs;

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Alias or fingerprint of an image, or REMOTE:ALIAS of another cluster or image server (`images:` is the public one)
    #[arg(required_unless_present = "empty")]
    pub(crate) image: Option<String>,
    /// Name of the new instance; made up when left out
    pub(crate) name: Option<String>,
    /// A configuration key
    #[arg(short, long = "config", value_name = "KEY=VALUE")]
    config: Vec<String>,
    /// A device, or keys of one that a profile brings
    #[arg(short, long = "device", value_name = "NAME,KEY=VALUE...")]
    devices: Vec<String>,
    /// A profile; several are applied in this order
    #[arg(short, long = "profile", value_name = "NAME")]
    pub(crate) profiles: Vec<String>,
    /// Use no profile at all
    #[arg(long, conflicts_with = "profiles")]
    no_profiles: bool,
    /// The network of its first interface
    #[arg(short, long, value_name = "NAME")]
    network: Option<String>,
    /// The storage pool of its root
    #[arg(short, long, value_name = "NAME")]
    storage: Option<String>,
    /// The member to put it on, or @GROUP
    #[arg(long, value_name = "MEMBER|@GROUP")]
    target: Option<String>,
    /// Delete it when it stops
    #[arg(short, long)]
    ephemeral: bool,
    /// Make a virtual machine
    #[arg(long)]
    vm: bool,
    /// Start from an empty root; the only positional argument is the name then
    #[arg(long, conflicts_with = "name")]
    empty: bool,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
}

pub(crate) async fn create(context: &Context, args: Create, start: bool) -> Result<()> {
    let client = context.client()?.at(args.target.as_deref());
    let wanted = request(context, &client, args, start).await?;
    let operation = client.create_instance(&wanted).await?;
    let name = instance_name(&operation).unwrap_or_else(|| wanted.name.clone());
    let doing = if start { format!("Launching {name}") } else { format!("Creating {name}") };
    context.follow(&client, &operation, &doing).await?;
    context.say(format!("{} {name}", if start { "Launched" } else { "Created" }))
}

async fn request(context: &Context, client: &Client, args: Create, start: bool) -> Result<Post> {
    let (name, source) = if args.empty {
        (args.image, Source { kind: "none".to_owned(), ..Source::default() })
    } else {
        (args.name, source(context, client, args.image.as_deref().unwrap_or_default(), args.vm).await?)
    };
    let mut devices = pairs::devices(&args.devices)?;
    let mut set = |device: &str, pairs: &[(&str, &str)]| {
        let device = devices.entry(device.to_owned()).or_default();
        device.extend(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    };
    if let Some(network) = &args.network {
        set("eth0", &[("type", "nic"), ("name", "eth0"), ("network", network)]);
    }
    if let Some(pool) = &args.storage {
        set("root", &[("type", "disk"), ("path", "/"), ("pool", pool)]);
    }
    complete(client, &args.profiles, args.no_profiles, &mut devices).await?;
    Ok(Post {
        name: name.unwrap_or_default(),
        kind: if args.vm { "virtual-machine" } else { "container" }.to_owned(),
        source,
        start,
        config: pairs::map(&args.config)?,
        devices,
        ephemeral: args.ephemeral,
        profiles: if args.no_profiles {
            Some(Vec::new())
        } else {
            (!args.profiles.is_empty()).then_some(args.profiles)
        },
        description: args.description.unwrap_or_default(),
        ..Post::default()
    })
}

/// Devices without a type change those of the profiles: they are filled up from there, since a device of an instance
/// replaces that of a profile whole.
async fn complete(
    client: &Client,
    profiles: &[String],
    no_profiles: bool,
    devices: &mut basalt_api::dto::Devices,
) -> Result<()> {
    if no_profiles || devices.values().all(|device| device.contains_key("type")) {
        return Ok(());
    }
    let usual = ["default".to_owned()];
    let names = if profiles.is_empty() { &usual[..] } else { profiles };
    for name in names.iter().rev() {
        let profile = client.object::<basalt_api::dto::profile::Profile>(name).await?.value;
        for (device, keys) in devices.iter_mut().filter(|(_, keys)| !keys.contains_key("type")) {
            for (key, value) in profile.devices.get(device).into_iter().flatten() {
                keys.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
    }
    Ok(())
}

pub(super) async fn source(context: &Context, client: &Client, image: &str, vm: bool) -> Result<Source> {
    let kind = "image".to_owned();
    if let Some(afar) = afar::find(context, image, vm).await? {
        let PostSource { mode, server, protocol, alias, fingerprint, certificate, secret, .. } = afar.source;
        return Ok(Source {
            kind,
            mode,
            server,
            protocol,
            alias,
            fingerprint,
            certificate,
            secret,
            ..Source::default()
        });
    }
    let fingerprint = client.find_image(image).await;
    let fingerprint = fingerprint.map_err(|error| {
        let missing = error.is_not_found();
        let error = anyhow::Error::from(error);
        if missing { error.context(format!("there is no image {image:?}: see `basalt image list`")) } else { error }
    })?;
    Ok(Source { kind, fingerprint: fingerprint.value.fingerprint, ..Source::default() })
}

/// The name in the first instance URL of an operation.
fn instance_name(operation: &Operation) -> Option<String> {
    let urls = operation.resources.as_ref()?.get("instances")?;
    let path = urls.first()?.split('?').next()?;
    path.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_comes_from_the_operation() {
        let resources = [("instances".to_owned(), vec!["/1.0/instances/calm-otter?project=p".to_owned()])].into();
        let operation = Operation { resources: Some(resources), ..Operation::default() };
        assert_eq!(instance_name(&operation).as_deref(), Some("calm-otter"));
        assert_eq!(instance_name(&Operation::default()), None);
    }
}
