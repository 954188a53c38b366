//! A session with one database: requests and monitors that outlive the links they run over.
//!
//! ```text
//! transact --> queue --> link: greeting --> serving --.      greeting: schema read and checked, _Server watched
//!    (deadline)          ^  (schema, leader)          |
//!                        '--- next remote, backoff ---'      lost | silent | not the leader any more
//! ```
//! A request is taken from the queue once. One that was not written whole when its link was lost was not sent; one that was,
//! and has no answer, is unknown. Nothing is sent a second time by itself: whoever asked looks first.

mod call;
mod drive;
mod link;
mod remote;
mod tls;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use basalt_runtime::Task;
use tokio::sync::{Notify, mpsc, watch};

use crate::monitor::{Feed, Monitor, MonitorTable};
use crate::ovsdb::op::{OpResult, Operation};
use crate::ovsdb::schema::Schema;
use crate::ovsdb::value::Name;
use crate::{Error, Refusal};

pub use remote::{Endpoint, Remote};
pub use tls::Tls;

/// How many requests wait for a link, at most.
const QUEUE: usize = 256;

/// What is wanted of a session.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// `OVN_Northbound`, `Open_vSwitch`, ...
    pub database: String,
    /// Of a cluster, use its leader only: what is read there is what was committed last.
    pub leader_only: bool,
    /// For remotes with TLS.
    pub tls: Option<Tls>,
    /// Tables and their columns without which the database is of no use.
    pub needs: Vec<(Name, Vec<Name>)>,
    /// How long a request may take, from the call to the answer, a wait for a link included.
    pub deadline: Duration,
    /// How long connecting and greeting may take.
    pub connect: Duration,
    /// A link that is silent for so long is asked for a sign of life, and dropped when it is silent for as long again.
    pub probe: Duration,
    /// The shortest and the longest pause after all remotes failed.
    pub retry: (Duration, Duration),
    /// The largest message that is taken, in bytes.
    pub limit: usize,
}

impl SessionOptions {
    /// The usual ones.
    pub fn new(database: impl Into<String>) -> Self {
        SessionOptions {
            database: database.into(),
            leader_only: false,
            tls: None,
            needs: Vec::new(),
            deadline: Duration::from_secs(30),
            connect: Duration::from_secs(10),
            probe: Duration::from_secs(5),
            retry: (Duration::from_millis(100), Duration::from_secs(5)),
            limit: 256 << 20,
        }
    }
}

/// How a session stands.
#[derive(Debug, Clone)]
pub enum Status {
    /// There is no link.
    Down {
        /// What each remote said last; empty at first.
        why: String,
    },
    /// There is one.
    Up {
        /// Where to.
        remote: Remote,
        /// The number of the link: each has one of its own, and a later one a greater.
        epoch: u64,
        /// The database's schema.
        schema: Arc<Schema>,
    },
}

impl Status {
    /// The number of the link, if there is one.
    pub fn epoch(&self) -> Option<u64> {
        match self {
            Status::Up { epoch, .. } => Some(*epoch),
            Status::Down { .. } => None,
        }
    }
}

/// What a session has done so far.
#[derive(Debug, Default)]
pub struct Counters {
    received: AtomicU64,
    sent: AtomicU64,
    links: AtomicU64,
    full: AtomicU64,
    resumed: AtomicU64,
}

/// [`Counters`] at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes from the database.
    pub received: u64,
    /// Bytes to it.
    pub sent: u64,
    /// Links that got as far as to serve.
    pub links: u64,
    /// Times that a monitor was given everything.
    pub full: u64,
    /// Times that it was given only what had changed since.
    pub resumed: u64,
}

/// A session. Cheap to clone; when the last clone (monitors have one) is gone, the link is closed.
#[derive(Debug, Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    queue: mpsc::Sender<call::Request>,
    _task: Task<()>,
}

/// What the handles and the background task share.
#[derive(Debug)]
pub(crate) struct Shared {
    options: SessionOptions,
    feeds: Mutex<BTreeMap<u64, Weak<Feed>>>,
    next_feed: AtomicU64,
    /// There is a feed that no link serves yet.
    wake: Notify,
    status: watch::Sender<Status>,
    counters: Counters,
}

impl Session {
    /// Begins to connect, in the background, and keeps connected. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// There is no remote, or one with TLS and no certificates.
    pub fn connect(remotes: Vec<Remote>, options: SessionOptions) -> Result<Self, Error> {
        match remotes.iter().find(|r| matches!(r, Remote::Ssl(_))) {
            _ if remotes.is_empty() => return Err(Error::invalid("remotes", "none is given")),
            Some(remote) if options.tls.is_none() => {
                return Err(Error::invalid(format!("remote {remote}"), "no certificates for TLS are given"));
            }
            Some(_) | None => {}
        }
        let shared = Arc::new(Shared {
            options,
            feeds: Mutex::default(),
            next_feed: AtomicU64::new(1),
            wake: Notify::new(),
            status: watch::channel(Status::Down { why: String::new() }).0,
            counters: Counters::default(),
        });
        let (queue, requests) = mpsc::channel(QUEUE);
        let task = basalt_runtime::spawn("ovsdb session", drive::run(Arc::clone(&shared), remotes, requests));
        Ok(Session { inner: Arc::new(Inner { shared, queue, _task: task }) })
    }

    /// Carries a transaction out: what each operation did.
    ///
    /// # Errors
    /// See [`Error`]: nothing happened if it was not sent or was refused. If this future is dropped, the outcome is unknown.
    pub async fn transact(&self, operations: Vec<Operation>) -> Result<Vec<OpResult>, Error> {
        self.call(None, &operations).await
    }

    /// The same, only over the link of this number: for what was worked out from tables of that link
    /// ([`crate::monitor::Tables::epoch`]). Over another it is not sent.
    ///
    /// # Errors
    /// As [`Session::transact`].
    pub async fn transact_on(&self, epoch: u64, operations: Vec<Operation>) -> Result<Vec<OpResult>, Error> {
        self.call(Some(epoch), &operations).await
    }

    /// Keeps copies of tables, from now on. It is loaded in the background: [`Monitor::loaded`].
    pub fn monitor(&self, tables: Vec<MonitorTable>) -> Monitor {
        let shared = &self.inner.shared;
        let feed = Arc::new(Feed::new(shared.next_feed.fetch_add(1, Ordering::Relaxed), tables));
        shared.feeds().insert(feed.id(), Arc::downgrade(&feed));
        shared.wake.notify_one();
        Monitor::new(self.clone(), feed)
    }

    /// How it stands, now and from now on.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.inner.shared.status.subscribe()
    }

    /// Waits for a link: its schema.
    ///
    /// # Errors
    /// [`Error::NotSent`] with what the remotes said, when there is none within the deadline.
    pub async fn connected(&self, deadline: Duration) -> Result<Arc<Schema>, Error> {
        let mut status = self.status();
        let up = async {
            loop {
                if let Status::Up { schema, .. } = &*status.borrow_and_update() {
                    return Arc::clone(schema);
                }
                // The sender lives as long as we do.
                let _ = status.changed().await;
            }
        };
        tokio::time::timeout(deadline, up).await.map_err(|_| self.not_sent(&self.no_link(deadline)))
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        let counters = &self.inner.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            received: read(&counters.received),
            sent: read(&counters.sent),
            links: read(&counters.links),
            full: read(&counters.full),
            resumed: read(&counters.resumed),
        }
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.inner.shared.options.database
    }

    fn no_link(&self, deadline: Duration) -> String {
        match &*self.inner.shared.status.borrow() {
            Status::Down { why } if !why.is_empty() => format!("no connection within {deadline:?}: {why}"),
            Status::Down { .. } | Status::Up { .. } => format!("no connection within {deadline:?}"),
        }
    }

    fn not_sent(&self, why: &str) -> Error {
        Error::NotSent { database: self.database().to_owned(), why: why.to_owned() }
    }

    fn unknown(&self, why: impl Into<String>) -> Error {
        Error::Unknown { database: self.database().to_owned(), why: why.into() }
    }

    fn refused(&self, refusal: Refusal) -> Error {
        Error::Refused { database: self.database().to_owned(), refusal: Box::new(refusal) }
    }
}

impl Shared {
    fn feeds(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Weak<Feed>>> {
        // A map of handles is whole between any two statements.
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
