//! Tables and columns of the northbound schema that we write. Of a row of ours these columns are held to what we want;
//! all others belong to northd and to people.

use std::collections::{BTreeMap, BTreeSet};

use crate::ovsdb::value::{Atom, Datum};

/// A table that holds rows of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    HaChassis,
    HaChassisGroup,
    LogicalRouter,
    LogicalRouterPort,
    LogicalSwitch,
    LogicalSwitchPort,
    Nat,
    StaticRoute,
    Policy,
    DhcpOptions,
    Dns,
    AddressSet,
    PortGroup,
    Acl,
    LoadBalancer,
    HealthCheck,
    Qos,
}

/// What a reference does to the row that it points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Keeps it: it cannot be deleted, and goes with its last holder unless its table is a root.
    Strong,
    /// Vanishes with it.
    Weak,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Integer,
    Boolean,
    /// None, one or many atoms.
    Set,
    Map,
    /// Rows of a table.
    Refs(Table, Hold),
}

/// A column that we set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    /// Whether it holds one reference at most.
    pub single: bool,
}

impl Kind {
    /// Whether a column of this kind holds what it does when nothing is said of it: `datum == default_datum()`, without
    /// making one.
    pub fn is_default(self, datum: &Datum) -> bool {
        match self {
            Kind::Text => datum.as_str() == Some(""),
            Kind::Integer => datum.one().and_then(Atom::as_integer) == Some(0),
            Kind::Boolean => datum.one().and_then(Atom::as_bool) == Some(false),
            Kind::Set | Kind::Refs(..) => matches!(datum, Datum::Set(set) if set.is_empty()),
            Kind::Map => matches!(datum, Datum::Map(map) if map.is_empty()),
        }
    }

    /// What a column of this kind holds when nothing is said of it.
    pub fn default_datum(self) -> Datum {
        match self {
            Kind::Text => Datum::Set(BTreeSet::from([Atom::String(String::new())])),
            Kind::Integer => Datum::Set(BTreeSet::from([Atom::Integer(0)])),
            Kind::Boolean => Datum::Set(BTreeSet::from([Atom::Boolean(false)])),
            Kind::Set | Kind::Refs(..) => Datum::Set(BTreeSet::new()),
            Kind::Map => Datum::Map(BTreeMap::new()),
        }
    }
}

const fn text(name: &'static str) -> Column {
    Column { name, kind: Kind::Text, single: false }
}

const fn integer(name: &'static str) -> Column {
    Column { name, kind: Kind::Integer, single: false }
}

const fn set(name: &'static str) -> Column {
    Column { name, kind: Kind::Set, single: false }
}

const fn map(name: &'static str) -> Column {
    Column { name, kind: Kind::Map, single: false }
}

const fn strong(name: &'static str, table: Table) -> Column {
    Column { name, kind: Kind::Refs(table, Hold::Strong), single: false }
}

const fn single(column: Column) -> Column {
    Column { single: true, ..column }
}

const fn weak(name: &'static str, table: Table) -> Column {
    Column { name, kind: Kind::Refs(table, Hold::Weak), single: false }
}

const EXTERNAL_IDS: Column = map("external_ids");

impl Table {
    /// All of them.
    pub const ALL: &[Table] = &[
        Table::HaChassis,
        Table::HaChassisGroup,
        Table::LogicalRouter,
        Table::LogicalRouterPort,
        Table::LogicalSwitch,
        Table::LogicalSwitchPort,
        Table::Nat,
        Table::StaticRoute,
        Table::Policy,
        Table::DhcpOptions,
        Table::Dns,
        Table::AddressSet,
        Table::PortGroup,
        Table::Acl,
        Table::LoadBalancer,
        Table::HealthCheck,
        Table::Qos,
    ];

    /// The schema's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Table::HaChassis => "HA_Chassis",
            Table::HaChassisGroup => "HA_Chassis_Group",
            Table::LogicalRouter => "Logical_Router",
            Table::LogicalRouterPort => "Logical_Router_Port",
            Table::LogicalSwitch => "Logical_Switch",
            Table::LogicalSwitchPort => "Logical_Switch_Port",
            Table::Nat => "NAT",
            Table::StaticRoute => "Logical_Router_Static_Route",
            Table::Policy => "Logical_Router_Policy",
            Table::DhcpOptions => "DHCP_Options",
            Table::Dns => "DNS",
            Table::AddressSet => "Address_Set",
            Table::PortGroup => "Port_Group",
            Table::Acl => "ACL",
            Table::LoadBalancer => "Load_Balancer",
            Table::HealthCheck => "Load_Balancer_Health_Check",
            Table::Qos => "QoS",
        }
    }

    /// Whether rows live without anything that holds them.
    pub fn is_root(self) -> bool {
        match self {
            Table::HaChassisGroup
            | Table::LogicalRouter
            | Table::LogicalSwitch
            | Table::DhcpOptions
            | Table::Dns
            | Table::AddressSet
            | Table::PortGroup
            | Table::LoadBalancer => true,
            Table::HaChassis
            | Table::LogicalRouterPort
            | Table::LogicalSwitchPort
            | Table::Nat
            | Table::StaticRoute
            | Table::Policy
            | Table::Acl
            | Table::HealthCheck
            | Table::Qos => false,
        }
    }

    /// Whether no two rows may have the same `name`.
    pub fn has_unique_name(self) -> bool {
        match self {
            Table::HaChassisGroup
            | Table::LogicalRouterPort
            | Table::LogicalSwitchPort
            | Table::AddressSet
            | Table::PortGroup => true,
            Table::HaChassis
            | Table::LogicalRouter
            | Table::LogicalSwitch
            | Table::Nat
            | Table::StaticRoute
            | Table::Policy
            | Table::DhcpOptions
            | Table::Dns
            | Table::Acl
            | Table::LoadBalancer
            | Table::HealthCheck
            | Table::Qos => false,
        }
    }

    /// The columns that we set.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Table::HaChassis => CHASSIS,
            Table::HaChassisGroup => CHASSIS_GROUP,
            Table::LogicalRouter => ROUTER,
            Table::LogicalRouterPort => ROUTER_PORT,
            Table::LogicalSwitch => SWITCH,
            Table::LogicalSwitchPort => SWITCH_PORT,
            Table::Nat => NAT,
            Table::StaticRoute => ROUTE,
            Table::Policy => POLICY,
            Table::DhcpOptions => DHCP,
            Table::Dns => DNS,
            Table::AddressSet => ADDRESS_SET,
            Table::PortGroup => PORT_GROUP,
            Table::Acl => ACL,
            Table::LoadBalancer => BALANCER,
            Table::HealthCheck => HEALTH_CHECK,
            Table::Qos => QOS,
        }
    }

    /// The column called `name`, if we set it.
    pub fn column(self, name: &str) -> Option<Column> {
        self.columns().iter().find(|column| column.name == name).copied()
    }
}

const CHASSIS: &[Column] = &[text("chassis_name"), integer("priority"), EXTERNAL_IDS];
const CHASSIS_GROUP: &[Column] = &[text("name"), strong("ha_chassis", Table::HaChassis), EXTERNAL_IDS];
const DHCP: &[Column] = &[text("cidr"), map("options"), EXTERNAL_IDS];
const DNS: &[Column] = &[map("records"), EXTERNAL_IDS];
const ADDRESS_SET: &[Column] = &[text("name"), set("addresses"), EXTERNAL_IDS];
const HEALTH_CHECK: &[Column] = &[text("vip"), map("options"), EXTERNAL_IDS];

const ROUTER: &[Column] = &[
    text("name"),
    strong("ports", Table::LogicalRouterPort),
    strong("static_routes", Table::StaticRoute),
    strong("policies", Table::Policy),
    strong("nat", Table::Nat),
    weak("load_balancer", Table::LoadBalancer),
    set("enabled"),
    map("options"),
    EXTERNAL_IDS,
];

const ROUTER_PORT: &[Column] = &[
    text("name"),
    text("mac"),
    set("networks"),
    set("peer"),
    set("enabled"),
    single(strong("ha_chassis_group", Table::HaChassisGroup)),
    map("ipv6_ra_configs"),
    map("options"),
    EXTERNAL_IDS,
];

const SWITCH: &[Column] = &[
    text("name"),
    strong("ports", Table::LogicalSwitchPort),
    strong("acls", Table::Acl),
    strong("qos_rules", Table::Qos),
    weak("load_balancer", Table::LoadBalancer),
    weak("dns_records", Table::Dns),
    map("other_config"),
    EXTERNAL_IDS,
];

const SWITCH_PORT: &[Column] = &[
    text("name"),
    text("type"),
    set("addresses"),
    set("port_security"),
    set("enabled"),
    single(weak("dhcpv4_options", Table::DhcpOptions)),
    single(weak("dhcpv6_options", Table::DhcpOptions)),
    map("options"),
    EXTERNAL_IDS,
];

const NAT: &[Column] = &[
    text("type"),
    text("external_ip"),
    text("logical_ip"),
    set("external_mac"),
    set("logical_port"),
    text("external_port_range"),
    map("options"),
    EXTERNAL_IDS,
];

const ROUTE: &[Column] = &[
    text("ip_prefix"),
    text("nexthop"),
    set("output_port"),
    set("policy"),
    text("route_table"),
    map("options"),
    EXTERNAL_IDS,
];

const POLICY: &[Column] =
    &[integer("priority"), text("match"), text("action"), set("nexthops"), map("options"), EXTERNAL_IDS];

const PORT_GROUP: &[Column] =
    &[text("name"), weak("ports", Table::LogicalSwitchPort), strong("acls", Table::Acl), EXTERNAL_IDS];

const ACL: &[Column] = &[
    integer("priority"),
    text("direction"),
    text("match"),
    text("action"),
    Column { name: "log", kind: Kind::Boolean, single: false },
    set("name"),
    set("severity"),
    set("meter"),
    EXTERNAL_IDS,
];

const BALANCER: &[Column] = &[
    text("name"),
    map("vips"),
    set("protocol"),
    strong("health_check", Table::HealthCheck),
    map("ip_port_mappings"),
    set("selection_fields"),
    map("options"),
    EXTERNAL_IDS,
];

const QOS: &[Column] =
    &[integer("priority"), text("direction"), text("match"), map("action"), map("bandwidth"), EXTERNAL_IDS];
