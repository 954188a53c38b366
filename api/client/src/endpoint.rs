//! Where a member is reached, and opening one byte stream to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::tls;

/// Longest wait for a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
const DEFAULT_PORT: u16 = 8443;

/// Any byte stream to a member.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The way to a member.
#[derive(Clone)]
pub(crate) enum Endpoint {
    Unix(PathBuf),
    Https { address: Address, tls: Arc<ClientConfig> },
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Https { address, .. } => write!(f, "https://{address}"),
        }
    }
}

impl Endpoint {
    pub(crate) fn unix(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }

    pub(crate) fn https(address: &str, pin: &str, identity: Option<&Identity>) -> Result<Self> {
        Ok(Self::Https { address: address.parse()?, tls: Arc::new(tls::pinned(pin, identity)?) })
    }

    /// What goes into the `Host` header.
    pub(crate) fn host(&self) -> String {
        match self {
            Self::Unix(_) => "unix.socket".to_owned(),
            Self::Https { address, .. } => address.to_string(),
        }
    }

    /// Opens a stream, within the connection deadline.
    pub(crate) async fn open(&self) -> Result<Box<dyn Stream>> {
        let opened = match tokio::time::timeout(CONNECT, self.dial()).await {
            Ok(opened) => opened,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        };
        opened.map_err(|source| Error::Connect { target: self.to_string(), source })
    }

    async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Self::Https { address, tls } => Ok(Box::new(dial_tls(address, tls.clone()).await?)),
        }
    }
}

async fn dial_tls(address: &Address, tls: Arc<ClientConfig>) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(address.host.clone())
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e.to_string()))?;
    TlsConnector::from(tls).connect(name, stream).await
}

/// The certificate that `address` serves, unverified: for the user to look at before it is pinned. Returned as PEM.
pub async fn server_certificate(address: &str) -> Result<String> {
    let seen: Arc<Mutex<Option<CertificateDer<'static>>>> = Arc::default();
    let endpoint = Endpoint::Https { address: address.parse()?, tls: Arc::new(tls::observing(seen.clone())?) };
    endpoint.open().await?;
    let certificate = seen.lock().expect("nothing panics while it is held").take();
    certificate
        .map(|certificate| pem(&certificate))
        .ok_or_else(|| Error::protocol(format!("connect to {endpoint}"), "no certificate was served"))
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate.as_ref());
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// Host and port of a public API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    host: String,
    port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl std::str::FromStr for Address {
    type Err = Error;

    /// Accepts `host`, `host:port`, `[v6]:port`, a bare IPv6 address, each with or without `https://` before it.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::Invalid(format!("{text:?} is not an address: give HOST, HOST:PORT or https://HOST:PORT"));
        let rest = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
        let (host, port) = if let Some(inner) = rest.strip_prefix('[') {
            let (host, after) = inner.split_once(']').ok_or_else(bad)?;
            (host, after.strip_prefix(':'))
        } else if rest.parse::<std::net::Ipv6Addr>().is_ok() {
            (rest, None)
        } else {
            rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)))
        };
        let port = port.map_or(Ok(DEFAULT_PORT), str::parse).map_err(|_| bad())?;
        if host.is_empty() || host.contains('/') || host.contains(char::is_whitespace) {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_every_usual_form() {
        for (text, shown) in [
            ("node1", "node1:8443"),
            ("https://10.0.0.1", "10.0.0.1:8443"),
            ("https://10.0.0.1:9443/", "10.0.0.1:9443"),
            ("[fd00::1]:8443", "[fd00::1]:8443"),
            ("fd00::1", "[fd00::1]:8443"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        for bad in ["", "https://", "host:port", "http://x/y", "[fd00::1", "a b"] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_missing_socket_says_what_to_do() {
        let error = match Endpoint::unix(Path::new("/nonexistent/unix.socket")).open().await {
            Ok(_) => panic!("connected to nothing"),
            Err(error) => error,
        };
        assert!(matches!(error, Error::Connect { .. }));
        assert!(error.next_step().unwrap().contains("is basaltd running"));
    }
}
