//! Access control lists of networks.

use serde::{Deserialize, Serialize};

use super::Map;

/// A rule; what is missing stands for anything.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkAclRule"))]
#[serde(default)]
pub struct Rule {
    /// `allow`, `allow-stateless`, `drop` or `reject`.
    pub action: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination: String,
    /// `icmp4`, `icmp6`, `tcp` or `udp`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source_port: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination_port: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub icmp_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub icmp_code: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// `enabled`, `disabled` or `logged`.
    pub state: String,
}

/// One list, and what `POST` takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkAcl"))]
#[serde(default)]
pub struct Acl {
    pub name: String,
    pub description: String,
    pub config: Map,
    pub ingress: Vec<Rule>,
    pub egress: Vec<Rule>,
    pub used_by: Vec<String>,
    pub project: String,
}

/// A line of a list's log: a packet that a logged rule was about.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogEntry {
    /// RFC 3339, UTC.
    pub time: String,
    pub proto: String,
    pub src: String,
    pub dst: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub src_port: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dst_port: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub icmp_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub icmp_code: String,
    pub action: String,
}

/// `PUT`; with `PATCH` what is missing stays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NetworkAclPut"))]
#[serde(default)]
pub struct Put {
    pub description: Option<String>,
    pub config: Option<Map>,
    pub ingress: Option<Vec<Rule>>,
    pub egress: Option<Vec<Rule>>,
}
