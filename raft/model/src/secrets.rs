//! The keys that every member holds: the cluster's CA and the API certificate that all members serve.
//!
//! They lie in the replicated state so that any member may sign a joiner's certificate and so that a client that hops
//! between members always meets the same certificate. The state, its log and its snapshots are therefore secret: files
//! of mode 0600 in folders of mode 0700.

use std::fmt;

use serde::{Deserialize, Serialize};

/// PEM texts. `Debug` never shows a key.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Secrets {
    pub ca_certificate: String,
    pub ca_key: String,
    pub api_certificate: String,
    pub api_key: String,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}
