//! Over TLS: whom we trust, and who is let in.

use basalt_ovn::Error;
use basalt_ovn::session::{Session, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::bed::{NB, SECOND, Server, insert, names, options, port, run};
use crate::require;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate that names no host, as `ovs-pki` makes them, and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_prove_who_they_are() {
    require!("ovsdb-server", NB);
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let port = port();
    let remotes = [format!("pssl:{port}:127.0.0.1")];
    let server = Server::made(&remotes, |db| drop(run("ovsdb-tool", &["create", db, NB])));
    let (certificate, key) = ours.issue("server");
    let mut args = Vec::new();
    for (option, file, text) in
        [("ca-cert", "ca.pem", ours.pem()), ("certificate", "cert.pem", certificate), ("private-key", "key.pem", key)]
    {
        std::fs::write(server.path(file), text).unwrap();
        args.push(format!("--{option}={}", server.path(file).display()));
    }
    let server = server.with(&args).started().await;
    let connect = |ca: &Authority, client: &Authority| {
        let (certificate, key) = client.issue("client");
        let mut options = options();
        options.tls = Some(Tls::new(&ca.pem(), &certificate, &key).unwrap());
        options.deadline = 3 * SECOND;
        Session::connect(vec![format!("ssl:127.0.0.1:{port}").parse().unwrap()], options).unwrap()
    };
    connect(&ours, &ours).transact(vec![insert("a")]).await.unwrap();
    let error = connect(&foreign, &ours).transact(vec![insert("b")]).await.unwrap_err();
    assert!(matches!(error, Error::NotSent { .. }) && error.to_string().contains("UnknownIssuer"), "{error}");
    let error = connect(&ours, &foreign).transact(vec![insert("c")]).await.unwrap_err();
    assert!(matches!(error, Error::NotSent { .. }), "{error}");
    assert_eq!(names(&server), ["a"]);
}

#[test]
fn wrong_certificates_are_named() {
    let ours = Authority::new("ours");
    let ((certificate, key), (_, other)) = (ours.issue("a"), ours.issue("b"));
    let why = |ca: &str, certificate: &str, key: &str| Tls::new(ca, certificate, key).unwrap_err().to_string();
    assert!(Tls::new(&ours.pem(), &certificate, &key).is_ok());
    assert!(why("", &certificate, &key).starts_with("CA certificate: "));
    assert!(why(&ours.pem(), "x", &key).starts_with("client certificate: "));
    assert!(why(&ours.pem(), &certificate, &certificate).starts_with("client key: "));
    assert!(why(&ours.pem(), &certificate, &other).starts_with("client certificate and key: "));
    let remote = || vec!["ssl:127.0.0.1:1".parse().unwrap()];
    let error = Session::connect(remote(), options()).unwrap_err().to_string();
    assert!(error.contains("no certificates for TLS"), "{error}");
    assert!(Session::connect(Vec::new(), options()).is_err());
}
