//! Three servers that are one database.

use std::time::Instant;

use basalt_ovn::monitor::MonitorTable;
use basalt_ovn::session::{Session, Status};

use crate::bed::{NB, SECOND, Server, insert, names, options, port, run, session, wait};
use crate::require;

async fn three() -> Vec<Server> {
    let raft: Vec<String> = (0..3).map(|_| format!("tcp:127.0.0.1:{}", port())).collect();
    let mut servers = Vec::new();
    for own in &raft {
        let make = |db: &str| match own == &raft[0] {
            true => drop(run("ovsdb-tool", &["create-cluster", db, NB, own])),
            false => drop(run("ovsdb-tool", &["join-cluster", db, "OVN_Northbound", own, &raft[0]])),
        };
        // A leader that dies is noticed sooner.
        servers.push(Server::made(&[], make).started().await);
    }
    for server in &servers {
        wait("it has joined", || status(server).contains("Status: cluster member")).await;
    }
    servers
}

fn status(server: &Server) -> String {
    server.ctl(&["cluster/status", "OVN_Northbound"])
}

fn is_leader(server: &Server) -> bool {
    status(server).contains("Role: leader")
}

fn used(session: &Session) -> String {
    match &*session.status().borrow() {
        Status::Up { remote, .. } => remote.to_string(),
        Status::Down { why } => panic!("{why}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_leader_is_used_and_followed() {
    require!("ovsdb-server", "ovs-appctl", NB);
    let mut servers = three().await;
    // The leader last: the others have to be left for it.
    servers.sort_by_key(is_leader);
    let remotes: Vec<_> = servers.iter().map(Server::remote).collect();
    let mut wanted = options();
    wanted.leader_only = true;
    wanted.deadline = 20 * SECOND;
    let follows = session(remotes.clone(), wanted);
    let anyone = session(remotes[..1].to_vec(), options());
    let mut monitor = follows.monitor(vec![MonitorTable::new("Logical_Switch", &["name"])]);
    follows.transact(vec![insert("a")]).await.unwrap();
    assert_eq!(used(&follows), servers[2].socket());
    anyone.transact(vec![insert("b")]).await.unwrap();
    assert_eq!(used(&anyone), servers[0].socket());
    wait("the change of a follower arrives", || {
        monitor.snapshot().is_some_and(|t| t.table("Logical_Switch").len() == 2)
    })
    .await;

    // It gives leadership up, and lives.
    let epoch = monitor.snapshot().unwrap().epoch();
    let servers_id = status(&servers[2]);
    assert!(servers_id.contains("Role: leader"));
    let began = Instant::now();
    servers[2].kill();
    let tables = monitor.until(30 * SECOND, |t| (t.epoch() > epoch).then(|| t.clone())).await.unwrap().unwrap();
    eprintln!("another leader is followed {:?} after the old one was killed", began.elapsed());
    assert_eq!(tables.table("Logical_Switch").len(), 2);
    let leader = servers[..2].iter().find(|s| is_leader(s)).unwrap();
    assert_eq!(used(&follows), leader.socket());
    let counts = follows.counts();
    assert_eq!((counts.full, counts.resumed), (1, 1), "the new leader knows what the old one had sent");
    follows.transact(vec![insert("c")]).await.unwrap();
    assert_eq!(names(leader), ["a", "b", "c"]);

    // Without a majority there is no leader, and nothing is sent.
    servers[0].kill();
    let mut wanted = options();
    (wanted.leader_only, wanted.deadline) = (true, 2 * SECOND);
    wait("the last one knows that it is alone", || !is_leader(&servers[1])).await;
    let error = session(remotes, wanted).transact(vec![insert("d")]).await.unwrap_err().to_string();
    assert!(error.contains("not sent") && (error.contains("leader") || error.contains("lost its cluster")), "{error}");
}
