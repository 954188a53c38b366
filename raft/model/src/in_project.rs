//! Names that mean something within a project only.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::InvalidName;
use crate::{AclName, NetworkName, ProjectName, SetName};

/// A name, and the project whose it is. As text it is the bare name in the default project and `project/name` in
/// others: no name holds a `/`, so the two cannot be mistaken, and what was written when all such names were of the
/// default project means what it meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(
    try_from = "String",
    into = "String",
    bound(serialize = "N: Clone + fmt::Display", deserialize = "N: TryFrom<String, Error = InvalidName>")
)]
pub struct InProject<N> {
    pub project: ProjectName,
    pub name: N,
}

/// What a network is found by.
pub type NetworkKey = InProject<NetworkName>;
/// What an access control list is found by.
pub type AclKey = InProject<AclName>;
/// What an address set is found by.
pub type SetKey = InProject<SetName>;

impl<N> InProject<N> {
    /// A name of the default project.
    pub fn in_default(name: N) -> Self {
        InProject { project: ProjectName::default_project(), name }
    }

    /// Another name of the same project.
    pub fn beside<M>(&self, name: M) -> InProject<M> {
        InProject { project: self.project.clone(), name }
    }
}

impl<N: fmt::Display> fmt::Display for InProject<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.project.is_default() {
            true => self.name.fmt(f),
            false => write!(f, "{}/{}", self.project, self.name),
        }
    }
}

impl<N: fmt::Display> From<InProject<N>> for String {
    fn from(key: InProject<N>) -> String {
        key.to_string()
    }
}

impl<N: TryFrom<String, Error = InvalidName>> TryFrom<String> for InProject<N> {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        match text.split_once('/') {
            None => N::try_from(text).map(InProject::in_default),
            Some((project, name)) => {
                Ok(InProject { project: ProjectName::new(project)?, name: N::try_from(name.to_owned())? })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_the_bare_name_in_the_default_project() {
        let (lan, blue) = (NetworkName::new("lan0").unwrap(), ProjectName::new("blue").unwrap());
        let shared = NetworkKey::in_default(lan.clone());
        let own = NetworkKey { project: blue, name: lan };
        for (key, text) in [(&shared, r#""lan0""#), (&own, r#""blue/lan0""#)] {
            assert_eq!(serde_json::to_string(key).unwrap(), text);
            assert_eq!(&serde_json::from_str::<NetworkKey>(text).unwrap(), key);
        }
        assert_ne!(shared, own);
        for bad in ["", "/lan0", "blue/", "blue/lan/0"] {
            assert!(NetworkKey::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
