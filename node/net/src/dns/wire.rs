//! Records as they go over the wire.

use basalt_model::network::zone::Zone;
use basalt_model::network::zone::content::Rr;
use basalt_model::network::zone::entry::Data;
use domain::base::iana::{Class, Rtype};
use domain::base::rdata::UnknownRecordData;
use domain::base::{Name, Record, Ttl};

/// What secondaries are told, in seconds: when to ask again, again after a failure, when to give up, and how long to
/// remember that something is not there.
const REFRESH: u32 = 120;
const RETRY: u32 = 60;
const EXPIRE: u32 = 86_400;
const NEGATIVE: u32 = 30;
const SOA_TTL: u32 = 3600;

pub(super) type Owner = Name<Vec<u8>>;
pub(super) type Line = Record<Owner, UnknownRecordData<Vec<u8>>>;

/// A name without its last dot. `None` for what the DNS cannot hold.
pub(super) fn name(text: &str) -> Option<Owner> {
    match text {
        "" => Some(Name::root_vec()),
        text => Name::vec_from_str(text).ok(),
    }
}

/// One record; `None` for what the DNS cannot hold.
pub(super) fn line(rr: &Rr) -> Option<Line> {
    let mut out = Vec::new();
    match &rr.data {
        Data::A(ip) => out.extend(ip.octets()),
        Data::Aaaa(ip) => out.extend(ip.octets()),
        Data::Cname(host) | Data::Ns(host) | Data::Ptr(host) => put_name(&mut out, host)?,
        Data::Mx(preference, host) => {
            out.extend(preference.to_be_bytes());
            put_name(&mut out, host)?;
        }
        Data::Srv(priority, weight, port, host) => {
            out.extend([priority, weight, port].into_iter().flat_map(|number| number.to_be_bytes()));
            put_name(&mut out, host)?;
        }
        Data::Txt(texts) => texts.iter().try_for_each(|text| put_text(&mut out, text))?,
        Data::Caa(flags, tag, value) => {
            out.push(*flags);
            put_text(&mut out, tag.as_bytes())?;
            out.extend(value);
        }
        Data::Sshfp(algorithm, kind, fingerprint) => {
            out.extend([*algorithm, *kind]);
            out.extend(fingerprint);
        }
        Data::Tlsa(usage, selector, matching, data) => {
            out.extend([*usage, *selector, *matching]);
            out.extend(data);
        }
    }
    record(&rr.name, rr.ttl, Rtype::from_int(rr.data.number()), out)
}

/// The zone's start of authority.
pub(super) fn soa(zone: &Zone, serial: u32) -> Option<Line> {
    let apex = zone.name.as_str();
    let primary = zone.nameservers().into_iter().next().unwrap_or_else(|| apex.to_owned());
    let mut out = Vec::new();
    put_name(&mut out, &primary.to_ascii_lowercase())?;
    put_name(&mut out, &format!("hostmaster.{apex}"))?;
    out.extend([serial, REFRESH, RETRY, EXPIRE, NEGATIVE].into_iter().flat_map(u32::to_be_bytes));
    record(apex, SOA_TTL, Rtype::SOA, out)
}

fn record(owner: &str, ttl: u32, kind: Rtype, data: Vec<u8>) -> Option<Line> {
    let data = UnknownRecordData::from_octets(kind, data).ok()?;
    Some(Record::new(name(owner)?, Class::IN, Ttl::from_secs(ttl), data))
}

/// Names in data are not compressed: not all types may be (RFC 3597, 4).
fn put_name(out: &mut Vec<u8>, text: &str) -> Option<()> {
    out.extend(name(text)?.as_slice());
    Some(())
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    out.push(u8::try_from(text.len()).ok()?);
    out.extend(text);
    Some(())
}
