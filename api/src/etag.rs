//! ETags: a hash of what a user can edit of an object, and nothing else, so that what happens in the background never
//! makes an edit fail.

use http::HeaderMap;
use http::header::IF_MATCH;
use serde::Serialize;

use crate::error::Error;
use crate::token;

/// The ETag of the editable part of an object.
pub(crate) fn of(editable: &impl Serialize) -> String {
    let text = serde_json::to_vec(editable).unwrap_or_default();
    token::sha256(&text).as_str()[..32].to_owned()
}

/// Holds a request to its `If-Match`, if it has one.
///
/// # Errors
/// [`Error::Changed`] when the object is another by now.
pub(crate) fn check(headers: &HeaderMap, present: &str) -> Result<(), Error> {
    let Some(given) = headers.get(IF_MATCH).and_then(|v| v.to_str().ok()) else { return Ok(()) };
    let given = given.trim().trim_start_matches("W/").trim_matches('"');
    if given.is_empty() || given == "*" || given == present {
        return Ok(());
    }
    Err(Error::Changed(format!("{given:?} is not {present:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match_forgives_quotes_and_absence() {
        let present = of(&("a", 1));
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_MATCH, value.parse().unwrap());
            check(&headers, &present)
        };
        assert!(check(&HeaderMap::new(), &present).is_ok());
        assert!(with(&present).is_ok());
        assert!(with(&format!("\"{present}\"")).is_ok());
        assert!(matches!(with("\"other\""), Err(Error::Changed(_))));
        assert_ne!(of(&("a", 1)), of(&("a", 2)));
    }
}
