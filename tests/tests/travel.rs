//! Snapshots, copies and moves: with the stock clients, and with an agent that is killed in the middle of them.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

use std::time::{Duration, Instant};

use basalt_tests::api::Api;
use basalt_tests::compat::{Client, Rows, Stock};
use basalt_tests::testbed::{Options, Testbed};
use basalt_tests::{census, facility, image, require, wait};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

/// The words of a client for snapshots, which LXD's has in another order.
fn words<'a>(client: Client, verb: &'a str, instance: &'a str, names: &[&'a str]) -> Vec<String> {
    let full = |name: &str| format!("{instance}/{name}");
    match (client, verb) {
        (Client::Lxc, "create") => vec!["snapshot".into(), instance.into(), names[0].into()],
        (Client::Lxc, "rename") => vec!["rename".into(), full(names[0]), full(names[1])],
        (Client::Lxc, "restore") => vec!["restore".into(), instance.into(), names[0].into()],
        (Client::Lxc, _) => vec![verb.into(), full(names[0])],
        (Client::Incus | Client::Basalt | Client::Pylxd | Client::Ansible, _) => {
            let mut words = vec!["snapshot".into(), verb.into(), instance.into()];
            words.extend(names.iter().map(ToString::to_string));
            words
        }
    }
}

fn snapshot(stock: &Stock, verb: &str, instance: &str, names: &[&str]) {
    let words = words(stock.client, verb, instance, names);
    stock.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
}

fn exec(stock: &Stock, name: &str, script: &str) -> String {
    stock.line(&["exec", name, "--", "sh", "-c", script])
}

fn location(stock: &Stock, name: &str) -> String {
    let list = stock.json(&["list", name, "--format", "json"]);
    let found = list.as_array().unwrap().iter().find(|i| i["name"] == name).unwrap().clone();
    found["location"].as_str().unwrap().to_owned()
}

fn snapshots(stock: &Stock, name: &str) -> Vec<String> {
    let list = stock.json(&["list", name, "--format", "json"]);
    let found = list.as_array().unwrap().iter().find(|i| i["name"] == name).unwrap().clone();
    found["snapshots"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect()
}

/// What the guest holds, seen from inside.
fn diary(stock: &Stock, name: &str) -> String {
    stock.run(&["start", name]);
    let text = exec(stock, name, "cat /root/diary");
    stock.run(&["stop", name, "--force"]);
    text
}

fn all(client: Client) {
    require!(Stock::lack(client));
    let bed = Stock::cluster().unwrap();
    bed.nodes[0].basalt(&["storage", "create", "other", "dir"]).unwrap();
    let stock = Stock::connect(client, &bed).unwrap();
    let node = |at: usize| bed.nodes[at].name.as_str();
    stock.run(&["launch", "busybox", "s1", "--target", node(0)]);
    exec(&stock, "s1", "echo then > /root/diary");
    let mut rows = Rows::of(client);
    rows.row("snapshot: create, list", || {
        snapshot(&stock, "create", "s1", &["one"]);
        assert_eq!(snapshots(&stock, "s1"), ["one"]);
        assert!(stock.run(&["info", "s1"]).contains("one") || client == Client::Basalt);
    });
    rows.row("snapshot: restore", || {
        exec(&stock, "s1", "echo now > /root/diary");
        snapshot(&stock, "restore", "s1", &["one"]);
        assert_eq!(exec(&stock, "s1", "cat /root/diary"), "then");
    });
    rows.row("snapshot: rename", || {
        snapshot(&stock, "rename", "s1", &["one", "uno"]);
        assert_eq!(snapshots(&stock, "s1"), ["uno"]);
    });
    exec(&stock, "s1", "echo now > /root/diary");
    stock.run(&["stop", "s1", "--force"]);
    rows.row("copy: an instance with its snapshots", || {
        stock.run(&["copy", "s1", "s2"]);
        assert_eq!(snapshots(&stock, "s2"), ["uno"]);
        assert_eq!(diary(&stock, "s2"), "now");
    });
    rows.row("copy: a snapshot", || {
        stock.run(&["copy", "s1/uno", "s3"]);
        assert_eq!(diary(&stock, "s3"), "then");
    });
    rows.row("copy: to another member", || {
        stock.run(&["copy", "s1", "s4", "--target", node(1)]);
        assert_eq!(location(&stock, "s4"), node(1));
        assert_eq!((snapshots(&stock, "s4"), diary(&stock, "s4")), (vec!["uno".to_owned()], "now".to_owned()));
    });
    refresh_and_rebuild(&mut rows, &stock, [node(0), node(1)]);
    rows.row("move: rename", || {
        stock.run(&["move", "s2", "s5"]);
        assert_eq!(snapshots(&stock, "s5"), ["uno"]);
    });
    rows.row("move: to another member", || {
        stock.run(&["move", "s1", "--target", node(2)]);
        assert_eq!(location(&stock, "s1"), node(2));
        assert_eq!((snapshots(&stock, "s1"), diary(&stock, "s1")), (vec!["uno".to_owned()], "now".to_owned()));
        snapshot(&stock, "restore", "s1", &["uno"]);
        assert_eq!(diary(&stock, "s1"), "then");
    });
    rows.row("move: to another storage pool", || {
        stock.run(&["move", "s1", "--storage", "other"]);
        assert!(stock.run(&["config", "show", "s1"]).contains("pool: other"));
        assert_eq!(diary(&stock, "s1"), "then");
    });
    rows.row("move: a running instance is refused", || {
        stock.run(&["start", "s1"]);
        let said = stock.refused(&["move", "s1", "--target", node(0)]);
        assert!(said.contains("unning"), "{said}");
        stock.run(&["stop", "s1", "--force"]);
    });
    rows.row("snapshot: delete", || {
        snapshot(&stock, "delete", "s1", &["uno"]);
        assert_eq!(snapshots(&stock, "s1"), Vec::<String>::new());
    });
    for name in ["s1", "s3", "s4", "s5"] {
        let _ = stock.raw(&["delete", name]);
    }
    census::agree(&bed, 60 * SECOND).unwrap();
    rows.done();
}

/// Roots that are made anew: of an instance `r1` and its copy `r2` on another member.
fn refresh_and_rebuild(rows: &mut Rows, stock: &Stock, [here, there]: [&str; 2]) {
    stock.run(&["launch", "busybox", "r1", "--target", here]);
    exec(stock, "r1", "echo first > /root/diary");
    snapshot(stock, "create", "r1", &["old"]);
    stock.run(&["stop", "r1", "--force"]);
    rows.row("copy --refresh: makes what is not there, brings up to date what is", || {
        stock.run(&["copy", "r1", "r2", "--refresh", "--target", there]);
        stock.run(&["start", "r1", "r2"]);
        exec(stock, "r1", "echo second > /root/diary");
        exec(stock, "r2", "echo mine > /root/diary");
        snapshot(stock, "create", "r1", &["new"]);
        snapshot(stock, "create", "r2", &["surplus"]);
        let said = stock.refused(&["copy", "r1", "r2", "--refresh"]);
        assert!(said.contains("running"), "{said}");
        stock.run(&["stop", "r1", "r2", "--force"]);
        stock.run(&["copy", "r1", "r2", "--refresh"]);
        assert_eq!(location(stock, "r2"), there);
        assert_eq!((snapshots(stock, "r2"), diary(stock, "r2")), (vec!["old".into(), "new".into()], "second".into()));
        snapshot(stock, "restore", "r2", &["old"]);
        assert_eq!(diary(stock, "r2"), "first");
    });
    rows.row("copy --refresh: on the same member", || {
        stock.run(&["copy", "r1", "r3", "--target", here]);
        snapshot(stock, "delete", "r1", &["old"]);
        stock.run(&["copy", "r1", "r3", "--refresh"]);
        assert_eq!((snapshots(stock, "r3"), diary(stock, "r3")), (vec!["new".to_owned()], "second".to_owned()));
    });
    // LXD's client of that version has no such command.
    if stock.client != Client::Lxc {
        rows.row("rebuild: from an image, empty, and of one that runs", || {
            let said = stock.refused(&["rebuild", "busybox", "r3"]);
            assert!(said.contains("snapshots"), "{said}");
            snapshot(stock, "delete", "r3", &["new"]);
            stock.run(&["rebuild", "busybox", "r3"]);
            stock.run(&["start", "r3"]);
            assert_eq!(exec(stock, "r3", "test -e /root/diary || echo gone"), "gone");
            let said = stock.refused(&["rebuild", "busybox", "r3"]);
            assert!(said.contains("running") || said.contains("stopped"), "{said}");
            exec(stock, "r3", "echo again > /root/diary");
            stock.run(&["rebuild", "busybox", "r3", "--force"]);
            assert_eq!(exec(stock, "r3", "test -e /root/diary || echo gone"), "gone");
            stock.run(&["stop", "r3", "--force"]);
            stock.run(&["rebuild", "r3", "--empty"]);
            assert!(!stock.run(&["config", "show", "r3"]).contains("volatile.base_image"));
            stock.refused(&["start", "r3"]);
        });
    }
    for name in ["r1", "r2", "r3"] {
        let _ = stock.raw(&["delete", name, "--force"]);
    }
}

#[test]
fn with_lxc_of_lxd_5() {
    all(Client::Lxc);
}

#[test]
fn with_incus_6() {
    all(Client::Incus);
}

#[test]
fn with_our_own() {
    all(Client::Basalt);
}

/// What a stopped instance holds.
fn held(api: &Api, name: &str) -> anyhow::Result<String> {
    let answer = api.call("GET", &format!("/1.0/instances/{name}/files?path=/root/diary"), &Value::Null)?;
    anyhow::ensure!(answer.status == 200, "{:?}", answer.json());
    Ok(String::from_utf8(answer.bytes)?)
}

fn write(api: &Api, name: &str, text: &str) -> anyhow::Result<Value> {
    let path = format!("/1.0/instances/{name}/files?path=/root/diary");
    api.connect()?.request("POST", &path, "application/octet-stream", text.as_bytes())?.metadata()
}

fn snapshots_of(api: &Api, name: &str) -> anyhow::Result<Vec<String>> {
    let list = api.get(&format!("/1.0/instances/{name}/snapshots?recursion=1"))?;
    Ok(list.as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect())
}

/// One thing to do with instance `a`, how to ask for it, and when it is done.
struct Deed<'a> {
    name: &'a str,
    ask: &'a (dyn Fn(&Api) -> anyhow::Result<Value> + Sync),
    done: &'a dyn Fn(&Api) -> anyhow::Result<bool>,
}

/// Brings `b`, which has changed, to what `a` is. One whose refresh was broken off has no root to be changed.
fn refresh(api: &Api) -> anyhow::Result<Value> {
    if api.status("b")? == "Stopped" {
        write(api, "b", "scribble")?;
        if !snapshots_of(api, "b")?.contains(&"surplus".to_owned()) {
            api.run("POST", "/1.0/instances/b/snapshots", &json!({"name": "surplus"}))?;
        }
    }
    let source = json!({"type": "copy", "source": "a", "refresh": true});
    api.run("POST", "/1.0/instances", &json!({"name": "b", "source": source}))
}

/// Makes `b` anew from its image.
fn rebuild(api: &Api) -> anyhow::Result<Value> {
    for name in snapshots_of(api, "b")? {
        api.run("DELETE", &format!("/1.0/instances/b/snapshots/{name}"), &Value::Null)?;
    }
    api.run("POST", "/1.0/instances/b/rebuild", &json!({"source": {"type": "image", "alias": "busybox"}}))
}

fn rebuilt(api: &Api) -> anyhow::Result<bool> {
    let answer = api.call("GET", "/1.0/instances/b/files?path=/root/diary", &Value::Null)?;
    Ok(answer.status == 404 && api.status("b")? == "Stopped")
}

/// `kill -9` of an agent at random moments of snapshot, restore, copy, move: nothing orphaned, nothing lost.
fn killed_on_the_way(storage: &str, rounds: u32) {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seed = number("HOST_SEED").unwrap_or_else(|| StdRng::from_os_rng().random());
    let rounds = number("HOST_ROUNDS").unwrap_or(u64::from(rounds));
    println!("HOST_SEED={seed} HOST_ROUNDS={rounds} replays this run");
    let mut random = StdRng::seed_from_u64(seed);
    let mut options = Options::real(3);
    options.storage = storage.to_owned();
    let bed = Testbed::cluster(&options).unwrap();
    let file = bed.dir().join("busybox.tar.gz");
    image::busybox(&file).unwrap();
    bed.nodes[0].basalt(&["image", "import", file.to_str().unwrap(), "--alias", "busybox"]).unwrap();
    bed.nodes[0].api().create("a", "busybox", Some(&bed.nodes[0].name), &Value::Null).unwrap();
    for round in 0..rounds {
        let (text, shot) = (format!("round {round}"), format!("s{round}"));
        let to = bed.nodes[random.random_range(0..3)].name.clone();
        write(&bed.nodes[0].api(), "a", &text).unwrap();
        let body = json!({"name": shot});
        let copy = json!({"name": "b", "source": {"type": "copy", "source": "a"}});
        let deeds = [
            Deed {
                name: "snapshot",
                ask: &|api| api.run("POST", "/1.0/instances/a/snapshots", &body),
                done: &|api| Ok(snapshots_of(api, "a")?.contains(&shot)),
            },
            Deed {
                name: "restore",
                ask: &|api| {
                    write(api, "a", "scribble")?;
                    api.run("PUT", "/1.0/instances/a", &json!({"restore": shot}))
                },
                done: &|api| Ok(held(api, "a")? == text),
            },
            Deed {
                name: "copy",
                ask: &|api| api.run("POST", &format!("/1.0/instances?target={to}"), &copy),
                done: &|api| Ok(api.status("b").is_ok_and(|status| status == "Stopped") && held(api, "b")? == text),
            },
            Deed {
                name: "refresh",
                ask: &refresh,
                done: &|api| Ok(held(api, "b")? == text && snapshots_of(api, "b")? == snapshots_of(api, "a")?),
            },
            Deed { name: "rebuild", ask: &rebuild, done: &rebuilt },
            Deed {
                name: "move",
                ask: &|api| api.run("POST", &format!("/1.0/instances/a?target={to}"), &json!({"migration": true})),
                done: &|api| Ok(api.get("/1.0/instances/a")?["location"] == to.as_str()),
            },
        ];
        for deed in &deeds {
            let victim = &bed.nodes[random.random_range(0..3)];
            let moment = Duration::from_micros(random.random_range(0..500_000));
            killed(&bed, victim, deed, moment);
            let after = format!("round {round}, {} at {moment:?} of {}", deed.name, victim.name);
            let api = bed.nodes[0].api();
            drive(&api, deed);
            // A member that has just begun again opens its pools first, and hears what it has missed.
            let content = wait::until("what instance a holds", 60 * SECOND, || {
                anyhow::ensure!(snapshots_of(&api, "a")?.contains(&shot), "no snapshot {shot}");
                held(&api, "a").map(Some)
            });
            assert_eq!(content.unwrap_or_else(|e| panic!("{after}: {e:#}")), text, "{after}");
            census::agree(&bed, 60 * SECOND).unwrap_or_else(|e| panic!("{after}: {e:#}"));
        }
        bed.nodes[0].api().delete("b").unwrap();
    }
    // Every snapshot is still what it was.
    let api = bed.nodes[0].api();
    for round in 0..rounds {
        api.run("PUT", "/1.0/instances/a", &json!({"restore": format!("s{round}")})).unwrap();
        assert_eq!(held(&api, "a").unwrap(), format!("round {round}"));
    }
    api.delete("a").unwrap();
    census::agree(&bed, 60 * SECOND).unwrap();
    for node in &bed.nodes {
        assert_eq!(census::of(node).unwrap(), census::Census::default(), "nothing is left on {}", node.name);
    }
}

fn killed(bed: &Testbed, victim: &basalt_tests::testbed::Node, deed: &Deed<'_>, moment: Duration) {
    std::thread::scope(|scope| {
        let (api, ask) = (bed.nodes[0].api(), deed.ask);
        let attempt = scope.spawn(move || ask(&api));
        let begun = Instant::now();
        while begun.elapsed() < moment && !attempt.is_finished() {
            std::thread::yield_now();
        }
        victim.kill();
        // It is away for a moment: the others go on without it.
        std::thread::sleep(Duration::from_millis(50));
        victim.start().unwrap();
        victim.wait_ready().unwrap();
        // Unknown, whatever it says: an agent died around it. A scribble of a restore may have hit the same agent.
        let _ = attempt.join();
    });
}

/// Asks again until it is done: whatever the kill left, finished or undone, is no obstacle.
fn drive(api: &Api, deed: &Deed<'_>) {
    wait::until_true(deed.name, 120 * SECOND, || {
        if (deed.done)(api).unwrap_or(false) {
            return Ok(true);
        }
        if deed.name == "copy" && api.status("b").is_ok_and(|status| status == "Error") {
            let _ = api.delete("b");
        }
        if let Err(error) = (deed.ask)(api) {
            println!("{}: {error:#}", deed.name);
        }
        Ok(false)
    })
    .unwrap();
}

#[test]
fn killed_on_the_way_on_dir() {
    require!(facility::containers());
    killed_on_the_way("dir", 4);
}

#[test]
fn killed_on_the_way_on_zfs() {
    require!(facility::containers().or_else(facility::zfs));
    killed_on_the_way("zfs", 3);
}
