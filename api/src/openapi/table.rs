//! Every path and verb of the API: see the head of [`super`] for how to add one.

use std::collections::BTreeMap;

use super::entry::Parameter::{
    Address, AllProjects, Device, Filter, Force, Format, Instance, Path, Port, Protocol, Recursion, Secret, Template,
    Timeout, Type,
};
use super::entry::{Entry, delete, get, patch, post, put};
use crate::dto::{
    access, acl, address_set, balance, certificate, cluster, diagnosis, image, image_metadata, instance, metadata,
    network, operation, peer, pool, profile, project, resources, server, state, warning, zone,
};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const BYTES: &str = "application/octet-stream";

/// The table.
pub(super) fn entries() -> Vec<Entry> {
    let mut all = server();
    for (root, older) in [("instances", false), ("containers", true), ("virtual-machines", true)] {
        all.extend(instances(&format!("/1.0/{root}")).into_iter().map(|e| e.in_project().deprecated(older)));
    }
    all.extend(operations());
    all.extend(images().into_iter().map(Entry::in_project));
    all.extend(settings());
    all.extend(networks().into_iter().chain(network_parts()).map(Entry::in_project));
    all.extend(storage());
    all.extend(clustering());
    all
}

fn server() -> Vec<Entry> {
    vec![
        get("/", "Versions of the API.").gives::<Vec<String>>(),
        get("/1.0", "The server, its configuration and what it can do.")
            .in_project()
            .at_member()
            .gives_editable::<server::Server>(),
        put("/1.0", "Replaces the configuration of the cluster.").at_member().takes::<server::Put>().edits(),
        patch("/1.0", "Changes keys of the cluster's configuration.").at_member().takes::<server::Put>().edits(),
        get("/1.0/openapi.json", "This document.").gives_raw("application/json"),
        get("/1.0/metadata/configuration", "What can be configured.").gives::<metadata::Configuration>(),
        get("/1.0/events", "What happens, as it happens.")
            .in_project()
            .with(&[AllProjects, Type])
            .upgrades("a websocket"),
        get("/1.0/metrics", "Metrics of this member, for Prometheus.")
            .in_project()
            .at_member()
            .with(&[Format])
            .gives_raw(TEXT),
        get("/1.0/resources", "What the host has.").at_member().gives::<resources::Resources>(),
        get("/1.0/warnings", "What is wrong.").in_project().with(&[Filter]).lists::<warning::Warning>(),
        get("/1.0/warnings/{id}", "A warning.").gives_editable::<warning::Warning>(),
        put("/1.0/warnings/{id}", "Marks a warning as seen, or as new.").takes::<warning::Put>().edits(),
        patch("/1.0/warnings/{id}", "The same.").takes::<warning::Put>().edits(),
        delete("/1.0/warnings/{id}", "Forgets a warning.").done(),
    ]
}

fn instances(root: &str) -> Vec<Entry> {
    let path = |rest: &str| format!("{root}/{{name}}{rest}");
    vec![
        get(root, "Instances; `recursion` may go on with `;fields=state.disk,state.network`, the costly parts that are wanted.").with(&[AllProjects, Filter]).lists_both::<instance::Instance, instance::Full>(),
        post(root, "Makes an instance.").at_member().takes::<instance::Post>().operates().lacks(),
        put(root, "The same for all instances of a project.").takes::<instance::BulkState>().operates(),
        get(&path(""), "An instance.").with(&[Recursion]).gives_editable::<instance::Instance>(),
        put(&path(""), "Replaces what can be edited of an instance.").takes::<instance::Put>().edits_by_operation(),
        patch(&path(""), "Changes an instance.").takes::<instance::Put>().edits(),
        post(&path(""), "Renames or moves an instance.").at_member().takes::<instance::Rename>().operates().lacks(),
        delete(&path(""), "Deletes an instance.").operates(),
        post(&path("/rebuild"), "Makes the root of a stopped instance anew, of an image or empty.")
            .takes::<instance::Rebuild>()
            .operates(),
        get(&path("/state"), "The live state of an instance.").gives::<state::State>(),
        put(&path("/state"), "Starts, stops, restarts, freezes or unfreezes.").takes::<instance::StatePut>().operates(),
        post(&path("/exec"), "Runs a program in the guest.").takes::<instance::Exec>().operates(),
        get(&path("/console"), "What the console showed.").gives_raw(BYTES),
        post(&path("/console"), "Attaches to the console.").takes::<instance::Console>().operates(),
        delete(&path("/console"), "Forgets what the console showed.").done(),
        get(&path("/metadata"), "What the instance keeps of its image.").gives_editable::<image_metadata::ImageMetadata>(),
        put(&path("/metadata"), "Replaces it.").takes::<image_metadata::ImageMetadata>().edits(),
        patch(&path("/metadata"), "Changes parts of it.").takes::<image_metadata::ImageMetadata>().edits(),
        get(&path("/metadata/templates"), "Names of templates, or the content of the one that `path` names.")
            .with(&[Template])
            .gives::<Vec<String>>()
            .gives_raw(BYTES),
        post(&path("/metadata/templates"), "Makes or replaces a template.").with(&[Path]).takes_raw(BYTES).done(),
        delete(&path("/metadata/templates"), "Removes a template.").with(&[Path]).done(),
        get(&path("/access"), "Who may touch the instance.").gives::<Vec<access::Entry>>(),
        get(&path("/files"), "A file, the target of a link, or the names in a folder.")
            .with(&[Path])
            .gives_raw(BYTES)
            .gives::<Vec<String>>(),
        post(&path("/files"), "Writes a file, a link or a folder.").with(&[Path]).takes_raw(BYTES).done(),
        delete(&path("/files"), "Removes a file or an empty folder.").with(&[Path]).done(),
        get(&path("/sftp"), "The guest's files by SFTP.").upgrades("SFTP"),
        get(&path("/snapshots"), "Snapshots of an instance.").lists::<instance::Snapshot>(),
        post(&path("/snapshots"), "Takes a snapshot.").takes::<instance::SnapshotPost>().operates(),
        get(&path("/snapshots/{snapshot}"), "A snapshot.").gives_editable::<instance::Snapshot>(),
        put(&path("/snapshots/{snapshot}"), "Says when a snapshot ends.")
            .takes::<instance::SnapshotPut>()
            .edits_by_operation(),
        patch(&path("/snapshots/{snapshot}"), "Says when a snapshot ends, if it is to be said.")
            .takes::<instance::SnapshotPut>()
            .edits_by_operation(),
        post(&path("/snapshots/{snapshot}"), "Renames a snapshot.").takes::<instance::Rename>().operates(),
        delete(&path("/snapshots/{snapshot}"), "Deletes a snapshot.").operates(),
        get(&path("/backups"), "Backups of an instance.").gives::<Vec<String>>(),
        get(&path("/logs"), "Logs of an instance.").gives::<Vec<String>>(),
        get(&path("/logs/{file}"), "A log.").gives_raw(BYTES),
        get(&path("/logs/exec-output"), "Recorded output of programs.").gives::<Vec<String>>(),
        get(&path("/logs/exec-output/{file}"), "A recording.").gives_raw(BYTES),
        delete(&path("/logs/exec-output/{file}"), "Removes a recording.").done(),
    ]
}

fn operations() -> Vec<Entry> {
    vec![
        get("/1.0/operations", "Operations by their status: URLs, objects with `recursion`.")
            .in_project()
            .with(&[AllProjects, Recursion])
            .gives::<BTreeMap<String, Vec<serde_json::Value>>>(),
        get("/1.0/operations/{id}", "An operation.").gives::<operation::Operation>(),
        delete("/1.0/operations/{id}", "Cancels an operation.").done(),
        get("/1.0/operations/{id}/wait", "An operation, when it is over.")
            .with(&[Timeout, Secret])
            .gives::<operation::Operation>(),
        get("/1.0/operations/{id}/websocket", "A stream of an operation.").with(&[Secret]).upgrades("a websocket"),
    ]
}

fn images() -> Vec<Entry> {
    vec![
        get("/1.0/images", "Images.").with(&[AllProjects, Filter]).lists::<image::Image>(),
        post("/1.0/images", "Adds an image: its files as the body, or where it is to come from.")
            .takes::<image::Post>()
            .takes_raw(BYTES)
            .operates()
            .lacks(),
        get("/1.0/images/aliases", "Aliases of images.").with(&[Filter]).lists::<image::Alias>(),
        post("/1.0/images/aliases", "Makes an alias.").takes::<image::Alias>().creates(),
        get("/1.0/images/aliases/{name}", "An alias.").gives_editable::<image::Alias>(),
        put("/1.0/images/aliases/{name}", "Replaces an alias.").takes::<image::AliasPut>().edits(),
        patch("/1.0/images/aliases/{name}", "Changes an alias.").takes::<image::AliasPut>().edits(),
        post("/1.0/images/aliases/{name}", "Renames an alias.").takes::<network::Rename>().creates(),
        delete("/1.0/images/aliases/{name}", "Removes an alias.").done(),
        get("/1.0/images/{fingerprint}", "An image.").gives_editable::<image::Image>(),
        put("/1.0/images/{fingerprint}", "Replaces what can be edited of an image.").takes::<image::Put>().edits(),
        patch("/1.0/images/{fingerprint}", "Changes an image.").takes::<image::Put>().edits(),
        delete("/1.0/images/{fingerprint}", "Removes an image.").operates(),
        post("/1.0/images/{fingerprint}/refresh", "Looks for a newer image where this one came from.").operates(),
        post("/1.0/images/{fingerprint}/secret", "Makes a secret for one download of an image.").operates(),
        post("/1.0/images/{fingerprint}/export", "Sends an image to another server.")
            .takes::<image::ExportPost>()
            .operates(),
        get("/1.0/images/{fingerprint}/export", "The files of an image.")
            .gives_raw(BYTES)
            .gives_raw("multipart/form-data"),
    ]
}

fn settings() -> Vec<Entry> {
    vec![
        get("/1.0/profiles", "Profiles.").in_project().with(&[AllProjects]).lists::<profile::Profile>(),
        post("/1.0/profiles", "Makes a profile.").in_project().takes::<profile::Profile>().creates(),
        get("/1.0/profiles/{name}", "A profile.").in_project().gives_editable::<profile::Profile>(),
        put("/1.0/profiles/{name}", "Replaces a profile.").in_project().takes::<profile::Put>().edits(),
        patch("/1.0/profiles/{name}", "Changes a profile.").in_project().takes::<profile::Put>().edits(),
        post("/1.0/profiles/{name}", "Renames a profile.").in_project().takes::<network::Rename>().creates(),
        delete("/1.0/profiles/{name}", "Removes a profile.").in_project().done(),
        get("/1.0/projects", "Projects.").with(&[Filter]).lists::<project::Project>(),
        post("/1.0/projects", "Makes a project.").takes::<project::Project>().creates(),
        get("/1.0/projects/{name}", "A project.").gives_editable::<project::Project>(),
        put("/1.0/projects/{name}", "Replaces a project.").takes::<network::Put>().edits(),
        patch("/1.0/projects/{name}", "Changes a project.").takes::<network::Put>().edits(),
        post("/1.0/projects/{name}", "Renames a project.").takes::<network::Rename>().operates(),
        delete("/1.0/projects/{name}", "Removes a project.").done(),
        get("/1.0/projects/{name}/state", "Limits of a project, and what it uses.").gives::<project::State>(),
        get("/1.0/projects/{name}/access", "Who may touch what is in the project.").gives::<Vec<access::Entry>>(),
        get("/1.0/certificates", "Trusted certificates.").lists::<certificate::Certificate>(),
        post("/1.0/certificates", "Trusts a certificate, or makes a token with which one can be added.")
            .takes::<certificate::Post>()
            .creates()
            .operates(),
        get("/1.0/certificates/{fingerprint}", "A certificate.").gives_editable::<certificate::Certificate>(),
        put("/1.0/certificates/{fingerprint}", "Replaces what can be edited of it.")
            .takes::<certificate::Put>()
            .edits(),
        patch("/1.0/certificates/{fingerprint}", "Changes it.").takes::<certificate::Put>().edits(),
        delete("/1.0/certificates/{fingerprint}", "Trusts it no longer.").done(),
    ]
}

fn networks() -> Vec<Entry> {
    vec![
        get("/1.0/networks", "Networks.").with(&[AllProjects, Filter]).lists::<network::Network>(),
        post("/1.0/networks", "Makes a network.").at_member().takes::<network::Post>().creates(),
        get("/1.0/networks/{name}", "A network.").at_member().gives_editable::<network::Network>(),
        put("/1.0/networks/{name}", "Replaces a network's configuration.").takes::<network::Put>().edits(),
        patch("/1.0/networks/{name}", "Changes a network.").takes::<network::Put>().edits(),
        post("/1.0/networks/{name}", "Renames a network.").takes::<network::Rename>().creates(),
        delete("/1.0/networks/{name}", "Removes a network.").done(),
        get("/1.0/networks/{name}/state", "Live state of a network on a member.").at_member().gives::<network::State>(),
        get("/1.0/networks/{name}/doctor", "What is wrong with a logical network.").gives::<diagnosis::Diagnosis>(),
        get("/1.0/network-trace", "Where a packet of an instance would go.")
            .with(&[Instance, Device, Address, Protocol, Port])
            .gives::<diagnosis::Trace>(),
        get("/1.0/network-allocations", "Addresses that are in use, and by what.")
            .with(&[AllProjects])
            .gives::<Vec<network::Allocation>>(),
        get("/1.0/networks/{name}/forwards", "Forwards of a network.").lists::<balance::Forward>(),
        post("/1.0/networks/{name}/forwards", "Makes a forward.").takes::<balance::Forward>().creates(),
        get("/1.0/networks/{name}/forwards/{listen}", "A forward.").gives_editable::<balance::Forward>(),
        put("/1.0/networks/{name}/forwards/{listen}", "Replaces a forward.").takes::<balance::ForwardPut>().edits(),
        patch("/1.0/networks/{name}/forwards/{listen}", "Changes a forward.").takes::<balance::ForwardPut>().edits(),
        delete("/1.0/networks/{name}/forwards/{listen}", "Removes a forward.").done(),
        get("/1.0/networks/{name}/load-balancers", "Load balancers of a network.").lists::<balance::Balancer>(),
        post("/1.0/networks/{name}/load-balancers", "Makes a load balancer.").takes::<balance::Balancer>().creates(),
        get("/1.0/networks/{name}/load-balancers/{listen}", "A load balancer.").gives_editable::<balance::Balancer>(),
        put("/1.0/networks/{name}/load-balancers/{listen}", "Replaces a load balancer.")
            .takes::<balance::BalancerPut>()
            .edits(),
        patch("/1.0/networks/{name}/load-balancers/{listen}", "Changes a load balancer.")
            .takes::<balance::BalancerPut>()
            .edits(),
        delete("/1.0/networks/{name}/load-balancers/{listen}", "Removes a load balancer.").done(),
        get("/1.0/networks/{name}/load-balancers/{listen}/state", "What is thought of its backends.")
            .gives::<balance::BalancerState>(),
        get("/1.0/networks/{name}/peers", "Peerings of a network.").lists::<peer::Peer>(),
        post("/1.0/networks/{name}/peers", "Makes one side of a peering.").takes::<peer::Peer>().creates(),
        get("/1.0/networks/{name}/peers/{peer}", "One side of a peering.").gives_editable::<peer::Peer>(),
        put("/1.0/networks/{name}/peers/{peer}", "Replaces it.").takes::<network::Put>().edits(),
        patch("/1.0/networks/{name}/peers/{peer}", "Changes it.").takes::<network::Put>().edits(),
        delete("/1.0/networks/{name}/peers/{peer}", "Removes it.").done(),
        get("/1.0/networks/{name}/leases", "Addresses that are given out.").gives::<Vec<network::Lease>>(),
    ]
}

fn network_parts() -> Vec<Entry> {
    vec![
        get("/1.0/network-acls", "Access control lists.").with(&[AllProjects, Filter]).lists::<acl::Acl>(),
        post("/1.0/network-acls", "Makes an access control list.").takes::<acl::Acl>().creates(),
        get("/1.0/network-acls/{name}", "An access control list.").gives_editable::<acl::Acl>(),
        put("/1.0/network-acls/{name}", "Replaces a list.").takes::<acl::Put>().edits(),
        patch("/1.0/network-acls/{name}", "Changes a list.").takes::<acl::Put>().edits(),
        post("/1.0/network-acls/{name}", "Renames a list that nothing uses.").takes::<network::Rename>().creates(),
        delete("/1.0/network-acls/{name}", "Removes a list that nothing uses.").done(),
        get("/1.0/network-acls/{name}/log", "Packets that logged rules were about, a JSON object a line.")
            .gives_raw(BYTES),
        get("/1.0/network-address-sets", "Address sets.")
            .with(&[AllProjects, Filter])
            .lists::<address_set::AddressSet>(),
        post("/1.0/network-address-sets", "Makes an address set.").takes::<address_set::AddressSet>().creates(),
        get("/1.0/network-address-sets/{name}", "An address set.").gives_editable::<address_set::AddressSet>(),
        put("/1.0/network-address-sets/{name}", "Replaces a set.").takes::<address_set::Put>().edits(),
        patch("/1.0/network-address-sets/{name}", "Changes a set.").takes::<address_set::Put>().edits(),
        post("/1.0/network-address-sets/{name}", "Renames a set that no rule names.")
            .takes::<network::Rename>()
            .creates(),
        delete("/1.0/network-address-sets/{name}", "Removes a set that no rule names.").done(),
        get("/1.0/network-zones", "Network zones.").with(&[AllProjects, Filter]).lists::<zone::Zone>(),
        post("/1.0/network-zones", "Makes a network zone.").takes::<zone::Zone>().creates(),
        get("/1.0/network-zones/{zone}", "A network zone.").gives_editable::<zone::Zone>(),
        put("/1.0/network-zones/{zone}", "Replaces a zone.").takes::<network::Put>().edits(),
        patch("/1.0/network-zones/{zone}", "Changes a zone.").takes::<network::Put>().edits(),
        delete("/1.0/network-zones/{zone}", "Removes a zone that nothing uses.").done(),
        get("/1.0/network-zones/{zone}/records", "Records of a zone.").with(&[Filter]).lists::<zone::Record>(),
        post("/1.0/network-zones/{zone}/records", "Makes a record.").takes::<zone::Record>().creates(),
        get("/1.0/network-zones/{zone}/records/{name}", "A record.").gives_editable::<zone::Record>(),
        put("/1.0/network-zones/{zone}/records/{name}", "Replaces a record.").takes::<zone::RecordPut>().edits(),
        patch("/1.0/network-zones/{zone}/records/{name}", "Changes a record.").takes::<zone::RecordPut>().edits(),
        delete("/1.0/network-zones/{zone}/records/{name}", "Removes a record.").done(),
    ]
}

fn storage() -> Vec<Entry> {
    vec![
        get("/1.0/storage-pools", "Storage pools.").with(&[Filter]).lists::<pool::Pool>(),
        post("/1.0/storage-pools", "Makes a storage pool.").at_member().takes::<pool::Post>().creates(),
        get("/1.0/storage-pools/{name}", "A storage pool.").at_member().gives_editable::<pool::Pool>(),
        put("/1.0/storage-pools/{name}", "Replaces a pool's configuration.").takes::<network::Put>().edits(),
        patch("/1.0/storage-pools/{name}", "Changes a pool.").takes::<network::Put>().edits(),
        delete("/1.0/storage-pools/{name}", "Removes a pool.").done(),
        get("/1.0/storage-pools/{name}/resources", "Space of a pool on a member.")
            .at_member()
            .gives::<pool::Resources>(),
        get("/1.0/storage-pools/{name}/volumes", "Volumes of a pool.")
            .in_project()
            .with(&[AllProjects, Filter])
            .lists::<pool::Volume>(),
        get("/1.0/storage-pools/{name}/volumes/{kind}", "Volumes of one kind.")
            .in_project()
            .with(&[AllProjects, Filter])
            .lists::<pool::Volume>(),
        get("/1.0/storage-pools/{name}/volumes/{kind}/{volume}", "A volume.").in_project().gives::<pool::Volume>(),
    ]
}

fn clustering() -> Vec<Entry> {
    vec![
        get("/1.0/cluster", "Whether this is a cluster.").gives_editable::<cluster::Cluster>(),
        put("/1.0/cluster", "Begins, joins or leaves a cluster.").takes::<cluster::Put>().operates(),
        get("/1.0/cluster/members", "Members.").with(&[Filter]).lists::<cluster::Member>(),
        post("/1.0/cluster/members", "Makes a token with which a machine can join.")
            .takes::<cluster::MemberName>()
            .operates(),
        get("/1.0/cluster/members/{name}", "A member.").gives_editable::<cluster::Member>(),
        put("/1.0/cluster/members/{name}", "Replaces what can be edited of it.").takes::<cluster::MemberPut>().edits(),
        patch("/1.0/cluster/members/{name}", "Changes a member.").takes::<cluster::MemberPut>().edits(),
        post("/1.0/cluster/members/{name}", "Renames a member.").takes::<cluster::MemberName>().creates(),
        delete("/1.0/cluster/members/{name}", "Takes a member out.").with(&[Force]).done(),
        get("/1.0/cluster/members/{name}/state", "Load and space of a member.").gives::<cluster::MemberState>(),
        post("/1.0/cluster/members/{name}/state", "Evacuates or restores a member.")
            .takes::<cluster::MemberStatePost>()
            .operates(),
        get("/1.0/cluster/groups", "Groups of members.").lists::<cluster::Group>(),
        post("/1.0/cluster/groups", "Makes a group.").takes::<cluster::Group>().creates(),
        get("/1.0/cluster/groups/{name}", "A group.").gives_editable::<cluster::Group>(),
        put("/1.0/cluster/groups/{name}", "Replaces a group.").takes::<cluster::GroupPut>().edits(),
        patch("/1.0/cluster/groups/{name}", "Changes a group.").takes::<cluster::GroupPut>().edits(),
        post("/1.0/cluster/groups/{name}", "Renames a group.").takes::<network::Rename>().creates(),
        delete("/1.0/cluster/groups/{name}", "Removes a group.").done(),
        put("/1.0/cluster/certificate", "Exchanges the certificate of the API.").takes::<cluster::Certificate>().done(),
    ]
}
