//! Tokens that people carry from one machine to another: base64 of a small JSON object.
//!
//! A join token admits one named machine to a cluster, a trust token admits one client. Both say where the cluster is
//! and which certificate it serves, so that neither side has to be trusted on first sight.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use basalt_api::dto::certificate::AddToken;
use basalt_api::dto::cluster::JoinToken;
use basalt_api::dto::operation::Operation;

use crate::error::{Error, Result};

/// A token that is handed around as text.
pub trait Token: Serialize + DeserializeOwned {
    /// What it is called in messages.
    const WHAT: &'static str;

    /// Whether the fields that make it this kind of token are there.
    fn is_whole(&self) -> bool;

    /// The text of this token.
    fn encode(&self) -> String {
        STANDARD.encode(serde_json::to_vec(self).expect("strings always serialise"))
    }

    /// Reads the text of a token.
    fn decode(text: &str) -> Result<Self> {
        let bad = |detail: String| Error::Invalid(format!("not a {}: {detail}", Self::WHAT));
        // Terminals wrap long tokens, so blanks within are forgiven.
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let bytes = STANDARD.decode(compact).map_err(|e| bad(e.to_string()))?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        if token.is_whole() { Ok(token) } else { Err(bad("fields are missing".to_owned())) }
    }
}

impl Token for JoinToken {
    const WHAT: &'static str = "join token";

    fn is_whole(&self) -> bool {
        !self.server_name.is_empty() && !self.secret.is_empty() && !self.addresses.is_empty()
    }
}

impl Token for AddToken {
    const WHAT: &'static str = "trust token";

    fn is_whole(&self) -> bool {
        !self.client_name.is_empty() && !self.secret.is_empty() && !self.addresses.is_empty()
    }
}

/// The join token that an operation of class `token` carries.
pub(crate) fn join_token(operation: &Operation) -> Result<JoinToken> {
    let fields = Fields(operation.metadata.as_ref());
    Ok(JoinToken {
        server_name: fields.text("serverName")?,
        fingerprint: fields.text("fingerprint")?,
        addresses: fields.texts("addresses")?,
        secret: fields.text("secret")?,
        expires_at: fields.text("expiresAt")?,
    })
}

/// The trust token that an operation of class `token` carries.
pub(crate) fn trust_token(operation: &Operation) -> Result<AddToken> {
    let fields = Fields(operation.metadata.as_ref());
    let name = fields.get("request")?.get("name").and_then(Value::as_str).unwrap_or_default();
    Ok(AddToken {
        client_name: name.to_owned(),
        fingerprint: fields.text("fingerprint")?,
        addresses: fields.texts("addresses")?,
        secret: fields.text("secret")?,
        expires_at: fields.text("expiresAt").unwrap_or_else(|_| basalt_api::dto::zero_time()),
    })
}

struct Fields<'a>(Option<&'a Map<String, Value>>);

impl Fields<'_> {
    fn get(&self, key: &str) -> Result<&Value> {
        let value = self.0.and_then(|metadata| metadata.get(key));
        value.ok_or_else(|| Error::protocol("token", format!("the operation has no {key:?}")))
    }

    fn text(&self, key: &str) -> Result<String> {
        let text = self.get(key)?.as_str().map(str::to_owned);
        text.ok_or_else(|| Error::protocol("token", format!("{key:?} is not text")))
    }

    fn texts(&self, key: &str) -> Result<Vec<String>> {
        serde_json::from_value(self.get(key)?.clone()).map_err(|e| Error::protocol("token", format!("{key:?}: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            server_name: "node2".to_owned(),
            fingerprint: "ab".repeat(32),
            addresses: vec!["10.0.0.1:8443".to_owned()],
            secret: "1:ff".to_owned(),
            expires_at: "2026-11-23T03:00:00Z".to_owned(),
        }
    }

    #[test]
    fn round_trip_even_when_a_terminal_wrapped_it() {
        let mut text = token().encode();
        text.insert(20, '\n');
        assert_eq!(JoinToken::decode(&format!("  {text} ")).unwrap(), token());
    }

    #[test]
    fn a_token_of_another_kind_is_refused() {
        assert!(AddToken::decode(&token().encode()).is_err());
        assert!(JoinToken::decode("not base64!").is_err());
        assert!(JoinToken::decode("e30=").is_err());
    }

    #[test]
    fn tokens_are_read_from_the_operation() {
        let metadata = serde_json::json!({
            "serverName": "node2", "secret": "1:ff", "fingerprint": "ab".repeat(32),
            "addresses": ["10.0.0.1:8443"], "expiresAt": "2026-11-23T03:00:00Z",
        });
        let operation = Operation { metadata: metadata.as_object().cloned(), ..Operation::default() };
        assert_eq!(join_token(&operation).unwrap(), token());
        assert!(join_token(&Operation::default()).is_err());
    }
}
