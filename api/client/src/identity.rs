//! Who this client is: a certificate and its key. Members know a client by the SHA-256 of its certificate.

use std::io::{self, Write};
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{Error, Result};
use crate::tls;

const CERTIFICATE: &str = "client.crt";
const KEY: &str = "client.key";

/// A client certificate with its private key.
pub struct Identity {
    certificate_pem: String,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            certificate_pem: self.certificate_pem.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl Identity {
    /// Reads a certificate and its key, both PEM.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|e| Error::Invalid(format!("client certificate: {e}")))?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|e| Error::Invalid(format!("client key: {e}")))?;
        Ok(Self { certificate_pem: certificate_pem.to_owned(), certificate, key })
    }

    /// Makes a new self-signed P-256 certificate for `name`, and its key as PEM beside it.
    pub fn generate(name: &str) -> Result<(Self, String)> {
        let made = generate(name).map_err(|e| Error::Invalid(format!("client certificate for {name:?}: {e}")))?;
        Ok((Self::from_pem(&made.0, &made.1)?, made.1))
    }

    /// Loads `client.crt` and `client.key` of `folder`, making them first when there are none.
    pub fn load_or_generate(folder: &Path, name: &str) -> Result<Self> {
        let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
        match read(&certificate) {
            Ok(pem) => Self::from_pem(&pem, &read(&key).map_err(|e| at("read", &key, e))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (identity, key_pem) = Self::generate(name)?;
                std::fs::create_dir_all(folder).map_err(|e| at("create", folder, e))?;
                // The key first: a certificate without its key would be taken for a complete pair next time.
                write_private(&key, &key_pem).map_err(|e| at("write", &key, e))?;
                write_private(&certificate, &identity.certificate_pem).map_err(|e| at("write", &certificate, e))?;
                Ok(identity)
            }
            Err(error) => Err(at("read", &certificate, error)),
        }
    }

    /// Lower-case hex SHA-256 of the certificate.
    pub fn fingerprint(&self) -> String {
        tls::fingerprint(&self.certificate)
    }

    /// The certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

fn read(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path)
}

fn at(verb: &str, path: &Path, source: io::Error) -> Error {
    Error::Io { doing: format!("{verb} {}", path.display()), source }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn generate(name: &str) -> Result<(String, String), rcgen::Error> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "Basalt client");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let now = time::OffsetDateTime::now_utc();
    // A day back, for members whose clock is a little behind ours.
    params.not_before = now - time::Duration::days(1);
    params.not_after = now + time::Duration::days(3650);
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_load_gives_the_same_certificate() {
        let folder = std::env::temp_dir().join(format!("basalt-identity-{}", uuid::Uuid::new_v4()));
        let first = Identity::load_or_generate(&folder, "me").unwrap();
        let second = Identity::load_or_generate(&folder, "other").unwrap();
        assert_eq!(first.fingerprint(), second.fingerprint());
        assert_eq!(first.fingerprint().len(), 64);
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(folder.join(KEY)).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
