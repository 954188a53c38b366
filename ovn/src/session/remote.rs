//! Where a database is, and the stream to it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::tls::Tls;
use crate::Error;

/// One place where a database can be reached: `unix:PATH`, `tcp:HOST:PORT` or `ssl:HOST:PORT`, as the tools of Open
/// vSwitch write it; an IPv6 address stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// A socket of this host.
    Unix(PathBuf),
    /// In the clear.
    Tcp(Endpoint),
    /// With TLS.
    Ssl(Endpoint),
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Remote {
    /// Several, separated by commas.
    ///
    /// # Errors
    /// None is there, or one is not understood.
    pub fn list(text: &str) -> Result<Vec<Self>, Error> {
        let all: Vec<Self> =
            text.split(',').map(str::trim).filter(|r| !r.is_empty()).map(str::parse).collect::<Result<_, _>>()?;
        match all.is_empty() {
            true => Err(Error::invalid("remotes", "none is given")),
            false => Ok(all),
        }
    }

    /// Connects.
    pub(super) async fn dial(&self, tls: Option<&Tls>) -> io::Result<Box<dyn Stream>> {
        match self {
            Remote::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Remote::Tcp(to) => Ok(Box::new(to.dial().await?)),
            Remote::Ssl(to) => {
                let tls = tls.ok_or_else(|| io::Error::other("no certificates for TLS are given"))?;
                // Whom we talk to is decided by the pinned authority; the name only fills the handshake.
                let name = ServerName::try_from(to.host.clone())
                    .or_else(|_| ServerName::try_from("ovsdb"))
                    .map_err(io::Error::other)?;
                let stream = TlsConnector::from(tls.config()).connect(name, to.dial().await?).await?;
                Ok(Box::new(stream))
            }
        }
    }
}

impl Endpoint {
    async fn dial(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// What a link runs over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl FromStr for Remote {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |mistake: &str| Error::invalid(format!("remote {text:?}"), mistake);
        match text.split_once(':') {
            Some(("unix", "")) => Err(wrong("the path is missing")),
            Some(("unix", path)) => Ok(Remote::Unix(path.into())),
            Some(("tcp", to)) => Endpoint::parse(to).map(Remote::Tcp).ok_or_else(|| wrong(ENDPOINT)),
            Some(("ssl", to)) => Endpoint::parse(to).map(Remote::Ssl).ok_or_else(|| wrong(ENDPOINT)),
            Some(_) | None => Err(wrong("it is none of unix:PATH, tcp:HOST:PORT, ssl:HOST:PORT")),
        }
    }
}

const ENDPOINT: &str = "expected HOST:PORT, with brackets around an IPv6 address and a port from 1 to 65535";

impl Endpoint {
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once("]:").filter(|(host, _)| host.parse::<std::net::Ipv6Addr>().is_ok())?,
            None => text.rsplit_once(':').filter(|(host, _)| !host.contains(':'))?,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        let port = port.parse().ok().filter(|p| *p != 0)?;
        (!host.is_empty() && host.chars().all(plain)).then(|| Endpoint { host: host.to_owned(), port })
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remote::Unix(path) => write!(f, "unix:{}", path.display()),
            Remote::Tcp(to) => write!(f, "tcp:{to}"),
            Remote::Ssl(to) => write!(f, "ssl:{to}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_are_read_and_written() {
        for text in ["unix:/run/ovn/ovnnb_db.sock", "tcp:10.0.0.1:6641", "ssl:[fd00::1]:6641", "ssl:central-1.lab:6641"]
        {
            assert_eq!(text.parse::<Remote>().unwrap().to_string(), text);
        }
        assert_eq!(Remote::list("tcp:a:1, tcp:b:2,").unwrap().len(), 2);
    }

    #[test]
    fn mistakes_name_the_remote() {
        for text in [
            "",
            "unix:",
            "tcp:10.0.0.1",
            "tcp:10.0.0.1:0",
            "tcp:10.0.0.1:66666",
            "tcp::1",
            "tcp:fd00::1:6641",
            "ssl:[x]:1",
            "http://a",
            "tcp:a b:1",
            "/run/x.sock",
        ] {
            let error = text.parse::<Remote>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
        assert!(Remote::list(" ,").is_err());
    }
}
