//! What every JSON answer is wrapped in.

use serde::{Deserialize, Serialize};

/// Which of the three forms an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Sync,
    Async,
    Error,
}

/// The envelope. All keys are always present: some clients index them without a look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope<T> {
    #[serde(rename = "type")]
    pub kind: Kind,
    #[serde(default)]
    pub status: String,
    #[serde(default)]
    pub status_code: u16,
    /// `/1.0/operations/<uuid>` of an async answer.
    #[serde(default)]
    pub operation: String,
    #[serde(default)]
    pub error_code: u16,
    #[serde(default)]
    pub error: String,
    #[serde(default = "none")]
    pub metadata: Option<T>,
}

fn none<T>() -> Option<T> {
    None
}

impl<T> Envelope<T> {
    /// A finished call.
    pub fn sync(metadata: Option<T>) -> Self {
        Envelope {
            kind: Kind::Sync,
            status: "Success".into(),
            status_code: 200,
            operation: String::new(),
            error_code: 0,
            error: String::new(),
            metadata,
        }
    }

    /// A call that goes on as an operation.
    pub fn operation(url: String, metadata: T) -> Self {
        Envelope {
            kind: Kind::Async,
            status: "Operation created".into(),
            status_code: 100,
            operation: url,
            error_code: 0,
            error: String::new(),
            metadata: Some(metadata),
        }
    }

    /// A refusal.
    pub fn error(code: u16, text: String) -> Self {
        Envelope {
            kind: Kind::Error,
            status: String::new(),
            status_code: 0,
            operation: String::new(),
            error_code: code,
            error: text,
            metadata: None,
        }
    }
}
