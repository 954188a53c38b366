//! Builds what a driver needs from the instance's configuration. Draws, once, what must be drawn (hardware addresses,
//! id range) and records it as `volatile.*` before it is used.

use std::collections::BTreeMap;
use std::sync::Arc;

use basalt_driver::{Disk, GuestSpec, IdMap, Limits, Nic, RootFs};
use basalt_model::command::InstanceCommand;
use basalt_model::config::is_true;
use basalt_model::device::Device;
use basalt_model::instance::{Config, Instance};
use basalt_model::limit::{Allowance, Cpu, parse_allowance, parse_cpu, parse_memory};
use basalt_model::{ClusterState, Command, InstanceId, Mac, PoolName, StateView};
use rand::Rng;
use sha2::{Digest, Sha256};

use super::plan::Desired;
use super::{Agent, Parts};

/// Prefix of our interfaces on the host; the rest is a digest of instance and device.
pub(super) const HOST_PREFIX: &str = "bst";

/// Pool and size of the root disk.
pub(super) fn root_disk(state: &ClusterState, instance: &Instance) -> Option<(PoolName, Option<u64>)> {
    let devices = state.parsed_devices(&instance.project, &instance.spec);
    devices.into_iter().find_map(|(_, device)| match device {
        Device::Root { pool, size } => Some((pool, size)),
        Device::Disk { .. } | Device::Nic { .. } | Device::None => None,
    })
}

/// The host's end of a device's veth pair: the same for the same device, and at most 15 characters.
pub(super) fn host_interface(id: InstanceId, device: &str) -> String {
    let digest = Sha256::digest(format!("{id}/{device}"));
    let hex: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    format!("{HOST_PREFIX}{hex}")
}

/// The guest as the driver is to make it.
pub(super) async fn build(
    agent: &Arc<Agent>,
    view: &StateView,
    instance: &Instance,
    wanted: &Desired,
) -> Result<GuestSpec, String> {
    let parts = &agent.parts;
    let config = view.expanded_config(&instance.project, &instance.spec);
    let key = |name: &str| config.get(name).map(String::as_str).filter(|v| !v.is_empty());
    let privileged = key("security.privileged").is_some_and(is_true);
    let map = match privileged {
        true => None,
        false => {
            Some(agent.idmaps.range(view, parts.me, instance.id).ok_or("no range of user ids is left on this host")?)
        }
    };
    let mut drawn = BTreeMap::new();
    if let Some(map) = map {
        draw(instance, &mut drawn, "volatile.idmap.base", || map.base.to_string());
    }
    let devices = view.parsed_devices(&instance.project, &instance.spec);
    let nics = nics(view, instance, &devices, &mut drawn)?;
    record(parts, wanted, drawn).await?;
    let root = root(parts, view, instance, map).await?;
    Ok(GuestSpec {
        id: instance.id,
        epoch: wanted.epoch,
        generation: wanted.configuration,
        start: wanted.run.start,
        hostname: instance.name.to_string(),
        project: instance.project.to_string(),
        architecture: instance.spec.architecture.clone(),
        root,
        id_map: map,
        privileged,
        nesting: key("security.nesting").is_some_and(is_true),
        limits: limits(&config, parts, instance.id)?,
        nics,
        disks: disks(&devices),
        environment: environment(&config),
        raw: key("raw.lxc").map(str::to_owned),
    })
}

/// Notes a drawn value unless the instance has it already.
fn draw(
    instance: &Instance,
    drawn: &mut BTreeMap<String, Option<String>>,
    key: &str,
    value: impl Fn() -> String,
) -> String {
    let value = instance
        .spec
        .config
        .get(key)
        .filter(|v| !v.is_empty() && key != "volatile.idmap.base")
        .cloned()
        .unwrap_or_else(value);
    if instance.spec.config.get(key) != Some(&value) {
        drawn.insert(key.to_owned(), Some(value.clone()));
    }
    value
}

/// Keeps what was drawn with the instance, before anything is made from it.
async fn record(parts: &Parts, wanted: &Desired, set: BTreeMap<String, Option<String>>) -> Result<(), String> {
    if set.is_empty() {
        return Ok(());
    }
    let command = InstanceCommand::SetVolatile { id: wanted.id, epoch: wanted.epoch, set };
    parts.cluster.propose(Command::Instance(command)).await.map(|_| ()).map_err(|e| basalt_runtime::chain(&e))
}

async fn root(parts: &Parts, view: &StateView, instance: &Instance, map: Option<IdMap>) -> Result<RootFs, String> {
    let (pool, _) = root_disk(view, instance).ok_or("the instance has no root disk")?;
    let store = parts.pools.get(&pool)?;
    let root =
        store.root(instance.id).await.map_err(|e| basalt_runtime::chain(&e))?.ok_or("its root volume is not there")?;
    let Some(map) = map.filter(|_| !root.idmap_mounts) else {
        return Ok(RootFs { path: root.path, shifted: None });
    };
    // The file system cannot be mounted with an id map: the files themselves get the container's ids, once.
    basalt_storage::shift::shift(&root.path, map.base, map.size).await.map_err(|e| basalt_runtime::chain(&e))?;
    Ok(RootFs { path: root.path, shifted: Some(map) })
}

fn nics(
    view: &StateView,
    instance: &Instance,
    devices: &[(String, Device)],
    drawn: &mut BTreeMap<String, Option<String>>,
) -> Result<Vec<Nic>, String> {
    let mut nics: Vec<Nic> = Vec::new();
    for (name, device) in devices {
        let Device::Nic { network, parent, name: inside, mac, mtu, .. } = device else { continue };
        let bridge = match (network, parent) {
            (Some(network), _) => network.to_string(),
            (None, Some(parent)) => parent.clone(),
            (None, None) => return Err(format!("device {name} names no network")),
        };
        let inside = inside.clone().unwrap_or_else(|| free_interface(&nics));
        let key = format!("volatile.{name}.hwaddr");
        let mac = match mac {
            Some(mac) => *mac,
            None => draw(instance, drawn, &key, || fresh_mac(view).to_string())
                .parse()
                .map_err(|e| format!("{key}: {e}"))?,
        };
        let host_name = host_interface(instance.id, name);
        draw(instance, drawn, &format!("volatile.{name}.host_name"), || host_name.clone());
        nics.push(Nic { device: name.clone(), name: inside, host_name, bridge, mac, mtu: *mtu });
    }
    Ok(nics)
}

fn free_interface(taken: &[Nic]) -> String {
    let free = |name: &String| !taken.iter().any(|nic| nic.name == *name);
    (0..).map(|n| format!("eth{n}")).find(free).unwrap_or_default()
}

/// A hardware address that no instance of the cluster has, under the prefix that LXC's peers use for guests.
fn fresh_mac(view: &StateView) -> Mac {
    let taken = |mac: &Mac| {
        let text = mac.to_string();
        view.instances.values().any(|i| i.spec.config.iter().any(|(k, v)| k.ends_with(".hwaddr") && *v == text))
    };
    let mut rng = rand::rng();
    loop {
        let [a, b, c]: [u8; 3] = rng.random();
        let mac = Mac([0x00, 0x16, 0x3e, a, b, c]);
        if !taken(&mac) {
            return mac;
        }
    }
}

fn disks(devices: &[(String, Device)]) -> Vec<Disk> {
    let disk = |(name, device): &(String, Device)| match device {
        Device::Disk { source, path, readonly } => {
            Some(Disk { device: name.clone(), source: source.into(), path: path.clone(), readonly: *readonly })
        }
        Device::Root { .. } | Device::Nic { .. } | Device::None => None,
    };
    devices.iter().filter_map(disk).collect()
}

fn environment(config: &Config) -> BTreeMap<String, String> {
    let own = |(key, value): (&String, &String)| Some((key.strip_prefix("environment.")?.to_owned(), value.clone()));
    config.iter().filter_map(own).collect()
}

fn limits(config: &Config, parts: &Parts, id: InstanceId) -> Result<Limits, String> {
    let key = |name: &str| config.get(name).map(String::as_str).filter(|v| !v.is_empty());
    let cpu_set = match key("limits.cpu").map(parse_cpu).transpose()? {
        None => None,
        Some(Cpu::Set(set)) => match set.iter().find(|cpu| **cpu >= parts.cpus) {
            Some(cpu) => return Err(format!("limits.cpu: this host has no CPU {cpu}, only 0-{}", parts.cpus - 1)),
            None => Some(set),
        },
        Some(Cpu::Count(count)) if count >= parts.cpus => None,
        Some(Cpu::Count(count)) => Some(spread(id, count, parts.cpus)),
    };
    let (cpu_share_percent, cpu_quota) = match key("limits.cpu.allowance").map(parse_allowance).transpose()? {
        None => (None, None),
        Some(Allowance::Percent(percent)) => (Some(percent), None),
        Some(Allowance::Quota(run, each)) => (None, Some((run, each))),
    };
    Ok(Limits {
        cpu_set,
        cpu_quota,
        cpu_share_percent,
        memory: key("limits.memory").map(parse_memory).transpose()?.map(|memory| memory.on_host(parts.memory)),
        processes: key("limits.processes").map(str::parse).transpose().map_err(|_| "limits.processes: not a number")?,
    })
}

/// Which CPUs a count means: a run of them that begins where the instance's id says, so that instances spread.
fn spread(id: InstanceId, count: u32, cpus: u32) -> Vec<u32> {
    let first = id.0.as_u128() as u32 % cpus;
    let mut set: Vec<u32> = (0..count).map(|n| (first + n) % cpus).collect();
    set.sort_unstable();
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_interfaces_fit_the_kernel_and_stay_the_same() {
        let id = "11111111-1111-4111-8111-111111111111".parse().unwrap();
        let name = host_interface(id, "eth0");
        assert!(name.len() <= 15 && name.starts_with(HOST_PREFIX), "{name}");
        assert_eq!(name, host_interface(id, "eth0"));
        assert_ne!(name, host_interface(id, "eth1"));
    }

    #[test]
    fn a_count_is_a_set_of_that_size() {
        let id = "11111111-1111-4111-8111-1111111111ff".parse().unwrap();
        for count in 1..8 {
            let set = spread(id, count, 8);
            assert_eq!(set.len(), count as usize);
            assert!(set.iter().all(|cpu| *cpu < 8) && set.windows(2).all(|w| w[0] < w[1]));
        }
    }
}
