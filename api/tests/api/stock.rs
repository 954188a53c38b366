//! The stock `lxc` client, when it is installed.

use std::process::Stdio;

use tokio::process::Command;

use crate::world::World;

async fn lxc(world: &World, arguments: &[&str]) -> (i32, String, String) {
    stock(world, "lxc", arguments).await
}

async fn stock(world: &World, program: &str, arguments: &[&str]) -> (i32, String, String) {
    let home = world.folder.path().join("home");
    std::fs::create_dir_all(&home).unwrap();
    let socket = &world.nodes[0].socket;
    let done = Command::new(program)
        .args(arguments)
        .env("LXD_SOCKET", socket)
        .env("INCUS_SOCKET", socket)
        .env("HOME", &home)
        .env("LXD_CONF", &home)
        .env("INCUS_CONF", &home)
        .stdin(Stdio::null())
        .output();
    let done = tokio::time::timeout(std::time::Duration::from_secs(60), done).await.expect("it ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap_or(-1), text(done.stdout), text(done.stderr))
}

/// What a command line of plain words prints; it must succeed.
async fn ok(world: &World, program: &str, line: &str) -> String {
    let (code, out, err) = stock(world, program, &line.split(' ').collect::<Vec<_>>()).await;
    assert_eq!(code, 0, "{program} {line}: {out}{err}");
    out
}

/// What a command line of plain words complains of; it must fail.
async fn refused(world: &World, program: &str, line: &str) -> String {
    let (code, out, err) = stock(world, program, &line.split(' ').collect::<Vec<_>>()).await;
    assert_ne!(code, 0, "{program} {line}: {out}{err}");
    err
}

/// The uplink `up0` of logical networks.
async fn uplink(world: &World, program: &str) {
    for line in [
        "config set network.ovn.northbound_connection=unix:/nb.sock",
        "network create up0 --type=physical parent=eth1 --target=node1",
        "network create up0 --type=physical parent=eth1 --target=node2",
        "network create up0 --type=physical ipv4.gateway=192.0.2.1/24 ipv4.ovn.ranges=192.0.2.10-192.0.2.20",
    ] {
        ok(world, program, line).await;
    }
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

/// What the stock clients do with logical networks, lists, forwards, balancers and peerings. Who carries the packets is
/// another suite's question.
#[tokio::test(flavor = "multi_thread")]
async fn stock_clients_run_logical_networks() {
    for program in ["lxc", "incus"] {
        if std::process::Command::new(program).arg("version").output().is_err() {
            println!("skipped: {program} is not installed");
            continue;
        }
        logical(&World::of(2).await, program).await;
    }
}

async fn logical(world: &World, program: &str) {
    let ok = async |line: &str| ok(world, program, line).await;
    let refused = async |line: &str| refused(world, program, line).await;
    uplink(world, program).await;
    ok("network create net0 --type=ovn network=up0 ipv4.address=10.3.0.1/24").await;
    ok("network create net1 --type=ovn network=up0 ipv4.address=10.4.0.1/24").await;
    assert!(refused("network create net2 --type=ovn network=up0 ipv4.address=10.4.0.9/24").await.contains("overlaps"));
    let list = ok("network list --format csv").await;
    assert!(list.contains("net0,ovn,YES,10.3.0.1/24") && list.contains("up0,physical,YES"), "{list}");
    assert!(ok("network show net0").await.contains("network: up0"));
    ok("network set net0 dns.domain=lab").await;
    assert_eq!(ok("network get net0 dns.domain").await.trim(), "lab");
    assert!(ok("network info net0").await.contains("State: up"));
    ok("init --empty c1").await;
    ok("network attach net0 c1 eth0 eth0").await;
    ok("config device set c1 eth0 ipv4.address=10.3.0.7").await;
    assert!(ok("network list-leases net0 --format csv").await.contains("10.3.0.7"));
    assert!(refused("network delete net0").await.contains("used"));

    ok("network acl create web").await;
    ok("network acl rule add web ingress action=allow protocol=tcp destination_port=80 source=10.0.0.0/8").await;
    ok("network acl rule add web egress action=drop destination=@external state=logged").await;
    assert!(refused("network acl rule add web ingress action=allow source=nobody").await.contains("ingress[1].source"));
    let shown = ok("network acl show web").await;
    assert!(shown.contains("destination_port: \"80\"") && shown.contains("state: logged"), "{shown}");
    ok("network acl rule remove web egress action=drop").await;
    ok("network acl set web user.a=b").await;
    ok("network set net0 security.acls=web").await;
    ok("config device set c1 eth0 security.acls=web").await;
    assert!(refused("network acl delete web").await.contains("used"));
    assert!(ok("network acl list --format csv").await.contains("web,"));

    ok("network forward create net0 192.0.2.15 target_address=10.3.0.7").await;
    ok("network forward port add net0 192.0.2.15 tcp 80,90-92 10.3.0.7").await;
    assert!(
        refused("network forward port add net0 192.0.2.15 udp 53 10.9.0.1").await.contains("ports[1].target_address")
    );
    assert!(ok("network forward list net0 --format csv").await.contains("192.0.2.15,"));
    ok("network forward port remove net0 192.0.2.15 tcp 80,90-92").await;
    ok("network forward delete net0 192.0.2.15").await;

    ok("network peer create net0 to1 net1").await;
    assert!(ok("network peer list net0 --format csv").await.contains("PENDING"));
    ok("network peer create net1 to0 net0").await;
    assert!(ok("network peer show net0 to1").await.contains("status: Created"));
    ok("network peer delete net1 to0").await;
    ok("network peer delete net0 to1").await;

    if program == "incus" {
        ok("network load-balancer create net0 192.0.2.16 healthcheck=true").await;
        ok("network load-balancer backend add net0 192.0.2.16 b1 10.3.0.7 8080").await;
        ok("network load-balancer port add net0 192.0.2.16 tcp 80 b1").await;
        assert!(ok("network load-balancer list net0 --format csv").await.contains("192.0.2.16,"));
        ok("network load-balancer delete net0 192.0.2.16").await;
        assert!(ok("network list-allocations --format csv").await.contains("10.3.0.7"));
    }
    ok("delete c1").await;
    for name in ["net1", "net0", "up0"] {
        ok(&format!("network delete {name}")).await;
    }
    ok("network acl delete web").await;
}

/// What the stock clients do in a project that has networks of its own.
#[tokio::test(flavor = "multi_thread")]
async fn stock_clients_run_networks_of_projects() {
    for program in ["lxc", "incus"] {
        if std::process::Command::new(program).arg("version").output().is_err() {
            println!("skipped: {program} is not installed");
            continue;
        }
        own_networks(&World::of(2).await, program).await;
    }
}

async fn own_networks(world: &World, program: &str) {
    let ok = async |line: &str| ok(world, program, line).await;
    let refused = async |line: &str| refused(world, program, line).await;
    uplink(world, program).await;
    ok("network create lan0 --type=ovn network=up0 ipv4.address=10.3.0.1/24").await;
    ok("project create own -c features.networks=true -c features.images=false").await;
    let own = async |line: &str| ok(&format!("--project own {line}")).await;
    assert!(refused("--project own network create br7 --type=bridge").await.contains("not allowed in project"));
    own("network create lan0 --type=ovn network=up0 ipv4.address=10.4.0.1/24").await;
    let list = own("network list --format csv").await;
    assert!(list.contains("lan0,ovn,YES,10.4.0.1/24") && !list.contains("up0"), "{list}");
    let list = ok("network list --format csv").await;
    assert!(list.contains("lan0,ovn,YES,10.3.0.1/24") && !list.contains("10.4.0.1"), "{list}");
    own("network set lan0 dns.domain=lab").await;
    assert_eq!(ok("network get lan0 dns.domain").await.trim(), "");
    own("profile device add default root disk path=/ pool=default").await;
    own("profile device add default eth0 nic network=lan0").await;
    own("init --empty c1").await;
    own("config device override c1 eth0 ipv4.address=10.4.0.7").await;
    assert!(own("network list-leases lan0 --format csv").await.contains("10.4.0.7"));
    assert!(own("network show lan0").await.contains("/1.0/instances/c1"));
    assert!(!ok("network show lan0").await.contains("/1.0/instances/c1"));
    assert!(refused("--project own network delete lan0").await.contains("used"));
    assert!(refused("project set own features.networks=false").await.contains("features.networks"));
    own("network acl create web").await;
    own("network acl rule add web ingress action=allow source=10.0.0.0/8").await;
    own("config device set c1 eth0 security.acls=web").await;
    assert!(!ok("network acl list --format csv").await.contains("web"));
    own("network forward create lan0 192.0.2.15 target_address=10.4.0.7").await;
    assert!(own("network forward list lan0 --format csv").await.contains("192.0.2.15"));
    ok("network peer create lan0 there own/lan0").await;
    own("network peer create lan0 back default/lan0").await;
    let peers = ok("network peer list lan0 --format csv").await;
    assert!(peers.contains("own/lan0") && peers.contains("CREATED"), "{peers}");
    ok("network peer delete lan0 there").await;
    own("network peer delete lan0 back").await;
    own("network forward delete lan0 192.0.2.15").await;
    own("delete c1").await;
    own("network acl delete web").await;
    own("profile device remove default eth0").await;
    own("network rename lan0 lan1").await;
    own("network delete lan1").await;
    ok("project delete own").await;
    ok("network delete lan0").await;
}
