//! What this user's client remembers: its certificate, and the clusters it can talk to by name.
//!
//! The folder is `$BASALT_CONF`, else `~/.config/basalt`: `client.crt`, `client.key`, `remotes.toml`. A remote is pinned to the
//! certificate that its token named, or that the user confirmed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use basalt_client::{Client, Identity};
use serde::{Deserialize, Serialize};

/// The remote that is this machine.
pub(crate) const LOCAL: &str = "local";
/// The protocol of image servers that are no clusters.
pub(crate) const SIMPLESTREAMS: &str = "simplestreams";
const REMOTES: &str = "remotes.toml";
const STATE_DIR: &str = "/var/lib/basalt";

/// What environment variables say; read once, in `main`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    pub(crate) socket: Option<PathBuf>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) conf_dir: Option<PathBuf>,
    pub(crate) home: Option<PathBuf>,
    pub(crate) term: Option<String>,
    pub(crate) editor: Option<String>,
}

impl Environment {
    pub(crate) fn read() -> Self {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            socket: path("BASALT_SOCKET"),
            state_dir: path("BASALT_DIR"),
            conf_dir: path("BASALT_CONF"),
            home: path("HOME"),
            term: text("TERM"),
            editor: text("VISUAL").or_else(|| text("EDITOR")),
        }
    }

    /// The socket of the member on this machine.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket
            .clone()
            .unwrap_or_else(|| self.state_dir.as_deref().unwrap_or(Path::new(STATE_DIR)).join("unix.socket"))
    }
}

/// A cluster that is known by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Remote {
    /// Any member's API, `https://HOST:PORT`.
    pub(crate) address: String,
    /// SHA-256 of the certificate that it must serve; empty for an image server, which members talk to.
    #[serde(default)]
    pub(crate) fingerprint: String,
    /// `simplestreams` for an image server; nothing for a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) protocol: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<String>,
}

/// `remotes.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Remotes {
    /// The one that is meant when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default: Option<String>,
    #[serde(default)]
    pub(crate) remotes: BTreeMap<String, Remote>,
}

/// The folder and what is in it.
#[derive(Debug, Clone)]
pub(crate) struct Conf {
    folder: Option<PathBuf>,
    socket: PathBuf,
}

impl Conf {
    pub(crate) fn new(environment: &Environment) -> Self {
        let folder = environment.conf_dir.clone();
        let folder = folder.or_else(|| environment.home.as_ref().map(|home| home.join(".config/basalt")));
        Self { folder, socket: environment.socket() }
    }

    fn folder(&self) -> Result<&Path> {
        self.folder.as_deref().context("there is no home folder: set BASALT_CONF")
    }

    /// The remotes; none when the file does not exist.
    pub(crate) fn remotes(&self) -> Result<Remotes> {
        let Some(folder) = &self.folder else { return Ok(Remotes::default()) };
        let path = folder.join(REMOTES);
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).with_context(|| format!("cannot understand {}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Remotes::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes the remotes, all or nothing.
    pub(crate) fn save(&self, remotes: &Remotes) -> Result<()> {
        let folder = self.folder()?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let (path, new) = (folder.join(REMOTES), folder.join(format!("{REMOTES}.new")));
        std::fs::write(&new, toml::to_string(remotes)?).with_context(|| format!("cannot write {}", new.display()))?;
        std::fs::rename(&new, &path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// This user's certificate, made when it is first needed.
    pub(crate) fn identity(&self) -> Result<Identity> {
        let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        Ok(Identity::load_or_generate(self.folder()?, &format!("basalt@{}", name.as_deref().unwrap_or("client")))?)
    }

    /// A client of `remote`, or of the default one.
    pub(crate) fn connect(&self, remote: Option<&str>) -> Result<Client> {
        let remotes = self.remotes()?;
        let name = remote.or(remotes.default.as_deref()).unwrap_or(LOCAL);
        if name == LOCAL {
            return Ok(Client::unix(&self.socket));
        }
        let Some(known) = remotes.remotes.get(name) else {
            bail!("there is no remote {name:?}: see `basalt remote list`, or add it with `basalt remote add`");
        };
        if known.protocol.is_some() {
            bail!("{name} is an image server, no cluster: use it as {name}:IMAGE with launch, create and image copy");
        }
        let client = Client::https(&known.address, &known.fingerprint, Some(&self.identity()?))?;
        Ok(client.in_project(known.project.as_deref()))
    }

    /// A client of the member on this machine, whatever the default remote is.
    pub(crate) fn local(&self) -> Client {
        Client::unix(&self.socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(folder: &Path) -> Conf {
        Conf::new(&Environment { conf_dir: Some(folder.to_owned()), ..Environment::default() })
    }

    #[test]
    fn remotes_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let conf = conf(folder.path());
        assert_eq!(conf.remotes().unwrap(), Remotes::default());
        let remote =
            Remote { address: "https://a:8443".into(), fingerprint: "ab".repeat(32), protocol: None, project: None };
        let remotes = Remotes { default: Some("a".into()), remotes: BTreeMap::from([("a".into(), remote)]) };
        conf.save(&remotes).unwrap();
        assert_eq!(conf.remotes().unwrap(), remotes);
        assert_eq!(conf.connect(None).unwrap().endpoint(), "https://a:8443");
        assert_eq!(conf.connect(Some(LOCAL)).unwrap().endpoint(), "unix:/var/lib/basalt/unix.socket");
        assert!(conf.connect(Some("b")).is_err());
    }

    #[test]
    fn the_socket_is_where_the_environment_says() {
        let mut environment = Environment { state_dir: Some("/s".into()), ..Environment::default() };
        assert_eq!(environment.socket(), Path::new("/s/unix.socket"));
        environment.socket = Some("/x.sock".into());
        assert_eq!(environment.socket(), Path::new("/x.sock"));
    }
}
