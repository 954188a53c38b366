//! The stock `lxc` client, when it is installed.

use std::process::Stdio;

use tokio::process::Command;

use crate::world::World;

async fn lxc(world: &World, arguments: &[&str]) -> (i32, String, String) {
    let home = world.folder.path().join("home");
    std::fs::create_dir_all(&home).unwrap();
    let done = Command::new("lxc")
        .args(arguments)
        .env("LXD_SOCKET", &world.nodes[0].socket)
        .env("HOME", &home)
        .env("LXD_CONF", &home)
        .stdin(Stdio::null())
        .output();
    let done = tokio::time::timeout(std::time::Duration::from_secs(60), done).await.expect("lxc ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap_or(-1), text(done.stdout), text(done.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_lxc_lives_a_day() {
    if std::process::Command::new("lxc").arg("version").output().is_err() {
        println!("skipped: the package lxd-client is not installed");
        return;
    }
    let world = World::of(2).await;
    let ok = async |arguments: &[&str]| {
        let (code, out, err) = lxc(&world, arguments).await;
        assert_eq!(code, 0, "lxc {arguments:?}: {out}{err}");
        out
    };
    ok(&["init", "--empty", "c1", "--target", "node2"]).await;
    ok(&["start", "c1"]).await;
    let list = ok(&["list", "-f", "csv", "-c", "nstL"]).await;
    assert_eq!(list, "c1,RUNNING,CONTAINER,node2\n");
    assert!(ok(&["list", "c", "--format", "json"]).await.contains("\"c1\""));
    assert!(ok(&["list", "status=stopped", "-f", "csv"]).await.is_empty());
    let (code, out, err) = lxc(&world, &["exec", "c1", "--", "sh", "-c", "echo hi; exit 5"]).await;
    assert_eq!((code, out.as_str()), (5, "hi\n"), "{err}");
    ok(&["config", "set", "c1", "user.a=b"]).await;
    assert_eq!(ok(&["config", "get", "c1", "user.a"]).await, "b\n");
    ok(&["profile", "create", "web"]).await;
    ok(&["profile", "add", "c1", "web"]).await;
    assert!(ok(&["profile", "show", "web"]).await.contains("/1.0/instances/c1"));
    ok(&["info", "c1"]).await;
    ok(&["info"]).await;
    ok(&["pause", "c1"]).await;
    ok(&["start", "c1"]).await;
    ok(&["stop", "c1", "--force"]).await;
    ok(&["rename", "c1", "c2"]).await;
    ok(&["delete", "c2"]).await;
    assert!(ok(&["cluster", "list", "-f", "csv"]).await.contains("node2"));
    ok(&["cluster", "add", "node3"]).await;
    assert!(ok(&["cluster", "list-tokens", "-f", "csv"]).await.contains("node3"));
    ok(&["cluster", "revoke-token", "node3"]).await;
    ok(&["network", "create", "br7"]).await;
    assert!(ok(&["network", "list", "-f", "csv"]).await.contains("br7,bridge,YES"));
    ok(&["storage", "list"]).await;
    ok(&["project", "create", "p1"]).await;
    ok(&["config", "trust", "add", "--name", "x"]).await;
    assert!(ok(&["config", "trust", "list-tokens", "-f", "csv"]).await.contains('x'));
    ok(&["operation", "list"]).await;
    ok(&["warning", "list"]).await;
    assert!(ok(&["query", "/1.0"]).await.contains("api_extensions"));
}
