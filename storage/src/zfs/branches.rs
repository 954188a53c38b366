//! The datasets that belong to one volume, and what lives on for the clones of others.

use std::collections::{BTreeMap, BTreeSet};

use basalt_model::{InstanceId, SnapshotId};

use super::argv;
use super::names::{self, Dataset};
use super::parse::{self, Properties};
use super::run::is_missing;
use super::store::ZfsStore;
use crate::Error;

/// A user's snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) id: SnapshotId,
    pub(super) dataset: String,
    /// When it was taken, in transactions of the pool.
    pub(super) at: u64,
    pub(super) used: u64,
    /// Whether the volume's own dataset holds it and no snapshot after it.
    pub(super) newest: bool,
}

impl Taken {
    pub(super) fn name(&self) -> String {
        names::taken(&self.dataset, self.id)
    }
}

/// Marks a volume as being worked on in several steps. Unless told that all went well, the next call for it looks for what
/// was left behind; after a crash, opening the pool does.
pub(super) struct Unsettled<'a> {
    store: &'a ZfsStore,
    id: InstanceId,
}

impl Unsettled<'_> {
    pub(super) fn settled(self) {
        self.store.unsettled().remove(&self.id);
    }
}

impl ZfsStore {
    pub(super) fn begin(&self, id: InstanceId) -> Unsettled<'_> {
        self.unsettled().insert(id);
        Unsettled { store: self, id }
    }

    /// Finishes what an earlier call left undone, where there was one.
    pub(super) async fn heal(&self, id: InstanceId) -> Result<(), Error> {
        if !self.unsettled().contains(&id) {
            return Ok(());
        }
        let there = self.zfs.exists(&self.names.volume(id).name).await?;
        let next = self.zfs.exists(&self.names.next(id).name).await?;
        match (there, next) {
            // The old volume was put aside, and the new one has not taken its place yet.
            (false, true) => self.advance(id).await?,
            (true, true) => self.zfs.destroy("destroy half-made volume", &self.names.next(id).name).await?,
            (true | false, false) => {}
        }
        if there || next {
            self.unsettled().remove(&id);
        }
        Ok(())
    }

    /// Makes the next branch the volume.
    pub(super) async fn advance(&self, id: InstanceId) -> Result<(), Error> {
        let (next, volume) = (self.names.next(id), self.names.volume(id));
        let mount = names::text(&volume.mount);
        self.zfs.run("name mount point", argv::set(&next.name, ("mountpoint", &mount))).await?;
        // zfs-fuse may have mounted it.
        self.zfs.release(&next.name).await?;
        self.zfs.rename("put volume into place", &next.name, &volume.name).await
    }

    /// Finishes the restores of an earlier run. Only while nobody restores.
    pub(super) async fn finish_restores(&self) -> Result<(), Error> {
        for (id, number) in self.all_branches().await?.into_iter().filter_map(|name| names::read_branch(&name)) {
            match number {
                None => {
                    self.unsettled().insert(id);
                    self.heal(id).await?;
                }
                // Only space: not worth failing for.
                Some(number) => {
                    if let Err(error) = self.shrink(&self.names.branch(id, number)).await {
                        tracing::warn!(volume = %id, %error, "the volume's old content not removed");
                    }
                }
            }
        }
        Ok(())
    }

    async fn all_branches(&self) -> Result<Vec<String>, Error> {
        let folder = self.names.folder("branches");
        let all = self.zfs.get_all(&folder, &["used"]).await?;
        Ok(parse::children(&all, &folder).map(|(name, _)| name.to_owned()).collect())
    }

    /// Branches of a volume, the newest first: each may be a clone of one before it.
    pub(super) async fn branches(&self, id: InstanceId) -> Result<Vec<Dataset>, Error> {
        let all = self.all_branches().await?;
        let mut own: Vec<_> = all.iter().filter_map(|name| names::read_branch(name)).filter(|b| b.0 == id).collect();
        own.sort_by_key(|(_, number)| std::cmp::Reverse(number.unwrap_or(u64::MAX)));
        let dataset = |(_, number): (InstanceId, Option<u64>)| match number {
            Some(number) => self.names.branch(id, number),
            None => self.names.next(id),
        };
        Ok(own.into_iter().map(dataset).collect())
    }

    /// A number that no branch of the volume has, and that is higher than all.
    pub(super) async fn free_branch(&self, id: InstanceId) -> Result<u64, Error> {
        let all = self.all_branches().await?;
        let own = all.iter().filter_map(|name| names::read_branch(name)).filter(|branch| branch.0 == id);
        Ok(own.filter_map(|(_, number)| number).max().map_or(1, |number| number + 1))
    }

    /// All snapshots of a volume that users know, oldest first.
    pub(super) async fn taken(&self, id: InstanceId) -> Result<Vec<Taken>, Error> {
        const PROPERTIES: [&str; 2] = ["createtxg", "used"];
        let volume = self.names.volume(id).name;
        let mut all = self.zfs.get_all(&volume, &PROPERTIES).await?;
        let at = |found: &Properties| found.bytes("createtxg").unwrap_or(0);
        let last = all.iter().filter(|(name, _)| name.contains('@')).map(|(_, found)| at(found)).max();
        all.extend(self.zfs.get_all(&self.names.folder("branches"), &PROPERTIES).await?);
        let branch = format!("{}/{id}.", self.names.folder("branches"));
        let mut taken: Vec<_> = all
            .iter()
            .filter_map(|(name, found)| {
                let (dataset, own) = (name.split('@').next()?.to_owned(), name.starts_with(&format!("{volume}@")));
                let newest = own && Some(at(found)) == last;
                let used = found.bytes("used").unwrap_or(0);
                let taken = Taken { id: names::read_taken(name)?, dataset, at: at(found), used, newest };
                (own || name.starts_with(&branch)).then_some(taken)
            })
            .collect();
        taken.sort_by_key(|taken| (taken.at, taken.id));
        Ok(taken)
    }

    pub(super) async fn find_taken(&self, id: InstanceId, snapshot: SnapshotId) -> Result<Taken, Error> {
        let found = self.taken(id).await?.into_iter().find(|taken| taken.id == snapshot);
        found.ok_or_else(|| Error::not_found(format!("snapshot {snapshot} of volume {id} in {}", self.zfs.place)))
    }

    /// Removes the volume's dataset and its branches. What clones of other volumes need is put aside. Says whether
    /// anything was left for a sweep.
    pub(super) async fn clear(&self, id: InstanceId) -> Result<bool, Error> {
        let (volume, mut left) = (self.names.volume(id), false);
        self.zfs.unmount(&volume).await?;
        let branches = self.branches(id).await?;
        let (next, old): (Vec<_>, Vec<_>) = branches.into_iter().partition(|branch| *branch == self.names.next(id));
        for dataset in next.iter().chain([&volume]).chain(&old) {
            left |= self.discard(dataset).await?;
        }
        Ok(left)
    }

    /// Removes one dataset, or puts it aside for its clones.
    async fn discard(&self, dataset: &Dataset) -> Result<bool, Error> {
        match self.zfs.try_destroy(&dataset.name).await {
            Ok(()) => Ok(false),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) if has_clones(error.stderr()) => {
                self.zfs.rename("put volume aside", &dataset.name, &self.names.aside()).await?;
                Ok(true)
            }
            Err(error) => Err(self.zfs.failed("destroy", error)),
        }
    }

    /// Removes what only clones needed that are gone by now: images and volumes put aside, branches without snapshots,
    /// hidden snapshots. Branches without a volume go too: they are what a crash left of a copy.
    pub(super) async fn sweep(&self) -> Result<(), Error> {
        let _writing = self.origins.write().await;
        loop {
            let all = self.zfs.get_all(&self.names.root, &["origin"]).await?;
            let gone = Unneeded::of(&all, &self.names.root);
            if gone.datasets.is_empty() && gone.snapshots.is_empty() {
                return Ok(());
            }
            for snapshot in &gone.snapshots {
                self.zfs.destroy("destroy hidden snapshot", snapshot).await?;
            }
            for dataset in &gone.datasets {
                self.zfs.destroy("destroy what was put aside", dataset).await?;
            }
        }
    }
}

/// The words of `zfs destroy` for a file system, and for a snapshot.
pub(super) fn has_clones(stderr: &str) -> bool {
    stderr.contains("dependent clones") || stderr.contains("snapshot is cloned")
}

/// What nobody needs any more.
#[derive(Debug, PartialEq, Eq)]
struct Unneeded {
    datasets: Vec<String>,
    snapshots: Vec<String>,
}

impl Unneeded {
    fn of(all: &BTreeMap<String, Properties>, root: &str) -> Self {
        let origins: BTreeSet<&str> = all.values().filter_map(|found| found.get("origin")).collect();
        let cloned: BTreeSet<&str> = origins.iter().filter_map(|origin| origin.split('@').next()).collect();
        let with_snapshots: BTreeSet<&str> = all
            .keys()
            .filter(|name| names::read_taken(name).is_some())
            .filter_map(|name| name.split('@').next())
            .collect();
        // Of a restore under way, the next volume counts.
        let volume = |id: InstanceId| {
            [format!("{root}/instances/{id}"), format!("{root}/branches/{id}.next")]
                .iter()
                .any(|name| all.contains_key(name))
        };
        let (deleted, branches) = (format!("{root}/deleted"), format!("{root}/branches"));
        let aside = parse::children(all, &deleted).map(|(name, _)| format!("{deleted}/{name}"));
        let branches = parse::children(all, &branches)
            // The next volume of a restore under way is nobody's to sweep.
            .filter_map(|(name, _)| Some((format!("{branches}/{name}"), names::read_branch(name)?)))
            .filter(|(name, (id, number))| number.is_some() && !(volume(*id) && with_snapshots.contains(name.as_str())))
            .map(|(name, _)| name);
        let datasets: Vec<_> = aside.chain(branches).filter(|name| !cloned.contains(name.as_str())).collect();
        let hidden = |name: &&String| {
            let within = name.split('@').next().unwrap_or(name);
            let aside = within.starts_with(&format!("{deleted}/")) && !name.ends_with(&names::snapshot(""));
            let (cloned, going) = (origins.contains(name.as_str()), datasets.iter().any(|dataset| dataset == within));
            name.contains('@') && (names::is_kept(name) || aside) && !cloned && !going
        };
        let snapshots = all.keys().filter(hidden).cloned().collect();
        Unneeded { datasets, snapshots }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "00000000-0000-0000-0000-00000000000a";
    const B: &str = "00000000-0000-0000-0000-00000000000b";
    const C: &str = "00000000-0000-0000-0000-00000000000c";

    fn unneeded(datasets: &[(&str, &str)]) -> Vec<String> {
        let line = |(name, origin): &(&str, &str)| format!("{name}\torigin\t{origin}\t-\n");
        let text: String = datasets.iter().map(line).collect();
        let text = text.replace("SNAP", &format!("snap-{C}")).replace('A', A).replace('B', B);
        let found = Unneeded::of(&parse::properties(&text).unwrap(), "p");
        found.datasets.into_iter().chain(found.snapshots).map(|name| name.replace(A, "A").replace(C, "c")).collect()
    }

    #[test]
    fn what_has_clones_stays() {
        let all = [
            ("p/deleted/f", "-"),
            ("p/deleted/f@readonly", "-"),
            ("p/deleted/x", "p/deleted/f@readonly"),
            ("p/deleted/x@SNAP", "-"),
            ("p/deleted/x@kept-1", "-"),
            ("p/instances/B", "p/deleted/x@kept-1"),
        ];
        assert_eq!(unneeded(&all), ["p/deleted/x@snap-c"]);
        assert_eq!(unneeded(&all[..5]), ["p/deleted/x"], "and its snapshots with it; the image in the next round");
        assert_eq!(unneeded(&all[..2]), ["p/deleted/f"]);
    }

    #[test]
    fn branches_live_for_their_snapshots_and_clones() {
        let branch = [("p/instances/A", "p/branches/A.1@SNAP"), ("p/branches/A.1", "-"), ("p/branches/A.1@SNAP", "-")];
        assert!(unneeded(&branch).is_empty());
        assert!(unneeded(&[("p/instances/A", "-"), branch[1], branch[2]]).is_empty(), "a snapshot is reason enough");
        assert_eq!(unneeded(&[("p/instances/A", "-"), branch[1]]), ["p/branches/A.1"]);
        assert_eq!(unneeded(&branch[1..]), ["p/branches/A.1"], "its volume never came");
        let restoring = [branch[1], branch[2], ("p/branches/A.next", "p/branches/B.1@SNAP")];
        assert!(unneeded(&restoring).is_empty(), "its volume is about to come");
        let hidden = [("p/instances/A", "-"), ("p/instances/A@kept-1", "-"), ("p/instances/A@SNAP", "-")];
        assert_eq!(unneeded(&hidden), ["p/instances/A@kept-1"]);
        assert!(unneeded(&[hidden[0], hidden[1], ("p/views/v", "p/instances/A@kept-1")]).is_empty());
    }
}
