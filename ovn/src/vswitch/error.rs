//! What can go wrong with the host's switch.

use std::time::Duration;

/// Why the switch is not as it should be.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    /// The database cannot be reached, or said no.
    #[error("Open vSwitch: cannot {doing}")]
    Session {
        /// What was to be done.
        doing: &'static str,
        /// What the session says.
        source: crate::Error,
    },
    /// The database has no root row.
    #[error("Open vSwitch: its database is empty; `ovs-vsctl init` fills it")]
    Uninitialised,
    /// There is no such bridge.
    #[error("Open vSwitch: there is no bridge {bridge}; ovn-controller makes the integration bridge when it runs")]
    NoBridge {
        /// Its name.
        bridge: String,
    },
    /// Somebody else uses the device.
    #[error("Open vSwitch: interface {interface} is a port already, and not one of ours; it was left alone")]
    Foreign {
        /// The device.
        interface: String,
    },
    /// A name that a mapping cannot hold.
    #[error("Open vSwitch: {name:?} cannot be part of a mapping; a name is not empty and has no ':' or ','")]
    Name {
        /// Which.
        name: String,
    },
    /// The daemon has not done what the database says.
    #[error("Open vSwitch: the change was not applied within {deadline:?}; does ovs-vswitchd run?")]
    NotApplied {
        /// How long was waited.
        deadline: Duration,
    },
    /// The logical port is not up.
    #[error("Open vSwitch: logical port {iface_id} is not up after {deadline:?}: {why}")]
    NotUp {
        /// Its name.
        iface_id: String,
        /// How long was waited.
        deadline: Duration,
        /// How far it came.
        why: String,
    },
}
