//! Builds what a driver needs from the instance's configuration. Draws, once, what must be drawn (hardware addresses,
//! id range) and records it as `volatile.*` before it is used.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use basalt_driver::{Disk, GuestSpec, IdMap, Joined, Limits, Nic, RootFs};
use basalt_model::command::InstanceCommand;
use basalt_model::config::{is_false, is_true};
use basalt_model::device::Device;
use basalt_model::instance::{Config, Instance};
use basalt_model::limit::{Allowance, Cpu, parse_allowance, parse_cpu, parse_memory};
use basalt_model::network::port;
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
    let nics = nics(parts, view, (instance, &devices), &mut drawn).await?;
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
        disks: disks(&devices, view.disk_paths(&instance.project).as_deref())?,
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
        if let Some(map) = map {
            let_in(&root.path, map).map_err(|error| format!("its root's folder: {error}"))?;
        }
        return Ok(RootFs { path: root.path, shifted: None });
    };
    // The file system cannot be mounted with an id map: the files themselves get the container's ids, once.
    let _held = parts.pools.lock(instance.id).write().await;
    basalt_storage::shift::shift(&root.path, map.base, map.size).await.map_err(|e| basalt_runtime::chain(&e))?;
    Ok(RootFs { path: root.path, shifted: Some(map) })
}

/// Lets the container's root, and nobody else of the host, through the folder that its root file system is in: when it
/// reboots by itself, the engine opens that path under the container's own ids.
fn let_in(root: &Path, map: IdMap) -> std::io::Result<()> {
    let Some(folder) = root.parent() else { return Ok(()) };
    let found = std::fs::metadata(folder)?;
    if found.mode() & 0o001 != 0 || (found.gid() == map.base && found.mode() & 0o010 != 0) {
        return Ok(());
    }
    chown(folder, None, Some(map.base))?;
    std::fs::set_permissions(folder, Permissions::from_mode((found.mode() & 0o7700) | 0o010))
}

async fn nics(
    parts: &Parts,
    view: &StateView,
    (instance, devices): (&Instance, &[(String, Device)]),
    drawn: &mut BTreeMap<String, Option<String>>,
) -> Result<Vec<Nic>, String> {
    let mut nics: Vec<Nic> = Vec::new();
    let logical = port::of(view, instance);
    for (name, device) in devices {
        let Device::Nic { network, parent, name: inside, mac, mtu, .. } = device else { continue };
        let (joined, usual) = match (logical.iter().find(|port| port.device == *name), network, parent) {
            (Some(port), ..) => {
                let overlay = parts.overlay.as_ref();
                let lack = "this member has no switch for logical networks (Open vSwitch; [ovn] in basaltd.toml)";
                let (joined, mtu) = overlay.ok_or(lack)?.interface(port).await;
                (joined, Some(mtu))
            }
            (None, Some(network), _) => (Joined::Bridge(network.to_string()), None),
            (None, None, Some(parent)) => (Joined::Bridge(parent.clone()), None),
            (None, None, None) => return Err(format!("device {name} names no network")),
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
        nics.push(Nic { device: name.clone(), name: inside, host_name, joined, mac, mtu: mtu.or(usual) });
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

/// Folders of the host for the guest. With `within` only what really lies in one of those: a guest may have made a
/// link, in a folder that it shares with the host, that points elsewhere.
fn disks(devices: &[(String, Device)], within: Option<&[String]>) -> Result<Vec<Disk>, String> {
    let mut disks = Vec::new();
    for (name, device) in devices {
        let Device::Disk { source, path, readonly } = device else { continue };
        let source = match within {
            None => source.into(),
            Some(folders) => real(source, folders).map_err(|why| format!("device {name}: {source}: {why}"))?,
        };
        disks.push(Disk { device: name.clone(), source, path: path.clone(), readonly: *readonly });
    }
    Ok(disks)
}

fn real(source: &str, folders: &[String]) -> Result<PathBuf, String> {
    let real = std::fs::canonicalize(source).map_err(|e| e.to_string())?;
    let inside = |folder: &String| std::fs::canonicalize(folder).is_ok_and(|folder| real.starts_with(folder));
    match folders.iter().any(inside) {
        true => Ok(real),
        false => Err("leads out of the folders that the project may use (restricted.devices.disk.paths)".into()),
    }
}

fn environment(config: &Config) -> BTreeMap<String, String> {
    let own = |(key, value): (&String, &String)| Some((key.strip_prefix("environment.")?.to_owned(), value.clone()));
    config.iter().filter_map(own).collect()
}

/// The keys of a family, without what they have in common.
fn family(config: &Config, prefix: &str) -> BTreeMap<String, String> {
    let own = |(key, value): (&String, &String)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone()));
    config.iter().filter(|(_, value)| !value.is_empty()).filter_map(own).collect()
}

fn sysctls(config: &Config) -> Result<BTreeMap<String, String>, String> {
    let all = family(config, "linux.sysctl.");
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    match all.keys().find(|name| !name.chars().all(plain) || name.contains("..")) {
        None => Ok(all),
        Some(bad) => Err(format!("linux.sysctl.{bad}: is not the name of a setting")),
    }
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
        cpu_priority: key("limits.cpu.priority").map(str::parse).transpose().map_err(|_| "limits.cpu.priority")?,
        memory_soft: key("limits.memory.enforce") == Some("soft"),
        no_swap: key("limits.memory.swap").is_some_and(is_false),
        rlimits: family(config, "limits.kernel."),
        sysctls: sysctls(config)?,
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
    fn a_link_does_not_lead_out_of_the_folders() {
        let folder = tempfile::tempdir().unwrap();
        let (open, shut) = (folder.path().join("open"), folder.path().join("shut"));
        for made in [&open.join("data"), &shut] {
            std::fs::create_dir_all(made).unwrap();
        }
        std::os::unix::fs::symlink(&shut, open.join("out")).unwrap();
        std::os::unix::fs::symlink(open.join("data"), open.join("in")).unwrap();
        let folders = [open.to_str().unwrap().to_owned()];
        let asked = |name: &str| real(open.join(name).to_str().unwrap(), &folders);
        assert_eq!(asked("data"), Ok(open.canonicalize().unwrap().join("data")));
        assert_eq!(asked("in"), Ok(open.canonicalize().unwrap().join("data")));
        assert!(asked("out").unwrap_err().contains("restricted.devices.disk.paths"));
        assert!(asked("missing").is_err());
    }

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
