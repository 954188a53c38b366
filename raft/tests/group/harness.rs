//! Members in one process: real logs in temporary folders, real TLS on loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use basalt_model::command::{Init, MemberCommand, ProjectCommand};
use basalt_model::identity::{Grant, Token};
use basalt_model::member::{Announcement, Duty, Health, Member};
use basalt_model::project::Project;
use basalt_model::secrets::Secrets;
use basalt_model::{
    Applied, Cluster, Command, Fingerprint, Generation, MemberName, NodeId, ProjectName, ProposeError, Timestamp,
    TokenId,
};
use basalt_raft::transport::PeerCertificate;
use basalt_raft::{NodeIdentity, Options, RaftCluster, pki};
use basalt_runtime::{Shutdown, Supervisor};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// One member.
pub struct Node {
    pub dir: Arc<TempDir>,
    pub cluster: Arc<RaftCluster>,
    pub address: SocketAddr,
    pub registry: prometheus::Registry,
    listening: Option<(CancellationToken, JoinHandle<()>)>,
}

pub fn options(dir: &std::path::Path) -> Options {
    Options {
        segment_bytes: 1 << 20,
        reconcile: Duration::from_millis(100),
        snapshot_every: 60,
        keep_entries: 10,
        ..Options::new(dir.join("raft"), dir.join("identity"))
    }
}

pub async fn open(options: Options) -> Result<Arc<RaftCluster>, basalt_raft::Error> {
    open_with(options, &prometheus::Registry::new()).await
}

pub async fn open_with(
    options: Options,
    registry: &prometheus::Registry,
) -> Result<Arc<RaftCluster>, basalt_raft::Error> {
    RaftCluster::open(options, &Supervisor::new(Shutdown::new()), registry).await
}

/// A gRPC call to a service, as an HTTP request with this certificate; the status of the answer.
pub async fn call_append(service: axum::Router, from: u8, certificate: Option<PeerCertificate>) -> String {
    use tower::ServiceExt;
    // Field 1, `from`; the rest is empty.
    let message = [8, from];
    let body: Vec<u8> = [0, 0, 0, 0, 2].into_iter().chain(message).collect();
    let mut request = http::Request::post("/basalt.raft.v1.Raft/Append")
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(axum::body::Body::from(body))
        .unwrap();
    if let Some(certificate) = certificate {
        request.extensions_mut().insert(certificate);
    }
    let answer = service.oneshot(request).await.unwrap();
    answer.headers().get("grpc-status").map(|s| s.to_str().unwrap().to_owned()).unwrap_or_default()
}

impl Node {
    /// A fresh machine.
    pub async fn fresh() -> Node {
        let address = free_address().await;
        let dir = Arc::new(TempDir::new().unwrap());
        let registry = prometheus::Registry::new();
        let cluster = open_with(options(dir.path()), &registry).await.unwrap();
        Node { dir, cluster, address, registry, listening: None }
    }

    pub fn metric(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == name).unwrap_or_else(|| panic!("no metric {name}"));
        family.get_metric()[0].get_gauge().get_value()
    }

    pub fn id(&self) -> u64 {
        self.cluster.identity().unwrap().node_id.0
    }

    /// Serves the cluster port with this member's identity.
    pub async fn listen(&mut self) {
        let identity = self.cluster.identity().unwrap();
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.listening = Some(serve(listener, &identity, self.cluster.service()));
    }

    /// As if the program had ended.
    pub async fn stop(&mut self) {
        if let Some((stop, task)) = self.listening.take() {
            stop.cancel();
            task.await.unwrap();
        }
        self.cluster.shutdown().await;
    }

    /// The program again, on what is on disk.
    pub async fn restart(self) -> Node {
        let mut node = self;
        node.stop().await;
        let (dir, address) = (Arc::clone(&node.dir), node.address);
        drop(node);
        let cluster = reopen(dir.path()).await;
        let mut node = Node { dir, cluster, address, registry: prometheus::Registry::new(), listening: None };
        node.listen().await;
        node
    }
}

/// The lock goes when the last task has let go of the handle.
pub async fn reopen(dir: &std::path::Path) -> Arc<RaftCluster> {
    let began = Instant::now();
    loop {
        match open(options(dir)).await {
            Ok(cluster) => return cluster,
            Err(basalt_raft::Error::InUse(_)) if began.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

pub async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

pub fn serve(
    listener: TcpListener,
    identity: &NodeIdentity,
    service: axum::Router,
) -> (CancellationToken, JoinHandle<()>) {
    let acceptor = tokio_rustls::TlsAcceptor::from(pki::tls::server_config(identity).unwrap());
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let stream = tokio::select! {
                () = stopping.cancelled() => break,
                accepted = listener.accept() => accepted.unwrap().0,
            };
            let (acceptor, service) = (acceptor.clone(), service.clone());
            connections.spawn(async move {
                stream.set_nodelay(true).unwrap();
                let Ok(tls) = acceptor.accept(stream).await else { return };
                let peer = pki::tls::peer_fingerprint(tls.get_ref().1.peer_certificates()).unwrap();
                let service = service.layer(axum::Extension(PeerCertificate(peer)));
                let service = hyper_util::service::TowerToHyperService::new(service);
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(tls), service).await;
            });
        }
    });
    (stop, task)
}

pub fn now() -> Timestamp {
    Timestamp(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as u64)
}

pub fn member(id: u64, certificate: &str, address: SocketAddr) -> Member {
    Member {
        id: NodeId(id),
        name: name(id),
        certificate: pki::fingerprint(certificate).unwrap(),
        certificate_pem: certificate.to_owned(),
        joined_at: now(),
        redeemed: None,
        awaited: false,
        duty: Duty::Active,
        order: None,
        health: Health::Online,
        failure_domain: format!("rack{id}"),
        description: String::new(),
        groups: BTreeSet::new(),
        roles: BTreeSet::new(),
        config: BTreeMap::new(),
        announced: Announcement {
            api_address: format!("10.0.0.{id}:8443"),
            cluster_address: address.to_string(),
            version: "0".into(),
            feature_level: 1,
            ..Announcement::default()
        },
    }
}

pub fn name(id: u64) -> MemberName {
    MemberName::new(format!("node{id}")).unwrap()
}

/// Signs a certificate for a new node.
pub fn identity(secrets: &Secrets, cluster_id: uuid::Uuid, id: u64) -> NodeIdentity {
    let request = pki::node_request(&name(id)).unwrap();
    let certificate = pki::sign_node(secrets, &request.csr, NodeId(id), &name(id)).unwrap();
    NodeIdentity {
        node_id: NodeId(id),
        cluster_id,
        key: request.key,
        certificate,
        ca_certificate: secrets.ca_certificate.clone(),
    }
}

/// A cluster of one.
pub async fn bootstrapped() -> Node {
    let mut node = Node::fresh().await;
    let cluster_id = uuid::Uuid::new_v4();
    let secrets = pki::make_secrets(cluster_id, &[]).unwrap();
    let identity = identity(&secrets, cluster_id, 1);
    let member = member(1, &identity.certificate, node.address);
    node.cluster.bootstrap(Init { cluster_id, secrets, member, at: now() }, identity).await.unwrap();
    node.listen().await;
    node
}

/// Admits another machine through `through`, as the node's join flow does.
pub async fn join(through: &RaftCluster) -> Node {
    let mut node = Node::fresh().await;
    let view = through.linearizable().await.unwrap();
    let id = view.next_node;
    let identity = identity(&view.secrets, view.cluster_id, id);
    let token = TokenId(uuid::Uuid::new_v4());
    let secret_hash = Fingerprint::new("ab".repeat(32)).unwrap();
    let grant = Grant::Join(name(id));
    let made =
        Token { id: token, secret_hash: secret_hash.clone(), grant, created_at: now(), expires_at: Timestamp::NEVER };
    let add = basalt_model::command::IdentityCommand::AddToken(made);
    through.propose(Command::Identity(add)).await.unwrap();
    let member = Box::new(member(id, &identity.certificate, node.address));
    let join = MemberCommand::Join { token, secret_hash, member, at: now() };
    through.propose(Command::Member(join)).await.unwrap();
    node.cluster.start_member(identity).await.unwrap();
    node.listen().await;
    node
}

/// A group of `n` members whose voters are settled.
pub async fn group(n: usize) -> Vec<Node> {
    let mut nodes = vec![bootstrapped().await];
    for _ in 1..n {
        let node = join(&nodes[0].cluster).await;
        nodes.push(node);
    }
    let voters = if n < 3 { 1 } else { 3 };
    until("the voters are settled", || {
        nodes.iter().all(|node| {
            let standing = node.cluster.standing();
            standing.voters.len() == voters && standing.voters.len() + standing.learners.len() == n
        })
    })
    .await;
    nodes
}

/// A command that can be told from others: a project with this name.
pub fn write(name: &str) -> Command {
    Command::Project(ProjectCommand::Add(Project {
        name: ProjectName::new(name).unwrap(),
        description: String::new(),
        config: BTreeMap::new(),
        created_at: now(),
        generation: Generation(1),
    }))
}

pub fn has(cluster: &RaftCluster, name: &str) -> bool {
    cluster.view().projects.contains_key(&ProjectName::new(name).unwrap())
}

/// Proposes until it is there: what a client that may repeat would do.
pub async fn write_surely(cluster: &RaftCluster, name: &str) {
    let began = Instant::now();
    loop {
        let answer: Result<Applied, ProposeError> = cluster.propose(write(name)).await;
        match answer {
            Ok(_) | Err(ProposeError::Rejected(basalt_model::Rejected::AlreadyExists { .. })) => return,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
    }
}

pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn leader(nodes: &[Node]) -> usize {
    let leads = || nodes.iter().position(|n| n.cluster.leadership().borrow().mine);
    until("one member leads", || leads().is_some()).await;
    leads().unwrap_or(0)
}

pub fn logging() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("BASALT_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    // Another test of this program may have been first.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}
