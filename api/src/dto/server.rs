//! `GET /1.0`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Map;

/// The server, as it shows itself to a caller.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Server {
    pub config: Map,
    pub api_extensions: Vec<String>,
    pub api_status: String,
    pub api_version: String,
    /// `trusted` or `untrusted`.
    pub auth: String,
    pub public: bool,
    pub auth_methods: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_user_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_user_method: String,
    /// Only for trusted callers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
}

/// Facts of the server and its host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Environment {
    pub addresses: Vec<String>,
    pub architectures: Vec<String>,
    pub certificate: String,
    pub certificate_fingerprint: String,
    pub driver: String,
    pub driver_version: String,
    pub firewall: String,
    pub kernel: String,
    pub kernel_architecture: String,
    pub kernel_features: BTreeMap<String, String>,
    pub kernel_version: String,
    pub lxc_features: BTreeMap<String, String>,
    pub os_name: String,
    pub os_version: String,
    pub project: String,
    pub server: String,
    pub server_clustered: bool,
    pub server_event_mode: String,
    pub server_name: String,
    pub server_pid: i64,
    pub server_version: String,
    pub storage: String,
    pub storage_version: String,
    pub storage_supported_drivers: Vec<StorageDriver>,
    /// What Basalt itself is called and which version it is, whatever a dialect says above.
    pub basalt_version: String,
    /// What the host lacks, each with what to do about it.
    pub basalt_lacks: Vec<String>,
}

/// A storage driver; the wire has capitals here.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct StorageDriver {
    pub name: String,
    pub version: String,
    pub remote: bool,
}

/// `PUT` and `PATCH` of `/1.0`. Values may be of any scalar type on the wire.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ServerPut"))]
#[serde(default)]
pub struct Put {
    pub config: BTreeMap<String, serde_json::Value>,
}
