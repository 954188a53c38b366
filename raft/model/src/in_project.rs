//! Names that mean something within a project only.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::InvalidName;
use crate::{AclName, AliasName, Fingerprint, NetworkName, ProjectName, SetName};

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
/// What an image is found by.
pub type ImageKey = InProject<Fingerprint>;

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

/// What an image alias is found by. Aliases may hold a `/`, so the project follows here, as it does in URLs: no alias holds
/// a `?`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AliasKey {
    pub project: ProjectName,
    pub name: AliasName,
}

impl AliasKey {
    /// An alias of the default project.
    pub fn in_default(name: AliasName) -> Self {
        AliasKey { project: ProjectName::default_project(), name }
    }
}

const OF_PROJECT: &str = "?project=";

impl fmt::Display for AliasKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.project.is_default() {
            true => self.name.fmt(f),
            false => write!(f, "{}{OF_PROJECT}{}", self.name, self.project),
        }
    }
}

impl From<AliasKey> for String {
    fn from(key: AliasKey) -> String {
        key.to_string()
    }
}

impl TryFrom<String> for AliasKey {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        match text.split_once(OF_PROJECT) {
            None => AliasName::try_from(text).map(AliasKey::in_default),
            Some((name, project)) => Ok(AliasKey { project: ProjectName::new(project)?, name: AliasName::new(name)? }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_with_slashes_are_of_the_default_project() {
        let (path, blue) = (AliasName::new("debian/12").unwrap(), ProjectName::new("blue").unwrap());
        let shared = AliasKey::in_default(path.clone());
        let own = AliasKey { project: blue, name: path };
        for (key, text) in [(&shared, r#""debian/12""#), (&own, r#""debian/12?project=blue""#)] {
            assert_eq!(serde_json::to_string(key).unwrap(), text);
            assert_eq!(&serde_json::from_str::<AliasKey>(text).unwrap(), key);
        }
        for bad in ["", "?project=blue", "debian?project=", "debian?project=a/b"] {
            assert!(AliasKey::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

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
