//! Debian's etcd, three members in the namespaces of a testbed, spoken to over a unix socket with its own gRPC: its best
//! side.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic::transport::{Channel, Endpoint};

use crate::api::Api;
use crate::testbed::Testbed;
use crate::wait;

/// `etcdserverpb.PutRequest`, the fields that are used.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Put {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `etcdserverpb.StatusResponse`, the fields that are used.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

/// One member.
#[derive(Debug)]
pub struct Member {
    process: Child,
    dir: PathBuf,
}

/// The three.
#[derive(Debug)]
pub struct Etcd {
    pub members: Vec<Member>,
}

/// etcd 3.4 wants `host:port` after `unix://`, and makes a socket of that name in its working folder.
const SOCKET: &str = "client:1";

impl Etcd {
    /// # Errors
    /// When a member cannot be started or none of them leads in time.
    pub async fn start(bed: &Testbed) -> Result<Self> {
        let peer = |n: usize| format!("http://{}:2380", bed.nodes[n].address);
        let all: Vec<String> = (0..3).map(|n| format!("e{n}={}", peer(n))).collect();
        let mut members = Vec::new();
        for n in 0..3 {
            let dir = bed.dir().join(format!("etcd{n}"));
            std::fs::create_dir_all(&dir).context("etcd's folder")?;
            let log = std::fs::File::create(dir.join("log")).context("etcd's log")?;
            let process = Command::new("nsenter")
                .arg(format!("--net=/run/netns/{}", bed.nodes[n].netns))
                .args(["etcd", "--name", &format!("e{n}"), "--data-dir", "data", "--logger", "zap"])
                .args(["--listen-peer-urls", &peer(n), "--initial-advertise-peer-urls", &peer(n)])
                .args(["--listen-client-urls", &format!("unix://{SOCKET}")])
                .args(["--advertise-client-urls", &format!("unix://{SOCKET}")])
                .args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"])
                .current_dir(&dir)
                .stdin(Stdio::null())
                .stdout(log.try_clone().context("share the log")?)
                .stderr(log)
                .spawn()
                .context("start etcd")?;
            members.push(Member { process, dir });
        }
        let etcd = Self { members };
        etcd.leader().await?;
        Ok(etcd)
    }

    /// Index of the leader.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn leader(&self) -> Result<usize> {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            for (n, member) in self.members.iter().enumerate() {
                let status = member.status().await.unwrap_or_default();
                if status.leader != 0 && status.header.is_some_and(|h| h.member == status.leader) {
                    return Ok(n);
                }
            }
            anyhow::ensure!(std::time::Instant::now() < deadline, "etcd has no leader");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops all of them in their tracks, or lets them run on.
    ///
    /// # Errors
    /// When one is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.members.iter().try_for_each(|m| m.signal(signal))
    }
}

impl Member {
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.process.id()).context("a process id")?;
        kill(Pid::from_raw(pid), signal).context("signal to etcd")
    }

    /// `kill -9`, and waits.
    pub fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// The same puts as HTTP with JSON, over the gateway that etcd itself serves on the socket.
    pub fn gateway(&self) -> Api {
        Api::new(self.dir.join(SOCKET))
    }

    /// # Errors
    /// When nobody listens.
    pub async fn connect(&self) -> Result<Channel> {
        let socket = self.dir.join(SOCKET);
        let connector = tower::service_fn(move |_: http::Uri| {
            let socket = socket.clone();
            async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
        });
        // The address is only a name here: the connector knows where to go.
        Endpoint::from_static("http://etcd").connect_with_connector(connector).await.context("connect to etcd")
    }

    async fn status(&self) -> Result<Status> {
        let channel = tokio::time::timeout(Duration::from_secs(1), self.connect()).await??;
        unary(&channel, "/etcdserverpb.Maintenance/Status", Nothing {}).await
    }
}

/// # Errors
/// When etcd does not acknowledge it.
pub async fn put(channel: &Channel, request: Put) -> Result<()> {
    unary::<_, Nothing>(channel, "/etcdserverpb.KV/Put", request).await.map(drop)
}

async fn unary<Q, A>(channel: &Channel, path: &'static str, request: Q) -> Result<A>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.context("etcd's channel")?;
    let codec = tonic_prost::ProstCodec::<Q, A>::default();
    let answer = client
        .unary(tonic::Request::new(request), http::uri::PathAndQuery::from_static(path), codec)
        .await
        .map_err(|status| anyhow::anyhow!("etcd: {status}"))?;
    Ok(answer.into_inner())
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.members.iter_mut().for_each(Member::end);
    }
}

/// Waits until a blocking look finds something; for code outside of the runtime.
///
/// # Errors
/// When time is up.
pub fn settle(what: &str, look: impl FnMut() -> Result<Option<()>>) -> Result<()> {
    wait::until(what, Duration::from_secs(30), look)
}
