//! URLs that may be asked: `https`, a host, no credentials.

use std::fmt;

use super::error::Error;

/// Longer ones are refused.
const LONGEST: usize = 4096;

/// An `https` URL, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// A name, or an address without brackets.
    host: String,
    port: u16,
    /// With the query; begins with a slash.
    path: String,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the query: it may hold a secret.
        write!(f, "https://{}{}", self.authority(), self.path.split('?').next().unwrap_or_default())
    }
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::Refused { url: text.chars().take(200).collect(), why: why.to_owned() };
        if text.len() > LONGEST {
            return Err(bad("is too long"));
        }
        let uri: http::Uri = text.parse().map_err(|_| bad("is not a URL such as https://HOST/PATH"))?;
        if uri.scheme_str() != Some("https") {
            return Err(bad("is not an https URL: nothing else is asked for images"));
        }
        let authority = uri.authority().ok_or_else(|| bad("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("holds a user name"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(bad("names no host"));
        }
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        Ok(Url { host: host.to_ascii_lowercase(), port: authority.port_u16().unwrap_or(443), path: path.to_owned() })
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Path and query.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// What goes into the `Host` header.
    pub(super) fn authority(&self) -> String {
        match (self.host.contains(':'), self.port) {
            (true, 443) => format!("[{}]", self.host),
            (true, port) => format!("[{}]:{port}", self.host),
            (false, 443) => self.host.clone(),
            (false, port) => format!("{}:{port}", self.host),
        }
    }

    /// A file below this folder.
    pub(super) fn below(&self, relative: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::broken(self, format!("names a file {relative:?} that {why}"));
        let path = relative.split('?').next().unwrap_or_default();
        if path.starts_with('/') || path.contains("://") || path.split('/').any(|part| matches!(part, "" | "." | ".."))
        {
            return Err(bad("is not below it"));
        }
        let folder = self.path.split('?').next().unwrap_or_default().trim_end_matches('/');
        Url::parse(&format!("https://{}{folder}/{relative}", self.authority())).map_err(|_| bad("is none"))
    }

    /// Where a redirect leads to.
    pub(super) fn redirected(&self, location: &str) -> Result<Self, Error> {
        match location.starts_with('/') && !location.starts_with("//") {
            true => Url::parse(&format!("https://{}{location}", self.authority())),
            false => Url::parse(location),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_without_credentials() {
        for good in ["https://h", "https://h/", "https://10.0.0.1:8443/a?b=c", "https://[fd00::1]:8443"] {
            assert!(Url::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["", "h", "http://h/", "file:///etc/passwd", "https://u:p@h/", "https://", "https:///x", "https://h h/"]
        {
            assert!(Url::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Url::parse(&format!("https://h/{}", "x".repeat(5000))).is_err());
        assert_eq!(Url::parse("https://H.example:443/x?secret=s").unwrap().to_string(), "https://h.example/x");
    }

    #[test]
    fn files_stay_below_their_folder() {
        let base = Url::parse("https://h/releases/").unwrap();
        assert_eq!(base.below("streams/v1/a.json").unwrap().to_string(), "https://h/releases/streams/v1/a.json");
        assert_eq!(base.below("a/20240101_13:00/r.squashfs").unwrap().path(), "/releases/a/20240101_13:00/r.squashfs");
        for bad in ["", "/x", "../x", "a/../../x", "https://evil/x", "a//b", "a b"] {
            assert!(base.below(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn redirects_are_judged_like_any_url() {
        let base = Url::parse("https://h:8443/a").unwrap();
        assert_eq!(base.redirected("/b?c").unwrap().path(), "/b?c");
        assert_eq!(base.redirected("https://other/b").unwrap().host(), "other");
        for bad in ["http://other/", "//evil/x", "b", ""] {
            assert!(base.redirected(bad).is_err(), "{bad:?}");
        }
    }
}
