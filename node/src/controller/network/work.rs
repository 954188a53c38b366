//! One leadership's work on the database: the connection, what it last wrote, what it found wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use basalt_model::network::NetworkKind;
use basalt_model::warning::{Cause, Kind};
use basalt_model::{ClusterState, StateView};
use basalt_ovn::Error;
use basalt_ovn::diff::Fault;
use basalt_ovn::nb::Rows;
use basalt_ovn::northbound::Northbound;
use basalt_ovn::reconcile::{Pass, Reconciler, Refused, Stopped};
use basalt_ovn::topology::Desired;
use uuid::Uuid;

use super::{Connection, Findings, Parts};

/// The least time between two transactions about the same: what changes meanwhile goes into the next one.
const GATHER: Duration = Duration::from_millis(250);
/// The most that passes may cost of one processor: a tenth. But after so long the next one comes anyway.
const SHARE: u32 = 10;
const LONGEST: Duration = Duration::from_secs(2);
/// After somebody else wrote at the same time.
const OUTRUN: Duration = Duration::from_millis(50);
/// A database that is away for less is not worth a warning.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Work {
    owner: Uuid,
    desired: Desired,
    reconciler: Reconciler,
    link: Option<Link>,
    /// Since when it is away.
    away: Option<Instant>,
    /// Whether the last pass is to be done again at once.
    again: bool,
}

#[derive(Debug)]
struct Link {
    connection: Connection,
    northbound: Arc<dyn Northbound>,
    /// The snapshot that the last pass began with.
    seen: Option<u64>,
}

impl Work {
    pub(super) fn new(owner: Uuid) -> Self {
        let (desired, reconciler) = (Desired::new(owner), Reconciler::new(owner));
        Work { owner, desired, reconciler, link: None, away: None, again: false }
    }

    /// Waits for a change of the database.
    pub(super) async fn changed(&self) {
        match &self.link {
            Some(_) if self.again => {}
            Some(link) => link.northbound.changed(link.seen).await,
            None => std::future::pending().await,
        }
    }

    /// One pass. Returns how long the next one has to wait at least.
    pub(super) async fn look(&mut self, parts: &Parts, view: &StateView, term: u64) -> Duration {
        let began = Instant::now();
        let mut found = Findings::new();
        self.again = false;
        let wrote = match self.pass(parts, view, term, &mut found).await {
            Ok(pass) => {
                self.away = None;
                count(parts, &pass);
                pass.refused.iter().for_each(|refused| refuse(view, refused, &mut found));
                pass.transactions > 0
            }
            Err(stopped) => {
                self.stopped(&stopped, &mut found);
                false
            }
        };
        parts.findings.send_if_modified(|now| {
            let other = *now != found;
            *now = found;
            other
        });
        let cost = (began.elapsed() * SHARE).min(LONGEST);
        match (self.again, wrote) {
            (true, _) => OUTRUN,
            (false, true) => GATHER.max(cost),
            (false, false) => cost,
        }
    }

    async fn pass(
        &mut self,
        parts: &Parts,
        view: &StateView,
        term: u64,
        found: &mut Findings,
    ) -> Result<Pass, Stopped> {
        let Some(connection) = Connection::of(view) else {
            self.link = None;
            if view.networks.values().any(|network| network.kind == NetworkKind::Ovn) {
                found.insert(
                    cause(),
                    "network.ovn.northbound_connection is not set, and there are networks of OVN".into(),
                );
            }
            return Ok(Pass::default());
        };
        let northbound = self.northbound(parts, connection)?;
        let _timer = parts.metrics.pass_seconds.start_timer();
        parts.metrics.passes.inc();
        let desired = self.desired(view).await?;
        self.reconciler.pass(&*northbound, desired, term).await
    }

    async fn desired(&mut self, view: &StateView) -> Result<Arc<Rows>, Stopped> {
        if let Some(rows) = self.desired.known(view.version) {
            return Ok(rows);
        }
        let mut desired = std::mem::replace(&mut self.desired, Desired::new(self.owner));
        let view = view.clone();
        let look = basalt_runtime::spawn_blocking("topology", move || {
            let rows = desired.look(&view);
            (desired, rows)
        });
        let (desired, rows) = look.await.map_err(|panicked| Stopped::Plan(panicked.to_string()))?;
        self.desired = desired;
        Ok(rows)
    }

    /// The database as it is configured now.
    fn northbound(&mut self, parts: &Parts, connection: Connection) -> Result<Arc<dyn Northbound>, Error> {
        let link = match self.link.take() {
            Some(link) if link.connection == connection => link,
            Some(_) | None => {
                // What was written elsewhere says nothing of this one.
                self.reconciler = Reconciler::new(self.owner);
                let northbound = parts.connect.open(&connection)?;
                Link { connection, northbound, seen: None }
            }
        };
        let seen = link.northbound.snapshot().ok().map(|snapshot| snapshot.version);
        let link = self.link.insert(Link { seen, ..link });
        Ok(link.northbound.clone())
    }

    fn stopped(&mut self, stopped: &Stopped, found: &mut Findings) {
        match stopped {
            Stopped::Outrun => {
                tracing::debug!("somebody else wrote to the northbound database; looking again");
                self.again = true;
            }
            // The state is behind, or somebody has written there by the name of this cluster: either passes, or a person
            // has to know.
            Stopped::Superseded { .. } | Stopped::Plan(_) | Stopped::Northbound(_) => {
                let since = *self.away.get_or_insert_with(|| {
                    tracing::warn!(error = basalt_runtime::chain(stopped), "logical networks are not kept for now");
                    Instant::now()
                });
                if since.elapsed() >= GRACE {
                    found.insert(cause(), basalt_runtime::chain(stopped));
                }
            }
        }
    }
}

fn cause() -> Cause {
    Cause { kind: Kind::NorthboundUnreachable, project: None, entity: "/1.0".into(), node: None }
}

fn count(parts: &Parts, pass: &Pass) {
    parts.metrics.transactions.inc_by(pass.transactions);
    parts.metrics.refusals.inc_by(pass.refused.len() as u64);
    for (fault, rows) in &pass.repairs {
        tracing::info!(?fault, rows, "rows of logical networks were repaired");
        let counter = match fault {
            Fault::Missing => &parts.metrics.repairs.missing,
            Fault::Altered => &parts.metrics.repairs.altered,
            Fault::Reference => &parts.metrics.repairs.reference,
            Fault::Surplus => &parts.metrics.repairs.surplus,
        };
        counter.inc_by(*rows);
    }
}

/// Says of each network that it is not as it should be.
fn refuse(state: &ClusterState, refused: &Refused, found: &mut Findings) {
    for unit in &refused.units {
        let number: Option<u32> = unit.strip_prefix("net").and_then(|text| text.parse().ok());
        let network = state.networks.values().find(|network| Some(network.number) == number);
        let entity = network.map_or_else(|| "/1.0".to_owned(), |network| format!("/1.0/networks/{}", network.name));
        let project = network.map(|network| network.project.clone()).filter(|project| !project.is_default());
        let cause = Cause { kind: Kind::NetworkFailure, project, entity, node: None };
        if found.insert(cause, refused.error.to_string()).is_none() {
            tracing::warn!(unit, error = %refused.error, "the northbound database will not have a network");
        }
    }
}
