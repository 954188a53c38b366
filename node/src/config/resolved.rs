//! Configuration as it is meant.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Ovn, Raw};

/// What runs guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Lxc,
    /// Guests in memory and in a file of the state folder: for many nodes on one machine.
    Fake,
}

/// Typed, complete settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub state_dir: PathBuf,
    pub listen: SocketAddr,
    pub cluster_listen: SocketAddr,
    pub engine: Engine,
    pub log: String,
    pub cgroup_prefix: String,
    pub image_ca_file: Option<PathBuf>,
    pub heartbeat: Duration,
    pub election: (Duration, Duration),
    pub ovn: Ovn,
}

/// Every mistake of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Mistakes {}

impl TryFrom<Raw> for Config {
    type Error = Mistakes;

    fn try_from(raw: Raw) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let listen = address("listen", raw.listen.as_deref().unwrap_or("[::]:8443"), &mut mistakes);
        let default_cluster = listen.map_or_else(String::new, |a| SocketAddr::new(a.ip(), 8444).to_string());
        let cluster_text = raw.cluster_listen.unwrap_or(default_cluster);
        let cluster_listen = listen.and_then(|_| address("cluster_listen", &cluster_text, &mut mistakes));
        if listen.is_some() && listen == cluster_listen {
            mistakes.push("cluster_listen: must differ from listen".into());
        }
        let state_dir = raw.state_dir.unwrap_or_else(|| "/var/lib/basalt".into());
        if !state_dir.is_absolute() {
            mistakes.push(format!("state_dir: {} is not an absolute path", state_dir.display()));
        }
        let engine = match raw.engine.as_deref() {
            None | Some("lxc") => Engine::Lxc,
            Some("fake") => Engine::Fake,
            Some(other) => {
                mistakes.push(format!("engine: {other:?} is neither lxc nor fake"));
                Engine::Lxc
            }
        };
        let cgroup_prefix = raw.cgroup_prefix.unwrap_or_else(|| "basalt".into());
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/');
        if cgroup_prefix.is_empty() || !cgroup_prefix.chars().all(fits) || cgroup_prefix.starts_with('/') {
            mistakes.push(format!("cgroup_prefix: {cgroup_prefix:?} is not a relative path of plain names"));
        }
        if let Some(file) = raw.image_ca_file.as_ref().filter(|file| !file.is_file()) {
            mistakes.push(format!("image_ca_file: {} is not a file", file.display()));
        }
        let ms = |value: Option<u64>, default: u64| Duration::from_millis(value.unwrap_or(default));
        let heartbeat = ms(raw.heartbeat_ms, 100);
        let election = (ms(raw.election_min_ms, 350), ms(raw.election_max_ms, 550));
        if heartbeat.is_zero() || election.0 < heartbeat * 2 || election.1 <= election.0 {
            mistakes.push("heartbeat_ms, election_min_ms, election_max_ms: an election must take at least two heartbeats, and its maximum be above its minimum".into());
        }
        let ovn = Ovn::resolve(raw.ovn, &mut mistakes);
        match (listen, cluster_listen) {
            (Some(listen), Some(cluster_listen)) if mistakes.is_empty() => Ok(Config {
                state_dir,
                listen,
                cluster_listen,
                engine,
                log: raw.log.unwrap_or_else(|| "info,openraft=warn".into()),
                cgroup_prefix,
                image_ca_file: raw.image_ca_file,
                heartbeat,
                election,
                ovn,
            }),
            (_, _) => Err(Mistakes(mistakes)),
        }
    }
}

fn address(key: &str, text: &str, mistakes: &mut Vec<String>) -> Option<SocketAddr> {
    let parsed = text.parse().ok();
    if parsed.is_none() {
        mistakes.push(format!("{key}: {text:?} is not an address with a port, such as 10.0.0.1:8443 or [::]:8443"));
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hold() {
        let config = Config::try_from(Raw::default()).unwrap();
        assert_eq!(config.listen.port(), 8443);
        assert_eq!(config.cluster_listen.port(), 8444);
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let raw = Raw {
            listen: Some("nowhere".into()),
            engine: Some("docker".into()),
            state_dir: Some("relative".into()),
            ..Raw::default()
        };
        let mistakes = Config::try_from(raw).unwrap_err().0;
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<Raw>("colour = \"red\"").is_err());
        assert!(toml::from_str::<Raw>("listen = \"[::]:8443\"").is_ok());
    }
}
