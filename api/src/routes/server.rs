//! `/` and `/1.0`.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, Request};
use basalt_model::Command;
use basalt_model::command::{ClusterCommand, MemberCommand};
use basalt_model::config::{self, CLUSTER, MEMBER};
use serde_json::Value;

use crate::call::{Call, Json};
use crate::dialect::EXTENSIONS;
use crate::dto::Map;
use crate::dto::server::{Environment, Put, Server, StorageDriver};
use crate::error::Error;
use crate::etag;
use crate::port::HostFacts;
use crate::reply::{self, Reply};
use crate::token;

/// Keys that are shown but belong to the node's own configuration file.
const LOCAL_KEY: &str = "core.https_address";
/// Keys that are set here, and each member's own.
const MEMBER_KEY: &str = "core.dns_address";

pub(crate) async fn versions() -> Reply {
    reply::sync(["/1.0"])
}

pub(crate) async fn get(call: Call, request: Request) -> Reply {
    if !call.who.trusted() {
        return reply::sync(Server { auth: "untrusted".into(), ..public() });
    }
    let request = match call.to_target(request).await? {
        Ok(response) => return Ok(response),
        Err(request) => request,
    };
    drop(request);
    let config = if call.who.full() { shown_config(&call) } else { Map::new() };
    let etag = etag::of(&config);
    let server = Server {
        config,
        auth: "trusted".into(),
        auth_user_name: call.who.seen.username.clone(),
        auth_user_method: call.who.seen.protocol.clone(),
        environment: Some(environment(&call)),
        ..public()
    };
    reply::sync_etag(server, &etag)
}

fn public() -> Server {
    Server {
        api_extensions: EXTENSIONS.iter().map(|e| (*e).to_owned()).collect(),
        api_status: "stable".into(),
        api_version: "1.0".into(),
        auth_methods: vec!["tls".into()],
        ..Server::default()
    }
}

fn api_address(call: &Call) -> String {
    let me = call.view.members.get(&call.me());
    me.map(|m| m.announced.api_address.clone()).unwrap_or_default()
}

fn shown_config(call: &Call) -> Map {
    let mut config = call.view.config.clone();
    let address = api_address(call);
    if !address.is_empty() {
        config.insert(LOCAL_KEY.into(), address);
    }
    let own = call.view.members.get(&call.me()).and_then(|me| me.config.get(MEMBER_KEY));
    config.extend(own.map(|value| (MEMBER_KEY.to_owned(), value.clone())));
    config
}

fn environment(call: &Call) -> Environment {
    let host = call.api.ports.membership.host();
    let certificate = call.view.secrets.api_certificate.clone();
    let address = api_address(call);
    let pools = call.view.pools.values().map(|p| p.kind.as_str());
    let mut used: Vec<&str> = pools.collect();
    used.dedup();
    let versions: Vec<&str> = used.iter().map(|d| host.storage_drivers.get(*d).map_or("1", String::as_str)).collect();
    Environment {
        addresses: if address.is_empty() { Vec::new() } else { vec![address] },
        architectures: vec![host.kernel_architecture.clone()],
        certificate_fingerprint: token::pem_fingerprint(&certificate).map(String::from).unwrap_or_default(),
        certificate,
        driver: joined(host.drivers.keys()),
        driver_version: joined(host.drivers.values()),
        firewall: "nftables".into(),
        kernel_features: flags(&host.kernel_features),
        lxc_features: flags(&host.lxc_features),
        project: call.project().map(|p| p.to_string()).unwrap_or_else(|_| "default".into()),
        server: call.dialect.server().into(),
        server_clustered: call.view.members.len() > 1,
        server_event_mode: "full-mesh".into(),
        server_name: call.my_name(),
        server_pid: i64::from(std::process::id()),
        server_version: call.dialect.version().into(),
        storage: used.join(" | "),
        storage_version: versions.join(" | "),
        storage_supported_drivers: storage_drivers(&host),
        basalt_version: call.api.ports.version.clone(),
        basalt_lacks: host.lacks,
        kernel: host.kernel,
        kernel_architecture: host.kernel_architecture,
        kernel_version: host.kernel_version,
        os_name: host.os_name,
        os_version: host.os_version,
    }
}

fn joined<'a>(words: impl Iterator<Item = &'a String>) -> String {
    words.cloned().collect::<Vec<_>>().join(" | ")
}

fn flags(features: &BTreeMap<String, bool>) -> BTreeMap<String, String> {
    features.iter().map(|(name, on)| (name.clone(), on.to_string())).collect()
}

fn storage_drivers(host: &HostFacts) -> Vec<StorageDriver> {
    let driver = |(name, version): (&String, &String)| StorageDriver {
        name: name.clone(),
        version: version.clone(),
        remote: false,
    };
    host.storage_drivers.iter().map(driver).collect()
}

pub(crate) async fn put(call: Call, request: Request) -> Reply {
    update(call, request, true).await
}

pub(crate) async fn patch(call: Call, request: Request) -> Reply {
    update(call, request, false).await
}

async fn update(call: Call, request: Request, replace: bool) -> Reply {
    let request = match call.to_target(request).await? {
        Ok(response) => return Ok(response),
        Err(request) => request,
    };
    let Json(body) = Json::<Put>::from_request(request, &call.api).await?;
    let shown = shown_config(&call);
    etag::check(&call.headers, &etag::of(&shown))?;
    let mut wanted = Map::new();
    for (key, value) in body.config {
        wanted.insert(key.clone(), scalar(&key, value)?);
    }
    if let Some(address) = wanted.remove(LOCAL_KEY)
        && shown.get(LOCAL_KEY) != Some(&address)
    {
        return Err(Error::invalid(LOCAL_KEY, "is set in each node's own configuration file, not here"));
    }
    let own = own_key(&mut wanted, &shown, replace)?;
    config::validate(CLUSTER, &wanted).map_err(|wrong| Error::keys("config", &wrong))?;
    let mut set: BTreeMap<String, Option<String>> =
        wanted.into_iter().map(|(key, value)| (key, Some(value).filter(|v| !v.is_empty()))).collect();
    if replace {
        for key in call.view.config.keys() {
            set.entry(key.clone()).or_insert(None);
        }
    }
    let expect = Some(call.view.config_generation);
    call.propose(Command::Cluster(ClusterCommand::SetConfig { set, expect })).await?;
    if let Some(value) = own {
        set_own_key(&call, value).await?;
    }
    call.happened("config-updated", "/1.0".into(), None);
    reply::empty()
}

/// Takes out what the member itself is to have, if that changes; an empty value unsets it.
fn own_key(wanted: &mut Map, shown: &Map, replace: bool) -> Result<Option<String>, Error> {
    let value = match wanted.remove(MEMBER_KEY) {
        Some(value) => value,
        None if replace => String::new(),
        None => return Ok(None),
    };
    if !value.is_empty() {
        let only = Map::from([(MEMBER_KEY.to_owned(), value.clone())]);
        config::validate(MEMBER, &only).map_err(|wrong| Error::keys("config", &wrong))?;
    }
    Ok(Some(value).filter(|value| shown.get(MEMBER_KEY).map_or("", String::as_str) != value))
}

async fn set_own_key(call: &Call, value: String) -> Result<(), Error> {
    let missing = || Error::NotFound("Cluster member".into());
    let mut me = call.view.members.get(&call.me()).cloned().ok_or_else(missing)?;
    match value.is_empty() {
        true => me.config.remove(MEMBER_KEY),
        false => me.config.insert(MEMBER_KEY.into(), value),
    };
    let update = MemberCommand::Update {
        id: me.id,
        failure_domain: me.failure_domain,
        description: me.description,
        groups: me.groups,
        config: me.config,
        roles: None,
    };
    call.propose(Command::Member(update)).await.map(drop)
}

/// LXD's clients may send numbers and booleans here.
fn scalar(key: &str, value: Value) -> Result<String, Error> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(String::new()),
        Value::Bool(on) => Ok(on.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Array(_) | Value::Object(_) => Err(Error::invalid(format!("config.{key}"), "must be a text")),
    }
}
