//! Transactions, monitors, and the order between them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use basalt_ovn::Error;
use basalt_ovn::monitor::{Monitor, MonitorTable};
use basalt_ovn::ovsdb::op::{Condition, Mutation, OpResult, Operation, Until};
use basalt_ovn::ovsdb::value::{Atom, Datum, Row};
use basalt_ovn::session::Session;
use uuid::Uuid;

use crate::bed::{NB, Proxy, SECOND, Server, insert, names, options, session};
use crate::require;

fn row(pairs: &[(&str, Datum)]) -> Row {
    pairs.iter().map(|(k, v)| ((*k).into(), v.clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_happen_or_say_why_not() {
    require!("ovsdb-server", NB);
    let server = Server::standalone(NB).started().await;
    let session = session(vec![server.remote()], options());
    let named = |name: &str| Datum::from(Atom::Named(name.into()));
    let results = session
        .transact(vec![
            Operation::insert_named("Logical_Switch", "ls", row(&[("name", "ls1".into()), ("ports", named("lsp"))])),
            Operation::insert_named("Logical_Switch_Port", "lsp", row(&[("name", "p1".into()), ("up", true.into())])),
            Operation::Comment("made by a test".into()),
        ])
        .await
        .unwrap();
    let (switch, port) = (results[0].inserted().unwrap(), results[1].inserted().unwrap());
    let read = session
        .transact(vec![Operation::select("Logical_Switch", vec![Condition::is(switch)], &["name", "ports"])])
        .await
        .unwrap();
    assert_eq!(read[0].rows(), [row(&[("name", "ls1".into()), ("ports", port.into())])]);
    assert_eq!(
        session.transact(vec![Operation::delete("Logical_Switch", Uuid::nil())]).await,
        Ok(vec![OpResult::Count(0)])
    );

    // Each refusal: which operation, what kind, the server's text; and nothing happened.
    let refused = async |operations| {
        let error = session.transact(operations).await.unwrap_err();
        let text = error.to_string();
        (error.refusal().unwrap_or_else(|| panic!("{text}")).clone(), text)
    };
    let twice = Operation::insert_named("Logical_Switch_Port", "p", row(&[("name", "p1".into())]));
    let join = Operation::mutate("Logical_Switch", switch, vec![Mutation::insert("ports", named("p"))]);
    let (refusal, text) = refused(vec![insert("x"), twice, join]).await;
    assert_eq!((refusal.operation, refusal.error.as_str()), (None, "constraint violation"), "{text}");
    assert!(text.contains("p1"), "{text}");
    let (refusal, text) =
        refused(vec![insert("x"), Operation::insert("Logical_Switch", row(&[("nome", "y".into())]))]).await;
    assert_eq!((refusal.operation, refusal.about.as_str()), (Some(1), "insert Logical_Switch"), "{text}");
    assert!(text.contains("nome"), "{text}");
    let guard = Operation::guard("Logical_Switch", switch, row(&[("name", "other".into())]));
    let error = session.transact(vec![guard, insert("x")]).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
    let (refusal, _) = refused(vec![insert("x"), Operation::Abort]).await;
    assert_eq!(refusal.error, "aborted");
    let (refusal, _) = refused(vec![insert("x"), Operation::Assert("lock".into())]).await;
    assert_eq!(refusal.error, "not owner");
    assert_eq!(names(&server), ["ls1"]);
}

/// The second of two requests lets the first one end: it was sent while the first had no answer yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_do_not_wait_for_each_other() {
    require!("ovsdb-server", NB);
    let server = Server::standalone(NB).started().await;
    let session = session(vec![server.remote()], options());
    session.connected(5 * SECOND).await.unwrap();
    let waits = |number: i32| {
        let session = session.clone();
        basalt_runtime::spawn("waits", async move {
            let name: Datum = format!("late{number}").into();
            let wait = Operation::Wait {
                table: "Logical_Switch".into(),
                where_: vec![Condition::equal("name", name.clone())],
                columns: vec!["name".into()],
                until: Until::Equal,
                rows: vec![row(&[("name", name)])],
                timeout: 8000,
            };
            session.transact(vec![wait]).await
        })
    };
    let waiting: Vec<_> = (0..16).map(waits).collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(waiting.iter().all(|w| !w.is_finished()));
    session.transact((0..16).map(|n| insert(&format!("late{n}"))).collect()).await.unwrap();
    for waiting in waiting {
        assert_eq!(waiting.join().await.unwrap(), Ok(vec![OpResult::Done]));
    }
}

const COLUMNS: [&str; 6] = ["name", "up", "tag", "addresses", "options", "external_ids"];

/// A change of some port, drawn from `dice`.
fn change(dice: &mut impl FnMut(u64) -> u64, rows: &[Uuid]) -> Operation {
    let word = |n: u64| ["a", "b", "c", "é\"{", "d"][usize::try_from(n).unwrap()];
    let at = rows[usize::try_from(dice(rows.len() as u64)).unwrap()];
    let table = "Logical_Switch_Port";
    let update = |column: &str, value: Datum| Operation::update(table, at, row(&[(column, value)]));
    match dice(8) {
        0 => update("up", [Datum::empty(), true.into(), false.into()][usize::try_from(dice(3)).unwrap()].clone()),
        1 => update("tag", [Datum::empty(), 7.into(), 8.into()][usize::try_from(dice(3)).unwrap()].clone()),
        2 => update("addresses", Datum::set((0..dice(4)).map(|n| word(n).to_owned()))),
        3 => Operation::mutate(table, at, vec![Mutation::insert("addresses", word(dice(5)))]),
        4 => Operation::mutate(table, at, vec![Mutation::delete("addresses", word(dice(5)))]),
        5 => update("options", Datum::map((0..dice(4)).map(|n| (word(n), word(4 - n))))),
        6 => Operation::mutate(
            table,
            at,
            vec![Mutation::insert("external_ids", Datum::map([(word(dice(5)), word(dice(5)))]))],
        ),
        _ => Operation::mutate(table, at, vec![Mutation::delete("external_ids", Datum::set([word(dice(5))]))]),
    }
}

/// What a monitor has is what the database has, after each of many random changes, and as soon as the change is answered.
async fn follow(session: &Session, monitor: &mut Monitor, dice: &mut impl FnMut(u64) -> u64) {
    let ports: Vec<String> = (0..6).map(|n| format!("p{n}")).collect();
    let mut operations: Vec<Operation> = ports
        .iter()
        .map(|p| Operation::insert_named("Logical_Switch_Port", p.clone(), row(&[("name", p.as_str().into())])))
        .collect();
    let all = Datum::set(ports.iter().map(|p| Atom::Named(p.clone())));
    operations.push(Operation::insert("Logical_Switch", row(&[("name", "ls".into()), ("ports", all)])));
    let made = session.transact(operations).await.unwrap();
    let rows: Vec<Uuid> = made[..6].iter().map(|r| r.inserted().unwrap()).collect();
    for _ in 0..150 {
        let count = 1 + dice(3);
        let changes = (0..count).map(|_| change(dice, &rows)).collect();
        session.transact(changes).await.unwrap();
        let has: BTreeMap<_, _> = monitor.snapshot().unwrap().table("Logical_Switch_Port").clone();
        let read = session.transact(vec![Operation::select(
            "Logical_Switch_Port",
            Vec::new(),
            &[&["_uuid"], &COLUMNS[..]].concat(),
        )]);
        let wanted: BTreeMap<Uuid, Arc<Row>> = read.await.unwrap()[0]
            .rows()
            .iter()
            .map(|row| {
                let mut row = row.clone();
                let id = row.remove("_uuid").and_then(|id| id.as_uuid()).unwrap();
                (id, Arc::new(row))
            })
            .collect();
        assert_eq!(has, wanted);
    }
    let switch = made[6].inserted().unwrap();
    session.transact(vec![Operation::delete("Logical_Switch", switch)]).await.unwrap();
    assert!(monitor.snapshot().unwrap().table("Logical_Switch_Port").is_empty());
}

async fn follows(deny: &[&'static str], seed: u64) {
    let server = Server::standalone(NB).started().await;
    let proxy = Proxy::new(&server, deny);
    let session = session(vec![proxy.remote()], options());
    let mut monitor = session.monitor(vec![MonitorTable::new("Logical_Switch_Port", &COLUMNS)]);
    monitor.loaded(5 * SECOND).await.unwrap();
    let mut state = seed;
    let mut dice = |sides: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % sides
    };
    follow(&session, &mut monitor, &mut dice).await;
    assert_eq!(session.counts().links, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monitors_have_what_the_database_has() {
    require!("ovsdb-server", NB);
    follows(&[], 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn also_with_servers_that_know_less() {
    require!("ovsdb-server", NB);
    follows(&["monitor_cond_since"], 2).await;
    follows(&["monitor_cond_since", "monitor_cond"], 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monitors_are_told_apart_and_ended() {
    require!("ovsdb-server", NB);
    let server = Server::standalone(NB).started().await;
    let session = session(vec![server.remote()], options());
    let tagged = |owner: &str| row(&[("name", owner.into()), ("external_ids", Datum::map([("owner", owner)]))]);
    let only = |owner: &str| {
        let table = MonitorTable::new("Logical_Switch", &["name"]);
        session.monitor(vec![table.only(Condition::includes("external_ids", Datum::map([("owner", owner)])))])
    };
    let (mut mine, mut other) = (only("me"), only("you"));
    assert!(mine.loaded(5 * SECOND).await.unwrap().table("Logical_Switch").is_empty());
    other.loaded(5 * SECOND).await.unwrap();
    session.transact(vec![Operation::insert("Logical_Switch", tagged("me"))]).await.unwrap();
    let found = |monitor: &Monitor| monitor.current().unwrap().find("Logical_Switch", "name", &"me".into()).is_some();
    assert!(found(&mine) && !found(&other));
    tokio::time::timeout(SECOND, mine.changed()).await.unwrap();
    assert!(tokio::time::timeout(SECOND / 5, mine.changed()).await.is_err(), "once a change");
    drop(mine);
    for name in ["a", "b"] {
        session.transact(vec![Operation::insert("Logical_Switch", tagged(name))]).await.unwrap();
    }
    session.transact(vec![Operation::insert("Logical_Switch", tagged("me"))]).await.unwrap();
    session.transact(vec![Operation::insert("Logical_Switch", tagged("you"))]).await.unwrap();
    assert_eq!(other.current().unwrap().table("Logical_Switch").len(), 1);

    // What the server does not take.
    let wrong = MonitorTable::new("Logical_Switch", &["name"]).only(Condition::equal("nome", "x"));
    let error = session.monitor(vec![wrong]).loaded(5 * SECOND).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }) && error.to_string().contains("nome"), "{error}");
    assert_eq!(session.counts().links, 1, "the link is not lost by it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_does_not_fit_is_not_used() {
    require!("ovsdb-server", NB);
    let server = Server::standalone(NB).started().await;
    let mut wanted = options();
    wanted.needs = vec![("Logical_Switch".into(), vec!["name".into(), "colour".into()]), ("Tier".into(), Vec::new())];
    let error = session(vec![server.remote()], wanted).connected(SECOND).await.unwrap_err().to_string();
    assert!(error.contains("lacks Logical_Switch.colour, Tier"), "{error}");
    let mut wanted = options();
    wanted.database = "Elsewhere".into();
    wanted.deadline = SECOND;
    let error = session(vec![server.remote()], wanted).transact(Vec::new()).await.unwrap_err();
    assert!(matches!(error, Error::NotSent { .. }) && error.to_string().contains("unknown database"), "{error}");
}

/// The server asks an idle client for a sign of life after 5 s, and cuts it after 5 s more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_session_stays() {
    require!("ovsdb-server", NB);
    let port = crate::bed::port();
    let remotes = [format!("ptcp:{port}:127.0.0.1")];
    let server = Server::made(&remotes, |db| drop(crate::bed::run("ovsdb-tool", &["create", db, NB]))).started().await;
    let quiet = |probe| {
        let mut options = options();
        options.probe = probe;
        session(vec![format!("tcp:127.0.0.1:{port}").parse().unwrap()], options)
    };
    // One that never asks itself, and one that asks often.
    let (silent, asking) = (quiet(600 * SECOND), quiet(SECOND / 4));
    tokio::time::sleep(13 * SECOND).await;
    for session in [&silent, &asking] {
        session.transact(vec![insert("x")]).await.unwrap();
        assert_eq!(session.counts().links, 1);
    }
    let log = std::fs::read_to_string(server.path("log")).unwrap();
    assert!(!log.contains("inactivity"), "{log}");
    assert_eq!(names(&server), ["x", "x"]);
}
