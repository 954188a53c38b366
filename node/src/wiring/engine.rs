//! What runs guests on this host, and what the host has for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use basalt_api::port::HostFacts;
use basalt_driver::fake::{FakeDriver, FakeHost};
use basalt_driver::{InstanceDriver, Probe};
use basalt_lxc::{LxcDriver, LxcOptions};
use basalt_model::MemberName;
use basalt_model::instance::Kind;
use basalt_ovn::session::Remote;
use basalt_ovn::vswitch::Switch;
use basalt_runtime::{CommandRunner, Supervisor};
use sha2::{Digest, Sha256};

use crate::announce::Abilities;
use crate::config::{Config, Engine};
use crate::fact::Machine;

/// Drivers by the kind of guest they run.
pub(super) type Drivers = BTreeMap<Kind, Arc<dyn InstanceDriver>>;

pub(super) struct Built {
    pub(super) drivers: Drivers,
    /// Whether guests have network interfaces of this host.
    pub(super) host_network: bool,
}

/// Builds the drivers of the configured engine.
pub(super) fn build(config: &Config, runner: Arc<dyn CommandRunner>, supervisor: &Supervisor) -> anyhow::Result<Built> {
    let mut drivers = Drivers::new();
    match config.engine {
        Engine::Lxc => {
            let driver = LxcDriver::new(LxcOptions {
                state_dir: config.state_dir.clone(),
                cgroup_prefix: config.cgroup_prefix.clone(),
                runner,
                supervisor: supervisor.clone(),
            })
            .context("containers cannot be run on this host")?;
            drivers.insert(Kind::Container, Arc::new(driver));
        }
        Engine::Fake => {
            let host = FakeHost::in_folder(config.state_dir.join("fake")).context("the fake engine's folder")?;
            drivers.insert(Kind::Container, Arc::new(FakeDriver::new(host)));
        }
    }
    Ok(Built { drivers, host_network: config.engine == Engine::Lxc })
}

/// The switch of this host; `None` where there is none and none is asked for.
pub(super) fn switch(config: &Config, host_network: bool) -> anyhow::Result<Option<Switch>> {
    let ovn = &config.ovn;
    if !host_network || !(ovn.asked || ovn.switch.exists()) {
        return Ok(None);
    }
    Switch::connect(Remote::Unix(ovn.switch.clone())).map(Some).context("the host's switch")
}

/// What this host can do, for the cluster and for `GET /1.0`.
pub(super) async fn abilities(
    config: &Config,
    engine: &Built,
    runner: &Arc<dyn CommandRunner>,
) -> (Abilities, HostFacts) {
    let storage_drivers = storage(runner, config.engine).await;
    let (drivers, probe) = probe(&engine.drivers).await;
    for lack in &probe.lacks {
        tracing::warn!("{lack}");
    }
    let abilities = Abilities { machine: Machine::read(), drivers, storage_drivers };
    let facts = host_facts(&abilities, &probe);
    (abilities, facts)
}

/// Kinds that can be run here, with the engine's version; and what was found.
async fn probe(drivers: &Drivers) -> (BTreeMap<String, String>, Probe) {
    let mut told = BTreeMap::new();
    let mut all = Probe::default();
    for (kind, driver) in drivers {
        let probe = driver.probe().await;
        if let Some(version) = &probe.version {
            told.insert(kind.as_str().to_owned(), version.clone());
        }
        all.version = all.version.or(probe.version);
        all.lacks.extend(probe.lacks);
        all.features.extend(probe.features);
    }
    (told, all)
}

fn host_facts(abilities: &Abilities, probe: &Probe) -> HostFacts {
    let machine = &abilities.machine;
    HostFacts {
        kernel: machine.kernel.clone(),
        kernel_version: machine.kernel_version.clone(),
        kernel_architecture: machine.architecture.clone(),
        os_name: machine.os_name.clone(),
        os_version: machine.os_version.clone(),
        hostname: machine.hostname.clone(),
        drivers: probe.version.iter().map(|version| ("lxc".to_owned(), version.clone())).collect(),
        storage_drivers: abilities.storage_drivers.clone(),
        kernel_features: probe.features.clone(),
        lxc_features: probe.features.clone(),
        lacks: probe.lacks.clone(),
        cpus: machine.cpus,
        memory_total: machine.memory,
    }
}

/// Storage drivers that work here, with their version. Nodes with the fake engine need none of the host.
async fn storage(runner: &Arc<dyn CommandRunner>, engine: Engine) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (kind, verdict) in basalt_storage::probe(&**runner).await {
        match verdict {
            Ok(version) => {
                found.insert(kind.as_str().to_owned(), version);
            }
            Err(why) if engine == Engine::Lxc => tracing::info!(driver = kind.as_str(), why, "not available here"),
            Err(_) => {}
        }
    }
    found
}

/// A name for what must be unique on the machine though several nodes share it (zpools): the folder says which node.
pub(super) fn storage_name(state_dir: &Path) -> anyhow::Result<MemberName> {
    let base = state_dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let digest: String = Sha256::digest(state_dir.as_os_str().as_encoded_bytes())
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let plain: String = base.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
    MemberName::new(format!("{plain}{digest}")).context("the state folder's name")
}
