//! Members of the cluster.

use std::collections::BTreeSet;

use axum::extract::Request;
use basalt_model::command::{IdentityCommand, MemberCommand};
use basalt_model::config::{self, MEMBER};
use basalt_model::identity::{Grant, Token};
use basalt_model::member::{Duty, Health, Member, Role};
use basalt_model::{Command, GroupName, MemberName, TokenId};

use super::{evacuation, operation, spec};
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

/// Roles that follow from how the group is: nobody can give or take them.
const COMPUTED: [&str; 3] = ["database", "database-leader", "database-standby"];

fn roles(call: &Call, member: &Member) -> Vec<String> {
    let standing = call.api.ports.cluster.standing();
    let mut roles = Vec::new();
    if standing.leader == Some(member.id) {
        roles.push("database-leader".to_owned());
    }
    if standing.voters.contains(&member.id) {
        roles.push("database".into());
    }
    let given = &member.roles;
    if standing.learners.contains(&member.id) && !given.contains(&Role::DatabaseClient) {
        roles.push("database-standby".into());
    }
    roles.extend(given.iter().map(|role| role.as_str().to_owned()));
    roles
}

/// The roles that a client gives: those of ours that it names.
fn given_roles(asked: &[String]) -> Result<BTreeSet<Role>, Error> {
    let ours = asked.iter().filter(|name| !COMPUTED.contains(&name.as_str()));
    let role = |name: &String| {
        Role::named(name).ok_or_else(|| {
            let known: Vec<&str> = Role::ALL.into_iter().map(Role::as_str).collect();
            Error::invalid("roles", format!("{name:?} is no role that can be given: {}", known.join(", ")))
        })
    };
    ours.map(role).collect()
}

/// The computed role that `asked` adds or leaves out, if there is one.
fn touched<'a>(shown: &'a [String], asked: &'a [String]) -> Option<&'a str> {
    let in_one = |name: &&&str| {
        let has = |all: &[String]| all.iter().any(|role| role == **name);
        has(shown) != has(asked)
    };
    COMPUTED.iter().find(in_one).copied()
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
    etag::of(&(&member.failure_domain, &member.description, &member.config, &member.groups, &member.roles))
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
    let roles = body.roles.as_deref().map_or_else(|| Ok(member.roles.clone()), given_roles)?;
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
    let wanted = Member {
        failure_domain: if domain == "default" { String::new() } else { domain },
        description: keep(body.description, &member.description),
        groups,
        roles,
        config: config.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
        ..member.clone()
    };
    // Clients send back the roles that they were shown, and those that are computed may have changed since. Only one that
    // would change nothing else means them.
    if let (true, Some(asked)) = (wanted == *member, &body.roles)
        && let Some(role) = touched(&self::roles(call, member), asked)
    {
        let why = format!("{role:?} can be neither given nor taken: the cluster chooses who votes and who leads");
        return Err(Error::invalid("roles", why));
    }
    let update = MemberCommand::Update {
        id: member.id,
        failure_domain: wanted.failure_domain,
        description: wanted.description,
        groups: wanted.groups,
        config: wanted.config,
        roles: (wanted.roles != member.roles).then_some(wanted.roles),
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
    let member = find(&call, &name)?;
    evacuation::act(call, member, &body).await
}
