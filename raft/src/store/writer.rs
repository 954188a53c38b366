//! The one thread that writes the log: everything that waits is written and synced together (group commit).
//!
//! ```text
//!   Op ... Op ---> [collect what is there] -> one frame -> fdatasync -> acknowledge each
//!                          | does not fit: the spare becomes the next segment, a new spare is made aside (`spare`)
//! ```
//! After a failed write or sync nothing more is written: what the page cache then says about the disk cannot be trusted.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{debug, error};

use super::segment::{self, Head, Kind};
use super::spare::Spare;
use crate::metrics::Metrics;
use crate::types::{IoFlushed, LogId, Vote};

/// How long the committed index may wait for another write to travel with.
const COMMITTED_DELAY: Duration = Duration::from_millis(200);
/// A commit is not made larger than this by waiting operations.
const MAX_COMMIT: usize = 1 << 20;

/// One change of the log.
pub(crate) enum Op {
    /// Records that are encoded already; `last` is the greatest index among them.
    Entries {
        records: Vec<u8>,
        last: u64,
        done: IoFlushed,
    },
    Vote(Vote, Reply),
    Truncate(Option<LogId>, Reply),
    Purge(LogId, Reply),
    /// Not worth a sync of its own.
    Committed(LogId),
    Stop(Reply),
}

pub(crate) type Reply = oneshot::Sender<io::Result<()>>;

enum Done {
    Flushed(IoFlushed),
    Reply(Reply),
}

impl Done {
    fn tell(self, result: io::Result<()>) {
        match self {
            Done::Flushed(flushed) => flushed.io_completed(result),
            // Whoever asked may have gone; the write stands all the same.
            Done::Reply(reply) => drop(reply.send(result)),
        }
    }
}

/// A segment that is full.
#[derive(Debug)]
pub(crate) struct Old {
    pub(crate) path: PathBuf,
    /// Greatest index that it holds an entry of.
    pub(crate) last: Option<u64>,
}

/// The segment being written.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) head: Head,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) last: Option<u64>,
}

/// What each new segment repeats, so that older ones can go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogId>,
    pub(crate) committed: Option<LogId>,
}

pub(crate) struct Writer {
    pub(crate) dir: PathBuf,
    pub(crate) current: Current,
    pub(crate) old: std::collections::VecDeque<Old>,
    pub(crate) next_sequence: u64,
    pub(crate) facts: Facts,
    pub(crate) unwritten_commit: bool,
    pub(crate) spare: Arc<Spare>,
    pub(crate) metrics: Metrics,
}

pub(crate) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("log-{number:016}"))
}

pub(crate) fn open_segment(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).mode(0o600).open(path)
}

impl Writer {
    /// Works until it is told to stop, its queue is dropped, or a write fails.
    pub(crate) fn run(mut self, queue: &Receiver<Op>) {
        loop {
            let first = match self.unwritten_commit {
                true => queue.recv_timeout(COMMITTED_DELAY),
                false => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let mut batch = Batch::default();
            match first {
                Ok(op) => self.take(op, &mut batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => batch.stop = true,
            }
            while batch.payload.len() < MAX_COMMIT && !batch.stop {
                let Ok(op) = queue.try_recv() else { break };
                self.take(op, &mut batch);
            }
            let idle = batch.payload.is_empty() && batch.error.is_none();
            if idle && batch.done.is_empty() && batch.committed_only && !batch.stop {
                continue;
            }
            let stop = batch.stop;
            if let Err(failed) = self.commit(batch) {
                error!(error = %failed, path = %self.current.path.display(), "the replicated log cannot be written");
                self.spare.fail(&failed);
                // Acknowledges with an error whatever still comes.
                refuse_all(queue, &failed);
                return;
            }
            if stop {
                return;
            }
        }
    }

    fn take(&mut self, op: Op, batch: &mut Batch) {
        match op {
            Op::Entries { records, last, done } => {
                batch.payload.extend_from_slice(&records);
                batch.last = Some(batch.last.map_or(last, |l| l.max(last)));
                batch.done.push(Done::Flushed(done));
            }
            Op::Vote(vote, reply) => {
                batch.record(Kind::Vote, &vote);
                self.facts.vote = Some(vote);
                batch.done.push(Done::Reply(reply));
            }
            Op::Truncate(after, reply) => {
                batch.record(Kind::Truncate, &after);
                batch.done.push(Done::Reply(reply));
            }
            Op::Purge(upto, reply) => {
                batch.record(Kind::Purge, &upto);
                self.facts.purged = Some(upto);
                batch.done.push(Done::Reply(reply));
            }
            Op::Committed(committed) => {
                self.facts.committed = Some(committed);
                self.unwritten_commit = true;
                batch.committed_only = true;
            }
            Op::Stop(reply) => {
                batch.stop = true;
                batch.done.push(Done::Reply(reply));
            }
        }
    }

    /// Writes and syncs one frame, then tells everybody.
    fn commit(&mut self, mut batch: Batch) -> io::Result<()> {
        if self.unwritten_commit
            && let Some(committed) = self.facts.committed
        {
            batch.record(Kind::Committed, &committed);
        }
        let written = match batch.error.take() {
            Some(error) => Err(error),
            None if batch.payload.is_empty() => Ok(()),
            None => self.write(&batch),
        };
        if written.is_ok() {
            self.unwritten_commit = false;
            self.drop_old();
        }
        for done in batch.done {
            done.tell(written.as_ref().copied().map_err(same));
        }
        written
    }

    fn write(&mut self, batch: &Batch) -> io::Result<()> {
        let began = Instant::now();
        let size = segment::frame_size(batch.payload.len()) as u64;
        let mut bytes = Vec::with_capacity(size as usize);
        if self.current.offset + size > self.current.length {
            self.rotate(size)?;
            bytes.extend(self.current.head.encode());
            let repeated = self.facts_payload()?;
            segment::put_frame(&mut bytes, &repeated, self.next_sequence, self.current.head.salt);
            self.next_sequence += 1;
            self.current.offset = 0;
        }
        segment::put_frame(&mut bytes, &batch.payload, self.next_sequence, self.current.head.salt);
        self.next_sequence += 1;
        self.current.file.write_all_at(&bytes, self.current.offset)?;
        self.current.file.sync_data()?;
        self.current.offset += bytes.len() as u64;
        self.current.last = self.current.last.max(batch.last);
        self.spare.set_room(self.current.length - self.current.offset);
        self.metrics.fsync_seconds.observe(began.elapsed().as_secs_f64());
        Ok(())
    }

    fn facts_payload(&self) -> io::Result<Vec<u8>> {
        let mut payload = Vec::new();
        if let Some(vote) = &self.facts.vote {
            segment::put_record(&mut payload, Kind::Vote, vote)?;
        }
        if let Some(purged) = &self.facts.purged {
            segment::put_record(&mut payload, Kind::Purge, purged)?;
        }
        if let Some(committed) = &self.facts.committed {
            segment::put_record(&mut payload, Kind::Committed, committed)?;
        }
        Ok(payload)
    }

    fn rotate(&mut self, needed: u64) -> io::Result<()> {
        let number = self.current.head.number + 1;
        let path = segment_path(&self.dir, number);
        let repeated = self.facts_payload()?.len();
        let length = self.spare.take(&path, (segment::HEAD + segment::frame_size(repeated)) as u64 + needed)?;
        let file = open_segment(&path)?;
        debug!(number, "a new log segment");
        let head = Head { number, salt: rand::random(), first_sequence: self.next_sequence };
        let next = Current { file, path, head, offset: 0, length, last: None };
        let full = std::mem::replace(&mut self.current, next);
        self.old.push_back(Old { path: full.path, last: full.last });
        Ok(())
    }

    /// Removes segments, oldest first, that hold nothing but purged entries.
    fn drop_old(&mut self) {
        let purged = self.facts.purged.as_ref().map(|id| id.index());
        while let Some(first) = self.old.front()
            && (first.last.is_none() || first.last <= purged)
        {
            if let Err(error) = fs::remove_file(&first.path) {
                // It is only space: looked at again after the next commit.
                error!(%error, path = %first.path.display(), "an old log segment cannot be removed");
                return;
            }
            self.old.pop_front();
        }
    }
}

#[derive(Default)]
struct Batch {
    payload: Vec<u8>,
    last: Option<u64>,
    done: Vec<Done>,
    error: Option<io::Error>,
    committed_only: bool,
    stop: bool,
}

impl Batch {
    fn record(&mut self, kind: Kind, value: &impl serde::Serialize) {
        if let Err(error) = segment::put_record(&mut self.payload, kind, value) {
            self.error.get_or_insert(error);
        }
    }
}

/// An error for each of those who wait.
pub(crate) fn same(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

fn refuse_all(queue: &Receiver<Op>, error: &io::Error) {
    while let Ok(op) = queue.recv() {
        match op {
            Op::Entries { done, .. } => done.io_completed(Err(same(error))),
            Op::Vote(_, reply) | Op::Truncate(_, reply) | Op::Purge(_, reply) => drop(reply.send(Err(same(error)))),
            Op::Committed(_) => {}
            Op::Stop(reply) => {
                drop(reply.send(Err(same(error))));
                return;
            }
        }
    }
}
