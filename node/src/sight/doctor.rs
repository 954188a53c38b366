//! Looks at all that a network is made of, and says what is wrong.
//!
//! ```text
//!  northbound: rows;  a number is asked for (nb_cfg) --northd--> southbound --controllers--> each chassis' own number
//! ```
//! What is found wrong is looked at again for a while before it is said: a change that is just on its way is no fault.

use std::collections::BTreeMap;
use std::time::Duration;

use basalt_api::dto::diagnosis as wire;
use basalt_model::StateView;
use basalt_model::network::Network;
use basalt_ovn::doctor::{self, Finding, Gravity, Host, HostPort, Progress, Station, Wanted};
use basalt_ovn::northbound::Northbound;
use basalt_ovn::ovsdb::op::{Mutation, Mutator, OpResult, Operation};
use basalt_ovn::ovsdb::value::Datum;
use basalt_ovn::{Error, topology};
use basalt_runtime::chain;
use tokio::time::{Instant, sleep, timeout};

use super::NodeSight;

/// How long a database may take to be there.
const LOAD: Duration = Duration::from_secs(5);
/// How long what seems wrong may take to come right by itself.
const SETTLE: Duration = Duration::from_secs(6);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(300);

impl NodeSight {
    pub(super) async fn examine(&self, network: &Network, hosts: &BTreeMap<String, wire::Host>) -> Vec<wire::Finding> {
        let view = self.cluster.view();
        let wanted = doctor::wanted(&view, network);
        let mut found = wanted.lacks.clone();
        let asked = match self.northbound(&wanted, &mut found).await {
            Ok(asked) => Some(asked),
            Err(why) => {
                let what = format!("the northbound database cannot be asked: {why}");
                let remedy = "does its server run, and is network.ovn.northbound_connection right?";
                found.push(Finding::wrong(Station::Northbound, what, remedy));
                None
            }
        };
        found.extend(self.southbound_of(&view, &wanted, asked, hosts).await);
        let hosts = hosts.iter().map(|(name, host)| (name.clone(), heard(host))).collect();
        found.extend(doctor::hosts(&wanted, &hosts));
        found.sort();
        found.dedup();
        found.into_iter().map(told).collect()
    }

    /// Compares the rows, and asks for a new translation: its number.
    async fn northbound(&self, wanted: &Wanted, found: &mut Vec<Finding>) -> Result<i64, String> {
        let northbound = self.links.northbound(&self.cluster.view())?;
        let until = Instant::now() + SETTLE;
        if timeout(LOAD, loaded(&*northbound)).await.is_err() {
            northbound.snapshot().map_err(|e| chain(&e))?;
        }
        let wrong = loop {
            let wrong = compare(&self.cluster.view(), &*northbound, &wanted.unit).await?;
            if !wrong.iter().any(|finding| finding.gravity == Gravity::Wrong) || Instant::now() >= until {
                break wrong;
            }
            sleep(LOOK).await;
        };
        found.extend(wrong);
        ask(&*northbound).await.map_err(|e| chain(&e))
    }

    async fn southbound_of(
        &self,
        view: &StateView,
        wanted: &Wanted,
        asked: Option<i64>,
        hosts: &BTreeMap<String, wire::Host>,
    ) -> Vec<Finding> {
        let away = |why: String| {
            let what = format!("the southbound database cannot be asked: {why}");
            vec![Finding::wrong(
                Station::Southbound,
                what,
                "does its server run, and is ovn-remote of the switches right?",
            )]
        };
        let told = hosts.values().map(|host| host.southbound.clone()).find(|remotes| !remotes.is_empty());
        let Some(remotes) = self.remotes().await.or(told) else { return away("no member knows where it is".into()) };
        let southbound = match self.links.southbound(view, &remotes) {
            Ok(southbound) => southbound,
            Err(error) => return away(chain(&error)),
        };
        let progress = asked.map(|asked| Progress { asked, waited: SETTLE.as_secs() });
        let until = Instant::now() + SETTLE;
        loop {
            let found = match southbound.bindings(&wanted.prefix).await {
                Ok(bindings) => doctor::bindings(wanted, &bindings, progress.as_ref()),
                Err(error) => return away(chain(&error)),
            };
            if !found.iter().any(|finding| finding.gravity == Gravity::Wrong) || Instant::now() >= until {
                return found;
            }
            sleep(LOOK).await;
        }
    }

    /// What this host's switch says.
    pub(super) async fn own_host(&self) -> wire::Host {
        let (Some(switch), Some(overlay)) = (&self.switch, &self.overlay) else {
            return wire::Host { lacking: "there is no Open vSwitch here".into(), ..wire::Host::default() };
        };
        let (facts, ports) = match (switch.facts().await, switch.ports().await) {
            (Ok(facts), Ok(ports)) => (facts, ports),
            (Err(error), _) | (_, Err(error)) => {
                return wire::Host { lacking: chain(&error), ..wire::Host::default() };
            }
        };
        let port = |port: basalt_ovn::vswitch::BoundPort| {
            let plugged = port.bridge.is_some() && port.ofport.is_some_and(|number| number > 0);
            let error = port.error.unwrap_or_default();
            (port.iface_id, wire::HostPort { interface: port.interface, plugged, error, off: port.off })
        };
        wire::Host {
            chassis: facts.system_id.unwrap_or_default(),
            southbound: self.options.southbound.clone().or(facts.remote).unwrap_or_default(),
            room: overlay.room().await.unwrap_or_default(),
            ports: ports.into_iter().map(port).collect(),
            lacking: String::new(),
        }
    }
}

async fn loaded(northbound: &dyn Northbound) {
    while northbound.snapshot().is_err() {
        northbound.changed(None).await;
    }
}

/// With many ports this is work for some milliseconds, so it is done beside those who wait for answers.
async fn compare(view: &StateView, northbound: &dyn Northbound, unit: &str) -> Result<Vec<Finding>, String> {
    let (view, unit) = (view.clone(), unit.to_owned());
    let snapshot = northbound.snapshot().map_err(|e| chain(&e))?;
    let work = basalt_runtime::spawn_blocking("doctor", move || {
        let owner = view.cluster_id;
        let desired = topology::rows(owner, &topology::read(&view));
        doctor::rows(&unit, &desired, &snapshot.actual(owner))
    });
    work.await.map_err(|panicked| panicked.to_string())
}

/// Asks for a translation of what is there now, as `ovn-nbctl sync` does: nobody else would say whether anybody translates.
async fn ask(northbound: &dyn Northbound) -> Result<i64, Error> {
    let bump = Mutation { column: "nb_cfg".into(), mutator: Mutator::Add, value: Datum::from(1_i64) };
    let table = "NB_Global";
    let operations = vec![
        Operation::Mutate { table: table.into(), where_: Vec::new(), mutations: vec![bump] },
        Operation::select(table, Vec::new(), &["nb_cfg"]),
    ];
    let done = northbound.transact(&northbound.snapshot()?, operations).await?;
    let rows = done.last().map(OpResult::rows).unwrap_or_default();
    Ok(rows.first().and_then(|row| row.get("nb_cfg")).and_then(Datum::as_integer).unwrap_or_default())
}

fn heard(host: &wire::Host) -> Host {
    let port = |(name, port): (&String, &wire::HostPort)| {
        let wire::HostPort { interface, plugged, error, off } = port.clone();
        (name.clone(), HostPort { interface, plugged, error, off })
    };
    Host {
        chassis: Some(host.chassis.clone()).filter(|name| !name.is_empty()),
        room: Some(host.room).filter(|room| *room > 0),
        ports: host.ports.iter().map(port).collect(),
        lacking: host.lacking.clone(),
    }
}

fn told(finding: Finding) -> wire::Finding {
    let severity = match finding.gravity {
        Gravity::Wrong => "error",
        Gravity::Note => "note",
    };
    wire::Finding {
        severity: severity.into(),
        station: finding.station.as_str().into(),
        location: finding.host,
        what: finding.what,
        remedy: finding.remedy,
    }
}
