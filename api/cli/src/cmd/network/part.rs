//! What access control lists, address sets, forwards, load balancers, peerings and zones have in common: they are
//! read, changed and written back whole.

use anyhow::{Context as _, Result, bail};
use basalt_client::{Client, Path};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use basalt_api::dto::Map;
use basalt_api::dto::acl::Acl;
use basalt_api::dto::address_set::AddressSet;
use basalt_api::dto::balance::{Balancer, Forward};
use basalt_api::dto::peer::Peer;
use basalt_api::dto::zone::{Record, Zone};

use crate::output;

/// An object with keys that goes back to where it came from.
pub(super) trait Part: Serialize + DeserializeOwned {
    fn config(&mut self) -> &mut Map;
}

macro_rules! part {
    ($($kind:ident),+) => {
        $(impl Part for $kind {
            fn config(&mut self) -> &mut Map {
                &mut self.config
            }
        })+
    };
}

part!(Acl, AddressSet, Balancer, Forward, Peer, Record, Zone);

/// Something under a network.
pub(super) fn of(network: &str, collection: &str) -> Path {
    Path::of("networks").segment(network).segment(collection)
}

/// Prints it as YAML.
pub(super) async fn show<T: Part>(client: &Client, path: Path) -> Result<()> {
    output::print(&output::yaml(&client.get::<T>(path).await?)?)
}

/// Prints the value of a key.
pub(super) async fn get<T: Part>(client: &Client, path: Path, key: &str) -> Result<()> {
    let mut now = client.get::<T>(path).await?;
    output::line(now.config().get(key).map_or("", String::as_str))
}

/// Sets keys.
pub(super) async fn set<T: Part>(client: &Client, path: Path, pairs: Map) -> Result<()> {
    change::<T>(client, path, |now| {
        now.config().extend(pairs);
        Ok(())
    })
    .await
}

/// Removes a key.
pub(super) async fn unset<T: Part>(client: &Client, path: Path, key: &str) -> Result<()> {
    change::<T>(client, path, |now| now.config().remove(key).map(drop).with_context(|| format!("{key} is not set")))
        .await
}

/// Changes it, unless somebody else has meanwhile.
pub(super) async fn change<T: Part>(
    client: &Client,
    path: Path,
    change: impl FnOnce(&mut T) -> Result<()>,
) -> Result<()> {
    let mut now = client.get_tagged::<T>(path.clone()).await?;
    change(&mut now.value)?;
    Ok(client.replace(path, &now.value, now.etag.as_deref()).await?)
}

/// Lets the user edit it as YAML.
pub(super) async fn edit<T: Part>(client: &Client, path: Path, editor: Option<&str>) -> Result<()> {
    let now = client.get_tagged::<T>(path.clone()).await?;
    let shown = serde_json::to_value(&now.value)?;
    let edited: Value = crate::edit::edit(&shown, editor)?;
    let known = |key: &str| shown.get(key).is_some();
    let Value::Object(fields) = &edited else { bail!("this is not the YAML that is expected here") };
    if let Some(unknown) = fields.keys().find(|key| !known(key)) {
        bail!("{unknown:?} is not a field of this");
    }
    let wanted: T = serde_json::from_value(edited).context("this is not the YAML that is expected here")?;
    Ok(client.replace(path, &wanted, now.etag.as_deref()).await?)
}

/// Deletes it.
pub(super) async fn delete(client: &Client, path: Path) -> Result<()> {
    Ok(client.apply(basalt_client::Method::DELETE, path, None::<&()>).await?)
}

/// Makes it.
pub(super) async fn create<T: Part + Sync>(client: &Client, collection: Path, wanted: &T) -> Result<()> {
    Ok(client.apply(basalt_client::Method::POST, collection, Some(wanted)).await?)
}
