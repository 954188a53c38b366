//! Members of the cluster.

use std::collections::BTreeSet;

use axum::extract::Request;
use basalt_model::command::{IdentityCommand, MemberCommand};
use basalt_model::config::{self, MEMBER};
use basalt_model::identity::{Grant, Token};
use basalt_model::member::{Duty, Health, Member};
use basalt_model::{Command, GroupName, MemberName, TokenId};

use super::{operation, spec};
use crate::call::{Call, Json, Segment};
use crate::clock;
use crate::dto;
use crate::dto::cluster as wire;
use crate::dto::pool::Usage;
use crate::error::Error;
use crate::etag;
use crate::filter::Filter;
use crate::reply::{self, Reply};
use crate::token;

fn roles(call: &Call, member: &Member) -> Vec<String> {
    let standing = call.api.ports.cluster.standing();
    let mut roles = Vec::new();
    if standing.leader == Some(member.id) {
        roles.push("database-leader".to_owned());
    }
    if standing.voters.contains(&member.id) {
        roles.push("database".into());
    }
    if standing.learners.contains(&member.id) {
        roles.push("database-standby".into());
    }
    roles
}

fn show(call: &Call, member: &Member) -> wire::Member {
    let roles = roles(call, member);
    let (status, message) = match (member.health, member.duty) {
        (Health::Offline { since }, _) => ("Offline", format!("No heartbeat since {}", clock::text(since))),
        (Health::Online, Duty::Evacuated) => ("Evacuated", "Unavailable due to maintenance".into()),
        (Health::Online, Duty::Active) => ("Online", "Fully operational".into()),
    };
    wire::Member {
        server_name: member.name.to_string(),
        url: format!("https://{}", member.announced.api_address),
        database: roles.iter().any(|r| r == "database"),
        status: status.into(),
        message,
        architecture: member.announced.architecture.clone(),
        roles,
        failure_domain: match member.failure_domain.as_str() {
            "" => "default".into(),
            domain => domain.to_owned(),
        },
        description: member.description.clone(),
        config: member.config.clone(),
        groups: member.groups.iter().map(ToString::to_string).collect(),
    }
}

fn find(call: &Call, name: &str) -> Result<Member, Error> {
    let found = call.view.members.values().find(|m| m.name.as_str() == name);
    found.cloned().ok_or_else(|| Error::NotFound("Cluster member".into()))
}

fn tag(member: &Member) -> String {
    etag::of(&(&member.failure_domain, &member.description, &member.config, &member.groups))
}

pub(crate) async fn list(call: Call) -> Reply {
    let filter = Filter::parse(call.query("filter").unwrap_or_default())?;
    let members = call.view.members.values().map(|m| show(&call, m)).filter(|m| filter.takes(m));
    match call.recursion() {
        0 => reply::sync(members.map(|m| format!("/1.0/cluster/members/{}", m.server_name)).collect::<Vec<_>>()),
        _ => reply::sync(members.collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment(name): Segment<String>) -> Reply {
    let member = find(&call, &name)?;
    reply::sync_etag(show(&call, &member), &tag(&member))
}

/// Makes a join token. Clients read all of it from this very answer.
pub(crate) async fn invite(call: Call, Json(body): Json<wire::MemberName>) -> Reply {
    let name = MemberName::new(body.server_name).map_err(|e| Error::invalid("server_name", e))?;
    let expiry = call.view.config.get("cluster.join_token_expiry").map_or("3H", String::as_str);
    let now = clock::now();
    let seconds = config::parse_expiry(expiry).map_err(|e| Error::invalid("cluster.join_token_expiry", e))?;
    let secret = token::random_secret();
    let made = Token {
        id: TokenId(crate::operation::new_id(call.me())),
        secret_hash: token::hash_secret(&secret),
        grant: Grant::Join(name),
        created_at: now,
        expires_at: now.plus_secs(seconds),
    };
    call.propose(Command::Identity(IdentityCommand::AddToken(made.clone()))).await?;
    call.happened("cluster-token-created", "/1.0/cluster/members".into(), None);
    reply::operation(&operation::token_operation(&call, &made, Some(&secret)))
}

pub(crate) async fn put(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::MemberPut>) -> Reply {
    let member = find(&call, &name)?;
    let groups = body.groups.clone().unwrap_or_default();
    let config = body.config.clone().unwrap_or_default();
    update(&call, &member, body, groups, config, true).await
}

pub(crate) async fn patch(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::MemberPut>) -> Reply {
    let member = find(&call, &name)?;
    let present = member.groups.iter().map(ToString::to_string).collect();
    let groups = body.groups.clone().unwrap_or(present);
    let config = spec::merged(&member.config, body.config.clone().unwrap_or_default());
    update(&call, &member, body, groups, config, false).await
}

#[expect(clippy::too_many_arguments, reason = "what PUT and PATCH differ in, and whether it is a PUT")]
async fn update(
    call: &Call,
    member: &Member,
    body: wire::MemberPut,
    groups: Vec<String>,
    config: dto::Map,
    replace: bool,
) -> Reply {
    etag::check(&call.headers, &tag(member))?;
    spec::plain_text("config", &config)?;
    config::validate(MEMBER, &config).map_err(|wrong| Error::keys("config", &wrong))?;
    // Which member votes is decided by the cluster; the roles that a client sends back must be those it was shown.
    let asked = body.roles.unwrap_or_else(|| roles(call, member));
    let known = ["database", "database-leader", "database-standby"];
    if let Some(other) = asked.iter().find(|r| !known.contains(&r.as_str())) {
        return Err(Error::invalid("roles", format!("{other:?} cannot be given: voters are chosen by the cluster")));
    }
    let groups: BTreeSet<GroupName> = groups
        .into_iter()
        // Every member of a stock cluster is in this group; clients may send it back.
        .filter(|g| g != "default" || call.view.groups.keys().any(|known| known.as_str() == "default"))
        .map(|g| GroupName::new(g).map_err(|e| Error::invalid("groups", e)))
        .collect::<Result<_, _>>()?;
    let keep = |given: Option<String>, present: &str| match given {
        Some(text) => text,
        None if replace => String::new(),
        None => present.to_owned(),
    };
    let domain = keep(body.failure_domain, &member.failure_domain);
    let update = MemberCommand::Update {
        id: member.id,
        failure_domain: if domain == "default" { String::new() } else { domain },
        description: keep(body.description, &member.description),
        groups,
        config: config.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
    };
    call.propose(Command::Member(update)).await?;
    call.happened("cluster-member-updated", format!("/1.0/cluster/members/{}", member.name), None);
    reply::empty()
}

pub(crate) async fn rename(call: Call, Segment(name): Segment<String>, Json(body): Json<wire::MemberName>) -> Reply {
    let member = find(&call, &name)?;
    let to = MemberName::new(body.server_name).map_err(|e| Error::invalid("server_name", e))?;
    let location = format!("/1.0/cluster/members/{to}");
    call.propose(Command::Member(MemberCommand::Rename { id: member.id, name: to })).await?;
    call.happened("cluster-member-renamed", location.clone(), None);
    reply::created(&location)
}

pub(crate) async fn delete(call: Call, Segment(name): Segment<String>) -> Reply {
    let member = find(&call, &name)?;
    let force = call.query("force").is_some_and(config::is_true);
    call.api.ports.membership.remove(member.id, force).await?;
    call.happened("cluster-member-removed", format!("/1.0/cluster/members/{}", member.name), None);
    reply::empty()
}

/// Load of a member: only it, and the leader, know.
pub(crate) async fn state(call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let member = find(&call, &name)?;
    if member.id != call.me() && !call.who.from_member {
        return call.forward(member.id, request).await;
    }
    let telemetry = &call.api.ports.telemetry;
    let load = telemetry.load(member.id).unwrap_or_default();
    let pools = telemetry.pool_space().into_iter().map(|(name, (free, total))| {
        let space = Usage { used: total.saturating_sub(free), total };
        (name, wire::PoolState { space, inodes: Usage::default() })
    });
    reply::sync(wire::MemberState {
        sysinfo: wire::SysInfo {
            uptime: i64::try_from(load.uptime.as_secs()).unwrap_or(i64::MAX),
            load_averages: vec![load.load1],
            total_ram: member.announced.memory,
            free_ram: load.memory_available,
            logical_cpus: u64::from(member.announced.cpus),
            ..wire::SysInfo::default()
        },
        storage_pools: pools.collect(),
    })
}

pub(crate) async fn set_state(
    call: Call,
    Segment(name): Segment<String>,
    Json(body): Json<wire::MemberStatePost>,
) -> Reply {
    find(&call, &name)?;
    match body.action.as_str() {
        "evacuate" | "restore" => Err(Error::NotImplemented(format!("{} of a member", body.action))),
        "" => Err(Error::invalid("action", "is missing: evacuate or restore")),
        other => Err(Error::invalid("action", format!("{other:?} is neither evacuate nor restore"))),
    }
}
