//! Real containers: what a user sees of them, and what the host has to show for it.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

use std::path::Path;
use std::time::{Duration, Instant};

use basalt_tests::api::Api;
use basalt_tests::image::{self, Archive, hostile};
use basalt_tests::testbed::{Node, Options, Testbed};
use basalt_tests::{census, facility, host, require, wait};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

#[path = "host/bridges.rs"]
mod bridges;

/// What hosts and guests do by themselves is done by then, also where two suites share two cores.
const SOON: Duration = Duration::from_secs(60);

/// A cluster that knows the image `busybox`.
fn cluster(nodes: usize, storage: &str) -> Testbed {
    let mut options = Options::real(nodes);
    options.storage = storage.to_owned();
    let bed = Testbed::cluster(&options).unwrap();
    let file = bed.dir().join("busybox.tar.gz");
    image::busybox(&file).unwrap();
    bed.nodes[0].basalt(&["image", "import", file.to_str().unwrap(), "--alias", "busybox"]).unwrap();
    bed
}

fn launch(api: &Api, name: &str, target: Option<&str>, config: &Value) {
    api.create(name, "busybox", target, config).unwrap();
    api.act(name, "start", false).unwrap();
}

/// The container's address by DHCP.
fn address(api: &Api, name: &str) -> String {
    wait::until(&format!("{name} has an address"), SOON, || {
        let state = api.get(&format!("/1.0/instances/{name}/state"))?;
        let all = state["network"]["eth0"]["addresses"].as_array().cloned().unwrap_or_default();
        let found = all.iter().find(|a| a["family"] == "inet" && a["scope"] == "global");
        Ok(found.and_then(|a| a["address"].as_str().map(str::to_owned)))
    })
    .unwrap()
}

fn exec(node: &Node, name: &str, script: &str) -> String {
    node.basalt(&["exec", name, "--", "sh", "-c", script]).unwrap().trim().to_owned()
}

/// Waits until the member knows that it runs: of a start through another it hears a moment later, and one that has just
/// begun again is still catching up.
fn runs(api: &Api, name: &str) {
    wait::until_true(&format!("{name} runs"), SOON, || Ok(api.status(name)? == "Running")).unwrap();
}

fn pid(api: &Api, name: &str) -> i64 {
    api.get(&format!("/1.0/instances/{name}/state")).unwrap()["pid"].as_i64().unwrap()
}

#[test]
fn containers_live_their_lives_on_three_nodes() {
    require!(facility::containers());
    let bed = cluster(3, "dir");
    let [a, b, c] = &bed.nodes[..] else { panic!("three nodes") };
    for (name, node) in [("c1", a), ("c2", b), ("c3", c)] {
        a.basalt(&["launch", "busybox", name, "--target", &node.name]).unwrap();
    }
    for name in ["c1", "c2", "c3"] {
        // Asked of a member that is never the home of all.
        assert_eq!(exec(b, name, "hostname"), name);
        let ip = address(&a.api(), name);
        assert!(exec(c, name, "ip -4 addr show eth0").contains(&ip));
        // The route comes a moment after the address.
        let ping = "ping -c 1 -W 2 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p')";
        let answered = || Ok(a.basalt(&["exec", name, "--", "sh", "-c", ping]).is_ok());
        wait::until_true(&format!("the gateway of {name} answers"), SOON, answered).unwrap();
    }
    let failed = a.basalt_raw(&["exec", "c2", "--", "sh", "-c", "exit 42"]).unwrap();
    assert_eq!(failed.status.code(), Some(42), "the guest's exit code is the client's");

    let api = b.api();
    let first = pid(&api, "c1");
    api.act("c1", "restart", false).unwrap();
    assert_ne!(pid(&api, "c1"), first);
    api.act("c1", "freeze", false).unwrap();
    assert_eq!(api.status("c1").unwrap(), "Frozen");
    api.act("c1", "unfreeze", false).unwrap();
    runs(&a.api(), "c1");
    assert_eq!(exec(a, "c1", "echo thawed"), "thawed");
    api.act("c1", "stop", false).unwrap();
    assert_eq!(api.status("c1").unwrap(), "Stopped");
    api.act("c1", "start", false).unwrap();
    runs(&a.api(), "c1");
    assert_eq!(exec(a, "c1", "echo again"), "again");
    census::agree(&bed, SOON).unwrap();

    let refused = api.call("DELETE", "/1.0/instances/c1", &Value::Null).unwrap();
    assert!(refused.status >= 400, "a running instance is not deleted: {:?}", refused.json());
    for name in ["c1", "c2", "c3"] {
        api.act(name, "stop", true).unwrap();
        api.delete(name).unwrap();
    }
    census::agree(&bed, SOON).unwrap();
    assert!(census::of(a).unwrap().volumes.is_empty());
}

#[test]
fn guests_are_unprivileged_and_limited() {
    require!(facility::containers());
    let bed = cluster(1, "dir");
    let (node, api) = (&bed.nodes[0], bed.nodes[0].api());
    let limits = json!({"limits.memory": "64MiB", "limits.processes": "40", "limits.cpu": "1"});
    launch(&api, "limited", None, &limits);
    launch(&api, "other", None, &Value::Null);
    launch(&api, "root", None, &json!({"security.privileged": "true"}));

    let base = |name: &str| {
        let map = std::fs::read_to_string(format!("/proc/{}/uid_map", pid(&api, name))).unwrap();
        map.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap()
    };
    assert!(base("limited") > 0 && base("other") > 0, "root of a guest is nobody on the host");
    assert_ne!(base("limited"), base("other"), "each container has ids of its own");
    assert_eq!(base("root"), 0, "unless asked for");
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid(&api, "limited"))).unwrap();
    assert!(status.contains("Seccomp:\t2"), "a seccomp filter is on");

    assert_eq!(exec(node, "limited", "nproc"), "1");
    // Forks until it is refused; the shell itself must stay alive to tell.
    let forks = "n=0; while [ $n -lt 100 ]; do sleep 5 & n=$((n+1)); done 2>/dev/null; echo done";
    let _ = node.basalt_raw(&["exec", "limited", "--", "sh", "-c", forks]).unwrap();
    let processes = api.get("/1.0/instances/limited/state").unwrap()["processes"].as_i64().unwrap();
    assert!((1..=40).contains(&processes), "{processes} processes");
    wait::until_true("the sleepers end, and exec works again", SOON, || {
        Ok(node.basalt(&["exec", "limited", "--", "true"]).is_ok())
    })
    .unwrap();
    let eat = "dd if=/dev/zero of=/dev/null bs=200M count=1 && echo survived";
    let eaten = node.basalt_raw(&["exec", "limited", "--", "sh", "-c", eat]).unwrap();
    assert!(!String::from_utf8_lossy(&eaten.stdout).contains("survived"), "64 MiB are 64 MiB");
    assert_eq!(exec(node, "limited", "echo alive"), "alive");

    let bad = api.call("PATCH", "/1.0/instances/limited", &json!({"config": {"limits.memory": "much"}})).unwrap();
    assert_eq!(bad.status, 400, "{:?}", bad.json());
}

#[test]
fn guests_outlive_the_agent() {
    require!(facility::containers());
    let bed = cluster(1, "dir");
    let (node, api) = (&bed.nodes[0], bed.nodes[0].api());
    launch(&api, "c1", None, &Value::Null);
    launch(&api, "c2", None, &Value::Null);
    let guests = census::of(node).unwrap().guests;
    assert_eq!(guests.len(), 2);
    for round in 0..2 {
        if round == 0 {
            node.kill()
        } else {
            node.stop().unwrap()
        }
        assert!(guests.values().all(census::Guest::lives), "a guest stopped with its agent");
        node.start().unwrap();
        node.wait_ready().unwrap();
        for name in ["c1", "c2"] {
            runs(&api, name);
            assert_eq!(exec(node, name, "hostname"), name);
        }
        assert_eq!(census::of(node).unwrap().guests, guests, "adopted, not started anew");
    }
    // A guest that ends while nobody looks.
    node.kill();
    let victim = guests.values().next().unwrap();
    host::run(&["kill", "-9", &victim.pid.to_string()]).unwrap();
    wait::until_true("the guest ends", SOON, || Ok(!victim.lives())).unwrap();
    node.start().unwrap();
    node.wait_ready().unwrap();
    wait::until_true("one is seen to have stopped", SOON, || {
        let stopped = api.instances()?.iter().filter(|i| i["status"] == "Stopped").count();
        Ok(stopped == 1)
    })
    .unwrap();
    census::agree(&bed, SOON).unwrap();
}

#[test]
fn a_guest_that_ends_is_started_again_when_asked() {
    require!(facility::containers());
    let bed = cluster(1, "dir");
    let (node, api) = (&bed.nodes[0], bed.nodes[0].api());
    launch(&api, "c1", None, &json!({"boot.autorestart": "true"}));
    let guests = census::of(node).unwrap().guests;
    let first = guests.values().next().unwrap();
    host::run(&["kill", "-9", &first.pid.to_string()]).unwrap();
    wait::until_true("a new guest", SOON, || {
        Ok(census::of(node)?.guests.values().next().is_some_and(|g| g != first && g.lives()))
    })
    .unwrap();
    runs(&api, "c1");
}

/// `kill -9` of the agent at random moments of create, start, stop, delete; `HOST_ROUNDS` and `HOST_SEED`.
fn killed_at_any_moment(storage: &str, rounds: u32) {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seed = number("HOST_SEED").unwrap_or_else(|| StdRng::from_os_rng().random());
    let rounds = number("HOST_ROUNDS").unwrap_or(u64::from(rounds));
    println!("HOST_SEED={seed} HOST_ROUNDS={rounds} replays this run");
    let mut random = StdRng::seed_from_u64(seed);
    let bed = cluster(1, storage);
    let (node, api) = (&bed.nodes[0], bed.nodes[0].api());
    for round in 0..rounds {
        let name = format!("r{round}");
        for step in ["create", "start", "stop", "delete"] {
            let moment = Duration::from_micros(random.random_range(0..350_000));
            std::thread::scope(|scope| {
                let (api, name) = (&api, &name);
                let attempt = scope.spawn(move || match step {
                    "create" => api.create(name, "busybox", None, &Value::Null),
                    "delete" => api.delete(name),
                    other => api.act(name, other, other == "stop"),
                });
                let begun = Instant::now();
                while begun.elapsed() < moment && !attempt.is_finished() {
                    std::thread::yield_now();
                }
                node.kill();
                // Unknown, whatever it says: the agent died around it.
                let _ = attempt.join().unwrap();
            });
            node.start().unwrap();
            node.wait_ready().unwrap();
            // Finished or undone, and the same step can be asked for again.
            drive(&api, &name, step);
            census::agree(&bed, SOON).unwrap_or_else(|e| panic!("round {round}, {step} at {moment:?}: {e:#}"));
        }
    }
    let census = census::of(node).unwrap();
    assert_eq!(census, census::Census::default(), "nothing is left");
}

/// Brings an instance to where the step leads, from wherever the kill left it.
fn drive(api: &Api, name: &str, step: &str) {
    wait::until_true(&format!("{step} of {name}"), 2 * SOON, || {
        // Only "not found" says that it is not there: an agent that has just begun may have other reasons to refuse.
        let answer = api.call("GET", &format!("/1.0/instances/{name}"), &Value::Null)?;
        let status = match answer.status {
            404 => None,
            _ => answer.metadata()?["status"].as_str().map(str::to_owned),
        };
        let busy = |status: &str| !["Running", "Stopped", "Error"].contains(&status);
        match (step, status.as_deref()) {
            ("create", Some("Stopped")) | ("start", Some("Running")) | ("stop", Some("Stopped")) | ("delete", None) => {
                return Ok(true);
            }
            (_, Some(other)) if busy(other) => {}
            ("create", None) => drop(api.create(name, "busybox", None, &Value::Null)?),
            ("create", Some("Error")) => drop(api.delete(name)?),
            ("start", Some(_)) => drop(api.act(name, "start", false)?),
            ("stop", Some(_)) => drop(api.act(name, "stop", true)?),
            ("delete", Some("Running")) => drop(api.act(name, "stop", true)?),
            ("delete", Some(_)) => drop(api.delete(name)?),
            (_, other) => anyhow::bail!("{name} is {other:?}"),
        }
        Ok(false)
    })
    .unwrap();
}

#[test]
fn killed_at_any_moment_on_dir() {
    require!(facility::containers());
    killed_at_any_moment("dir", 6);
}

#[test]
fn killed_at_any_moment_on_zfs() {
    require!(facility::containers().or_else(facility::zfs));
    killed_at_any_moment("zfs", 4);
}

#[test]
fn a_zfs_pool_serves_clones() {
    require!(facility::containers().or_else(facility::zfs));
    let bed = cluster(1, "zfs");
    let (node, api) = (&bed.nodes[0], bed.nodes[0].api());
    launch(&api, "c1", None, &Value::Null);
    launch(&api, "c2", None, &Value::Null);
    exec(node, "c1", "echo mine > /root/mine");
    assert_eq!(exec(node, "c2", "ls /root"), "");
    // It may stumble over a dataset that the suite beside this one removes.
    let list = || host::run(&["zfs", "list", "-H", "-o", "basalt:state-dir,name,origin"]).map(Some);
    let datasets = wait::until("the datasets", SOON, list).unwrap();
    let own = format!("{}\t", node.dir.display());
    let clones =
        datasets.lines().filter(|l| l.starts_with(&own) && l.contains("/instances/") && l.contains("@readonly"));
    assert_eq!(clones.count(), 2, "roots are clones of the image:\n{datasets}");
    node.restart().unwrap();
    runs(&api, "c1");
    assert_eq!(exec(node, "c1", "cat /root/mine"), "mine");
    api.act("c1", "restart", true).unwrap();
    assert_eq!(exec(node, "c1", "cat /root/mine"), "mine");
    for name in ["c1", "c2"] {
        api.act(name, "stop", true).unwrap();
        api.delete(name).unwrap();
    }
    census::agree(&bed, SOON).unwrap();
}

#[test]
fn hostile_images_are_refused_without_a_trace() {
    require!(facility::containers());
    let bed = cluster(1, "dir");
    let node = &bed.nodes[0];
    let folder = bed.dir().join("hostile");
    std::fs::create_dir(&folder).unwrap();
    let before = images(node);
    for bad in hostile::all(&folder).unwrap() {
        let file = bad.file.to_str().unwrap();
        let import = node.basalt_raw(&["image", "import", file, "--alias", bad.name]).unwrap();
        // An import may look at the outside only; then the first use must refuse.
        if import.status.success() {
            let launch = node.basalt_raw(&["launch", bad.name, "victim"]).unwrap();
            assert!(!launch.status.success(), "{} was launched", bad.name);
            let _ = node.basalt_raw(&["delete", "--force", "victim"]);
            let gone = node.basalt_raw(&["image", "delete", bad.name]).unwrap();
            assert!(gone.status.success(), "{}: {}", bad.name, String::from_utf8_lossy(&gone.stderr));
        }
        assert!(!bad.canary.exists(), "{} wrote outside", bad.name);
        assert!(std::fs::read_dir(folder.join("canaries")).unwrap().next().is_none(), "{} wrote beside", bad.name);
        assert!(node.answers(), "the agent serves on after {}", bad.name);
        std::fs::remove_file(&bad.file).unwrap();
    }
    // Files of a deleted image go when its agent comes to it.
    wait::until_true("no files of refused images are left", SOON, || {
        anyhow::ensure!(images(node) == before, "{:?}", images(node));
        Ok(true)
    })
    .unwrap();
    assert!(size(&node.dir) < 300 << 20, "a bomb was unpacked");
    census::agree(&bed, SOON).unwrap();
    launch(&node.api(), "good", None, &Value::Null);
}

/// Names of everything that images leave: files, and unpacked trees.
fn images(node: &Node) -> Vec<String> {
    let mut names = Vec::new();
    for folder in ["images", "storage-pools/default/images", "storage-pools/default/tmp"] {
        let entries = std::fs::read_dir(node.dir.join(folder)).into_iter().flatten().flatten();
        names.extend(entries.map(|e| format!("{folder}/{}", e.file_name().to_string_lossy())));
    }
    names.sort();
    names
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|e| match e.metadata() {
            Ok(meta) if meta.is_dir() => size(&e.path()),
            Ok(meta) => std::os::unix::fs::MetadataExt::blocks(&meta) * 512,
            Err(_) => 0,
        })
        .sum()
}

#[test]
fn links_in_a_guests_tree_lead_nowhere() {
    require!(facility::containers());
    let bed = cluster(1, "dir");
    let node = &bed.nodes[0];
    let outside = bed.dir().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let file = bed.dir().join("links.tar.gz");
    let mut archive = Archive::create(&file).unwrap();
    archive.metadata("links").unwrap();
    archive.folder("rootfs", 0o755).unwrap();
    archive.folder("rootfs/bin", 0o755).unwrap();
    archive.file("rootfs/bin/busybox", 0o755, &std::fs::read("/bin/busybox").unwrap()).unwrap();
    // A guest may have any link in its own tree; nothing on the host may follow one.
    for name in ["etc", "dev", "proc", "sys", "run", "tmp", "sbin"] {
        archive.symlink(&format!("rootfs/{name}"), outside.to_str().unwrap()).unwrap();
    }
    archive.finish().unwrap();
    let _ = node.basalt_raw(&["image", "import", file.to_str().unwrap(), "--alias", "links"]).unwrap();
    let _ = node.basalt_raw(&["launch", "links", "c1"]).unwrap();
    let found: Vec<_> = std::fs::read_dir(&outside).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(found.is_empty(), "written through a guest's links: {found:?}");
    assert!(node.answers());
}

#[test]
fn a_full_pool_says_so_and_recovers() {
    require!(facility::containers());
    let bed = cluster(1, "dir");
    let (node, api) = (&bed.nodes[0], bed.nodes[0].api());
    launch(&api, "c1", None, &Value::Null);
    let pool = node.dir.join("storage-pools/default");
    // A small file system over the folder where volumes are made.
    let small = pool.join("tmp");
    host::run(&["mount", "-t", "tmpfs", "-o", "size=256k", "none", small.to_str().unwrap()]).unwrap();
    node.restart().unwrap();
    let error = format!("{:#}", api.create("c2", "busybox", None, &Value::Null).unwrap_err());
    assert!(error.to_lowercase().contains("space") || error.contains("cross-device"), "it says why: {error}");
    host::run(&["umount", "-l", small.to_str().unwrap()]).unwrap();
    node.restart().unwrap();
    runs(&api, "c1");
    launch(&api, "c3", None, &Value::Null);
    census::agree(&bed, SOON).unwrap();
}
