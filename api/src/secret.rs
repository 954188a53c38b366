//! Secrets of images, each good for one download or one upload, by whoever bears it. They live in the memory of the
//! member that made them, as operations do; the first part of a secret says which member that is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use basalt_model::{Fingerprint, ImageKey, NodeId};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::operation;
use crate::pull::Wishes;
use crate::token;

/// How long a secret is good for.
const LIFE: Duration = Duration::from_secs(3600);
/// More are not kept at a time.
const MOST: usize = 1000;
/// Digits of the part that says whose it is.
const TAG: usize = 32;

/// What a secret is good for.
#[derive(Debug, Clone)]
pub(crate) enum Purpose {
    Download(ImageKey),
    /// An image that was announced, and what is to become of it: the project too, whatever the request for it says.
    Upload(Fingerprint, Box<Wishes>),
}

/// The secrets that this member gave out, by their hashes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Secrets(Arc<Mutex<BTreeMap<Fingerprint, Held>>>);

#[derive(Debug)]
struct Held {
    purpose: Purpose,
    used: CancellationToken,
}

/// A secret that is to be used; it is forgotten with this.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) text: String,
    used: CancellationToken,
    secrets: Secrets,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.secrets.held().remove(&token::hash_secret(&self.text));
    }
}

/// The member that gave a secret out.
pub(crate) fn owner(secret: &str) -> Option<NodeId> {
    operation::owner(uuid::Uuid::try_parse(secret.get(..TAG)?).ok()?)
}

impl Secrets {
    fn held(&self) -> std::sync::MutexGuard<'_, BTreeMap<Fingerprint, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new secret of member `me`.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn make(&self, me: NodeId, purpose: Purpose) -> Result<Pending, Error> {
        let text = format!("{}{}", operation::new_id(me).simple(), token::random_secret());
        let used = CancellationToken::new();
        let mut held = self.held();
        if held.len() >= MOST {
            return Err(Error::Unavailable("too many secrets wait to be used: try again later".into()));
        }
        held.insert(token::hash_secret(&text), Held { purpose, used: used.clone() });
        Ok(Pending { text, used, secrets: self.clone() })
    }

    /// What a secret is good for.
    pub(crate) fn look(&self, secret: &str) -> Option<Purpose> {
        self.held().get(&token::hash_secret(secret)).map(|held| held.purpose.clone())
    }

    /// Uses a secret up.
    pub(crate) fn redeem(&self, secret: &str) -> Option<Purpose> {
        let held = self.held().remove(&token::hash_secret(secret))?;
        held.used.cancel();
        Some(held.purpose)
    }
}

impl Pending {
    /// Waits until it is used.
    ///
    /// # Errors
    /// It never was.
    pub(crate) async fn used(&self) -> Result<(), Error> {
        match tokio::time::timeout(LIFE, self.used.cancelled()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::Refused("the secret was not used in time".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn good_once_and_only_while_it_is_waited_for() {
        let secrets = Secrets::default();
        let image = ImageKey::in_default(token::sha256(b"x"));
        let pending = secrets.make(NodeId(3), Purpose::Download(image.clone())).unwrap();
        assert_eq!(owner(&pending.text), Some(NodeId(3)));
        assert!(matches!(secrets.look(&pending.text), Some(Purpose::Download(f)) if f == image));
        assert!(secrets.redeem(&pending.text).is_some());
        pending.used().await.unwrap();
        assert!(secrets.redeem(&pending.text).is_none() && secrets.look(&pending.text).is_none());
        let text = secrets.make(NodeId(3), Purpose::Download(image)).unwrap().text.clone();
        assert!(secrets.look(&text).is_none(), "its operation is over");
        assert_eq!(owner("short"), None);
        assert_eq!(owner(&"é".repeat(40)), None);
    }
}
