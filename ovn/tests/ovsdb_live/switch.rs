//! The host's switch: its database alone first, then with the daemon in a network namespace of its own.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use basalt_ovn::vswitch::{Datapath, Error, Switch};

use crate::bed::{SECOND, SWITCH, Server, run, wait};
use crate::require;

fn vsctl(server: &Server, args: &[&str]) -> String {
    let db = format!("--db={}", server.socket());
    run("ovs-vsctl", &[&[db.as_str(), "--no-wait"], args].concat()).trim().to_owned()
}

async fn switch() -> (Server, Switch) {
    let server = Server::standalone(SWITCH).started().await;
    let switch = Switch::connect(server.remote()).unwrap();
    assert!(matches!(switch.facts().await, Err(Error::Uninitialised)));
    vsctl(&server, &["init"]);
    wait("the root row is seen", || !switch.watch().snapshot().unwrap().table("Open_vSwitch").is_empty()).await;
    (server, switch)
}

fn configuration(server: &Server) -> String {
    vsctl(server, &["get", "open", ".", "next_cfg"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_and_mappings() {
    require!("ovsdb-server", "ovs-vsctl", SWITCH);
    let (server, switch) = switch().await;
    let set =
        |pairs: &[(&str, Option<&str>)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned))).collect();
    vsctl(&server, &["set", "open", ".", "external-ids:hostname=kept", "external-ids:ovn-encap-ip=1.2.3.4"]);
    let wanted = set(&[
        ("system-id", Some("n1")),
        ("ovn-encap-type", Some("geneve")),
        ("ovn-encap-ip", Some("10.9.0.1")),
        ("gone", None),
    ]);
    switch.set_external(&wanted).await.unwrap();
    switch.set_mapping("up1", Some("br-up1")).await.unwrap();
    switch.set_mapping("up2", Some("br-up2")).await.unwrap();
    switch.set_mapping("up1", Some("br-other")).await.unwrap();
    let before = configuration(&server);
    switch.set_mapping("up1", Some("br-other")).await.unwrap();
    switch.set_mapping("up3", None).await.unwrap();
    switch.set_external(&wanted).await.unwrap();
    assert_eq!(configuration(&server), before, "what is so is not written again");
    let facts = switch.facts().await.unwrap();
    assert_eq!((facts.system_id.as_deref(), facts.encap_ip.as_deref()), (Some("n1"), Some("10.9.0.1")));
    assert_eq!(facts.integration_bridge, "br-int");
    assert_eq!(facts.mappings, [("up1".into(), "br-other".into()), ("up2".into(), "br-up2".into())].into());
    assert_eq!(facts.external_ids["hostname"], "kept");
    switch.set_mapping("up1", None).await.unwrap();
    switch.set_mapping("up2", None).await.unwrap();
    assert!(!vsctl(&server, &["get", "open", ".", "external-ids"]).contains("mappings"));
    assert!(matches!(switch.set_mapping("a:b", Some("x")).await, Err(Error::Name { .. })));

    // Many at a time: none is lost.
    let all: Vec<_> = (0..8)
        .map(|n| {
            let switch = switch.clone();
            basalt_runtime::spawn("maps", async move {
                // A conflict is worked out anew a few times only.
                while let Err(error) = switch.set_mapping(&format!("u{n}"), Some("b")).await {
                    assert!(matches!(error, Error::Session { .. }), "{error}");
                }
            })
        })
        .collect();
    for task in all {
        task.join().await.unwrap();
    }
    assert_eq!(switch.facts().await.unwrap().mappings.len(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_are_bound_once_and_only_ours_are_touched() {
    require!("ovsdb-server", "ovs-vsctl", SWITCH);
    let (server, switch) = switch().await;
    assert!(matches!(switch.bind_port("br-int", "v1", "lsp1").await, Err(Error::NoBridge { .. })));
    for bridge in ["br-int", "br-two"] {
        vsctl(&server, &["add-br", bridge]);
    }
    vsctl(&server, &["add-port", "br-int", "foreign"]);
    let ports = |bridge: &str| vsctl(&server, &["list-ports", bridge]);
    wait("the bridges are seen", || switch.watch().snapshot().unwrap().table("Port").len() == 3).await;

    switch.bind_port("br-int", "v1", "lsp1").await.unwrap();
    let before = configuration(&server);
    switch.bind_port("br-int", "v1", "lsp1").await.unwrap();
    assert_eq!(configuration(&server), before, "a second time nothing is written");
    assert_eq!(ports("br-int"), "foreign\nv1");
    assert_eq!(vsctl(&server, &["get", "interface", "v1", "external_ids:iface-id"]), "lsp1");
    // The same device as another port, on another bridge; the same port on another device.
    switch.bind_port("br-int", "v1", "lsp2").await.unwrap();
    assert_eq!(vsctl(&server, &["get", "interface", "v1", "external_ids:iface-id"]), "lsp2");
    switch.bind_port("br-two", "v1", "lsp2").await.unwrap();
    assert_eq!((ports("br-int").as_str(), ports("br-two").as_str()), ("foreign", "v1"));
    switch.bind_port("br-int", "v2", "lsp2").await.unwrap();
    assert_eq!((ports("br-int").as_str(), ports("br-two").as_str()), ("foreign\nv2", ""));
    let bound = switch.ports().await.unwrap();
    assert_eq!(bound.len(), 1);
    assert_eq!(
        (bound[0].bridge.as_deref(), bound[0].interface.as_str(), bound[0].iface_id.as_str()),
        (Some("br-int"), "v2", "lsp2")
    );

    assert!(matches!(switch.bind_port("br-int", "foreign", "lsp3").await, Err(Error::Foreign { .. })));
    assert!(matches!(switch.unbind_port("foreign").await, Err(Error::Foreign { .. })));
    switch.unbind_port("v2").await.unwrap();
    switch.unbind_port("v2").await.unwrap();
    assert_eq!(ports("br-int"), "foreign");
    switch.remove_bridge("br-two").await.unwrap();
    switch.remove_bridge("br-two").await.unwrap();
    assert_eq!(vsctl(&server, &["list-br"]), "br-int");

    // Up when OVN says so; before that, what is missing.
    let why = async |id| switch.port_up(id, SECOND / 5).await.unwrap_err().to_string();
    assert!(why("lsp9").await.contains("no interface of this host has it"));
    switch.bind_port("br-int", "v9", "lsp9").await.unwrap();
    assert!(why("lsp9").await.contains("not plugged in"));
    let waits = {
        let switch = switch.clone();
        basalt_runtime::spawn("waits", async move { switch.port_up("lsp9", 10 * SECOND).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waits.is_finished());
    vsctl(&server, &["set", "interface", "v9", "ofport=1", "external_ids:ovn-installed=true"]);
    waits.join().await.unwrap().unwrap();
    // Bound anew it is not up any more.
    switch.unbind_port("v9").await.unwrap();
    switch.bind_port("br-int", "v9", "lsp9").await.unwrap();
    assert!(why("lsp9").await.contains("not plugged in"));

    // A server that was away in between.
    let error = switch.ensure_bridge("br-new", Datapath::Netdev, SECOND / 5).await.unwrap_err();
    assert!(matches!(error, Error::NotApplied { .. }), "{error}");
    let mut server = server;
    server.kill();
    server.start().await;
    switch.bind_port("br-new", "v1", "lsp1").await.unwrap();
    assert_eq!(ports_of(&server, "br-new"), "v1");
}

fn ports_of(server: &Server, bridge: &str) -> String {
    vsctl(server, &["list-ports", bridge])
}

/// The daemon in a network namespace of its own, ended with it.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_does_what_is_written() {
    require!("ovsdb-server", "ovs-vsctl", "ovs-vswitchd", "unshare", SWITCH);
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: {}: a network namespace needs root", module_path!());
        return;
    }
    let (server, switch) = switch().await;
    let arg = |name: &str, file: &str| format!("--{name}={}", server.path(file).display());
    // The device is made in the namespace before the daemon takes it over.
    let script = "ip link add v1 type veth peer name v1p && exec ovs-vswitchd \"$@\"";
    let daemon = Command::new("unshare")
        .args(["--net", "sh", "-c", script, "sh"])
        .args([arg("log-file", "vs.log"), arg("unixctl", "vs.ctl"), "-vconsole:off".into(), server.socket()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _daemon = Daemon(daemon.unwrap());
    switch.ensure_bridge("br-int", Datapath::Netdev, 20 * SECOND).await.unwrap();
    switch.ensure_bridge("br-int", Datapath::Netdev, 20 * SECOND).await.unwrap();
    assert_eq!(vsctl(&server, &["get", "bridge", "br-int", "datapath_type"]), "netdev");
    switch.bind_port("br-int", "v1", "lsp1").await.unwrap();
    switch.bind_port("br-int", "missing", "lsp2").await.unwrap();
    let port = async |id: &str| switch.ports().await.unwrap().into_iter().find(|p| p.iface_id == id).unwrap();
    let mut watch = switch.watch();
    while port("lsp1").await.ofport.is_none() || port("lsp2").await.error.is_none() {
        tokio::time::timeout(20 * SECOND, watch.changed()).await.unwrap();
    }
    assert!(port("lsp1").await.error.is_none());
    let error = switch.port_up("lsp2", SECOND / 5).await.unwrap_err().to_string();
    assert!(error.contains("No such device"), "{error}");
    let error = switch.port_up("lsp1", SECOND / 5).await.unwrap_err().to_string();
    assert!(error.contains("ovn-controller has not claimed it"), "{error}");
    switch.unbind_port("v1").await.unwrap();
}
