//! Images of instances that have their home here.

use std::time::Duration;

use basalt_api::port::{ImageFacts, PortError, Publish};
use basalt_model::Fingerprint;
use basalt_model::instance::{Instance, Kind, Phase};
use basalt_storage::image::{ImageInfo, Publication};
use basalt_storage::{Point, Progress, TreeView};

use super::images::{NodeImages, error, facts};

/// How often it is told how far it is.
const TELL: Duration = Duration::from_millis(500);

impl NodeImages {
    /// Makes the image, or says that the instance was started meanwhile: then its files were not those of one moment.
    pub(super) async fn make(
        &self,
        wanted: Publish,
        say: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<ImageFacts, PortError> {
        let instance = self.instance(&wanted)?;
        match instance.spec.kind {
            Kind::Container => {}
            Kind::VirtualMachine => {
                return Err(PortError::Invalid("images of virtual machines cannot be made".into()));
            }
        }
        let running = || PortError::Conflict("Cannot export a running instance as an image".into());
        if wanted.snapshot.is_none() && !stands_still(&instance) {
            return Err(running());
        }
        let pool = self.cluster.view().root_pool(&instance.project, &instance.spec);
        let pool = pool.ok_or_else(|| PortError::Invalid("the instance has no root disk".into()))?;
        let store = self.pools.get(&pool).map_err(PortError::Unavailable)?;
        let point = wanted.snapshot.map_or(Point::Now, Point::Snapshot);
        let tree = store.snapshots().view(instance.id, point).await.map_err(error)?;
        let info = self.pack(tree, &instance, &wanted, say).await?;
        // Each wish to start has a number of its own, so none can have come and gone unseen.
        if wanted.snapshot.is_none() && self.instance(&wanted)?.run != instance.run {
            self.discard(&info.fingerprint).await?;
            return Err(running());
        }
        // What is removed while it is read looks as if it had never been there.
        if let Some(snapshot) = wanted.snapshot
            && !store.snapshots().list(instance.id).await.map_err(error)?.contains(&snapshot)
        {
            self.discard(&info.fingerprint).await?;
            return Err(PortError::Conflict("the snapshot was deleted meanwhile".into()));
        }
        self.shelf.protect(info.fingerprint.clone(), &self.cluster.view());
        Ok(facts(info))
    }

    async fn pack(
        &self,
        tree: TreeView,
        instance: &Instance,
        wanted: &Publish,
        say: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<ImageInfo, PortError> {
        let publication = Publication {
            architecture: instance.spec.architecture.clone(),
            created_at: wanted.created_at,
            expires_at: wanted.expires_at,
            properties: wanted.properties.clone(),
            compression: wanted.compression,
        };
        let progress = Progress::new();
        let mut packed = Box::pin(self.shelf.store.publish(tree, publication, &progress));
        loop {
            // The packing goes on where it was when the other arm is done.
            tokio::select! {
                done = &mut packed => return done.map_err(error),
                () = tokio::time::sleep(TELL) => say(progress.get().0),
            }
        }
    }

    /// Removes files that were made for nothing, unless some image has the same.
    async fn discard(&self, fingerprint: &Fingerprint) -> Result<(), PortError> {
        match self.cluster.view().image_with(fingerprint) {
            Some(_) => Ok(()),
            None => self.shelf.store.remove(fingerprint).await.map_err(error),
        }
    }

    fn instance(&self, wanted: &Publish) -> Result<Instance, PortError> {
        let view = self.cluster.view();
        view.instances.get(&wanted.instance).cloned().ok_or_else(|| PortError::NotFound("Instance".into()))
    }
}

fn stands_still(instance: &Instance) -> bool {
    let runs = matches!(instance.phase(), Some(Phase::Running | Phase::Frozen));
    !runs && instance.settled()
}
