//! Images: upload, aliases, export, removal.

use axum::body::Body;
use http::Method;
use serde_json::json;

use crate::access::{Remote, listen};
use crate::client::Client;
use crate::world::{World, eventually};

async fn upload(client: &Client, bytes: &'static [u8], headers: &[(&str, &str)]) -> crate::client::Answer {
    let mut request = client.request(Method::POST, "/1.0/images").header("content-type", "application/octet-stream");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.send(request.body(Body::from(bytes)).unwrap()).await
}

#[tokio::test]
async fn unified_images() {
    let world = World::of(1).await;
    let client = world.client();
    let headers = [("x-lxd-public", "1"), ("x-lxd-filename", "deb.tar"), ("x-lxd-properties", "os=Mine&release=a+b")];
    let ended = client.done(upload(client, b"\x1f\x8bimage", &headers).await).await;
    let metadata = ended.metadata.unwrap();
    let fingerprint = metadata["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(metadata["size"], "7", "both are texts");
    let image = client.get(&format!("/1.0/images/{}", &fingerprint[..12])).await.ok();
    assert_eq!(image["fingerprint"], *fingerprint);
    assert_eq!(image["properties"], json!({"os": "Mine", "release": "a b"}));
    assert_eq!(image["public"], true);
    assert_eq!(image["type"], "container");
    let text = client.fails(upload(client, b"\x1f\x8bimage", &[]).await).await;
    assert_eq!(text, "Image with same fingerprint already exists");

    let alias = json!({"name": "debian/12", "target": fingerprint, "description": "d"});
    assert_eq!(client.post("/1.0/images/aliases", alias).await.code, 201);
    let shown = client.get("/1.0/images/aliases/debian%2F12").await.ok();
    assert_eq!(shown, json!({"name": "debian/12", "description": "d", "target": fingerprint, "type": "container"}));
    client.get("/1.0/images/aliases/none").await.error(404);
    assert_eq!(client.get("/1.0/images?recursion=1").await.ok()[0]["aliases"][0]["name"], "debian/12");

    let body = json!({"name": "c1", "source": {"type": "image", "alias": "debian/12"}});
    client.done(client.post("/1.0/instances", body).await).await;
    let config = client.get("/1.0/instances/c1").await.ok()["config"].clone();
    assert_eq!(config["image.os"], "Mine");
    assert_eq!(config["volatile.base_image"], *fingerprint);

    let export = client.get(&format!("/1.0/images/{fingerprint}/export")).await;
    assert_eq!(&export.bytes[..], b"\x1f\x8bimage");
    assert_eq!(export.header("content-disposition"), "attachment;filename=deb.tar");
    assert_eq!(export.header("content-length"), "7");

    client.patch(&format!("/1.0/images/{fingerprint}"), json!({"public": false, "properties": {"os": ""}})).await.ok();
    let image = client.get(&format!("/1.0/images/{fingerprint}")).await.ok();
    assert_eq!((&image["public"], &image["properties"]), (&json!(false), &json!({"release": "a b"})));
    client.done(client.delete(&format!("/1.0/images/{fingerprint}")).await).await;
    client.get("/1.0/images/aliases/debian%2F12").await.error(404);
}

#[tokio::test]
async fn split_images_and_what_is_none() {
    let world = World::of(1).await;
    let client = world.client();
    let form = "--B\r\nContent-Disposition: form-data; name=\"metadata\"; filename=\"m\"\r\n\r\nMETA\r\n\
                --B\r\nContent-Disposition: form-data; name=\"rootfs\"; filename=\"r\"\r\n\r\nROOT\r\n--B--\r\n";
    let send = |form: &str| {
        let request =
            client.request(Method::POST, "/1.0/images").header("content-type", "multipart/form-data; boundary=B");
        client.send(request.header("x-incus-aliases", "alias=one&alias=two").body(Body::from(form.to_owned())).unwrap())
    };
    let ended = client.done(send(form).await).await;
    let fingerprint = ended.metadata.unwrap()["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(fingerprint, basalt_api::token::sha256(b"METAROOT").to_string());
    assert_eq!(
        client.get("/1.0/images/aliases").await.ok(),
        json!(["/1.0/images/aliases/one", "/1.0/images/aliases/two"])
    );
    let export = client.get(&format!("/1.0/images/{fingerprint}/export")).await;
    let text = String::from_utf8(export.bytes.to_vec()).unwrap();
    assert!(export.header("content-type").starts_with("multipart/form-data; boundary="));
    assert_eq!(export.header("content-length"), text.len().to_string());
    let meta = text.find("name=\"metadata\"").unwrap();
    assert!(meta < text.find("META").unwrap() && text.find("META") < text.find("name=\"rootfs\""), "{text}");

    let swapped = form.replace("metadata", "x").replace("rootfs", "metadata");
    send(&swapped).await.error(400);
    assert!(client.fails(upload(client, b"bad image", &[]).await).await.contains("metadata.yaml"));
    upload(client, b"", &[]).await.error(400);
    let wrong = "0".repeat(64);
    assert!(upload(client, b"x", &[("x-lxd-fingerprint", &wrong)]).await.error(400).contains("fingerprint"));
    for (source, field) in [
        (json!({"type": "image", "server": "https://x"}), "source"),
        (json!({"type": "image", "mode": "pull", "server": "http://x", "alias": "a"}), "source.server"),
        (json!({"type": "image", "server": "https://x", "alias": "a", "protocol": "ftp"}), "source.protocol"),
        (json!({"type": "image", "server": "https://x", "alias": "a b"}), "source.alias"),
        (json!({"type": "image", "server": "https://x", "alias": "a", "image_type": "x"}), "source.image_type"),
        (json!({"type": "url"}), "source.url"),
        (json!({"type": "url", "url": "https://x", "fingerprint": "x"}), "source.fingerprint"),
        (json!({"type": "moon"}), "source.type"),
        (json!({"type": "instance"}), "source.name"),
        (json!({"type": "instance", "name": "c1/s"}), "source.name"),
        (json!({"type": "snapshot", "name": "c1"}), "source.name"),
        (json!("x"), "source"),
    ] {
        let text = client.post("/1.0/images", json!({"source": source})).await.error(400);
        assert!(text.starts_with(&format!("{field}: ")), "{field}: {text}");
    }
    client.post("/1.0/images", json!({})).await.error(400);
    assert_eq!(client.get("/1.0/images").await.ok().as_array().unwrap().len(), 1);
}

fn from_afar(name: &str, alias: &str) -> serde_json::Value {
    json!({"name": name, "source": {"type": "image", "mode": "pull", "server": "https://far", "protocol": "simplestreams",
        "alias": alias}})
}

#[tokio::test]
async fn pulled_images_are_kept_and_refreshed() {
    let world = World::of(1).await;
    let client = world.client();
    world.remotes.images.lock().unwrap().insert("tiny".into(), b"first");
    let source = json!({"type": "image", "mode": "pull", "server": "https://far/", "protocol": "simplestreams", "alias": "tiny"});
    let body = json!({"source": source, "auto_update": true, "public": true, "aliases": [{"name": "t"}],
        "properties": {"os": "Mine"}, "profiles": ["default"], "expires_at": "2030-01-01T00:00:00Z"});
    let ended = client.done(client.post("/1.0/images", body.clone()).await).await;
    let fingerprint = ended.metadata.unwrap()["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(fingerprint, basalt_api::token::sha256(b"first").to_string());
    let image = client.get(&format!("/1.0/images/{fingerprint}")).await.ok();
    assert_eq!(
        (&image["auto_update"], &image["public"], &image["cached"]),
        (&json!(true), &json!(true), &json!(false))
    );
    assert_eq!((&image["filename"], &image["expires_at"]), (&json!("far.tar"), &json!("2030-01-01T00:00:00Z")));
    assert_eq!(
        image["update_source"],
        json!({"alias": "tiny", "certificate": "", "protocol": "simplestreams", "server": "https://far", "image_type": ""})
    );
    // Again is no mistake, and downloads nothing.
    client.done(client.post("/1.0/images", body).await).await;
    assert_eq!(world.remotes.pulls.lock().unwrap().len(), 1);
    let text = client
        .fails(
            client
                .post("/1.0/images", json!({"source": {"type": "image", "server": "https://far", "alias": "none"}}))
                .await,
        )
        .await;
    assert_eq!(text, "Image \"none\" not found");

    let path = format!("/1.0/images/{fingerprint}/refresh");
    let ended = client.done(client.post(&path, json!({})).await).await;
    assert_eq!(ended.metadata.unwrap()["refreshed"], false);
    world.remotes.images.lock().unwrap().insert("tiny".into(), b"second");
    let ended = client.done(client.post(&path, json!({})).await).await;
    let metadata = ended.metadata.unwrap();
    let newer = metadata["fingerprint"].as_str().unwrap();
    assert_eq!((&metadata["refreshed"], newer), (&json!(true), basalt_api::token::sha256(b"second").as_str()));
    client.get(&format!("/1.0/images/{fingerprint}")).await.error(404);
    assert_eq!(client.get("/1.0/images/aliases/t").await.ok()["target"], *newer);
    assert_eq!(client.get(&format!("/1.0/images/{newer}")).await.ok()["auto_update"], true);
}

#[tokio::test]
async fn edits_of_images() {
    let world = World::of(1).await;
    let client = world.client();
    let ended = client.done(upload(client, b"image", &[]).await).await;
    let path = format!("/1.0/images/{}", ended.metadata.unwrap()["fingerprint"].as_str().unwrap());
    let before = client.get(&path).await;
    let etag = before.header("etag").to_owned();
    assert!(client.put(&path, json!({"auto_update": true})).await.error(400).starts_with("auto_update: "));
    assert!(client.put(&path, json!({"profiles": ["none"]})).await.error(400).starts_with("profiles: "));
    assert!(client.put(&path, json!({"expires_at": "soon"})).await.error(400).starts_with("expires_at: "));
    let body = json!({"public": true, "properties": {"os": "x"}, "profiles": [], "expires_at": "2031-01-01T00:00:00Z"});
    client.put(&path, body).await.ok();
    let after = client.get(&path).await;
    assert_ne!(after.header("etag"), etag);
    let image = after.ok();
    assert_eq!((&image["profiles"], &image["expires_at"]), (&json!([]), &json!("2031-01-01T00:00:00Z")));
    client.patch(&path, json!({"profiles": ["default"]})).await.ok();
    let image = client.get(&path).await.ok();
    assert_eq!((&image["profiles"], &image["public"]), (&json!(["default"]), &json!(true)));
    let stale = client.request(Method::PUT, &path).header("if-match", format!("\"{etag}\""));
    client.send(stale.body(Body::from("{}")).unwrap()).await.error(412);
}

#[tokio::test]
async fn instances_from_afar_share_one_download() {
    let world = World::of(2).await;
    let client = world.client();
    world.remotes.images.lock().unwrap().insert("tiny".into(), b"first");
    assert!(client.post("/1.0/instances", from_afar("a b", "tiny")).await.error(400).starts_with("name: "));
    let mut bad = from_afar("c1", "tiny");
    bad["source"]["server"] = json!("http://far");
    assert!(client.post("/1.0/instances", bad).await.error(400).starts_with("source.server: "));

    let hold = world.remotes.hold.write().await;
    let answers = [
        client.post("/1.0/instances", from_afar("c1", "tiny")).await,
        client.post("/1.0/instances", from_afar("", "tiny")).await,
        client.post("/1.0/instances", from_afar("c3", "tiny")).await,
    ];
    for answer in &answers {
        let id = answer.json()["operation"].as_str().unwrap().to_owned();
        eventually("how far it is can be seen", async || {
            let operation = client.get(&id).await.ok();
            let seen = operation["metadata"]["download_progress"] == "rootfs: 50% (1.00MB/s)";
            assert!(!seen || operation["may_cancel"] == true);
            seen
        })
        .await;
    }
    let url = answers[1].json()["metadata"]["resources"]["instances"][0].as_str().unwrap().to_owned();
    // One of them is taken back: the others go on.
    client.delete(answers[2].json()["operation"].as_str().unwrap()).await.ok();
    drop(hold);
    for answer in &answers[..2] {
        let ended = client.wait(answer).await;
        assert_eq!((ended.status.as_str(), ended.err.as_str()), ("Success", ""));
        assert!(!ended.metadata.unwrap_or_default().contains_key("download_progress"));
    }
    assert_eq!(world.remotes.pulls.lock().unwrap().len(), 1);
    client.get("/1.0/instances/c1").await.ok();
    client.get(&url).await.ok();
    client.get("/1.0/instances/c3").await.error(404);
    let image = client.get("/1.0/images?recursion=1").await.ok()[0].clone();
    assert_eq!(
        (&image["cached"], &image["auto_update"], &image["public"]),
        (&json!(true), &json!(true), &json!(false))
    );
    assert_ne!(image["last_used_at"], "0001-01-01T00:00:00Z");

    // It is kept current by itself, so its server need not be asked.
    world.remotes.images.lock().unwrap().clear();
    client.done(client.post("/1.0/instances", from_afar("c4", "tiny")).await).await;
    client.post("/1.0/instances", from_afar("c1", "none")).await.error(409);
    let text = client.fails(client.post("/1.0/instances", from_afar("c5", "none")).await).await;
    assert_eq!(text, "Image \"none\" not found");
    client.get("/1.0/instances/c5").await.error(404);

    // An import makes it an image like any other.
    world.remotes.images.lock().unwrap().insert("tiny".into(), b"first");
    let source = json!({"type": "image", "server": "https://far", "protocol": "simplestreams", "alias": "tiny"});
    client.done(client.post("/1.0/images", json!({"source": source})).await).await;
    let image = client.get("/1.0/images?recursion=1").await.ok()[0].clone();
    assert_eq!((&image["cached"], &image["auto_update"]), (&json!(false), &json!(false)));
}

#[tokio::test]
async fn a_download_that_nobody_waits_for_ends() {
    let world = World::of(1).await;
    let client = world.client();
    world.remotes.images.lock().unwrap().insert("tiny".into(), b"first");
    let hold = world.remotes.hold.write().await;
    let answer = client.post("/1.0/instances", from_afar("c1", "tiny")).await;
    eventually("the download has begun", async || !world.remotes.pulls.lock().unwrap().is_empty()).await;
    client.delete(answer.json()["operation"].as_str().unwrap()).await.ok();
    assert_eq!(client.wait(&answer).await.status, "Cancelled");
    eventually("it has ended", async || world.remotes.over.load(std::sync::atomic::Ordering::SeqCst) != 0).await;
    drop(hold);
    assert_eq!(client.get("/1.0/images").await.ok(), json!([]));
    client.get("/1.0/instances/c1").await.error(404);
}

#[tokio::test]
async fn a_secret_opens_one_image_once() {
    let world = World::of(2).await;
    let client = world.client();
    let ended = client.done(upload(client, b"private", &[]).await).await;
    let fingerprint = ended.metadata.unwrap()["fingerprint"].as_str().unwrap().to_owned();
    let ended = client.done(upload(client, b"other", &[]).await).await;
    let other = ended.metadata.unwrap()["fingerprint"].as_str().unwrap().to_owned();
    // Asked of a member that did not give it out.
    let stranger = Remote::new(listen(&world, 1).await, false);
    let path = format!("/1.0/images/{fingerprint}");
    stranger.get(&path).await.error(404);
    stranger.post(&format!("{path}/secret"), json!({})).await.error(403);
    let answer = client.post(&format!("{path}/secret"), json!({})).await;
    assert_eq!((answer.code.as_u16(), &answer.json()["metadata"]["class"]), (202, &json!("token")));
    let operation = answer.json()["operation"].as_str().unwrap().to_owned();
    let secret = answer.json()["metadata"]["metadata"]["secret"].as_str().unwrap().to_owned();

    assert_eq!(stranger.get(&format!("{path}?secret={secret}")).await.ok()["fingerprint"], *fingerprint);
    stranger.get(&format!("/1.0/images/{other}?secret={secret}")).await.error(404);
    stranger.get(&format!("{path}/export?secret={}", "0".repeat(96))).await.error(404);
    stranger.get(&format!("{path}/export")).await.error(404);
    let export = stranger.get(&format!("{path}/export?secret={secret}")).await;
    assert_eq!((&export.bytes[..], export.header("content-length")), (&b"private"[..], "7"));
    stranger.get(&format!("{path}/export?secret={secret}")).await.error(404);
    assert_eq!(client.wait(&answer).await.status, "Success");

    // Taking the operation back takes the secret back.
    let answer = client.post(&format!("{path}/secret"), json!({})).await;
    let secret = answer.json()["metadata"]["metadata"]["secret"].as_str().unwrap().to_owned();
    client.delete(answer.json()["operation"].as_str().unwrap()).await.ok();
    client.wait(&answer).await;
    stranger.get(&format!("{path}?secret={secret}")).await.error(404);
    assert_ne!(operation, answer.json()["operation"]);

    // What is public needs none.
    client.patch(&path, json!({"public": true})).await.ok();
    let near = Remote::new(listen(&world, 0).await, false);
    assert_eq!(&near.get(&format!("{path}/export")).await.bytes[..], b"private");
    assert_eq!(near.get("/1.0/images").await.ok().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn uploads_that_were_announced() {
    let world = World::of(2).await;
    let client = world.client();
    let stranger = Remote::new(listen(&world, 1).await, false);
    let fingerprint = basalt_api::token::sha256(b"pushed").to_string();
    let source = json!({"mode": "push", "type": "image", "fingerprint": fingerprint});
    let body = json!({"source": source, "public": true, "aliases": [{"name": "p"}], "properties": {"os": "Mine"}});
    stranger.post("/1.0/images", body.clone()).await.error(403);
    client.post("/1.0/images", json!({"source": {"mode": "push", "fingerprint": "x"}})).await.error(400);
    let announced = client.post("/1.0/images", body.clone()).await;
    let secret = announced.json()["metadata"]["metadata"]["secret"].as_str().unwrap().to_owned();
    let send = |bytes: &'static [u8], fingerprint: &str, secret: &str| {
        let request = http::Request::post("/1.0/images").header("x-lxd-fingerprint", fingerprint);
        let request =
            request.header("x-lxd-secret", secret).header("x-lxd-filename", "p.tar").header("x-lxd-public", "0");
        stranger.request(request.header("content-type", "application/octet-stream").body(Body::from(bytes)).unwrap())
    };
    send(b"pushed", &fingerprint, &"0".repeat(96)).await.error(403);
    send(b"pushed", &"a".repeat(64), &secret).await.error(403);
    let answer = send(b"pushed", &fingerprint, &secret).await;
    assert_eq!(answer.code, 202, "{}", answer.json());
    let id = answer.json()["operation"].as_str().unwrap().to_owned();
    let waiting = answer.json()["metadata"]["metadata"]["secret"].as_str().unwrap().to_owned();
    stranger.get(&format!("{id}/wait")).await.error(403);
    let ended = stranger.get(&format!("{id}/wait?secret={waiting}")).await.ok();
    assert_eq!((&ended["status"], &ended["err"]), (&json!("Success"), &json!("")));
    send(b"pushed", &fingerprint, &secret).await.error(403);
    let image = client.get(&format!("/1.0/images/{fingerprint}")).await.ok();
    assert_eq!(
        (&image["public"], &image["properties"]["os"], &image["filename"]),
        (&json!(true), &json!("Mine"), &json!("p.tar"))
    );
    assert_eq!(client.get("/1.0/images/aliases/p").await.ok()["target"], *fingerprint);
    client.post("/1.0/images", body).await.error(409);

    // Another content than was announced is refused, and uses the secret up.
    let source = json!({"mode": "push", "type": "image", "fingerprint": basalt_api::token::sha256(b"good").as_str()});
    let announced = client.post("/1.0/images", json!({"source": source})).await;
    let secret = announced.json()["metadata"]["metadata"]["secret"].as_str().unwrap().to_owned();
    send(b"evil", basalt_api::token::sha256(b"good").as_str(), &secret).await.error(400);
    send(b"good", basalt_api::token::sha256(b"good").as_str(), &secret).await.error(403);
    assert_eq!(client.get("/1.0/images").await.ok().as_array().unwrap().len(), 1);

    let path = format!("/1.0/images/{fingerprint}/export");
    client.post(&path, json!({"target": "http://x", "secret": "s"})).await.error(400);
    client.post(&path, json!({"target": "https://x"})).await.error(400);
    client.done(client.post(&path, json!({"target": "https://far/", "secret": "s"})).await).await;
    assert_eq!(world.remotes.pulls.lock().unwrap().as_slice(), [format!("{fingerprint} to https://far with s")]);
}

#[tokio::test]
async fn images_of_instances() {
    let world = World::of(1).await;
    let client = world.client();
    world.create("c1", true).await;
    let publish = |more: serde_json::Value| {
        let mut body = json!({"source": {"type": "container", "name": "c1"}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client.post("/1.0/images", body)
    };
    assert_eq!(publish(json!({})).await.error(400), "Cannot export a running instance as an image");
    client.done(client.put("/1.0/instances/c1/state", json!({"action": "stop", "force": true})).await).await;
    for (more, field) in [
        (json!({"compression_algorithm": "bzip2"}), "compression_algorithm"),
        (json!({"aliases": [{"name": "a b"}]}), "aliases"),
        (json!({"expires_at": "soon"}), "expires_at"),
        (json!({"source": {"type": "virtual-machine", "name": "c1"}}), "source.type"),
    ] {
        let text = publish(more).await.error(400);
        assert!(text.starts_with(&format!("{field}: ")), "{text}");
    }
    let missing = json!({"source": {"type": "instance", "name": "none"}});
    assert_eq!(publish(missing).await.error(404), "Instance not found");

    let more = json!({"public": true, "aliases": [{"name": "mine"}], "properties": {"os": "Made"},
                      "compression_algorithm": "zstd", "expires_at": "2040-01-02T03:04:05Z"});
    let ended = client.done(publish(more).await).await;
    let metadata = ended.metadata.unwrap();
    let fingerprint = metadata["fingerprint"].as_str().unwrap();
    assert!(metadata["size"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(metadata["create_image_from_container_pack_progress"], "Image pack: 1.50MB");
    let image = client.get("/1.0/images/aliases/mine").await.ok();
    assert_eq!(image["target"], fingerprint);
    let image = client.get(&format!("/1.0/images/{fingerprint}")).await.ok();
    assert_eq!((&image["public"], &image["properties"]), (&json!(true), &json!({"os": "Made"})));
    assert_eq!(image["expires_at"], "2040-01-02T03:04:05Z");
    // Without a word about it, gzip, and what the instance's own image said.
    let ended = client.done(publish(json!({})).await).await;
    let fingerprint = ended.metadata.unwrap()["fingerprint"].as_str().unwrap().to_owned();
    let export = client.get(&format!("/1.0/images/{fingerprint}/export")).await;
    assert!(String::from_utf8_lossy(&export.bytes).ends_with("None Gzip"), "{:?}", export.bytes);
    assert_eq!(client.get(&format!("/1.0/images/{fingerprint}")).await.ok()["properties"], json!({"os": "Debian"}));
}
