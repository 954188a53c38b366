//! Access control lists. A project has its own with its networks, or shares those of the default project.

use basalt_model::command::{AclCommand, Expect};
use basalt_model::network::acl::{Acl, Rule, RuleState};
use basalt_model::{AclKey, AclName, Command, NodeId};
use http::header::IF_MATCH;

use super::spec;
use crate::call::{Call, Json, Segment};
use crate::dto::acl as wire;
use crate::dto::network::Rename;
use crate::error::Error;
use crate::etag;
use crate::filter::Filter;
use crate::reply::{self, Reply};

fn show(call: &Call, acl: &Acl) -> wire::Acl {
    wire::Acl {
        name: acl.name.to_string(),
        description: acl.description.clone(),
        config: acl.config.clone(),
        ingress: acl.ingress.iter().map(show_rule).collect(),
        egress: acl.egress.iter().map(show_rule).collect(),
        used_by: call.seen(call.view.acl_users(&acl.id())),
        project: acl.project.to_string(),
    }
}

fn show_rule(rule: &Rule) -> wire::Rule {
    wire::Rule {
        action: rule.action.as_str().into(),
        source: rule.source.clone(),
        destination: rule.destination.clone(),
        protocol: rule.protocol.clone(),
        source_port: rule.source_port.clone(),
        destination_port: rule.destination_port.clone(),
        icmp_type: rule.icmp_type.clone(),
        icmp_code: rule.icmp_code.clone(),
        description: rule.description.clone(),
        state: rule.state.as_str().into(),
    }
}

/// Whether a rule means something is found out where it is applied; here only its words are read.
fn rules(list: &str, given: Vec<wire::Rule>) -> Result<Vec<Rule>, Error> {
    let rule = |(at, rule): (usize, wire::Rule)| {
        let field = |name: &str| format!("{list}[{at}].{name}");
        let action = rule.action.parse().map_err(|why| Error::invalid(field("action"), why))?;
        let state = match rule.state.as_str() {
            "" => RuleState::Enabled,
            word => word.parse().map_err(|why| Error::invalid(field("state"), why))?,
        };
        // Lists are shown without blanks, and compared by clients as they were sent.
        let plain = |text: String| text.split(',').map(str::trim).collect::<Vec<_>>().join(",");
        Ok(Rule {
            action,
            state,
            description: rule.description,
            source: plain(rule.source),
            destination: plain(rule.destination),
            protocol: rule.protocol,
            source_port: plain(rule.source_port),
            destination_port: plain(rule.destination_port),
            icmp_type: rule.icmp_type,
            icmp_code: rule.icmp_code,
        })
    };
    given.into_iter().enumerate().map(rule).collect()
}

fn find(call: &Call, name: &str) -> Result<Acl, Error> {
    let missing = || Error::NotFound("Network ACL".into());
    let name = AclName::new(name).map_err(|_| missing())?;
    let id = AclKey { project: call.network_project()?, name };
    call.view.acls.get(&id).cloned().ok_or_else(missing)
}

fn path(id: &AclKey) -> String {
    format!("/1.0/network-acls/{}", id.name)
}

fn url(id: &AclKey) -> String {
    path(id) + &id.project.suffix()
}

fn tag(acl: &Acl) -> String {
    let lists = [&acl.ingress, &acl.egress].map(|rules| rules.iter().map(show_rule).collect::<Vec<_>>());
    etag::of(&(&acl.description, &acl.config, lists))
}

pub(crate) async fn list(call: Call) -> Reply {
    let projects = call.network_projects()?;
    let filter = Filter::parse(call.query("filter").unwrap_or_default())?;
    let acls = call.view.acls.values().filter(|acl| projects.contains(&acl.project));
    let acls = acls.map(|acl| (url(&acl.id()), show(&call, acl))).filter(|(_, acl)| filter.takes(acl));
    match call.recursion() {
        0 => reply::sync(acls.map(|(url, _)| url).collect::<Vec<_>>()),
        _ => reply::sync(acls.map(|(_, acl)| acl).collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment(name): Segment<String>) -> Reply {
    let acl = find(&call, &name)?;
    reply::sync_etag(show(&call, &acl), &tag(&acl))
}

pub(crate) async fn create(call: Call, Json(body): Json<wire::Acl>) -> Reply {
    let name = AclName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    spec::plain_text("config", &body.config)?;
    let acl = Acl {
        description: body.description,
        config: body.config,
        ingress: rules("ingress", body.ingress)?,
        egress: rules("egress", body.egress)?,
        project: call.network_project()?,
        ..Acl::new(name)
    };
    let id = acl.id();
    call.propose(Command::Acl(AclCommand::Put { acl: Box::new(acl), expect: Expect::Absent })).await?;
    call.happened_in("network-acl-created", path(&id), &id.project);
    reply::created(&url(&id))
}

pub(crate) async fn put(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::Put>) -> Reply {
    let present = find(&call, &name)?;
    let acl = Acl {
        description: body.description.unwrap_or_default(),
        config: body.config.unwrap_or_default(),
        ingress: rules("ingress", body.ingress.unwrap_or_default())?,
        egress: rules("egress", body.egress.unwrap_or_default())?,
        ..present.clone()
    };
    update(&call, &present, acl).await
}

pub(crate) async fn patch(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::Put>) -> Reply {
    let present = find(&call, &name)?;
    let mut acl = present.clone();
    acl.description = body.description.unwrap_or(acl.description);
    acl.config = spec::merged(&present.config, body.config.unwrap_or_default());
    if let Some(given) = body.ingress {
        acl.ingress = rules("ingress", given)?;
    }
    if let Some(given) = body.egress {
        acl.egress = rules("egress", given)?;
    }
    update(&call, &present, acl).await
}

async fn update(call: &Call, present: &Acl, acl: Acl) -> Reply {
    etag::check(&call.headers, &tag(present))?;
    spec::plain_text("config", &acl.config)?;
    let expect = Expect::Present(call.headers.contains_key(IF_MATCH).then_some(present.generation));
    call.propose(Command::Acl(AclCommand::Put { acl: Box::new(acl), expect })).await?;
    call.happened_in("network-acl-updated", path(&present.id()), &present.project);
    reply::empty()
}

pub(crate) async fn rename(call: Call, Segment(name): Segment<String>, Json(body): Json<Rename>) -> Reply {
    let acl = find(&call, &name)?;
    let to = AclName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    let fresh = acl.id().beside(to.clone());
    call.propose(Command::Acl(AclCommand::Rename { name: acl.id(), to })).await?;
    call.happened_in("network-acl-renamed", path(&fresh), &fresh.project);
    reply::created(&url(&fresh))
}

pub(crate) async fn delete(call: Call, Segment(name): Segment<String>) -> Reply {
    let id = find(&call, &name)?.id();
    call.propose(Command::Acl(AclCommand::Remove(id.clone()))).await?;
    call.happened_in("network-acl-deleted", path(&id), &id.project);
    reply::empty()
}

/// What logged rules were about, on all members; one that does not answer is left out.
pub(crate) async fn log(call: Call, Segment(name): Segment<String>) -> Reply {
    let acl = find(&call, &name)?;
    if !call.who.full() {
        return Err(Error::Forbidden("The log tells of packets of all projects".into()));
    }
    let mut entries = call.api.ports.telemetry.acl_log(acl.number).await?;
    if !call.who.from_member {
        let me = call.me();
        let others = call.view.members.keys().copied().filter(|id| *id != me && call.view.online(*id));
        let asked = others.map(|node| log_of_member(&call, &acl, node));
        entries.extend(futures_util::future::join_all(asked).await.into_iter().flatten());
        entries.sort_by(|a, b| a.time.cmp(&b.time));
    }
    let line = |entry: &wire::LogEntry| serde_json::to_string(entry).map(|text| text + "\n");
    let text: Result<String, _> = entries.iter().map(line).collect();
    Ok(reply::raw("application/octet-stream", text.map_err(|e| Error::Internal(e.to_string()))?))
}

async fn log_of_member(call: &Call, acl: &Acl, node: NodeId) -> Vec<wire::LogEntry> {
    match call.ask(node, &format!("{}/log{}", path(&acl.id()), acl.project.suffix())).await {
        Ok(bytes) => bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect(),
        Err(error) => {
            tracing::warn!(%node, %error, acl = %acl.name, "the log of a member is not shown");
            Vec::new()
        }
    }
}
