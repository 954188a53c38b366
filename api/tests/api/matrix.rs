//! Every path and verb of the OpenAPI document, by every kind of caller: who may, by one table; and that a restricted
//! certificate neither sees what is in others' projects nor can tell that they exist.

use std::net::SocketAddr;

use basalt_api::port::LiveState;
use http::Method;
use serde_json::{Value, json};

use crate::access::{Remote, add_token, listen};
use crate::client::Answer;
use crate::world::World;

/// Path (`*` at the end for all below), verbs (`*` for all), and who may: **u**ntrusted, **m**etrics, **r**estricted,
/// **c**lient. The restricted one has a project that shares networks and images of the default one. The unix socket may all. The
/// first line that fits counts; a path without one fails the test.
const TABLE: &[(&str, &str, &str)] = &[
    ("/", "get", "umrc"),
    ("/1.0", "get", "umrc"),
    ("/1.0", "*", "c"),
    ("/1.0/openapi.json", "get", "umrc"),
    ("/1.0/metadata/*", "get", "umrc"),
    ("/1.0/events", "get", "rc"),
    ("/1.0/metrics", "get", "mrc"),
    ("/1.0/resources", "get", "c"),
    ("/1.0/warnings*", "*", "c"),
    // Without a token: with one, strangers become trusted here.
    ("/1.0/certificates*", "*", "c"),
    ("/1.0/cluster*", "*", "c"),
    ("/1.0/instances*", "*", "rc"),
    ("/1.0/containers*", "*", "rc"),
    ("/1.0/virtual-machines*", "*", "rc"),
    ("/1.0/images*", "get", "umrc"),
    ("/1.0/images", "post", "rc"),
    ("/1.0/images/{fingerprint}/secret", "post", "rc"),
    ("/1.0/images*", "*", "c"),
    ("/1.0/operations", "get", "rc"),
    // Whoever bears the secret of a stream may attach to it.
    ("/1.0/operations/{id}/wait", "get", "umrc"),
    ("/1.0/operations/{id}/websocket", "get", "umrc"),
    ("/1.0/operations/{id}", "*", "rc"),
    ("/1.0/profiles*", "*", "rc"),
    ("/1.0/projects*", "get", "rc"),
    ("/1.0/projects*", "*", "c"),
    ("/1.0/network-acls*", "get", "rc"),
    ("/1.0/network-acls*", "*", "c"),
    ("/1.0/network-allocations", "get", "rc"),
    ("/1.0/network-trace", "get", "rc"),
    ("/1.0/networks/{name}/doctor", "get", "c"),
    ("/1.0/network-address-sets*", "get", "rc"),
    ("/1.0/network-address-sets*", "*", "c"),
    ("/1.0/network-zones*", "get", "rc"),
    ("/1.0/network-zones*", "*", "c"),
    ("/1.0/networks*", "get", "rc"),
    ("/1.0/networks*", "*", "c"),
    ("/1.0/storage-pools/{name}/volumes*", "*", "rc"),
    ("/1.0/storage-pools*", "get", "rc"),
    ("/1.0/storage-pools*", "*", "c"),
];

fn verdict(path: &str, verb: &str) -> &'static str {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == pattern,
    };
    let line = TABLE.iter().find(|(p, verbs, _)| fits(p) && (*verbs == "*" || verbs.split(' ').any(|v| v == verb)));
    line.unwrap_or_else(|| panic!("the table says nothing of {verb} {path}")).2
}

/// Every path with its verbs.
fn routes() -> Vec<(String, Method)> {
    let document: Value = serde_json::from_str(include_str!("../../openapi.json")).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    let verbs = |(path, item): (&String, &Value)| {
        let known = ["get", "put", "post", "patch", "delete"].into_iter().filter(|v| item.get(*v).is_some());
        known.map(|v| (path.clone(), v.to_uppercase().parse().unwrap())).collect::<Vec<_>>()
    };
    paths.flat_map(verbs).collect()
}

/// The path with names in it: of things that exist, where `real`.
fn filled(path: &str, real: bool) -> String {
    let name = match path.split('/').nth(2).unwrap_or_default() {
        _ if !real => "nonesuch",
        "networks" => "basaltbr0",
        "storage-pools" | "profiles" => "default",
        "projects" => "mine",
        "members" => "node1",
        _ => "topsecret1",
    };
    let id = "00000000-0001-8000-8000-000000000000";
    let path = path.replace("{name}", name).replace("{kind}", "container").replace("{type}", "container");
    let path = path.replace("{volume}", "topsecret1").replace("{fingerprint}", "abc").replace("{id}", id);
    path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect::<Vec<_>>().join("/")
}

async fn send(remote: &Remote, method: &Method, path: &str, query: &str) -> Answer {
    let separator = if path.contains('?') { '&' } else { '?' };
    let body = if matches!(*method, Method::GET | Method::DELETE) { json!(null) } else { json!({}) };
    remote.send(method.clone(), &format!("{path}{separator}{query}"), body).await
}

async fn caller(world: &World, address: SocketAddr, request: Value) -> Remote {
    let remote = Remote::new(address, true);
    let token = add_token(world, request).await;
    remote.post("/1.0/certificates", json!({"trust_token": token})).await.ok();
    remote
}

async fn guest(world: &World, address: SocketAddr) -> Remote {
    world.client().post("/1.0/projects", json!({"name": "mine"})).await.ok();
    let request = json!({"name": "guest", "token": true, "restricted": true, "projects": ["mine"]});
    caller(world, address, request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_by_every_caller() {
    let world = World::of(1).await;
    let address = listen(&world, 0).await;
    let callers = [
        ('u', Remote::new(address, true)),
        ('m', caller(&world, address, json!({"name": "prometheus", "type": "metrics", "token": true})).await),
        ('r', guest(&world, address).await),
        ('c', caller(&world, address, json!({"name": "admin", "token": true})).await),
    ];
    let mut wrong = Vec::new();
    for (path, method) in routes() {
        let allowed = verdict(&path, &method.as_str().to_lowercase());
        let query = if allowed.contains('u') { "project=mine&secret=x" } else { "project=mine" };
        for (letter, remote) in &callers {
            let query = if *letter == 'r' { query } else { query.trim_start_matches("project=mine&") };
            // What the others may do is tried on nothing: it would be gone for those after them.
            let answer = send(remote, &method, &filled(&path, false), query).await;
            let (denied, expected) = (answer.code == 403, !allowed.contains(*letter));
            if denied != expected || answer.code == 500 {
                wrong.push(format!("{letter} {method} {path}: {} {}", answer.code, answer.json()["error"]));
            }
        }
        let unix = world.client().call(method.clone(), &filled(&path, false), json!({})).await;
        if unix.code == 403 || unix.code == 500 {
            wrong.push(format!("unix {method} {path}: {}", unix.code));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A project of others with a running instance, a profile and leases, one with networks of its own, and one that is the
/// caller's.
async fn secrets(world: &World) {
    let client = world.client();
    client.post("/1.0/projects", json!({"name": "hidden", "description": "topsecret"})).await.ok();
    let root = json!({"type": "disk", "path": "/", "pool": "default"});
    let nic = json!({"type": "nic", "network": "basaltbr0", "hwaddr": "00:16:3e:00:00:09"});
    let fixed = json!({"type": "nic", "network": "basaltbr0", "ipv4.address": "10.99.0.77"});
    let devices = json!({"root": root, "eth0": nic, "eth1": fixed});
    client.post("/1.0/profiles?project=hidden", json!({"name": "topsecretp", "devices": devices})).await.ok();
    let body = json!({"name": "topsecret1", "source": {"type": "none"}, "start": true, "profiles": ["topsecretp"]});
    client.done(client.post("/1.0/instances?project=hidden", body).await).await;
    let own = json!({"name": "hidden-too", "config": {"features.networks": "true", "features.images": "true"}});
    client.post("/1.0/projects", own).await.ok();
    client.patch("/1.0", json!({"config": {"network.ovn.northbound_connection": "unix:/nb.sock"}})).await.ok();
    let network = json!({"name": "topsecretn", "type": "ovn", "config": {"network": "none"}});
    assert_eq!(client.post("/1.0/networks?project=hidden-too", network).await.code, 201);
    client.post("/1.0/network-acls?project=hidden-too", json!({"name": "topsecreta"})).await.ok();
    client.post("/1.0/network-address-sets?project=hidden-too", json!({"name": "topsecrets"})).await.ok();
    let upload =
        client.request(Method::POST, "/1.0/images?project=hidden-too").header("x-incus-aliases", "alias=topsecreti");
    let upload = upload.header("content-type", "application/octet-stream").header("x-incus-filename", "topsecret.tar");
    client.done(client.send(upload.body("hidden image".into()).unwrap()).await).await;
    let id = *world.state().instances.keys().next().unwrap();
    world.telemetry.0.lock().unwrap().insert(id, LiveState { pid: 1, ..LiveState::default() });
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_others_is_shown_to_the_restricted() {
    let world = World::of(1).await;
    let guest = guest(&world, listen(&world, 0).await).await;
    secrets(&world).await;
    let mut leaks = Vec::new();
    for (path, method) in routes().into_iter().filter(|(_, method)| *method == Method::GET) {
        if !verdict(&path, "get").contains('r') || path.ends_with("/websocket") || path == "/1.0/openapi.json" {
            continue;
        }
        for query in ["recursion=2&project=mine", "recursion=2&all-projects=true", "recursion=0&project=mine"] {
            let answer = send(&guest, &method, &filled(&path, true), query).await;
            let text = String::from_utf8_lossy(&answer.bytes);
            if let Some(word) = ["topsecret", "hidden", "\"c9\"", "10.99.0.77"].iter().find(|w| text.contains(**w)) {
                leaks.push(format!("{path}?{query} shows {word}: {text}"));
            }
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_project_is_as_good_as_none() {
    let world = World::of(1).await;
    let guest = guest(&world, listen(&world, 0).await).await;
    secrets(&world).await;
    let mut told = Vec::new();
    for (path, method) in routes() {
        if !verdict(&path, &method.as_str().to_lowercase()).contains('r') {
            continue;
        }
        let ask = async |project: &str| {
            let path = match path.starts_with("/1.0/projects/") {
                true => path.replace("{name}", project),
                false => filled(&path, true),
            };
            let answer = send(&guest, &method, &path, &format!("project={project}")).await;
            (answer.code, String::from_utf8_lossy(&answer.bytes).replace(project, "X"))
        };
        let (hidden, absent) = (ask("hidden").await, ask("absent").await);
        // Times and figures of the program go on; what would be told is in the code and in error texts.
        let same = hidden.0 == absent.0 && (hidden.0.is_success() || hidden.1 == absent.1);
        if !same {
            told.push(format!("{method} {path}: {hidden:?} but {absent:?}"));
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
}
