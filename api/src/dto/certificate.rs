//! Trusted certificates and the tokens that make one.

use serde::{Deserialize, Serialize};

/// A trusted certificate.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Certificate {
    pub fingerprint: String,
    /// PEM.
    pub certificate: String,
    pub name: String,
    /// `client` or `metrics`.
    #[serde(rename = "type")]
    pub kind: String,
    pub restricted: bool,
    pub projects: Vec<String>,
    pub description: String,
}

/// `POST /1.0/certificates`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "CertificatePost"))]
#[serde(default)]
pub struct Post {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// Base64 of the DER form; without it the certificate of the connection is meant.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub certificate: String,
    /// A trust token, as older clients call it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trust_token: String,
    /// Ask for a token instead of adding a certificate.
    pub token: bool,
    pub restricted: bool,
    pub projects: Vec<String>,
    pub description: String,
}

/// `PUT` of a certificate; with `PATCH` what is missing stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "CertificatePut"))]
#[serde(default)]
pub struct Put {
    pub name: Option<String>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub restricted: Option<bool>,
    pub projects: Option<Vec<String>>,
    pub certificate: Option<String>,
    pub description: Option<String>,
}

/// A trust token, as base64 of its JSON is handed around.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AddToken {
    pub client_name: String,
    pub fingerprint: String,
    pub addresses: Vec<String>,
    pub secret: String,
    pub expires_at: String,
}
