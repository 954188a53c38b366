//! What the API needs of the node it runs in, beside the `Cluster` port of the model. Implemented by `basalt-node`,
//! and by in-memory fakes in this crate's own tests. The API itself never opens a connection to another member.

pub mod files;
pub mod parts;
pub mod remote;
pub mod sight;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::dto::acl::LogEntry;
use async_trait::async_trait;
use axum::body::Body;
use basalt_model::image::{Compression, Format, Image};
use basalt_model::instance::Kind;
use basalt_model::{Fingerprint, InstanceId, Mac, MemberName, NodeId, SnapshotId, Timestamp};

/// Why the node could not do it. The API turns each into its HTTP code.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Invalid(String),
    /// The present state does not allow it.
    #[error("{0}")]
    Conflict(String),
    #[error("Instance is not running")]
    NotRunning,
    /// Another member, or the quorum, cannot be reached now.
    #[error("{0}")]
    Unavailable(String),
    /// No space left where it was to be written.
    #[error("{0}")]
    NoSpace(String),
    #[error("{0}")]
    Internal(String),
}

/// A program to run in a guest.
#[derive(Debug, Clone, Default)]
pub struct ExecRequest {
    pub command: Vec<String>,
    pub environment: BTreeMap<String, String>,
    /// Without one, root begins at home, everybody else in `/`.
    pub cwd: Option<String>,
    pub uid: u32,
    pub gid: u32,
    /// Columns and rows of a terminal; `None` for pipes.
    pub terminal: Option<(u16, u16)>,
}

/// Our ends of a guest process's streams.
#[derive(Debug)]
pub enum GuestIo {
    Terminal(OwnedFd),
    Pipes { stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd },
}

/// A process in a guest; dropping it kills the process.
#[async_trait]
pub trait GuestProcess: Send + Sync {
    /// Sends a signal, by its number.
    fn signal(&self, signal: i32) -> Result<(), PortError>;
    /// New size of its terminal.
    fn resize(&self, columns: u16, rows: u16) -> Result<(), PortError>;
    /// Waits for the exit code (128+n for signal n, 127 not found, 126 not executable). Cancel-safe.
    async fn wait(&mut self) -> Result<i32, PortError>;
}

/// Guests of this member. The API only calls it on the member that is the instance's home.
#[async_trait]
pub trait Guests: Send + Sync {
    async fn exec(&self, id: InstanceId, request: ExecRequest) -> Result<(GuestIo, Box<dyn GuestProcess>), PortError>;
    async fn console(&self, id: InstanceId) -> Result<(GuestIo, Box<dyn GuestProcess>), PortError>;
    async fn console_log(&self, id: InstanceId) -> Result<Vec<u8>, PortError>;
    /// Forgets what the console showed until now.
    async fn clear_console_log(&self, id: InstanceId) -> Result<(), PortError>;
    async fn engine_log(&self, id: InstanceId) -> Result<Vec<u8>, PortError>;
}

/// Other members.
#[async_trait]
pub trait Peers: Send + Sync {
    /// Sends a request on to `node` as it is, streams and upgrades (websockets) included, and gives back its answer.
    /// The caller's identity travels with it; `node` trusts it because it comes over the cluster's own mutual TLS.
    async fn forward(&self, node: NodeId, request: http::Request<Body>) -> Result<http::Response<Body>, PortError>;
}

/// One network interface of a running guest.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LiveInterface {
    pub name: String,
    pub host_name: String,
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub up: bool,
    /// Address and prefix length.
    pub addresses: Vec<(IpAddr, u8)>,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub packets_received: u64,
    pub packets_sent: u64,
    #[serde(default)]
    pub errors_received: u64,
    #[serde(default)]
    pub errors_sent: u64,
    #[serde(default)]
    pub dropped_received: u64,
    #[serde(default)]
    pub dropped_sent: u64,
}

/// What went between a guest and a block device of its host since the guest was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LiveDisk {
    /// Bytes, and completed requests.
    pub read_bytes: u64,
    pub reads: u64,
    pub written_bytes: u64,
    pub writes: u64,
}

/// What is known of a running guest, from memory.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LiveState {
    pub pid: u32,
    pub started_at: Timestamp,
    pub cpu_ns: u64,
    pub cpu_user_ns: u64,
    pub cpu_system_ns: u64,
    pub memory: u64,
    pub memory_peak: u64,
    pub memory_total: u64,
    pub swap: u64,
    /// What the memory is used for, in bytes, under the kernel's names.
    #[serde(default)]
    pub memory_parts: BTreeMap<String, u64>,
    pub processes: u64,
    pub oom_kills: u64,
    /// CPUs it may use; 0 when that is not known.
    #[serde(default)]
    pub cpus: u32,
    /// Bytes of the root volume: used, and the limit (0 for none).
    pub disk_used: u64,
    pub disk_total: u64,
    /// By block device of the host; none where that is not counted.
    #[serde(default)]
    pub disks: BTreeMap<String, LiveDisk>,
    pub interfaces: Vec<LiveInterface>,
}

/// Live state of guests, kept current by events and a sampler.
#[async_trait]
pub trait Telemetry: Send + Sync {
    /// Live states of running guests anywhere in the cluster, as far as this member knows them: its own from memory,
    /// others as their homes last told. Guests that are not running have none.
    async fn live(&self) -> BTreeMap<InstanceId, LiveState>;
    /// One guest of this member, measured now.
    async fn measure(&self, id: InstanceId) -> Option<LiveState>;
    /// Free and total bytes of this member's share of each pool.
    fn pool_space(&self) -> BTreeMap<String, (u64, u64)>;
    /// Load of members, as far as this one knows: its own, and on the leader those of all.
    fn load(&self, node: NodeId) -> Option<basalt_model::port::Load>;
    /// Leases that DHCP gave out on this member for a network: MAC, address, host name.
    async fn leases(&self, network: &basalt_model::NetworkName) -> Vec<(Mac, IpAddr, String)>;
    /// Packets that logged rules of an access control list, by its number, were about on this member, the oldest first.
    async fn acl_log(&self, list: u32) -> Result<Vec<LogEntry>, PortError>;
}

/// Files of an image on this member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFiles {
    pub metadata: PathBuf,
    /// `None` for a unified image.
    pub rootfs: Option<PathBuf>,
}

/// What an imported image turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    pub fingerprint: Fingerprint,
    pub size: u64,
    pub kind: Kind,
    pub architecture: String,
    pub format: Format,
    pub properties: BTreeMap<String, String>,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

/// An image that is being uploaded. Dropping it removes what was written.
#[async_trait]
pub trait ImageUpload: Send {
    /// Appends to the unified or metadata file.
    async fn metadata(&mut self, bytes: bytes::Bytes) -> Result<(), PortError>;
    /// Appends to the root file system of a split image.
    async fn rootfs(&mut self, bytes: bytes::Bytes) -> Result<(), PortError>;
    /// Checks the whole and keeps it; says what it is.
    async fn finish(self: Box<Self>) -> Result<ImageFacts, PortError>;
}

/// An image to make of an instance.
#[derive(Debug, Clone)]
pub struct Publish {
    pub instance: InstanceId,
    /// The instance as it was; else as it is.
    pub snapshot: Option<SnapshotId>,
    pub compression: Compression,
    /// `None` keeps those of the image that it came from.
    pub properties: Option<BTreeMap<String, String>>,
    pub created_at: Timestamp,
    /// Never if zero.
    pub expires_at: Timestamp,
}

/// Image files of this member.
#[async_trait]
pub trait Images: Send + Sync {
    /// Makes an image of an instance whose home this member is, and keeps its files. One that runs is
    /// [`PortError::Conflict`], also if it is started meanwhile. `say` is told now and then how many bytes of its files
    /// are done.
    async fn publish(&self, wanted: Publish, say: &(dyn Fn(u64) + Send + Sync)) -> Result<ImageFacts, PortError>;
    async fn begin(&self) -> Result<Box<dyn ImageUpload>, PortError>;
    /// What was received does not become an image after all: its files are kept for nobody.
    fn release(&self, fingerprint: &Fingerprint);
    /// The files of an image, fetched from another holder when this member has none.
    async fn files(&self, image: &Image) -> Result<ImageFiles, PortError>;
}

/// Facts of this host for `GET /1.0` and `/1.0/resources`.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    pub kernel: String,
    pub kernel_version: String,
    pub kernel_architecture: String,
    pub os_name: String,
    pub os_version: String,
    pub hostname: String,
    /// Engine name (`lxc`) to version.
    pub drivers: BTreeMap<String, String>,
    /// Storage driver (`zfs`) to version.
    pub storage_drivers: BTreeMap<String, String>,
    pub kernel_features: BTreeMap<String, bool>,
    pub lxc_features: BTreeMap<String, bool>,
    /// What the host lacks, each with what to do about it.
    pub lacks: Vec<String>,
    pub cpus: u32,
    pub memory_total: u64,
}

/// What a new cluster, or a new member, is to be.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    pub name: MemberName,
    /// `host:port` of the public API.
    pub api_address: String,
}

/// The text of a join token, decoded (`lxd-incus-api` contract: base64 of JSON).
#[derive(Debug, Clone)]
pub struct JoinTicket {
    pub name: MemberName,
    /// SHA-256 of the API certificate.
    pub fingerprint: Fingerprint,
    pub addresses: Vec<String>,
    /// `<token id>:<secret>`.
    pub secret: String,
}

/// Becoming, and ceasing to be, part of a cluster.
#[async_trait]
pub trait Membership: Send + Sync {
    /// Makes a cluster of this node alone.
    async fn bootstrap(&self, wanted: Bootstrap) -> Result<(), PortError>;
    /// Joins the cluster of `ticket`, as `wanted`.
    async fn join(&self, ticket: JoinTicket, wanted: Bootstrap) -> Result<(), PortError>;
    /// Takes a member out of the cluster, with its Raft membership. With `force` its instances are forgotten.
    async fn remove(&self, node: NodeId, force: bool) -> Result<(), PortError>;
    /// Facts of this host.
    fn host(&self) -> HostFacts;
}
