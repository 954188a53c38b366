//! Trusted certificates, and the tokens that make one.

use std::collections::BTreeSet;

use basalt_model::command::IdentityCommand;
use basalt_model::config;
use basalt_model::identity::{Certificate, CertificateKind, Grant, Token};
use basalt_model::{Command, Fingerprint, ProjectName, Timestamp, TokenId};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::operation::{self, kind_word};
use crate::auth::{PeerCertificate, check_certificate};
use crate::call::{Call, Json, Segment};
use crate::clock;
use crate::dto::certificate as wire;
use crate::error::Error;
use crate::etag;
use crate::reply::{self, Reply};
use crate::token;

fn show(certificate: &Certificate) -> wire::Certificate {
    wire::Certificate {
        fingerprint: certificate.fingerprint.to_string(),
        certificate: certificate.certificate.clone(),
        name: certificate.name.clone(),
        kind: kind_word(certificate.kind).into(),
        restricted: certificate.restricted,
        projects: certificate.projects.iter().map(ToString::to_string).collect(),
        description: certificate.description.clone(),
    }
}

/// By fingerprint, or a prefix of it that fits one only.
fn find(call: &Call, text: &str) -> Result<Certificate, Error> {
    let mut fits = call.view.certificates.values().filter(|c| c.fingerprint.as_str().starts_with(text));
    match (fits.next(), fits.next()) {
        (Some(only), None) if !text.is_empty() => Ok(only.clone()),
        (Some(_), Some(_)) => Err(Error::invalid("fingerprint", format!("{text:?} fits more than one certificate"))),
        (Some(_) | None, _) => Err(Error::NotFound("Certificate".into())),
    }
}

fn kind(text: &str) -> Result<CertificateKind, Error> {
    match text {
        "" | "client" => Ok(CertificateKind::Client),
        "metrics" => Ok(CertificateKind::Metrics),
        other => Err(Error::invalid("type", format!("{other:?} is neither client nor metrics"))),
    }
}

fn projects(call: &Call, given: &[String]) -> Result<BTreeSet<ProjectName>, Error> {
    let known = |text: &String| {
        let name = ProjectName::new(text.as_str()).map_err(|e| Error::invalid("projects", e))?;
        match call.view.projects.contains_key(&name) {
            true => Ok(name),
            false => Err(Error::invalid("projects", format!("there is no project {text:?}"))),
        }
    };
    given.iter().map(known).collect()
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|l| std::str::from_utf8(l).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

pub(crate) async fn list(call: Call) -> Reply {
    let all = call.view.certificates.values();
    match call.recursion() {
        0 => reply::sync(all.map(|c| format!("/1.0/certificates/{}", c.fingerprint)).collect::<Vec<_>>()),
        _ => reply::sync(all.map(show).collect::<Vec<_>>()),
    }
}

pub(crate) async fn get(call: Call, Segment(text): Segment<String>) -> Reply {
    let shown = show(&find(&call, &text)?);
    let etag = etag::of(&shown);
    reply::sync_etag(shown, &etag)
}

pub(crate) async fn create(call: Call, Json(body): Json<wire::Post>) -> Reply {
    if body.token {
        return invite(call, body).await;
    }
    let secret = [&body.trust_token, &body.password].into_iter().find(|t| !t.is_empty());
    if !call.who.full() && secret.is_none() {
        return Err(Error::NotTrusted);
    }
    let shown = presented(&call, &body)?;
    let certificate = Certificate {
        fingerprint: shown.fingerprint.clone(),
        name: if body.name.is_empty() { call.who.seen.address.clone() } else { body.name.clone() },
        kind: kind(&body.kind)?,
        certificate: pem(&shown.der),
        restricted: body.restricted,
        projects: projects(&call, &body.projects)?,
        description: body.description.clone(),
    };
    let command = match secret {
        Some(text) if !call.who.full() => redeem(text, certificate)?,
        // Who is trusted already needs no token to trust another.
        Some(_) | None => IdentityCommand::AddCertificate(certificate),
    };
    call.propose(Command::Identity(command)).await?;
    let location = format!("/1.0/certificates/{}", shown.fingerprint);
    call.happened("certificate-created", location.clone(), None);
    reply::created(&location)
}

/// The certificate that is to be trusted: the one in the body, or that of the connection.
fn presented(call: &Call, body: &wire::Post) -> Result<PeerCertificate, Error> {
    let shown = if !body.certificate.is_empty() {
        // Some clients send the whole PEM instead of what is between its lines.
        let inner: String = body.certificate.lines().filter(|l| !l.starts_with("-----")).collect();
        let der = token::decode_base64(&inner).ok_or_else(|| Error::invalid("certificate", "is not base64"))?;
        PeerCertificate::new(&der)
    } else if call.who.trusted() {
        return Err(Error::Refused("Client is already trusted".into()));
    } else {
        let shown = call.who.certificate.as_ref();
        shown
            .ok_or_else(|| Error::invalid("certificate", "is missing, and the connection showed none"))?
            .as_ref()
            .clone()
    };
    check_certificate(&shown.der).map_err(|why| Error::invalid("certificate", why))?;
    Ok(shown)
}

fn redeem(text: &str, certificate: Certificate) -> Result<IdentityCommand, Error> {
    let bad = || Error::NotTrusted;
    let given: wire::AddToken = token::decode(text).ok_or_else(bad)?;
    let (id, secret) = token::split_secret(&given.secret).ok_or_else(bad)?;
    Ok(IdentityCommand::RedeemTrust {
        token: id,
        secret_hash: token::hash_secret(secret),
        certificate: Box::new(certificate),
        at: clock::now(),
    })
}

/// Makes a token.
async fn invite(call: Call, body: wire::Post) -> Reply {
    if !call.who.full() {
        return Err(Error::NotTrusted);
    }
    if body.name.is_empty() {
        return Err(Error::invalid("name", "is missing"));
    }
    let now = clock::now();
    let expiry = call.view.config.get("core.remote_token_expiry").filter(|t| !t.is_empty());
    let expires_at = match expiry {
        None => Timestamp::NEVER,
        Some(text) => {
            let seconds = config::parse_expiry(text).map_err(|e| Error::invalid("core.remote_token_expiry", e))?;
            now.plus_secs(seconds)
        }
    };
    let secret = token::random_secret();
    let made = Token {
        id: TokenId(crate::operation::new_id(call.me())),
        secret_hash: token::hash_secret(&secret),
        grant: Grant::Trust {
            name: body.name,
            kind: kind(&body.kind)?,
            restricted: body.restricted,
            projects: projects(&call, &body.projects)?,
        },
        created_at: now,
        expires_at,
    };
    call.propose(Command::Identity(IdentityCommand::AddToken(made.clone()))).await?;
    reply::operation(&operation::token_operation(&call, &made, Some(&secret)))
}

pub(crate) async fn put(call: Call, Segment(text): Segment<String>, Json(body): Json<wire::Put>) -> Reply {
    update(call, text, body).await
}

pub(crate) async fn patch(call: Call, Segment(text): Segment<String>, Json(body): Json<wire::Put>) -> Reply {
    update(call, text, body).await
}

async fn update(call: Call, text: String, body: wire::Put) -> Reply {
    let present = find(&call, &text)?;
    etag::check(&call.headers, &etag::of(&show(&present)))?;
    if body.certificate.as_ref().is_some_and(|c| !c.is_empty() && *c != present.certificate) {
        return Err(Error::invalid("certificate", "cannot be changed: add the new one and remove this"));
    }
    let changed = Certificate {
        name: body.name.unwrap_or_else(|| present.name.clone()),
        kind: body.kind.as_deref().map_or(Ok(present.kind), kind)?,
        restricted: body.restricted.unwrap_or(present.restricted),
        projects: match body.projects {
            Some(given) => projects(&call, &given)?,
            None => present.projects.clone(),
        },
        description: body.description.unwrap_or_else(|| present.description.clone()),
        ..present
    };
    let location = format!("/1.0/certificates/{}", changed.fingerprint);
    call.propose(Command::Identity(IdentityCommand::UpdateCertificate(changed))).await?;
    call.happened("certificate-updated", location, None);
    reply::empty()
}

pub(crate) async fn delete(call: Call, Segment(text): Segment<String>) -> Reply {
    let fingerprint: Fingerprint = find(&call, &text)?.fingerprint;
    let location = format!("/1.0/certificates/{fingerprint}");
    call.propose(Command::Identity(IdentityCommand::RemoveCertificate(fingerprint))).await?;
    call.happened("certificate-deleted", location, None);
    reply::empty()
}
