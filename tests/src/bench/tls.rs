//! A client that makes a new mutual TLS connection for each request.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, Stream};

/// A client with a certificate of its own.
#[derive(Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    certificate: CertificateDer<'static>,
}

impl Client {
    /// # Errors
    /// When no certificate can be made.
    pub fn new() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(["bench".to_owned()]).context("make a certificate")?;
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_client_auth_cert(vec![certificate.clone()], key)
            .context("use the certificate")?;
        config.resumption = Resumption::disabled();
        Ok(Client { config: Arc::new(config), certificate })
    }

    /// As `POST /1.0/certificates` takes it.
    pub fn certificate(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(&self.certificate)
    }

    /// Connects, asks for `GET /1.0` and reads the answer, which must be the one for a trusted client.
    ///
    /// # Errors
    /// When it is not, or none comes.
    pub fn get_server(&self, address: &str) -> Result<()> {
        let mut tcp = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
        let name = ServerName::try_from("bench").context("a name")?;
        let mut connection = ClientConnection::new(Arc::clone(&self.config), name).context("a connection")?;
        let mut tls = Stream::new(&mut connection, &mut tcp);
        tls.write_all(b"GET /1.0 HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        // Some servers end the TCP connection without ending TLS first.
        if let Err(error) = tls.read_to_end(&mut answer)
            && error.kind() != std::io::ErrorKind::UnexpectedEof
        {
            return Err(error).context("read the answer");
        }
        let text = String::from_utf8_lossy(&answer);
        ensure!(text.starts_with("HTTP/1.1 200"), "GET /1.0: {}", text.lines().next().unwrap_or_default());
        ensure!(text.contains("\"auth\":\"trusted\""), "the client is not trusted");
        Ok(())
    }
}

/// Both servers have certificates of their own making; what is measured is the handshake.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
