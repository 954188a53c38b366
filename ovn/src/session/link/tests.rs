use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use super::*;
use crate::monitor::MonitorTable;
use crate::session::{Counters, SessionOptions, Status};

fn shared(options: SessionOptions) -> Arc<Shared> {
    Arc::new(Shared {
        options,
        feeds: Mutex::default(),
        next_feed: AtomicU64::new(1),
        wake: Notify::new(),
        status: watch::channel(Status::Down { why: String::new() }).0,
        counters: Counters::default(),
    })
}

fn options(leader_only: bool) -> SessionOptions {
    SessionOptions { leader_only, needs: vec![("T".into(), vec!["name".into()])], ..SessionOptions::new("D") }
}

/// What the link wants to send.
fn sent(link: &mut Link) -> Vec<Value> {
    let out = link.out.split();
    link.wrote(out.len());
    serde_json::Deserializer::from_slice(&out).into_iter().map(Result::unwrap).collect()
}

fn receive(link: &mut Link, message: &Value) -> Result<(), String> {
    link.receive(Message::parse(&Bytes::from(message.to_string())).unwrap())
}

fn schema(columns: &Value) -> Value {
    json!({"id": 1, "error": null, "result": {"name": "D", "version": "1", "tables": {"T": {"columns": columns}}}})
}

fn server(connected: bool, leader: bool) -> Value {
    let new = json!({"name": "D", "model": "clustered", "connected": connected, "leader": leader});
    json!({"Database": {Uuid::from_u128(1).to_string(): {"new": new}}})
}

fn greeted(shared: &Arc<Shared>) -> Link {
    let mut link = Link::new(Arc::clone(shared), 1);
    receive(&mut link, &schema(&json!({"name": {"type": "string"}}))).unwrap();
    assert!(!link.serving());
    receive(&mut link, &json!({"id": 2, "error": null, "result": server(true, true)})).unwrap();
    assert!(link.serving() && link.takes());
    link
}

fn call(body: &str, epoch: Option<u64>) -> (Request, oneshot::Receiver<Outcome>) {
    let (reply, answer) = oneshot::channel();
    let ticket = super::super::call::Ticket::new();
    (Request { body: body.as_bytes().to_vec(), epoch, ticket, reply }, answer)
}

#[test]
fn a_server_that_does_not_fit_is_left() {
    let greet = |schema_answer: &Value, server_answer: &Value| {
        let mut link = Link::new(shared(options(true)), 1);
        receive(&mut link, schema_answer)?;
        receive(&mut link, server_answer)?;
        assert!(link.serving());
        Ok::<_, String>(())
    };
    let good = schema(&json!({"name": {"type": "string"}}));
    let answer = |server| json!({"id": 2, "error": null, "result": server});
    assert_eq!(greet(&good, &answer(server(true, true))), Ok(()));
    assert_eq!(greet(&good, &json!({"id": 2, "result": null, "error": "unknown database"})), Ok(()));
    assert!(greet(&good, &answer(server(true, false))).unwrap_err().contains("leader"));
    assert!(greet(&good, &answer(server(false, true))).unwrap_err().contains("lost its cluster"));
    assert!(greet(&schema(&json!({})), &answer(server(true, true))).unwrap_err().contains("lacks T.name"));
    let none = json!({"id": 1, "result": null, "error": {"error": "unknown database", "details": "D"}});
    assert!(greet(&none, &answer(server(true, true))).unwrap_err().contains("unknown database"));
}

#[test]
fn leadership_that_is_lost_ends_the_link() {
    let mut link = greeted(&shared(options(true)));
    let lost = json!({"id": null, "method": "update", "params": [0, server(true, false)]});
    assert!(receive(&mut link, &lost).unwrap_err().contains("leader"));
    let mut link = greeted(&shared(options(false)));
    receive(&mut link, &lost).unwrap();
}

#[test]
fn echoes_are_answered() {
    let mut link = greeted(&shared(options(false)));
    sent(&mut link);
    receive(&mut link, &json!({"id": "echo", "method": "echo", "params": [1, "x"]})).unwrap();
    receive(&mut link, &json!({"id": 5, "method": "steal_all", "params": []})).unwrap();
    let answers = sent(&mut link);
    assert_eq!(answers[0], json!({"id": "echo", "error": null, "result": [1, "x"]}));
    assert_eq!(answers[1], json!({"id": 5, "error": "unknown method", "result": null}));
    assert!(receive(&mut link, &json!({"id": 99, "error": null, "result": {}})).is_err());
}

#[test]
fn what_was_not_written_whole_was_not_sent() {
    let mut link = greeted(&shared(options(false)));
    sent(&mut link);
    let ((first, mut one), (second, mut two), (other, mut three)) =
        (call("\"a\":1}", None), call("\"b\":2}", Some(1)), call("\"c\":3}", Some(2)));
    link.push(first);
    let all = link.out.len();
    link.push(second);
    link.push(other);
    assert!(matches!(three.try_recv(), Ok(Outcome::NotSent(_))), "it was meant for another link");
    link.wrote(all + 3);
    link.end("gone");
    assert!(matches!(one.try_recv(), Ok(Outcome::Lost(why)) if why == "gone"));
    assert!(matches!(two.try_recv(), Ok(Outcome::NotSent(why)) if why == "gone"));
}

#[test]
fn feeds_fall_back_to_what_the_server_knows() {
    let shared = shared(options(false));
    let feed = Arc::new(Feed::new(1, vec![MonitorTable::new("T", &[])]));
    shared.feeds().insert(1, Arc::downgrade(&feed));
    let mut link = greeted(&shared);
    let unknown = |id: &Value| json!({"id": id, "result": null, "error": "unknown method"});
    let mut asked = sent(&mut link).pop().unwrap();
    for method in ["monitor_cond_since", "monitor_cond", "monitor"] {
        assert_eq!(asked["method"], method);
        assert_eq!(asked["params"][2], json!({"T": [{"columns": ["name"]}]}));
        if method != "monitor" {
            receive(&mut link, &unknown(&asked["id"])).unwrap();
            asked = sent(&mut link).pop().unwrap();
        }
    }
    let row = Uuid::from_u128(9);
    receive(
        &mut link,
        &json!({"id": asked["id"], "error": null, "result": {"T": {row.to_string(): {"new": {"name": "a"}}}}}),
    )
    .unwrap();
    let change = json!({"T": {row.to_string(): {"old": {"name": "a"}, "new": {"name": "b"}}}});
    receive(&mut link, &json!({"id": null, "method": "update", "params": [1, change]})).unwrap();
    drop(feed);
    receive(&mut link, &json!({"id": null, "method": "update", "params": [1, change]})).unwrap();
    assert_eq!(sent(&mut link).pop().unwrap()["method"], "monitor_cancel");
    receive(&mut link, &json!({"id": null, "method": "update", "params": [1, change]})).unwrap();
    assert!(sent(&mut link).is_empty());
}
