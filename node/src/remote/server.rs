//! Images of another LXD, Incus or Basalt server.

use basalt_api::clock;
use basalt_api::dto::envelope::Envelope;
use basalt_api::dto::image::{Alias, Image};
use basalt_api::port::remote::{Offer, OfferedFile, RemoteImage};
use basalt_model::{Fingerprint, Timestamp};
use http::HeaderMap;

use super::error::Error;
use super::fetch::{Fetcher, Way};
use super::url::Url;

/// Largest description of an image.
const LARGEST: usize = 4 << 20;

/// What follows the path of a request: words that are empty are left out.
pub(super) fn query(words: &[(&str, &str)]) -> String {
    let given = words.iter().filter(|(_, value)| !value.is_empty());
    let given: Vec<String> = given.map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
}

pub(super) async fn look(fetcher: &Fetcher, way: &Way, base: &Url, wanted: &RemoteImage) -> Result<Offer, Error> {
    let (name, project) = (&wanted.name, wanted.source.project.as_str());
    let none = || Error::Missing(format!("Image {name:?} on {base}"));
    let target = match Fingerprint::new(name.as_str()) {
        Ok(_) => name.clone(),
        // An alias; what is none may be the beginning of a fingerprint.
        Err(_) => {
            let path = format!("1.0/images/aliases/{}{}", escaped(name), query(&[("project", project)]));
            match ask::<Alias>(fetcher, way, &base.below(&path)?).await {
                Ok(alias) => alias.target,
                Err(Error::Missing(_)) => name.clone(),
                Err(other) => return Err(other),
            }
        }
    };
    let query = query(&[("secret", &wanted.secret), ("project", project)]);
    let image = match ask::<Image>(fetcher, way, &base.below(&format!("1.0/images/{}{query}", escaped(&target)))?).await
    {
        Err(Error::Missing(_)) => return Err(none()),
        other => other?,
    };
    let fingerprint = Fingerprint::new(image.fingerprint.as_str()).map_err(|e| Error::broken(base, e))?;
    if !fingerprint.as_str().starts_with(&target) {
        return Err(Error::broken(base, format!("gives image {fingerprint} for {target}")));
    }
    let file = base.below(&format!("1.0/images/{fingerprint}/export{query}"))?;
    let plain =
        |(key, value): &(String, String)| !key.is_empty() && !key.chars().chain(value.chars()).any(|c| c == '\0');
    Ok(Offer {
        fingerprint: Some(fingerprint),
        files: vec![OfferedFile {
            url: format!("https://{}{}", file.authority(), file.path()),
            sha256: None,
            size: None,
        }],
        properties: image.properties.into_iter().filter(plain).collect(),
        filename: image.filename.rsplit('/').next().unwrap_or_default().to_owned(),
        public: image.public,
        expires_at: clock::parse(&image.expires_at).unwrap_or(Timestamp::NEVER),
    })
}

async fn ask<T: serde::de::DeserializeOwned>(fetcher: &Fetcher, way: &Way, url: &Url) -> Result<T, Error> {
    let answer: Envelope<T> = fetcher.get(way, url, &HeaderMap::new()).await?.json(LARGEST).await?;
    answer.metadata.ok_or_else(|| Error::broken(url, "answers without metadata"))
}

/// As one segment of a path, or the value of a query.
pub(super) fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_hold_what_is_said() {
        assert_eq!(query(&[("secret", ""), ("project", "")]), "");
        assert_eq!(query(&[("secret", "a/b"), ("project", "blue")]), "?secret=a%2Fb&project=blue");
        assert_eq!(query(&[("secret", ""), ("project", "blue")]), "?project=blue");
    }

    #[test]
    fn names_stay_one_segment() {
        assert_eq!(escaped("debian/12?a=b&c"), "debian%2F12%3Fa%3Db%26c");
    }
}
