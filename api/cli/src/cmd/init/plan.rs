//! What init is to do: how the cluster begins, and what it is given. Comes from flags, from questions, or from a preseed.

use anyhow::{Context as _, Result, bail};
use basalt_client::{Client, Token};
use serde::Deserialize;

use basalt_api::dto::Map;
use basalt_api::dto::cluster::JoinToken;
use basalt_api::dto::network::Post as NetworkPost;
use basalt_api::dto::pool::Post as PoolPost;
use basalt_api::dto::profile::Profile;
use basalt_api::dto::project::Project;

use super::address;

/// The bridge that init makes.
pub(crate) const BRIDGE: &str = "basaltbr0";
pub(crate) const POOL: &str = "default";
const ZFS: &str = "zfs";
const DIR: &str = "dir";

/// How this machine gets into a cluster.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Begin {
    Bootstrap {
        name: String,
        address: String,
    },
    Join {
        token: JoinToken,
        address: String,
    },
    /// It is in one already; only resources are added.
    Nothing,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) begin: Begin,
    pub(crate) resources: Resources,
}

/// What a cluster is given.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Resources {
    pub(crate) config: Map,
    pub(crate) pools: Vec<PoolPost>,
    pub(crate) networks: Vec<OwnedNetwork>,
    pub(crate) profiles: Vec<Profile>,
    pub(crate) projects: Vec<Project>,
}

/// A network, and the project whose it is; the default one where none is named.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct OwnedNetwork {
    pub(crate) project: Option<String>,
    #[serde(flatten)]
    pub(crate) network: NetworkPost,
}

impl From<NetworkPost> for OwnedNetwork {
    fn from(network: NetworkPost) -> Self {
        OwnedNetwork { project: None, network }
    }
}

/// A preseed, in the shape that LXD and Incus read.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Preseed {
    config: Map,
    storage_pools: Vec<PoolPost>,
    networks: Vec<OwnedNetwork>,
    profiles: Vec<Profile>,
    projects: Vec<Project>,
    cluster: Option<Cluster>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Cluster {
    server_name: Option<String>,
    enabled: Option<bool>,
    /// `HOST` or `HOST:PORT` of this member's API.
    server_address: Option<String>,
    cluster_token: Option<String>,
}

impl Preseed {
    pub(crate) fn read(text: &str) -> Result<Self> {
        crate::output::from_yaml(text).context("preseed")
    }

    pub(crate) async fn into_plan(self, client: &Client) -> Result<Plan> {
        let begin = match self.cluster {
            None => Begin::Nothing,
            Some(cluster) => cluster.into_begin(client).await?,
        };
        let resources = Resources {
            config: self.config,
            pools: self.storage_pools,
            networks: self.networks,
            profiles: self.profiles,
            projects: self.projects,
        };
        if matches!(begin, Begin::Join { .. }) && resources != Resources::default() {
            bail!("preseed: a machine that joins takes over what the cluster has; leave out all but `cluster`");
        }
        Ok(Plan { begin, resources })
    }
}

impl Cluster {
    async fn into_begin(self, client: &Client) -> Result<Begin> {
        if self.enabled == Some(false) {
            bail!("preseed: cluster.enabled must not be false: a single machine is a cluster of one");
        }
        if let Some(token) = &self.cluster_token {
            let token = JoinToken::decode(token)?;
            if let Some(name) = self.server_name.filter(|name| *name != token.server_name) {
                bail!("preseed: the token is for a member called {:?}, not {name:?}", token.server_name);
            }
            let address =
                self.server_address.map_or_else(|| address::towards(&token.addresses), |a| address::complete(&a));
            return Ok(Begin::Join { token, address });
        }
        let address = match self.server_address {
            Some(address) => address::complete(&address),
            None => address::of_this_machine(client).await?,
        };
        Ok(Begin::Bootstrap { name: self.server_name.map_or_else(host_name, Ok)?, address })
    }
}

/// The host name, without its domain.
pub(crate) fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("cannot read the host name")?;
    let name = name.into_string().ok().and_then(|name| name.split('.').next().map(str::to_owned));
    name.filter(|name| !name.is_empty()).context("this machine has no usable host name: use --name")
}

/// `zfs` where the host has it, else `dir`.
pub(crate) async fn best_driver(client: &Client) -> Result<String> {
    let drivers = client.server().await?.value.environment.unwrap_or_default().storage_supported_drivers;
    Ok(if drivers.iter().any(|driver| driver.name == ZFS) { ZFS } else { DIR }.to_owned())
}

pub(crate) fn usual_pool(driver: &str) -> PoolPost {
    PoolPost { name: POOL.to_owned(), driver: driver.to_owned(), ..PoolPost::default() }
}

pub(crate) fn usual_network() -> NetworkPost {
    NetworkPost { name: BRIDGE.to_owned(), kind: "bridge".to_owned(), ..NetworkPost::default() }
}

/// The default profile: a root on `pool`, an interface on `network`.
pub(crate) fn usual_profile(pool: &str, network: Option<&str>) -> Profile {
    let device =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Map>();
    let mut profile = Profile { name: "default".to_owned(), ..Profile::default() };
    profile.devices.insert("root".to_owned(), device(&[("type", "disk"), ("path", "/"), ("pool", pool)]));
    if let Some(network) = network {
        let nic = device(&[("type", "nic"), ("name", "eth0"), ("network", network)]);
        profile.devices.insert("eth0".to_owned(), nic);
    }
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preseed_in_the_usual_shape_is_read() {
        let text = "
config:
  core.remote_token_expiry: 1d
storage_pools:
- name: default
  driver: dir
networks:
- name: basaltbr0
  type: bridge
  config:
    ipv4.address: 10.7.0.1/24
- name: lan0
  type: ovn
  project: lab
profiles:
- name: default
  devices:
    root: {type: disk, path: /, pool: default}
cluster:
  server_name: node1
  enabled: true
  server_address: 10.0.0.1
";
        let preseed = Preseed::read(text).unwrap();
        assert_eq!(preseed.storage_pools[0].driver, "dir");
        let [bridge, logical] = &preseed.networks[..] else { panic!("{preseed:?}") };
        assert_eq!((bridge.network.config["ipv4.address"].as_str(), &bridge.project), ("10.7.0.1/24", &None));
        assert_eq!((logical.network.kind.as_str(), logical.project.as_deref()), ("ovn", Some("lab")));
        assert_eq!(preseed.cluster.unwrap().server_name.as_deref(), Some("node1"));
    }

    #[test]
    fn unknown_keys_of_a_preseed_are_refused() {
        assert!(Preseed::read("storage: []").is_err());
        assert!(Preseed::read("cluster: {name: x}").is_err());
    }
}
