//! What the replicated state wants of one instance, in the planner's words.

use basalt_model::config::{is_false, is_true};
use basalt_model::instance::Instance;
use basalt_model::{ClusterState, Generation, NodeId};

use super::plan::Desired;

/// The wish for `instance`, if its home is `me`. `restart_budget` says whether `boot.autorestart` may act now.
pub fn desired(state: &ClusterState, instance: &Instance, me: NodeId, restart_budget: bool) -> Option<Desired> {
    let (home, epoch) = instance.placement.home()?;
    if home != me {
        return None;
    }
    let config = state.expanded_config(&instance.project, &instance.spec);
    let key = |name: &str| config.get(name).map(String::as_str).filter(|v| !v.is_empty());
    let autostart = match key("boot.autostart") {
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
        autorestart: restart_budget && key("boot.autorestart").is_some_and(is_true),
        ephemeral: instance.spec.ephemeral,
    })
}

/// One number for everything a guest is made from: it changes whenever the instance's spec or one of its profiles does.
///
/// The instance's own generation leads, because adding or removing a profile bumps it; edits of the profiles themselves
/// follow in the low bits.
pub fn configuration(state: &ClusterState, instance: &Instance) -> Generation {
    let edits: u64 = instance
        .spec
        .profiles
        .iter()
        .filter_map(|name| state.profiles.get(&(instance.project.clone(), name.clone())))
        .map(|profile| profile.generation.0)
        .sum();
    Generation((instance.generation.0 << 24) | (edits & 0xff_ffff))
}
