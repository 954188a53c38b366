//! Storage pools.

use std::collections::BTreeMap;

use axum::extract::Request;
use basalt_model::command::PoolCommand;
use basalt_model::config::{self, POOL};
use basalt_model::pool::{Pool, PoolKind, PoolStatus};
use basalt_model::quota;
use basalt_model::{Command, Generation, NodeId, PoolName};
use http::header::IF_MATCH;

use super::pending::{Waiting, What};
use super::spec;
use crate::call::{Call, Json, Segment};
use crate::dto;
use crate::dto::network::Put;
use crate::dto::pool as wire;
use crate::error::Error;
use crate::etag;
use crate::filter::Filter;
use crate::reply::{self, Reply};

/// Keys of one member's own part of a pool.
const MEMBER_KEYS: &[&str] = &["source", "size", "zfs.pool_name"];

/// How a pool stands in all: clients know Created, Pending, Errored.
fn status(call: &Call, pool: &Pool) -> &'static str {
    let of = |id: &NodeId| pool.status.get(id);
    let all: Vec<_> = call.view.members.keys().map(of).collect();
    if all.iter().any(|s| matches!(s, Some(PoolStatus::Failed { .. }))) {
        return "Errored";
    }
    if all.iter().any(Option::is_none) { "Pending" } else { "Created" }
}

/// The configuration; with `node` that member's own keys over it.
fn shown_config(pool: &Pool, node: Option<NodeId>) -> dto::Map {
    let mut config = pool.config.clone();
    if let Some(own) = node.and_then(|id| pool.member_config.get(&id)) {
        config.extend(own.clone());
    }
    config
}

fn show(call: &Call, pool: &Pool, node: Option<NodeId>) -> wire::Pool {
    let locations = match call.view.members.len() {
        0 | 1 => vec!["none".to_owned()],
        _ => call.view.members.values().map(|m| m.name.to_string()).collect(),
    };
    wire::Pool {
        name: pool.name.to_string(),
        driver: pool.kind.as_str().into(),
        description: pool.description.clone(),
        config: shown_config(pool, node),
        status: status(call, pool).into(),
        locations,
        used_by: call.seen(call.view.pool_users(&pool.name)),
    }
}

fn show_pending(call: &Call, name: &str, waiting: &Waiting) -> wire::Pool {
    let members = waiting.members.keys().filter_map(|id| call.view.members.get(id));
    wire::Pool {
        name: name.to_owned(),
        driver: waiting.driver.clone(),
        status: "Pending".into(),
        locations: members.map(|m| m.name.to_string()).collect(),
        ..wire::Pool::default()
    }
}

impl Call {
    /// The pool of that name.
    ///
    /// # Errors
    /// There is none, or the project's limit hides it.
    pub(crate) fn pool(&self, name: &str) -> Result<Pool, Error> {
        let missing = || Error::NotFound("Storage pool".into());
        let name = PoolName::new(name).map_err(|_| missing())?;
        self.view.pools.get(&name).filter(|p| self.shows_pool(p)).cloned().ok_or_else(missing)
    }

    fn shows_pool(&self, pool: &Pool) -> bool {
        let project = self.project().ok().and_then(|name| self.view.projects.get(&name));
        !project.is_some_and(|project| quota::hides_pool(project, &pool.name))
    }

    /// The member whose part is asked for: `target=`, or in a cluster of one that one.
    fn part(&self) -> Result<Option<NodeId>, Error> {
        let named = self.query("target").is_some();
        let alone = self.view.members.len() == 1;
        Ok(self.other_target()?.or_else(|| (named || alone).then(|| self.me())))
    }
}

fn tag(pool: &Pool, node: Option<NodeId>) -> String {
    etag::of(&(&pool.description, shown_config(pool, node)))
}

pub(crate) async fn list(call: Call) -> Reply {
    let filter = Filter::parse(call.query("filter").unwrap_or_default())?;
    let part = call.part()?;
    let mut pools: Vec<wire::Pool> = {
        let open = call.view.pools.values().filter(|p| call.shows_pool(p));
        open.map(|p| show(&call, p, part)).collect()
    };
    let waiting = call.api.pending.list(What::Pool);
    pools.extend(waiting.iter().map(|(name, waiting)| show_pending(&call, name, waiting)));
    let pools = pools.into_iter().filter(|p| filter.takes(p));
    match call.recursion() {
        0 => reply::sync(pools.map(|p| format!("/1.0/storage-pools/{}", p.name)).collect::<Vec<_>>()),
        _ => reply::sync(pools.collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment(name): Segment<String>) -> Reply {
    if let Some(waiting) = call.api.pending.get(What::Pool, &name) {
        return reply::sync(show_pending(&call, &name, &waiting));
    }
    let (pool, part) = (call.pool(&name)?, call.part()?);
    reply::sync_etag(show(&call, &pool, part), &tag(&pool, part))
}

fn checked(config: dto::Map) -> Result<dto::Map, Error> {
    spec::plain_text("config", &config)?;
    config::validate(POOL, &config).map_err(|wrong| Error::keys("config", &wrong))?;
    Ok(config.into_iter().filter(|(_, value)| !value.is_empty()).collect())
}

pub(crate) async fn create(call: Call, Json(body): Json<wire::Post>) -> Reply {
    let name = PoolName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    let kind = match body.driver.as_str() {
        "dir" => PoolKind::Dir,
        "zfs" => PoolKind::Zfs,
        "" => return Err(Error::invalid("driver", "is missing: dir or zfs")),
        other => return Err(Error::invalid("driver", format!("{other:?} is not supported: use dir or zfs"))),
    };
    let config = checked(body.config)?;
    let location = format!("/1.0/storage-pools/{name}");
    if let Some(member) = call.query("target") {
        let member = call.view.members.values().find(|m| m.name.as_str() == member);
        let node = member.ok_or_else(|| Error::NotFound("Cluster member".into()))?.id;
        if call.view.pools.contains_key(&name) {
            return Err(Error::Conflict("The storage pool already exists".into()));
        }
        if let Some(key) = config.keys().find(|k| !MEMBER_KEYS.contains(&k.as_str())) {
            return Err(Error::invalid(
                format!("config.{key}"),
                "is not a key of one member: give it in the last call",
            ));
        }
        call.api.pending.add(What::Pool, name.as_str(), kind.as_str(), (node, config));
        return reply::created(&location);
    }
    let waiting = call.api.pending.get(What::Pool, name.as_str()).unwrap_or_default();
    if !waiting.driver.is_empty() && waiting.driver != kind.as_str() {
        return Err(Error::invalid("driver", format!("the members were given {}", waiting.driver)));
    }
    let member_config: BTreeMap<NodeId, dto::Map> =
        waiting.members.into_iter().filter(|(_, config)| !config.is_empty()).collect();
    let pool = Pool {
        name: name.clone(),
        kind,
        description: body.description,
        config,
        member_config,
        status: BTreeMap::new(),
        generation: Generation(1),
    };
    call.propose(Command::Pool(PoolCommand::Add(pool))).await?;
    call.api.pending.remove(What::Pool, name.as_str());
    call.happened("storage-pool-created", location.clone(), None);
    reply::created(&location)
}

pub(crate) async fn put(call: Call, Segment(name): Segment<String>, Json(body): Json<Put>) -> Reply {
    update(&call, &name, body, true).await
}

pub(crate) async fn patch(call: Call, Segment(name): Segment<String>, Json(body): Json<Put>) -> Reply {
    update(&call, &name, body, false).await
}

async fn update(call: &Call, name: &str, body: Put, replace: bool) -> Reply {
    let pool = call.pool(name)?;
    let part = call.part()?;
    etag::check(&call.headers, &tag(&pool, part))?;
    let given = body.config.unwrap_or_default();
    let shown = shown_config(&pool, part);
    let wanted = checked(if replace { given } else { spec::merged(&shown, given) })?;
    // What a pool lies on cannot change under what lies on it.
    for key in MEMBER_KEYS {
        let (held, asked) = (shown.get(*key), wanted.get(*key));
        if held != asked && !(part.is_none() && asked.is_none()) {
            return Err(Error::invalid(format!("config.{key}"), "cannot be changed once the pool exists"));
        }
    }
    let own = part.and_then(|id| pool.member_config.get(&id));
    let config = wanted.into_iter().filter(|(k, v)| own.is_none_or(|own| own.get(k) != Some(v))).collect();
    let update = PoolCommand::Update {
        name: pool.name.clone(),
        expect: call.headers.contains_key(IF_MATCH).then_some(pool.generation),
        description: body.description.unwrap_or_else(|| if replace { String::new() } else { pool.description.clone() }),
        config,
    };
    call.propose(Command::Pool(update)).await?;
    call.happened("storage-pool-updated", format!("/1.0/storage-pools/{name}"), None);
    reply::empty()
}

pub(crate) async fn delete(call: Call, Segment(name): Segment<String>) -> Reply {
    if call.api.pending.remove(What::Pool, &name) {
        return reply::empty();
    }
    let pool = call.pool(&name)?;
    call.propose(Command::Pool(PoolCommand::Remove(pool.name))).await?;
    call.happened("storage-pool-deleted", format!("/1.0/storage-pools/{name}"), None);
    reply::empty()
}

/// Space of one member's share.
pub(crate) async fn resources(call: Call, Segment(name): Segment<String>, request: Request) -> Reply {
    let pool = call.pool(&name)?;
    if let Ok(answer) = call.to_target(request).await? {
        return Ok(answer);
    }
    let space = call.api.ports.telemetry.pool_space();
    let (free, total) = space
        .get(pool.name.as_str())
        .copied()
        .ok_or_else(|| Error::Unavailable("the pool is not ready on this member yet".into()))?;
    let space = wire::Usage { used: total.saturating_sub(free), total };
    reply::sync(wire::Resources { space, inodes: wire::Usage::default() })
}
