//! Where the northbound database is, as the cluster's configuration says.

use std::fmt;
use std::sync::Arc;

use basalt_model::ClusterState;
use basalt_ovn::Error;
use basalt_ovn::northbound::{LiveNorthbound, Northbound};
use basalt_ovn::session::{Remote, Tls};

/// The keys of the cluster's configuration that say how to connect.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Connection {
    remotes: String,
    ca: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key is nobody's to read.
        f.debug_struct("Connection").field("remotes", &self.remotes).finish_non_exhaustive()
    }
}

impl Connection {
    /// `None` when no database is configured.
    pub fn of(state: &ClusterState) -> Option<Self> {
        let key = |name: &str| state.config.get(name).filter(|text| !text.is_empty()).cloned();
        Some(Connection {
            remotes: key("network.ovn.northbound_connection")?,
            ca: key("network.ovn.ca_cert"),
            certificate: key("network.ovn.client_cert"),
            key: key("network.ovn.client_key"),
        })
    }

    /// What both databases want to see of us; `None` when none is configured.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn tls(&self) -> Result<Option<Tls>, Error> {
        match (&self.ca, &self.certificate, &self.key) {
            (Some(ca), Some(certificate), Some(key)) => Tls::new(ca, certificate, key).map(Some),
            (None, _, _) | (_, None, _) | (_, _, None) => Ok(None),
        }
    }

    /// Begins to connect.
    ///
    /// # Errors
    /// The remotes or the certificates are not to be used.
    pub fn open(&self) -> Result<Arc<dyn Northbound>, Error> {
        Ok(Arc::new(LiveNorthbound::connect(Remote::list(&self.remotes)?, self.tls()?)?))
    }
}

type Opener = dyn Fn(&Connection) -> Result<Arc<dyn Northbound>, Error> + Send + Sync;

/// Opens the database of a connection.
#[derive(Clone)]
pub struct Connect(Arc<Opener>);

impl Connect {
    /// The real one.
    pub fn live() -> Self {
        Connect(Arc::new(Connection::open))
    }

    /// This one, whatever is configured.
    pub fn given(northbound: Arc<dyn Northbound>) -> Self {
        Connect(Arc::new(move |_| Ok(northbound.clone())))
    }

    pub(super) fn open(&self, connection: &Connection) -> Result<Arc<dyn Northbound>, Error> {
        (self.0)(connection)
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connect")
    }
}
