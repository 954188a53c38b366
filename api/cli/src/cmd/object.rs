//! What projects, networks and pools have in common: a description and keys that are read and changed alike.

use anyhow::{Context as _, Result};
use basalt_client::{Client, Object};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use basalt_api::dto::Map;
use basalt_api::dto::network::{Network, Put};
use basalt_api::dto::pool::Pool;
use basalt_api::dto::project::Project;

use crate::output;

/// An object with a description and keys.
pub(crate) trait Keyed: Object<Replace = Put> + Serialize {
    fn into_parts(self) -> (String, Map);
}

impl Keyed for Project {
    fn into_parts(self) -> (String, Map) {
        (self.description, self.config)
    }
}

impl Keyed for Network {
    fn into_parts(self) -> (String, Map) {
        (self.description, self.config)
    }
}

impl Keyed for Pool {
    fn into_parts(self) -> (String, Map) {
        (self.description, self.config)
    }
}

/// What the user edits.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Editable {
    #[serde(default)]
    description: String,
    #[serde(default)]
    config: Map,
    // What `show` prints besides is taken and not looked at: its output can be changed and given back.
    #[serde(default, skip_serializing, rename = "name")]
    _name: IgnoredAny,
    #[serde(default, skip_serializing, rename = "type")]
    _kind: IgnoredAny,
    #[serde(default, skip_serializing, rename = "driver")]
    _driver: IgnoredAny,
    #[serde(default, skip_serializing, rename = "managed")]
    _managed: IgnoredAny,
    #[serde(default, skip_serializing, rename = "status")]
    _status: IgnoredAny,
    #[serde(default, skip_serializing, rename = "locations")]
    _locations: IgnoredAny,
    #[serde(default, skip_serializing, rename = "used_by")]
    _used_by: IgnoredAny,
    #[serde(default, skip_serializing, rename = "project")]
    _project: IgnoredAny,
}

/// Prints an object as YAML.
pub(crate) async fn show<T: Keyed>(client: &Client, name: &str) -> Result<()> {
    output::print(&output::yaml(&client.object::<T>(name).await?.value)?)
}

/// Prints the value of a key.
pub(crate) async fn get<T: Keyed>(client: &Client, name: &str, key: &str) -> Result<()> {
    let (_, config) = client.object::<T>(name).await?.value.into_parts();
    output::line(config.get(key).map_or("", String::as_str))
}

/// Sets keys.
pub(crate) async fn set<T: Keyed>(client: &Client, name: &str, pairs: Map) -> Result<()> {
    change::<T>(client, name, |config| {
        config.extend(pairs);
        Ok(())
    })
    .await
}

/// Removes a key.
pub(crate) async fn unset<T: Keyed>(client: &Client, name: &str, key: &str) -> Result<()> {
    change::<T>(client, name, |config| config.remove(key).map(drop).with_context(|| format!("{key} is not set"))).await
}

async fn change<T: Keyed>(client: &Client, name: &str, change: impl FnOnce(&mut Map) -> Result<()>) -> Result<()> {
    let now = client.object::<T>(name).await?;
    let (description, mut config) = now.value.into_parts();
    change(&mut config)?;
    let put = Put { description: Some(description), config: Some(config) };
    Ok(client.replace_object::<T>(name, &put, now.etag.as_deref()).await?)
}

/// Lets the user edit description and keys.
pub(crate) async fn edit<T: Keyed>(client: &Client, name: &str, editor: Option<&str>) -> Result<()> {
    let now = client.object::<T>(name).await?;
    let (description, config) = now.value.into_parts();
    let wanted = crate::edit::edit(&Editable { description, config, ..Editable::default() }, editor)?;
    let put = Put { description: Some(wanted.description), config: Some(wanted.config) };
    Ok(client.replace_object::<T>(name, &put, now.etag.as_deref()).await?)
}
