//! How a request can end other than well. Callers branch on it: what was not sent may be sent again, what is unknown must be
//! looked at first.

use std::fmt;

/// Why there is no answer, or not the hoped-for one.
#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// A remote, certificate or option is wrong.
    #[error("{what}: {mistake}")]
    Invalid {
        /// Which.
        what: String,
        /// Why.
        mistake: String,
    },
    /// The database never saw the request.
    #[error("database {database}: the request was not sent: {why}")]
    NotSent {
        /// Which.
        database: String,
        /// What kept it.
        why: String,
    },
    /// The request may have been carried out, or be so yet.
    #[error("database {database}: the request was sent, what became of it is unknown: {why}")]
    Unknown {
        /// Which.
        database: String,
        /// What was lost.
        why: String,
    },
    /// The database said no; nothing of the transaction happened.
    #[error("database {database} refused {refusal}")]
    Refused {
        /// Which.
        database: String,
        /// What it said.
        refusal: Box<Refusal>,
    },
}

/// What the database said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusal {
    /// The operation at fault, counted from 0; none when it is the transaction as a whole.
    pub operation: Option<usize>,
    /// That operation, for people: `insert Logical_Switch`.
    pub about: String,
    /// The kind, as RFC 7047 has it: `constraint violation`, `timed out`, ...
    pub error: String,
    /// The rest of what was said.
    pub details: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.operation, self.about.is_empty()) {
            (Some(number), _) => write!(f, "operation {number} ({})", self.about)?,
            (None, false) => f.write_str(&self.about)?,
            (None, true) => f.write_str("the request")?,
        }
        write!(f, ": {}", self.error)?;
        match self.details.is_empty() {
            true => Ok(()),
            false => write!(f, ": {}", self.details),
        }
    }
}

impl Error {
    pub(crate) fn invalid(what: impl Into<String>, mistake: impl Into<String>) -> Self {
        Error::Invalid { what: what.into(), mistake: mistake.into() }
    }

    /// What the database said, if it said no.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Error::Refused { refusal, .. } => Some(refusal),
            Error::Invalid { .. } | Error::NotSent { .. } | Error::Unknown { .. } => None,
        }
    }

    /// Whether a `wait` of the transaction did not hold: somebody else was there first.
    pub fn is_conflict(&self) -> bool {
        self.refusal().is_some_and(|r| r.error == "timed out")
    }
}
