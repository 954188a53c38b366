//! The southbound database, read by those who ask what has become of a network: who is a chassis, and where ports are bound.
//!
//! ```text
//!  bindings(basalt-net7) --1--> its datapaths, chassis, encapsulations, how far northd is
//!                        --2--> the ports of those datapaths
//!  monitors(basalt-net7, addresses) --> what health checks have found of backends
//! ```
//! **Nothing is watched.** Somebody asks now and then, any member may be asked, and the database is the place where an OVN
//! of many hosts is busy: to be told of each port of each host only to be ready would cost both sides more than two
//! questions do. The link is kept while it is used: see who holds a [`Southbound`].
//!
//! **Failure.** An answer comes within [`DEADLINE`], or an error says what the remotes said.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use uuid::Uuid;

use crate::Error;
use crate::ovsdb::op::{Condition, OpResult, Operation};
use crate::ovsdb::schema::Schema;
use crate::ovsdb::value::{Datum, Name, Row};
use crate::session::{Remote, Session, SessionOptions, Tls};

const DATABASE: &str = "OVN_Southbound";
/// How long connecting, and each question, may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// The datapaths of a network, after its prefix.
const DATAPATHS: [&str; 3] = ["lr", "ls-int", "ls-ext"];
/// Tables, and what is read of them; what a database lacks is left out but for [`NEEDS`].
const CHASSIS: &[&str] = &["_uuid", "name", "hostname", "encaps", "external_ids", "other_config"];
const PRIVATE: &[&str] = &["name", "nb_cfg"];
const ENCAP: &[&str] = &["_uuid", "type", "ip"];
const PORT: &[&str] = &["logical_port", "type", "chassis", "up"];
/// Since OVN 20.03.
const MONITORS: &str = "Service_Monitor";
const MONITOR: &[&str] = &["ip", "port", "protocol", "logical_port", "status"];
const NEEDS: &[(&str, &[&str])] = &[
    ("Datapath_Binding", &["external_ids"]),
    ("Chassis", &["name", "hostname", "encaps"]),
    ("Encap", &["type", "ip"]),
    ("Port_Binding", &["logical_port", "type", "chassis", "datapath"]),
];

/// A southbound database. Cheap to clone; the link ends with the last clone.
#[derive(Debug, Clone)]
pub struct Southbound {
    session: Session,
}

/// A host that takes part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chassis {
    pub hostname: String,
    /// Ends of its tunnels by their kind.
    pub encaps: BTreeMap<String, String>,
    /// Bridges by the name of the uplink.
    pub mappings: BTreeMap<String, String>,
    /// The last configuration that it has followed; 0 when it says nothing of that.
    pub done: i64,
}

/// A logical port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Binding {
    /// Empty for an interface; `chassisredirect`, `patch`, `localnet`, ...
    pub kind: String,
    /// The chassis that has it.
    pub chassis: Option<String>,
    /// Whether its flows are in place there.
    pub up: bool,
}

/// What OVN has found of one backend of a load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitor {
    pub address: IpAddr,
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// `online`, `offline` or `error`; nothing before the first check.
    pub status: Option<String>,
}

/// What became of one network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bindings {
    /// By name.
    pub chassis: BTreeMap<String, Chassis>,
    /// By name.
    pub ports: BTreeMap<String, Binding>,
    /// The last northbound configuration that has been translated.
    pub translated: i64,
}

impl Bindings {
    /// The chassis through which a network reaches its uplink now.
    pub fn gateway(&self, prefix: &str) -> Option<&str> {
        self.ports.get(&gateway_port(prefix))?.chassis.as_deref()
    }
}

/// What stands for the router's outer port where it is: `cr-` and its name.
pub fn gateway_port(prefix: &str) -> String {
    format!("cr-{prefix}-lr-lrp-ext")
}

impl Southbound {
    /// Begins to connect, in the background. Any server of a cluster will do: a look is as good as its moment.
    ///
    /// # Errors
    /// A remote with TLS, and no certificates; or no remote.
    pub fn connect(remotes: Vec<Remote>, tls: Option<Tls>) -> Result<Self, Error> {
        let names = |columns: &[&str]| columns.iter().map(|column| Name::from(*column)).collect();
        let needs = NEEDS.iter().map(|(table, columns)| ((*table).into(), names(columns))).collect();
        let retry = (Duration::from_millis(100), Duration::from_secs(1));
        let options = SessionOptions { needs, tls, deadline: DEADLINE, retry, ..SessionOptions::new(DATABASE) };
        Session::connect(remotes, options).map(|session| Southbound { session })
    }

    /// What became of the network whose rows begin with `prefix` (`basalt-net7`).
    ///
    /// # Errors
    /// The database cannot be reached, or says no.
    pub async fn bindings(&self, prefix: &str) -> Result<Bindings, Error> {
        let schema = self.session.connected(DEADLINE).await?;
        let answers = self.session.transact(first(&schema, prefix)).await?;
        let (datapaths, rest) = answers.split_at_checked(DATAPATHS.len()).unwrap_or_default();
        let datapaths: Vec<Uuid> = datapaths.iter().flat_map(OpResult::rows).filter_map(uuid).collect();
        let ports = datapaths.iter().map(|datapath| {
            let where_ = vec![Condition::equal("datapath", *datapath)];
            Operation::select("Port_Binding", where_, &known(&schema, "Port_Binding", PORT))
        });
        let ports: Vec<Operation> = ports.collect();
        // A network that northd has not translated has no datapath, and an empty transaction says nothing.
        let ports = if ports.is_empty() { Vec::new() } else { self.session.transact(ports).await? };
        Ok(read(rest, &ports))
    }

    /// What is known of the interfaces at these addresses as backends, in the network whose rows begin with `prefix`.
    ///
    /// # Errors
    /// The database cannot be reached, or says no.
    pub async fn monitors(&self, prefix: &str, addresses: &[IpAddr]) -> Result<Vec<Monitor>, Error> {
        let schema = self.session.connected(DEADLINE).await?;
        if addresses.is_empty() || !schema.has_table(MONITORS) {
            return Ok(Vec::new());
        }
        let columns = known(&schema, MONITORS, MONITOR);
        let asked = addresses
            .iter()
            .map(|address| Operation::select(MONITORS, vec![Condition::equal("ip", address.to_string())], &columns));
        let answers = self.session.transact(asked.collect()).await?;
        // Other networks may have the same addresses.
        let own = format!("{prefix}-");
        let rows = answers.iter().flat_map(OpResult::rows);
        Ok(rows.filter(|row| text(row, "logical_port").starts_with(&own)).filter_map(monitor).collect())
    }
}

fn first(schema: &Schema, prefix: &str) -> Vec<Operation> {
    let datapath = |what: &&str| {
        let name = Datum::map([("name", format!("{prefix}-{what}"))]);
        Operation::select("Datapath_Binding", vec![Condition::includes("external_ids", name)], &["_uuid"])
    };
    let all = |table: &str, columns: &[&str]| Operation::select(table, Vec::new(), &known(schema, table, columns));
    let mut asked: Vec<Operation> = DATAPATHS.iter().map(datapath).collect();
    asked.extend([all("Chassis", CHASSIS), all("Encap", ENCAP), all("SB_Global", &["nb_cfg"])]);
    // Not in databases before 20.09.
    asked.extend(schema.has_table("Chassis_Private").then(|| all("Chassis_Private", PRIVATE)));
    asked
}

/// The columns that this database has.
fn known<'a>(schema: &Schema, table: &str, columns: &[&'a str]) -> Vec<&'a str> {
    columns.iter().copied().filter(|c| *c == "_uuid" || schema.column(table, c).is_some()).collect()
}

fn read(rest: &[OpResult], ports: &[OpResult]) -> Bindings {
    let rows = |at: usize| rest.get(at).map(OpResult::rows).unwrap_or_default();
    let encaps: BTreeMap<Uuid, (String, String)> =
        rows(1).iter().filter_map(|row| Some((uuid(row)?, (text(row, "type"), text(row, "ip"))))).collect();
    let done: BTreeMap<String, i64> = rows(3).iter().map(|row| (text(row, "name"), number(row, "nb_cfg"))).collect();
    let mut names = BTreeMap::new();
    let mut chassis = BTreeMap::new();
    for row in rows(0) {
        let name = text(row, "name");
        names.extend(uuid(row).map(|id| (id, name.clone())));
        let ends = row.get("encaps").into_iter().flat_map(Datum::uuids).filter_map(|id| encaps.get(&id).cloned());
        let found = Chassis {
            hostname: text(row, "hostname"),
            encaps: ends.collect(),
            mappings: mappings(row),
            done: done.get(&name).copied().unwrap_or_default(),
        };
        chassis.insert(name, found);
    }
    let ports = ports.iter().flat_map(OpResult::rows).map(|row| {
        let at = row.get("chassis").and_then(Datum::as_uuid).and_then(|id| names.get(&id).cloned());
        let up = row.get("up").map_or(at.is_some(), |up| up.as_bool() == Some(true));
        (text(row, "logical_port"), Binding { kind: text(row, "type"), chassis: at, up })
    });
    Bindings {
        ports: ports.collect(),
        chassis,
        translated: rows(2).first().map(|row| number(row, "nb_cfg")).unwrap_or_default(),
    }
}

/// `uplink:bridge,...`; of old in `external_ids`.
fn mappings(row: &Row) -> BTreeMap<String, String> {
    let told = ["other_config", "external_ids"].iter().find_map(|column| row.get(*column)?.get("ovn-bridge-mappings"));
    let pairs = told.unwrap_or_default().split(',').filter_map(|pair| pair.split_once(':'));
    pairs.map(|(uplink, bridge)| (uplink.trim().to_owned(), bridge.trim().to_owned())).collect()
}

fn monitor(row: &Row) -> Option<Monitor> {
    Some(Monitor {
        address: text(row, "ip").parse().ok()?,
        port: number(row, "port").try_into().ok()?,
        protocol: text(row, "protocol"),
        status: row.get("status").and_then(Datum::as_str).map(str::to_owned),
    })
}

fn uuid(row: &Row) -> Option<Uuid> {
    row.get("_uuid").and_then(Datum::as_uuid)
}

fn text(row: &Row, column: &str) -> String {
    row.get(column).and_then(Datum::as_str).unwrap_or_default().to_owned()
}

fn number(row: &Row, column: &str) -> i64 {
    row.get(column).and_then(Datum::as_integer).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(value: serde_json::Value) -> OpResult {
        OpResult::Rows(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn answers_are_put_together() {
        let id = |n: u128| json!(["uuid", Uuid::from_u128(n)]);
        let rest = [
            rows(json!([{"_uuid": id(1), "name": "node1", "hostname": "host1", "encaps": id(9),
                "external_ids": ["map", []], "other_config": ["map", [["ovn-bridge-mappings", "up:br-up, a:b"]]]}])),
            rows(json!([{"_uuid": id(9), "type": "geneve", "ip": "10.0.0.1"}])),
            rows(json!([{"nb_cfg": 7}])),
            rows(json!([{"name": "node1", "nb_cfg": 6}])),
        ];
        let ports = [rows(json!([
            {"logical_port": "cr-basalt-net7-lr-lrp-ext", "type": "chassisredirect", "chassis": id(1), "up": true},
            {"logical_port": "p1", "type": "", "chassis": ["set", []], "up": false},
            {"logical_port": "p2", "type": "", "chassis": id(1)},
        ]))];
        let found = read(&rest, &ports);
        assert_eq!(found.gateway("basalt-net7"), Some("node1"));
        assert_eq!(found.gateway("basalt-net8"), None);
        let node = &found.chassis["node1"];
        assert_eq!((node.mappings["up"].as_str(), node.mappings["a"].as_str(), node.done), ("br-up", "b", 6));
        assert_eq!(node.encaps["geneve"], "10.0.0.1");
        assert_eq!((found.ports["p1"].up, found.ports["p2"].up, found.translated), (false, true, 7));
    }
}
