//! `make demo` and `make demo-down`: three nodes on this machine, shown at work, and left running.
//!
//! `demo up FOLDER` writes `FOLDER/env`, a shell file with all that a script needs; `demo down FOLDER` takes everything
//! away again. A demo that was up, or half up, is taken down first: `up` may be repeated.

#![allow(clippy::disallowed_methods)] // a user at a shell

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use basalt_tests::testbed::{Node, Options, Slot, Testbed, basalt, basaltd, sweep};
use basalt_tests::{facility, host, image, wait};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["up", folder] => up(Path::new(folder)),
        ["down", folder] => down(Path::new(folder)),
        _ => Err(anyhow::anyhow!("usage: demo up|down FOLDER")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn down(folder: &Path) -> Result<()> {
    if let Some(record) = Slot::demo_record() {
        sweep::remove(&record)?;
        Slot::clear_demo();
        println!("The demo is gone.");
    }
    facility::release_zfs();
    if folder.exists() {
        std::fs::remove_dir_all(folder).context("remove the demo's folder")?;
    }
    Ok(())
}

fn up(folder: &Path) -> Result<()> {
    if let Some(lack) = facility::containers() {
        bail!("{lack}");
    }
    down(folder)?;
    std::fs::create_dir_all(folder).context("make the demo's folder")?;

    say("Three machines: namespaces on one bridge, an agent in each");
    let mut options = Options::real(3);
    options.host_link = true;
    options.storage = pool_driver().to_owned();
    let lack = facility::ovn();
    options.ovn = lack.is_none();
    let bed = Testbed::start_demo(&options)?;
    let [first, second, third] = &bed.nodes[..] else { bail!("three nodes") };

    say("One becomes a cluster, the others join by token");
    first.init()?;
    println!("{}$ basalt init --auto --name {} --address {}", first.name, first.name, first.api_address());
    for node in [second, third] {
        let token = first.join_token(&node.name)?;
        println!("{}$ basalt cluster token {}\n{}...", first.name, node.name, token.get(..48).unwrap_or(&token));
        node.join(&token)?;
        println!("{}$ basalt cluster join TOKEN --address {}", node.name, node.api_address());
    }
    bed.wait_online(3)?;
    show(first, &["cluster", "list"])?;

    say("An image from Debian's busybox, made here");
    let file = folder.join("busybox.tar.gz");
    image::busybox(&file)?;
    let file = file.to_str().context("the folder has a plain name")?;
    show(first, &["image", "import", file, "--alias", "busybox"])?;

    say("A container on each machine, asked of one");
    for (number, node) in bed.nodes.iter().enumerate() {
        show(first, &["launch", "busybox", &format!("c{}", number + 1), "--target", &node.name])?;
    }
    wait_addresses(first, 3)?;
    show(second, &["exec", "c1", "--", "sh", "-c", "echo hello from $(hostname); ip -4 addr show eth0"])?;
    let mut running = 3;
    match lack {
        None => running += overlay(&bed)?,
        Some(why) => say(&format!("No logical network is shown: {why}")),
    }

    let leader = bed.leader()?;
    say(&format!("The leader, {}, is killed (kill -9); its container does not notice", leader.name));
    leader.kill();
    let survivor = bed.nodes.iter().find(|n| n.name != leader.name).context("two are left")?;
    wait::until_true("the others go on", Duration::from_secs(30), || {
        survivor.basalt(&["launch", "busybox", "c4", "--target", &survivor.name]).map(|_| true)
    })?;
    println!("{}$ basalt launch busybox c4 --target {}", survivor.name, survivor.name);
    show(survivor, &["cluster", "list"])?;

    say("It comes back, and finds its container running");
    leader.start()?;
    leader.wait_ready()?;
    bed.wait_online(3)?;
    wait_addresses(first, running + 1)?;
    show(first, &["list"])?;

    let token = last_word(&first.basalt(&["trust", "token", "demo"])?)?;
    std::fs::write(folder.join("env"), environment(&bed, &token)).context("write env")?;
    farewell(&bed, folder);
    Ok(())
}

/// Two containers on two machines talk over a network of OVN; says how many there are.
fn overlay(bed: &Testbed) -> Result<usize> {
    let [first, second, ..] = &bed.nodes[..] else { bail!("two nodes") };
    say("A logical network: one switch and one router over all machines, from OVN");
    let northbound = format!("network.ovn.northbound_connection={}", bed.central()?.northbound());
    show(first, &["config", "set", &northbound])?;
    let mut uplink = vec!["network", "create", "uplink", "--type", "physical"];
    let keys = bed.fabric.uplink();
    uplink.extend(keys.iter().map(String::as_str));
    show(first, &uplink)?;
    show(first, &["network", "create", "mesh", "--type", "ovn", "network=uplink"])?;
    for (name, node) in [("m1", first), ("m2", second)] {
        show(first, &["launch", "busybox", name, "--network", "mesh", "--target", &node.name])?;
    }
    let address = wait::until("m2 has an address on mesh", Duration::from_secs(60), || {
        let leases = first.api().get("/1.0/networks/mesh/leases")?;
        let of_m2 = |l: &&serde_json::Value| l["hostname"] == "m2" && l["address"].as_str().is_some_and(v4);
        Ok(leases.as_array().into_iter().flatten().find(of_m2).and_then(|l| l["address"].as_str().map(str::to_owned)))
    })?;
    let (gateway, _) = bed.fabric.outside();
    let gateway = gateway.split('/').next().unwrap_or_default();
    for target in [address.as_str(), gateway] {
        wait::until_true(&format!("m1 reaches {target}"), Duration::from_secs(60), || {
            Ok(first.basalt_raw(&["exec", "m1", "--", "ping", "-c", "1", "-W", "1", target])?.status.success())
        })?;
    }
    show(first, &["exec", "m1", "--", "ping", "-c", "3", &address])?;
    say("The same container reaches the world outside by the network's router, whose address it is seen with");
    show(first, &["exec", "m1", "--", "ping", "-c", "1", gateway])?;
    show(first, &["network", "info", "mesh"])?;
    Ok(2)
}

fn v4(text: &str) -> bool {
    text.parse::<std::net::Ipv4Addr>().is_ok()
}

fn say(what: &str) {
    println!("\n== {what}");
}

/// Runs `basalt` on a node and prints it as a session.
fn show(node: &Node, arguments: &[&str]) -> Result<()> {
    let shown: Vec<String> =
        arguments.iter().map(|a| if a.contains(' ') { format!("'{a}'") } else { (*a).to_owned() }).collect();
    println!("{}$ basalt {}", node.name, shown.join(" "));
    print!("{}", node.basalt(arguments)?);
    Ok(())
}

/// Waits until that many containers have an address by DHCP.
fn wait_addresses(node: &Node, count: usize) -> Result<()> {
    wait::until_true(&format!("{count} addresses"), Duration::from_secs(60), || {
        let list = node.api().get("/1.0/instances?recursion=2")?;
        let with_address = list.as_array().into_iter().flatten().filter(|i| {
            i["state"]["network"]["eth0"]["addresses"]
                .as_array()
                .is_some_and(|all| all.iter().any(|a| a["family"] == "inet" && a["scope"] == "global"))
        });
        Ok(with_address.count() >= count)
    })
}

/// ZFS where the host has it, kernel or FUSE.
fn pool_driver() -> &'static str {
    match facility::zfs() {
        None => "zfs",
        Some(why) => {
            println!("Pools are plain folders: {why}");
            "dir"
        }
    }
}

fn last_word(text: &str) -> Result<String> {
    text.split_whitespace().last().map(str::to_owned).context("no token was printed")
}

/// The file that scripts source.
fn environment(bed: &Testbed, token: &str) -> String {
    let names: Vec<&str> = bed.nodes.iter().map(|n| n.name.as_str()).collect();
    let mut text = format!(
        "# Written by `make demo`.\nBASALT={}\nBASALTD={}\nBASALT_NODES=\"{}\"\n",
        basalt().display(),
        basaltd().display(),
        names.join(" ")
    );
    for node in &bed.nodes {
        let _ = writeln!(
            text,
            "BASALT_API_{0}={1}\nBASALT_NETNS_{0}={2}\nBASALT_DIR_{0}={3}\nBASALT_PIDFILE_{0}={3}/basaltd.pid\n\
             BASALT_LOG_{0}={4}\n# Starts its agent again: nsenter --target HOLDER --net --mount -- COMMAND\n\
             BASALT_HOLDER_{0}={5}\nBASALT_COMMAND_{0}=\"{6}\"",
            node.name,
            node.url(),
            node.netns,
            node.dir.display(),
            node.log().display(),
            node.holder(),
            node.command_line().join(" "),
        );
    }
    if let Ok(central) = bed.central() {
        let _ =
            writeln!(text, "BASALT_NORTHBOUND={}\nBASALT_SOUTHBOUND={}", central.northbound(), central.southbound());
    }
    let _ = writeln!(text, "BASALT_TOKEN={token}");
    text
}

fn farewell(bed: &Testbed, folder: &Path) {
    let first = &bed.nodes[0];
    let program = basalt().display();
    say("The cluster stays. From this machine:");
    println!("  {program} list                 with BASALT_DIR={}", first.dir.display());
    if host::which("lxc").is_some() {
        println!("  lxc remote add demo {} --accept-certificate --password TOKEN   (BASALT_TOKEN below)", first.url());
    }
    println!("  curl -sk {}/1.0", first.url());
    println!("  metrics: curl -s --unix-socket {}/unix.socket http://basalt/1.0/metrics", first.dir.display());
    println!("           or {}/1.0/metrics with a trusted client certificate", first.url());
    if let Ok(central) = bed.central() {
        let netns = bed.fabric.netns();
        println!("  what OVN was told: ip netns exec {netns} ovn-nbctl --db {} show", central.northbound());
    }
    println!("  for scripts: . {}/env", folder.display());
    println!("  make demo-down takes everything away.");
}
