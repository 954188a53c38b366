//! The log: in memory to be read, in segments on disk to last.
//!
//! All entries since the last purge are held in memory (commands stay encoded), so reading never touches the disk and
//! the size of the log is bounded by the snapshot policy. What is written goes through one queue to one thread
//! ([`super::writer`]), in the order of the calls.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::ops::{Bound, RangeBounds};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use openraft::storage::{LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::oneshot;
use tracing::warn;

use super::segment::{self, Head, Kind};
use super::spare::{self, Spare};
use super::writer::{Current, Facts, Old, Op, Reply, Writer, open_segment, segment_path};
use crate::Error;
use crate::metrics::Metrics;
use crate::types::{Entry, IoFlushed, LogId, TypeConfig, Vote};

/// What is in the log.
#[derive(Debug, Default)]
struct Content {
    facts: Facts,
    /// Consecutive; the first is the one after `facts.purged`.
    entries: VecDeque<Entry>,
}

/// Handle of the log; clones are the same log. Reads and writes for openraft.
#[derive(Debug, Clone)]
pub(crate) struct Log(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    content: Mutex<Content>,
    /// Unbounded: an entry that waits here is in memory already, and all else waits for its reply.
    queue: mpsc::Sender<Op>,
    spare: Arc<Spare>,
    metrics: Metrics,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.spare.stop();
    }
}

/// Largest command that may enter the log.
pub(crate) const MAX_COMMAND: usize = 1 << 20;

impl Log {
    /// Makes an empty log, in place of whatever is there.
    pub(crate) fn create(dir: &Path, length: u64) -> Result<(), Error> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(Error::io("create", dir))?;
        for number in numbers(dir)? {
            let path = segment_path(dir, number);
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        let path = segment_path(dir, 1);
        spare::make(dir, &path, length).map_err(Error::io("create", &path))?;
        let head = Head { number: 1, salt: rand::random(), first_sequence: 1 };
        let file = open_segment(&path).map_err(Error::io("open", &path))?;
        file.write_all_at(&head.encode(), 0).and_then(|()| file.sync_all()).map_err(Error::io("write", &path))
    }

    /// Reads the log and starts its writer.
    pub(crate) fn open(dir: &Path, length: u64, metrics: Metrics) -> Result<Self, Error> {
        let Replayed { content, current, old, next_sequence } = replay(dir)?;
        let (spare, maker) = Spare::start(dir, length, current.length.saturating_sub(current.offset))
            .map_err(Error::io("start the writer of", dir))?;
        let (queue, ops) = mpsc::channel();
        let writer = Writer {
            dir: dir.to_owned(),
            current,
            old: old.into(),
            next_sequence,
            facts: content.facts.clone(),
            unwritten_commit: false,
            spare: Arc::clone(&spare),
            metrics: metrics.clone(),
        };
        let writer = std::thread::Builder::new()
            .name("raft-log".into())
            .spawn(move || writer.run(&ops))
            .map_err(Error::io("start the writer of", dir))?;
        let threads = Mutex::new(vec![maker, writer]);
        let log = Log(Arc::new(Shared { content: Mutex::new(content), queue, spare, metrics, threads }));
        log.count();
        Ok(log)
    }

    /// Whether users' commands may enter the log; else why not.
    pub(crate) fn admit(&self) -> Result<(), String> {
        self.0.spare.admit()
    }

    /// Whether a leader's entries may enter the log; else why not.
    pub(crate) fn admit_replicated(&self) -> Result<(), String> {
        self.0.spare.admit_replicated()
    }

    /// Why nothing can be written any more, if so.
    pub(crate) fn broken(&self) -> Option<String> {
        self.0.spare.broken()
    }

    /// Whether it is for want of space that nothing can be written any more.
    pub(crate) fn out_of_space(&self) -> bool {
        self.0.spare.out_of_space()
    }

    pub(crate) fn purged(&self) -> Option<LogId> {
        self.content().facts.purged
    }

    /// Writes what waits and ends the threads, so that the folder can be opened again.
    pub(crate) async fn close(&self) -> io::Result<()> {
        let closed = self.submit(Op::Stop).await;
        self.0.spare.stop();
        let threads = std::mem::take(&mut *self.0.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let joined = basalt_runtime::spawn_blocking("raft-log-close", move || {
            threads.into_iter().all(|thread| thread.join().is_ok())
        });
        match joined.await {
            Ok(true) => closed,
            Ok(false) | Err(_) => Err(io::Error::other("a thread of the log panicked")),
        }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // A panic while it is held can only be one of memory allocation.
        self.0.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, op: Op) -> io::Result<()> {
        self.0.queue.send(op).map_err(|_| io::Error::other("the log is closed"))
    }

    async fn submit(&self, op: impl FnOnce(Reply) -> Op) -> io::Result<()> {
        let (reply, done) = oneshot::channel();
        self.enqueue(op(reply))?;
        done.await.unwrap_or_else(|_| Err(io::Error::other("the log is closed")))
    }

    fn count(&self) {
        let content = self.content();
        self.0.metrics.log_entries.set(i64::try_from(content.entries.len()).unwrap_or(i64::MAX));
    }
}

impl Content {
    fn truncate_after(&mut self, after: Option<u64>) {
        while self.entries.back().is_some_and(|e| after.is_none_or(|a| e.log_id.index() > a)) {
            self.entries.pop_back();
        }
    }

    fn purge(&mut self, upto: LogId) {
        while self.entries.front().is_some_and(|e| e.log_id.index() <= upto.index()) {
            self.entries.pop_front();
        }
        self.facts.purged = self.facts.purged.max(Some(upto));
    }

    fn range(&self, range: &impl RangeBounds<u64>) -> Vec<Entry> {
        let Some(first) = self.entries.front().map(|e| e.log_id.index()) else { return Vec::new() };
        let begin = match range.start_bound() {
            Bound::Included(i) => *i,
            Bound::Excluded(i) => i.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(i) => i.saturating_add(1),
            Bound::Excluded(i) => *i,
            Bound::Unbounded => u64::MAX,
        };
        let clamp = |i: u64| usize::try_from(i.saturating_sub(first)).unwrap_or(usize::MAX).min(self.entries.len());
        let (begin, end) = (clamp(begin), clamp(end));
        self.entries.range(begin.min(end)..end).cloned().collect()
    }
}

impl RaftLogReader<TypeConfig> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + std::fmt::Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.content().range(&range))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.content().facts.vote)
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let content = self.content();
        let purged = content.facts.purged;
        let last = content.entries.back().map(|e| e.log_id).or(purged);
        Ok(LogState { last_purged_log_id: purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.submit(|reply| Op::Vote(*vote, reply)).await?;
        self.content().facts.vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.content().facts.committed = Some(committed);
            self.enqueue(Op::Committed(committed))?;
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.content().facts.committed)
    }

    async fn append<I>(&mut self, entries: I, done: IoFlushed) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        let mut last = 0;
        {
            let mut content = self.content();
            for entry in entries {
                segment::put_record(&mut records, Kind::Entry, &entry)?;
                last = entry.log_id.index();
                content.entries.push_back(entry);
            }
        }
        self.count();
        self.enqueue(Op::Entries { records, last, done })
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.content().truncate_after(last_log_id.as_ref().map(|id| id.index()));
        self.count();
        self.submit(|reply| Op::Truncate(last_log_id, reply)).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.content().purge(log_id);
        self.count();
        self.submit(|reply| Op::Purge(log_id, reply)).await
    }
}

/// Numbers of the segments in `dir`, in order.
fn numbers(dir: &Path) -> Result<Vec<u64>, Error> {
    let listed = match fs::read_dir(dir) {
        Ok(listed) => listed,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("list", dir)(e)),
    };
    let mut numbers = Vec::new();
    for item in listed {
        let name = item.map_err(Error::io("list", dir))?.file_name();
        numbers.extend(name.to_str().and_then(|n| n.strip_prefix("log-")?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

struct Replayed {
    content: Content,
    current: Current,
    old: Vec<Old>,
    next_sequence: u64,
}

/// Reads all segments in order. Refuses gaps: between segments, between records, between entries.
fn replay(dir: &Path) -> Result<Replayed, Error> {
    let numbers = numbers(dir)?;
    let mut content = Content::default();
    let mut tails: Vec<Tail> = Vec::new();
    for (at, number) in numbers.iter().enumerate() {
        let path = segment_path(dir, *number);
        let last = at + 1 == numbers.len();
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let expected = tails.last().map(|t| t.next_sequence);
        if let (true, Some(expected)) = (last, expected)
            && segment::never_used(&bytes, expected)
        {
            // A crash came between the rename of a spare and the end of the first write into it.
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            break;
        }
        let found = segment::scan(&path, &bytes, last)?;
        let in_order = found.head.number == *number && numbers[0] + at as u64 == *number;
        if !in_order || expected.is_some_and(|e| e != found.head.first_sequence) {
            return Err(Error::damaged(&path, "a segment of the log is missing or cut off before this one"));
        }
        let mut greatest = None;
        for payload in &found.payloads {
            greatest = greatest.max(apply_records(&path, payload, &mut content)?);
        }
        tails.push(Tail {
            head: found.head,
            next_sequence: found.next_sequence,
            end: found.end.min(bytes.len()),
            torn: found.torn,
            length: bytes.len(),
            greatest,
            path,
        });
    }
    let Some(tail) = tails.pop() else { return Err(Error::damaged(dir, "the log is missing")) };
    let first = content.entries.front().map(|e| e.log_id.index());
    let expected = content.facts.purged.as_ref().map_or(0, |p| p.index() + 1);
    if first.is_some_and(|first| first != expected) {
        return Err(Error::damaged(dir, format!("the log begins at {first:?} instead of {expected}")));
    }
    let next_sequence = tail.next_sequence;
    let old = tails.into_iter().map(|t| Old { path: t.path, last: t.greatest }).collect();
    Ok(Replayed { content, current: tail.open()?, old, next_sequence })
}

/// What replay learnt of one segment.
struct Tail {
    path: PathBuf,
    head: Head,
    next_sequence: u64,
    end: usize,
    torn: bool,
    length: usize,
    greatest: Option<u64>,
}

impl Tail {
    fn open(self) -> Result<Current, Error> {
        let file = open_segment(&self.path).map_err(Error::io("open", &self.path))?;
        if self.torn {
            warn!(
                path = %self.path.display(),
                offset = self.end,
                "the end of the log was torn by a crash; it was never acknowledged and is dropped"
            );
            erase(&file, self.end, self.length).map_err(Error::io("repair", &self.path))?;
        }
        let Tail { path, head, end, length, greatest, .. } = self;
        Ok(Current { file, path, head, offset: end as u64, length: length as u64, last: greatest })
    }
}

fn erase(file: &File, from: usize, length: usize) -> io::Result<()> {
    let zeros = vec![0; length.saturating_sub(from)];
    file.write_all_at(&zeros, from as u64)?;
    file.sync_all()
}

/// Applies one frame's records; says the greatest index of an entry among them.
fn apply_records(path: &Path, payload: &[u8], content: &mut Content) -> Result<Option<u64>, Error> {
    fn decode<T: serde::de::DeserializeOwned>(path: &Path, body: &[u8]) -> Result<T, Error> {
        rmp_serde::from_slice(body).map_err(|e| Error::damaged(path, format!("a record cannot be read: {e}")))
    }
    let mut greatest = None;
    for record in segment::records(payload) {
        let (kind, body) = record.map_err(|what| Error::damaged(path, what))?;
        match kind {
            Kind::Vote => content.facts.vote = Some(decode(path, body)?),
            Kind::Committed => content.facts.committed = Some(decode(path, body)?),
            Kind::Purge => content.purge(decode(path, body)?),
            Kind::Truncate => {
                let after: Option<LogId> = decode(path, body)?;
                content.truncate_after(after.map(|id| id.index()));
            }
            Kind::Entry => {
                let entry: Entry = decode(path, body)?;
                let index = entry.log_id.index();
                // The first may follow entries whose segment is gone; whether they were purged is seen at the end.
                if content.entries.back().is_some_and(|last| last.log_id.index() + 1 != index) {
                    return Err(Error::damaged(path, format!("entry {index} does not follow the one before it")));
                }
                content.entries.push_back(entry);
                greatest = greatest.max(Some(index));
            }
        }
    }
    Ok(greatest)
}

#[cfg(test)]
mod tests;
