//! Profiles, projects, networks and storage pools: lists, one object to be written back, create, replace, delete.

use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use basalt_api::dto::network::{self, Lease, Network};
use basalt_api::dto::pool::{self, Pool, Resources};
use basalt_api::dto::profile::{self, Profile};
use basalt_api::dto::project::{self, Project};

use crate::client::{Client, Tagged};
use crate::error::Result;
use crate::path::Path;

/// A kind of object that is a named configuration under one collection.
pub trait Object: DeserializeOwned {
    /// Its place under `/1.0`.
    const COLLECTION: &'static str;
    /// What `POST` takes.
    type Create: Serialize + Sync;
    /// What `PUT` takes.
    type Replace: Serialize + Sync;
}

impl Object for Profile {
    const COLLECTION: &'static str = "profiles";
    type Create = Profile;
    type Replace = profile::Put;
}

impl Object for Project {
    const COLLECTION: &'static str = "projects";
    type Create = Project;
    type Replace = network::Put;
}

impl Object for Network {
    const COLLECTION: &'static str = "networks";
    type Create = network::Post;
    type Replace = network::Put;
}

impl Object for Pool {
    const COLLECTION: &'static str = "storage-pools";
    type Create = pool::Post;
    type Replace = network::Put;
}

fn path<T: Object>(name: &str) -> Path {
    Path::of(T::COLLECTION).segment(name)
}

impl Client {
    /// All objects of a kind: `client.list::<Profile>()`.
    pub async fn list<T: Object>(&self) -> Result<Vec<T>> {
        self.get(Path::of(T::COLLECTION).with("recursion", "1")).await
    }

    /// One object, to be written back.
    pub async fn object<T: Object>(&self, name: &str) -> Result<Tagged<T>> {
        self.get_tagged(path::<T>(name)).await
    }

    /// Makes an object.
    pub async fn create<T: Object>(&self, wanted: &T::Create) -> Result<()> {
        self.apply(Method::POST, Path::of(T::COLLECTION), Some(wanted)).await
    }

    /// Replaces what can be changed of an object, provided it still has `etag` if that is given.
    pub async fn replace_object<T: Object>(&self, name: &str, wanted: &T::Replace, etag: Option<&str>) -> Result<()> {
        self.replace(path::<T>(name), wanted, etag).await
    }

    /// Renames an object.
    pub async fn rename<T: Object>(&self, name: &str, to: &str) -> Result<()> {
        let body = network::Rename { name: to.to_owned() };
        self.apply(Method::POST, path::<T>(name), Some(&body)).await
    }

    /// Deletes an object.
    pub async fn delete<T: Object>(&self, name: &str) -> Result<()> {
        self.apply(Method::DELETE, path::<T>(name), None::<&()>).await
    }

    /// Limits and use of a project.
    pub async fn project_state(&self, name: &str) -> Result<project::State> {
        self.get(path::<Project>(name).segment("state")).await
    }

    /// Leases of a network.
    pub async fn leases(&self, network: &str) -> Result<Vec<Lease>> {
        self.get(path::<Network>(network).segment("leases")).await
    }

    /// Space of a pool, on the client's target if it has one.
    pub async fn pool_resources(&self, pool: &str) -> Result<Resources> {
        self.get(path::<Pool>(pool).segment("resources")).await
    }
}
