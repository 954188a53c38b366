//! Image aliases.

use basalt_model::command::ImageCommand;
use basalt_model::image::Alias;
use basalt_model::{AliasKey, AliasName, Command};

use super::image_scope::Scope;
use crate::call::{Call, Json, Segment};
use crate::dto::image as wire;
use crate::dto::network::Rename;
use crate::error::Error;
use crate::etag;
use crate::filter::Filter;
use crate::reply::{self, Reply};

fn render(call: &Call, alias: &Alias) -> wire::Alias {
    let image = call.view.images.get(&alias.image());
    wire::Alias {
        name: alias.name.to_string(),
        description: alias.description.clone(),
        target: alias.target.to_string(),
        kind: image.map(|i| i.kind.as_str()).unwrap_or("container").into(),
    }
}

fn visible(call: &Call, scope: &Scope, alias: &Alias) -> bool {
    call.view.images.get(&alias.image()).is_some_and(|image| scope.shows(image))
}

fn find(call: &Call, name: &str) -> Result<Alias, Error> {
    let missing = || Error::NotFound("Image alias".into());
    let name = AliasName::new(name).map_err(|_| missing())?;
    let scope = call.image_scope()?;
    let mut named = call.view.aliases.values().filter(|alias| alias.name == name);
    named.find(|alias| visible(call, &scope, alias)).cloned().ok_or_else(missing)
}

fn tag(alias: &Alias) -> String {
    etag::of(&(&alias.description, &alias.target))
}

fn url(name: &AliasName) -> String {
    format!("/1.0/images/aliases/{name}")
}

fn shown_url(id: &AliasKey) -> String {
    url(&id.name) + &id.project.suffix()
}

pub(crate) async fn list(call: Call) -> Reply {
    let scope = call.image_scope()?;
    let filter = Filter::parse(call.query("filter").unwrap_or_default())?;
    let aliases = call.view.aliases.values().filter(|a| visible(&call, &scope, a)).map(|a| (a, render(&call, a)));
    let aliases = aliases.filter(|(_, shown)| filter.takes(shown));
    match call.recursion() {
        0 => reply::sync(aliases.map(|(a, _)| shown_url(&a.id())).collect::<Vec<_>>()),
        _ => reply::sync(aliases.map(|(_, shown)| shown).collect::<Vec<_>>()),
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
    let image = call.image(&body.target)?;
    let alias = Alias { project: image.project, name, target: image.fingerprint, description: body.description };
    let id = alias.id();
    call.propose(Command::Image(ImageCommand::SetAlias { alias, replace: false })).await?;
    call.happened_in("image-alias-created", url(&id.name), &id.project);
    reply::created(&shown_url(&id))
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
    let id = alias.id();
    call.propose(Command::Image(ImageCommand::SetAlias { alias, replace: true })).await?;
    call.happened_in("image-alias-updated", url(&id.name), &id.project);
    reply::empty()
}

pub(crate) async fn rename(call: Call, Segment(name): Segment<String>, Json(body): Json<Rename>) -> Reply {
    let alias = find(&call, &name)?;
    let to = AliasName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    call.propose(Command::Image(ImageCommand::RenameAlias { name: alias.id(), to: to.clone() })).await?;
    let renamed = AliasKey { project: alias.project, name: to };
    call.happened_in("image-alias-renamed", url(&renamed.name), &renamed.project);
    reply::created(&shown_url(&renamed))
}

pub(crate) async fn delete(call: Call, Segment(name): Segment<String>) -> Reply {
    let alias = find(&call, &name)?;
    call.propose(Command::Image(ImageCommand::RemoveAlias(alias.id()))).await?;
    call.happened_in("image-alias-deleted", url(&alias.name), &alias.project);
    reply::empty()
}
