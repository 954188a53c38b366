//! Access control lists.

use super::{Outcome, exists, expect_generation, invalid, not_found};
use crate::command::{AclCommand, Expect};
use crate::network::acl::{Acl, Direction, Subject, terms};
use crate::network::check::BEYOND;
use crate::network::own;
use crate::{AclKey, ClusterState, Generation, Rejected};

pub(super) fn apply(state: &mut ClusterState, command: &AclCommand) -> Outcome {
    match command {
        AclCommand::Put { acl, expect } => put(state, acl, *expect),
        AclCommand::Rename { name, to } => {
            let Some(acl) = state.acls.get(name).cloned() else { return Err(not_found("network ACL", &name.name)) };
            let fresh = name.beside(to.clone());
            if state.acls.contains_key(&fresh) {
                return Err(exists("network ACL", to));
            }
            unused(state, name)?;
            if acl.subjects().contains(&Subject::Acl(acl.name.clone())) {
                return Err(Rejected::Busy(format!("network ACL {} names itself in its rules", acl.name)));
            }
            state.acls.remove(name);
            state.acls.insert(fresh, Acl { name: to.clone(), generation: acl.generation.next(), ..acl });
            Ok(())
        }
        AclCommand::Remove(name) => {
            if !state.acls.contains_key(name) {
                return Err(not_found("network ACL", &name.name));
            }
            unused(state, name)?;
            state.acls.remove(name);
            Ok(())
        }
    }
}

fn put(state: &mut ClusterState, acl: &Acl, expect: Expect) -> Outcome {
    let id = acl.id();
    let found = state.acls.get(&id);
    let (number, generation) = match (expect, found) {
        (Expect::Absent, Some(_)) => return Err(exists("network ACL", &acl.name)),
        (Expect::Present(_), None) => return Err(not_found("network ACL", &acl.name)),
        (Expect::Absent, None) => (state.acls_numbered + 1, Generation(1)),
        (Expect::Present(expect), Some(found)) => {
            expect_generation("network ACL", expect, found.generation)?;
            (found.number, found.generation.next())
        }
    };
    check(state, acl)?;
    if let Some(field) = acl.beyond_bridges()
        && let Some(bridge) = state.bridge_with(&id)
    {
        let why = format!("the list is in use on network {bridge}, a bridge: {BEYOND}");
        return Err(invalid(&field, why));
    }
    state.acls_numbered = state.acls_numbered.max(number);
    state.acls.insert(id, Acl { number, generation, ..acl.clone() });
    Ok(())
}

/// Every rule must mean something, and what it names must be there.
pub(crate) fn check(state: &ClusterState, acl: &Acl) -> Outcome {
    own::check(state, &acl.project, "network ACLs")?;
    if let Err(wrong) = crate::config::validate(crate::config::ACL, &acl.config)
        && let Some(first) = wrong.into_iter().next()
    {
        return Err(invalid(&format!("config.{}", first.key), first.why));
    }
    let rules = acl.ingress.iter().enumerate().map(|(at, rule)| (Direction::Ingress, at, rule));
    let rules = rules.chain(acl.egress.iter().enumerate().map(|(at, rule)| (Direction::Egress, at, rule)));
    for (direction, at, rule) in rules {
        let list = match direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        };
        let terms = terms(rule, direction).map_err(|e| invalid(&format!("{list}[{at}].{}", e.key), e.why))?;
        let sides = [("source", terms.sources), ("destination", terms.destinations)];
        for (side, subject) in sides.into_iter().flat_map(|(side, all)| all.into_iter().map(move |s| (side, s))) {
            known(state, acl, &subject).map_err(|why| invalid(&format!("{list}[{at}].{side}"), why))?;
        }
    }
    Ok(())
}

fn known(state: &ClusterState, acl: &Acl, subject: &Subject) -> Result<(), String> {
    let id = acl.id();
    match subject {
        Subject::Acl(name) if *name != acl.name && !state.acls.contains_key(&id.beside(name.clone())) => {
            Err(format!("there is no network ACL {name}"))
        }
        Subject::Peer(network, peer)
            if !state.networks.get(&id.beside(network.clone())).is_some_and(|n| n.peers.contains_key(peer)) =>
        {
            Err(format!("network {network} has no peer {peer}"))
        }
        Subject::Set(name) if !state.address_sets.contains_key(&id.beside(name.clone())) => {
            Err(format!("there is no network address set {name}"))
        }
        Subject::Set(_)
        | Subject::Acl(_)
        | Subject::Peer(..)
        | Subject::Net(_)
        | Subject::Range(..)
        | Subject::Internal
        | Subject::External => Ok(()),
    }
}

fn unused(state: &ClusterState, id: &AclKey) -> Outcome {
    match state.acl_users(id).into_iter().next() {
        Some(user) => Err(Rejected::Busy(format!("network ACL {} is used by {user}", id.name))),
        None => Ok(()),
    }
}
