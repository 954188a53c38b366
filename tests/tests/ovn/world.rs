//! A cluster of three nodes that knows OVN, the image `busybox`, and the way out `outside`.

use std::net::IpAddr;
use std::time::Duration;

use basalt_tests::testbed::{Node, Options, Testbed};
use basalt_tests::{host, image, wait};
use serde_json::{Value, json};

use super::place::{self, Case, Place};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// A new port is known everywhere: three controllers and a translator on two cores, with another suite beside them.
pub(crate) const SOON: Duration = Duration::from_secs(120);
/// What the world outside routes to the uplink `outside`, beside its own subnet.
pub(crate) const ROUTED: [&str; 2] = ["198.51.100.0/24", "2001:db8:51::/64"];

pub(crate) struct World {
    pub(crate) bed: Testbed,
}

impl World {
    pub(crate) fn new() -> Self {
        let bed = Testbed::cluster(&Options::ovn(3)).unwrap();
        let file = bed.dir().join("busybox.tar.gz");
        image::busybox(&file).unwrap();
        bed.nodes[0].basalt(&["image", "import", file.to_str().unwrap(), "--alias", "busybox"]).unwrap();
        let world = Self { bed };
        let northbound = world.bed.central().unwrap().northbound();
        world.run("PATCH", "/1.0", &json!({"config": {"network.ovn.northbound_connection": northbound}}));
        let (v4, v6) = world.bed.fabric.outside();
        let range = |from: &str, to: &str| format!("{0}.{from}-{0}.{to}", v4.rsplit_once('.').unwrap().0);
        let config = json!({
            "parent": "eth2", "ipv4.gateway": v4, "ipv4.ovn.ranges": range("10", "40"), "ipv6.gateway": v6,
            "ipv4.routes": ROUTED[0], "ipv6.routes": ROUTED[1],
        });
        world.network("outside", "physical", &config);
        for net in ROUTED {
            world.outside(&["ip", "route", "replace", net, "dev", "br2"]).unwrap();
        }
        world
    }

    pub(crate) fn first(&self) -> &Node {
        &self.bed.nodes[0]
    }

    pub(crate) fn run(&self, method: &str, path: &str, body: &Value) -> Value {
        self.first().api().run(method, path, body).unwrap()
    }

    pub(crate) fn network(&self, name: &str, kind: &str, config: &Value) {
        self.run("POST", "/1.0/networks", &json!({"name": name, "type": kind, "config": config}));
    }

    /// The network `inner` behind `outside`.
    pub(crate) fn inner(&self) {
        let config = json!({
            "network": "outside", "ipv4.address": "10.200.1.1/24", "ipv4.nat": "true",
            "ipv6.address": "fd42:200:1::1/64", "ipv6.nat": "true",
        });
        self.network("inner", "ovn", &config);
    }

    /// A running container on node `number` (from 1), with `eth0` on the network.
    pub(crate) fn launch(&self, name: &str, number: usize, network: &str) {
        self.launch_with(name, number, network, &json!({}));
    }

    /// The same with more keys of `eth0`.
    pub(crate) fn launch_with(&self, name: &str, number: usize, network: &str, keys: &Value) {
        let mut nic = json!({"type": "nic", "name": "eth0", "network": network});
        nic.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let body = json!({
            "name": name, "source": {"type": "image", "alias": "busybox"}, "devices": {"eth0": nic},
        });
        let target = &self.bed.nodes[number - 1].name;
        self.run("POST", &format!("/1.0/instances?target={target}"), &body);
        self.first().api().act(name, "start", false).unwrap();
    }

    pub(crate) fn exec(&self, name: &str, script: &str) -> String {
        self.tried(name, script).unwrap()
    }

    fn tried(&self, name: &str, script: &str) -> anyhow::Result<String> {
        Ok(self.first().basalt(&["exec", name, "--", "sh", "-c", script])?.trim().to_owned())
    }

    /// Waits until a script says something.
    pub(crate) fn says(&self, name: &str, script: &str, parts: &[&str]) {
        wait::until(&format!("{name}: {script}: {parts:?}"), SOON, || {
            let text = self.tried(name, script)?;
            anyhow::ensure!(parts.iter().all(|part| text.contains(part)), "{text}");
            Ok(Some(()))
        })
        .unwrap();
    }

    /// Whether a script succeeds in the container.
    pub(crate) fn does(&self, name: &str, script: &str) -> bool {
        self.first().basalt_raw(&["exec", name, "--", "sh", "-c", script]).unwrap().status.success()
    }

    /// The container's own address of a family, as its kernel has it.
    pub(crate) fn address(&self, name: &str, v6: bool) -> IpAddr {
        let (family, word) = if v6 { ("-6", "inet6") } else { ("-4", "inet") };
        let script = format!("ip {family} addr show dev eth0 | sed -n 's/.*{word} \\([^/]*\\).*/\\1/p'");
        wait::until(&format!("{name} has an address ({word})"), SOON, || {
            let text = self.tried(name, &script)?;
            let all = text.lines().filter_map(|line| line.trim().parse::<IpAddr>().ok());
            Ok(all.into_iter().find(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())))
        })
        .unwrap()
    }

    pub(crate) fn pings(&self, from: &str, to: IpAddr) -> bool {
        self.does(from, &format!("ping -c 1 -W 1 {to}"))
    }

    pub(crate) fn reaches(&self, from: &str, to: IpAddr) {
        wait::until_true(&format!("{from} reaches {to}"), SOON, || Ok(self.pings(from, to))).unwrap();
    }

    /// The network stack of a container that runs.
    pub(crate) fn place(&self, name: &str) -> Place {
        self.place_by(self.first(), name)
    }

    /// The same, as this node tells it.
    pub(crate) fn place_by(&self, node: &Node, name: &str) -> Place {
        let pid = wait::until(&format!("{name} has a process"), SOON, || {
            let state = node.api().get(&format!("/1.0/instances/{name}/state"))?;
            Ok(state["pid"].as_u64().filter(|pid| *pid > 0))
        })
        .unwrap();
        Place::of_guest(name, format!("/proc/{pid}/ns/net"), node.api())
    }

    /// That of the world outside.
    pub(crate) fn beyond(&self) -> Place {
        Place::new("outside", format!("/run/netns/{}", self.bed.fabric.netns()))
    }

    /// Waits until all of it is so, for lists that change while packets flow. Where it is so only after ovn-controller has
    /// worked out all flows anew, the databases were right: that is told, and does not fail.
    pub(crate) fn hold(&self, cases: &[Case<'_>]) {
        let Err(wrong) = place::holds(cases) else { return };
        self.bed.nodes.iter().for_each(|node| node.switch().unwrap().recompute().unwrap());
        if let Err(still) = place::holds(cases) {
            panic!("{wrong}\nand with all flows worked out anew:\n{still}");
        }
        println!("measured: ovn-controller had lost flows: {wrong}");
    }

    /// A program in the world outside.
    pub(crate) fn outside(&self, argv: &[&str]) -> anyhow::Result<String> {
        let enter = format!("--net=/run/netns/{}", self.bed.fabric.netns());
        host::run(&[&["nsenter", enter.as_str()], argv].concat())
    }

    /// The outside's own addresses.
    pub(crate) fn gateways(&self) -> [IpAddr; 2] {
        let (v4, v6) = self.bed.fabric.outside();
        [v4, v6].map(|net| net.split('/').next().unwrap().parse().unwrap())
    }

    /// Names of the logical ports of instances in the northbound database, each row's own.
    pub(crate) fn ports(&self) -> Vec<String> {
        let text =
            self.bed.central().unwrap().nbctl(&["--bare", "--columns=name", "list", "logical_switch_port"]).unwrap();
        text.lines().filter(|line| line.contains("-instance-")).map(str::to_owned).collect()
    }

    /// The guest reboots by itself, on a node whose agent dies before; gives back once its new interface is there.
    pub(crate) fn reboots_alone(&self, name: &str, node: &Node, interface: &str) {
        let link = || {
            let line = host::run(&["ip", "-n", &node.netns, "-o", "link", "show", "dev", interface]).ok()?;
            line.split(':').next().map(str::to_owned)
        };
        let before = link().unwrap();
        self.exec(name, "(sleep 1; reboot) >/dev/null 2>&1 </dev/null &");
        node.kill();
        wait::until_true("another interface", SOON, || Ok(link().is_some_and(|now| now != before))).unwrap();
    }

    /// Interfaces of instances on the integration bridges, by node.
    pub(crate) fn bound(&self) -> Vec<usize> {
        self.bed.nodes.iter().map(|node| node.switch().unwrap().bound().unwrap().len()).collect()
    }
}
