use proptest::prelude::*;
use tokio::io::DuplexStream;

use super::*;
use crate::port::files::FileKind;
use crate::stream::files::fake::MemoryFiles;

fn id() -> InstanceId {
    InstanceId(uuid::Uuid::nil())
}

/// A client that speaks in bytes.
struct Client {
    stream: DuplexStream,
    next: u32,
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    kind: u8,
    id: u32,
    rest: Vec<u8>,
}

impl Answer {
    fn code(&self) -> u32 {
        assert_eq!(self.kind, 101, "{self:?}");
        self.number(0)
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.rest[at..at + 4].try_into().unwrap())
    }

    fn string(&self, at: usize) -> &[u8] {
        let length = self.number(at) as usize;
        &self.rest[at + 4..at + 4 + length]
    }

    fn handle(&self) -> Vec<u8> {
        assert_eq!(self.kind, 102, "{self:?}");
        text(self.string(0))
    }
}

fn text(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut out = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

fn number(value: u32) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

fn long(value: u64) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

impl Client {
    async fn new(files: &Arc<MemoryFiles>) -> Client {
        let mut client = Client::silent(files);
        client.send(&[&[1u8][..], &number(3)].concat()).await;
        let version = client.packet().await.unwrap();
        assert_eq!(version[..5], [2, 0, 0, 0, 3]);
        assert!(String::from_utf8_lossy(&version).contains("posix-rename@openssh.com"));
        client
    }

    fn silent(files: &Arc<MemoryFiles>) -> Client {
        let (stream, server) = tokio::io::duplex(64 * 1024);
        let files: Arc<dyn Files> = files.clone();
        crate::task::detached("test sftp", async move {
            let _ = serve(server, files, id()).await;
        });
        Client { stream, next: 0 }
    }

    async fn send(&mut self, packet: &[u8]) {
        self.stream.write_all(&text(packet)).await.unwrap();
    }

    async fn packet(&mut self) -> Option<Vec<u8>> {
        let length = self.stream.read_u32().await.ok()?;
        let mut packet = vec![0; length as usize];
        self.stream.read_exact(&mut packet).await.ok()?;
        Some(packet)
    }

    async fn ask(&mut self, kind: u8, fields: &[Vec<u8>]) -> u32 {
        self.next += 1;
        let packet = [vec![kind], number(self.next), fields.concat()].concat();
        self.send(&packet).await;
        self.next
    }

    async fn answer(&mut self) -> Answer {
        let packet = self.packet().await.expect("an answer");
        Answer { kind: packet[0], id: u32::from_be_bytes(packet[1..5].try_into().unwrap()), rest: packet[5..].to_vec() }
    }

    async fn call(&mut self, kind: u8, fields: &[Vec<u8>]) -> Answer {
        let id = self.ask(kind, fields).await;
        let answer = self.answer().await;
        assert_eq!(answer.id, id);
        answer
    }

    async fn open(&mut self, path: &str, flags: u32) -> Answer {
        self.call(3, &[text(path), number(flags), number(0)]).await
    }
}

#[tokio::test]
async fn files_are_written_and_read() {
    let files = Arc::new(MemoryFiles::default());
    let mut client = Client::new(&files).await;
    assert_eq!(client.open("/a", READ).await.code(), Code::NoSuchFile as u32);
    let set = [number(4), number(0o100_600)].concat();
    let handle = client.call(3, &[text("/a"), number(READ | WRITE | CREATE), set]).await.handle();
    assert_eq!(client.call(6, &[handle.clone(), long(0), text("hello")]).await.code(), 0);
    assert_eq!(client.call(6, &[handle.clone(), long(5), text(" world")]).await.code(), 0);
    let read = client.call(5, &[handle.clone(), long(6), number(100)]).await;
    assert_eq!((read.kind, read.string(0)), (103, &b"world"[..]));
    assert_eq!(client.call(5, &[handle.clone(), long(11), number(1)]).await.code(), Code::Eof as u32);
    let stat = client.call(8, std::slice::from_ref(&handle)).await;
    assert_eq!((stat.kind, stat.number(0), stat.number(8), stat.number(20)), (105, 15, 11, 0o100_600));
    let size = [number(1), long(5)].concat();
    assert_eq!(client.call(10, &[handle.clone(), size]).await.code(), 0);
    assert_eq!(client.call(200, &[text("fsync@openssh.com"), handle.clone()]).await.code(), 0);
    assert_eq!(client.call(4, std::slice::from_ref(&handle)).await.code(), 0);
    assert_eq!(client.call(4, std::slice::from_ref(&handle)).await.code(), Code::Failure as u32);
    assert_eq!(client.call(5, &[handle, long(0), number(1)]).await.code(), Code::Failure as u32);
    assert_eq!(files.content("/a").unwrap(), b"hello");
    let owner = [number(2 | 4 | 8), number(7), number(8), number(0o755), number(1), number(2)].concat();
    assert_eq!(client.call(9, &[text("/a"), owner]).await.code(), 0);
    let stat = client.call(17, &[text("/a")]).await;
    assert_eq!([stat.number(12), stat.number(16), stat.number(20), stat.number(28)], [7, 8, 0o100_755, 2]);
    assert_eq!(client.open("/a", WRITE | CREATE | EXCLUSIVE).await.code(), Code::Failure as u32);
}

#[tokio::test]
async fn folders_links_and_names() {
    let files = Arc::new(MemoryFiles::default());
    let mut client = Client::new(&files).await;
    assert_eq!(client.call(14, &[text("/d"), number(0)]).await.code(), 0);
    // To open a folder is fine, to read from it is not, as with open(2).
    let handle = client.open("/d", READ).await.handle();
    assert_eq!(client.call(5, &[handle.clone(), long(0), number(1)]).await.code(), Code::Failure as u32);
    assert_eq!(client.call(4, &[handle]).await.code(), 0);
    assert_eq!(client.open("/d", READ | WRITE).await.code(), Code::Failure as u32);
    for n in 0..300 {
        let handle = client.open(&format!("/d/{n}"), WRITE | CREATE).await.handle();
        client.call(4, &[handle]).await;
    }
    let dir = client.call(11, &[text("/d")]).await.handle();
    let mut seen = 0;
    loop {
        let names = client.call(12, std::slice::from_ref(&dir)).await;
        if names.kind == 101 {
            assert_eq!(names.code(), Code::Eof as u32);
            break;
        }
        assert!(String::from_utf8_lossy(&names.rest).contains("-rw-r--r--"), "{names:?}");
        seen += names.number(0);
    }
    assert_eq!(seen, 300);
    assert_eq!(client.call(4, &[dir]).await.code(), 0);
    // OpenSSH's order: what it says, then where it is.
    assert_eq!(client.call(20, &[text("/d/1"), text("/link")]).await.code(), 0);
    let target = client.call(19, &[text("/link")]).await;
    assert_eq!((target.kind, target.number(0), target.string(4)), (104, 1, &b"/d/1"[..]));
    assert_eq!(client.call(7, &[text("/link")]).await.number(20) & 0o170_000, 0o120_000);
    assert_eq!(client.call(18, &[text("/d/1"), text("/d/2")]).await.code(), Code::Failure as u32);
    assert_eq!(client.call(200, &[text("posix-rename@openssh.com"), text("/d/1"), text("/d/2")]).await.code(), 0);
    assert_eq!(client.call(200, &[text("hardlink@openssh.com"), text("/d/2"), text("/hard")]).await.code(), 0);
    assert_eq!(client.call(13, &[text("/hard")]).await.code(), 0);
    assert_eq!(client.call(15, &[text("/d")]).await.code(), Code::Failure as u32);
    assert_eq!(client.call(200, &[text("nonsense@x"), text("y")]).await.code(), Code::Unsupported as u32);
    assert_eq!(client.call(77, &[]).await.code(), Code::Unsupported as u32);
    for (path, real) in [(".", "/"), ("", "/"), ("/a/../b/./c/", "/b/c"), ("../..", "/"), ("x", "/x")] {
        assert_eq!(client.call(16, &[text(path)]).await.string(4), real.as_bytes());
    }
    let limits = client.call(200, &[text("limits@openssh.com")]).await;
    assert_eq!((limits.kind, limits.number(12)), (201, u32::try_from(MAX_DATA).unwrap()));
}

#[tokio::test]
async fn many_requests_at_once_are_answered_in_order() {
    let files = Arc::new(MemoryFiles::default());
    let mut client = Client::new(&files).await;
    let handle = client.open("/big", READ | WRITE | CREATE).await.handle();
    let block = vec![7u8; MAX_DATA];
    let (mut reader, mut writer) = tokio::io::split(client.stream);
    let mut packets = Vec::new();
    for n in 0..16u32 {
        let write = [vec![6], number(n), handle.clone(), long(u64::from(n) * MAX_DATA as u64), text(&block)].concat();
        packets.extend(text(write));
        packets.extend(text([vec![5], number(100 + n), handle.clone(), long(0), number(10)].concat()));
    }
    let sending = async { writer.write_all(&packets).await.unwrap() };
    let receiving = async {
        let mut ids = Vec::new();
        for _ in 0..32 {
            let length = reader.read_u32().await.unwrap();
            let mut packet = vec![0; length as usize];
            reader.read_exact(&mut packet).await.unwrap();
            ids.push(u32::from_be_bytes(packet[1..5].try_into().unwrap()));
        }
        ids
    };
    let ((), ids) = tokio::join!(sending, receiving);
    assert_eq!(ids, (0..16).flat_map(|n| [n, 100 + n]).collect::<Vec<u32>>());
    assert_eq!(files.content("/big").unwrap().len(), 16 * MAX_DATA);
}

#[tokio::test]
async fn bounds_hold() {
    let files = Arc::new(MemoryFiles::default());
    let mut client = Client::new(&files).await;
    for _ in 0..MAX_HANDLES {
        client.open("/a", WRITE | CREATE).await.handle();
    }
    assert_eq!(client.open("/a", READ).await.code(), Code::Failure as u32);
    // A read of 4 GiB is answered with what one packet holds at most.
    let handle = text(number(1));
    client.call(10, &[handle.clone(), [number(1), long(1 << 20)].concat()]).await;
    assert_eq!(client.call(5, &[handle, long(0), number(u32::MAX)]).await.string(0).len(), MAX_DATA);
    // Too large: the session ends.
    client.stream.write_all(&number(1 << 30)).await.unwrap();
    assert!(client.packet().await.is_none());
    // Nothing of the protocol.
    let mut client = Client::silent(&files);
    client.send(b"\x03\0\0\0\0").await;
    assert!(client.packet().await.is_none());
}

#[tokio::test]
async fn malformed_requests_are_refused_and_the_session_goes_on() {
    let files = Arc::new(MemoryFiles::default());
    let mut client = Client::new(&files).await;
    for kind in 3..=20 {
        assert_eq!(client.call(kind, &[vec![0xff, 0xff]]).await.code(), Code::BadMessage as u32, "{kind}");
    }
    client.send(&[3]).await;
    assert_eq!(client.answer().await.code(), Code::BadMessage as u32);
    assert_eq!(client.call(17, &[text("/")]).await.number(20), 0o040_755);
}

proptest! {
    #[test]
    fn decoding_is_total(packet in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = wire::init(&packet);
        let _ = wire::decode(&packet);
    }

    #[test]
    fn decoding_of_known_kinds_is_total(kind in 3u8..=20, body in proptest::collection::vec(0u8..6, 0..80)) {
        let _ = wire::decode(&[&[kind][..], &body].concat());
    }

    #[test]
    fn a_session_survives_any_packets(packets in proptest::collection::vec((3u8..=20, proptest::collection::vec(0u8..9, 0..60)), 0..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let files: Arc<dyn Files> = Arc::new(MemoryFiles::default());
            let mut session = Session { files, id: id(), handles: BTreeMap::new(), last: 0 };
            for (kind, body) in packets {
                let mut answers = Answers::default();
                session.answer(&[&[kind][..], &body].concat(), &mut answers).await;
                assert!(!answers.bytes().is_empty(), "every request has an answer");
            }
        });
    }

    #[test]
    fn canonical_paths_are_absolute_and_stay(path in "[a./]{0,20}") {
        let once = canonical(Path::new(&path));
        prop_assert!(once.is_absolute() && !once.components().any(|part| part == Component::ParentDir));
        prop_assert_eq!(canonical(&once), once);
    }

    #[test]
    fn times_and_modes_never_panic(mode in 0u32..0o10000, modified in any::<i64>(), size in any::<u64>()) {
        let of = FileAttributes { kind: FileKind::File, mode, uid: 0, gid: 0, size, links: 1, modified };
        let long = wire::long_name(OsStr::new("n"), &of);
        prop_assert!(long.ends_with(" n"));
        Answers::default().attributes(1, &of);
    }
}
