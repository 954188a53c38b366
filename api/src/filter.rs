//! The language of `filter=`: `field op value [and|or ...]`, read from left to right.
//!
//! `op` is `eq` or `ne`; `not` before a field turns its answer round; double quotes hold blanks together. Texts are
//! compared as regular expressions, anchored and regardless of case. Fields reach into objects with dots
//! (`config.image.os`), and keys may hold dots themselves.

use regex::{Regex, RegexBuilder};
use serde::Serialize;
use serde_json::Value;

use crate::error::Error;

/// A compiled filter.
#[derive(Debug, Default)]
pub(crate) struct Filter(Vec<Clause>);

#[derive(Debug)]
struct Clause {
    /// Joined to what came before by `or` instead of `and`.
    or: bool,
    negated: bool,
    field: String,
    pattern: Regex,
}

/// A pattern's compiled form may take no more memory than this.
const MAX_PATTERN: usize = 1 << 20;

impl Filter {
    /// Compiles a filter; an empty one takes everything.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let bad = |why: String| Error::invalid("filter", why);
        let mut words = split(text).map_err(bad)?.into_iter().peekable();
        let mut clauses = Vec::new();
        while words.peek().is_some() {
            let or = match clauses.is_empty() {
                true => false,
                false => match words.next().as_deref() {
                    Some("and") => false,
                    Some("or") => true,
                    Some(other) => return Err(bad(format!("expected and or or, found {other:?}"))),
                    None => break,
                },
            };
            clauses.push(clause(&mut words, or).map_err(bad)?);
        }
        Ok(Filter(clauses))
    }

    /// Whether an object passes.
    pub(crate) fn takes(&self, object: &impl Serialize) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let Ok(object) = serde_json::to_value(object) else { return false };
        self.0.iter().fold(true, |so_far, clause| {
            let matches = clause.matches(&object) != clause.negated;
            if clause.or { so_far || matches } else { so_far && matches }
        })
    }
}

fn clause(words: &mut impl Iterator<Item = String>, or: bool) -> Result<Clause, String> {
    let mut negated = false;
    let mut field = words.next().ok_or("it ends after and or or")?;
    if field == "not" {
        negated = true;
        field = words.next().ok_or("it ends after not")?;
    }
    let operator = words.next().ok_or_else(|| format!("{field:?} needs an operator: eq or ne"))?;
    match operator.as_str() {
        "eq" => {}
        "ne" => negated = !negated,
        other => return Err(format!("{other:?} is not an operator: use eq or ne")),
    }
    let value = words.next().ok_or_else(|| format!("{field:?} needs a value"))?;
    let pattern = RegexBuilder::new(&format!("^(?:{value})$"))
        .case_insensitive(true)
        .size_limit(MAX_PATTERN)
        .build()
        .map_err(|_| format!("{value:?} is not a regular expression"))?;
    Ok(Clause { or, negated, field, pattern })
}

/// Splits at blanks, but not inside double quotes; a backslash takes the next character as it is in there.
fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(chars.next()),
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if quoted { Err("a double quote is not closed".into()) } else { Ok(words) }
}

impl Clause {
    fn matches(&self, object: &Value) -> bool {
        match find(object, &self.field) {
            None | Some(Value::Null) => false,
            Some(Value::String(text)) => self.pattern.is_match(text),
            Some(Value::Array(items)) => items.iter().any(|i| i.as_str().is_some_and(|t| self.pattern.is_match(t))),
            Some(Value::Object(_)) => false,
            Some(other @ (Value::Bool(_) | Value::Number(_))) => self.pattern.is_match(&other.to_string()),
        }
    }
}

/// The value at a path whose dots may be part of keys.
fn find<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let fields = object.as_object()?;
    if let Some(value) = fields.get(path) {
        return Some(value);
    }
    path.match_indices('.').find_map(|(at, _)| find(fields.get(&path[..at])?, &path[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(filter: &str) -> bool {
        let object = serde_json::json!({
            "name": "Web-1", "status": "Running", "type": "container", "ephemeral": false,
            "config": {"image.os": "ubuntu", "user.a b": "x"}, "profiles": ["default", "web"],
            "state": {"cpu": {"usage": 5}},
        });
        Filter::parse(filter).unwrap().takes(&object)
    }

    #[test]
    fn compares() {
        assert!(takes(""));
        assert!(takes("status eq running"));
        assert!(!takes("status eq run"));
        assert!(takes("status eq run.*"));
        assert!(takes("name eq (^web$|^web.*)"));
        assert!(takes("status ne stopped"));
        assert!(takes("not status eq stopped"));
        assert!(!takes("not status ne stopped"));
        assert!(takes("ephemeral eq false"));
        assert!(takes("profiles eq web"));
        assert!(takes("state.cpu.usage eq 5"));
    }

    #[test]
    fn joins_from_left_to_right() {
        assert!(takes("status eq running and type eq container"));
        assert!(!takes("status eq running and type eq virtual-machine"));
        assert!(takes("type eq virtual-machine or status eq running"));
        assert!(!takes("status eq running or type eq container and name eq x"));
    }

    #[test]
    fn reaches_into_objects() {
        assert!(takes("config.image.os eq ubuntu"));
        assert!(takes("\"config.user.a b\" eq x"));
        assert!(!takes("config.none eq x"));
        assert!(takes("config.none ne x"));
    }

    #[test]
    fn refuses_nonsense() {
        for bad in ["a", "a eq", "a is b", "a eq b c eq d", "a eq b and", "a eq \"b", "a eq (b", "not"] {
            let error = Filter::parse(bad).unwrap_err();
            assert!(matches!(error, Error::Invalid { ref field, .. } if field == "filter"), "{bad}: {error}");
        }
    }
}
