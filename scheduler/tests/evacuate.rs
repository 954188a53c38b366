//! Members are emptied and filled again, by the planner alone: each step is applied, and homes do what is asked of them.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure here is a failure of the test")]

use std::collections::BTreeMap;

use basalt_model::command::{InstanceCommand, MemberCommand};
use basalt_model::evacuation::{MARK, Mode, Order, Task};
use basalt_model::instance::{Instance, Intent, Phase, Placement, Report, Target};
use basalt_model::member::Duty;
use basalt_model::port::{Liveness, Load};
use basalt_model::{
    ClusterState, Command, Epoch, Generation, InstanceId, InstanceName, MemberName, NodeId, Rejected, Timestamp,
};
use basalt_scheduler::{evacuations, give_up_move, next_home};
use serde_json::{Value, json};

struct Idle;

impl Liveness for Idle {
    fn load(&self, _: NodeId) -> Option<Load> {
        None
    }
}

/// Three members with a pool, and a clock.
struct World(ClusterState, u64);

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

fn member(id: u64) -> basalt_model::member::Member {
    serde_json::from_value(json!({
        "id": id, "name": format!("node{id}"), "certificate": "0".repeat(64), "joined_at": 1, "duty": "Active",
        "health": "Online", "failure_domain": "", "description": "", "groups": [], "config": {},
        "announced": {"api_address": format!("h{id}"), "cluster_address": format!("c{id}"), "version": "",
            "feature_level": 2, "architecture": "x86_64", "cpus": 4, "memory": 8u64 << 30,
            "drivers": {"container": "1"}, "storage_drivers": {}},
    }))
    .unwrap()
}

impl World {
    fn new() -> Self {
        let init = json!({"Cluster": {"Init": {"cluster_id": uuid::Uuid::from_u128(7), "secrets":
            {"ca_certificate": "", "ca_key": "", "api_certificate": "", "api_key": ""}, "member": member(1), "at": 1}}});
        let mut world = World(ClusterState::default(), 10);
        world.say(init);
        for id in 2..=3 {
            world.0.members.insert(NodeId(id), member(id));
        }
        let ready = json!({"Ready": {"total": 1u64 << 40}});
        let status: BTreeMap<String, &Value> = NODES.iter().map(|id| (id.to_string(), &ready)).collect();
        world.say(json!({"Pool": {"Add": {"name": "p", "kind": "dir", "description": "", "config": {},
            "member_config": {}, "status": status, "generation": 1}}}));
        let root = json!({"root": {"type": "disk", "path": "/", "pool": "p"}});
        world.say(json!({"Profile": {"Update": {"project": "default", "name": "default", "expect": null,
            "description": "", "config": {}, "devices": root}}}));
        world
    }

    fn say(&mut self, command: Value) {
        let command: Command = serde_json::from_value(command.clone()).unwrap_or_else(|e| panic!("{e}: {command}"));
        self.0.apply(&command).unwrap_or_else(|e| panic!("{command:?}: {e}"));
    }

    /// An instance on a member, running or not.
    #[expect(clippy::too_many_arguments, reason = "all in which the instances of these tests differ")]
    fn add(&mut self, name: &str, node: u64, runs: bool, config: Value, devices: Value) -> InstanceId {
        let id = uuid::Uuid::from_u128(self.0.instances.len() as u128 + 1);
        let intent = if runs { "Running" } else { "Stopped" };
        self.say(json!({"Instance": {"Create": {"id": id, "project": "default", "name": name, "created_at": 1,
            "last_used_at": 0, "generation": 1, "target": {"Member": format!("node{node}")}, "report": null,
            "spec": {"kind": "container", "architecture": "", "origin": "Empty", "description": "", "ephemeral": false,
                "config": config, "devices": devices, "profiles": ["default"]},
            "run": {"intent": intent, "request": 0, "start": 0, "stop": {"force": false, "timeout_secs": null}},
            "placement": {"Unplaced": {"refused": null}}}}}));
        let id = InstanceId(id);
        let place = InstanceCommand::Place { id, node: NodeId(node), epoch: Epoch(1) };
        self.0.apply(&Command::Instance(place)).unwrap();
        self.homes();
        id
    }

    fn get(&self, name: &str) -> &Instance {
        self.0.instances.values().find(|i| i.name == InstanceName::new(name).unwrap()).unwrap()
    }

    fn order(&mut self, node: u64, task: Task) {
        self.1 += 1;
        let order = Order { task, at: Timestamp(self.1) };
        self.0.apply(&Command::Member(MemberCommand::Order { id: NodeId(node), order })).unwrap();
    }

    /// Each home does what is asked of it; those called `stubborn` stop by force only, `lost…` cannot be moved, and
    /// `unstartable` ones do not start but at `node1`.
    fn homes(&mut self) {
        let all: Vec<Instance> = self.0.instances.values().cloned().collect();
        for instance in all {
            let (id, name) = (instance.id, instance.name.as_str());
            let command = match &instance.placement {
                Placement::Moving(m) if name.starts_with("lost") => {
                    InstanceCommand::AbortMove { id, landing: m.landing, reason: "no space".into() }
                }
                Placement::Moving(m) => match m.to {
                    Some(_) => InstanceCommand::Landed { id, landing: m.landing, at: Timestamp(self.1) },
                    None => match next_home(&self.0, &Idle, &instance).unwrap() {
                        Ok(node) => InstanceCommand::AssignMove { id, landing: m.landing, node },
                        Err(reason) => InstanceCommand::AbortMove { id, landing: m.landing, reason },
                    },
                },
                Placement::On { node, epoch } if !instance.settled() => {
                    let (phase, reason) = match instance.run.intent {
                        Intent::Running if name.starts_with("unstartable") && *node != NodeId(1) => {
                            (Phase::Stopped, Some("no such init".to_owned()))
                        }
                        Intent::Running => (Phase::Running, None),
                        _ if name.starts_with("stubborn") && !instance.run.stop.force && instance.made() => {
                            (Phase::Running, Some("it does not listen".to_owned()))
                        }
                        _ => (Phase::Stopped, None),
                    };
                    let (request, at) = (instance.run.request, Timestamp(self.1));
                    let generation = Generation(1);
                    let report = Report { epoch: *epoch, generation, phase, made: true, request, reason, at };
                    InstanceCommand::Report { id, report }
                }
                Placement::On { .. } | Placement::Unplaced { .. } => continue,
            };
            self.0.apply(&Command::Instance(command)).unwrap();
        }
    }

    /// Works until no member is being emptied or filled. Every second step is planned twice, as two leaders would.
    fn work(&mut self) {
        for round in 0..100 {
            self.1 += 1;
            let commands = evacuations(&self.0, &Idle, Timestamp(self.1));
            for _ in 0..=round % 2 {
                for command in &commands {
                    match self.0.apply(command) {
                        Ok(()) | Err(Rejected::Busy(_) | Rejected::Stale(_) | Rejected::Changed { .. }) => {}
                        Err(why) => {
                            let Command::Instance(InstanceCommand::Move { id, .. }) = command else { panic!("{why}") };
                            let up = give_up_move(&self.0, *id, &why.to_string(), Timestamp(self.1)).unwrap();
                            self.0.apply(&up).unwrap();
                        }
                    }
                }
            }
            self.homes();
            if self.0.members.values().all(|m| m.order.is_none()) {
                return;
            }
        }
        panic!("it never ends: {:?}", self.0.instances.values().map(|i| &i.errands).collect::<Vec<_>>());
    }

    fn at(&self, name: &str) -> (u64, bool) {
        let instance = self.get(name);
        (instance.placement.home().unwrap().0.0, instance.phase() == Some(Phase::Running))
    }

    fn failed(&self, name: &str) -> Option<&str> {
        self.get(name).errands.trip.as_ref()?.failed.as_deref()
    }
}

fn no() -> Value {
    json!({})
}

#[test]
fn what_can_move_moves_and_comes_back() {
    let mut world = World::new();
    world.add("runs", 1, true, no(), no());
    world.add("rests", 1, false, no(), no());
    world.add("stubborn", 1, true, json!({"cluster.evacuate": "migrate"}), no());
    world.add("other", 2, true, no(), no());
    let folder = json!({"srv": {"type": "disk", "source": "/srv", "path": "/srv"}});
    world.add("bound", 1, true, no(), folder.clone());
    world.add("kept", 1, true, json!({"cluster.evacuate": "stop"}), no());
    world.order(1, Task::Empty(Mode::Own));
    world.work();
    assert_eq!(world.0.members.get(&NodeId(1)).unwrap().duty, Duty::Evacuated);
    for (name, runs) in [("runs", true), ("rests", false), ("stubborn", true)] {
        let (home, running) = world.at(name);
        assert!(home != 1 && running == runs, "{name} is on {home}, running: {running}");
        assert_eq!(world.get(name).spec.config.get(MARK).map(String::as_str), Some("node1"));
    }
    assert_eq!((world.at("bound"), world.at("kept"), world.at("other")), ((1, false), (1, false), (2, true)));
    world.order(1, Task::Fill);
    world.work();
    let wanted = [("runs", true), ("rests", false), ("stubborn", true), ("bound", true), ("kept", true)];
    for (name, runs) in wanted {
        assert_eq!(world.at(name), (1, runs), "{name}");
        assert_eq!((world.get(name).spec.config.get(MARK), &world.get(name).errands.trip), (None, &None), "{name}");
        assert_eq!(world.get(name).target, Target::Member(MemberName::new("node1").unwrap()), "{name}");
    }
}

#[test]
fn guests_have_the_time_to_shut_down_that_is_configured() {
    let mut world = World::new();
    world.add("usual", 1, true, no(), no());
    world.add("slow", 1, true, json!({"boot.host_shutdown_timeout": "120"}), no());
    world.order(1, Task::Empty(Mode::Own));
    for command in evacuations(&world.0, &Idle, Timestamp(world.1)) {
        world.0.apply(&command).unwrap();
    }
    let patience = |name: &str| (world.get(name).run.intent, world.get(name).run.stop.timeout_secs);
    assert_eq!(patience("usual"), (Intent::Stopped, Some(30)));
    assert_eq!(patience("slow"), (Intent::Stopped, Some(120)));
}

#[test]
fn what_cannot_move_runs_on_when_it_was_to_move_and_is_named() {
    let mut world = World::new();
    let folder = json!({"srv": {"type": "disk", "source": "/srv", "path": "/srv"}});
    world.add("bound", 1, true, no(), folder);
    world.add("big", 1, true, json!({"limits.memory": "7GiB"}), no());
    for node in [2, 3] {
        world.add(&format!("full-{node}"), node, true, json!({"limits.memory": "6GiB"}), no());
    }
    world.add("lost", 1, true, no(), no());
    world.order(1, Task::Empty(Mode::Migrate));
    world.work();
    assert_eq!((world.at("bound"), world.at("big")), ((1, true), (1, true)));
    assert!(world.failed("bound").unwrap().contains("srv"));
    assert!(world.failed("big").unwrap().contains("not enough memory"));
    assert_eq!((world.at("lost"), world.failed("lost")), ((1, false), Some("no space")), "stopped before it was known");
    world.order(1, Task::Fill);
    world.work();
    for name in ["bound", "big", "lost"] {
        assert_eq!((world.at(name), world.failed(name)), ((1, true), None), "{name}");
    }
}

#[test]
fn orders_that_cross_end_well() {
    let mut world = World::new();
    world.add("a", 1, true, no(), no());
    // Called off before anything has happened, in the middle, and once it has left.
    for steps in 0..8 {
        world.order(1, Task::Empty(Mode::Own));
        for _ in 0..steps {
            world.1 += 1;
            for command in evacuations(&world.0, &Idle, Timestamp(world.1)) {
                let _ = world.0.apply(&command);
            }
            world.homes();
        }
        world.order(1, Task::Fill);
        world.work();
        assert_eq!((world.at("a"), &world.get("a").errands.trip), ((1, true), &None), "after {steps} steps");
    }
    // Driven from member to member, it comes back to where it belongs.
    for node in [1, 2] {
        world.order(node, Task::Empty(Mode::Own));
        world.work();
    }
    assert_eq!(world.at("a"), (3, true));
    world.order(2, Task::Fill);
    world.work();
    assert_eq!(world.at("a"), (3, true));
    world.order(1, Task::Fill);
    world.work();
    assert_eq!((world.at("a"), &world.get("a").errands.trip), ((1, true), &None));
}

#[test]
fn what_does_not_start_and_what_has_nowhere_to_return_to() {
    let mut world = World::new();
    world.add("unstartable", 1, true, no(), no());
    world.add("a", 1, true, no(), no());
    world.order(1, Task::Empty(Mode::Own));
    world.work();
    assert_eq!((world.at("unstartable").1, world.failed("unstartable")), (false, Some("no such init")));
    world.0.apply(&Command::Member(MemberCommand::Remove { id: NodeId(1), force: true })).unwrap();
    for command in evacuations(&world.0, &Idle, Timestamp(99)) {
        world.0.apply(&command).unwrap();
    }
    assert_eq!((&world.get("a").errands.trip, world.at("a").1), (&None, true));
}

#[test]
fn few_are_under_way_at_a_time() {
    let mut world = World::new();
    for at in 0..20 {
        world.add(&format!("web-{at}"), 1, true, no(), no());
    }
    world.order(1, Task::Empty(Mode::Stop));
    for command in evacuations(&world.0, &Idle, Timestamp(99)) {
        world.0.apply(&command).unwrap();
    }
    let under_way = world.0.instances.values().filter(|i| i.errands.trip.is_some()).count();
    assert_eq!(under_way, 8);
    assert!(evacuations(&world.0, &Idle, Timestamp(99)).is_empty());
    world.work();
    assert!(world.0.instances.values().all(|i| i.phase() == Some(Phase::Stopped)));
}
