//! Zones as they are given out, made afresh when anything changes.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use basalt_model::network::zone::content::{Rr, Seen, content};
use basalt_model::network::zone::{self, ZonePeer};
use basalt_model::{StateView, ZoneName};
use domain::base::ToName;
use domain::tsig::{Algorithm, Key, KeyName};

use super::wire::{self, Line};

/// SHA-1 is not among them: nobody needs it any more.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512];

/// Keys by name and algorithm, as signatures are looked up.
pub(super) type Keys = HashMap<(KeyName, Algorithm), Key>;

/// One who may have a zone.
#[derive(Debug)]
struct Peer {
    address: Option<IpAddr>,
    key: Option<KeyName>,
}

/// One zone, ready to be sent.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) soa: Line,
    /// All but the SOA.
    pub(super) lines: Vec<Line>,
    peers: Vec<Peer>,
}

impl Page {
    /// Whether the zone may go to somebody at `from` who has signed with `key`, or not at all.
    pub(super) fn for_whom(&self, from: IpAddr, key: Option<&KeyName>) -> bool {
        self.peers.iter().any(|peer| {
            let at_home = peer.address.is_none_or(|address| address.to_canonical() == from.to_canonical());
            let signed = peer.key.as_ref().is_none_or(|wanted| key == Some(wanted));
            at_home && signed && (peer.address.is_some() || peer.key.is_some())
        })
    }
}

/// All zones, as of one version of the state.
#[derive(Debug, Default)]
pub struct Book {
    pages: BTreeMap<String, Arc<Page>>,
    pub(super) keys: Keys,
}

impl Book {
    /// Writes down every zone, with serials that follow on those of books before.
    pub fn of(view: &StateView, seen: &Seen, serials: &mut Serials) -> Self {
        serials.0.retain(|name, _| view.zones.contains_key(name));
        let mut book = Book::default();
        for zone in view.zones.values() {
            let records = content(view, zone, seen);
            let lines: Vec<Line> = records.iter().filter_map(wire::line).collect();
            let serial = serials.of(zone, records, view.version.0);
            let Some(soa) = wire::soa(zone, serial) else { continue };
            let peers = zone.peers().into_iter().filter_map(|(name, peer)| book.peer(zone, &name, peer)).collect();
            book.pages.insert(zone.name.to_string(), Arc::new(Page { soa, lines, peers }));
        }
        book
    }

    /// Takes up a peer's key. `None` for a peer whose key cannot be one: it gets nothing.
    fn peer(&mut self, zone: &zone::Zone, name: &str, peer: ZonePeer) -> Option<Peer> {
        let Some(secret) = peer.key else { return Some(Peer { address: peer.address, key: None }) };
        let key = key_name(&format!("{}_{name}", zone.name))?;
        for algorithm in ALGORITHMS {
            let made = Key::new(algorithm, &secret, key.clone(), None, None).ok()?;
            self.keys.insert((key.clone(), algorithm), made);
        }
        Some(Peer { address: peer.address, key: Some(key) })
    }

    /// The zone of that name, in lower case and without its last dot.
    pub(super) fn page(&self, name: &str) -> Option<&Arc<Page>> {
        self.pages.get(name)
    }
}

/// Names of keys are compared without regard to case by the DNS, and are in lower case here.
fn key_name(text: &str) -> Option<KeyName> {
    wire::name(&text.to_ascii_lowercase())?.try_to_name().ok()
}

/// The serial of each zone, and what it held then: name servers in their order, and the rest.
#[derive(Debug, Default)]
pub struct Serials(BTreeMap<ZoneName, (u32, Vec<String>, Vec<Rr>)>);

impl Serials {
    fn of(&mut self, zone: &zone::Zone, records: Vec<Rr>, version: u64) -> u32 {
        // Serials go round (RFC 1982), and so do versions that are cut to their length.
        #[allow(clippy::cast_possible_truncation, reason = "what is meant")]
        let now = version as u32;
        let servers = zone.nameservers();
        let serial = match self.0.get(&zone.name) {
            Some((serial, first, held)) if (first, held) == (&servers, &records) => return *serial,
            Some((serial, ..)) if !later(now, *serial) => serial.wrapping_add(1),
            Some(_) | None => now,
        };
        self.0.insert(zone.name.clone(), (serial, servers, records));
        serial
    }
}

/// Whether one serial comes after another (RFC 1982, 3.2).
fn later(one: u32, other: u32) -> bool {
    one != other && one.wrapping_sub(other) < 1 << 31
}
