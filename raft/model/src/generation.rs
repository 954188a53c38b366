//! The three counters that guard facts, and the time stamps that commands carry.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this.
            pub fn next(self) -> Self {
                $name(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// Log index of the last applied change: what watchers wait on.
    Version
);
counter!(
    /// Bumps when a user edits an object's intent: compare-and-set for `If-Match`.
    Generation
);
counter!(
    /// Bumps when an instance changes home. The fencing number: stamped on datasets, runtime folders and reports.
    Epoch
);

/// Microseconds since 1970-01-01 UTC, chosen by the proposer of a command. Zero means "never".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// "Never": the API shows it as the zero time.
    pub const NEVER: Timestamp = Timestamp(0);

    /// Whole seconds since 1970.
    pub fn secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// This time and `seconds` more.
    pub fn plus_secs(self, seconds: u64) -> Timestamp {
        Timestamp(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }
}
