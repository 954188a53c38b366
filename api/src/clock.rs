//! Time: the stamps that commands carry, and how the API writes them.

use std::time::{SystemTime, UNIX_EPOCH};

use basalt_model::Timestamp;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::dto::ZERO_TIME;

/// Now.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// RFC 3339 text; "never" is the zero time.
pub fn text(at: Timestamp) -> String {
    if at == Timestamp::NEVER {
        return ZERO_TIME.to_owned();
    }
    let nanos = i128::from(at.0) * 1000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    time.and_then(|t| t.format(&Rfc3339).ok()).unwrap_or_else(|| ZERO_TIME.to_owned())
}

/// Now, as text.
pub fn now_text() -> String {
    text(now())
}

/// Reads RFC 3339; what lies before 1970 (the zero time does) and empty text mean "never".
///
/// # Errors
/// Says that it is not a time.
pub fn parse(given: &str) -> Result<Timestamp, String> {
    if given.is_empty() {
        return Ok(Timestamp::NEVER);
    }
    let time =
        OffsetDateTime::parse(given, &Rfc3339).map_err(|_| format!("{given:?} is not a time such as {ZERO_TIME}"))?;
    let micros = time.unix_timestamp_nanos() / 1000;
    Ok(u64::try_from(micros).map_or(Timestamp::NEVER, Timestamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip() {
        let at = Timestamp(1_700_000_000_123_456);
        assert_eq!(text(at), "2023-11-14T22:13:20.123456Z");
        assert_eq!(parse(&text(at)), Ok(at));
        assert_eq!(parse(ZERO_TIME), Ok(Timestamp::NEVER));
        assert_eq!(parse(""), Ok(Timestamp::NEVER));
        assert_eq!(text(Timestamp::NEVER), ZERO_TIME);
        assert!(parse("yesterday").is_err());
    }
}
