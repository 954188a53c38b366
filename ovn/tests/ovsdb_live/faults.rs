//! Links that are cut, servers that die or hang: what is said of a request is what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use basalt_ovn::Error;
use basalt_ovn::monitor::{MonitorTable, Tables};
use basalt_ovn::ovsdb::op::Operation;
use nix::sys::signal::Signal;

use crate::bed::{NB, Proxy, SECOND, Server, insert, names, options, run, session, wait};
use crate::require;

fn clustered(db: &str) {
    run("ovsdb-tool", &["create-cluster", db, NB, &format!("tcp:127.0.0.1:{}", crate::bed::port())]);
}

/// Many insertions while the server is killed: done is there once, not sent is not there, unknown is either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_leaves_no_doubt() {
    require!("ovsdb-server", NB);
    let mut server = Server::standalone(NB).started().await;
    let mut wanted = options();
    wanted.deadline = 3 * SECOND;
    let session = session(vec![server.remote()], wanted);
    let mut done: BTreeMap<String, Result<(), Error>> = BTreeMap::new();
    for round in 0..4 {
        session.connected(10 * SECOND).await.unwrap();
        // One that was in the queue at the kill goes on with the next link.
        let enough = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (session, enough) = (session.clone(), Arc::clone(&enough));
                basalt_runtime::spawn("writer", async move {
                    let mut all = Vec::new();
                    for number in 0..10_000 {
                        let name = format!("{round}-{writer}-{number}");
                        let result = session.transact(vec![insert(&name)]).await.map(drop);
                        let failed = result.is_err();
                        all.push((name, result));
                        if failed || enough.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    all
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.start().await;
        enough.store(true, Ordering::Relaxed);
        for writer in writers {
            done.extend(writer.join().await.unwrap());
        }
    }
    let names = names(&server);
    let there = |name: &String| names.iter().filter(|n| *n == name).count();
    let mut kinds = [0; 3];
    for (name, result) in &done {
        match result {
            Ok(()) => assert_eq!(there(name), 1, "{name}"),
            Err(error @ Error::NotSent { .. }) => {
                kinds[0] += 1;
                assert_eq!(there(name), 0, "{name}: {error}");
            }
            Err(Error::Unknown { .. }) => {
                kinds[1] += 1;
                assert!(there(name) <= 1, "{name}");
            }
            Err(error) => panic!("{error}"),
        }
        kinds[2] += 1;
    }
    eprintln!("of {} requests {} were not sent, of {} it is not known", kinds[2], kinds[0], kinds[1]);
    assert!(kinds[1] > 0, "nothing was under way when the server was killed");
    assert!(names.iter().all(|name| done.contains_key(name)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_server_is_noticed() {
    require!("ovsdb-server", NB);
    let (hangs, other) = (Server::standalone(NB).started().await, Server::standalone(NB).started().await);
    let mut wanted = options();
    (wanted.probe, wanted.connect) = (SECOND / 2, SECOND);
    let session = session(vec![hangs.remote(), other.remote()], wanted);
    session.connected(5 * SECOND).await.unwrap();
    hangs.signal(Signal::SIGSTOP);
    let began = Instant::now();
    let error = session.transact(vec![insert("x")]).await.unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }) && error.to_string().contains("silent"), "{error}");
    assert!(began.elapsed() < 3 * SECOND);
    // The next one is used.
    session.transact(vec![insert("y")]).await.unwrap();
    assert_eq!(names(&other), ["y"]);
    hangs.signal(Signal::SIGCONT);
    wait("what was sent is done", || names(&hangs) == ["x"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remotes_take_turns() {
    require!("ovsdb-server", NB);
    let (mut one, mut two) = (Server::standalone(NB).started().await, Server::standalone(NB).started().await);
    let nobody = "unix:/nonexistent/sock".parse().unwrap();
    let session = session(vec![nobody, one.remote(), two.remote()], options());
    session.transact(vec![insert("a")]).await.unwrap();
    one.kill();
    session.transact(vec![insert("b")]).await.or_else(again).unwrap();
    assert_eq!(names(&two), ["b"]);
    two.kill();
    let mut wanted = options();
    wanted.deadline = SECOND;
    let alone = crate::bed::session(vec![one.remote()], wanted);
    let error = alone.transact(vec![insert("c")]).await.unwrap_err();
    assert!(matches!(&error, Error::NotSent { .. }), "{error}");
    assert!(error.to_string().contains(&one.socket()) && error.to_string().contains("refused"), "{error}");
    one.start().await;
    session.transact(vec![insert("d")]).await.unwrap();
    assert_eq!(names(&one), ["a", "d"]);
}

/// A request may meet the link that is just being lost: then it was not sent, or is unknown; both are fine here.
fn again(error: Error) -> Result<Vec<basalt_ovn::ovsdb::op::OpResult>, Error> {
    panic!("the link was seen to be lost only by the request: {error}")
}

const ROWS: usize = 10_000;

async fn fill(session: &basalt_ovn::session::Session) {
    for first in (0..ROWS).step_by(1000) {
        session.transact((first..first + 1000).map(|n| insert(&format!("switch-{n:05}"))).collect()).await.unwrap();
    }
}

/// After a cut, and after a restart of the server, only what changed is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reconnect_reads_only_what_changed() {
    require!("ovsdb-server", NB);
    let mut server = Server::made(&[], clustered).started().await;
    let direct = session(vec![server.remote()], options());
    fill(&direct).await;
    let proxy = Proxy::new(&server, &[]);
    let through = session(vec![proxy.remote()], options());
    let mut monitor = through.monitor(vec![MonitorTable::new("Logical_Switch", &[])]);
    assert_eq!(monitor.loaded(20 * SECOND).await.unwrap().table("Logical_Switch").len(), ROWS);
    let dump = through.counts();
    assert_eq!((dump.full, dump.resumed), (1, 0));

    let find = |tables: &Tables| tables.find("Logical_Switch", "name", &"switch-00007".into()).map(|(id, _)| id);
    let known = find(&monitor.snapshot().unwrap()).unwrap();
    let mut resumed = 0;
    for restart in [false, true] {
        let (before, epoch) = (through.counts(), monitor.snapshot().unwrap().epoch());
        proxy.cut();
        let name = format!("new-{restart}");
        direct.transact(vec![insert(&name)]).await.unwrap();
        let renamed = [("name".into(), format!("renamed-{restart}").into())].into();
        let renamed = Operation::update("Logical_Switch", known, renamed);
        direct.transact(vec![renamed]).await.unwrap();
        assert!(monitor.current().is_none() || monitor.snapshot().unwrap().epoch() == epoch);
        if restart {
            server.kill();
            server.start().await;
        }
        proxy.mend();
        let found = monitor
            .until(10 * SECOND, |tables| (tables.epoch() > epoch).then(|| tables.clone()))
            .await
            .unwrap()
            .unwrap();
        resumed += 1;
        assert_eq!(found.table("Logical_Switch").len(), ROWS + resumed);
        assert!(found.find("Logical_Switch", "name", &name.as_str().into()).is_some());
        assert_eq!(found.row("Logical_Switch", known).unwrap()["name"], format!("renamed-{restart}").into());
        let after = through.counts();
        assert_eq!((after.full, after.resumed), (1, resumed as u64));
        let (read, full) = (after.received - before.received, dump.received);
        eprintln!("restart {restart}: {read} bytes read after the reconnect, {full} at first");
        assert!(read * 40 < full, "{read} of {full}");
    }
    // What was worked out from an earlier link's tables is not sent over a later one.
    let error = through.transact_on(1, vec![insert("stale")]).await.unwrap_err();
    assert!(matches!(error, Error::NotSent { .. }), "{error}");
}

/// A server that is not clustered keeps no history: everything is read again, and is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_history_everything_is_read_again() {
    require!("ovsdb-server", NB);
    let mut server = Server::standalone(NB).started().await;
    let session = session(vec![server.remote()], options());
    session.transact(vec![insert("a")]).await.unwrap();
    let mut monitor = session.monitor(vec![MonitorTable::new("Logical_Switch", &["name"])]);
    let first = monitor.loaded(5 * SECOND).await.unwrap();
    server.kill();
    run(
        "ovsdb-tool",
        &[
            "transact",
            server.path("db").to_str().unwrap(),
            &format!(
                "[\"OVN_Northbound\",{}]",
                r#"{"op":"delete","table":"Logical_Switch","where":[]},{"op":"insert","table":"Logical_Switch","row":{"name":"b"}}"#
            ),
        ],
    );
    server.start().await;
    let epoch = first.epoch();
    let later = monitor.until(5 * SECOND, |t| (t.epoch() > epoch).then(|| t.clone())).await.unwrap().unwrap();
    assert_eq!(later.table("Logical_Switch").len(), 1);
    assert!(later.find("Logical_Switch", "name", &"b".into()).is_some());
    assert_eq!(first.table("Logical_Switch").len(), 1, "what was taken before is as it was");
    assert_eq!(session.counts().full, 2);
}

/// A server that sends no end of one message, or no JSON, is left; memory stays bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_ends_the_link() {
    use tokio::io::AsyncWriteExt;
    for (nonsense, said) in
        [("{\"id\":1,\"result\":\"", "more than"), ("HTTP/1.1 400", "not a JSON object"), ("{}", "not a message")]
    {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let server = basalt_runtime::spawn("nonsense", async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let _ = client.write_all(nonsense.as_bytes()).await;
                while client.write_all(&[b'a'; 1 << 16]).await.is_ok() {}
            }
        });
        let mut wanted = options();
        (wanted.limit, wanted.deadline) = (1 << 20, SECOND);
        let session = session(vec![format!("unix:{}", path.display()).parse().unwrap()], wanted);
        let error = session.transact(vec![insert("x")]).await.unwrap_err();
        assert!(matches!(error, Error::NotSent { .. }) && error.to_string().contains(said), "{error}");
        drop(server);
    }
}
