//! Who may touch an object.

use serde::{Deserialize, Serialize};

/// One who may.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "AccessEntry"))]
#[serde(default)]
pub struct Entry {
    /// Fingerprint of a certificate.
    pub identifier: String,
    /// `admin` of everything, or `operator` of some projects.
    pub role: String,
    /// `tls`.
    pub provider: String,
}
