//! The unmodified clients of LXD and Incus, as Debian packs them, against a cluster.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use basalt_tests::testbed::{Options, Testbed};
use basalt_tests::{facility, host, image, require};
use serde_json::Value;

/// A client with its own configuration, run in the namespace of the fabric: it reaches the nodes as any machine would.
struct Client {
    program: &'static str,
    netns: String,
    home: PathBuf,
}

impl Client {
    fn new(program: &'static str, bed: &Testbed) -> Self {
        let home = bed.dir().join(format!("home-{program}"));
        std::fs::create_dir_all(&home).unwrap();
        Self { program, netns: bed.fabric.netns(), home }
    }

    fn raw(&self, arguments: &[&str]) -> Output {
        Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", self.netns))
            .args(["timeout", "60", self.program])
            .args(arguments)
            .env("HOME", &self.home)
            .env("LXD_CONF", self.home.join("conf"))
            .env("INCUS_CONF", self.home.join("conf"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn run(&self, arguments: &[&str]) -> String {
        let done = self.raw(arguments);
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{} {}: {}{out}{err}", self.program, arguments.join(" "), done.status);
        out.into_owned()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(arguments)).unwrap()
    }
}

fn lack(program: &str) -> facility::Lack {
    facility::containers().or_else(|| host::which(program).is_none().then(|| format!("{program} is not installed")))
}

fn cluster() -> Testbed {
    let bed = Testbed::cluster(&Options::real(3)).unwrap();
    let file = bed.dir().join("busybox.tar.gz");
    image::busybox(&file).unwrap();
    bed.nodes[0].basalt(&["image", "import", file.to_str().unwrap(), "--alias", "busybox"]).unwrap();
    bed
}

fn token(bed: &Testbed, name: &str) -> String {
    let text = bed.nodes[0].basalt(&["trust", "token", name]).unwrap();
    text.split_whitespace().last().unwrap().to_owned()
}

/// What both clients do the same way.
fn daily_use(client: &Client, bed: &Testbed) {
    client.run(&["remote", "switch", "basalt"]);
    let members = client.run(&["cluster", "list", "basalt:", "--format", "csv"]);
    assert!(bed.nodes.iter().all(|n| members.contains(&n.name)), "{members}");
    let images = client.json(&["image", "list", "basalt:", "--format", "json"]);
    assert_eq!(images[0]["aliases"][0]["name"], "busybox");

    client.run(&["init", "basalt:busybox", "basalt:s1", "--target", &bed.nodes[2].name]);
    client.run(&["launch", "basalt:busybox", "basalt:s2"]);
    let list = client.json(&["list", "basalt:", "--format", "json"]);
    let states: Vec<(&str, &str)> =
        list.as_array().unwrap().iter().map(|i| (i["name"].as_str().unwrap(), i["status"].as_str().unwrap())).collect();
    assert_eq!(states, [("s1", "Stopped"), ("s2", "Running")]);
    assert_eq!(list[0]["location"], bed.nodes[2].name.as_str());

    client.run(&["start", "basalt:s1"]);
    assert_eq!(client.run(&["exec", "basalt:s1", "--", "hostname"]).trim(), "s1");
    let failed = client.raw(&["exec", "basalt:s2", "--", "sh", "-c", "echo said; exit 7"]);
    assert_eq!((failed.status.code(), String::from_utf8_lossy(&failed.stdout).trim()), (Some(7), "said"));
    assert!(client.run(&["info", "basalt:s1"]).contains("s1"));
    client.run(&["config", "set", "basalt:s1", "user.colour=blue"]);
    assert_eq!(client.run(&["config", "get", "basalt:s1", "user.colour"]).trim(), "blue");
    assert!(client.run(&["profile", "list", "basalt:"]).contains("default"));
    assert!(client.run(&["profile", "show", "basalt:default"]).contains("root"));

    client.run(&["stop", "basalt:s1", "--force"]);
    client.run(&["delete", "basalt:s1"]);
    client.run(&["delete", "basalt:s2", "--force"]);
    let list = client.json(&["list", "basalt:", "--format", "json"]);
    assert_eq!(list.as_array().map(Vec::len), Some(0));
    let missing = client.raw(&["info", "basalt:s1"]);
    assert!(!missing.status.success(), "what is gone is not found");
}

#[test]
fn lxc_of_lxd_5() {
    require!(lack("lxc"));
    let bed = cluster();
    let follower = bed.follower().unwrap();
    let client = Client::new("lxc", &bed);
    let secret = token(&bed, "stock-lxc");
    client.run(&["remote", "add", "basalt", &follower.url(), "--accept-certificate", "--password", &secret]);
    daily_use(&client, &bed);

    // A token is redeemed once.
    let other = Client { home: bed.dir().join("home-other"), ..Client::new("lxc", &bed) };
    std::fs::create_dir_all(&other.home).unwrap();
    let again = other.raw(&["remote", "add", "basalt", &follower.url(), "--accept-certificate", "--password", &secret]);
    let trusted = again.status.success() && other.raw(&["list", "basalt:"]).status.success();
    assert!(!trusted, "a used token was taken again");
}

#[test]
fn incus_6() {
    require!(lack("incus"));
    let bed = cluster();
    let client = Client::new("incus", &bed);
    // The token alone says where the cluster is.
    client.run(&["remote", "add", "basalt", &token(&bed, "stock-incus")]);
    daily_use(&client, &bed);
}
