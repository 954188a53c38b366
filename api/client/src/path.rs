//! Paths of the API: names are escaped once, per segment; parameters likewise.

use std::fmt::Write;

/// A request path under construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    text: String,
    query: String,
}

impl Path {
    /// `/1.0`
    pub fn root() -> Self {
        Self { text: "/1.0".to_owned(), query: String::new() }
    }

    /// A path given as text, such as `/1.0/instances?recursion=1`.
    pub fn raw(text: &str) -> Self {
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        Self { text: path.to_owned(), query: query.to_owned() }
    }

    /// `/1.0/` and a collection, which is not escaped: `instances`, `images/aliases`.
    pub fn of(collection: &str) -> Self {
        Self { text: format!("/1.0/{collection}"), query: String::new() }
    }

    /// Adds a segment; escaped, so that any name is one segment.
    pub fn segment(mut self, name: &str) -> Self {
        self.text.push('/');
        escape(&mut self.text, name);
        self
    }

    /// Adds a parameter.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        if !self.query.is_empty() {
            self.query.push('&');
        }
        escape(&mut self.query, key);
        self.query.push('=');
        escape(&mut self.query, value);
        self
    }

    /// Adds a parameter, when there is a value and the path does not have the parameter already.
    pub fn with_some(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) if !self.has(key) => self.with(key, value),
            _ => self,
        }
    }

    fn has(&self, key: &str) -> bool {
        self.query.split('&').any(|pair| pair.split('=').next() == Some(key))
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)?;
        if self.query.is_empty() { Ok(()) } else { write!(f, "?{}", self.query) }
    }
}

/// Appends `text` with everything but unreserved characters percent-escaped.
pub(crate) fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_one_segment() {
        let path = Path::of("instances").segment("a/b c?é").with("project", "p&q").with_some("target", None);
        assert_eq!(path.to_string(), "/1.0/instances/a%2Fb%20c%3F%C3%A9?project=p%26q");
    }

    #[test]
    fn a_parameter_in_a_raw_path_wins() {
        let path = Path::raw("/1.0/instances?project=a").with_some("project", Some("b"));
        assert_eq!(path.to_string(), "/1.0/instances?project=a");
    }
}
