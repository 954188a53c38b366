//! One link, without its stream: messages in, bytes out.
//!
//! ```text
//! greeting  --schema and _Server known, fit--> serving
//!    '-- does not fit, or any nonsense -----------'--> Err: the link is to be dropped
//! ```
//! Order is what makes a monitor complete: feeds are asked for before the first request is sent, and the server sends a
//! change before the answer to the transaction that made it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use tokio::sync::oneshot;
use tracing::{debug, warn};
use uuid::Uuid;

use super::Shared;
use super::call::{Outcome, Request, refusal};
use crate::monitor::{Dialect, Feed, OldUpdates, Updates};
use crate::ovsdb::schema::Schema;
use crate::ovsdb::value::{Datum, Row};
use crate::wire::Message;

/// Requests without an answer, at most; more wait in the queue.
const IN_FLIGHT: usize = 1024;
/// Bytes that wait to be written; above this no request is taken.
const BACKLOG: usize = 4 << 20;
/// The monitor of `_Server`; feeds count from 1.
const SERVER_FEED: u64 = 0;

/// One link's state.
pub(super) struct Link {
    shared: Arc<Shared>,
    epoch: u64,
    pub(super) out: BytesMut,
    /// Bytes put into `out` and taken from it, since the beginning.
    queued: u64,
    written: u64,
    next: u64,
    pending: HashMap<u64, Pending>,
    feeds: BTreeMap<u64, Running>,
    schema: Option<Arc<Schema>>,
    /// Rows of `_Server.Database`; `None` until it answered.
    server: Option<BTreeMap<Uuid, Row>>,
    serving: bool,
}

struct Running {
    feed: Weak<Feed>,
    dialect: Dialect,
}

enum Pending {
    Schema,
    Server,
    Feed { id: u64, dialect: Dialect },
    Echo,
    Cancel,
    Call { reply: oneshot::Sender<Outcome>, end: u64 },
}

impl Link {
    /// A link that greets.
    pub(super) fn new(shared: Arc<Shared>, epoch: u64) -> Self {
        let mut link = Link {
            shared,
            epoch,
            out: BytesMut::new(),
            queued: 0,
            written: 0,
            next: 1,
            pending: HashMap::new(),
            feeds: BTreeMap::new(),
            schema: None,
            server: None,
            serving: false,
        };
        let database = link.shared.options.database.clone();
        link.ask("get_schema", &[&database], Pending::Schema);
        let columns = serde_json::json!({"Database": [{"columns": ["name", "model", "connected", "leader"]}]});
        link.ask("monitor", &("_Server", SERVER_FEED, columns), Pending::Server);
        link
    }

    /// Whether requests and monitors are served.
    pub(super) fn serving(&self) -> bool {
        self.serving
    }

    /// Whether one more request may be taken.
    pub(super) fn takes(&self) -> bool {
        self.serving && self.pending.len() < IN_FLIGHT && self.out.len() < BACKLOG
    }

    pub(super) fn schema(&self) -> Option<&Arc<Schema>> {
        self.schema.as_ref()
    }

    /// So many bytes of `out` were written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
        self.shared.counters.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Sends a caller's request.
    pub(super) fn push(&mut self, request: Request) {
        let Request { body, epoch, ticket, reply } = request;
        if epoch.is_some_and(|wanted| wanted != self.epoch) {
            let _ = reply.send(Outcome::NotSent("the connection it was meant for is gone".into()));
            return;
        }
        if ticket.take() {
            let id = self.begin();
            self.put(&body);
            self.pending.insert(id, Pending::Call { reply, end: self.queued });
        }
    }

    /// Asks for a sign of life.
    pub(super) fn probe(&mut self) {
        self.ask("echo", &[0; 0], Pending::Echo);
    }

    /// Starts the feeds that do not run yet, forgets those that nobody has any more.
    pub(super) fn start_feeds(&mut self) {
        let known: Vec<(u64, Weak<Feed>)> = {
            let mut feeds = self.shared.feeds();
            feeds.retain(|_, feed| feed.strong_count() > 0);
            feeds.iter().map(|(id, feed)| (*id, Weak::clone(feed))).collect()
        };
        for (id, weak) in known {
            if let Some(feed) = weak.upgrade().filter(|_| !self.feeds.contains_key(&id)) {
                self.feeds.insert(id, Running { feed: weak, dialect: Dialect::Since });
                self.start_feed(&feed, Dialect::Since);
            }
        }
    }

    fn start_feed(&mut self, feed: &Feed, dialect: Dialect) {
        let Some(schema) = self.schema.clone() else { return };
        let (tables, last) = feed.ask(&schema, dialect);
        let database = self.shared.options.database.clone();
        let pending = Pending::Feed { id: feed.id(), dialect };
        match dialect {
            Dialect::Since => self.ask(dialect.method(), &(&database, feed.id(), tables, last), pending),
            Dialect::Cond | Dialect::Old => self.ask(dialect.method(), &(&database, feed.id(), tables), pending),
        }
    }

    /// Takes a message; what is to be answered is in `out` after it.
    pub(super) fn receive(&mut self, message: Message) -> Result<(), String> {
        match message {
            Message::Reply { id, outcome } => match self.pending.remove(&id) {
                None => Err(format!("an answer to request {id}, which was not asked")),
                Some(pending) => self.answered(pending, outcome),
            },
            Message::Notification { method, params } => self.notified(&method, &params),
            Message::Request { id, method, params } => self.asked(&id, &method, &params),
        }
    }

    fn answered(&mut self, pending: Pending, outcome: Result<Bytes, Bytes>) -> Result<(), String> {
        match (pending, outcome) {
            (Pending::Call { reply, .. }, outcome) => {
                // A caller that gave up does not listen.
                let _ = reply.send(Outcome::Answered(outcome));
                Ok(())
            }
            (Pending::Schema, Ok(text)) => {
                let schema = serde_json::from_slice(&text).map_err(|e| format!("its schema is not understood: {e}"))?;
                self.schema = Some(Arc::new(schema));
                self.greet()
            }
            (Pending::Schema, Err(error)) => Err(format!("it does not give its schema: {}", refusal(&error))),
            (Pending::Server, outcome) => {
                self.server = Some(BTreeMap::new());
                match outcome {
                    Ok(text) => self.server_changed(parse(&text)?)?,
                    // Servers before 2.9 have no such database, and no clusters.
                    Err(error) => debug!(error = %refusal(&error), "no database _Server"),
                }
                self.greet()
            }
            (Pending::Feed { id, dialect }, outcome) => self.feed_began(id, dialect, outcome),
            (Pending::Echo | Pending::Cancel, _) => Ok(()),
        }
    }

    /// Once both are known: is it what was asked for?
    fn greet(&mut self) -> Result<(), String> {
        let (Some(schema), Some(_), false) = (&self.schema, &self.server, self.serving) else { return Ok(()) };
        let lacks = schema.lacks(&self.shared.options.needs);
        if !lacks.is_empty() {
            return Err(format!("its schema, version {}, lacks {}", schema.version, lacks.join(", ")));
        }
        self.fits()?;
        self.serving = true;
        self.shared.counters.links.fetch_add(1, Ordering::Relaxed);
        self.start_feeds();
        Ok(())
    }

    /// Whether the server may be used for this database, as `_Server` has it.
    fn fits(&self) -> Result<(), String> {
        let options = &self.shared.options;
        let named = |row: &&Row| row.get("name").and_then(Datum::as_str) == Some(options.database.as_str());
        let Some(row) = self.server.iter().flat_map(BTreeMap::values).find(named) else { return Ok(()) };
        let is = |column| row.get(column).and_then(Datum::as_bool).unwrap_or(true);
        match (is("connected"), is("leader")) {
            (false, _) => Err("it has lost its cluster".into()),
            (true, false) if options.leader_only => Err("it is not the leader of its cluster".into()),
            (true, _) => Ok(()),
        }
    }

    fn server_changed(&mut self, updates: OldUpdates) -> Result<(), String> {
        let rows = self.server.get_or_insert_default();
        for (row, change) in updates.0.into_values().flatten() {
            match change.new {
                Some(new) => drop(rows.insert(row, new)),
                None => drop(rows.remove(&row)),
            }
        }
        match self.serving {
            true => self.fits(),
            false => Ok(()),
        }
    }

    fn feed_began(&mut self, id: u64, dialect: Dialect, outcome: Result<Bytes, Bytes>) -> Result<(), String> {
        let Some(running) = self.feeds.get_mut(&id) else { return Ok(()) };
        let Some(feed) = running.feed.upgrade() else { return Ok(()) };
        let error = match outcome {
            Ok(text) => {
                running.dialect = dialect;
                let resumed = feed.begin(dialect, &text, self.epoch)?;
                let counters = &self.shared.counters;
                if resumed { &counters.resumed } else { &counters.full }.fetch_add(1, Ordering::Relaxed);
                feed.announce();
                return Ok(());
            }
            Err(error) => refusal(&error),
        };
        match dialect.older().filter(|_| error.error.contains("unknown method")) {
            Some(older) => {
                debug!(method = dialect.method(), "the server does not know it");
                self.start_feed(&feed, older);
            }
            None => {
                warn!(database = self.shared.options.database, %error, "a monitor was refused");
                feed.refuse(error);
            }
        }
        Ok(())
    }

    fn notified(&mut self, method: &str, params: &[u8]) -> Result<(), String> {
        let (id, last, updates) = match method {
            "update3" => {
                let (id, last, updates): (u64, Uuid, Updates) = parse(params)?;
                (id, Some(last), updates)
            }
            "update2" => {
                let (id, updates): (u64, Updates) = parse(params)?;
                (id, None, updates)
            }
            "update" => {
                let (id, updates): (u64, OldUpdates) = parse(params)?;
                if id == SERVER_FEED {
                    return self.server_changed(updates);
                }
                (id, None, updates.into())
            }
            "monitor_canceled" => return Err("the database was taken away".into()),
            // Locks and what is yet to be invented: not asked for.
            _ => return Ok(()),
        };
        match self.feeds.get(&id).and_then(|running| running.feed.upgrade()) {
            Some(feed) => feed.update(last, updates),
            None => {
                if self.feeds.remove(&id).is_some() {
                    self.ask("monitor_cancel", &[id], Pending::Cancel);
                }
                Ok(())
            }
        }
    }

    fn asked(&mut self, id: &[u8], method: &str, params: &[u8]) -> Result<(), String> {
        if self.out.len() > self.shared.options.limit {
            return Err("it asks, and does not read the answers".into());
        }
        self.put(b"{\"id\":");
        self.put(id);
        match method {
            "echo" => {
                self.put(b",\"error\":null,\"result\":");
                self.put(params);
            }
            _ => self.put(b",\"result\":null,\"error\":\"unknown method\""),
        }
        self.put(b"}");
        Ok(())
    }

    fn ask(&mut self, method: &str, params: &impl Serialize, pending: Pending) {
        let id = self.begin();
        self.put(format!("\"method\":\"{method}\",\"params\":").as_bytes());
        // What we write is made of texts and numbers, and keys are texts.
        self.put(&serde_json::to_vec(params).unwrap_or_default());
        self.put(b"}");
        self.pending.insert(id, pending);
    }

    fn begin(&mut self) -> u64 {
        let id = self.next;
        self.next += 1;
        self.put(format!("{{\"id\":{id},").as_bytes());
        id
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        self.queued += bytes.len() as u64;
    }

    /// The link is gone: whoever waits is told what is known.
    pub(super) fn end(self, why: &str) {
        for pending in self.pending.into_values() {
            if let Pending::Call { reply, end } = pending {
                // A server cannot carry out what it has only a part of.
                let _ = reply.send(match end > self.written {
                    true => Outcome::NotSent(why.to_owned()),
                    false => Outcome::Lost(why.to_owned()),
                });
            }
        }
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(text: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|e| format!("a message is not understood: {e}"))
}

#[cfg(test)]
mod tests;
