//! Profiles: configuration and devices that instances share.

use serde::{Deserialize, Serialize};

use crate::instance::{Config, Devices};
use crate::{Generation, ProfileName, ProjectName};

/// One profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    pub project: ProjectName,
    pub name: ProfileName,
    pub description: String,
    pub config: Config,
    pub devices: Devices,
    pub generation: Generation,
}
