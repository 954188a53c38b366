//! Image aliases.

use basalt_model::command::ImageCommand;
use basalt_model::image::Alias;
use basalt_model::{AliasName, Command};

use crate::call::{Call, Json, Segment};
use crate::dto::image as wire;
use crate::dto::network::Rename;
use crate::error::Error;
use crate::etag;
use crate::filter::Filter;
use crate::reply::{self, Reply};

fn render(call: &Call, alias: &Alias) -> wire::Alias {
    let image = call.view.images.get(&alias.target);
    wire::Alias {
        name: alias.name.to_string(),
        description: alias.description.clone(),
        target: alias.target.to_string(),
        kind: image.map(|i| i.kind.as_str()).unwrap_or("container").into(),
    }
}

fn visible(call: &Call, alias: &Alias) -> bool {
    call.view.images.get(&alias.target).is_some_and(|image| call.sees_image(image))
}

fn find(call: &Call, name: &str) -> Result<Alias, Error> {
    let missing = || Error::NotFound("Image alias".into());
    let name = AliasName::new(name).map_err(|_| missing())?;
    call.view.aliases.get(&name).filter(|a| visible(call, a)).cloned().ok_or_else(missing)
}

fn tag(alias: &Alias) -> String {
    etag::of(&(&alias.description, &alias.target))
}

fn url(name: &AliasName) -> String {
    format!("/1.0/images/aliases/{name}")
}

pub(crate) async fn list(call: Call) -> Reply {
    let filter = Filter::parse(call.query("filter").unwrap_or_default())?;
    let aliases = call.view.aliases.values().filter(|a| visible(&call, a)).map(|a| render(&call, a));
    let aliases = aliases.filter(|a| filter.takes(a));
    match call.recursion() {
        0 => reply::sync(aliases.map(|a| format!("/1.0/images/aliases/{}", a.name)).collect::<Vec<_>>()),
        _ => reply::sync(aliases.collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment(name): Segment<String>) -> Reply {
    let alias = find(&call, &name)?;
    reply::sync_etag(render(&call, &alias), &tag(&alias))
}

pub(crate) async fn create(call: Call, Json(body): Json<wire::Alias>) -> Reply {
    let name = AliasName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    if body.target.is_empty() {
        return Err(Error::invalid("target", "is missing"));
    }
    let target = call.image(&body.target)?.fingerprint;
    let location = url(&name);
    let alias = Alias { name, target, description: body.description };
    call.propose(Command::Image(ImageCommand::SetAlias { alias, replace: false })).await?;
    call.happened("image-alias-created", location.clone(), None);
    reply::created(&location)
}

pub(crate) async fn put(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::AliasPut>) -> Reply {
    let alias = find(&call, &name)?;
    if body.target.as_deref().is_none_or(str::is_empty) {
        return Err(Error::invalid("target", "is missing"));
    }
    let description = body.description.clone().unwrap_or_default();
    update(&call, Alias { description, ..alias.clone() }, &alias, body.target).await
}

pub(crate) async fn patch(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::AliasPut>) -> Reply {
    let alias = find(&call, &name)?;
    let description = body.description.clone().unwrap_or_else(|| alias.description.clone());
    update(&call, Alias { description, ..alias.clone() }, &alias, body.target).await
}

async fn update(call: &Call, mut alias: Alias, present: &Alias, target: Option<String>) -> Reply {
    etag::check(&call.headers, &tag(present))?;
    if let Some(target) = target.filter(|t| !t.is_empty()) {
        alias.target = call.image(&target)?.fingerprint;
    }
    let location = url(&alias.name);
    call.propose(Command::Image(ImageCommand::SetAlias { alias, replace: true })).await?;
    call.happened("image-alias-updated", location, None);
    reply::empty()
}

pub(crate) async fn rename(call: Call, Segment(name): Segment<String>, Json(body): Json<Rename>) -> Reply {
    let alias = find(&call, &name)?;
    let to = AliasName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    let location = url(&to);
    call.propose(Command::Image(ImageCommand::RenameAlias { name: alias.name, to })).await?;
    call.happened("image-alias-renamed", location.clone(), None);
    reply::created(&location)
}

pub(crate) async fn delete(call: Call, Segment(name): Segment<String>) -> Reply {
    let alias = find(&call, &name)?;
    let location = url(&alias.name);
    call.propose(Command::Image(ImageCommand::RemoveAlias(alias.name))).await?;
    call.happened("image-alias-deleted", location, None);
    reply::empty()
}
