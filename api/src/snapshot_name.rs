//! What an instance's configuration says of a snapshot that was given no name (`snapshots.pattern`) or no end
//! (`snapshots.expiry`): for requests, and for the node's schedule.
//!
//! `%d` becomes the number after the highest one in use; `{{ creation_date }}` the time in UTC, and
//! `{{ creation_date|date:'2006-01-02_15-04-05' }}` the time in that layout (Go's reference time).

use basalt_model::config::parse_span;
use basalt_model::instance::Instance;
use basalt_model::{ClusterState, SnapshotName, Timestamp};
use time::OffsetDateTime;

use crate::clock;

/// The next name for a snapshot of an instance.
///
/// # Errors
/// Says what in `snapshots.pattern` is not understood, or makes no valid name.
pub fn name(view: &ClusterState, instance: &Instance, at: Timestamp) -> Result<SnapshotName, String> {
    let config = view.expanded_config(&instance.project, &instance.spec);
    let pattern = config.get("snapshots.pattern").map(String::as_str).filter(|p| !p.is_empty());
    let held = view.snapshots_of(instance.id).filter(|s| s.holds_name());
    let taken: Vec<String> = held.map(|s| s.name.to_string()).collect();
    SnapshotName::new(next(pattern.unwrap_or(DEFAULT), at, &taken)?).map_err(|e| e.to_string())
}

/// When a snapshot taken at `at` ends.
///
/// # Errors
/// Says what in `snapshots.expiry` is not understood.
pub fn expiry(view: &ClusterState, instance: &Instance, at: Timestamp) -> Result<Timestamp, String> {
    let config = view.expanded_config(&instance.project, &instance.spec);
    match config.get("snapshots.expiry").filter(|text| !text.is_empty()) {
        None => Ok(Timestamp::NEVER),
        Some(text) => Ok(clock::after(at, &parse_span(text)?)),
    }
}

/// The pattern where none is set.
const DEFAULT: &str = "snap%d";
/// The layout of a date that is given none.
const LAYOUT: &str = "2006-01-02_15-04-05";

/// The next name by `pattern`, beside those that are `taken`.
///
/// # Errors
/// Says what in the pattern is not understood.
fn next(pattern: &str, at: Timestamp, taken: &[String]) -> Result<String, String> {
    let mut name = dated(pattern, at)?;
    if !name.contains("%d") {
        if !taken.contains(&name) {
            return Ok(name);
        }
        name.push_str("-%d");
    }
    let (before, after) = name.split_once("%d").unwrap_or((&name, ""));
    let number = |held: &String| held.strip_prefix(before)?.strip_suffix(after)?.parse::<u64>().ok();
    let next = taken.iter().filter_map(number).max().map_or(0, |highest| highest.saturating_add(1));
    Ok(format!("{before}{next}{after}"))
}

fn dated(pattern: &str, at: Timestamp) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = pattern;
    while let Some((before, from)) = rest.split_once("{{") {
        let (inside, after) = from.split_once("}}").ok_or("a {{ is not closed")?;
        text.push_str(before);
        text.push_str(&date(layout(inside.trim())?, at));
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

fn layout(expression: &str) -> Result<&str, String> {
    let unknown = || format!("{expression:?} is neither creation_date nor creation_date|date:'{LAYOUT}'");
    let rest = expression.strip_prefix("creation_date").ok_or_else(unknown)?.trim();
    if rest.is_empty() {
        return Ok(LAYOUT);
    }
    let quoted = rest.strip_prefix('|').and_then(|r| r.trim().strip_prefix("date:")).ok_or_else(unknown)?.trim();
    let inside = |quote| quoted.strip_prefix(quote)?.strip_suffix(quote);
    inside('\'').or_else(|| inside('"')).ok_or_else(unknown)
}

fn date(layout: &str, at: Timestamp) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let parts = [
        ("2006", format!("{:04}", time.year())),
        ("01", format!("{:02}", u8::from(time.month()))),
        ("02", format!("{:02}", time.day())),
        ("15", format!("{:02}", time.hour())),
        ("04", format!("{:02}", time.minute())),
        ("05", format!("{:02}", time.second())),
    ];
    let mut text = String::new();
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        match parts.iter().find(|(token, _)| rest.starts_with(token)) {
            Some((token, value)) => {
                text.push_str(value);
                rest = &rest[token.len()..];
            }
            None => {
                text.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_after_the_highest() {
        let next = |pattern: &str, taken: &[&str]| {
            next(pattern, Timestamp(0), &taken.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
        };
        assert_eq!(next(DEFAULT, &[]), "snap0");
        assert_eq!(next(DEFAULT, &["snap0", "snap7", "snapx", "other9"]), "snap8");
        assert_eq!(next("x-%d-y", &["x-1-y", "x-5"]), "x-2-y");
        assert_eq!(next("daily", &[]), "daily");
        assert_eq!(next("daily", &["daily", "daily-0"]), "daily-1");
    }

    #[test]
    fn dates_are_written_as_the_layout_says() {
        let at = Timestamp(1_700_000_000_000_000);
        let next = |pattern: &str| next(pattern, at, &[]);
        assert_eq!(next("{{ creation_date }}").unwrap(), "2023-11-14_22-13-20");
        assert_eq!(next("at-{{ creation_date|date:'20060102T1504' }}-%d").unwrap(), "at-20231114T2213-0");
        for bad in ["{{ creation_date", "{{ name }}", "{{ creation_date|time:'x' }}", "{{ creation_date|date:2006 }}"] {
            assert!(next(bad).is_err(), "{bad}");
        }
    }
}
