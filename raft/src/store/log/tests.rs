//! What a crash, a full disk or a bad disk leaves, and what opening makes of it.

use std::fs;
use std::path::Path;

use openraft::entry::RaftEntry;
use openraft::storage::RaftLogStorageExt;
use openraft::vote::RaftLeaderId;
use tempfile::TempDir;

use super::*;
use crate::types::{Request, TypeConfig};

const LENGTH: u64 = 64 << 10;

fn metrics() -> Metrics {
    Metrics::register(&prometheus::Registry::new()).unwrap()
}

fn id(term: u64, index: u64) -> LogId {
    let leader = openraft::alias::LeaderIdOf::<TypeConfig>::new(term, 1);
    LogId::new(leader.to_committed(), index)
}

fn entry(index: u64, size: usize) -> Entry {
    // Not a single zero, as in real commands.
    let body: Vec<u8> =
        (0..size).map(|i| u8::try_from(1 + (i * 7 + usize::try_from(index).unwrap()) % 250).unwrap()).collect();
    Entry::new(id(1, index), openraft::EntryPayload::Normal(Request::from_wire(body.into())))
}

fn open(dir: &Path) -> Result<Log, Error> {
    Log::open(dir, LENGTH, metrics())
}

async fn closed_with(dir: &Path, sizes: &[usize]) {
    Log::create(dir, LENGTH).unwrap();
    let mut log = open(dir).unwrap();
    log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    for (index, size) in (0u64..).zip(sizes) {
        log.blocking_append([entry(index, *size)]).await.unwrap();
    }
    log.close().await.unwrap();
}

fn held(log: &Log) -> Vec<Entry> {
    log.content().range(&..)
}

/// Where the frames of a segment begin, and where the last one ends, without its padding.
fn frames(path: &Path) -> Vec<usize> {
    let bytes = fs::read(path).unwrap();
    let found = segment::scan(path, &bytes, true).unwrap();
    let mut at = segment::HEAD;
    let mut starts = Vec::new();
    for payload in &found.payloads {
        starts.push(at);
        at += segment::frame_size(payload.len());
    }
    starts.push(starts.last().unwrap() + 32 + found.payloads.last().unwrap().len() + 4);
    starts
}

#[tokio::test]
async fn reopens_as_it_was() {
    let dir = TempDir::new().unwrap();
    closed_with(dir.path(), &[10, 2000, 1]).await;
    let mut log = open(dir.path()).unwrap();
    assert_eq!(held(&log), [entry(0, 10), entry(1, 2000), entry(2, 1)]);
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(1, 1)));
    log.truncate_after(Some(id(1, 1))).await.unwrap();
    log.blocking_append([entry(2, 5)]).await.unwrap();
    log.save_committed(Some(id(1, 1))).await.unwrap();
    log.purge(id(1, 0)).await.unwrap();
    log.close().await.unwrap();
    let mut log = open(dir.path()).unwrap();
    assert_eq!(held(&log), [entry(1, 2000), entry(2, 5)]);
    assert_eq!(log.read_committed().await.unwrap(), Some(id(1, 1)));
    assert_eq!(log.get_log_state().await.unwrap().last_purged_log_id, Some(id(1, 0)));
}

#[tokio::test]
async fn a_committed_index_is_written_when_nothing_else_is() {
    let dir = TempDir::new().unwrap();
    closed_with(dir.path(), &[10]).await;
    let mut log = open(dir.path()).unwrap();
    log.save_committed(Some(id(1, 0))).await.unwrap();
    let path = segment_path(dir.path(), 1);
    let began = std::time::Instant::now();
    while replay(dir.path()).unwrap().content.facts.committed.is_none() {
        assert!(began.elapsed().as_secs() < 10, "not written: {}", path.display());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn segments_follow_each_other_and_old_ones_go() {
    let dir = TempDir::new().unwrap();
    let sizes: Vec<usize> = (0..400).map(|i| 100 + (i * 37) % 3000).collect();
    closed_with(dir.path(), &sizes).await;
    let many = numbers(dir.path()).unwrap();
    assert!(many.len() > 5, "{many:?}");
    let mut log = open(dir.path()).unwrap();
    assert_eq!(held(&log).len(), 400);
    log.purge(id(1, 390)).await.unwrap();
    log.close().await.unwrap();
    let few = numbers(dir.path()).unwrap();
    assert!(few.len() <= 2 && few.last() == many.last(), "{few:?}");
    let mut log = open(dir.path()).unwrap();
    assert_eq!(held(&log).first().unwrap().log_id, id(1, 391));
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(1, 1)), "each segment repeats the vote");
    // And goes on over several more.
    for index in 400..600 {
        log.blocking_append([entry(index, 900)]).await.unwrap();
    }
    log.close().await.unwrap();
    assert_eq!(held(&open(dir.path()).unwrap()).last().unwrap(), &entry(599, 900));
}

#[tokio::test]
async fn a_record_larger_than_a_segment_gets_its_own() {
    let dir = TempDir::new().unwrap();
    closed_with(dir.path(), &[10, 200_000, 10]).await;
    assert_eq!(held(&open(dir.path()).unwrap()).len(), 3);
}

/// The file ends at every byte of the last record: it was never acknowledged, and what came before is whole.
#[tokio::test]
async fn a_last_record_cut_off_anywhere_is_dropped() {
    let dir = TempDir::new().unwrap();
    closed_with(dir.path(), &[10, 20, 1500]).await;
    let path = segment_path(dir.path(), 1);
    let whole = fs::read(&path).unwrap();
    let frames = frames(&path);
    let [.., last, end] = frames[..] else { panic!("{frames:?}") };
    for cut in last..end {
        fs::write(&path, &whole[..cut]).unwrap();
        let replayed = replay(dir.path()).unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
        assert_eq!(replayed.content.entries.len(), 2, "cut at {cut}");
        assert_eq!(replayed.current.offset as usize, last);
    }
    // The log goes on after the repair.
    fs::write(&path, &whole[..last + 700]).unwrap();
    let mut log = open(dir.path()).unwrap();
    log.blocking_append([entry(2, 40)]).await.unwrap();
    log.close().await.unwrap();
    assert_eq!(held(&open(dir.path()).unwrap()), [entry(0, 10), entry(1, 20), entry(2, 40)]);
}

/// Any set of sectors of the last record was not written.
#[tokio::test]
async fn a_last_record_with_unwritten_sectors_is_dropped() {
    let dir = TempDir::new().unwrap();
    closed_with(dir.path(), &[10, 20, 2500]).await;
    let path = segment_path(dir.path(), 1);
    let whole = fs::read(&path).unwrap();
    let frames = frames(&path);
    let [.., last, end] = frames[..] else { panic!("{frames:?}") };
    let sectors: Vec<(usize, usize)> =
        (last / 512..end.div_ceil(512)).map(|s| ((s * 512).max(last), ((s + 1) * 512).min(end))).collect();
    for missing in 1u32..1 << sectors.len() {
        let mut torn = whole.clone();
        for (at, (from, to)) in sectors.iter().enumerate() {
            if missing & (1 << at) != 0 {
                torn[*from..*to].fill(0);
            }
        }
        if torn == whole {
            continue;
        }
        fs::write(&path, &torn).unwrap();
        let replayed = replay(dir.path()).unwrap_or_else(|e| panic!("without {missing:b}: {e}"));
        assert_eq!(replayed.content.entries.len(), 2, "without {missing:b}");
    }
}

/// Any byte of any record is changed: acknowledged data is gone, and that is said.
#[tokio::test]
async fn a_changed_byte_is_damage() {
    let dir = TempDir::new().unwrap();
    closed_with(dir.path(), &[10, 300, 900]).await;
    let path = segment_path(dir.path(), 1);
    let whole = fs::read(&path).unwrap();
    let starts = frames(&path);
    let found = segment::scan(&path, &whole, true).unwrap();
    let used: Vec<usize> = found
        .payloads
        .iter()
        .zip(&starts)
        .flat_map(|(payload, start)| *start..start + 32 + payload.len() + 4)
        .chain(0..40)
        .collect();
    for at in used {
        let mut bad = whole.clone();
        bad[at] ^= 0x40;
        fs::write(&path, &bad).unwrap();
        match replay(dir.path()) {
            Err(error @ Error::Damaged { .. }) => {
                assert!(error.to_string().contains("basalt cluster remove --force"), "{error}");
            }
            Err(other) => panic!("byte {at}: {other}"),
            Ok(_) => panic!("byte {at} was changed and nobody noticed"),
        }
    }
}

#[tokio::test]
async fn missing_and_erased_segments_are_damage() {
    let dir = TempDir::new().unwrap();
    let sizes = vec![1000; 300];
    closed_with(dir.path(), &sizes).await;
    let numbers = numbers(dir.path()).unwrap();
    assert!(numbers.len() > 4);
    for number in &numbers {
        let path = segment_path(dir.path(), *number);
        let whole = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let last = number == numbers.last().unwrap();
        // That the last one was there at all, nothing else says.
        assert!(last || matches!(replay(dir.path()), Err(Error::Damaged { .. })), "without {number}");
        for (from, to) in [(0, 512), (segment::HEAD, segment::HEAD + 2048), (8192, 8192 + 4096)] {
            let mut erased = whole.clone();
            erased[from..to].fill(0);
            fs::write(&path, &erased).unwrap();
            assert!(matches!(replay(dir.path()), Err(Error::Damaged { .. })), "{number} without {from}..{to}");
        }
        fs::write(&path, &whole).unwrap();
    }
    for number in numbers {
        fs::remove_file(segment_path(dir.path(), number)).unwrap();
    }
    assert!(matches!(replay(dir.path()), Err(Error::Damaged { .. })));
}

/// A crash between taking a spare and writing it.
#[tokio::test]
async fn a_segment_that_was_never_written_is_dropped() {
    let dir = TempDir::new().unwrap();
    closed_with(dir.path(), &[10, 20]).await;
    let unused = segment_path(dir.path(), 2);
    fs::write(&unused, vec![0; 64 << 10]).unwrap();
    let log = open(dir.path()).unwrap();
    assert_eq!(held(&log).len(), 2);
    assert!(!unused.exists());
}

#[tokio::test]
async fn a_failed_write_is_told_and_nothing_is_written_after_it() {
    let dir = TempDir::new().unwrap();
    Log::create(dir.path(), LENGTH).unwrap();
    let replayed = replay(dir.path()).unwrap();
    let (spare, maker) = Spare::start(dir.path(), LENGTH, LENGTH).unwrap();
    let mut current = replayed.current;
    // A file that cannot be written stands for a disk that cannot.
    current.file = File::open(segment_path(dir.path(), 1)).unwrap();
    let (queue, ops) = mpsc::channel();
    let writer = Writer {
        dir: dir.path().to_owned(),
        current,
        old: VecDeque::new(),
        next_sequence: replayed.next_sequence,
        facts: Facts::default(),
        unwritten_commit: false,
        spare: Arc::clone(&spare),
        metrics: metrics(),
    };
    let thread = std::thread::spawn(move || writer.run(&ops));
    for _ in 0..2 {
        let (reply, told) = oneshot::channel();
        queue.send(Op::Vote(Vote::new(1, 1), reply)).unwrap();
        told.await.unwrap().unwrap_err();
    }
    assert!(spare.broken().is_some() && spare.admit().is_err() && !spare.out_of_space());
    drop(queue);
    thread.join().unwrap();
    spare.stop();
    maker.join().unwrap();
}

/// Whatever is done to a log, what is read from disk is what was held in memory.
#[tokio::test]
async fn random_histories_are_read_back() {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    for seed in 0..12 {
        let mut random = SmallRng::seed_from_u64(seed);
        let dir = TempDir::new().unwrap();
        Log::create(dir.path(), LENGTH).unwrap();
        let mut log = open(dir.path()).unwrap();
        let (mut next, mut purged, mut term) = (0u64, None::<u64>, 1);
        for _ in 0..120 {
            let floor = purged.map_or(0, |p| p + 1);
            match random.random_range(0..12) {
                0..6 => {
                    let count = random.random_range(1..5);
                    let entries: Vec<_> =
                        (next..next + count).map(|i| entry(i, random.random_range(1..3000))).collect();
                    log.blocking_append(entries).await.unwrap();
                    next += count;
                }
                6 if next > floor => {
                    next = random.random_range(floor..next);
                    log.truncate_after(next.checked_sub(1).map(|i| id(1, i))).await.unwrap();
                }
                7 if next > floor => {
                    let upto = random.random_range(floor..next);
                    log.purge(id(1, upto)).await.unwrap();
                    purged = Some(upto);
                }
                8 => {
                    // As when a snapshot is installed that goes beyond the log.
                    next += 5;
                    purged = Some(next - 1);
                    log.purge(id(1, next - 1)).await.unwrap();
                }
                9 => {
                    term += 1;
                    log.save_vote(&Vote::new(term, 1)).await.unwrap();
                }
                _ => {
                    let before = (held(&log), log.read_vote().await.unwrap(), log.get_log_state().await.unwrap());
                    log.close().await.unwrap();
                    log = open(dir.path()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
                    let after = (held(&log), log.read_vote().await.unwrap(), log.get_log_state().await.unwrap());
                    assert_eq!(before, after, "seed {seed}");
                }
            }
        }
        log.close().await.unwrap();
    }
}
