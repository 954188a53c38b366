//! Address sets. A project has its own with its networks, or shares those of the default project.

use basalt_model::command::{AddressSetCommand, Expect};
use basalt_model::network::address_set::AddressSet;
use basalt_model::{Command, SetKey, SetName};
use http::header::IF_MATCH;

use super::spec;
use crate::call::{Call, Json, Segment};
use crate::dto::Map;
use crate::dto::address_set as wire;
use crate::dto::network::Rename;
use crate::error::Error;
use crate::etag;
use crate::filter::Filter;
use crate::reply::{self, Reply};

fn show(call: &Call, set: &AddressSet) -> wire::AddressSet {
    wire::AddressSet {
        name: set.name.to_string(),
        description: set.description.clone(),
        config: set.config.clone(),
        addresses: set.addresses.clone(),
        used_by: call.seen(call.view.address_set_users(&set.id())),
        project: set.project.to_string(),
    }
}

fn find(call: &Call, name: &str) -> Result<AddressSet, Error> {
    let missing = || Error::NotFound("Network address set".into());
    let name = SetName::new(name).map_err(|_| missing())?;
    let id = SetKey { project: call.network_project()?, name };
    call.view.address_sets.get(&id).cloned().ok_or_else(missing)
}

fn tag(set: &AddressSet) -> String {
    etag::of(&(&set.description, &set.config, &set.addresses))
}

fn path(id: &SetKey) -> String {
    format!("/1.0/network-address-sets/{}", id.name)
}

fn url(id: &SetKey) -> String {
    path(id) + &id.project.suffix()
}

fn config(mut given: Map) -> Result<Map, Error> {
    spec::plain_text("config", &given)?;
    given.retain(|_, value| !value.is_empty());
    Ok(given)
}

fn trimmed(addresses: Vec<String>) -> Vec<String> {
    addresses.into_iter().map(|address| address.trim().to_owned()).collect()
}

pub(crate) async fn list(call: Call) -> Reply {
    let projects = call.network_projects()?;
    let filter = Filter::parse(call.query("filter").unwrap_or_default())?;
    let sets = call.view.address_sets.values().filter(|set| projects.contains(&set.project));
    let sets = sets.map(|set| (url(&set.id()), show(&call, set))).filter(|(_, set)| filter.takes(set));
    match call.recursion() {
        0 => reply::sync(sets.map(|(url, _)| url).collect::<Vec<_>>()),
        _ => reply::sync(sets.map(|(_, set)| set).collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment(name): Segment<String>) -> Reply {
    let set = find(&call, &name)?;
    reply::sync_etag(show(&call, &set), &tag(&set))
}

pub(crate) async fn create(call: Call, Json(body): Json<wire::AddressSet>) -> Reply {
    let name = SetName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    let (description, addresses) = (body.description, trimmed(body.addresses));
    let (config, project) = (config(body.config)?, call.network_project()?);
    let set = AddressSet { description, project, config, addresses, ..AddressSet::new(name) };
    let id = set.id();
    propose(&call, set, Expect::Absent).await?;
    call.happened_in("network-address-set-created", path(&id), &id.project);
    reply::created(&url(&id))
}

pub(crate) async fn put(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::Put>) -> Reply {
    let present = find(&call, &name)?;
    let set = AddressSet {
        description: body.description.unwrap_or_default(),
        config: config(body.config.unwrap_or_default())?,
        addresses: trimmed(body.addresses.unwrap_or_default()),
        ..present.clone()
    };
    update(&call, &present, set).await
}

pub(crate) async fn patch(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::Put>) -> Reply {
    let present = find(&call, &name)?;
    let mut set = present.clone();
    set.description = body.description.unwrap_or(set.description);
    set.config = config(spec::merged(&present.config, body.config.unwrap_or_default()))?;
    set.addresses = body.addresses.map_or(set.addresses, trimmed);
    update(&call, &present, set).await
}

async fn update(call: &Call, present: &AddressSet, set: AddressSet) -> Reply {
    etag::check(&call.headers, &tag(present))?;
    let expect = Expect::Present(call.headers.contains_key(IF_MATCH).then_some(present.generation));
    propose(call, set, expect).await?;
    call.happened_in("network-address-set-updated", path(&present.id()), &present.project);
    reply::empty()
}

async fn propose(call: &Call, set: AddressSet, expect: Expect) -> Result<(), Error> {
    let put = AddressSetCommand::Put { set: Box::new(set), expect };
    call.propose(Command::AddressSet(put)).await.map(drop)
}

pub(crate) async fn rename(call: Call, Segment(name): Segment<String>, Json(body): Json<Rename>) -> Reply {
    let set = find(&call, &name)?;
    let to = SetName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    let fresh = set.id().beside(to.clone());
    call.propose(Command::AddressSet(AddressSetCommand::Rename { name: set.id(), to })).await?;
    call.happened_in("network-address-set-renamed", path(&fresh), &fresh.project);
    reply::created(&url(&fresh))
}

pub(crate) async fn delete(call: Call, Segment(name): Segment<String>) -> Reply {
    let id = find(&call, &name)?.id();
    call.propose(Command::AddressSet(AddressSetCommand::Remove(id.clone()))).await?;
    call.happened_in("network-address-set-deleted", path(&id), &id.project);
    reply::empty()
}
