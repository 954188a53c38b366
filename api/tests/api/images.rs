//! Images: upload, aliases, export, removal.

use axum::body::Body;
use http::Method;
use serde_json::json;

use crate::client::Client;
use crate::world::World;

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
    client.post("/1.0/images", json!({"source": {"type": "image", "server": "https://x"}})).await.error(501);
    client.post("/1.0/images", json!({})).await.error(400);
    assert_eq!(client.get("/1.0/images").await.ok().as_array().unwrap().len(), 1);
}
