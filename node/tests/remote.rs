//! Image servers, good and bad, over real TLS on loopback: what is pulled is what was promised, or nothing is left.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use basalt_api::port::PortError;
use basalt_api::port::remote::{Offer, RemoteImage, Remotes};
use basalt_model::command::{ClusterCommand, Init};
use basalt_model::image::{Format, Image, Protocol, UpdateSource};
use basalt_model::member::{Announcement, Duty, Health, Member};
use basalt_model::{Command, Fingerprint, MemberName, NodeId, Timestamp};
use basalt_node::agent::{Fetch, ImageShelf};
use basalt_node::remote::NodeRemotes;
use basalt_raft::testing::LocalCluster;
use basalt_storage::image::ImageStore;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[derive(Debug)]
struct NoFetch;

#[async_trait::async_trait]
impl Fetch for NoFetch {
    async fn fetch(&self, _: &Image, _: NodeId, _: &ImageStore) -> Result<(), String> {
        Err("this test has no other member".into())
    }
}

fn sha(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    basalt_api::token::hex(&hash.finalize())
}

fn targz(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

const YAML: &[u8] = b"architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: Tiny\n";

/// Metadata and root of a small image; `filler` makes it another one.
fn split(filler: &str) -> (Vec<u8>, Vec<u8>) {
    (targz(&[("metadata.yaml", YAML)]), targz(&[("etc/hostname", filler.as_bytes())]))
}

#[derive(Clone)]
enum Answer {
    Body(Vec<u8>, Vec<(&'static str, String)>),
    /// Says that it is longer than it is.
    CutOff(Vec<u8>),
    Endless,
    Redirect(String),
    Code(u16),
}

fn body(bytes: impl Into<Vec<u8>>) -> Answer {
    Answer::Body(bytes.into(), Vec::new())
}

/// A TLS server of fixed answers.
struct Server {
    port: u16,
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
    asked: Arc<AtomicUsize>,
    ca: PathBuf,
    certificate: String,
    _dir: tempfile::TempDir,
    _task: basalt_runtime::Task<()>,
}

impl Server {
    async fn start() -> Server {
        let dir = tempfile::tempdir().unwrap();
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = rcgen::CertifiedIssuer::self_signed(params, ca_key).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, issuer.pem()).unwrap();
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers: Arc<Mutex<BTreeMap<String, Answer>>> = Arc::default();
        let asked = Arc::new(AtomicUsize::new(0));
        let (table, count) = (answers.clone(), asked.clone());
        let task = basalt_runtime::spawn("test server", async move {
            let mut connections = Vec::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, table, count) = (acceptor.clone(), table.clone(), count.clone());
                connections.push(basalt_runtime::spawn("test connection", async move {
                    let Ok(mut stream) = acceptor.accept(tcp).await else { return };
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    let head = String::from_utf8(head).unwrap();
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    let answer = table.lock().unwrap().get(&path).cloned().unwrap_or(Answer::Code(404));
                    let _ = write(&mut stream, answer, head.starts_with("HEAD")).await;
                    let _ = stream.shutdown().await;
                }));
            }
        });
        Server { port, answers, asked, ca, certificate: leaf.pem(), _dir: dir, _task: task }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    fn put(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// Serves a split image as `tiny`; gives its fingerprint.
    fn streams(&self, filler: &str, size: u64) -> String {
        let (meta, root) = split(filler);
        let fingerprint = sha(&[&meta, &root]);
        self.product(&meta, &root, &fingerprint, size);
        fingerprint
    }

    fn product(&self, meta: &[u8], root: &[u8], fingerprint: &str, size: u64) {
        self.put(
            "/streams/v1/index.json",
            body(r#"{"index": {"images": {"datatype": "image-downloads", "path": "streams/v1/images.json"}}}"#),
        );
        let size = if size == 0 { root.len() as u64 } else { size };
        let product = format!(
            r#"{{"products": {{"tiny": {{"aliases": "tiny", "arch": "amd64", "os": "Tiny", "release": "1", "versions": {{"1": {{"items": {{
            "lxd.tar.xz": {{"ftype": "lxd.tar.xz", "path": "meta", "size": {}, "sha256": "{}", "combined_rootxz_sha256": "{fingerprint}"}},
            "root.tar.xz": {{"ftype": "root.tar.xz", "path": "root", "size": {size}, "sha256": "{}"}} }} }} }} }} }} }}"#,
            meta.len(),
            sha(&[meta]),
            sha(&[root]),
        );
        self.put("/streams/v1/images.json", body(product));
        self.put("/meta", body(meta));
        self.put("/root", body(root));
    }
}

async fn write(stream: &mut (impl AsyncWriteExt + Unpin), answer: Answer, head_only: bool) -> std::io::Result<()> {
    match answer {
        Answer::Body(bytes, headers) => {
            let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{more}\r\n", bytes.len());
            stream.write_all(head.as_bytes()).await?;
            if !head_only {
                stream.write_all(&bytes).await?;
            }
            stream.flush().await
        }
        Answer::CutOff(bytes) => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len() + 1000);
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&bytes).await?;
            stream.flush().await
        }
        Answer::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
            loop {
                stream.write_all(b"10000\r\n").await?;
                stream.write_all(&[b'x'; 0x10000]).await?;
                stream.write_all(b"\r\n").await?;
            }
        }
        Answer::Redirect(to) => {
            let head = format!("HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {to}\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            stream.flush().await
        }
        Answer::Code(code) => {
            stream.write_all(format!("HTTP/1.1 {code} X\r\nContent-Length: 0\r\n\r\n").as_bytes()).await?;
            stream.flush().await
        }
    }
}

fn init() -> Init {
    let announced = Announcement { feature_level: 2, architecture: "x86_64".into(), ..Announcement::default() };
    let member = Member {
        id: NodeId(1),
        name: MemberName::new("node1").unwrap(),
        certificate: Fingerprint::new("0".repeat(64)).unwrap(),
        certificate_pem: String::new(),
        joined_at: Timestamp(1),
        redeemed: None,
        awaited: false,
        duty: Duty::Active,
        order: None,
        health: Health::Online,
        failure_domain: String::new(),
        description: String::new(),
        groups: Default::default(),
        roles: Default::default(),
        config: Default::default(),
        announced,
    };
    Init { cluster_id: uuid::Uuid::new_v4(), secrets: Default::default(), member, at: Timestamp(1) }
}

/// A node's side of it.
struct Host {
    cluster: Arc<LocalCluster>,
    remotes: NodeRemotes,
    dir: tempfile::TempDir,
}

impl Host {
    fn new(server: &Server) -> Host {
        let cluster = LocalCluster::begun(init());
        let dir = tempfile::tempdir().unwrap();
        let shelf = Arc::new(ImageShelf::new(ImageStore::new(dir.path()), Arc::new(NoFetch)));
        let remotes = NodeRemotes::new(cluster.clone(), shelf, Some(server.ca.clone()));
        let host = Host { cluster, remotes, dir };
        host.set("images.remote_allowed_addresses", "127.0.0.0/8");
        host
    }

    fn set(&self, key: &str, value: &str) {
        let set = [(key.to_owned(), Some(value.to_owned()))].into_iter().collect();
        self.cluster.apply(&Command::Cluster(ClusterCommand::SetConfig { set, expect: None })).unwrap();
    }

    async fn pull(&self, wanted: &RemoteImage) -> Result<(Offer, basalt_api::port::ImageFacts), PortError> {
        let offer = self.remotes.look(wanted).await?;
        let facts = self.remotes.pull(wanted, &offer, &|_| {}).await?;
        Ok((offer, facts))
    }

    async fn fails(&self, wanted: &RemoteImage) -> String {
        let error = self.pull(wanted).await.unwrap_err().to_string();
        assert_eq!(self.files(), Vec::<String>::new(), "{error}");
        error
    }

    /// What lies in the store.
    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|f| f.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn wanted(protocol: Protocol, server: &str, name: &str) -> RemoteImage {
    let source = UpdateSource {
        server: server.into(),
        protocol,
        certificate: String::new(),
        alias: name.into(),
        kind: None,
        project: String::new(),
    };
    RemoteImage { source, name: name.into(), secret: String::new() }
}

fn tiny(server: &Server) -> RemoteImage {
    wanted(Protocol::Simplestreams, &server.url(), "tiny")
}

#[tokio::test]
async fn simplestreams_whole_and_verified() {
    let server = Server::start().await;
    let host = Host::new(&server);
    let fingerprint = server.streams("one", 0);
    let told = Mutex::new(Vec::new());
    let offer = host.remotes.look(&tiny(&server)).await.unwrap();
    assert_eq!(offer.fingerprint.as_ref().unwrap().as_str(), fingerprint);
    assert_eq!(offer.properties["serial"], "1");
    let facts = host.remotes.pull(&tiny(&server), &offer, &|text| told.lock().unwrap().push(text)).await.unwrap();
    assert_eq!((facts.fingerprint.as_str(), facts.format), (fingerprint.as_str(), Format::Split));
    assert_eq!(facts.properties["os"], "Tiny");
    assert_eq!(host.files(), [fingerprint.clone(), format!("{fingerprint}.rootfs")]);
    let told = told.into_inner().unwrap();
    assert!(
        told.iter().any(|t| t.starts_with("metadata: 100% (")) && told.iter().any(|t| t.starts_with("rootfs: 100% (")),
        "{told:?}"
    );
    let missing = host.pull(&wanted(Protocol::Simplestreams, &server.url(), "huge")).await.unwrap_err();
    assert!(matches!(&missing, PortError::NotFound(text) if text.contains("\"huge\"")), "{missing}");
}

#[tokio::test]
async fn what_is_not_as_promised_leaves_no_trace() {
    let server = Server::start().await;
    let host = Host::new(&server);
    let (meta, root) = split("one");
    let good = || server.streams("one", 0);
    let says = |error: String, what: &str| assert!(error.contains(what), "{what}: {error}");

    good();
    let mut other = root.clone();
    *other.last_mut().unwrap() ^= 1;
    server.put("/root", body(other));
    says(host.fails(&tiny(&server)).await, "sha256");
    server.put("/root", body(&root[..root.len() - 3]));
    says(host.fails(&tiny(&server)).await, "announced");
    server.put("/root", Answer::CutOff(root.clone()));
    says(host.fails(&tiny(&server)).await, "ended early");
    server.put("/root", Answer::Endless);
    says(host.fails(&tiny(&server)).await, "longer than");
    server.put("/root", Answer::Code(500));
    says(host.fails(&tiny(&server)).await, "answered 500");
    server.put("/root", Answer::Code(404));
    says(host.fails(&tiny(&server)).await, "is offered, and missing");

    // Each file as announced, and yet another image than the fingerprint says.
    server.product(&meta, &root, &"a".repeat(64), 0);
    says(host.fails(&tiny(&server)).await, "fingerprint");
    // Right in every hash, and no image.
    server.product(b"nonsense", &root, &sha(&[b"nonsense", &root]), 0);
    says(host.fails(&tiny(&server)).await, "image");
    for index in ["{", "[]", r#"{"index": {"a": {"datatype": "image-downloads", "path": "../../etc/passwd"}}}"#] {
        server.put("/streams/v1/index.json", body(index));
        host.fails(&tiny(&server)).await;
    }
    server.put("/streams/v1/index.json", Answer::Endless);
    says(host.fails(&tiny(&server)).await, "larger than");
}

#[tokio::test]
async fn too_large_is_refused_before_and_during() {
    let server = Server::start().await;
    let host = Host::new(&server);
    host.set("images.remote_size_limit", "1MiB");
    server.streams("one", 2 << 20);
    let before = server.asked.load(Ordering::SeqCst);
    assert!(host.fails(&tiny(&server)).await.contains("images.remote_size_limit"));
    assert!(server.asked.load(Ordering::SeqCst) <= before + 4);
    server.put("/image", Answer::Endless);
    let image = wanted(Protocol::Direct, &format!("{}/image", server.url()), "");
    assert!(host.fails(&image).await.contains("images.remote_size_limit"));
}

#[tokio::test]
async fn redirects_are_few_and_go_nowhere_near() {
    let server = Server::start().await;
    let host = Host::new(&server);
    let whole = targz(&[("metadata.yaml", YAML), ("rootfs/etc/hostname", b"x")]);
    server.put("/image", body(whole.clone()));
    server.put("/moved", Answer::Redirect("/image".into()));
    server.put("/loop", Answer::Redirect(format!("{}/loop", server.url())));
    server.put("/plain", Answer::Redirect("http://127.0.0.1/".into()));
    server.put("/metadata", Answer::Redirect("https://169.254.169.254/latest/meta-data".into()));
    server.put("/file", Answer::Redirect("file:///etc/passwd".into()));
    let direct = |path: &str| wanted(Protocol::Direct, &format!("{}{path}", server.url()), "");
    let error = host.fails(&direct("/loop")).await;
    assert!(error.contains("redirects"), "{error}");
    for (path, why) in [("/plain", "https"), ("/metadata", "link-local"), ("/file", "https")] {
        let error = host.fails(&direct(path)).await;
        assert!(error.contains(why), "{path}: {error}");
    }
    let (_, facts) = host.pull(&direct("/moved")).await.unwrap();
    assert_eq!((facts.fingerprint.to_string(), facts.format), (sha(&[&whole]), Format::Unified));
}

#[tokio::test]
async fn addresses_that_are_near_need_the_operators_word() {
    let server = Server::start().await;
    let host = Host::new(&server);
    server.streams("one", 0);
    host.set("images.remote_allowed_addresses", "");
    let before = server.asked.load(Ordering::SeqCst);
    let error = host.fails(&tiny(&server)).await;
    assert!(error.contains("loopback") && error.contains("images.remote_allowed_addresses"), "{error}");
    let named = wanted(Protocol::Simplestreams, &format!("https://localhost:{}", server.port), "tiny");
    assert!(host.fails(&named).await.contains("loopback"), "a name that leads there is no better");
    assert_eq!(server.asked.load(Ordering::SeqCst), before, "it was never connected to");
    for bad in [
        "https://127.0.0.1",
        "https://[::1]/",
        "https://[fe80::1]",
        "https://169.254.169.254/x",
        "http://h",
        "https://u@h",
    ] {
        assert!(host.remotes.check(bad).is_err(), "{bad}");
    }
    assert!(host.remotes.check("https://images.example").is_ok());
}

#[tokio::test]
async fn one_url_with_and_without_a_hash() {
    let server = Server::start().await;
    let host = Host::new(&server);
    let whole = targz(&[("metadata.yaml", YAML), ("rootfs/etc/hostname", b"x")]);
    let fingerprint = sha(&[&whole]);
    server.put("/image", body(whole));
    let at = |hash: &str| {
        let headers = vec![("LXD-Image-Hash", hash.to_owned()), ("LXD-Image-URL", format!("{}/image", server.url()))];
        Answer::Body(Vec::new(), headers)
    };
    server.put("/about", at(&"b".repeat(64)));
    let about = wanted(Protocol::Direct, &format!("{}/about", server.url()), "");
    assert!(host.fails(&about).await.contains("fingerprint"));
    server.put("/about", at(&fingerprint));
    let asked = RemoteImage { name: "c".repeat(64), ..about.clone() };
    assert!(host.fails(&asked).await.contains("offers image"));
    let (offer, facts) = host.pull(&about).await.unwrap();
    assert_eq!(
        (offer.fingerprint.unwrap().to_string(), facts.fingerprint.to_string()),
        (fingerprint.clone(), fingerprint)
    );
    assert_eq!(offer.filename, "image");
}

#[tokio::test]
async fn another_server_pinned_by_its_certificate() {
    let server = Server::start().await;
    let host = Host::new(&server);
    let (meta, root) = split("one");
    let fingerprint = sha(&[&meta, &root]);
    let envelope = |metadata: String| body(format!(r#"{{"type":"sync","status_code":200,"metadata":{metadata}}}"#));
    server.put("/1.0/images/aliases/tiny%2F1", envelope(format!(r#"{{"name":"tiny/1","target":"{fingerprint}"}}"#)));
    server.put(
        &format!("/1.0/images/{fingerprint}?secret=s%201"),
        envelope(format!(r#"{{"fingerprint":"{fingerprint}","filename":"a/t.tar","properties":{{"os":"T"}},"expires_at":"2030-01-01T00:00:00Z"}}"#)),
    );
    let mut form = Vec::new();
    for (name, bytes) in [("metadata", &meta), ("rootfs", &root)] {
        form.extend_from_slice(
            format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"f\"\r\n\r\n").as_bytes(),
        );
        form.extend_from_slice(bytes);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(b"--B--\r\n");
    let export = format!("/1.0/images/{fingerprint}/export?secret=s%201");
    let multipart = || vec![("Content-Type", "multipart/form-data; boundary=B".to_owned())];
    server.put(&export, Answer::Body(form.clone(), multipart()));
    let mut image = wanted(Protocol::Incus, &server.url(), "tiny/1");
    image.secret = "s 1".into();
    image.source.certificate = server.certificate.clone();
    let (offer, facts) = host.pull(&image).await.unwrap();
    assert_eq!((facts.fingerprint.to_string(), facts.format), (fingerprint.clone(), Format::Split));
    assert_eq!((offer.filename.as_str(), offer.properties["os"].as_str()), ("t.tar", "T"));
    for file in host.files() {
        std::fs::remove_file(host.dir.path().join(file)).unwrap();
    }

    // A split image that is cut in the middle, one that is another's, and a server with another certificate.
    server.put(&export, Answer::Body(form[..form.len() / 2].to_vec(), multipart()));
    host.fails(&image).await;
    let at = form.windows(meta.len()).position(|w| w == meta).unwrap();
    form[at + meta.len() - 5] ^= 1;
    server.put(&export, Answer::Body(form, multipart()));
    assert!(host.fails(&image).await.contains("fingerprint"));
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    image.source.certificate = other.cert.pem();
    assert!(host.fails(&image).await.contains("certificate"));
    image.source.certificate = "nonsense".into();
    host.fails(&image).await;
}
