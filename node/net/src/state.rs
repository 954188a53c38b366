//! The folder of one bridge: the mark that it is ours, and what was last loaded for it.
//!
//! Files are replaced by renaming, so a reader sees the old text or the new one. Folder and files
//! are readable by all: the DHCP daemon reads its hosts without being root.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::{Error, IfName};

#[derive(Debug, Clone)]
pub(crate) struct State {
    dir: PathBuf,
}

impl State {
    pub(crate) fn new(root: &Path, bridge: &IfName) -> Self {
        Self { dir: root.join(bridge.as_str()) }
    }

    /// What is kept for the interfaces of guests; its name is none of a bridge.
    pub(crate) fn of_ports(root: &Path) -> Self {
        Self { dir: root.join(".ports") }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    pub(crate) fn exists(&self) -> bool {
        self.dir.is_dir()
    }

    pub(crate) fn create(&self) -> Result<(), Error> {
        if self.exists() {
            return Ok(());
        }
        fs::create_dir_all(&self.dir)
            .and_then(|()| fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o755)))
            .map_err(|source| self.error("make", &self.dir, source))
    }

    pub(crate) fn read(&self, file: &str) -> Result<Option<String>, Error> {
        let path = self.path(file);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.error("read", &path, source)),
        }
    }

    /// Writes unless it holds that text already.
    pub(crate) fn write(&self, file: &str, text: &str) -> Result<(), Error> {
        if self.read(file)?.as_deref() == Some(text) {
            return Ok(());
        }
        let (path, new) = (self.path(file), self.path(&format!("{file}.new")));
        fs::write(&new, text)
            .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(0o644)))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|source| self.error("write", &path, source))
    }

    pub(crate) fn forget(&self, file: &str) -> Result<(), Error> {
        let path = self.path(file);
        gone(fs::remove_file(&path)).map_err(|source| self.error("remove", &path, source))
    }

    pub(crate) fn remove(&self) -> Result<(), Error> {
        gone(fs::remove_dir_all(&self.dir)).map_err(|source| self.error("remove", &self.dir, source))
    }

    fn error(&self, step: &'static str, path: &Path, source: io::Error) -> Error {
        Error::File { step, path: path.to_owned(), source }
    }
}

/// The bridges that have a folder.
pub(crate) fn bridges(root: &Path) -> Result<Vec<IfName>, Error> {
    let list = || -> io::Result<Vec<IfName>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.extend(entry.file_name().to_str().and_then(|name| IfName::new(name).ok()));
            }
        }
        Ok(names)
    };
    match list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|source| Error::File { step: "list", path: root.to_owned(), source }),
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_reads_forgets() {
        let root = tempfile::tempdir().unwrap();
        let state = State::new(root.path(), &IfName::new("br0").unwrap());
        assert!(bridges(root.path()).unwrap().is_empty());
        assert!(bridges(&root.path().join("none")).unwrap().is_empty());
        state.create().unwrap();
        state.create().unwrap();
        assert_eq!(state.read("a").unwrap(), None);
        state.write("a", "1").unwrap();
        state.write("a", "2").unwrap();
        assert_eq!(state.read("a").unwrap().as_deref(), Some("2"));
        assert!(!state.path("a.new").exists());
        assert_eq!(bridges(root.path()).unwrap(), [IfName::new("br0").unwrap()]);
        state.forget("a").unwrap();
        state.forget("a").unwrap();
        state.remove().unwrap();
        state.remove().unwrap();
        assert!(!state.exists());
    }
}
