//! Answers in gzip, for callers that ask for it.
//!
//! Only what is a text and is complete in memory: JSON and metrics. Streams (exports, files, waits, events) pass as they
//! are, and so does what another member has compressed already. On the unix socket bytes cost nothing, and making fewer
//! of them would.

use std::io::Write as _;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue};

use crate::auth::Origin;

/// Smaller bodies fit a packet anyway.
const WORTH_IT: u64 = 1400;
/// Larger ones are compressed beside the threads that serve: it takes milliseconds.
const LONG: usize = 128 * 1024;

/// Whether this caller gets gzip.
pub(crate) fn wanted(origin: Option<&Origin>, headers: &HeaderMap) -> bool {
    !matches!(origin, None | Some(Origin::Unix { .. })) && accepts(headers)
}

fn accepts(headers: &HeaderMap) -> bool {
    let given = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let mut any = None;
    for coding in given {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|p| p.strip_prefix("q=")).map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0));
        match name {
            _ if name.eq_ignore_ascii_case("gzip") => return weight > 0.0,
            "*" => any = Some(weight > 0.0),
            _ => {}
        }
    }
    any.unwrap_or(false)
}

fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    kind.starts_with("application/json") || kind.starts_with("text/plain")
}

/// The answer in gzip, if it is one that is compressed.
pub(crate) async fn encoded(response: Response) -> Response {
    let fits = response.body().size_hint().exact().is_some_and(|size| size >= WORTH_IT);
    if !fits || !is_text(response.headers()) || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    // It is in memory already, whatever its size.
    let Ok(plain) = axum::body::to_bytes(body, usize::MAX).await else {
        return Response::from_parts(head, Body::empty());
    };
    head.headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    let packed = match plain.len() > LONG {
        false => pack(&plain),
        true => {
            let plain = plain.clone();
            tokio::task::spawn_blocking(move || pack(&plain)).await.unwrap_or(None)
        }
    };
    let Some(packed) = packed else { return Response::from_parts(head, Body::from(plain)) };
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Response::from_parts(head, Body::from(packed))
}

/// At the fastest level: lists of objects shrink to a tenth by it, and better ones take several times as long.
fn pack(plain: &Bytes) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::SocketAddr;

    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, value.parse().unwrap());
        headers
    }

    #[test]
    fn asks_are_read_as_the_standard_says() {
        for yes in ["gzip", "deflate, gzip", "gzip;q=0.5", "*", "GZIP", "br;q=1, gzip; q=0.1"] {
            assert!(accepts(&headers(yes)), "{yes}");
        }
        for no in ["", "identity", "gzip;q=0", "gzip;q=0, *", "*;q=0", "br", "gzip;q=x"] {
            assert!(!accepts(&headers(no)), "{no}");
        }
        let remote: SocketAddr = "127.0.0.1:1".parse().unwrap();
        assert!(wanted(Some(&Origin::Tls { certificate: None, remote }), &headers("gzip")));
        assert!(!wanted(Some(&Origin::Unix { user: "root".into() }), &headers("gzip")));
    }

    fn answer(kind: &'static str, body: Body) -> Response {
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }

    #[tokio::test]
    async fn long_texts_shrink_and_come_back_the_same() {
        for size in [5000, 500_000] {
            let text = "[\"instances\",1]".repeat(size / 15);
            let response = encoded(answer("application/json", Body::from(text.clone()))).await;
            assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
            let packed = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
            assert!(packed.len() < text.len() / 10);
            let mut plain = String::new();
            flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut plain).unwrap();
            assert_eq!(plain, text);
        }
    }

    #[tokio::test]
    async fn streams_small_and_other_bodies_are_left_alone() {
        let stream = futures_util::stream::iter(vec![Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 9000]))]);
        let others = [
            answer("application/json", Body::from("{}")),
            answer("application/octet-stream", Body::from(vec![0u8; 9000])),
            answer("application/json", Body::from_stream(stream)),
        ];
        for response in others {
            assert!(!encoded(response).await.headers().contains_key(CONTENT_ENCODING));
        }
    }
}
