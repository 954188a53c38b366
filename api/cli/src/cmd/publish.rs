//! `basalt publish`: an image of an instance or a snapshot.

use anyhow::{Context as _, Result};
use clap::Args;

use basalt_api::dto::image::{ImageAlias, Post, PostSource};

use super::image::fingerprint_of;
use crate::context::Context;
use crate::pairs;

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// A stopped instance, or INSTANCE/SNAPSHOT
    instance: String,
    /// Properties of the image; those that the instance came with when there are none
    #[arg(value_name = "KEY=VALUE")]
    properties: Vec<String>,
    /// Give it this name; several are allowed
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Let clients that are not trusted download it
    #[arg(long)]
    public: bool,
    /// How it is packed
    #[arg(long, value_name = "ALGORITHM", value_parser = ["none", "gzip", "zstd", "xz"])]
    compression: Option<String>,
}

pub(crate) async fn publish(context: &Context, args: Publish) -> Result<()> {
    let client = context.client()?;
    let kind = if args.instance.contains('/') { "snapshot" } else { "instance" };
    let alias = |name: &String| ImageAlias { name: name.clone(), ..ImageAlias::default() };
    let wanted = Post {
        source: Some(PostSource { kind: kind.to_owned(), name: args.instance.clone(), ..PostSource::default() }),
        public: args.public,
        properties: pairs::map(&args.properties)?,
        aliases: args.alias.iter().map(alias).collect(),
        compression_algorithm: args.compression.unwrap_or_default(),
        ..Post::default()
    };
    let started = client.publish_image(&wanted).await.with_context(|| args.instance.clone())?;
    let ended = context.follow(&client, &started, &format!("Publishing {}", args.instance)).await?;
    context.say(format!("Published {}", fingerprint_of(&ended)?))
}
