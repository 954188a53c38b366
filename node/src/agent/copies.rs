//! Copies of images: so many members hold each that losing one loses none. Every member works out by itself whether it
//! is one of those that are missing, and all come to the same answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use basalt_model::command::ImageCommand;
use basalt_model::image::Image;
use basalt_model::{Cluster, Command, Fingerprint, NodeId, StateView};
use basalt_runtime::Shutdown;
use sha2::{Digest, Sha256};

use super::ImageShelf;

/// Copies when `cluster.images_minimal_replica` is not set.
const REPLICAS: i64 = 3;
/// A new image is often wanted at once by an instance, which fetches it by itself: no need to be in its way.
const SETTLE: Duration = Duration::from_secs(3);
/// How often is looked again after a failure.
const AGAIN: Duration = Duration::from_secs(30);

/// Fetches what this member is to hold, until shutdown.
pub async fn run(me: NodeId, cluster: Arc<dyn Cluster>, shelf: Arc<ImageShelf>, shutdown: Shutdown) {
    let mut view = cluster.view();
    loop {
        let mut whole = true;
        for image in wanted(&view, me) {
            tokio::select! {
                () = shutdown.cancelled() => return,
                done = shelf.copy(me, &image, &view) => match done {
                    Ok(()) => announce(&*cluster, &image.fingerprint, me).await,
                    Err(error) => {
                        tracing::debug!(image = %image.fingerprint, error, "no copy yet");
                        whole = false;
                    }
                }
            }
        }
        let again = if whole { Duration::MAX } else { AGAIN };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(again) => {}
            () = changed(&*cluster, &view) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(SETTLE) => view = cluster.view(),
        }
    }
}

/// Waits until something differs that decides where copies are.
async fn changed(cluster: &dyn Cluster, old: &StateView) {
    let digest = |view: &StateView| {
        let images: Vec<_> = view.images.values().map(|i| (i.fingerprint.clone(), i.holders.clone())).collect();
        let members: Vec<_> = view.members.keys().filter(|node| view.online(**node)).copied().collect();
        (images, members, view.config.get("cluster.images_minimal_replica").cloned())
    };
    let (before, mut version) = (digest(old), old.version);
    loop {
        let now = cluster.changed_since(version).await;
        if digest(&now) != before {
            return;
        }
        version = now.version;
    }
}

/// Images that `me` is to get a copy of.
fn wanted(view: &StateView, me: NodeId) -> Vec<Image> {
    let text = view.config.get("cluster.images_minimal_replica");
    let replicas = text.and_then(|text| text.parse().ok()).unwrap_or(REPLICAS);
    let online: Vec<NodeId> = view.members.keys().copied().filter(|node| view.online(*node)).collect();
    let wanted = usize::try_from(replicas).unwrap_or(usize::MAX).min(online.len());
    let lacks = |image: &&Image| {
        let held = online.iter().filter(|node| image.holders.contains(node)).count();
        let mut others: Vec<NodeId> = online.iter().copied().filter(|node| !image.holders.contains(node)).collect();
        others.sort_by_key(|node| rank(&image.fingerprint, *node));
        others.iter().take(wanted.saturating_sub(held)).any(|node| *node == me)
    };
    // The files of several images may be the same.
    let mut seen = BTreeSet::new();
    view.images.values().filter(lacks).filter(|image| seen.insert(&image.fingerprint)).cloned().collect()
}

/// The same order on every member, another one for each image: copies spread.
fn rank(image: &Fingerprint, node: NodeId) -> Vec<u8> {
    Sha256::digest(format!("{image}/{node}")).to_vec()
}

async fn announce(cluster: &dyn Cluster, image: &Fingerprint, me: NodeId) {
    let command = ImageCommand::AddHolder { fingerprint: image.clone(), node: me };
    if let Err(error) = cluster.propose(Command::Image(command)).await {
        tracing::debug!(%image, %error, "the new copy of the image was not announced");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use basalt_model::member::{Announcement, Duty, Health, Member};
    use basalt_model::{ClusterState, MemberName, ProjectName, Timestamp, Version};

    fn state(members: u64, holders: &[u64], replicas: Option<&str>) -> ClusterState {
        let mut state = ClusterState::default();
        for id in 1..=members {
            let member = Member {
                id: NodeId(id),
                name: MemberName::new(format!("node{id}")).unwrap(),
                certificate: Fingerprint::new(format!("{id:064x}")).unwrap(),
                certificate_pem: String::new(),
                joined_at: Timestamp(1),
                redeemed: None,
                awaited: false,
                duty: Duty::Active,
                order: None,
                health: Health::Online,
                failure_domain: String::new(),
                description: String::new(),
                groups: Default::default(),
                roles: Default::default(),
                config: Default::default(),
                announced: Announcement::default(),
            };
            state.members.insert(NodeId(id), member);
        }
        let image = Image {
            project: ProjectName::default_project(),
            fingerprint: Fingerprint::new("a".repeat(64)).unwrap(),
            kind: basalt_model::instance::Kind::Container,
            architecture: "x86_64".into(),
            format: basalt_model::image::Format::Unified,
            filename: String::new(),
            size: 1,
            public: false,
            properties: Default::default(),
            created_at: Timestamp(1),
            uploaded_at: Timestamp(1),
            expires_at: Timestamp::NEVER,
            last_used_at: Timestamp::NEVER,
            holders: holders.iter().copied().map(NodeId).collect(),
            cached: false,
            auto_update: false,
            update_source: None,
            profiles: None,
        };
        state.images.insert(image.id(), image);
        if let Some(replicas) = replicas {
            state.config.insert("cluster.images_minimal_replica".into(), replicas.into());
        }
        state
    }

    /// How many members would fetch a copy now.
    fn fetching(state: &ClusterState) -> usize {
        let view = StateView::new(Version(1), Arc::new(state.clone()));
        state.members.keys().filter(|me| !wanted(&view, **me).is_empty()).count()
    }

    #[test]
    fn just_as_many_as_are_missing() {
        assert_eq!(fetching(&state(5, &[2], None)), 2);
        assert_eq!(fetching(&state(5, &[1, 2, 3], None)), 0);
        assert_eq!(fetching(&state(5, &[2], Some("-1"))), 4);
        assert_eq!(fetching(&state(5, &[2], Some("1"))), 0);
        assert_eq!(fetching(&state(2, &[2], None)), 1, "no more than there are members");
    }

    #[test]
    fn files_of_several_images_are_fetched_once() {
        let mut state = state(2, &[2], None);
        let shared = state.images.values().next().unwrap().clone();
        let own = Image { project: ProjectName::new("own").unwrap(), ..shared };
        state.images.insert(own.id(), own);
        let view = StateView::new(Version(1), Arc::new(state));
        assert_eq!(wanted(&view, NodeId(1)).len(), 1);
    }

    #[test]
    fn a_holder_that_is_gone_counts_for_nothing() {
        let mut state = state(4, &[1, 2, 3], None);
        let mut lost = state.members.get(&NodeId(1)).unwrap().clone();
        lost.health = Health::Offline { since: Timestamp(1) };
        state.members.insert(NodeId(1), lost);
        assert_eq!(fetching(&state), 1);
    }
}
