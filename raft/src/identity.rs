//! Who this member is: its id, its cluster, its key and certificates, in a folder of their own.
//!
//! The file with the ids is written last, after the log exists: a member with an identity has a log, and one without is
//! a fresh machine whatever else lies there.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use basalt_model::NodeId;
use serde::{Deserialize, Serialize};

use crate::Error;

/// A member's identity. `Debug` never shows the key.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    pub node_id: NodeId,
    pub cluster_id: uuid::Uuid,
    /// PEM of the node's private key.
    pub key: String,
    /// PEM of its certificate, from the cluster's CA.
    pub certificate: String,
    /// PEM of the CA's certificate.
    pub ca_certificate: String,
}

impl std::fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeIdentity")
            .field("node_id", &self.node_id)
            .field("cluster_id", &self.cluster_id)
            .finish_non_exhaustive()
    }
}

const IDS: &str = "identity.json";
const KEY: &str = "node.key";
const CERTIFICATE: &str = "node.crt";
const CA: &str = "ca.crt";

#[derive(Serialize, Deserialize)]
struct Ids {
    node_id: NodeId,
    cluster_id: uuid::Uuid,
}

impl NodeIdentity {
    /// Reads the identity from its folder; `None` when this is a fresh machine.
    pub fn load(dir: &Path) -> Result<Option<Self>, Error> {
        let ids = match read(&dir.join(IDS)) {
            Ok(text) => text,
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let ids: Ids = serde_json::from_str(&ids).map_err(|e| Error::damaged(&dir.join(IDS), e.to_string()))?;
        Ok(Some(NodeIdentity {
            node_id: ids.node_id,
            cluster_id: ids.cluster_id,
            key: read(&dir.join(KEY))?,
            certificate: read(&dir.join(CERTIFICATE))?,
            ca_certificate: read(&dir.join(CA))?,
        }))
    }

    /// Writes the identity; what makes it one, the file with the ids, comes last and at once.
    pub fn store(&self, dir: &Path) -> Result<(), Error> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Error::io("create", dir))?;
        for (name, text) in [(KEY, &self.key), (CERTIFICATE, &self.certificate), (CA, &self.ca_certificate)] {
            write_private(&dir.join(name), text.as_bytes())?;
        }
        let ids = serde_json::to_string(&Ids { node_id: self.node_id, cluster_id: self.cluster_id })
            .expect("numbers and texts can be written as JSON");
        let beside = dir.join("identity.new");
        write_private(&beside, ids.as_bytes())?;
        sync_dir(dir)?;
        fs::rename(&beside, dir.join(IDS)).map_err(Error::io("rename", &beside))?;
        sync_dir(dir)
    }
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(Error::io("read", path))
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("write", path))
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(Error::io("sync", dir))
}
