//! One-time tokens as users hold them: `<token id>:<secret>` inside base64 of JSON. The state keeps a hash only.

use basalt_model::{ClusterState, Fingerprint, TokenId};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use rand::RngCore;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// At most this many addresses go into a token: more would not fit a terminal's line.
const MAX_ADDRESSES: usize = 5;

/// 32 random bytes in hexadecimal.
pub fn random_secret() -> String {
    let mut bytes = [0u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    hex(&bytes)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// SHA-256 of bytes.
pub fn sha256(bytes: &[u8]) -> Fingerprint {
    Fingerprint::new(hex(&Sha256::digest(bytes))).expect("64 hexadecimal digits are a fingerprint")
}

/// The hash that the state keeps of a token's secret: SHA-256 of its hexadecimal text.
pub fn hash_secret(secret: &str) -> Fingerprint {
    sha256(secret.as_bytes())
}

/// What users hold: the token's id and its secret.
pub fn join_secret(id: TokenId, secret: &str) -> String {
    format!("{id}:{secret}")
}

/// Splits `<token id>:<secret>`.
pub fn split_secret(text: &str) -> Option<(TokenId, &str)> {
    let (id, secret) = text.split_once(':')?;
    Some((id.parse().ok()?, secret))
}

/// Base64 of a token's JSON.
pub fn encode(token: &impl Serialize) -> String {
    STANDARD.encode(serde_json::to_vec(token).expect("a token of plain texts becomes JSON"))
}

/// Reads what [`encode`] made, blanks and missing padding forgiven.
pub fn decode<T: DeserializeOwned>(text: &str) -> Option<T> {
    let bytes = decode_base64(text)?;
    serde_json::from_slice(&bytes).ok()
}

/// Base64, blanks and missing padding forgiven.
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let plain: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD_NO_PAD.decode(plain.trim_end_matches('=')).ok()
}

/// API addresses of members for a token, online ones first.
pub fn addresses(state: &ClusterState) -> Vec<String> {
    let mut members: Vec<_> = state.members.values().filter(|m| !m.announced.api_address.is_empty()).collect();
    members.sort_by_key(|m| !state.online(m.id));
    members.into_iter().take(MAX_ADDRESSES).map(|m| m.announced.api_address.clone()).collect()
}

/// SHA-256 of the first certificate of a PEM text.
pub fn pem_fingerprint(pem: &str) -> Option<Fingerprint> {
    pem_der(pem).map(|der| sha256(&der))
}

/// The first certificate of a PEM text.
pub fn pem_der(pem: &str) -> Option<Vec<u8>> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).ok().map(|der| der.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dto::cluster::JoinToken;

    #[test]
    fn tokens_round_trip_and_forgive_blanks() {
        let token = JoinToken { server_name: "n2".into(), secret: "a:b".into(), ..JoinToken::default() };
        let text = encode(&token);
        let folded = format!("{}\n{}", &text[..10], &text[10..]);
        assert_eq!(decode::<JoinToken>(&folded), Some(token));
        assert_eq!(decode::<JoinToken>("???"), None);
    }

    #[test]
    fn secrets_split() {
        let id = TokenId(uuid::Uuid::from_u128(7));
        let secret = random_secret();
        assert_eq!(secret.len(), 64);
        assert_eq!(split_secret(&join_secret(id, &secret)), Some((id, secret.as_str())));
        assert_eq!(split_secret("nonsense"), None);
    }
}
