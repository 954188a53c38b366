//! Records of a network zone: what users add to what it tells of instances.

use basalt_model::command::{Expect, ZoneCommand};
use basalt_model::network::zone::entry::Entry;
use basalt_model::network::zone::{Record, Zone};
use basalt_model::{Command, Generation, RecordName};
use http::header::IF_MATCH;

use super::{config, happened};
use crate::call::{Call, Json, Segment};
use crate::dto::zone as wire;
use crate::error::Error;
use crate::etag;
use crate::filter::Filter;
use crate::reply::{self, Reply};
use crate::routes::spec;

fn show(record: &Record) -> wire::Record {
    wire::Record {
        name: record.name.to_string(),
        description: record.description.clone(),
        entries: record.entries.iter().map(show_entry).collect(),
        config: record.config.clone(),
    }
}

fn show_entry(entry: &Entry) -> wire::Entry {
    wire::Entry { kind: entry.kind.clone(), ttl: entry.ttl.into(), value: entry.value.clone() }
}

fn entries(given: Vec<wire::Entry>) -> Result<Vec<Entry>, Error> {
    let entry = |(at, entry): (usize, wire::Entry)| {
        let ttl = u32::try_from(entry.ttl)
            .map_err(|_| Error::invalid(format!("entries[{at}].ttl"), format!("{} is too long", entry.ttl)))?;
        Ok(Entry { kind: entry.kind, ttl, value: entry.value })
    };
    given.into_iter().enumerate().map(entry).collect()
}

fn find(call: &Call, zone: &str, name: &str) -> Result<(Zone, Record), Error> {
    let zone = super::find(call, zone)?;
    let missing = || Error::NotFound("Network zone record".into());
    let name = RecordName::new(name).map_err(|_| missing())?;
    let record = zone.records.get(&name).cloned().ok_or_else(missing)?;
    Ok((zone, record))
}

fn path(zone: &Zone, name: &RecordName) -> String {
    format!("/1.0/network-zones/{}/records/{name}", zone.name)
}

fn tag(record: &Record) -> String {
    let entries: Vec<wire::Entry> = record.entries.iter().map(show_entry).collect();
    etag::of(&(&record.description, entries, &record.config))
}

pub(crate) async fn list(call: Call, Segment(zone): Segment<String>) -> Reply {
    let zone = super::find(&call, &zone)?;
    let filter = Filter::parse(call.query("filter").unwrap_or_default())?;
    let suffix = zone.project.suffix();
    let records = zone.records.values().map(|r| (&r.name, show(r))).filter(|(_, record)| filter.takes(record));
    match call.recursion() {
        0 => reply::sync(records.map(|(name, _)| path(&zone, name) + &suffix).collect::<Vec<_>>()),
        _ => reply::sync(records.map(|(_, record)| record).collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment((zone, name)): Segment<(String, String)>) -> Reply {
    let (_, record) = find(&call, &zone, &name)?;
    reply::sync_etag(show(&record), &tag(&record))
}

pub(crate) async fn create(call: Call, Segment(zone): Segment<String>, Json(body): Json<wire::Record>) -> Reply {
    let zone = super::find(&call, &zone)?;
    let name = RecordName::new(body.name).map_err(|e| Error::invalid("name", e))?;
    let record = Record {
        name: name.clone(),
        description: body.description,
        config: config(body.config)?,
        entries: entries(body.entries)?,
        generation: Generation(1),
    };
    propose(&call, &zone, record, Expect::Absent).await?;
    happened(&call, "network-zone-record-created", &zone.project, path(&zone, &name));
    reply::created(&(path(&zone, &name) + &zone.project.suffix()))
}

pub(crate) async fn put(
    call: Call,
    Segment((zone, name)): Segment<(String, String)>,
    Json(body): Json<wire::RecordPut>,
) -> Reply {
    let (zone, present) = find(&call, &zone, &name)?;
    let record = Record {
        description: body.description.unwrap_or_default(),
        config: config(body.config.unwrap_or_default())?,
        entries: entries(body.entries.unwrap_or_default())?,
        ..present.clone()
    };
    update(&call, &zone, &present, record).await
}

pub(crate) async fn patch(
    call: Call,
    Segment((zone, name)): Segment<(String, String)>,
    Json(body): Json<wire::RecordPut>,
) -> Reply {
    let (zone, present) = find(&call, &zone, &name)?;
    let mut record = present.clone();
    record.description = body.description.unwrap_or(record.description);
    record.config = config(spec::merged(&present.config, body.config.unwrap_or_default()))?;
    if let Some(given) = body.entries {
        record.entries = entries(given)?;
    }
    update(&call, &zone, &present, record).await
}

async fn update(call: &Call, zone: &Zone, present: &Record, record: Record) -> Reply {
    etag::check(&call.headers, &tag(present))?;
    let expect = Expect::Present(call.headers.contains_key(IF_MATCH).then_some(present.generation));
    propose(call, zone, record, expect).await?;
    happened(call, "network-zone-record-updated", &zone.project, path(zone, &present.name));
    reply::empty()
}

async fn propose(call: &Call, zone: &Zone, record: Record, expect: Expect) -> Result<(), Error> {
    let put = ZoneCommand::PutRecord { zone: zone.name.clone(), record: Box::new(record), expect };
    call.propose(Command::Zone(put)).await.map(drop)
}

pub(crate) async fn delete(call: Call, Segment((zone, name)): Segment<(String, String)>) -> Reply {
    let (zone, Record { name, .. }) = find(&call, &zone, &name)?;
    let source = path(&zone, &name);
    call.propose(Command::Zone(ZoneCommand::RemoveRecord { zone: zone.name.clone(), name })).await?;
    happened(&call, "network-zone-record-deleted", &zone.project, source);
    reply::empty()
}
