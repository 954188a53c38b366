//! Becoming, and ceasing to be, part of a cluster.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use basalt_api::port::{Bootstrap, HostFacts, JoinTicket, Membership, PortError};
use basalt_model::command::{Init, MemberCommand};
use basalt_model::member::{Announcement, Duty, Health, Member};
use basalt_model::{Cluster, Command, NodeId, ProposeError, StateView};
use basalt_raft::{NodeIdentity, RaftCluster, pki};

use crate::announce::Abilities;
use crate::fact::Clock;
use crate::rpc::join;

/// How this node becomes a member.
#[derive(Debug)]
pub struct NodeMembership {
    pub raft: Arc<RaftCluster>,
    pub clock: Clock,
    pub abilities: Abilities,
    pub facts: HostFacts,
    pub identity_dir: PathBuf,
    /// Port of node-to-node traffic.
    pub cluster_port: u16,
    /// One attempt at a time.
    pub busy: tokio::sync::Mutex<()>,
    /// Told when this node has an identity.
    pub identified: tokio::sync::watch::Sender<Option<Arc<NodeIdentity>>>,
}

fn internal(error: impl std::error::Error + 'static) -> PortError {
    PortError::Internal(basalt_runtime::chain(&error))
}

/// `host:port`, or `[v6]:port`, without its port; the port is 8443 when there is none.
fn split(address: &str) -> Result<(String, u16), PortError> {
    let bad = || PortError::Invalid(format!("server_address: {address:?} is not an address such as 10.0.0.1:8443"));
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().map_err(|_| bad())?),
        Some(_) | None => (address, 8443),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let unspecified = bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    match bare.is_empty() || unspecified {
        true => Err(PortError::Invalid(format!(
            "server_address: {address:?} is not an address that other members can reach: name one of this machine's own"
        ))),
        false => Ok((host.to_owned(), port)),
    }
}

impl NodeMembership {
    fn announcement(&self, api_address: &str) -> Result<Announcement, PortError> {
        let (host, port) = split(api_address)?;
        Ok(self.abilities.announce(format!("{host}:{port}"), format!("{host}:{}", self.cluster_port)))
    }

    /// Joined means that the leader has found this member: until then it would answer from an empty state.
    async fn arrived(&self) -> Result<StateView, PortError> {
        let me = self.raft.standing().me;
        let arrived = async {
            let mut view = self.raft.view();
            while !view.members.contains_key(&me) {
                view = self.raft.changed_since(view.version).await;
            }
            view
        };
        tokio::time::timeout(Duration::from_secs(60), arrived).await.map_err(|_| {
            PortError::Unavailable("admitted, but the leader has not reached this node yet: check its address".into())
        })
    }

    /// Asked again after this node was killed in the middle of joining: it may be a member already.
    async fn joined_before(&self, ticket: &JoinTicket) -> Result<(), PortError> {
        let view = self.arrived().await?;
        let served = pki::fingerprint(&view.secrets.api_certificate).map_err(internal)?;
        let name = view.members.get(&self.raft.standing().me).map(|member| member.name.clone());
        match served == ticket.fingerprint && name.as_ref() == Some(&ticket.name) {
            true => Ok(()),
            false => Err(PortError::Conflict("this node is part of a cluster already".into())),
        }
    }

    fn fresh(&self) -> Result<(), PortError> {
        match self.raft.identity() {
            Some(_) => Err(PortError::Conflict("this node is part of a cluster already".into())),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Membership for NodeMembership {
    async fn bootstrap(&self, wanted: Bootstrap) -> Result<(), PortError> {
        let _one = self.busy.lock().await;
        self.fresh()?;
        let announced = self.announcement(&wanted.api_address)?;
        let cluster_id = uuid::Uuid::new_v4();
        let (host, _) = split(&wanted.api_address)?;
        let names = [wanted.name.to_string(), host.trim_start_matches('[').trim_end_matches(']').to_owned()];
        let secrets = pki::make_secrets(cluster_id, &names).map_err(internal)?;
        let id = NodeId(1);
        let request = pki::node_request(&wanted.name).map_err(internal)?;
        let certificate = pki::sign_node(&secrets, &request.csr, id, &wanted.name).map_err(internal)?;
        let identity = NodeIdentity {
            node_id: id,
            cluster_id,
            key: request.key,
            certificate: certificate.clone(),
            ca_certificate: secrets.ca_certificate.clone(),
        };
        let at = self.clock.now();
        let member = Member {
            id,
            name: wanted.name,
            certificate: pki::fingerprint(&certificate).map_err(internal)?,
            certificate_pem: certificate,
            joined_at: at,
            redeemed: None,
            awaited: false,
            duty: Duty::Active,
            order: None,
            health: Health::Online,
            failure_domain: "default".into(),
            description: String::new(),
            groups: Default::default(),
            roles: Default::default(),
            config: Default::default(),
            announced,
        };
        let init = Init { cluster_id, secrets, member, at };
        self.raft.bootstrap(init, identity).await.map_err(internal)?;
        self.identified.send_replace(self.raft.identity());
        Ok(())
    }

    async fn join(&self, ticket: JoinTicket, wanted: Bootstrap) -> Result<(), PortError> {
        let _one = self.busy.lock().await;
        if self.raft.identity().is_some() {
            return self.joined_before(&ticket).await;
        }
        if wanted.name != ticket.name {
            return Err(PortError::Invalid(format!("server_name: the token was made for {}", ticket.name)));
        }
        let announced = self.announcement(&wanted.api_address)?;
        let identity = join::ask(&self.identity_dir, &ticket, wanted.name, announced).await?;
        self.raft.start_member(identity).await.map_err(internal)?;
        join::done(&self.identity_dir);
        self.identified.send_replace(self.raft.identity());
        self.arrived().await.map(drop)
    }

    async fn remove(&self, node: NodeId, force: bool) -> Result<(), PortError> {
        match self.raft.propose(Command::Member(MemberCommand::Remove { id: node, force })).await {
            Ok(_) => Ok(()),
            Err(ProposeError::Rejected(why)) => Err(PortError::Conflict(why.to_string())),
            Err(error) => Err(PortError::Unavailable(error.to_string())),
        }
    }

    fn host(&self) -> HostFacts {
        self.facts.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_and_wildcards_refused() {
        assert_eq!(split("10.0.0.1").unwrap(), ("10.0.0.1".into(), 8443));
        assert_eq!(split("10.0.0.1:9000").unwrap(), ("10.0.0.1".into(), 9000));
        assert_eq!(split("[fd42::1]:9000").unwrap(), ("[fd42::1]".into(), 9000));
        assert_eq!(split("node1").unwrap(), ("node1".into(), 8443));
        for bad in ["", ":8443", "0.0.0.0:8443", "[::]:8443", "10.0.0.1:x"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
