//! Images of other places: which server an image is of, and how the member that is to have it gets at it. Another project
//! of the same cluster is another place, too.

use anyhow::{Context as _, Result, bail};
use basalt_client::{Client, Path};
use clap::Args;

use basalt_api::dto::image::{Image, ImageAlias, Post, PostSource};

use crate::conf::{LOCAL, Remotes, SIMPLESTREAMS};
use crate::context::Context;

/// Image servers that are known without being added.
const KNOWN: &[(&str, &str)] = &[("images", "https://images.linuxcontainers.org")];

#[derive(Debug, Args)]
pub(crate) struct Copy {
    /// The image: REMOTE:ALIAS, REMOTE:FINGERPRINT, or one of this cluster
    #[arg(value_name = "[REMOTE:]IMAGE")]
    image: String,
    /// The cluster that is to have it
    #[arg(value_name = "REMOTE:")]
    to: String,
    /// The project there that is to have it
    #[arg(long, value_name = "NAME")]
    target_project: Option<String>,
    /// Give it this name there; several are allowed
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Give it the names there that it has here
    #[arg(long)]
    copy_aliases: bool,
    /// Keep it current: newer images of its source take its place
    #[arg(long)]
    auto_update: bool,
    /// Let clients that are not trusted download it
    #[arg(long)]
    public: bool,
    /// A virtual machine's image, when the name fits a container's too
    #[arg(long)]
    vm: bool,
}

/// An image of another place, as the member that pulls it is told.
#[derive(Debug)]
pub(crate) struct Afar {
    pub(crate) source: PostSource,
    /// What its cluster says of it; nothing when it is an image server's.
    image: Option<Image>,
}

/// Splits `remote:rest`.
fn split(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(remote, _)| !remote.is_empty() && !remote.contains('/'))
}

/// The image that `text` names on another remote; nothing when it is one of the cluster that the user talks to.
pub(crate) async fn find(context: &Context, text: &str, vm: bool) -> Result<Option<Afar>> {
    let Some((remote, name)) = split(text) else { return Ok(None) };
    let remotes = context.conf.remotes()?;
    if let Some(afar) = of_server(&remotes, remote, name, vm) {
        return Ok(Some(afar));
    }
    if remote == context.remote_name(&remotes) {
        bail!("{remote:?} is the cluster itself: name the image without it");
    }
    let client = context.conf.connect(Some(remote))?;
    of_cluster(&client, remote, name, vm).await.map(Some)
}

/// How a member is to pull an image.
fn pulled(vm: bool) -> PostSource {
    let kind = if vm { "virtual-machine" } else { "" };
    PostSource {
        kind: "image".to_owned(),
        mode: "pull".to_owned(),
        image_type: kind.to_owned(),
        ..PostSource::default()
    }
}

/// The image that an image server calls `name`; nothing when the remote is none.
fn of_server(remotes: &Remotes, remote: &str, name: &str, vm: bool) -> Option<Afar> {
    let own = remotes.remotes.get(remote);
    let server =
        own.filter(|known| known.protocol.as_deref() == Some(SIMPLESTREAMS)).map(|known| known.address.as_str());
    let builtin = KNOWN.iter().find(|(known, _)| *known == remote && own.is_none()).map(|(_, url)| *url);
    let server = server.or(builtin)?.to_owned();
    let source = PostSource { server, protocol: SIMPLESTREAMS.to_owned(), alias: name.to_owned(), ..pulled(vm) };
    Some(Afar { source, image: None })
}

/// The image that a cluster calls `name`, in the client's project.
async fn of_cluster(client: &Client, remote: &str, name: &str, vm: bool) -> Result<Afar> {
    let mut source = pulled(vm);
    let image = client.find_image(name).await.with_context(|| format!("{remote}:{name}"))?.value;
    let server = client.server().await?.value;
    let environment = server.environment.unwrap_or_default();
    source.server = match remote {
        LOCAL => {
            let address =
                environment.addresses.first().context("this cluster has no address that others could reach")?;
            format!("https://{address}")
        }
        _ => client.endpoint(),
    };
    source.protocol = "incus".to_owned();
    source.certificate = environment.certificate;
    source.fingerprint = image.fingerprint.clone();
    // What it is called there is what it is kept current by.
    source.alias = if image.fingerprint.starts_with(name) { String::new() } else { name.to_owned() };
    // The one whose image it is, which need not be the one that was asked.
    source.project = Some(image.project.clone()).filter(|project| project != "default").unwrap_or_default();
    if !image.public {
        source.secret = secret(client, &image.fingerprint).await?;
    }
    Ok(Afar { source, image: Some(image) })
}

async fn secret(client: &Client, fingerprint: &str) -> Result<String> {
    let path = Path::of("images").segment(fingerprint).segment("secret");
    let operation = client.start(basalt_client::Method::POST, path, Some(&serde_json::json!({}))).await?;
    let secret = operation.metadata.as_ref().and_then(|m| m.get("secret")).and_then(|s| s.as_str());
    Ok(secret.context("the other cluster gave no secret for the image")?.to_owned())
}

pub(crate) async fn copy(context: &Context, args: Copy) -> Result<()> {
    let Some((to, "")) = split(&args.to) else { bail!("{:?} is not a remote: write NAME:", args.to) };
    let remotes = context.conf.remotes()?;
    let here = context.remote_name(&remotes);
    let (remote, name) = split(&args.image).unwrap_or((&here, args.image.as_str()));
    let there = context.at_remote(to).in_project(args.target_project.as_deref());
    let afar = match of_server(&remotes, remote, name, args.vm) {
        Some(afar) => afar,
        None => {
            let from = if remote == here { context.client()? } else { context.conf.connect(Some(remote))? };
            if remote == to && from.project() == there.client()?.project() {
                bail!("the image is there already: give it another name with `basalt image alias create`");
            }
            of_cluster(&from, remote, name, args.vm).await?
        }
    };
    let image = afar.image.unwrap_or_default();
    let mut aliases: Vec<ImageAlias> = args.alias.iter().map(|name| named(name)).collect();
    if args.copy_aliases {
        aliases.extend(image.aliases.iter().map(|alias| named(&alias.name)));
    }
    let post = Post {
        source: Some(afar.source),
        public: args.public,
        auto_update: args.auto_update,
        aliases,
        properties: image.properties,
        filename: image.filename,
        ..Post::default()
    };
    pull(&there, &post, "Copying").await
}

fn named(name: &str) -> ImageAlias {
    ImageAlias { name: name.to_owned(), ..ImageAlias::default() }
}

/// Lets the cluster download an image, and says which it is.
pub(crate) async fn pull(context: &Context, post: &Post, doing: &str) -> Result<()> {
    let client = context.client()?;
    let operation = client.start(basalt_client::Method::POST, Path::of("images"), Some(post)).await?;
    let ended = context.follow(&client, &operation, doing).await?;
    context.say(format!("Imported {}", super::fingerprint_of(&ended)?))
}

/// An image by its URL.
pub(crate) fn by_url(url: &str, aliases: &[String], public: bool) -> Post {
    let source =
        PostSource { kind: "url".to_owned(), mode: "pull".to_owned(), url: url.to_owned(), ..PostSource::default() };
    Post { source: Some(source), public, aliases: aliases.iter().map(|name| named(name)).collect(), ..Post::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_are_what_stands_before_the_colon() {
        assert_eq!(split("images:alpine/edge"), Some(("images", "alpine/edge")));
        assert_eq!(split("other:"), Some(("other", "")));
        assert_eq!(split("debian/12"), None);
        assert_eq!(split("https://x"), Some(("https", "//x")));
        assert_eq!(split("a/b:c"), None);
    }
}
