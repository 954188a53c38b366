//! The ports of a node, in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use basalt_api::dto::acl::LogEntry;
use basalt_api::dto::diagnosis::{Finding, Host, Trace};
use basalt_api::dto::image_metadata::ImageMetadata;
use basalt_api::port::files::{
    FileAttributes, FileEntry, FileError, FileKind, Files, OpenDir, OpenFile, OpenOptions, SetAttributes,
};
use basalt_api::port::parts::ImageParts;
use basalt_api::port::remote::{Offer, PushTarget, RemoteImage, Remotes, Tell};
use basalt_api::port::sight::{Checked, Question, Seen, Sight};
use basalt_api::port::{
    Bootstrap, HostFacts, ImageFacts, ImageFiles, ImageUpload, Images, JoinTicket, LiveState, Membership, Peers,
    PortError, Publish, Telemetry,
};
use basalt_api::token;
use basalt_api::{Origin, PeerCertificate};
use basalt_model::command::{ClusterCommand, Init, MemberCommand};
use basalt_model::image::{Format, Image};
use basalt_model::instance::Kind;
use basalt_model::network::Network;
use basalt_model::secrets::Secrets;
use basalt_model::{Cluster, Command, Fingerprint, InstanceId, Mac, NetworkName, NodeId, StateView, Timestamp};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tower::ServiceExt;

use crate::world::{LocalCluster, member};

/// Sends requests to the routers of other members, over a real HTTP connection in memory, as that member's listener
/// would take them.
#[derive(Debug, Clone, Default)]
pub(crate) struct RouterPeers {
    routers: Arc<Mutex<BTreeMap<NodeId, Router>>>,
    me: NodeId,
}

impl RouterPeers {
    pub(crate) fn of(&self, me: NodeId) -> Self {
        RouterPeers { me, ..self.clone() }
    }

    pub(crate) fn add(&self, node: NodeId, router: Router) {
        self.routers.lock().unwrap().insert(node, router);
    }
}

#[async_trait]
impl Peers for RouterPeers {
    async fn forward(&self, node: NodeId, request: http::Request<Body>) -> Result<http::Response<Body>, PortError> {
        let gone = || PortError::Unavailable(format!("member {node} cannot be reached"));
        let router = self.routers.lock().unwrap().get(&node).cloned().ok_or_else(gone)?;
        let fingerprint = Fingerprint::new(format!("{:064x}", self.me.0)).unwrap();
        let certificate = Arc::new(PeerCertificate { fingerprint, der: Vec::new() });
        let (here, there) = tokio::io::duplex(1 << 16);
        let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let mut request = request.map(Body::new);
            let remote = "127.0.0.1:1".parse().unwrap();
            request.extensions_mut().insert(Origin::Cluster { certificate: certificate.clone(), remote });
            router.clone().oneshot(request)
        });
        tokio::spawn(async move {
            let http = hyper::server::conn::http1::Builder::new();
            http.serve_connection(TokioIo::new(there), service).with_upgrades().await
        });
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(here)).await.map_err(|_| gone())?;
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await.map_err(|_| gone())?;
        Ok(response.map(Body::new))
    }
}

/// What tests say that OVN has made of networks.
#[derive(Debug, Default)]
pub(crate) struct FakeSight {
    pub(crate) looks: AtomicBool,
    pub(crate) seen: Mutex<Seen>,
    pub(crate) checked: Mutex<Vec<Checked>>,
}

#[async_trait]
impl Sight for FakeSight {
    async fn looks(&self) -> bool {
        self.looks.load(Ordering::SeqCst)
    }

    async fn path(&self, _view: &StateView, _network: &Network) -> Seen {
        match self.looks().await {
            true => self.seen.lock().unwrap().clone(),
            false => Seen { lacking: Some("this member knows no southbound database".into()), ..Seen::default() },
        }
    }

    async fn checked(&self, _view: &StateView, _net: &Network, at: &[IpAddr]) -> Result<Vec<Checked>, PortError> {
        let all = self.checked.lock().unwrap();
        Ok(all.iter().filter(|checked| at.contains(&checked.address)).cloned().collect())
    }

    async fn host(&self) -> Host {
        Host { chassis: "ch".into(), ..Host::default() }
    }

    /// One finding for each host.
    async fn diagnose(&self, _network: &Network, hosts: &BTreeMap<String, Host>) -> Vec<Finding> {
        let finding = |(name, host): (&String, &Host)| Finding {
            severity: if host.lacking.is_empty() { "note" } else { "error" }.into(),
            location: name.clone(),
            what: host.lacking.clone(),
            ..Finding::default()
        };
        hosts.iter().map(finding).collect()
    }

    async fn traces(&self) -> bool {
        self.looks().await
    }

    async fn trace(&self, question: Question) -> Result<Trace, PortError> {
        let end = format!("{:?} to {} from {}", question.payload, question.to, question.names[&question.port]);
        Ok(Trace { outcome: "left".into(), end, raw: "raw".into(), ..Trace::default() })
    }
}

/// Live states that tests set.
#[derive(Debug, Default)]
pub(crate) struct FakeTelemetry(pub(crate) Mutex<BTreeMap<InstanceId, LiveState>>);

#[async_trait]
impl Telemetry for FakeTelemetry {
    async fn live(&self) -> BTreeMap<InstanceId, LiveState> {
        self.0.lock().unwrap().clone()
    }

    async fn measure(&self, id: InstanceId) -> Option<LiveState> {
        self.0.lock().unwrap().get(&id).cloned()
    }

    fn pool_space(&self) -> BTreeMap<String, (u64, u64)> {
        [("default".to_owned(), (60, 100))].into_iter().collect()
    }

    fn load(&self, _node: NodeId) -> Option<basalt_model::port::Load> {
        Some(basalt_model::port::Load { load1: 0.5, memory_available: 1 << 30, ..Default::default() })
    }

    async fn leases(&self, _network: &NetworkName) -> Vec<(Mac, IpAddr, String)> {
        vec![(Mac([0, 0x16, 0x3e, 0, 0, 9]), "10.99.0.9".parse().unwrap(), "c9".into())]
    }

    async fn acl_log(&self, list: u32) -> Result<Vec<LogEntry>, PortError> {
        let entry = |time: &str| LogEntry { time: time.into(), proto: format!("list {list}"), ..LogEntry::default() };
        Ok(vec![entry("2026-01-02T03:04:05.678Z"), entry("2026-01-02T03:04:06.789Z")])
    }
}

/// Parts of images, in memory.
#[derive(Debug, Default)]
pub(crate) struct FakeParts(Mutex<BTreeMap<InstanceId, Parts>>);

/// Metadata, and templates by their names.
type Parts = (ImageMetadata, BTreeMap<String, Vec<u8>>);

impl FakeParts {
    fn with<T>(&self, id: InstanceId, f: impl FnOnce(&mut Parts) -> T) -> T {
        f(self.0.lock().unwrap().entry(id).or_default())
    }
}

#[async_trait]
impl ImageParts for FakeParts {
    async fn metadata(&self, id: InstanceId) -> Result<ImageMetadata, PortError> {
        Ok(self.with(id, |parts| parts.0.clone()))
    }

    async fn set_metadata(&self, id: InstanceId, metadata: ImageMetadata) -> Result<(), PortError> {
        self.with(id, |parts| parts.0 = metadata);
        Ok(())
    }

    async fn templates(&self, id: InstanceId) -> Result<Vec<String>, PortError> {
        Ok(self.with(id, |parts| parts.1.keys().cloned().collect()))
    }

    async fn template(&self, id: InstanceId, name: &str) -> Result<Vec<u8>, PortError> {
        self.with(id, |parts| parts.1.get(name).cloned()).ok_or_else(|| PortError::NotFound("Template".into()))
    }

    async fn set_template(&self, id: InstanceId, name: &str, content: Vec<u8>) -> Result<(), PortError> {
        self.with(id, |parts| parts.1.insert(name.to_owned(), content));
        Ok(())
    }

    async fn remove_template(&self, id: InstanceId, name: &str) -> Result<(), PortError> {
        let removed = self.with(id, |parts| parts.1.remove(name));
        removed.map(drop).ok_or_else(|| PortError::NotFound("Template".into()))
    }
}

/// Images as plain files. Whatever is uploaded is an image; its properties say how it came.
#[derive(Debug)]
pub(crate) struct DiskImages(PathBuf);

impl DiskImages {
    pub(crate) fn new(folder: PathBuf) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        DiskImages(folder)
    }
}

struct Upload {
    folder: PathBuf,
    name: String,
    metadata: File,
    rootfs: Option<File>,
    size: u64,
    hashed: Vec<u8>,
}

#[async_trait]
impl ImageUpload for Upload {
    async fn metadata(&mut self, bytes: Bytes) -> Result<(), PortError> {
        self.size += bytes.len() as u64;
        self.hashed.extend_from_slice(&bytes);
        self.metadata.write_all(&bytes).map_err(|e| PortError::Internal(e.to_string()))
    }

    async fn rootfs(&mut self, bytes: Bytes) -> Result<(), PortError> {
        self.size += bytes.len() as u64;
        self.hashed.extend_from_slice(&bytes);
        let path = self.folder.join(format!("{}.rootfs", self.name));
        let file = self.rootfs.get_or_insert_with(|| File::create(path).unwrap());
        file.write_all(&bytes).map_err(|e| PortError::Internal(e.to_string()))
    }

    async fn finish(self: Box<Self>) -> Result<ImageFacts, PortError> {
        if self.hashed.starts_with(b"bad") {
            return Err(PortError::Invalid("metadata.yaml is missing".into()));
        }
        let fingerprint = token::sha256(&self.hashed);
        let to = |suffix: &str| self.folder.join(format!("{fingerprint}{suffix}"));
        std::fs::rename(self.folder.join(&self.name), to("")).unwrap();
        if self.rootfs.is_some() {
            std::fs::rename(self.folder.join(format!("{}.rootfs", self.name)), to(".rootfs")).unwrap();
        }
        Ok(ImageFacts {
            size: self.size,
            kind: Kind::Container,
            architecture: "x86_64".into(),
            format: if self.rootfs.is_some() { Format::Split } else { Format::Unified },
            properties: [("os".to_owned(), "Debian".to_owned())].into_iter().collect(),
            created_at: Timestamp(1_000_000),
            expires_at: Timestamp::NEVER,
            fingerprint,
        })
    }
}

#[async_trait]
impl Images for DiskImages {
    /// Its content says what it was asked for.
    async fn publish(&self, wanted: Publish, say: &(dyn Fn(u64) + Send + Sync)) -> Result<ImageFacts, PortError> {
        let text = format!("{} {:?} {:?}", wanted.instance, wanted.snapshot, wanted.compression);
        let mut upload = self.begin().await?;
        upload.metadata(text.into()).await?;
        say(1_500_000);
        let facts = upload.finish().await?;
        let properties = wanted.properties.unwrap_or_else(|| facts.properties.clone());
        Ok(ImageFacts { properties, created_at: wanted.created_at, expires_at: wanted.expires_at, ..facts })
    }

    async fn begin(&self) -> Result<Box<dyn ImageUpload>, PortError> {
        let name = token::random_secret();
        let metadata = File::create(self.0.join(&name)).map_err(|e| PortError::Internal(e.to_string()))?;
        let hashed = Vec::new();
        Ok(Box::new(Upload { folder: self.0.clone(), name, metadata, rootfs: None, size: 0, hashed }))
    }

    fn release(&self, _: &Fingerprint) {}

    async fn files(&self, image: &Image) -> Result<ImageFiles, PortError> {
        let rootfs = self.0.join(format!("{}.rootfs", image.fingerprint));
        Ok(ImageFiles {
            metadata: self.0.join(image.fingerprint.as_str()),
            rootfs: (image.format == Format::Split).then_some(rootfs),
        })
    }
}

/// An image server in memory: every name leads to an image of that name, the same until somebody changes it.
#[derive(Debug, Default)]
pub(crate) struct FakeRemotes {
    pub(crate) folder: PathBuf,
    /// Content by name, or by project and name.
    pub(crate) images: Mutex<BTreeMap<String, &'static [u8]>>,
    /// How often something was downloaded, and until when downloads wait.
    pub(crate) pulls: Mutex<Vec<String>>,
    pub(crate) hold: tokio::sync::RwLock<()>,
    /// Downloads that ended or were given up.
    pub(crate) over: Arc<std::sync::atomic::AtomicUsize>,
}

fn place(wanted: &RemoteImage) -> String {
    match wanted.source.project.as_str() {
        "" => wanted.name.clone(),
        project => format!("{project}/{}", wanted.name),
    }
}

struct Over(Arc<std::sync::atomic::AtomicUsize>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Remotes for FakeRemotes {
    fn check(&self, url: &str) -> Result<(), PortError> {
        match url.starts_with("https://") {
            true => Ok(()),
            false => Err(PortError::Invalid(format!("{url}: is not an https URL"))),
        }
    }

    async fn look(&self, wanted: &RemoteImage) -> Result<Offer, PortError> {
        let images = self.images.lock().unwrap();
        let found =
            images.get(&place(wanted)).ok_or_else(|| PortError::NotFound(format!("Image {:?}", wanted.name)))?;
        let fingerprint = Some(token::sha256(found));
        Ok(Offer { fingerprint, filename: "far.tar".into(), public: true, ..Offer::default() })
    }

    async fn pull(&self, wanted: &RemoteImage, offer: &Offer, tell: Tell<'_>) -> Result<ImageFacts, PortError> {
        let _over = Over(self.over.clone());
        self.pulls.lock().unwrap().push(wanted.name.clone());
        tell("rootfs: 50% (1.00MB/s)".into());
        let _go = self.hold.read().await;
        let content = self.images.lock().unwrap()[&place(wanted)];
        let mut upload = DiskImages(self.folder.clone()).begin().await?;
        upload.metadata(Bytes::from_static(content)).await?;
        let facts = upload.finish().await?;
        assert_eq!(Some(&facts.fingerprint), offer.fingerprint.as_ref());
        Ok(facts)
    }

    async fn push(&self, image: &Image, target: &PushTarget, _: Tell<'_>) -> Result<(), PortError> {
        let project = if target.project.is_empty() { String::new() } else { format!(" in {}", target.project) };
        let to = format!("{} to {} with {}{project}", image.fingerprint, target.server, target.secret);
        self.pulls.lock().unwrap().push(to);
        Ok(())
    }
}

/// Facts of a host that does not exist.
#[derive(Debug)]
pub(crate) struct Facts(pub(crate) LocalCluster);

#[async_trait]
impl Membership for Facts {
    async fn bootstrap(&self, wanted: Bootstrap) -> Result<(), PortError> {
        let mut first = member(1);
        first.name = wanted.name;
        let init =
            Init { cluster_id: uuid::Uuid::new_v4(), secrets: Secrets::default(), member: first, at: Timestamp(1) };
        let init = Command::Cluster(ClusterCommand::Init(Box::new(init)));
        self.0.propose(init).await.map(|_| ()).map_err(|e| PortError::Conflict(e.to_string()))
    }

    async fn join(&self, ticket: JoinTicket, _wanted: Bootstrap) -> Result<(), PortError> {
        Err(PortError::Unavailable(format!("nobody answers at {:?}", ticket.addresses)))
    }

    async fn remove(&self, node: NodeId, force: bool) -> Result<(), PortError> {
        let remove = Command::Member(MemberCommand::Remove { id: node, force });
        self.0.propose(remove).await.map(|_| ()).map_err(|e| PortError::Conflict(e.to_string()))
    }

    fn host(&self) -> HostFacts {
        HostFacts {
            kernel: "Linux".into(),
            kernel_version: "6.1.0".into(),
            kernel_architecture: "x86_64".into(),
            os_name: "Debian GNU/Linux".into(),
            os_version: "12".into(),
            hostname: "fresh".into(),
            drivers: [("lxc".to_owned(), "5.0.2".to_owned())].into_iter().collect(),
            storage_drivers: [("dir".to_owned(), "1".to_owned())].into_iter().collect(),
            cpus: 4,
            memory_total: 8 << 30,
            ..HostFacts::default()
        }
    }
}

/// Guests without any files but an empty root: the file routes have tests of their own beside them.
#[derive(Debug)]
pub(crate) struct NoFiles;

#[async_trait]
impl Files for NoFiles {
    async fn stat(&self, _: InstanceId, path: &Path, _: bool) -> Result<FileAttributes, FileError> {
        match path == Path::new("/") {
            true => {
                Ok(FileAttributes { kind: FileKind::Dir, mode: 0o755, uid: 0, gid: 0, size: 0, links: 1, modified: 0 })
            }
            false => Err(FileError::NotFound),
        }
    }
    async fn set_attributes(&self, _: InstanceId, _: &Path, _: SetAttributes) -> Result<(), FileError> {
        Err(FileError::ReadOnly)
    }
    async fn open(&self, _: InstanceId, _: &Path, _: OpenOptions) -> Result<Arc<dyn OpenFile>, FileError> {
        Err(FileError::ReadOnly)
    }
    async fn open_dir(&self, _: InstanceId, _: &Path) -> Result<Box<dyn OpenDir>, FileError> {
        Ok(Box::new(Nothing))
    }
    async fn mkdir(&self, _: InstanceId, _: &Path, _: u32) -> Result<(), FileError> {
        Err(FileError::ReadOnly)
    }
    async fn remove_file(&self, _: InstanceId, _: &Path) -> Result<(), FileError> {
        Err(FileError::ReadOnly)
    }
    async fn remove_dir(&self, _: InstanceId, _: &Path) -> Result<(), FileError> {
        Err(FileError::ReadOnly)
    }
    async fn rename(&self, _: InstanceId, _: &Path, _: &Path, _: bool) -> Result<(), FileError> {
        Err(FileError::ReadOnly)
    }
    async fn symlink(&self, _: InstanceId, _: &Path, _: &Path) -> Result<(), FileError> {
        Err(FileError::ReadOnly)
    }
    async fn hard_link(&self, _: InstanceId, _: &Path, _: &Path) -> Result<(), FileError> {
        Err(FileError::ReadOnly)
    }
    async fn readlink(&self, _: InstanceId, _: &Path) -> Result<PathBuf, FileError> {
        Err(FileError::NotFound)
    }
}

struct Nothing;

#[async_trait]
impl OpenDir for Nothing {
    async fn next(&mut self, _: usize) -> Result<Vec<FileEntry>, FileError> {
        Ok(Vec::new())
    }
}
