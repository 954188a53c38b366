//! Snapshots of instances.

use http::Method;

use basalt_api::dto::instance::{Put, Rename, Snapshot, SnapshotPost, SnapshotPut};
use basalt_api::dto::operation::Operation;

use crate::client::{Client, Tagged};
use crate::error::Result;
use crate::path::Path;

fn path(instance: &str) -> Path {
    Path::of("instances").segment(instance).segment("snapshots")
}

impl Client {
    /// Snapshots of an instance, oldest first.
    pub async fn snapshots(&self, instance: &str) -> Result<Vec<Snapshot>> {
        self.get(path(instance).with("recursion", "1")).await
    }

    /// One snapshot, to be written back.
    pub async fn snapshot(&self, instance: &str, name: &str) -> Result<Tagged<Snapshot>> {
        self.get_tagged(path(instance).segment(name)).await
    }

    /// Takes one; without a name the server chooses it.
    pub async fn create_snapshot(&self, instance: &str, wanted: &SnapshotPost) -> Result<Operation> {
        self.start(Method::POST, path(instance), Some(wanted)).await
    }

    /// Sets when it is to end; waits.
    pub async fn replace_snapshot(
        &self,
        instance: &str,
        name: &str,
        wanted: &SnapshotPut,
        etag: Option<&str>,
    ) -> Result<()> {
        self.replace(path(instance).segment(name), wanted, etag).await
    }

    /// Renames it; waits.
    pub async fn rename_snapshot(&self, instance: &str, name: &str, to: &str) -> Result<()> {
        let wanted = Rename { name: to.to_owned(), ..Rename::default() };
        self.apply(Method::POST, path(instance).segment(name), Some(&wanted)).await
    }

    /// Deletes it.
    pub async fn delete_snapshot(&self, instance: &str, name: &str) -> Result<Operation> {
        self.start(Method::DELETE, path(instance).segment(name), None::<&()>).await
    }

    /// Takes the instance back to it, its configuration with it; one that runs is stopped for it and started again.
    pub async fn restore_snapshot(&self, instance: &str, name: &str) -> Result<Operation> {
        let wanted = Put { restore: Some(name.to_owned()), ..Put::default() };
        self.start(Method::PUT, Path::of("instances").segment(instance), Some(&wanted)).await
    }
}
