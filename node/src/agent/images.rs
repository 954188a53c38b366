//! Images on this host: files fetched from a member that holds them, unpacked once into each pool that needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use basalt_model::command::ImageCommand;
use basalt_model::image::Image;
use basalt_model::{Command, Fingerprint, NodeId, PoolName, ProjectName, StateView};
use basalt_storage::image::{ImageFiles, ImageStore};
use basalt_storage::{Origin, Progress, VolumeStore};

use super::Parts;

/// Brings an image's files from another member into `store`.
#[async_trait]
pub trait Fetch: Send + Sync + std::fmt::Debug {
    /// Fetches and verifies; the error names the member and the reason.
    async fn fetch(&self, image: &Image, from: NodeId, store: &ImageStore) -> Result<(), String>;
}

/// The image files of this host.
#[derive(Debug)]
pub struct ImageShelf {
    pub store: ImageStore,
    fetch: Arc<dyn Fetch>,
    /// One at a time: whoever comes second finds the work done.
    busy: tokio::sync::Mutex<()>,
    /// Uploaded or fetched, and not yet in the replicated state: not to be swept.
    pending: Mutex<BTreeMap<Fingerprint, Awaited>>,
}

/// Files whose image is still to come.
#[derive(Debug)]
struct Awaited {
    since: Instant,
    /// Projects that had an image of these files already: it is none of theirs that is awaited.
    had: BTreeSet<ProjectName>,
}

impl Awaited {
    fn is_over(&self, fingerprint: &Fingerprint, view: &StateView) -> bool {
        owners(view, fingerprint).any(|owner| !self.had.contains(owner))
    }
}

fn owners<'a>(view: &'a StateView, fingerprint: &'a Fingerprint) -> impl Iterator<Item = &'a ProjectName> {
    view.images.keys().filter(move |id| id.name == *fingerprint).map(|id| &id.project)
}

/// An image that did not get into the replicated state for so long never will: its operation has failed.
const PENDING: Duration = Duration::from_secs(900);

impl ImageShelf {
    /// Images lie in `store`; missing ones come through `fetch`.
    pub fn new(store: ImageStore, fetch: Arc<dyn Fetch>) -> Self {
        ImageShelf { store, fetch, busy: tokio::sync::Mutex::default(), pending: Mutex::default() }
    }

    /// Keeps `fingerprint` from being swept until another project has an image of it than have one in `view`.
    pub fn protect(&self, fingerprint: Fingerprint, view: &StateView) {
        let had = owners(view, &fingerprint).cloned().collect();
        self.pending().insert(fingerprint, Awaited { since: Instant::now(), had });
    }

    /// What was kept from being swept does not become an image after all: some project had it already, or may have no more.
    pub fn release(&self, fingerprint: &Fingerprint) {
        self.pending().remove(fingerprint);
    }

    /// What the replicated state knows needs no protection any more: it may go as soon as it is removed there.
    pub(super) fn known(&self, view: &StateView) {
        self.pending().retain(|fingerprint, awaited| !awaited.is_over(fingerprint, view));
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, BTreeMap<Fingerprint, Awaited>> {
        self.pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The files of an image, fetched from another holder if need be.
    pub async fn files(
        &self,
        me: NodeId,
        image: &Image,
        online: impl Fn(NodeId) -> bool,
    ) -> Result<ImageFiles, String> {
        let _one = self.busy.lock().await;
        self.files_locked(me, image, online).await
    }

    async fn files_locked(
        &self,
        me: NodeId,
        image: &Image,
        online: impl Fn(NodeId) -> bool,
    ) -> Result<ImageFiles, String> {
        let fingerprint = &image.fingerprint;
        if let Some(files) = self.store.get(fingerprint).await.map_err(|e| basalt_runtime::chain(&e))? {
            return Ok(files);
        }
        self.fetch_any(me, image, online).await?;
        let files = self.store.get(fingerprint).await.map_err(|e| basalt_runtime::chain(&e))?;
        files.ok_or_else(|| format!("image {fingerprint} vanished after it was fetched"))
    }

    async fn fetch_any(&self, me: NodeId, image: &Image, online: impl Fn(NodeId) -> bool) -> Result<(), String> {
        let mut reasons = Vec::new();
        let mut holders: Vec<NodeId> = image.holders.iter().copied().filter(|node| *node != me).collect();
        holders.sort_by_key(|node| !online(*node));
        for holder in holders {
            match self.fetch.fetch(image, holder, &self.store).await {
                Ok(()) => return Ok(()),
                Err(why) => reasons.push(why),
            }
        }
        let (image, reasons) = (&image.fingerprint, reasons.join("; "));
        Err(format!("image {image} cannot be fetched from any member that holds it: {reasons}"))
    }

    /// Gets a copy that nobody waits for: out of the way of those who wait for an image.
    pub(super) async fn copy(&self, me: NodeId, image: &Image, view: &StateView) -> Result<(), String> {
        match self.store.get(&image.fingerprint).await.map_err(|e| basalt_runtime::chain(&e))? {
            Some(_) => Ok(()),
            None => self.fetch_any(me, image, |node| view.online(node)).await,
        }
    }

    /// Makes sure that `pool` has the image unpacked; returns the origin for a volume.
    pub(super) async fn origin<'a>(
        &self,
        parts: &Parts,
        view: &StateView,
        (pool, store): (&PoolName, &dyn VolumeStore),
        fingerprint: &'a Fingerprint,
    ) -> Result<Origin<'a>, String> {
        if store.has_image(fingerprint).await.map_err(|e| basalt_runtime::chain(&e))? {
            return Ok(Origin::Image(fingerprint));
        }
        let _one = self.busy.lock().await;
        if !store.has_image(fingerprint).await.map_err(|e| basalt_runtime::chain(&e))? {
            let image = view.image_with(fingerprint).ok_or_else(|| format!("image {fingerprint} no longer exists"))?;
            let files = self.files_locked(parts.me, image, |node| view.online(node)).await?;
            tracing::info!(image = %fingerprint, %pool, "unpacking");
            store.ensure_image(fingerprint, &files, &Progress::new()).await.map_err(|e| basalt_runtime::chain(&e))?;
            if !image.holders.contains(&parts.me) {
                let command = ImageCommand::AddHolder { fingerprint: fingerprint.clone(), node: parts.me };
                // Only a hint for the next member that needs it: not worth failing for.
                if let Err(error) = parts.cluster.propose(Command::Image(command)).await {
                    tracing::debug!(%error, "the new copy of the image was not announced");
                }
            }
        }
        Ok(Origin::Image(fingerprint))
    }

    /// Removes files and unpacked copies of images that no project has any more.
    pub(super) async fn sweep(&self, parts: &Parts, view: &StateView) {
        let _one = self.busy.lock().await;
        let mut here: BTreeSet<Fingerprint> = self.store.list().await.unwrap_or_default().into_iter().collect();
        for (_, store) in parts.pools.open() {
            here.extend(store.images().await.unwrap_or_default());
        }
        {
            let mut pending = self.pending();
            pending.retain(|fingerprint, awaited| {
                !awaited.is_over(fingerprint, view) && awaited.since.elapsed() < PENDING
            });
            let known = view.fingerprints();
            here.retain(|fingerprint| !known.contains(fingerprint) && !pending.contains_key(fingerprint));
        }
        if here.is_empty() {
            return;
        }
        let Ok(fresh) = parts.cluster.linearizable().await else { return };
        let known = fresh.fingerprints();
        for fingerprint in here.into_iter().filter(|fingerprint| !known.contains(fingerprint)) {
            // It may have come while we asked.
            if self.pending().contains_key(&fingerprint) {
                continue;
            }
            for (pool, store) in parts.pools.open() {
                if let Err(error) = store.destroy_image(&fingerprint).await {
                    tracing::debug!(%pool, %error, "the unpacked image is still in use");
                }
            }
            if let Err(error) = self.store.remove(&fingerprint).await {
                tracing::warn!(image = %fingerprint, %error, "the image's files could not be removed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use basalt_model::image::Format;
    use basalt_model::instance::Kind;
    use basalt_model::{ClusterState, Timestamp, Version};

    #[derive(Debug)]
    struct Nobody;

    #[async_trait]
    impl Fetch for Nobody {
        async fn fetch(&self, _: &Image, _: NodeId, _: &ImageStore) -> Result<(), String> {
            Err("nobody has it".into())
        }
    }

    fn fingerprint() -> Fingerprint {
        Fingerprint::new("a".repeat(64)).unwrap()
    }

    /// A state in which these projects have the image.
    fn had_by(projects: &[&str]) -> StateView {
        let mut state = ClusterState::default();
        for project in projects {
            let image = Image {
                project: ProjectName::new(*project).unwrap(),
                fingerprint: fingerprint(),
                kind: Kind::Container,
                architecture: "x86_64".into(),
                format: Format::Unified,
                filename: String::new(),
                size: 1,
                public: false,
                properties: BTreeMap::new(),
                created_at: Timestamp(1),
                uploaded_at: Timestamp(1),
                expires_at: Timestamp::NEVER,
                last_used_at: Timestamp::NEVER,
                holders: [NodeId(1)].into(),
                cached: false,
                auto_update: false,
                update_source: None,
                profiles: None,
            };
            state.images.insert(image.id(), image);
        }
        StateView::new(Version(1), Arc::new(state))
    }

    #[test]
    fn files_are_kept_for_the_project_that_awaits_them() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = ImageShelf::new(ImageStore::new(dir.path()), Arc::new(Nobody));
        let waits = |before: &[&str], after: &[&str]| {
            shelf.pending().clear();
            shelf.protect(fingerprint(), &had_by(before));
            shelf.known(&had_by(after));
            !shelf.pending().is_empty()
        };
        assert!(waits(&[], &[]));
        assert!(!waits(&[], &["default"]));
        assert!(waits(&["default"], &["default"]), "another project's image is not the one");
        assert!(waits(&["default"], &[]), "nor is it when that one goes");
        assert!(!waits(&["default"], &["default", "own"]));
        assert!(waits(&["default"], &["default"]));
        shelf.release(&fingerprint());
        assert!(shelf.pending().is_empty(), "it came for nothing");
    }
}
