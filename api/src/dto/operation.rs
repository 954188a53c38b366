//! Operations: calls that go on after their answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an operation waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "OperationClass"))]
#[serde(rename_all = "lowercase")]
pub enum Class {
    #[default]
    Task,
    Websocket,
    Token,
}

/// Status codes of operations and instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Created,
    Started,
    Stopped,
    Running,
    Cancelling,
    Pending,
    Starting,
    Stopping,
    Aborting,
    Freezing,
    Frozen,
    Thawed,
    Error,
    Ready,
    Success,
    Failure,
    Cancelled,
}

impl Status {
    /// Number and word of each.
    const TABLE: [(Status, u16, &'static str); 17] = [
        (Status::Created, 100, "Operation created"),
        (Status::Started, 101, "Started"),
        (Status::Stopped, 102, "Stopped"),
        (Status::Running, 103, "Running"),
        (Status::Cancelling, 104, "Cancelling"),
        (Status::Pending, 105, "Pending"),
        (Status::Starting, 106, "Starting"),
        (Status::Stopping, 107, "Stopping"),
        (Status::Aborting, 108, "Aborting"),
        (Status::Freezing, 109, "Freezing"),
        (Status::Frozen, 110, "Frozen"),
        (Status::Thawed, 111, "Thawed"),
        (Status::Error, 112, "Error"),
        (Status::Ready, 113, "Ready"),
        (Status::Success, 200, "Success"),
        (Status::Failure, 400, "Failure"),
        (Status::Cancelled, 401, "Cancelled"),
    ];

    fn row(self) -> (u16, &'static str) {
        let row = Self::TABLE.iter().find(|(status, ..)| *status == self);
        row.map_or((112, "Error"), |(_, code, word)| (*code, *word))
    }

    /// The number on the wire.
    pub fn code(self) -> u16 {
        self.row().0
    }

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        self.row().1
    }

    /// The status with this number.
    pub fn from_code(code: u16) -> Option<Status> {
        Self::TABLE.iter().find(|(_, c, _)| *c == code).map(|(status, ..)| *status)
    }

    /// Whether an operation with this status is over.
    pub fn is_final(self) -> bool {
        self.code() >= 200
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Operation {
    pub id: String,
    pub class: Class,
    pub description: String,
    pub created_at: String,
    pub updated_at: String,
    pub status: String,
    pub status_code: u16,
    /// Kind of object to URLs.
    pub resources: Option<BTreeMap<String, Vec<String>>>,
    pub metadata: Option<serde_json::Map<String, Value>>,
    pub may_cancel: bool,
    pub err: String,
    /// The member that runs it, or `none`.
    pub location: String,
}

impl Operation {
    /// Whether it is over.
    pub fn is_final(&self) -> bool {
        self.status_code >= 200
    }

    /// Whether it ended well.
    pub fn succeeded(&self) -> bool {
        self.status_code == Status::Success.code()
    }
}
