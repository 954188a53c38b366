//! Who may speak to the cluster: trusted certificates and one-time tokens.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Fingerprint, MemberName, ProjectName, Timestamp, TokenId};

/// What a trusted certificate may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateKind {
    Client,
    /// Only `/1.0/metrics`.
    Metrics,
}

/// A trusted certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub fingerprint: Fingerprint,
    pub name: String,
    pub kind: CertificateKind,
    /// PEM.
    pub certificate: String,
    /// Whether only `projects` may be seen.
    pub restricted: bool,
    pub projects: BTreeSet<ProjectName>,
    pub description: String,
}

/// What redeeming a token gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grant {
    /// Membership under this name.
    Join(MemberName),
    /// Trust for a client certificate.
    Trust { name: String, kind: CertificateKind, restricted: bool, projects: BTreeSet<ProjectName> },
}

/// A one-time token. Only a hash of its secret is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub id: TokenId,
    /// SHA-256 of the secret, in lower-case hexadecimal.
    pub secret_hash: Fingerprint,
    pub grant: Grant,
    pub created_at: Timestamp,
    /// `Timestamp::NEVER` for no expiry.
    pub expires_at: Timestamp,
}

impl Token {
    /// Whether the token may no longer be redeemed at `now`.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires_at != Timestamp::NEVER && now >= self.expires_at
    }
}
