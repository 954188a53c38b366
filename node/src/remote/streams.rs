//! Simplestreams: `streams/v1/index.json` names product files, a product has versions, a version has files with hashes.
//!
//! The files' own hashes and the *combined* one (metadata followed by root, hence the image's fingerprint) both come from
//! the product file. Finding an image in it is a pure function.

use std::collections::BTreeMap;

use basalt_api::port::remote::{Offer, OfferedFile};
use basalt_model::instance::Kind;
use basalt_model::{Fingerprint, Timestamp};
use http::HeaderMap;
use serde::Deserialize;

use super::error::Error;
use super::fetch::{Fetcher, Way};
use super::url::Url;

/// Largest index and product file: those of the big public servers are a tenth of it.
const LARGEST: usize = 64 << 20;
/// Product files of one index that are read at most.
const FILES: usize = 16;
/// Shorter texts are never taken for the beginning of a fingerprint.
const SHORTEST_PREFIX: usize = 8;

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a> {
    /// An alias such as `alpine/edge` or `alpine/edge/arm64`, or (the beginning of) a fingerprint.
    pub(super) name: &'a str,
    pub(super) kind: Kind,
    /// The kernel's words; the first is preferred.
    pub(super) architectures: &'a [String],
    /// Whether a root as squashfs can be used.
    pub(super) squashfs: bool,
}

/// Asks the server.
pub(super) async fn look(fetcher: &Fetcher, way: &Way, base: &Url, query: &Query<'_>) -> Result<Offer, Error> {
    let index: Index = json(fetcher, way, &base.below("streams/v1/index.json")?).await?;
    let files = index.index.into_values().filter(|entry| entry.datatype == "image-downloads");
    let mut products = Vec::new();
    for entry in files.take(FILES) {
        let file: Products = json(fetcher, way, &base.below(&entry.path)?).await?;
        products.extend(file.products.into_values());
    }
    find(&products, base, query)
}

async fn json<T: serde::de::DeserializeOwned>(fetcher: &Fetcher, way: &Way, url: &Url) -> Result<T, Error> {
    match fetcher.get(way, url, &HeaderMap::new()).await {
        Ok(answer) => answer.json(LARGEST).await,
        Err(Error::Missing(url)) => {
            Err(Error::Broken { url, why: "is missing: this is no simplestreams server".into() })
        }
        Err(other) => Err(other),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Index {
    index: BTreeMap<String, Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    datatype: String,
    path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Products {
    products: BTreeMap<String, Product>,
}

/// One product: an operating system's release for one architecture.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Product {
    aliases: String,
    arch: String,
    os: String,
    release: String,
    release_title: String,
    variant: String,
    version: String,
    label: String,
    support_eol: String,
    versions: BTreeMap<String, Version>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Version {
    label: String,
    items: BTreeMap<String, Item>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Item {
    ftype: String,
    path: String,
    size: u64,
    sha256: String,
    combined_sha256: String,
    combined_rootxz_sha256: String,
    combined_squashfs_sha256: String,
    #[serde(rename = "combined_disk-kvm-img_sha256")]
    combined_disk_kvm_sha256: String,
    combined_disk1_img_sha256: String,
    #[serde(rename = "combined_disk1-img_sha256")]
    combined_disk1_sha256: String,
    combined_uefi1_img_sha256: String,
    #[serde(rename = "combined_uefi1-img_sha256")]
    combined_uefi1_sha256: String,
}

/// One way to have a version: its files and their fingerprint together.
struct Build<'a> {
    metadata: &'a Item,
    root: Option<&'a Item>,
    fingerprint: Fingerprint,
}

/// The image that `query` names, among `products`.
///
/// # Errors
/// There is none, or what there is cannot be used here.
pub(super) fn find(products: &[Product], base: &Url, query: &Query<'_>) -> Result<Offer, Error> {
    let mut named = false;
    for architecture in query.architectures {
        for product in products.iter().filter(|p| kernel_name(&p.arch) == *architecture) {
            if !product.is_called(query.name) {
                continue;
            }
            named = true;
            for (serial, version) in product.versions.iter().rev() {
                if let Some(build) = version.builds(query).into_iter().next() {
                    return product.offer(base, (serial, version), &build);
                }
            }
        }
    }
    if let Some(offer) = by_fingerprint(products, base, query) {
        return offer;
    }
    Err(Error::Missing(match named {
        true => format!("Image {:?} of {base} has no {} that can be used here: it", query.name, query.kind.as_str()),
        false => format!("Image {:?} for {} on {base}", query.name, query.architectures.join(" or ")),
    }))
}

fn by_fingerprint(products: &[Product], base: &Url, query: &Query<'_>) -> Option<Result<Offer, Error>> {
    if query.name.len() < SHORTEST_PREFIX || !query.name.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    // A fingerprint says all by itself: which kind, which way of packing.
    for kind in [Kind::Container, Kind::VirtualMachine] {
        let any = Query { kind, ..*query };
        for product in products {
            for (serial, version) in &product.versions {
                let fits = |build: &Build<'_>| build.fingerprint.as_str().starts_with(query.name);
                if let Some(build) = version.builds(&any).into_iter().find(fits) {
                    return Some(product.offer(base, (serial, version), &build));
                }
            }
        }
    }
    None
}

impl Product {
    /// By one of its aliases, with or without the architecture behind it.
    fn is_called(&self, name: &str) -> bool {
        let plain =
            [&self.arch, kernel_name(&self.arch)].iter().find_map(|arch| name.strip_suffix(*arch)?.strip_suffix('/'));
        self.aliases.split(',').map(str::trim).any(|alias| !alias.is_empty() && (alias == name || Some(alias) == plain))
    }

    fn offer(&self, base: &Url, (serial, version): (&str, &Version), build: &Build<'_>) -> Result<Offer, Error> {
        let file = |item: &Item| {
            let sha256 = Fingerprint::new(item.sha256.as_str());
            let sha256 = sha256.map_err(|_| Error::broken(base, format!("gives no sha256 of {}", item.path)))?;
            let size = Some(item.size).filter(|size| *size > 0);
            Ok(OfferedFile { url: full(&base.below(&item.path)?), sha256: Some(sha256), size })
        };
        let mut files = vec![file(build.metadata)?];
        if let Some(root) = build.root {
            files.push(file(root)?);
        }
        Ok(Offer {
            fingerprint: Some(build.fingerprint.clone()),
            files,
            properties: self.properties(serial, version, build),
            filename: build.metadata.path.rsplit('/').next().unwrap_or_default().to_owned(),
            // What anybody can download there, anybody may have.
            public: true,
            expires_at: date(&self.support_eol),
        })
    }

    fn properties(&self, serial: &str, version: &Version, build: &Build<'_>) -> BTreeMap<String, String> {
        let title = if self.release_title.is_empty() { &self.release } else { &self.release_title };
        let label = if version.label.is_empty() { &self.label } else { &version.label };
        let mut description = format!("{} {title} {}", self.os, self.arch);
        if !label.is_empty() {
            description.push_str(&format!(" ({label})"));
        }
        description.push_str(&format!(" ({serial})"));
        let kind = build.root.map_or(build.metadata.ftype.as_str(), |root| root.ftype.as_str());
        let pairs = [
            ("architecture", self.arch.as_str()),
            ("description", &description),
            ("label", label),
            ("os", &self.os),
            ("release", &self.release),
            ("serial", serial),
            ("type", kind),
            ("variant", &self.variant),
            ("version", &self.version),
        ];
        let plain = |value: &str| !value.is_empty() && value.len() < 1024 && !value.chars().any(char::is_control);
        pairs.into_iter().filter(|(_, v)| plain(v)).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }
}

impl Version {
    /// What can be used, the best first.
    fn builds(&self, query: &Query<'_>) -> Vec<Build<'_>> {
        let of = |ftype: &str| self.items.values().filter(move |item| item.ftype == ftype).collect::<Vec<_>>();
        let roots: &[&str] = match (query.kind, query.squashfs) {
            (Kind::Container, true) => &["squashfs", "root.tar.xz"],
            (Kind::Container, false) => &["root.tar.xz"],
            (Kind::VirtualMachine, _) => &["disk-kvm.img", "disk1.img", "uefi1.img"],
        };
        let mut builds = Vec::new();
        for metadata in ["incus.tar.xz", "lxd.tar.xz"].into_iter().flat_map(of) {
            for root in roots.iter().flat_map(|ftype| of(ftype)) {
                let hashes = metadata.combined(&root.ftype);
                if let Some(fingerprint) = hashes.iter().find_map(|hash| Fingerprint::new(*hash).ok()) {
                    builds.push(Build { metadata, root: Some(root), fingerprint });
                }
            }
        }
        if query.kind == Kind::Container {
            for whole in ["incus_combined.tar.gz", "lxd_combined.tar.gz"].into_iter().flat_map(of) {
                if let Ok(fingerprint) = Fingerprint::new(whole.sha256.as_str()) {
                    builds.push(Build { metadata: whole, root: None, fingerprint });
                }
            }
        }
        builds
    }
}

impl Item {
    /// Where the combined hash with a root of that type may be written.
    fn combined(&self, root: &str) -> [&str; 2] {
        match root {
            "squashfs" => [&self.combined_squashfs_sha256, ""],
            "root.tar.xz" => [&self.combined_rootxz_sha256, &self.combined_sha256],
            "disk-kvm.img" => [&self.combined_disk_kvm_sha256, ""],
            "disk1.img" => [&self.combined_disk1_sha256, &self.combined_disk1_img_sha256],
            "uefi1.img" => [&self.combined_uefi1_sha256, &self.combined_uefi1_img_sha256],
            _ => ["", ""],
        }
    }
}

/// With its query, unlike what errors show.
fn full(url: &Url) -> String {
    format!("https://{}{}", url.authority(), url.path())
}

/// Debian's words for architectures are those of image servers.
fn kernel_name(architecture: &str) -> &str {
    match architecture {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "armhf" => "armv7l",
        "i386" => "i686",
        "ppc64el" => "ppc64le",
        other => other,
    }
}

/// `2029-05-31`; anything else is never.
fn date(text: &str) -> Timestamp {
    basalt_api::clock::parse(&format!("{text}T00:00:00Z")).unwrap_or(Timestamp::NEVER)
}

#[cfg(test)]
mod tests;
