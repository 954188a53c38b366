//! Shifts the owner ids of a whole tree, for file systems that cannot be mounted with an id map (zfs-fuse).
//!
//! ```text
//!  Done(map) --journal, mark--> Moving(from, to) --walk: owners, ACLs--> re-apply journal --mark--> Done(to)
//! ```
//!
//! The state lies beside the root, in the volume's own folder: `idmap.json`; none means guest ids. **Invariant.** `from`
//! and `to` never overlap, so each id tells by itself whether it was moved, and the walk can be repeated after a crash.
//! A move between overlapping maps goes through guest ids. Changing an owner clears set-uid bits and file capabilities;
//! those are written to `idmap.journal`, durably, before the first change, and put back at the end.
//!
//! Ids outside the map are left alone: inside, they show as the overflow id, and the kernel ignores their set-uid bits.
//! The guest must not run meanwhile. The state and the journal lie in the volume's folder, so a snapshot or a copy of the
//! whole folder carries those of its own tree; both are only made of a tree whose ids all stand ([`settle`]).

mod acl;
mod capability;
mod journal;

use std::io;
use std::path::Path;

use basalt_runtime::spawn_blocking;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::beneath::{Node, NodeKind, Tree, Visit};

const STATE: &str = "idmap.json";

/// What lies beside the root on behalf of its shift: it belongs to how the ids stand there, and to no other tree.
pub(crate) const FILES: [&str; 2] = [STATE, journal::FILE];

/// Guest ids `0..size` are `base..base + size` on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// The host's id of the guest's root.
    pub base: u32,
    /// How many ids.
    pub size: u32,
}

impl IdMap {
    fn guest(size: u32) -> Self {
        IdMap { base: 0, size }
    }

    fn holds(self, id: u32) -> bool {
        id >= self.base && id - self.base < self.size
    }

    fn overlaps(self, other: IdMap) -> bool {
        let end = |map: IdMap| u64::from(map.base) + u64::from(map.size);
        u64::from(self.base) < end(other) && u64::from(other.base) < end(self)
    }
}

/// How the ids of a tree stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Done(IdMap),
    Moving { from: IdMap, to: IdMap },
}

/// One move. Both maps are of the same size and apart.
#[derive(Debug, Clone, Copy)]
struct Move {
    from: IdMap,
    to: IdMap,
}

impl Move {
    fn id(self, id: u32) -> u32 {
        if self.from.holds(id) { id - self.from.base + self.to.base } else { id }
    }
}

/// Brings the tree at `root` to the map (`base` 0 for guest ids), wherever it stands and whatever a crash left.
/// Repeating it when it is there already costs one small read. The volume's folder becomes passable for the guest's root
/// and nobody else: without an idmapped mount, LXC walks to the root with the guest's ids.
pub async fn shift(root: &Path, base: u32, size: u32) -> Result<(), Error> {
    let root = root.to_owned();
    spawn_blocking("shift ids", move || run(&root, IdMap { base, size }, &mut || Ok(()))).await?
}

/// The map that the tree at `root` is in; `None` while a move is unfinished.
pub async fn current(root: &Path) -> Result<Option<IdMap>, Error> {
    let root = root.to_owned();
    let read = move || match read_state(&volume(&root)?) {
        Ok(Some(State::Done(map))) => Ok(Some(map)),
        Ok(Some(State::Moving { .. })) => Ok(None),
        Ok(None) => Ok(Some(IdMap::guest(0))),
        Err(error) => Err(failed(&root, "read id map", error)),
    };
    spawn_blocking("read id map", read).await?
}

/// Finishes what a crash left of a move, and says how the ids stand then; `None` for guest ids. Blocks.
pub(crate) fn settle(root: &Path) -> Result<Option<IdMap>, Error> {
    let read = || read_state(&volume(root)?).map_err(|error| failed(root, "read id map", error));
    if let Some(State::Moving { to, .. }) = read()? {
        run(root, to, &mut || Ok(()))?;
    }
    match read()? {
        Some(State::Done(map)) if map.base != 0 => Ok(Some(map)),
        Some(State::Done(_)) | None => Ok(None),
        Some(State::Moving { .. }) => Err(failed(root, "finish id map", io::Error::other("it moves again"))),
    }
}

/// Ids of a shifted tree as the guest sees them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unshift(Option<Move>);

impl Unshift {
    /// Of a tree that stands so; `None` changes nothing.
    pub(crate) fn of(map: Option<IdMap>) -> Self {
        Unshift(map.map(|from| Move { from, to: IdMap::guest(from.size) }))
    }

    pub(crate) fn id(self, id: u32) -> u32 {
        self.0.map_or(id, |change| change.id(id))
    }

    /// The value of an extended attribute; those that hold ids are changed.
    pub(crate) fn xattr(self, name: &[u8], value: Vec<u8>) -> Vec<u8> {
        let Unshift(Some(change)) = self else { return value };
        if name == capability::NAME.as_bytes() {
            return capability::moved(&value, |id| change.id(id));
        }
        match acl::NAMES.iter().any(|acl| acl.as_bytes() == name) {
            true => acl::moved(&value, |id| change.id(id)).unwrap_or(value),
            false => value,
        }
    }
}

fn volume(root: &Path) -> Result<Tree, Error> {
    let parent = root.parent().ok_or_else(|| Error::invalid(root.display().to_string(), "has no folder above it"))?;
    Tree::open(parent).map_err(|error| failed(root, "open volume", error))
}

/// `step` is called before each change; tests end the run there.
fn run(root: &Path, target: IdMap, step: &mut dyn FnMut() -> io::Result<()>) -> Result<(), Error> {
    if target.size == 0 || target.base.checked_add(target.size).is_none() {
        return Err(Error::invalid("id map", format!("{}+{} is no range of ids", target.base, target.size)));
    }
    if target.base != 0 && target.base < target.size {
        return Err(Error::invalid("id map", format!("{}+{} overlaps the guest's ids", target.base, target.size)));
    }
    let volume = volume(root)?;
    let name = root.file_name().ok_or_else(|| Error::invalid(root.display().to_string(), "names no folder"))?;
    let tree = volume.subtree(name).map_err(|error| failed(root, "open root", error))?;
    let mut advance = || -> io::Result<bool> {
        match read_state(&volume)?.unwrap_or(State::Done(IdMap::guest(target.size))) {
            State::Done(map) if map == target => return Ok(false),
            State::Done(map) => {
                let change = plan(map, target);
                journal::write(&volume, &tree)?;
                step()?;
                write_state(&volume, State::Moving { from: change.from, to: change.to })?;
            }
            State::Moving { from, to } => finish(&volume, &tree, Move { from, to }, step)?,
        }
        Ok(true)
    };
    while advance().map_err(|error| failed(root, "shift ids", error))? {}
    Ok(())
}

/// The next move on the way to `target`.
fn plan(current: IdMap, target: IdMap) -> Move {
    let size = current.size.max(target.size);
    let (from, to) = (IdMap { size, ..current }, IdMap { size, ..target });
    if from.base != to.base && from.overlaps(to) {
        return Move { from, to: IdMap::guest(size) };
    }
    Move { from, to: target }
}

fn finish(volume: &Tree, tree: &Tree, change: Move, step: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
    tree.walk::<io::Error>(&mut |_, node, visit| {
        if visit == Visit::Leave {
            return Ok(());
        }
        step()?;
        entry(node, change)
    })?;
    step()?;
    journal::apply(volume, tree, change)?;
    let folder = volume.node("")?;
    folder.chown(change.to.base, 0)?;
    folder.chmod(if change.to.base == 0 { 0o700 } else { 0o100 })?;
    // All of it must be on disk before the state says so.
    rustix::fs::syncfs(volume.reopen()?)?;
    step()?;
    write_state(volume, State::Done(change.to))?;
    step()?;
    journal::remove(volume)
}

fn entry(node: &Node, change: Move) -> io::Result<()> {
    let found = node.attributes();
    let (uid, gid) = (change.id(found.uid), change.id(found.gid));
    if found.kind != NodeKind::Symlink {
        for name in acl::NAMES {
            if let Some(value) = node.xattr(name)?
                && let Some(moved) = acl::moved(&value, |id| change.id(id))
            {
                node.set_xattr(name, &moved)?;
            }
        }
    }
    if (uid, gid) == (found.uid, found.gid) { Ok(()) } else { node.chown(uid, gid) }
}

fn read_state(volume: &Tree) -> io::Result<Option<State>> {
    match volume.open_file(STATE) {
        Ok(file) => Ok(Some(serde_json::from_reader(file)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write_state(volume: &Tree, state: State) -> io::Result<()> {
    volume.replace(STATE, &serde_json::to_vec(&state)?, 0o600)?;
    volume.sync()
}

fn failed(root: &Path, step: &str, error: io::Error) -> Error {
    Error::io(root.display().to_string(), step, error)
}

#[cfg(test)]
mod tests;
