//! Chaos under load: at random moments the leader is killed, a follower is killed, or a node is cut off; after each round
//! no acknowledged write is lost, no container has stopped, every instance has exactly one home, the lost node is back,
//! and nothing is orphaned. `CHAOS_ROUNDS` and `CHAOS_SEED`; the seed is printed.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a suite is a user at a shell, and fails by panicking

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use basalt_tests::api::Api;
use basalt_tests::load::Load;
use basalt_tests::testbed::{Cut, Node, Options, Testbed};
use basalt_tests::{census, facility, image, require, wait};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
/// All rounds together; a slower run is a failure of its own.
const BUDGET: Duration = Duration::from_secs(9 * 60);

#[derive(Debug, Clone, Copy)]
enum Fault {
    KillLeader,
    KillFollower,
    CutLeader(Cut),
    CutFollower(Cut),
}

impl Fault {
    fn draw(random: &mut StdRng) -> Self {
        let cut = [Cut::Both, Cut::Deaf, Cut::Mute][random.random_range(0..3)];
        match random.random_range(0..4) {
            0 => Fault::KillLeader,
            1 => Fault::KillFollower,
            2 => Fault::CutLeader(cut),
            _ => Fault::CutFollower(cut),
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|v| v.parse().ok())
}

#[test]
fn fifty_rounds() {
    require!(facility::containers());
    let seed = number("CHAOS_SEED").unwrap_or_else(|| StdRng::from_os_rng().random());
    let rounds = number("CHAOS_ROUNDS").unwrap_or(50);
    println!("CHAOS_SEED={seed} CHAOS_ROUNDS={rounds} replays the choices of this run");
    let mut random = StdRng::seed_from_u64(seed);
    let bed = Testbed::cluster(&Options::real(3)).unwrap();
    let guests = populate(&bed);
    let apis: Vec<Api> = bed.nodes.iter().map(Node::api).collect();
    let load = Load::start(&apis, "c0", 4);
    let churn = Churn::start(&apis);
    let begun = Instant::now();
    for round in 0..rounds {
        let (fault, pause) = (Fault::draw(&mut random), Duration::from_millis(random.random_range(0..400)));
        let begun = Instant::now();
        let outage = one_round(&bed, &load, &guests, fault, pause)
            .unwrap_or_else(|error| panic!("round {round} of seed {seed}, {fault:?} after {pause:?}: {error:#}"));
        println!("round {round}: {fault:?}; writes again after {outage:?}; whole again after {:?}", begun.elapsed());
    }
    let took = begun.elapsed();
    churn.finish(&bed).unwrap();
    let (good, bad) = load.finish(&bed.leader().unwrap().api()).unwrap();
    whole(&bed, &guests).unwrap();
    census::agree(&bed, 60 * SECOND).unwrap();
    println!("{rounds} rounds in {took:?}: {good} writes acknowledged, {bad} refused or unknown, none lost");
    assert!(took < BUDGET, "{took:?}");
}

type Guests = BTreeMap<String, (String, census::Guest)>;

/// Two running containers on each node. Gives back each guest by instance id, with its node.
fn populate(bed: &Testbed) -> Guests {
    let file = bed.dir().join("busybox.tar.gz");
    image::busybox(&file).unwrap();
    bed.nodes[0].basalt(&["image", "import", file.to_str().unwrap(), "--alias", "busybox"]).unwrap();
    let api = bed.nodes[0].api();
    for number in 0..6 {
        let (name, node) = (format!("c{number}"), &bed.nodes[number % 3]);
        api.create(&name, "busybox", Some(&node.name), &Value::Null).unwrap();
        api.act(&name, "start", false).unwrap();
    }
    let mut guests = Guests::new();
    for node in &bed.nodes {
        let census = census::of(node).unwrap();
        assert_eq!(census.guests.len(), 2);
        guests.extend(census.guests.into_iter().map(|(id, guest)| (id, (node.name.clone(), guest))));
    }
    guests
}

/// One fault and its repair; how long no write was taken.
fn one_round(bed: &Testbed, load: &Load, guests: &Guests, fault: Fault, pause: Duration) -> Result<Duration> {
    let begun = Instant::now();
    wait::until_true("the random moment", 10 * SECOND, || Ok(begun.elapsed() >= pause))?;
    let victim = match fault {
        Fault::KillLeader | Fault::CutLeader(_) => bed.leader()?,
        Fault::KillFollower | Fault::CutFollower(_) => bed.follower()?,
    };
    match fault {
        Fault::KillLeader | Fault::KillFollower => victim.kill(),
        Fault::CutLeader(cut) | Fault::CutFollower(cut) => victim.cut(cut)?,
    }
    let survivor = bed.nodes.iter().find(|n| n.name != victim.name).context("a survivor")?;
    let outage = first_write(survivor)?;
    load.progress(10, 30 * SECOND)?;
    whole(bed, guests)?;
    match fault {
        Fault::KillLeader | Fault::KillFollower => {
            victim.start()?;
            victim.wait_ready()?;
        }
        Fault::CutLeader(_) | Fault::CutFollower(_) => victim.heal(),
    }
    rejoined(bed, victim)?;
    load.check(&victim.api(), 30 * SECOND)?;
    whole(bed, guests)?;
    one_home(bed)?;
    Ok(outage)
}

/// Until the rest takes a write.
fn first_write(node: &Node) -> Result<Duration> {
    let (begun, api) = (Instant::now(), node.api().timeout(3 * SECOND));
    wait::until_true("the majority writes", 30 * SECOND, || {
        api.run("PATCH", "/1.0", &json!({"config": {"user.after": format!("{begun:?}")}})).map(|_| true)
    })?;
    Ok(begun.elapsed())
}

/// No container has stopped: the very same processes run.
fn whole(bed: &Testbed, guests: &Guests) -> Result<()> {
    for (id, (node, guest)) in guests {
        ensure!(guest.lives(), "the guest of {id} on {node} has ended");
    }
    ensure!(bed.nodes.len() == 3, "a testbed does not shrink");
    Ok(())
}

/// The node takes writes itself and shows what others write.
fn rejoined(bed: &Testbed, node: &Node) -> Result<()> {
    let stamp = format!("{:?}", Instant::now());
    let (api, leader) = (node.api().timeout(5 * SECOND), bed.leader()?);
    wait::until_true(&format!("{} takes writes again", node.name), 30 * SECOND, || {
        api.run("PATCH", "/1.0", &json!({"config": {"user.back": stamp}})).map(|_| true)
    })?;
    // Its return may have made another one leader, in the middle of a write too.
    wait::until_true("the others take writes", 30 * SECOND, || {
        leader.api().run("PATCH", "/1.0", &json!({"config": {"user.front": stamp}})).map(|_| true)
    })?;
    wait::until_true(&format!("{} is up to date", node.name), 30 * SECOND, || {
        Ok(api.get("/1.0")?["config"]["user.front"] == stamp.as_str())
    })
}

/// Every instance has one home: as each member tells it the same one, and no volume lies on two hosts.
fn one_home(bed: &Testbed) -> Result<()> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for node in &bed.nodes {
        for id in census::of(node)?.volumes {
            if let Some(other) = seen.insert(id.clone(), node.name.clone()) {
                anyhow::bail!("{id} lies on {other} and on {}", node.name);
            }
        }
    }
    wait::until_true("all members name the same homes", 20 * SECOND, || {
        let homes = |node: &Node| -> Result<BTreeMap<String, String>> {
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            let steady = |i: &&Value| i["name"].as_str().is_some_and(|n| n.starts_with('c'));
            Ok(node
                .api()
                .instances()?
                .iter()
                .filter(steady)
                .map(|i| (text(&i["name"]), text(&i["location"])))
                .collect())
        };
        let first = homes(&bed.nodes[0])?;
        ensure!(first.len() == 6, "{first:?}");
        Ok(homes(&bed.nodes[1])? == first && homes(&bed.nodes[2])? == first)
    })
}

/// Makes and deletes instances all the time, through whichever node answers, and remembers what was acknowledged.
struct Churn {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    /// By name: whether its deletion was asked for, and acknowledged.
    known: Arc<Mutex<BTreeMap<String, (bool, bool)>>>,
    thread: Option<JoinHandle<()>>,
}

impl Churn {
    fn start(apis: &[Api]) -> Self {
        let apis: Vec<Api> = apis.iter().map(|a| a.clone().timeout(8 * SECOND)).collect();
        let mut churn = Churn { stop: Arc::default(), made: Arc::default(), known: Arc::default(), thread: None };
        let (stop, made, known) = (churn.stop.clone(), churn.made.clone(), churn.known.clone());
        churn.thread = Some(std::thread::spawn(move || {
            for number in 0_usize.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (api, name) = (&apis[number % apis.len()], format!("t{number}"));
                if api.create(&name, "", None, &Value::Null).is_err() {
                    continue;
                }
                made.fetch_add(1, Ordering::Relaxed);
                known.lock().unwrap().insert(name.clone(), (false, false));
                if number % 4 != 0 {
                    known.lock().unwrap().insert(name.clone(), (true, false));
                    let gone = apis[(number + 1) % apis.len()].delete(&name).is_ok();
                    known.lock().unwrap().insert(name, (true, gone));
                }
            }
        }));
        churn
    }

    /// What was acknowledged as made is there, what was acknowledged as deleted is not; then all of it is deleted.
    fn finish(mut self, bed: &Testbed) -> Result<()> {
        self.end();
        let api = bed.leader()?.api();
        let known = self.known.lock().unwrap().clone();
        // Its own replica may be a moment behind, the leader's too; what is lost stays lost.
        let names = wait::until("what was acknowledged is so", 30 * SECOND, || {
            let all = api.instances()?;
            let names: Vec<String> = all.iter().filter_map(|i| i["name"].as_str().map(str::to_owned)).collect();
            for (name, (asked, gone)) in &known {
                ensure!(*asked || names.contains(name), "{name} was made, and is not there");
                ensure!(!*gone || !names.contains(name), "{name} was deleted, and is there");
            }
            Ok(Some(names))
        })?;
        println!("{} instances made and deleted meanwhile", self.made.load(Ordering::Relaxed));
        for name in names.iter().filter(|n| n.starts_with('t')) {
            wait::until_true(&format!("{name} is deleted"), 60 * SECOND, || {
                let gone = |api: &Api| api.call("GET", &format!("/1.0/instances/{name}"), &Value::Null);
                if gone(&api)?.status == 404 {
                    return Ok(true);
                }
                api.delete(name).map(|_| true)
            })?;
        }
        Ok(())
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.end();
    }
}
