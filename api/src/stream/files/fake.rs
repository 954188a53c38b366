//! Files in memory, for tests: no links are followed, and folders are known by their entries' paths.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use basalt_model::InstanceId;
use bytes::Bytes;

use crate::port::files::{
    FileAttributes, FileEntry, FileError, FileKind, Files, OpenDir, OpenFile, OpenOptions, SetAttributes,
};

#[derive(Debug, Clone)]
struct Entry {
    attributes: FileAttributes,
    content: Vec<u8>,
}

type Tree = Arc<Mutex<BTreeMap<PathBuf, Entry>>>;

#[derive(Debug)]
pub(crate) struct MemoryFiles(Tree);

fn entry(kind: FileKind, mode: u32, content: &[u8]) -> Entry {
    let size = content.len() as u64;
    let attributes = FileAttributes { kind, mode, uid: 0, gid: 0, size, links: 1, modified: 1_700_000_000 };
    Entry { attributes, content: content.to_vec() }
}

impl Default for MemoryFiles {
    fn default() -> Self {
        let root = (PathBuf::from("/"), entry(FileKind::Dir, 0o755, b""));
        MemoryFiles(Arc::new(Mutex::new(BTreeMap::from([root]))))
    }
}

fn lock(tree: &Tree) -> MutexGuard<'_, BTreeMap<PathBuf, Entry>> {
    tree.lock().unwrap_or_else(PoisonError::into_inner)
}

fn at<'a>(tree: &'a mut BTreeMap<PathBuf, Entry>, path: &Path) -> Result<&'a mut Entry, FileError> {
    tree.get_mut(&Path::new("/").join(path)).ok_or(FileError::NotFound)
}

fn apply(entry: &mut Entry, set: SetAttributes) {
    if let Some(size) = set.size {
        // A file of the tests, whatever number a test of hostile input gives.
        entry.content.resize(usize::try_from(size).unwrap_or(usize::MAX).min(1 << 20), 0);
        entry.attributes.size = entry.content.len() as u64;
    }
    let attributes = &mut entry.attributes;
    attributes.uid = set.uid.unwrap_or(attributes.uid);
    attributes.gid = set.gid.unwrap_or(attributes.gid);
    attributes.mode = set.mode.unwrap_or(attributes.mode);
    attributes.modified = set.times.map_or(attributes.modified, |(_, modified)| modified);
}

impl MemoryFiles {
    pub(crate) fn content(&self, path: &str) -> Option<Vec<u8>> {
        lock(&self.0).get(Path::new(path)).map(|entry| entry.content.clone())
    }

    fn add(&self, path: &Path, new: Entry) -> Result<(), FileError> {
        let mut tree = lock(&self.0);
        let path = Path::new("/").join(path);
        let parent = path.parent().ok_or(FileError::Exists)?;
        if at(&mut tree, parent)?.attributes.kind != FileKind::Dir {
            return Err(FileError::NotDir);
        }
        if tree.contains_key(&path) {
            return Err(FileError::Exists);
        }
        tree.insert(path, new);
        Ok(())
    }

    fn children(&self, path: &Path) -> Vec<FileEntry> {
        let (path, tree) = (Path::new("/").join(path), lock(&self.0));
        let child = |(name, entry): (&PathBuf, &Entry)| {
            let name = name.file_name().filter(|_| name.parent() == Some(&path))?.to_owned();
            Some(FileEntry { name, attributes: entry.attributes.clone() })
        };
        tree.iter().filter_map(child).collect()
    }
}

struct MemoryFile(Tree, PathBuf, bool);

#[async_trait]
impl OpenFile for MemoryFile {
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, FileError> {
        let mut tree = lock(&self.0);
        let content = &at(&mut tree, &self.1)?.content;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let to = from.saturating_add(length).min(content.len());
        Ok(Bytes::copy_from_slice(&content[from..to]))
    }

    async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<(), FileError> {
        let mut tree = lock(&self.0);
        let entry = at(&mut tree, &self.1)?;
        let from = if self.2 { entry.content.len() } else { usize::try_from(offset).unwrap_or(usize::MAX) };
        let to = from.checked_add(bytes.len()).filter(|to| *to < 64 << 20).ok_or(FileError::NoSpace)?;
        entry.content.resize(entry.content.len().max(to), 0);
        entry.content[from..to].copy_from_slice(&bytes);
        entry.attributes.size = entry.content.len() as u64;
        Ok(())
    }

    async fn attributes(&self) -> Result<FileAttributes, FileError> {
        Ok(at(&mut lock(&self.0), &self.1)?.attributes.clone())
    }

    async fn set_attributes(&self, set: SetAttributes) -> Result<(), FileError> {
        apply(at(&mut lock(&self.0), &self.1)?, set);
        Ok(())
    }

    async fn sync(&self) -> Result<(), FileError> {
        Ok(())
    }
}

struct MemoryDir(Vec<FileEntry>);

#[async_trait]
impl OpenDir for MemoryDir {
    async fn next(&mut self, count: usize) -> Result<Vec<FileEntry>, FileError> {
        let rest = self.0.split_off(count.min(self.0.len()));
        Ok(std::mem::replace(&mut self.0, rest))
    }
}

#[async_trait]
impl Files for MemoryFiles {
    async fn stat(&self, _: InstanceId, path: &Path, _follow: bool) -> Result<FileAttributes, FileError> {
        Ok(at(&mut lock(&self.0), path)?.attributes.clone())
    }

    async fn set_attributes(&self, _: InstanceId, path: &Path, set: SetAttributes) -> Result<(), FileError> {
        apply(at(&mut lock(&self.0), path)?, set);
        Ok(())
    }

    async fn open(&self, _: InstanceId, path: &Path, how: OpenOptions) -> Result<Arc<dyn OpenFile>, FileError> {
        if let Some(mode) = how.create {
            match self.add(path, entry(FileKind::File, mode, b"")) {
                Err(FileError::Exists) if !how.exclusive => {}
                other => other?,
            }
        }
        let mut tree = lock(&self.0);
        let found = at(&mut tree, path)?;
        match found.attributes.kind {
            FileKind::File if how.truncate => apply(found, SetAttributes { size: Some(0), ..Default::default() }),
            FileKind::File => {}
            FileKind::Dir => return Err(FileError::IsDir),
            _ => return Err(FileError::Invalid("no regular file".into())),
        }
        Ok(Arc::new(MemoryFile(self.0.clone(), path.to_owned(), how.append)))
    }

    async fn open_dir(&self, _: InstanceId, path: &Path) -> Result<Box<dyn OpenDir>, FileError> {
        at(&mut lock(&self.0), path)?;
        Ok(Box::new(MemoryDir(self.children(path))))
    }

    async fn mkdir(&self, _: InstanceId, path: &Path, mode: u32) -> Result<(), FileError> {
        self.add(path, entry(FileKind::Dir, mode, b""))
    }

    async fn remove_file(&self, _: InstanceId, path: &Path) -> Result<(), FileError> {
        let path = Path::new("/").join(path);
        let mut tree = lock(&self.0);
        if at(&mut tree, &path)?.attributes.kind == FileKind::Dir {
            return Err(FileError::IsDir);
        }
        tree.remove(&path);
        Ok(())
    }

    async fn remove_dir(&self, _: InstanceId, path: &Path) -> Result<(), FileError> {
        if !self.children(path).is_empty() {
            return Err(FileError::NotEmpty);
        }
        lock(&self.0).remove(&Path::new("/").join(path)).map(drop).ok_or(FileError::NotFound)
    }

    async fn rename(&self, _: InstanceId, from: &Path, to: &Path, replace: bool) -> Result<(), FileError> {
        let mut tree = lock(&self.0);
        if !replace && at(&mut tree, to).is_ok() {
            return Err(FileError::Exists);
        }
        let moved = at(&mut tree, from)?.clone();
        tree.remove(&Path::new("/").join(from));
        tree.insert(Path::new("/").join(to), moved);
        Ok(())
    }

    async fn symlink(&self, _: InstanceId, target: &Path, path: &Path) -> Result<(), FileError> {
        self.add(path, entry(FileKind::Symlink, 0o777, target.as_os_str().as_encoded_bytes()))
    }

    async fn hard_link(&self, _: InstanceId, existing: &Path, path: &Path) -> Result<(), FileError> {
        let same = at(&mut lock(&self.0), existing)?.clone();
        self.add(path, same)
    }

    async fn readlink(&self, _: InstanceId, path: &Path) -> Result<PathBuf, FileError> {
        let mut tree = lock(&self.0);
        let found = at(&mut tree, path)?;
        match found.attributes.kind {
            FileKind::Symlink => Ok(String::from_utf8_lossy(&found.content).into_owned().into()),
            _ => Err(FileError::Invalid("no link".into())),
        }
    }
}
