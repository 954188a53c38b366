//! What a change of owner clears, written down before the first change: one JSON line per file.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Move, capability};
use crate::beneath::{NodeKind, Tree, Visit};

/// Its name, beside the root.
pub(super) const FILE: &str = "idmap.journal";
const SET_ID: u32 = 0o6000;

#[derive(Serialize, Deserialize)]
struct Special {
    path: Vec<u8>,
    mode: u32,
    capability: Option<Vec<u8>>,
}

/// Writes the journal of a tree whose ids all stand. Durable when it returns.
pub(super) fn write(volume: &Tree, tree: &Tree) -> io::Result<()> {
    remove(volume)?;
    let mut out = BufWriter::new(volume.create(FILE, 0o600)?);
    tree.walk::<io::Error>(&mut |path, node, visit| {
        let found = node.attributes();
        if visit == Visit::Leave || found.kind != NodeKind::File {
            return Ok(());
        }
        let capability = node.xattr(capability::NAME)?;
        if found.mode & SET_ID != 0 || capability.is_some() {
            let special = Special { path: path.as_os_str().as_bytes().to_vec(), mode: found.mode, capability };
            serde_json::to_writer(&mut out, &special)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// Puts everything back, for the moved root.
pub(super) fn apply(volume: &Tree, tree: &Tree, change: Move) -> io::Result<()> {
    for line in BufReader::new(volume.open_file(FILE)?).lines() {
        let special: Special = serde_json::from_str(&line?)?;
        let node = tree.node(Path::new(OsStr::from_bytes(&special.path)))?;
        if let Some(value) = special.capability {
            node.set_xattr(capability::NAME, &capability::moved(&value, |id| change.id(id)))?;
        }
        node.chmod(special.mode)?;
    }
    Ok(())
}

/// What is gone is a success.
pub(super) fn remove(volume: &Tree) -> io::Result<()> {
    match volume.remove(FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
