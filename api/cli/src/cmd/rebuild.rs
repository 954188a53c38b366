//! `basalt rebuild`.

use anyhow::{Result, bail};
use clap::Args;

use basalt_api::dto::instance::{Rebuild as Wanted, Source};

use super::{create, state};
use crate::context::Context;

#[derive(Debug, Args)]
pub(crate) struct Rebuild {
    /// Alias or fingerprint of an image, or REMOTE:ALIAS of another cluster or image server
    #[arg(required = true)]
    image: String,
    /// The instance; with --empty it is the only argument
    name: Option<String>,
    /// Make the root empty
    #[arg(long, conflicts_with = "name")]
    empty: bool,
    /// A running instance too: kill it first, and start it again
    #[arg(short, long)]
    force: bool,
}

pub(crate) async fn rebuild(context: &Context, args: Rebuild) -> Result<()> {
    let client = context.client()?;
    let (name, image) = match (args.empty, args.name) {
        (true, _) => (args.image, None),
        (false, Some(name)) => (name, Some(args.image)),
        (false, None) => bail!("name an image and the instance, or use --empty"),
    };
    let instance = client.instance(&name).await?.value;
    let source = match &image {
        None => Source { kind: "none".to_owned(), ..Source::default() },
        Some(image) => create::source(context, &client, image, instance.kind == "virtual-machine").await?,
    };
    let running = state::runs(instance.status_code);
    if running && !args.force {
        bail!("{name} is running: stop it first, or use --force");
    }
    if running {
        state::kill(context, &client, &name).await?;
    }
    let operation = client.rebuild_instance(&name, &Wanted { source }).await?;
    context.follow(&client, &operation, &format!("Rebuilding {name}")).await?;
    match running {
        true => state::start_again(context, &client, &name).await,
        false => Ok(()),
    }
}
