//! Projects: name spaces for instances and profiles.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Generation, ProjectName, Timestamp};

/// One project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    pub name: ProjectName,
    pub description: String,
    pub config: BTreeMap<String, String>,
    pub created_at: Timestamp,
    pub generation: Generation,
}
