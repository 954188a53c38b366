//! An image by one URL. The server may answer with headers that say where the image is and what its hash is; one that
//! does not serves the image itself.

use basalt_api::port::remote::{Offer, OfferedFile, RemoteImage};
use basalt_model::Fingerprint;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::error::Error;
use super::fetch::{Answer, Fetcher, Way};
use super::url::Url;

pub(super) async fn look(
    fetcher: &Fetcher,
    way: &Way,
    url: &Url,
    wanted: &RemoteImage,
    architectures: &[String],
) -> Result<Offer, Error> {
    let answer = fetcher.head(way, url, &told(architectures)).await;
    let answer = answer.map_err(|error| match error {
        Error::Missing(url) => Error::Missing(format!("Image {url}")),
        other => other,
    })?;
    let hash = header(&answer, "image-hash");
    let hash =
        hash.map(|h| Fingerprint::new(h).map_err(|e| Error::broken(url, format!("image hash: {e}")))).transpose()?;
    let given = Some(wanted.name.as_str()).filter(|name| !name.is_empty());
    let given = given.map(|f| Fingerprint::new(f).map_err(|e| Error::refused(url, e))).transpose()?;
    if let (Some(hash), Some(given)) = (&hash, &given)
        && hash != given
    {
        return Err(Error::broken(url, format!("offers image {hash}, not {given}")));
    }
    let image = match header(&answer, "image-url") {
        Some(text) => Url::parse(text)?,
        None => url.clone(),
    };
    Ok(Offer {
        fingerprint: given.or(hash),
        files: vec![OfferedFile {
            url: format!("https://{}{}", image.authority(), image.path()),
            sha256: None,
            size: None,
        }],
        filename: image.path().split('?').next().unwrap_or_default().rsplit('/').next().unwrap_or_default().to_owned(),
        ..Offer::default()
    })
}

/// What servers choose an image by.
fn told(architectures: &[String]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(&architectures.join(", ")) {
        headers.insert(HeaderName::from_static("lxd-server-architectures"), value.clone());
        headers.insert(HeaderName::from_static("incus-server-architectures"), value);
    }
    headers.insert(HeaderName::from_static("lxd-server-version"), HeaderValue::from_static("5.0.2"));
    headers.insert(HeaderName::from_static("incus-server-version"), HeaderValue::from_static("6.0.4"));
    headers
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    ["incus-", "lxd-"].iter().find_map(|prefix| answer.headers.get(format!("{prefix}{name}"))?.to_str().ok())
}
