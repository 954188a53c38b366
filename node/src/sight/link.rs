//! Links to OVN's databases that live while they are used.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use basalt_model::ClusterState;
use basalt_ovn::Error;
use basalt_ovn::northbound::Northbound;
use basalt_ovn::session::Remote;
use basalt_ovn::southbound::Southbound;
use basalt_runtime::{Shutdown, chain};

use crate::controller::network::Connection;

/// How long a link is kept after its last use.
const IDLE: Duration = Duration::from_secs(60);

/// The links of this member.
#[derive(Debug, Default)]
pub struct Links {
    southbound: Mutex<Option<Held<(String, Connection), Southbound>>>,
    northbound: Mutex<Option<Held<Connection, Arc<dyn Northbound>>>>,
}

/// A link, what it was made from, and when it was used last.
#[derive(Debug)]
struct Held<K, L> {
    key: K,
    link: L,
    used: Instant,
}

impl Links {
    /// The southbound database at `remotes`; certificates are those of the northbound one.
    ///
    /// # Errors
    /// The remotes or the certificates are not to be used.
    pub(super) fn southbound(&self, state: &ClusterState, remotes: &str) -> Result<Southbound, Error> {
        let connection = Connection::of(state).unwrap_or_default();
        let key = (remotes.to_owned(), connection);
        get(&self.southbound, key, |(remotes, connection)| {
            Southbound::connect(Remote::list(remotes)?, connection.tls()?)
        })
    }

    /// The northbound database of the cluster.
    ///
    /// # Errors
    /// None is configured, or what is is not to be used.
    pub(super) fn northbound(&self, state: &ClusterState) -> Result<Arc<dyn Northbound>, String> {
        let connection = Connection::of(state).ok_or("network.ovn.northbound_connection is not set")?;
        get(&self.northbound, connection, Connection::open).map_err(|e| chain(&e))
    }

    /// Ends links that nobody uses any more, until shutdown.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(IDLE / 2) => {}
            }
            release(&self.southbound);
            release(&self.northbound);
        }
    }
}

fn get<K: PartialEq, L: Clone>(
    held: &Mutex<Option<Held<K, L>>>,
    key: K,
    open: impl FnOnce(&K) -> Result<L, Error>,
) -> Result<L, Error> {
    // A link is whole between any two statements.
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    let link = match held.take() {
        Some(found) if found.key == key => found.link,
        Some(_) | None => open(&key)?,
    };
    Ok(held.insert(Held { key, link, used: Instant::now() }).link.clone())
}

fn release<K, L>(held: &Mutex<Option<Held<K, L>>>) {
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    if held.as_ref().is_some_and(|found| found.used.elapsed() > IDLE) {
        *held = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_made_once_for_each_key() {
        let held = Mutex::new(None);
        let mut opened = 0;
        for key in ["a", "a", "b", "b"] {
            let link = get(&held, key, |key| {
                opened += 1;
                Ok((*key).to_owned())
            });
            assert_eq!(link.unwrap(), key);
        }
        assert_eq!(opened, 2);
        release(&held);
        assert!(held.lock().unwrap().is_some(), "it was used just now");
    }
}
