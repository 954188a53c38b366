//! Empties a project that is to be deleted with all that it holds (`force=1`).

use basalt_model::command::{
    AclCommand, AddressSetCommand, Expect, ImageCommand, InstanceCommand, NetworkCommand, ProfileCommand, ZoneCommand,
};
use basalt_model::instance::{Devices, Instance, Intent, StopMode};
use basalt_model::network::acl::Acl;
use basalt_model::{Command, ProfileName, ProjectName};

use crate::call::Call;
use crate::clock;
use crate::error::Error;
use crate::routes::{image, run};

/// Deletes all that a project holds. What comes in meanwhile makes the removal of the project fail, and whoever wants
/// it asks again: so does a request that was cut short.
pub(super) async fn all(call: &Call, project: &ProjectName) -> Result<(), Error> {
    let held = call.view.instances.values().filter(|i| i.project == *project);
    let held: Vec<Instance> = held.cloned().collect();
    if let Some(lost) = held.iter().find_map(|i| run::lost_home(&call.view, i)) {
        return Err(lost);
    }
    for instance in &held {
        let delete = InstanceCommand::SetRun {
            id: instance.id,
            intent: Intent::Deleted,
            restart: false,
            stop: StopMode { force: true, timeout_secs: None },
            at: clock::now(),
        };
        call.propose(Command::Instance(delete)).await?;
    }
    for instance in held {
        let request = call.api.view().instances.get(&instance.id).map_or(0, |i| i.run.request);
        run::gone(&call.api, instance.id, request).await?;
        call.happened("instance-deleted", format!("/1.0/instances/{}", instance.name), Some(project));
    }
    networks(call, project).await?;
    let view = call.api.view();
    for image in view.images_of(project) {
        call.propose(Command::Image(ImageCommand::Remove(image.id()))).await?;
        call.happened_in("image-deleted", image::url(&image.fingerprint), project);
    }
    let own = view.profiles.keys().filter(|(owner, name)| owner == project && *name != ProfileName::default_profile());
    for (_, name) in own {
        let remove = ProfileCommand::Remove { project: project.clone(), name: name.clone() };
        call.propose(Command::Profile(remove)).await?;
    }
    for zone in view.zones.values().filter(|zone| zone.project == *project) {
        call.propose(Command::Zone(ZoneCommand::Remove(zone.name.clone()))).await?;
    }
    Ok(())
}

/// Deletes the networks of a project, and the lists and sets beside them, once no instance is on any. They name each
/// other in circles: rules and peerings, which nothing needs, go first.
async fn networks(call: &Call, project: &ProjectName) -> Result<(), Error> {
    let view = call.api.view();
    if view.network_project(project) != *project {
        return Ok(());
    }
    for profile in view.profiles.values().filter(|p| p.project == *project && !p.devices.is_empty()) {
        let bare = ProfileCommand::Update {
            project: project.clone(),
            name: profile.name.clone(),
            expect: None,
            description: profile.description.clone(),
            config: profile.config.clone(),
            devices: Devices::new(),
        };
        call.propose(Command::Profile(bare)).await?;
    }
    for acl in view.acls.values().filter(|acl| acl.project == *project) {
        let bare = Acl { ingress: Vec::new(), egress: Vec::new(), ..acl.clone() };
        call.propose(Command::Acl(AclCommand::Put { acl: Box::new(bare), expect: Expect::Present(None) })).await?;
    }
    let own = || view.networks.values().filter(|network| network.project == *project);
    for network in own() {
        for peer in network.peers.keys() {
            let remove = NetworkCommand::RemovePeer { network: network.id(), name: peer.clone() };
            call.propose(Command::Network(remove)).await?;
        }
    }
    for network in own() {
        call.propose(Command::Network(NetworkCommand::Remove(network.id()))).await?;
    }
    for id in view.acls.keys().filter(|id| id.project == *project) {
        call.propose(Command::Acl(AclCommand::Remove(id.clone()))).await?;
    }
    for id in view.address_sets.keys().filter(|id| id.project == *project) {
        call.propose(Command::AddressSet(AddressSetCommand::Remove(id.clone()))).await?;
    }
    Ok(())
}
