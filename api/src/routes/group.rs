//! Groups of members.

use std::collections::BTreeSet;

use basalt_model::command::MemberCommand;
use basalt_model::member::Group;
use basalt_model::{Command, GroupName, MemberName};

use crate::call::{Call, Json, Segment};
use crate::dto::cluster as wire;
use crate::dto::network::Rename;
use crate::error::Error;
use crate::etag;
use crate::reply::{self, Reply};

fn members(call: &Call, group: &GroupName) -> Vec<String> {
    let members = call.view.members.values().filter(|m| m.groups.contains(group));
    members.map(|m| m.name.to_string()).collect()
}

fn show(call: &Call, group: &Group) -> wire::Group {
    wire::Group {
        name: group.name.to_string(),
        description: group.description.clone(),
        members: members(call, &group.name),
    }
}

fn find(call: &Call, name: &str) -> Result<Group, Error> {
    let missing = || Error::NotFound("Cluster group".into());
    let name = GroupName::new(name).map_err(|_| missing())?;
    call.view.groups.get(&name).cloned().ok_or_else(missing)
}

fn names(given: Vec<String>) -> Result<BTreeSet<MemberName>, Error> {
    given.into_iter().map(|m| MemberName::new(m).map_err(|e| Error::invalid("members", e))).collect()
}

pub(crate) async fn list(call: Call) -> Reply {
    let groups = call.view.groups.values();
    match call.recursion() {
        0 => reply::sync(groups.map(|g| format!("/1.0/cluster/groups/{}", g.name)).collect::<Vec<_>>()),
        _ => reply::sync(groups.map(|g| show(&call, g)).collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment(name): Segment<String>) -> Reply {
    let shown = show(&call, &find(&call, &name)?);
    let etag = etag::of(&shown);
    reply::sync_etag(shown, &etag)
}

pub(crate) async fn create(call: Call, Json(body): Json<wire::Group>) -> Reply {
    let name = GroupName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    let wanted = names(body.members)?;
    if let Some(missing) = wanted.iter().find(|m| call.view.member_named(m).is_none()) {
        return Err(Error::invalid("members", format!("there is no member {missing:?}")));
    }
    let group = Group { name: name.clone(), description: body.description.clone() };
    call.propose(Command::Member(MemberCommand::AddGroup(group))).await?;
    if !wanted.is_empty() {
        let members = Some(wanted);
        let update = MemberCommand::UpdateGroup { name: name.clone(), description: body.description, members };
        call.propose(Command::Member(update)).await?;
    }
    let location = format!("/1.0/cluster/groups/{name}");
    call.happened("cluster-group-created", location.clone(), None);
    reply::created(&location)
}

pub(crate) async fn put(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::GroupPut>) -> Reply {
    let group = find(&call, &name)?;
    let members = Some(names(body.members.unwrap_or_default())?);
    update(&call, &group, body.description.unwrap_or_default(), members).await
}

pub(crate) async fn patch(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::GroupPut>) -> Reply {
    let group = find(&call, &name)?;
    let members = body.members.map(names).transpose()?;
    update(&call, &group, body.description.unwrap_or_else(|| group.description.clone()), members).await
}

async fn update(call: &Call, group: &Group, description: String, members: Option<BTreeSet<MemberName>>) -> Reply {
    etag::check(&call.headers, &etag::of(&show(call, group)))?;
    let update = MemberCommand::UpdateGroup { name: group.name.clone(), description, members };
    call.propose(Command::Member(update)).await?;
    call.happened("cluster-group-updated", format!("/1.0/cluster/groups/{}", group.name), None);
    reply::empty()
}

pub(crate) async fn rename(call: Call, Segment(name): Segment<String>, Json(body): Json<Rename>) -> Reply {
    let group = find(&call, &name)?;
    let to = GroupName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    let location = format!("/1.0/cluster/groups/{to}");
    call.propose(Command::Member(MemberCommand::RenameGroup { name: group.name, to })).await?;
    call.happened("cluster-group-renamed", location.clone(), None);
    reply::created(&location)
}

pub(crate) async fn delete(call: Call, Segment(name): Segment<String>) -> Reply {
    let group = find(&call, &name)?;
    call.propose(Command::Member(MemberCommand::RemoveGroup(group.name))).await?;
    call.happened("cluster-group-deleted", format!("/1.0/cluster/groups/{name}"), None);
    reply::empty()
}
