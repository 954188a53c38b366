//! What the replicated state wants of one instance, in the planner's words.

use basalt_model::config::{is_false, is_true};
use basalt_model::instance::Instance;
use basalt_model::member::Duty;
use basalt_model::{ClusterState, Generation, InstanceId, NodeId};

use super::plan::{Desired, SnapshotWish};

/// The wish for `instance`, if its home is `me`. `restart_budget` says whether `boot.autorestart` may act now.
pub fn desired(state: &ClusterState, instance: &Instance, me: NodeId, restart_budget: bool) -> Option<Desired> {
    let (home, epoch) = instance.placement.home()?;
    // Until a move has come to its end, nothing else is done for the instance.
    if home != me || instance.placement.moving().is_some() {
        return None;
    }
    let config = state.expanded_config(&instance.project, &instance.spec);
    let key = |name: &str| config.get(name).map(String::as_str).filter(|v| !v.is_empty());
    // On a member that was emptied for maintenance nothing starts by itself.
    let evacuated = state.members.get(&me).is_some_and(|m| m.duty == Duty::Evacuated);
    let autostart = match key("boot.autostart") {
        Some(_) | None if evacuated => Some(false),
        Some(value) if is_true(value) => Some(true),
        Some(value) if is_false(value) => Some(false),
        Some(_) | None => None,
    };
    Some(Desired {
        id: instance.id,
        epoch,
        generation: instance.generation,
        configuration: configuration(state, instance),
        run: instance.run,
        report: instance.current_report().cloned(),
        autostart,
        autorestart: restart_budget && !evacuated && key("boot.autorestart").is_some_and(is_true),
        // One that an evacuation has stopped was not stopped for good.
        ephemeral: instance.spec.ephemeral && !instance.held(),
        remake: instance.remade(),
        restore: instance.pending_restore(),
        snapshots: snapshots(state, instance.id),
    })
}

/// Snapshots of an instance that there is something to do for.
pub fn snapshots(state: &ClusterState, id: InstanceId) -> Vec<SnapshotWish> {
    state.snapshots_of(id).filter_map(|s| SnapshotWish::of(s.id, &s.stage)).collect()
}

/// One number for everything a guest is made from: it changes whenever the instance's spec or one of its profiles does.
///
/// The instance's own generation leads, because adding or removing a profile bumps it; edits of the profiles themselves
/// follow in the low bits.
pub fn configuration(state: &ClusterState, instance: &Instance) -> Generation {
    let profiles = instance.spec.profiles.iter().filter_map(|name| state.profile_of(&instance.project, name));
    let edits: u64 = profiles.map(|profile| profile.generation.0).sum();
    Generation((instance.generation.0 << 24) | (edits & 0xff_ffff))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(duty: &str) -> basalt_model::member::Member {
        serde_json::from_value(serde_json::json!({
            "id": 1, "name": "node1", "certificate": "0".repeat(64), "joined_at": 1, "duty": duty, "health": "Online",
            "failure_domain": "", "description": "", "groups": [], "config": {},
            "announced": {"api_address": "", "cluster_address": "", "version": "", "feature_level": 2,
                "architecture": "", "cpus": 1, "memory": 1, "drivers": {}, "storage_drivers": {}},
        }))
        .unwrap()
    }

    fn instance() -> Instance {
        serde_json::from_value(serde_json::json!({
            "id": "0189f7ea-0b5c-7c3e-8f00-000000000001", "project": "default", "name": "c1", "created_at": 1,
            "last_used_at": 0, "generation": 1, "target": "Any", "report": null,
            "spec": {"kind": "container", "architecture": "", "origin": "Empty", "description": "", "ephemeral": false,
                "config": {"boot.autostart": "true", "boot.autorestart": "true"}, "devices": {}, "profiles": []},
            "run": {"intent": "Stopped", "request": 1, "start": 1, "stop": {"force": false, "timeout_secs": null}},
            "placement": {"On": {"node": 1, "epoch": 1}},
        }))
        .unwrap()
    }

    #[test]
    fn nothing_starts_by_itself_on_an_evacuated_member() {
        for (duty, autostart, autorestart) in [("Active", Some(true), true), ("Evacuated", Some(false), false)] {
            let mut state = ClusterState::default();
            state.members.insert(NodeId(1), member(duty));
            let wanted = desired(&state, &instance(), NodeId(1), true).unwrap();
            assert_eq!((wanted.autostart, wanted.autorestart), (autostart, autorestart), "{duty}");
        }
    }
}
