//! What an image says of itself, as an instance keeps it (`metadata.yaml`).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::Map;

/// `GET` and `PUT …/metadata` of an instance, and `metadata.yaml`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ImageMetadata {
    pub architecture: String,
    /// Seconds since 1970.
    pub creation_date: i64,
    /// Seconds since 1970; 0 for never.
    pub expiry_date: i64,
    #[serde(deserialize_with = "texts")]
    #[cfg_attr(test, schemars(with = "Map"))]
    pub properties: Map,
    /// Templates by the path of the file in the guest that is made from each.
    #[serde(deserialize_with = "or_default")]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, ImageTemplate>"))]
    pub templates: BTreeMap<String, ImageTemplate>,
}

/// How a file in the guest is made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ImageTemplate {
    /// `create`, `copy`, `start`.
    #[serde(deserialize_with = "or_default")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub when: Vec<String>,
    /// Only if there is no such file.
    pub create_only: bool,
    /// Name of the template.
    pub template: String,
    /// What the template may use beside the instance.
    #[serde(deserialize_with = "texts")]
    #[cfg_attr(test, schemars(with = "Map"))]
    pub properties: Map,
}

/// `key:` without a value is nothing, which is fine.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// People write `release: 12` and mean the text.
fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Map, D::Error> {
    let given: BTreeMap<String, Value> = or_default(from)?;
    let text = |value: Value| match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(String::new()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(value) => Ok(value.to_string()),
        Value::Array(_) | Value::Object(_) => Err(serde::de::Error::custom("a property must be a text")),
    };
    given.into_iter().map(|(key, value)| Ok((key, text(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_images_write_is_read() {
        let text = r#"{"architecture": "x86_64", "properties": {"release": 12, "os": null}, "templates":
            {"/etc/hostname": {"when": ["create", "copy"], "template": "hostname.tpl", "properties": null}}}"#;
        let read: ImageMetadata = serde_json::from_str(text).unwrap();
        assert_eq!(read.properties["release"], "12");
        assert_eq!(read.templates["/etc/hostname"].when, ["create", "copy"]);
        assert_eq!(serde_json::from_str::<ImageMetadata>(r#"{"templates": null}"#).unwrap(), ImageMetadata::default());
        assert!(serde_json::from_str::<ImageMetadata>(r#"{"properties": {"a": []}}"#).is_err());
    }
}
