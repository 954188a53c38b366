//! The envelope that every JSON answer of the API comes in, opened.

use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::transport::Answer;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    error_code: u16,
    #[serde(default)]
    error: String,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

/// A successful answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// `/1.0/operations/<uuid>` of an asynchronous answer, else empty.
    pub(crate) operation: String,
    pub(crate) etag: Option<String>,
    doing: String,
    metadata: String,
}

impl Reply {
    /// Opens an answer; an error envelope becomes [`Error::Api`].
    pub(crate) fn open(doing: String, answer: &Answer) -> Result<Self> {
        let envelope: Envelope<'_> = match serde_json::from_slice(&answer.body) {
            Ok(envelope) => envelope,
            Err(_) if !answer.status.is_success() => return Err(failure(&doing, answer.status, &answer.body)),
            Err(error) => return Err(Error::protocol(doing, format!("not an API answer: {error}"))),
        };
        if envelope.kind == "error" || !answer.status.is_success() {
            return Err(failure(&doing, answer.status, &answer.body));
        }
        let etag = answer.headers.get(http::header::ETAG).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let metadata = envelope.metadata.map_or("null", RawValue::get).to_owned();
        Ok(Self { operation: envelope.operation, etag, doing, metadata })
    }

    /// The metadata as `T`.
    pub(crate) fn metadata<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.metadata).map_err(|e| Error::protocol(self.doing.clone(), format!("metadata: {e}")))
    }
}

/// The error of an unsuccessful answer; copes with bodies that are no envelope, or are cut short.
pub(crate) fn failure(doing: &str, status: StatusCode, body: &[u8]) -> Error {
    match serde_json::from_slice::<Envelope<'_>>(body) {
        Ok(envelope) if !envelope.error.is_empty() => {
            let code = if envelope.error_code == 0 { status.as_u16() } else { envelope.error_code };
            Error::Api { code, text: envelope.error }
        }
        _ => Error::Api { code: status.as_u16(), text: format!("{doing}: {status}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: http::HeaderMap::new(),
            body: body.to_owned().into(),
        }
    }

    fn open(status: u16, body: &str) -> Result<Reply> {
        Reply::open("GET /x".to_owned(), &answer(status, body))
    }

    #[test]
    fn an_error_envelope_keeps_code_and_text() {
        let body = r#"{"type":"error","status":"","status_code":0,"operation":"","error_code":404,"error":"Instance not found","metadata":null}"#;
        let error = open(404, body).unwrap_err();
        assert!(error.is_not_found());
        assert_eq!(error.to_string(), "Instance not found");
        // An error envelope after the status was already flushed as 200.
        assert!(open(200, body).unwrap_err().is_not_found());
    }

    #[test]
    fn answers_that_are_no_envelope() {
        assert_eq!(open(502, "<html>bad gateway").unwrap_err().code(), Some(502));
        assert!(matches!(open(200, "<html>hello").unwrap_err(), Error::Protocol { .. }));
        assert!(matches!(open(200, r#"{"type":"sync""#).unwrap_err(), Error::Protocol { .. }));
    }

    #[test]
    fn metadata_is_decoded_as_asked() {
        let reply = open(200, r#"{"type":"sync","metadata":["/1.0/instances/a"],"operation":""}"#).unwrap();
        assert_eq!(reply.metadata::<Vec<String>>().unwrap(), ["/1.0/instances/a"]);
        assert!(reply.metadata::<u32>().is_err());
    }
}
