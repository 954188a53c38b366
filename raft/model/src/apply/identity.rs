//! Certificates and tokens.

use super::{Outcome, exists, not_found};
use crate::command::IdentityCommand;
use crate::identity::{Certificate, Grant, Token};
use crate::{ClusterState, Fingerprint, Rejected, Timestamp, TokenId};

pub(super) fn apply(state: &mut ClusterState, command: &IdentityCommand) -> Outcome {
    match command {
        IdentityCommand::AddToken(token) => add_token(state, token),
        IdentityCommand::RevokeToken(id) => match state.tokens.remove(id) {
            true => Ok(()),
            false => Err(not_found("token", id)),
        },
        IdentityCommand::RedeemTrust { token, secret_hash, certificate, at } => {
            let held = redeemable(state, *token, secret_hash, *at)?;
            let Grant::Trust { name, kind, restricted, projects } = held.grant.clone() else {
                return Err(Rejected::Token("it grants membership, not client trust".into()));
            };
            if state.certificates.contains_key(&certificate.fingerprint) {
                return Err(exists("certificate", &certificate.fingerprint));
            }
            let trusted = Certificate { name, kind, restricted, projects, ..certificate.as_ref().clone() };
            state.tokens.remove(token);
            state.certificates.insert(trusted.fingerprint.clone(), trusted);
            Ok(())
        }
        IdentityCommand::AddCertificate(certificate) => {
            if state.certificates.contains_key(&certificate.fingerprint) {
                return Err(exists("certificate", &certificate.fingerprint));
            }
            state.certificates.insert(certificate.fingerprint.clone(), certificate.clone());
            Ok(())
        }
        IdentityCommand::UpdateCertificate(certificate) => {
            if !state.certificates.contains_key(&certificate.fingerprint) {
                return Err(not_found("certificate", &certificate.fingerprint));
            }
            state.certificates.insert(certificate.fingerprint.clone(), certificate.clone());
            Ok(())
        }
        IdentityCommand::RemoveCertificate(fingerprint) => match state.certificates.remove(fingerprint) {
            true => Ok(()),
            false => Err(not_found("certificate", fingerprint)),
        },
        IdentityCommand::DropExpired { at } => {
            state.tokens.retain(|_, token| !token.expired(*at));
            Ok(())
        }
    }
}

fn add_token(state: &mut ClusterState, token: &Token) -> Outcome {
    if state.tokens.contains_key(&token.id) {
        return Err(exists("token", token.id));
    }
    if let Grant::Join(name) = &token.grant {
        // One that was admitted and not heard of since does not hold its name: whoever redeems the token takes its place.
        if state.members.values().any(|m| m.name == *name && !m.awaited) {
            return Err(exists("member", name));
        }
        // A newer token for the same name replaces the older one: only one joiner can bear the name.
        state.tokens.retain(|_, held| held.grant != token.grant);
    }
    state.tokens.insert(token.id, token.clone());
    Ok(())
}

/// The token, if its secret and time are right. One text for "unknown" and "wrong secret": it tells a guesser nothing.
pub(super) fn redeemable<'a>(
    state: &'a ClusterState,
    id: TokenId,
    secret_hash: &Fingerprint,
    at: Timestamp,
) -> Result<&'a Token, Rejected> {
    let token = state
        .tokens
        .get(&id)
        .filter(|t| t.secret_hash == *secret_hash)
        .ok_or_else(|| Rejected::Token("it is unknown, was used already, or belongs to another cluster".into()))?;
    match token.expired(at) {
        true => Err(Rejected::Token("it has expired".into())),
        false => Ok(token),
    }
}
