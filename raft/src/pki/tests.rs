use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::NodeIdentity;

fn name(text: &str) -> MemberName {
    MemberName::new(text).unwrap()
}

fn secrets() -> Secrets {
    make_secrets(uuid::Uuid::new_v4(), &["10.0.0.1".into(), "cluster.example".into()]).unwrap()
}

fn identity(secrets: &Secrets, id: u64, days: (i64, i64)) -> NodeIdentity {
    let request = node_request(&name("a")).unwrap();
    let now = OffsetDateTime::now_utc();
    let validity = (now + Duration::days(days.0), now + Duration::days(days.1));
    let certificate = sign_node_for(secrets, &request.csr, (NodeId(id), &name("a")), validity).unwrap();
    NodeIdentity {
        node_id: NodeId(id),
        cluster_id: uuid::Uuid::nil(),
        key: request.key,
        certificate,
        ca_certificate: secrets.ca_certificate.clone(),
    }
}

fn good(secrets: &Secrets, id: u64) -> NodeIdentity {
    identity(secrets, id, (-1, 1))
}

/// A handshake and a byte each way, with these settings; the fingerprint that the server saw.
async fn meet(
    server: &NodeIdentity,
    client: Arc<rustls::ClientConfig>,
    dialled: u64,
) -> Result<Option<Fingerprint>, std::io::Error> {
    let acceptor = TlsAcceptor::from(tls::server_config(server).unwrap());
    let (near, far) = tokio::io::duplex(64 << 10);
    let serve = async {
        let mut stream = acceptor.accept(far).await?;
        stream.write_all(b"!").await?;
        stream.read_u8().await?;
        Ok(tls::peer_fingerprint(stream.get_ref().1.peer_certificates()))
    };
    let dial = async {
        let mut stream = TlsConnector::from(client).connect(node_server_name(NodeId(dialled)), near).await?;
        stream.read_u8().await?;
        stream.write_all(b"!").await?;
        Ok::<_, std::io::Error>(())
    };
    let (served, dialled) = tokio::join!(serve, dial);
    dialled?;
    served
}

#[tokio::test]
async fn members_of_one_cluster_meet() {
    let secrets = secrets();
    let (a, b) = (good(&secrets, 1), good(&secrets, 2));
    let seen = meet(&a, tls::client_config(&b).unwrap(), 1).await.unwrap();
    assert_eq!(seen, Some(fingerprint(&b.certificate).unwrap()));
}

#[tokio::test]
async fn strangers_are_refused_on_both_sides() {
    let (ours, theirs) = (secrets(), secrets());
    let (a, foreign) = (good(&ours, 1), good(&theirs, 2));
    meet(&a, tls::client_config(&foreign).unwrap(), 1).await.unwrap_err();
    // A stranger that trusts our CA, so that only our server can refuse it.
    let trusting = NodeIdentity { ca_certificate: ours.ca_certificate.clone(), ..foreign.clone() };
    meet(&a, tls::client_config(&trusting).unwrap(), 1).await.unwrap_err();
    let trusting = NodeIdentity { ca_certificate: ours.ca_certificate.clone(), ..foreign };
    meet(&trusting, tls::client_config(&a).unwrap(), 2).await.unwrap_err();
}

#[tokio::test]
async fn expired_not_yet_valid_and_wrong_names_are_refused() {
    let secrets = secrets();
    let a = good(&secrets, 1);
    for days in [(-10, -1), (1, 10)] {
        let other = identity(&secrets, 2, days);
        meet(&a, tls::client_config(&other).unwrap(), 1).await.unwrap_err();
        meet(&other, tls::client_config(&a).unwrap(), 2).await.unwrap_err();
    }
    // Whoever answers must be the node that was meant.
    meet(&a, tls::client_config(&good(&secrets, 2)).unwrap(), 3).await.unwrap_err();
}

#[tokio::test]
async fn no_certificate_and_old_tls_are_refused() {
    let secrets = secrets();
    let a = good(&secrets, 1);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate(&secrets.ca_certificate, "ca").unwrap()).unwrap();
    let roots = Arc::new(roots);
    let builder = |versions: &[&'static rustls::SupportedProtocolVersion]| {
        rustls::ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(Arc::clone(&roots))
    };
    let nobody = builder(&[&rustls::version::TLS13]).with_no_client_auth();
    meet(&a, Arc::new(nobody), 1).await.unwrap_err();
    let b = good(&secrets, 2);
    let chain = vec![certificate(&b.certificate, "b").unwrap()];
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(b.key.as_bytes()).unwrap();
    let old = builder(&[&rustls::version::TLS12]).with_client_auth_cert(chain, key).unwrap();
    meet(&a, Arc::new(old), 1).await.unwrap_err();
}

#[test]
fn the_api_certificate_has_names_and_one_use() {
    let secrets = make_secrets(uuid::Uuid::new_v4(), &["10.0.0.1".into()]).unwrap();
    let der = certificate(&secrets.api_certificate, "api").unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    let names = &parsed.subject_alternative_name().unwrap().unwrap().value.general_names;
    let dns = names.iter().filter(|n| matches!(n, x509_parser::extensions::GeneralName::DNSName(_))).count();
    assert!(dns >= 1, "Go's clients need a DNS name: {names:?}");
    assert_eq!(names.len(), 2);
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth);
    assert!(!parsed.is_ca());
    let years = (parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp()) / 86_400 / 365;
    assert!(years >= 10, "{years}");
}

#[test]
fn a_request_cannot_choose_its_names() {
    let secrets = secrets();
    let key = new_key("test").unwrap();
    let wanted = params(vec![node_dns(NodeId(1)), "evil.example".into()], "root").unwrap();
    let csr = wanted.serialize_request(&key).unwrap().pem().unwrap();
    let signed = sign_node(&secrets, &csr, NodeId(7), &name("g")).unwrap();
    let der = certificate(&signed, "signed").unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    let names = &parsed.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names.len(), 1);
    assert!(format!("{names:?}").contains("node-7.basalt.internal"), "{names:?}");
    assert!(!parsed.is_ca());
    assert!(sign_node(&secrets, "nonsense", NodeId(7), &name("g")).is_err());
}

#[test]
fn keys_are_private_on_disk_and_in_logs() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::TempDir::new().unwrap();
    let made = good(&secrets(), 3);
    let dir = dir.path().join("identity");
    assert_eq!(NodeIdentity::load(&dir).unwrap(), None);
    made.store(&dir).unwrap();
    assert_eq!(NodeIdentity::load(&dir).unwrap(), Some(made.clone()));
    for file in std::fs::read_dir(&dir).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(!format!("{made:?}").contains("PRIVATE"));
}
