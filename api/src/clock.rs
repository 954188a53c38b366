//! Time: the stamps that commands carry, and how the API writes them.

use std::time::{SystemTime, UNIX_EPOCH};

use basalt_model::Timestamp;
use basalt_model::config::Span;
use basalt_model::schedule::Minute;
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

/// `at` and a span by the calendar more; days that a month does not have run over into the next, as in Go.
pub fn after(at: Timestamp, span: &Span) -> Timestamp {
    let Some(from) = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1000).ok() else {
        return Timestamp::NEVER;
    };
    let months = u32::from(u8::from(from.month())) - 1 + span.months;
    let year = i64::from(from.year()) + i64::from(span.years) + i64::from(months / 12);
    let first = i32::try_from(year).ok().and_then(|year| {
        let month = time::Month::try_from(u8::try_from(months % 12 + 1).ok()?).ok()?;
        time::Date::from_calendar_date(year, month, 1).ok()
    });
    let days = i64::from(from.day()) - 1 + i64::from(span.days) + 7 * i64::from(span.weeks);
    let date = first.and_then(|first| first.checked_add(time::Duration::days(days)));
    let whole = date
        .map(|date| from.replace_date(date))
        .and_then(|day| day.checked_add(time::Duration::minutes(i64::from(span.minutes) + 60 * i64::from(span.hours))));
    // What lies beyond the calendar is never.
    let micros = whole.map(|time| time.unix_timestamp_nanos() / 1000);
    micros.and_then(|micros| u64::try_from(micros).ok()).map_or(Timestamp::NEVER, Timestamp)
}

/// The minute of the calendar, in UTC.
pub fn minute(at: Timestamp) -> Minute {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    Minute {
        minute: time.minute(),
        hour: time.hour(),
        day: time.day(),
        month: u8::from(time.month()),
        weekday: time.weekday().number_days_from_sunday(),
    }
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

    #[test]
    fn minutes_of_the_calendar() {
        let found = minute(parse("2024-02-25T23:59:59.9Z").unwrap());
        assert_eq!(found, Minute { minute: 59, hour: 23, day: 25, month: 2, weekday: 0 });
    }

    #[test]
    fn spans_go_by_the_calendar() {
        let at = |text: &str| parse(text).unwrap();
        let span = |text: &str| basalt_model::config::parse_span(text).unwrap();
        for (from, add, to) in [
            ("2024-01-30T10:00:00Z", "1m", "2024-03-01T10:00:00Z"),
            ("2023-11-14T22:13:20.5Z", "2m", "2024-01-14T22:13:20.5Z"),
            ("2024-02-29T00:00:00Z", "1y", "2025-03-01T00:00:00Z"),
            ("2024-12-31T23:30:00Z", "1H 1d 30M", "2025-01-02T01:00:00Z"),
            ("2024-01-01T00:00:00Z", "2w", "2024-01-15T00:00:00Z"),
            ("2024-01-01T00:00:00Z", "9999y", ZERO_TIME),
        ] {
            assert_eq!(after(at(from), &span(add)), at(to), "{from} + {add}");
        }
    }
}
