//! `POST /1.0/images` as JSON: images from elsewhere than the body. And the same words where an instance is made from an
//! image of another server.

use basalt_model::command::ImageCommand;
use basalt_model::image::{Edit, Image, Protocol, UpdateSource};
use basalt_model::instance::Kind;
use basalt_model::{AliasName, Command, Fingerprint};
use serde_json::{Map, Value, json};

use super::{image, image_publish, image_secret, spec};
use crate::call::Call;
use crate::clock;
use crate::dto::image::{Post, PostSource};
use crate::dto::instance::Source;
use crate::dto::operation::Class;
use crate::error::Error;
use crate::operation::{Handle, New};
use crate::port::remote::RemoteImage;
use crate::pull::{self, Wishes};
use crate::reply::{self, Reply};

/// Larger certificates are none.
const MAX_CERTIFICATE: usize = 64 << 10;

/// Takes an image from where the body says.
pub(super) async fn post(call: Call, post: Post) -> Reply {
    let Some(source) = &post.source else {
        return Err(Error::invalid("source", "is missing: upload the image's files as the body, or name a source"));
    };
    match source.kind.as_str() {
        // Old clients push without a type.
        "image" | "" => match source.mode.as_str() {
            "pull" | "" => {
                let wanted = of_post(&call, source)?;
                start(call, post, wanted)
            }
            "push" => image_secret::announce(&call, &post, source),
            other => Err(Error::invalid("source.mode", format!("{other:?} is not one of pull, push"))),
        },
        "url" => {
            let wanted = of_url(&call, source)?;
            start(call, post, wanted)
        }
        "instance" | "container" | "virtual-machine" | "snapshot" => image_publish::post(call, post).await,
        other => Err(Error::invalid("source.type", format!("{other:?} is unknown"))),
    }
}

/// The image of another server that a new instance is to be made from; nothing when it is one of our own.
pub(super) fn of_instance(call: &Call, source: &Source, kind: &str) -> Result<Option<RemoteImage>, Error> {
    if source.kind != "image" || source.server.is_empty() {
        return Ok(None);
    }
    let source = PostSource {
        server: source.server.clone(),
        protocol: source.protocol.clone(),
        alias: source.alias.clone(),
        fingerprint: source.fingerprint.clone(),
        certificate: source.certificate.clone(),
        secret: source.secret.clone(),
        project: source.project.clone(),
        image_type: kind.to_owned(),
        ..PostSource::default()
    };
    of_post(call, &source).map(Some)
}

fn of_post(call: &Call, source: &PostSource) -> Result<RemoteImage, Error> {
    let server = url(call, "source.server", &source.server)?;
    let protocol = match source.protocol.as_str() {
        "simplestreams" => Protocol::Simplestreams,
        "lxd" | "" => Protocol::Lxd,
        "incus" => Protocol::Incus,
        other => {
            return Err(Error::invalid(
                "source.protocol",
                format!("{other:?} is not one of simplestreams, lxd, incus"),
            ));
        }
    };
    let name = if source.fingerprint.is_empty() { &source.alias } else { &source.fingerprint };
    if name.is_empty() {
        return Err(Error::invalid("source", "names neither an alias nor a fingerprint"));
    }
    // The rule for our own aliases holds for those of others too: they come into URLs.
    let field = if source.fingerprint.is_empty() { "source.alias" } else { "source.fingerprint" };
    AliasName::new(name.as_str()).map_err(|e| Error::invalid(field, e))?;
    if !source.project.is_empty() {
        AliasName::new(source.project.as_str()).map_err(|e| Error::invalid("source.project", e))?;
    }
    if source.certificate.len() > MAX_CERTIFICATE {
        return Err(Error::invalid("source.certificate", "is no certificate"));
    }
    let alias = if source.alias.is_empty() { name } else { &source.alias };
    let update = UpdateSource {
        server,
        protocol,
        certificate: source.certificate.clone(),
        alias: alias.clone(),
        kind: kind(&source.image_type)?,
        project: source.project.clone(),
    };
    Ok(RemoteImage { source: update, name: name.clone(), secret: source.secret.clone() })
}

fn of_url(call: &Call, source: &PostSource) -> Result<RemoteImage, Error> {
    if !source.fingerprint.is_empty() {
        Fingerprint::new(source.fingerprint.as_str()).map_err(|e| Error::invalid("source.fingerprint", e))?;
    }
    let update = UpdateSource {
        server: url(call, "source.url", &source.url)?,
        protocol: Protocol::Direct,
        certificate: String::new(),
        alias: String::new(),
        kind: kind(&source.image_type)?,
        project: String::new(),
    };
    Ok(RemoteImage { source: update, name: source.fingerprint.clone(), secret: String::new() })
}

fn url(call: &Call, field: &str, text: &str) -> Result<String, Error> {
    if text.is_empty() {
        return Err(Error::invalid(field, "is missing"));
    }
    call.api.ports.remotes.check(text).map_err(|e| Error::invalid(field, e))?;
    Ok(text.trim_end_matches('/').to_owned())
}

fn kind(text: &str) -> Result<Option<Kind>, Error> {
    match text {
        "" => Ok(None),
        text => spec::kind(text).map(Some).map_err(|e| Error::invalid("source.image_type", e)),
    }
}

/// What the body says of the image.
pub(super) fn wishes(call: &Call, post: &Post, source: Option<&UpdateSource>) -> Result<Wishes, Error> {
    spec::plain_text("properties", &post.properties)?;
    let alias =
        |a: &crate::dto::image::ImageAlias| AliasName::new(a.name.as_str()).map_err(|e| Error::invalid("aliases", e));
    let expires_at =
        post.expires_at.as_deref().map(clock::parse).transpose().map_err(|e| Error::invalid("expires_at", e))?;
    Ok(Wishes {
        filename: post.filename.clone(),
        public: post.public,
        auto_update: post.auto_update,
        cached: false,
        properties: post.properties.clone(),
        aliases: post.aliases.iter().map(alias).collect::<Result<_, _>>()?,
        profiles: image::profiles(call, post.profiles.as_deref())?,
        expires_at: expires_at.filter(|at| *at != basalt_model::Timestamp::NEVER),
        source: source.cloned(),
        ..Wishes::of(call.image_project()?)
    })
}

fn start(call: Call, post: Post, wanted: RemoteImage) -> Reply {
    let wishes = wishes(&call, &post, Some(&wanted.source))?;
    let new = New {
        class: Class::Task,
        description: "Downloading image",
        project: Some(call.project()?),
        may_cancel: true,
        ..New::default()
    };
    let api = call.api.clone();
    reply::operation(&api.operations.start(new, |handle| import(call, wanted, wishes, handle)))
}

async fn import(call: Call, wanted: RemoteImage, wishes: Wishes, handle: Handle) -> Result<Map<String, Value>, Error> {
    let api = &call.api;
    let fingerprint = pull::pull(api, &wanted, &wishes, &handle).await?;
    let view = api.view();
    let present = view.images.get(&wishes.image(&fingerprint)).ok_or_else(|| Error::NotFound("Image".into()))?;
    // It was there already, perhaps only as a guest of the cache: now somebody wants it for itself.
    if let Some(edit) = adopted(&call, present, &wishes) {
        let edit = ImageCommand::Edit { image: present.id(), edit: Box::new(edit) };
        call.propose(Command::Image(edit)).await?;
    }
    pull::name(api, &fingerprint, &wishes).await?;
    call.happened_in("image-created", image::url(&fingerprint), &wishes.project);
    let metadata = json!({"fingerprint": fingerprint, "size": present.size.to_string()});
    Ok(metadata.as_object().cloned().unwrap_or_default())
}

/// What an import changes of an image that the project has; nothing if it says nothing. Whoever may not change the image
/// only sees to it that it stays: another server could name any fingerprint.
fn adopted(call: &Call, image: &Image, wishes: &Wishes) -> Option<Edit> {
    let mut edit = Edit { cached: false, ..image::editable(image) };
    if call.changes_images_of(&image.project) {
        edit.properties.extend(wishes.properties.clone());
        edit.public |= wishes.public;
        edit.auto_update = wishes.auto_update || (image.auto_update && !image.cached);
        edit.expires_at = wishes.expires_at.unwrap_or(image.expires_at);
        edit.profiles = wishes.profiles.clone().or(edit.profiles);
    }
    (edit != image::editable(image)).then_some(edit)
}
