//! Records of the state as wire objects.

use std::collections::BTreeMap;
use std::net::IpAddr;

use basalt_model::instance::{Instance, Phase};
use basalt_model::member::Health;
use basalt_model::snapshot::Snapshot;
use basalt_model::{InstanceId, StateView, Timestamp};

use crate::clock;
use crate::dto::Map;
use crate::dto::instance as wire;
use crate::dto::operation::Status;
use crate::dto::state::{Address, Counters, Cpu, Disk, Interface, Memory, State};
use crate::port::{LiveInterface, LiveState};

/// Live states of guests.
pub(crate) type Live = BTreeMap<InstanceId, LiveState>;

/// An instance's URL in lists.
pub(crate) fn instance_url(instance: &Instance) -> String {
    format!("/1.0/instances/{}{}", instance.name, instance.project.suffix())
}

/// What the guest does, as clients know it. They take only Stopped and Error for inactive, and some know no other word
/// than Running, Stopped and Frozen: so Error is shown only for what is really broken or out of reach.
pub(crate) fn status(view: &StateView, instance: &Instance, runs: bool) -> Status {
    let home = instance.placement.home().and_then(|(node, _)| view.members.get(&node));
    if home.is_some_and(|m| matches!(m.health, Health::Offline { .. })) {
        return Status::Error;
    }
    let Some(report) = instance.current_report() else { return Status::Stopped };
    match report.phase {
        Phase::Running => Status::Running,
        Phase::Frozen => Status::Frozen,
        Phase::Stopped => Status::Stopped,
        Phase::Failed if runs => Status::Running,
        Phase::Failed if report.made => Status::Stopped,
        Phase::Failed => Status::Error,
    }
}

/// The name of an instance's home, or `none` in a cluster of one.
pub(crate) fn location(view: &StateView, instance: &Instance) -> String {
    if view.members.len() < 2 {
        return "none".into();
    }
    let home = instance.placement.home().and_then(|(node, _)| view.members.get(&node));
    home.map(|m| m.name.to_string()).unwrap_or_default()
}

/// An instance.
pub(crate) fn instance(view: &StateView, instance: &Instance, runs: bool) -> wire::Instance {
    let spec = &instance.spec;
    let status = status(view, instance, runs);
    let power = if matches!(status, Status::Running | Status::Frozen) { "RUNNING" } else { "STOPPED" };
    let with_power = |mut config: Map| {
        config.entry("volatile.last_state.power".into()).or_insert_with(|| power.into());
        config
    };
    wire::Instance {
        name: instance.name.to_string(),
        description: spec.description.clone(),
        status: status.as_str().into(),
        status_code: status.code(),
        created_at: clock::text(instance.created_at),
        last_used_at: clock::text(instance.last_used_at),
        location: location(view, instance),
        kind: spec.kind.as_str().into(),
        project: instance.project.to_string(),
        architecture: spec.architecture.clone(),
        config: with_power(spec.config.clone()),
        devices: spec.devices.clone(),
        ephemeral: spec.ephemeral,
        profiles: spec.profiles.iter().map(ToString::to_string).collect(),
        stateful: false,
        expanded_config: with_power(view.expanded_config(&instance.project, spec)),
        expanded_devices: view.expanded_devices(&instance.project, spec),
    }
}

/// An instance with all that hangs on it.
pub(crate) fn full(view: &StateView, instance: &Instance, live: Option<&LiveState>) -> wire::Full {
    wire::Full {
        instance: self::instance(view, instance, live.is_some()),
        backups: Vec::new(),
        state: state(status(view, instance, live.is_some()), live),
        snapshots: snapshots(view, instance),
    }
}

/// The snapshots of an instance that are there, oldest first.
pub(crate) fn snapshots(view: &StateView, instance: &Instance) -> Vec<wire::Snapshot> {
    let mut ready: Vec<&Snapshot> = view.snapshots_of(instance.id).filter(|s| s.is_ready()).collect();
    ready.sort_by_key(|s| (s.created_at, s.id));
    ready.into_iter().map(|s| snapshot(view, instance, s)).collect()
}

/// A snapshot.
pub(crate) fn snapshot(view: &StateView, instance: &Instance, snapshot: &Snapshot) -> wire::Snapshot {
    let spec = &snapshot.spec;
    wire::Snapshot {
        name: snapshot.name.to_string(),
        created_at: clock::text(snapshot.created_at),
        expires_at: clock::text(snapshot.expires_at),
        last_used_at: clock::text(Timestamp::NEVER),
        stateful: false,
        size: number(snapshot.size),
        architecture: spec.architecture.clone(),
        config: spec.config.clone(),
        devices: spec.devices.clone(),
        ephemeral: spec.ephemeral,
        expanded_config: view.expanded_config(&instance.project, spec),
        expanded_devices: view.expanded_devices(&instance.project, spec),
        profiles: spec.profiles.iter().map(ToString::to_string).collect(),
    }
}

/// Without the costly parts of its state that were not asked for; `None` asks for all.
pub(crate) fn only(mut full: wire::Full, fields: Option<&[&str]>) -> wire::Full {
    let Some(fields) = fields else { return full };
    if !fields.contains(&"state.disk") {
        full.state.disk.clear();
    }
    if !fields.contains(&"state.network") {
        full.state.network.clear();
    }
    full
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The live state; that of a guest that does not run has no figures.
pub(crate) fn state(status: Status, live: Option<&LiveState>) -> State {
    let plain = State { status: status.as_str().into(), status_code: status.code(), ..State::default() };
    let Some(live) = live else { return plain };
    let root = Disk { usage: number(live.disk_used), total: number(live.disk_total) };
    State {
        disk: [("root".to_owned(), root)].into_iter().collect(),
        memory: Memory {
            usage: number(live.memory),
            usage_peak: number(live.memory_peak),
            total: number(live.memory_total),
            swap_usage: number(live.swap),
            swap_usage_peak: 0,
        },
        network: live.interfaces.iter().map(|i| (i.name.clone(), interface(i))).collect(),
        pid: i64::from(live.pid),
        processes: number(live.processes),
        cpu: Cpu { usage: number(live.cpu_ns), allocated_time: 0 },
        started_at: clock::text(live.started_at),
        ..plain
    }
}

fn interface(live: &LiveInterface) -> Interface {
    let loopback = live.name == "lo";
    Interface {
        addresses: live.addresses.iter().map(|(ip, prefix)| address(*ip, *prefix)).collect(),
        counters: Counters {
            bytes_received: number(live.bytes_received),
            bytes_sent: number(live.bytes_sent),
            packets_received: number(live.packets_received),
            packets_sent: number(live.packets_sent),
            ..Counters::default()
        },
        hwaddr: live.mac.map(|m| m.to_string()).unwrap_or_default(),
        host_name: live.host_name.clone(),
        mtu: i64::from(live.mtu),
        state: if live.up { "up" } else { "down" }.into(),
        kind: if loopback { "loopback" } else { "broadcast" }.into(),
    }
}

/// An address with its family and scope.
pub(crate) fn address(ip: IpAddr, prefix: u8) -> Address {
    let scope = match ip {
        _ if ip.is_loopback() => "local",
        IpAddr::V4(v4) if v4.is_link_local() => "link",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "link",
        IpAddr::V4(_) | IpAddr::V6(_) => "global",
    };
    Address {
        family: if ip.is_ipv4() { "inet" } else { "inet6" }.into(),
        address: ip.to_string(),
        netmask: prefix.to_string(),
        scope: scope.into(),
    }
}

/// What `PUT` may change of an instance: what its ETag is made from.
pub(crate) fn editable(instance: &Instance) -> impl serde::Serialize + use<> {
    let spec = &instance.spec;
    let config: Map =
        spec.config.iter().filter(|(k, _)| !k.starts_with("volatile.")).map(|(k, v)| (k.clone(), v.clone())).collect();
    (
        instance.name.clone(),
        spec.architecture.clone(),
        config,
        spec.devices.clone(),
        spec.description.clone(),
        spec.profiles.clone(),
        spec.ephemeral,
    )
}
