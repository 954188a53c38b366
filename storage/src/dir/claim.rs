//! A blocking step goes on when the future that waits for it is dropped. Its last move, the one that shows, must not then
//! come after what the caller does next: it is made under a claim, which ends with the future.

use std::sync::{Arc, Mutex, PoisonError};

use crate::Error;

/// The blocking step's end.
#[derive(Debug, Clone, Default)]
pub(super) struct Claim {
    given_up: Arc<Mutex<bool>>,
}

/// The waiting future's end.
#[derive(Debug)]
pub(super) struct Held(Claim);

impl Claim {
    pub(super) fn hold(&self) -> Held {
        Held(self.clone())
    }

    /// Makes a short move, unless nobody waits for it any more.
    pub(super) fn commit<T>(&self, act: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        match *given_up {
            true => Err(Error::Busy { what: "volume".into(), why: "the step was given up".into() }),
            false => act(),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.0.given_up.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_committed_for_nobody() {
        let claim = Claim::default();
        let held = claim.hold();
        assert_eq!(claim.commit(|| Ok(1)).unwrap(), 1);
        drop(held);
        assert!(claim.commit(|| -> Result<(), Error> { panic!("committed") }).is_err());
    }
}
