//! The switch of this host (database `Open_vSwitch`): who it is, its bridges, and the ports of our instances on them.
//!
//! ```text
//! bind_port --one transaction--> Interface{iface-id} + Port + Bridge.ports --> ovs-vswitchd plugs the device in
//!                                     ^                                   '--> ovn-controller claims the logical port
//! port_up <--event-- external_ids:ovn-installed="true" -------------------------'
//! ```
//! Invariants: everything is worked out from the tables as they are and written in one transaction, so each call may be
//! repeated, and a second time writes nothing. Our ports carry a mark; a port without it is never changed or removed. A
//! device, and a logical port, is bound once: binding it elsewhere takes the old one away in the same transaction.
//!
//! On failure nothing was written, or the next call finds what was. Waiting ends at its deadline with what the switch says.

mod error;
mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info};

use crate::monitor::{Monitor, MonitorTable, Tables};
use crate::ovsdb::op::{OpResult, Operation};
use crate::ovsdb::value::{Datum, Name};
use crate::session::{Remote, Session, SessionOptions};
use crate::{Error as SessionError, monitor::Table};

pub use error::Error;
pub use plan::ports;

/// The mark of our ports, in `external_ids`, with the logical port's name.
pub const MARK: &str = "basalt_port";
const TABLES: &[(&str, &[&str])] = &[
    ("Open_vSwitch", &["bridges", "external_ids", "ovs_version", "next_cfg", "cur_cfg"]),
    ("Bridge", &["name", "datapath_type", "ports", "fail_mode"]),
    ("Port", &["name", "interfaces"]),
    ("Interface", &["name", "external_ids", "ofport", "error", "admin_state"]),
];
/// How often a change is worked out anew when somebody else was faster.
const TRIES: usize = 4;
/// How long the tables may take to be loaded.
const LOAD: Duration = Duration::from_secs(10);

/// The switch of this host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Switch {
    session: Session,
    monitor: Monitor,
}

/// What the host's row says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The chassis' name.
    pub system_id: Option<String>,
    /// `geneve`, ...; several are separated by commas.
    pub encap_type: Option<String>,
    /// The tunnels' end.
    pub encap_ip: Option<String>,
    /// Where the southbound database is.
    pub remote: Option<String>,
    /// The integration bridge; `br-int` when nothing is set.
    pub integration_bridge: String,
    /// Bridges by the name of the uplink.
    pub mappings: BTreeMap<String, String>,
    /// Of Open vSwitch.
    pub version: Option<String>,
    /// All that is set, under its own name.
    pub external_ids: BTreeMap<String, String>,
}

/// What moves a bridge's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datapath {
    /// The kernel's module.
    System,
    /// The daemon itself.
    Netdev,
}

/// A port of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundPort {
    /// The bridge it is on; none if it was taken off by somebody.
    pub bridge: Option<String>,
    /// The device.
    pub interface: String,
    /// The logical port.
    pub iface_id: String,
    /// Its number on the bridge; none until the switch has plugged it in.
    pub ofport: Option<i64>,
    /// Why it could not.
    pub error: Option<String>,
    /// Whether the device is switched off on the host.
    pub off: bool,
    /// Whether the flows of the logical port are in place.
    pub installed: bool,
}

impl Datapath {
    fn as_str(self) -> &'static str {
        match self {
            // As the schema has it, empty means this; tools write either.
            Datapath::System => "system",
            Datapath::Netdev => "netdev",
        }
    }
}

impl Switch {
    /// What a session with the switch needs.
    pub fn options() -> SessionOptions {
        let needs = TABLES.iter().map(|(t, columns)| ((*t).into(), columns.iter().map(|c| Name::from(*c)).collect()));
        SessionOptions { needs: needs.collect(), ..SessionOptions::new("Open_vSwitch") }
    }

    /// The switch behind this remote, usually `unix:/run/openvswitch/db.sock`. It is connected to in the background.
    ///
    /// # Errors
    /// None for a remote without TLS.
    pub fn connect(remote: Remote) -> Result<Self, SessionError> {
        Session::connect(vec![remote], Self::options()).map(Self::new)
    }

    /// Over a session with the switch's database.
    pub fn new(session: Session) -> Self {
        let tables = TABLES.iter().map(|(table, columns)| MonitorTable::new(table, columns)).collect();
        let monitor = session.monitor(tables);
        Switch { session, monitor }
    }

    /// A handle of its own on the switch's tables, to wait for changes of them.
    pub fn watch(&self) -> Monitor {
        self.monitor.clone()
    }

    /// Who the host is to OVN.
    ///
    /// # Errors
    /// The switch cannot be reached, or its database is empty.
    pub async fn facts(&self) -> Result<Facts, Error> {
        let tables = self.tables("read its facts").await?;
        plan::facts(&tables).ok_or(Error::Uninitialised)
    }

    /// Our ports, bound and left over.
    ///
    /// # Errors
    /// The switch cannot be reached.
    pub async fn ports(&self) -> Result<Vec<BoundPort>, Error> {
        Ok(ports(&*self.tables("list its ports").await?))
    }

    /// Sets keys of the host's `external_ids`, removes those with no value; others stay.
    ///
    /// # Errors
    /// The switch cannot be reached, or refuses.
    pub async fn set_external(&self, wanted: &BTreeMap<String, Option<String>>) -> Result<(), Error> {
        self.change("set its external ids", |tables| plan::set_external(tables, wanted)).await.map(drop)
    }

    /// Maps an uplink's name to a bridge, or to none any more; other mappings stay.
    ///
    /// # Errors
    /// The switch cannot be reached, refuses, or a name has a `:` or `,` in it.
    pub async fn set_mapping(&self, uplink: &str, bridge: Option<&str>) -> Result<(), Error> {
        for name in [Some(uplink), bridge].into_iter().flatten() {
            if name.is_empty() || name.contains([':', ',']) {
                return Err(Error::Name { name: name.to_owned() });
            }
        }
        self.change("set its mappings", |tables| plan::set_mapping(tables, uplink, bridge)).await.map(drop)
    }

    /// Makes a bridge, or gives it this datapath, and waits until the daemon has done so.
    ///
    /// # Errors
    /// The switch cannot be reached, refuses, or has not done so by the deadline.
    pub async fn ensure_bridge(&self, name: &str, datapath: Datapath, deadline: Duration) -> Result<(), Error> {
        let until = Instant::now() + deadline;
        let doing = "ensure a bridge";
        let wrote = self.change(doing, |tables| plan::ensure_bridge(tables, name, datapath)).await?;
        match wrote {
            Some(number) => self.applied(number, until.saturating_duration_since(Instant::now())).await,
            None => Ok(()),
        }
    }

    /// Removes a bridge with its ports. One that is not there is removed.
    ///
    /// # Errors
    /// The switch cannot be reached, or refuses.
    pub async fn remove_bridge(&self, name: &str) -> Result<(), Error> {
        self.change("remove a bridge", |tables| plan::remove_bridge(tables, name)).await.map(drop)
    }

    /// Puts a device on a bridge, as that logical port.
    ///
    /// # Errors
    /// The switch cannot be reached, refuses, has no such bridge, or has the device on it for somebody else.
    pub async fn bind_port(&self, bridge: &str, interface: &str, iface_id: &str) -> Result<(), Error> {
        let bound = plan::Binding { bridge, interface, iface_id };
        let wrote = self.change("bind a port", |tables| plan::bind(tables, &bound)).await?;
        if wrote.is_some() {
            info!(bridge, interface, iface_id, "port bound");
        }
        Ok(())
    }

    /// Takes a device of ours off its bridge. One that is not there is off.
    ///
    /// # Errors
    /// The switch cannot be reached, refuses, or has the device on a bridge for somebody else.
    pub async fn unbind_port(&self, interface: &str) -> Result<(), Error> {
        let wrote = self.change("unbind a port", |tables| plan::unbind(tables, interface)).await?;
        if wrote.is_some() {
            info!(interface, "port unbound");
        }
        Ok(())
    }

    /// Waits until OVN has the flows of a logical port in place on this host.
    ///
    /// # Errors
    /// The switch says that it cannot plug the device in, or nothing of the port, by the deadline; [`Error::NotUp`] tells
    /// how far it came.
    pub async fn port_up(&self, iface_id: &str, deadline: Duration) -> Result<(), Error> {
        let mut seen = None;
        let mut watch = self.watch();
        let found = watch.until(deadline, |tables| {
            let port = plan::ports_of(tables, iface_id).into_iter().next();
            let up = port.as_ref().is_some_and(|p| p.installed && p.error.is_none());
            seen = port;
            up.then_some(())
        });
        match found.await.map_err(|source| Error::Session { doing: "wait for a port", source })? {
            Some(()) => Ok(()),
            None => Err(Error::NotUp { iface_id: iface_id.to_owned(), deadline, why: plan::why_not_up(seen.as_ref()) }),
        }
    }

    async fn tables(&self, doing: &'static str) -> Result<Arc<Tables>, Error> {
        self.watch().loaded(LOAD).await.map_err(|source| Error::Session { doing, source })
    }

    /// Works a change out from the tables and writes it; anew when the tables were behind. The number of the
    /// configuration that has it, if anything was to be written.
    async fn change(
        &self,
        doing: &'static str,
        plan: impl Fn(&Tables) -> Result<Vec<Operation>, Error>,
    ) -> Result<Option<i64>, Error> {
        let mut tried = 0;
        loop {
            let tables = self.tables(doing).await?;
            let mut operations = plan(&tables)?;
            if operations.is_empty() {
                return Ok(None);
            }
            let number = operations.len() + 1;
            operations.extend(plan::bump(&tables)?);
            tried += 1;
            match self.session.transact_on(tables.epoch(), operations).await {
                Ok(results) => return Ok(Some(written(&results, number))),
                // The update that shows who was faster is in the tables before the refusal is here.
                Err(error) if tried < TRIES && (error.is_conflict() || plan::is_duplicate(&error)) => {
                    debug!(doing, %error, "somebody else was faster; worked out anew");
                }
                // The tables are of a link that is gone: there will be new ones.
                Err(error @ SessionError::NotSent { .. }) if tried < TRIES => {
                    let connected = self.session.connected(LOAD).await;
                    connected.map_err(|_| Error::Session { doing, source: error })?;
                    self.fresh(doing, tables.epoch()).await?;
                }
                Err(source) => return Err(Error::Session { doing, source }),
            }
        }
    }

    /// Waits for tables of a later link.
    async fn fresh(&self, doing: &'static str, epoch: u64) -> Result<(), Error> {
        let mut watch = self.watch();
        let found = watch.until(LOAD, |tables| (tables.epoch() > epoch).then_some(())).await;
        found.map(drop).map_err(|source| Error::Session { doing, source })
    }

    /// Waits until the daemon runs with a configuration.
    async fn applied(&self, number: i64, deadline: Duration) -> Result<(), Error> {
        let mut watch = self.watch();
        let found = watch.until(deadline, |tables| {
            let root = tables.table("Open_vSwitch").values().next()?;
            let done = root.get("cur_cfg").and_then(Datum::as_integer)?;
            (done >= number).then_some(())
        });
        match found.await.map_err(|source| Error::Session { doing: "wait for the switch", source })? {
            Some(()) => Ok(()),
            None => Err(Error::NotApplied { deadline }),
        }
    }
}

/// `next_cfg`, as read at the transaction's end.
fn written(results: &[OpResult], at: usize) -> i64 {
    let rows = results.get(at).map_or(&[][..], OpResult::rows);
    rows.first().and_then(|row| row.get("next_cfg")).and_then(Datum::as_integer).unwrap_or_default()
}

/// Rows of a table whose name is this; of a unique one, at most one.
fn named<'a>(table: &'a Table, name: &str) -> Option<(uuid::Uuid, &'a crate::ovsdb::value::Row)> {
    let is = |row: &crate::ovsdb::value::Row| row.get("name").and_then(Datum::as_str) == Some(name);
    table.iter().find(|(_, row)| is(row)).map(|(id, row)| (*id, row.as_ref()))
}
