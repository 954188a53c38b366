//! What is wrong with a logical network, in plain words: what is to be beside what is, at each station.
//!
//! ```text
//!  state --wanted--> ports, homes, gateways, MTU ----.
//!  state --topology--> rows ---- northbound rows ----+--> findings: what, where, what to do
//!  southbound: chassis, bindings, how far they are --+
//!  switches of the hosts ----------------------------'
//! ```
//! Everything here is a pure function; who asks has looked before. What could not be looked at is a finding of its own,
//! never silence: a healthy network is one of which everything was seen.

mod bindings;
mod hosts;
mod rows;
mod wanted;

pub use bindings::{Progress, bindings};
pub use hosts::{Host, HostPort, hosts};
pub use rows::rows;
pub use wanted::{Port, Wanted, wanted};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// Something does not work, or will not when it is needed.
    Wrong,
    /// Worth knowing.
    Note,
}

/// Where it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Station {
    /// What the network was asked to be.
    State,
    Northbound,
    Southbound,
    Gateway,
    Port,
    Host,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub gravity: Gravity,
    pub station: Station,
    /// On which host; empty when it is nowhere in particular.
    pub host: String,
    pub what: String,
    pub remedy: String,
}

impl Station {
    /// For people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Station::State => "state",
            Station::Northbound => "northbound",
            Station::Southbound => "southbound",
            Station::Gateway => "gateway",
            Station::Port => "port",
            Station::Host => "host",
        }
    }
}

impl Finding {
    /// Something that is wrong.
    pub fn wrong(station: Station, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (what, remedy) = (what.into(), remedy.into());
        Finding { gravity: Gravity::Wrong, station, host: String::new(), what, remedy }
    }

    /// Something worth knowing.
    pub fn note(station: Station, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { gravity: Gravity::Note, ..Self::wrong(station, what, remedy) }
    }

    /// It was found on this host.
    #[must_use]
    pub fn on(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }
}

/// A few names of many.
fn few(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{}, and {more} more", names[..SHOWN].join(", ")),
        Some(_) | None => names.join(", "),
    }
}
