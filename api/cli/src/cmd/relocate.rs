//! `basalt copy` and `basalt move`.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args;

use basalt_api::dto::instance::{Post, Rename, Source};

use crate::context::Context;
use crate::pairs;

/// What may differ at the new place.
#[derive(Debug, Args)]
struct Place {
    /// The member it is to live on, or @GROUP
    #[arg(long, value_name = "MEMBER|@GROUP")]
    target: Option<String>,
    /// The storage pool of its root disk
    #[arg(short, long, value_name = "POOL")]
    storage: Option<String>,
    /// The project it is to be in
    #[arg(long, value_name = "PROJECT")]
    target_project: Option<String>,
    /// Configuration over the present one
    #[arg(short, long = "config", value_name = "KEY=VALUE")]
    config: Vec<String>,
    /// Profiles in place of the present ones, in order
    #[arg(short, long = "profile", value_name = "NAME")]
    profiles: Vec<String>,
}

impl Place {
    fn profiles(&self) -> Option<Vec<String>> {
        (!self.profiles.is_empty()).then(|| self.profiles.clone())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Copy {
    /// The instance, or INSTANCE/SNAPSHOT
    source: String,
    /// What the copy is called; the server makes a name otherwise
    name: Option<String>,
    #[command(flatten)]
    place: Place,
    /// Without its snapshots
    #[arg(long)]
    instance_only: bool,
    /// If there is an instance of that name: give it the content and the snapshots that the source has now
    #[arg(long, requires = "name")]
    refresh: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Move {
    name: String,
    /// Another name
    new_name: Option<String>,
    #[command(flatten)]
    place: Place,
}

pub(crate) async fn copy(context: &Context, args: Copy) -> Result<()> {
    let here = context.client()?;
    let name = args.source.split('/').next().unwrap_or_default();
    let source = here.instance_full(name).await?.instance;
    let mut devices = BTreeMap::new();
    if let Some(pool) = &args.place.storage {
        let root =
            source.expanded_devices.iter().find(|(_, device)| device.get("path").is_some_and(|path| path == "/"));
        let Some((disk, root)) = root else { bail!("{name} has no root disk") };
        let mut root = root.clone();
        root.insert("pool".to_owned(), pool.clone());
        devices.insert(disk.clone(), root);
    }
    let wanted = Post {
        name: args.name.unwrap_or_default(),
        source: Source {
            kind: "copy".to_owned(),
            source: args.source.clone(),
            project: here.project().to_owned(),
            instance_only: args.instance_only,
            refresh: args.refresh,
            ..Source::default()
        },
        config: pairs::map(&args.place.config)?,
        devices,
        profiles: args.place.profiles(),
        ephemeral: source.ephemeral,
        ..Post::default()
    };
    let mut there = here.at(args.place.target.as_deref());
    if let Some(project) = &args.place.target_project {
        there = there.in_project(Some(project));
    }
    let operation = there.create_instance(&wanted).await?;
    let ended = context.follow(&there, &operation, &format!("Copying {}", args.source)).await?;
    let url = ended.resources.as_ref().and_then(|r| r.get("instances")?.first().cloned()).unwrap_or_default();
    context.say(format!("Copied {} to {}", args.source, url.rsplit('/').next().unwrap_or_default()))
}

pub(crate) async fn relocate(context: &Context, args: Move) -> Result<()> {
    let place = &args.place;
    let overrides = !place.config.is_empty() || !place.profiles.is_empty();
    let elsewhere = place.target.is_some() || place.storage.is_some() || place.target_project.is_some();
    if !elsewhere && args.new_name.is_none() {
        bail!("say where to: another name, --target, --storage or --target-project");
    }
    if overrides && !elsewhere {
        bail!("--config and --profile go with --target, --storage or --target-project");
    }
    let client = context.client()?.at(place.target.as_deref());
    let wanted = Rename {
        name: args.new_name.clone().unwrap_or_else(|| args.name.clone()),
        migration: elsewhere,
        pool: place.storage.clone().unwrap_or_default(),
        project: place.target_project.clone().unwrap_or_default(),
        config: (!place.config.is_empty()).then(|| pairs::map(&place.config)).transpose()?,
        profiles: place.profiles(),
        ..Rename::default()
    };
    let operation = client.move_instance(&args.name, &wanted).await?;
    context.follow(&client, &operation, &format!("Moving {}", args.name)).await.map(drop)
}
