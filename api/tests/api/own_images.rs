//! Projects with images of their own: what names mean there, who may change what, and what comes from elsewhere.

use axum::body::Body;
use basalt_api::token::sha256;
use http::Method;
use serde_json::{Value, json};

use crate::access::{Remote, add_token, listen};
use crate::client::{Answer, Client};
use crate::world::World;

/// A cluster with three projects: `own` and `other` have images of their own, `plain` has none.
async fn world() -> World {
    let world = World::of(1).await;
    for (name, feature) in [("own", "true"), ("other", "true"), ("plain", "false")] {
        let body = json!({"name": name, "config": {"features.images": feature}});
        world.client().post("/1.0/projects", body).await.ok();
    }
    world
}

async fn upload(client: &Client, project: &str, bytes: &'static [u8], alias: &str) -> Answer {
    let request = client.request(Method::POST, &format!("/1.0/images?project={project}"));
    let request = request.header("content-type", "application/octet-stream").header("x-incus-filename", "tiny.tar");
    let request = match alias {
        "" => request,
        alias => request.header("x-incus-aliases", format!("alias={alias}")),
    };
    client.send(request.body(Body::from(bytes)).unwrap()).await
}

/// The image's path.
async fn image(client: &Client, project: &str, bytes: &'static [u8], alias: &str) -> String {
    client.done(upload(client, project, bytes, alias).await).await;
    format!("/1.0/images/{}", sha256(bytes))
}

fn instance(name: &str, source: &Value) -> Value {
    let devices = json!({"root": {"type": "disk", "path": "/", "pool": "default"}});
    json!({"name": name, "source": source, "devices": devices})
}

fn named(alias: &str) -> Value {
    json!({"type": "image", "alias": alias})
}

#[tokio::test]
async fn the_same_image_and_the_same_alias_in_two_projects() {
    let world = world().await;
    let client = world.client();
    let path = image(client, "default", b"one", "debian/12").await;
    assert_eq!(image(client, "own", b"one", "debian%2F12").await, path);
    let other = image(client, "other", b"two", "debian%2F12").await;
    let again = client.fails(upload(client, "own", b"one", "").await).await;
    assert_eq!(again, "Image with same fingerprint already exists");
    let print = |path: &str| path.rsplit('/').next().unwrap().to_owned();

    // Each is changed for itself.
    client.patch(&format!("{path}?project=own"), json!({"public": true, "properties": {"os": "Mine"}})).await.ok();
    assert_eq!(client.get(&path).await.ok()["public"], false);
    let shown = client.get(&format!("{path}?project=own")).await.ok();
    assert_eq!((&shown["project"], &shown["properties"]), (&json!("own"), &json!({"os": "Mine"})));
    assert_eq!(shown["aliases"], json!([{"name": "debian/12", "description": ""}]));
    client.get(&format!("{path}?project=other")).await.error(404);
    assert_eq!(client.get(&format!("{path}?project=plain")).await.ok()["project"], "default");
    for (project, target) in [("default", &path), ("own", &path), ("other", &other), ("plain", &path)] {
        let alias = client.get(&format!("/1.0/images/aliases/debian%2F12?project={project}")).await.ok();
        assert_eq!(alias["target"], print(target), "{project}");
    }
    let made = client.post("/1.0/images/aliases?project=own", json!({"name": "also", "target": print(&path)})).await;
    assert_eq!(made.header("location"), "/1.0/images/aliases/also?project=own");
    client.get("/1.0/images/aliases/also").await.error(404);
    let missing = json!({"name": "also", "target": print(&other)});
    client.post("/1.0/images/aliases?project=own", missing).await.error(404);

    // Lists.
    let own = format!("{path}?project=own");
    assert_eq!(client.get("/1.0/images?project=own").await.ok(), json!([own]));
    assert_eq!(client.get("/1.0/images").await.ok(), json!([path]));
    let all = client.get("/1.0/images?all-projects=true&recursion=1").await.ok();
    let projects: Vec<&str> = all.as_array().unwrap().iter().map(|i| i["project"].as_str().unwrap()).collect();
    assert_eq!(projects, ["default", "other", "own"]);
    client.get("/1.0/images?all-projects=true&project=own").await.error(400);
    let aliases = client.get("/1.0/images/aliases?project=own").await.ok();
    assert_eq!(aliases, json!(["/1.0/images/aliases/also?project=own", "/1.0/images/aliases/debian/12?project=own"]));
    let used_by = client.get("/1.0/projects/own").await.ok()["used_by"].clone();
    assert_eq!(used_by, json!(["/1.0/profiles/default?project=own", own]));

    // What goes in one stays in the others, with its files.
    client.done(client.delete(&path).await).await;
    client.get(&path).await.error(404);
    client.get("/1.0/images/aliases/debian%2F12?project=plain").await.error(404);
    assert_eq!(&client.get(&format!("{path}/export?project=own")).await.bytes[..], b"one");
    assert!(world.state().image_with(&sha256(b"one")).is_some());
    client.done(client.delete(&own).await).await;
    assert!(world.state().image_with(&sha256(b"one")).is_none());
}

#[tokio::test]
async fn instances_are_made_from_images_of_their_project() {
    let world = world().await;
    let client = world.client();
    image(client, "default", b"one", "tiny").await;
    for source in [named("tiny"), json!({"type": "image", "fingerprint": sha256(b"one").as_str()})] {
        let why = client.post("/1.0/instances?project=own", instance("c1", &source)).await.error(404);
        assert!(why.contains("not found"), "{why}");
    }
    client.done(client.post("/1.0/instances?project=plain", instance("c1", &named("tiny"))).await).await;
    image(client, "own", b"two", "tiny").await;
    client.done(client.post("/1.0/instances?project=own", instance("c1", &named("tiny"))).await).await;
    let made = client.get("/1.0/instances/c1?project=own").await.ok();
    assert_eq!(made["config"]["volatile.base_image"], sha256(b"two").as_str());
    let rebuild =
        async |alias: &str| client.post("/1.0/instances/c1/rebuild?project=own", json!({"source": named(alias)})).await;
    image(client, "other", b"three", "third").await;
    rebuild("third").await.error(404);
    client.done(rebuild("tiny").await).await;

    // What is made of an instance is an image of its project.
    let source = json!({"type": "instance", "name": "c1"});
    let body = json!({"source": source, "aliases": [{"name": "made"}]});
    let ended = client.done(client.post("/1.0/images?project=own", body).await).await;
    let made = ended.metadata.unwrap()["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(client.get(&format!("/1.0/images/{made}?project=own")).await.ok()["project"], "own");
    client.get(&format!("/1.0/images/{made}")).await.error(404);
}

#[tokio::test]
async fn whose_images_a_project_has() {
    let world = world().await;
    let client = world.client();
    let path = image(client, "own", b"one", "tiny").await;
    assert_eq!(client.get("/1.0/projects/default").await.ok()["config"]["features.images"], "true");
    assert_eq!(client.get("/1.0/projects/plain").await.ok()["config"]["features.images"], "false");
    assert_eq!(client.get("/1.0/projects/own").await.ok()["config"]["features.images"], "true");
    let off = json!({"config": {"features.images": "false"}});
    let why = client.patch("/1.0/projects/own", off.clone()).await.error(400);
    assert!(why.starts_with("features.images cannot be changed: the project has image "), "{why}");
    client.post("/1.0/projects", json!({"name": "p", "config": {"features.images": "maybe"}})).await.error(400);
    assert!(client.delete("/1.0/projects/own").await.error(400).contains("only empty projects"));
    client.done(client.post("/1.0/projects/own", json!({"name": "new"})).await).await;
    assert_eq!(client.get(&format!("{path}?project=new")).await.ok()["aliases"][0]["name"], "tiny");
    client.delete("/1.0/projects/new?force=1").await.ok();
    assert_eq!((world.state().images.len(), world.state().aliases.len()), (0, 0));
    client.patch("/1.0/projects/other", off).await.ok();
    assert_eq!(client.get("/1.0/projects/other").await.ok()["config"]["features.images"], "false");
}

#[tokio::test]
async fn restricted_certificates_change_images_of_their_projects() {
    let world = world().await;
    let client = world.client();
    let shared = image(client, "default", b"shared", "tiny").await;
    let hidden = image(client, "other", b"hidden", "secret").await;
    let mine = image(client, "own", b"mine", "mine").await;
    let guest = json!({"name": "guest", "token": true, "restricted": true, "projects": ["own", "plain"]});
    let token = add_token(&world, guest).await;
    let remote = Remote::new(listen(&world, 0).await, true);
    remote.post("/1.0/certificates", json!({"trust_token": token})).await.ok();

    let all = remote.get("/1.0/images?all-projects=true").await.ok();
    assert_eq!(all, json!([shared, format!("{mine}?project=own")]));
    assert_eq!(remote.get("/1.0/images?project=plain").await.ok(), json!([shared]));
    // Of projects that are not the caller's there is only what is public, whether they exist or not.
    for project in ["other", "default", "nowhere"] {
        assert_eq!(remote.get(&format!("/1.0/images?project={project}")).await.ok(), json!([]), "{project}");
        for path in [&hidden, &shared] {
            remote.get(&format!("{path}?project={project}")).await.error(404);
            remote.get(&format!("{path}/export?project={project}")).await.error(404);
            remote.post(&format!("{path}/secret?project={project}"), json!({})).await.error(404);
            remote.send(Method::PATCH, &format!("{path}?project={project}"), json!({"public": true})).await.error(403);
        }
        remote.get(&format!("/1.0/images/aliases/secret?project={project}")).await.error(404);
    }
    remote.get(&format!("{hidden}?project=own")).await.error(404);

    // Those of the default project are everybody's: to use, and to add to.
    for (method, path) in [
        (Method::DELETE, format!("{shared}?project=plain")),
        (Method::PUT, format!("{shared}?project=plain")),
        (Method::POST, format!("{shared}/refresh?project=plain")),
        (Method::POST, "/1.0/images/aliases?project=plain".to_owned()),
        (Method::DELETE, "/1.0/images/aliases/tiny?project=plain".to_owned()),
        (Method::POST, "/1.0/images/aliases/secret?project=plain".to_owned()),
    ] {
        remote.send(method.clone(), &path, json!({})).await.error(403);
    }
    assert_eq!(remote.post(&format!("{shared}/secret?project=plain"), json!({})).await.code, 202);
    // Nor are they changed by what another server claims to have.
    world.remotes.images.lock().unwrap().insert("claimed".into(), b"shared");
    let source = json!({"type": "image", "server": "https://far", "protocol": "incus", "alias": "claimed"});
    let body = json!({"source": source, "public": true, "properties": {"os": "Theirs"}});
    let before = client.get(&shared).await.ok();
    client.done(remote.post("/1.0/images?project=plain", body.clone()).await).await;
    assert_eq!(client.get(&shared).await.ok(), before);
    client.done(remote.post("/1.0/images?project=own", body).await).await;
    let theirs = remote.get(&format!("{shared}?project=own")).await.ok();
    assert_eq!((&theirs["public"], &theirs["properties"]["os"]), (&json!(true), &json!("Theirs")));
    remote.send(Method::DELETE, &format!("{shared}?project=own"), json!(null)).await;

    remote.send(Method::PATCH, &format!("{mine}?project=own"), json!({"public": true})).await.ok();
    let alias = json!({"name": "ours", "target": sha256(b"mine").as_str()});
    assert_eq!(remote.post("/1.0/images/aliases?project=own", alias).await.code, 201);
    remote.send(Method::DELETE, "/1.0/images/aliases/ours?project=own", json!(null)).await.ok();
    assert_eq!(remote.send(Method::DELETE, &format!("{mine}?project=own"), json!(null)).await.code, 202);
    assert!(world.state().image_with(&sha256(b"mine")).is_none());
}

#[tokio::test]
async fn strangers_see_what_is_public_of_every_project() {
    let world = world().await;
    let client = world.client();
    let open = image(client, "own", b"open", "tiny").await;
    let closed = image(client, "own", b"closed", "").await;
    image(client, "default", b"open", "").await;
    client.patch(&format!("{open}?project=own"), json!({"public": true})).await.ok();
    let stranger = Remote::new(listen(&world, 0).await, false);
    assert_eq!(stranger.get("/1.0/images").await.ok(), json!([]));
    assert_eq!(stranger.get("/1.0/images?project=own").await.ok(), json!([format!("{open}?project=own")]));
    assert_eq!(stranger.get("/1.0/images?all-projects=1").await.ok(), json!([format!("{open}?project=own")]));
    assert_eq!(stranger.get("/1.0/images?project=nowhere").await.ok(), json!([]));
    stranger.get("/1.0/images/aliases/tiny?project=own").await.ok();
    stranger.get("/1.0/images/aliases/tiny").await.error(404);
    assert_eq!(&stranger.get(&format!("{open}/export?project=own")).await.bytes[..], b"open");
    stranger.get(&open).await.error(404);
    stranger.get(&format!("{closed}?project=own")).await.error(404);
    // A secret is for one image of one project, whichever the request names.
    let answer = client.post(&format!("{closed}/secret?project=own"), json!({})).await;
    let secret = answer.json()["metadata"]["metadata"]["secret"].as_str().unwrap().to_owned();
    for query in ["", "&project=own"] {
        assert_eq!(stranger.get(&format!("{closed}?secret={secret}{query}")).await.ok()["project"], "own");
    }
    assert_eq!(&stranger.get(&format!("{closed}/export?project=own&secret={secret}")).await.bytes[..], b"closed");
    stranger.get(&format!("{closed}/export?project=own&secret={secret}")).await.error(404);
}

#[tokio::test]
async fn each_project_downloads_for_itself() {
    let world = world().await;
    let client = world.client();
    let remote = |name: &'static str, content: &'static [u8]| {
        world.remotes.images.lock().unwrap().insert(name.into(), content);
    };
    let pulls = || world.remotes.pulls.lock().unwrap().clone();
    remote("tiny", b"first");
    remote("lab/tiny", b"of a project");
    let far = json!({"type": "image", "mode": "pull", "server": "https://far", "protocol": "incus", "alias": "tiny"});
    let body = json!({"source": far, "auto_update": true, "aliases": [{"name": "t"}]});
    for project in ["default", "own", "own"] {
        client.done(client.post(&format!("/1.0/images?project={project}"), body.clone()).await).await;
    }
    assert_eq!(pulls(), ["tiny", "tiny"], "what another project has is not taken from there");
    // A newer one takes its place where it is asked for.
    remote("tiny", b"second");
    let path = format!("/1.0/images/{}/refresh?project=own", sha256(b"first"));
    let ended = client.done(client.post(&path, json!({})).await).await;
    assert_eq!(ended.metadata.unwrap()["refreshed"], true);
    let target = async |query: &str| {
        client.get(&format!("/1.0/images/aliases/t{query}")).await.ok()["target"].as_str().unwrap().to_owned()
    };
    assert_eq!((target("").await, target("?project=own").await), (sha256(b"first").into(), sha256(b"second").into()));
    // What comes with an instance is its project's.
    client.done(client.post("/1.0/instances?project=other", instance("c1", &far)).await).await;
    let cached = client.get("/1.0/images?project=other&recursion=1").await.ok();
    assert_eq!((&cached[0]["fingerprint"], &cached[0]["cached"]), (&json!(sha256(b"second").as_str()), &json!(true)));
    client.done(client.post("/1.0/instances?project=other", instance("c2", &far)).await).await;
    assert_eq!(pulls().len(), 4, "it is kept current");

    // Images of a project of the other server.
    let mut of_lab = far.clone();
    of_lab["project"] = json!("lab");
    let ended = client.done(client.post("/1.0/images?project=other", json!({"source": of_lab})).await).await;
    assert_eq!(ended.metadata.unwrap()["fingerprint"], sha256(b"of a project").as_str());
    of_lab["project"] = json!("a b");
    let why = client.post("/1.0/images", json!({"source": of_lab})).await.error(400);
    assert!(why.starts_with("source.project: "), "{why}");
    let path = format!("/1.0/images/{}/export?project=own", sha256(b"second"));
    let to = json!({"target": "https://far", "secret": "s", "project": "lab"});
    client.done(client.post(&path, to).await).await;
    assert_eq!(pulls().last().unwrap(), &format!("{} to https://far with s in lab", sha256(b"second")));
}

#[tokio::test]
async fn announced_images_come_to_the_project_that_asked() {
    let world = world().await;
    let client = world.client();
    image(client, "default", b"pushed", "").await;
    let print = sha256(b"pushed").to_string();
    let source = json!({"mode": "push", "type": "image", "fingerprint": print});
    let body = json!({"source": source, "aliases": [{"name": "p"}]});
    client.post("/1.0/images?project=plain", body.clone()).await.error(409);
    let announced = client.post("/1.0/images?project=own", body).await;
    let secret = announced.json()["metadata"]["metadata"]["secret"].as_str().unwrap().to_owned();
    let stranger = Remote::new(listen(&world, 0).await, false);
    let request = http::Request::post("/1.0/images?project=own").header("x-incus-fingerprint", &print);
    let request = request.header("x-incus-secret", &secret).header("content-type", "application/octet-stream");
    let answer = stranger.request(request.body(Body::from(&b"pushed"[..])).unwrap()).await;
    client.done(answer).await;
    let alias = client.get("/1.0/images/aliases/p?project=own").await.ok();
    assert_eq!(alias["target"], print);
    client.get("/1.0/images/aliases/p").await.error(404);
}
