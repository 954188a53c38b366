//! The bytes of an image, on their way into the store: counted, hashed, and refused as soon as they are too many.

use axum::extract::{FromRequest, Multipart};
use basalt_api::port::remote::{Offer, OfferedFile, Tell};
use basalt_model::Fingerprint;
use basalt_storage::image::{ImageInfo, Import};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use sha2::{Digest, Sha256};

use super::error::Error;
use super::fetch::{Answer, Fetcher, Way};
use super::meter::Meter;
use super::url::Url;

/// A download under way. Dropping it removes what was written.
pub(super) struct Download<'a> {
    import: Import,
    limit: u64,
    tell: Tell<'a>,
}

impl<'a> Download<'a> {
    /// At most `limit` bytes go into `import`.
    pub(super) fn new(import: Import, limit: u64, tell: Tell<'a>) -> Self {
        Download { import, limit, tell }
    }

    /// All files of the offer, in the order of the fingerprint.
    pub(super) async fn files(&mut self, fetcher: &Fetcher, way: &Way, offer: &Offer) -> Result<(), Error> {
        for (index, file) in offer.files.iter().enumerate() {
            let url = Url::parse(&file.url)?;
            let answer = fetcher.get(way, &url, &HeaderMap::new()).await;
            let answer = answer.map_err(|error| match error {
                Error::Missing(url) => Error::Broken { url, why: "is offered, and missing".into() },
                other => other,
            })?;
            let what = match (index, offer.files.len()) {
                (0, 2..) => "metadata",
                _ => "rootfs",
            };
            if index > 0 {
                self.import.start_rootfs().await.map_err(Error::Store)?;
            }
            let kind = answer.text(&CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
            match offer.files.len() == 1 && kind.starts_with("multipart/form-data") {
                true => self.parts(answer).await?,
                false => self.file(answer, file, what).await?,
            }
        }
        Ok(())
    }

    /// Checks the whole, and keeps it.
    pub(super) async fn finish(self, expected: Option<&Fingerprint>) -> Result<ImageInfo, Error> {
        self.import.finish(expected).await.map_err(Error::Store)
    }

    async fn file(&mut self, mut answer: Answer, file: &OfferedFile, what: &'static str) -> Result<(), Error> {
        let total = file.size.or(answer.length());
        self.fits(&answer.url, total.unwrap_or(0))?;
        let mut meter = Meter::new(what, total, self.tell);
        let (mut hash, mut count) = (Sha256::new(), 0u64);
        while let Some(bytes) = answer.chunk().await? {
            count += bytes.len() as u64;
            if file.size.is_some_and(|size| count > size) {
                return Err(Error::broken(
                    &answer.url,
                    format!("is longer than the {} bytes announced", file.size.unwrap_or(0)),
                ));
            }
            self.fits(&answer.url, bytes.len() as u64)?;
            hash.update(&bytes);
            self.import.write(&bytes).await.map_err(Error::Store)?;
            meter.add(bytes.len());
        }
        if let Some(size) = file.size.filter(|size| *size != count) {
            return Err(Error::broken(&answer.url, format!("has {count} bytes, not the {size} announced")));
        }
        let found = basalt_api::token::hex(&hash.finalize());
        if let Some(wanted) = file.sha256.as_ref().filter(|wanted| wanted.as_str() != found) {
            return Err(Error::broken(&answer.url, format!("its sha256 is {found}, not {wanted}")));
        }
        meter.end();
        Ok(())
    }

    /// A split image as other servers export it: metadata and root in one form.
    async fn parts(&mut self, answer: Answer) -> Result<(), Error> {
        let (url, total) = (answer.url.clone(), answer.length());
        self.fits(&url, total.unwrap_or(0))?;
        let mut form = Multipart::from_request(answer.into_request(), &())
            .await
            .map_err(|e| Error::broken(&url, e.body_text()))?;
        let bad = |e: axum::extract::multipart::MultipartError| {
            Error::broken(&url, format!("ended early: {}", e.body_text()))
        };
        let mut meter = Meter::new("rootfs", total, self.tell);
        let mut seen = 0;
        while let Some(mut field) = form.next_field().await.map_err(bad)? {
            match (field.name().unwrap_or_default(), seen) {
                ("metadata", 0) => {}
                ("rootfs" | "rootfs.img", 1) => self.import.start_rootfs().await.map_err(Error::Store)?,
                (other, _) => return Err(Error::broken(&url, format!("sends a part {other:?} where none belongs"))),
            }
            seen += 1;
            while let Some(bytes) = field.chunk().await.map_err(bad)? {
                self.fits(&url, bytes.len() as u64)?;
                self.import.write(&bytes).await.map_err(Error::Store)?;
                meter.add(bytes.len());
            }
        }
        meter.end();
        Ok(())
    }

    fn fits(&self, url: &Url, more: u64) -> Result<(), Error> {
        match self.import.size().saturating_add(more) <= self.limit {
            true => Ok(()),
            false => {
                Err(Error::refused(url, format!("is larger than images.remote_size_limit ({} bytes)", self.limit)))
            }
        }
    }
}
