//! Writes trees as records. Blocks.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::block::Writer;
use super::record::{self, Meta, Record, Run};
use super::{STAMPS, Source};
use crate::beneath::{Node, NodeKind, Tree, Visit};
use crate::copy::next_data;
use crate::shift::Unshift;

/// Writes the whole stream.
pub(super) fn stream(sources: &[Source], mut out: Writer) -> io::Result<()> {
    for source in sources {
        Record::Tree(source.label).write(&mut out)?;
        let mut pack = Pack {
            out: &mut out,
            ids: Unshift::of(source.view.shifted()),
            linked: HashMap::new(),
            entries: 0,
            // Nothing changes a snapshot, so what is missing there is an error.
            whole: !source.live,
        };
        pack.tree(&Tree::open(source.view.volume())?)?;
        Record::End { entries: pack.entries }.write(&mut out)?;
    }
    Record::Last.write(&mut out)?;
    out.end()
}

struct Pack<'a> {
    out: &'a mut Writer,
    ids: Unshift,
    /// The first name that was written of each file that has several.
    linked: HashMap<(u64, u64), Vec<u8>>,
    entries: u64,
    whole: bool,
}

impl Pack<'_> {
    fn tree(&mut self, tree: &Tree) -> io::Result<()> {
        tree.walk(&mut |path, node, visit| {
            if path.as_os_str().is_empty() || STAMPS.iter().any(|name| path.as_os_str() == OsStr::new(name)) {
                return Ok(());
            }
            self.entry(path, node, visit)
        })
    }

    fn entry(&mut self, path: &Path, node: &Node, visit: Visit) -> io::Result<()> {
        if visit == Visit::Leave {
            return Record::Up.write(self.out);
        }
        self.entries += 1;
        let found = node.attributes();
        let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
        if found.links > 1 && found.kind != NodeKind::Dir {
            if let Some(first) = self.linked.get(&found.identity) {
                return Record::HardLink { name, existing: first.clone() }.write(self.out);
            }
            self.linked.insert(found.identity, record::path(path));
        }
        let meta = self.meta(name, node)?;
        match found.kind {
            NodeKind::Dir => Record::Dir(meta).write(self.out),
            NodeKind::File => self.file(meta, node),
            NodeKind::Symlink => {
                let target = node.target()?.as_os_str().as_bytes().to_vec();
                Record::Symlink(meta, target).write(self.out)
            }
            NodeKind::Fifo | NodeKind::Socket | NodeKind::CharDevice | NodeKind::BlockDevice => {
                Record::Special(meta, found.kind, found.device).write(self.out)
            }
        }
    }

    fn meta(&self, name: Vec<u8>, node: &Node) -> io::Result<Meta> {
        let found = node.attributes();
        let mut xattrs = Vec::new();
        for name in node.xattrs()?.into_iter().filter(|name| super::is_kept(name.as_bytes())) {
            if let Some(value) = node.xattr(&name)? {
                let name = name.into_encoded_bytes();
                let value = self.ids.xattr(&name, value);
                xattrs.push((name, value));
            }
        }
        let (uid, gid) = (self.ids.id(found.uid), self.ids.id(found.gid));
        Ok(Meta { name, mode: found.mode, uid, gid, modified: found.modified, xattrs })
    }

    fn file(&mut self, meta: Meta, node: &Node) -> io::Result<()> {
        let found = node.attributes();
        Record::File(meta, found.size).write(self.out)?;
        if found.size > 0 {
            self.content(&node.reopen(true, false, false)?, found.size, found.allocated >= found.size)?;
        }
        Run::END.write(self.out)
    }

    fn content(&mut self, file: &File, size: u64, dense: bool) -> io::Result<()> {
        let mut at = 0;
        while at < size {
            let (start, end) = match dense {
                true => (0, size),
                false => match next_data(file, at, size)? {
                    Some(run) => run,
                    None => break,
                },
            };
            Run { offset: start, length: end - start }.write(self.out)?;
            self.out.put_file(file, start, end - start, self.whole)?;
            at = end;
        }
        Ok(())
    }
}
